"""Text from other processes is escaped before it reaches a terminal, a log or JSON."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipckit import NotFound
from ipckit._cli.output import in_json
from ipckit.errors import one_line

# Line ends, C0, DEL, C1, line and paragraph separators, bidirectional controls, without width,
# ignorable, a lone surrogate, not assigned.
ACTING = (
    "\n\r\t\0\x07\x08\x1b\x7f\x80\x85\x9b\x9d\xad\u061c\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
    "\u2066\u2067\u2068\u2069\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u034f\u115f\u3164\ufe0f"
    "\udcff\ud800\U000e0001\U000e0100\U000e01ef\U0010ffff\xa0\u3000"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\nc", "a\\x1b[31mb\\nc"),
        ("größe 鍵 🔑", "größe 鍵 🔑"),
        ("a\udcffb", "a\\udcffb"),
        ("a\u202eb", "a\\u202eb"),
        ("\U000e0100", "\\U000e0100"),
        ("[red]x[/]", "[red]x[/]"),
        ("", ""),
    ],
)
def test_a_text_is_shown_on_one_line(text: str, shown: str) -> None:
    assert one_line(text) == shown


@pytest.mark.parametrize("char", ACTING, ids=ascii)
def test_nothing_that_acts_on_a_terminal_is_left(char: str) -> None:
    assert one_line(f"a{char}b").isascii()
    assert one_line(f"a{char}b").isprintable()
    text = in_json(json.dumps({char: char}, ensure_ascii=False))
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == {char: char}


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_can_be_shown_and_comes_back_from_json(text: str) -> None:
    shown = one_line(text)
    assert shown.isprintable()
    assert one_line(shown) == shown
    found = in_json(json.dumps([text], ensure_ascii=False, indent=1))
    assert found.replace("\n", "").isprintable()
    assert json.loads(found.encode()) == json.loads(json.dumps([text]))


def test_every_character_without_a_shape_is_escaped() -> None:
    for code in range(sys.maxunicode + 1):
        if not chr(code).isprintable():
            assert one_line(chr(code)) != chr(code)


def test_a_message_of_an_error_is_one_line() -> None:
    error = NotFound("no\x9bobject", op="open", target="shm:/a\x1b]0;owned\x07\nb", hint="\u202e")
    assert str(error) == "open on shm:/a\\x1b]0;owned\\x07\\nb: no\\x9bobject; \\u202e"
    # The parts stay what they are, for programs.
    assert error.target == "shm:/a\x1b]0;owned\x07\nb"
