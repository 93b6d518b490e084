"""The captures in docs/command-line.md are what the commands print."""

from __future__ import annotations

import re

import pytest
from captures import IMAGES, PAGE, blocks, captured, plain


def without_numbers(text: str) -> list[str]:
    """Return the lines of a capture without what differs between two runs: pids, times, columns."""
    text = text.replace("running", "sleeping")  # a call of ipckit that waits looks now and then
    text = re.sub(r"(?<!\S)([>~]?\d+[smhd]|-)(?!\S)", " ", text)  # a kernel may not tell how long
    text = re.sub(r"[0-9.,]*[0-9]", "0", text)
    # The order of two waits that began together is not the same each time.
    return sorted(re.sub(r"[\s0]+", " ", line).strip() for line in text.splitlines())


@pytest.mark.usefixtures("root")  # in namespaces of its own: what is listed must be the scene only
def test_the_captures_of_the_page() -> None:
    shown, real = blocks(PAGE.read_text()), captured()
    assert set(shown) >= {"ls", "ps", "ps-camera", "top", "doctor"}
    for name, text in shown.items():
        assert without_numbers(text) == without_numbers(plain(real[name])), name


def test_the_images_show_the_captures() -> None:
    shown = blocks(PAGE.read_text())
    for name in IMAGES:
        image = PAGE.with_name(f"ipckit-{name}.svg").read_text()
        words = set(re.findall(r"[a-z]{4,}", shown[name]))
        assert words - set(re.findall(r"[a-z]{4,}", image)) == set()
        assert f"]({PAGE.with_name(f'ipckit-{name}.svg').name})" in PAGE.read_text()
