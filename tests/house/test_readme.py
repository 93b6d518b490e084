"""The examples in the README print what it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent.parent / "README.md"


EXAMPLE = re.compile(r"```python\n((?:from|import) [^`]*)```\n\n((?:    [^\n]*\n)+)")


def test_the_examples_print_what_they_show() -> None:
    found = EXAMPLE.findall(README.read_text())
    assert len(found) == 2
    for code, shown in found * 2:  # nothing is left that would make the second run fail
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        assert done.stdout == re.sub("^    ", "", shown, flags=re.MULTILINE)


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README.read_text())
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_every_page_of_the_docs_is_linked() -> None:
    pages = {f"docs/{path.name}" for path in (README.parent / "docs").glob("*.md")}
    linked = set(re.findall(r"\]\((docs/[^)#]+)\)", README.read_text()))
    assert pages <= linked
