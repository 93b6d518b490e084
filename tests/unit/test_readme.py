"""What the README shows is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent.parent / "README.md"


def test_the_struct_example_prints_what_it_shows() -> None:
    text = README.read_text()
    found = re.search(r"```python\n(from ipckit import Char[^`]*)```\n\n((?:    [^\n]*\n)+)", text)
    assert found is not None
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", found[1]], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout == re.sub("^    ", "", found[2], flags=re.MULTILINE)


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README.read_text())
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_every_page_of_the_docs_is_linked() -> None:
    pages = {f"docs/{path.name}" for path in (README.parent / "docs").glob("*.md")}
    linked = set(re.findall(r"\]\((docs/[^)#]+)\)", README.read_text()))
    assert pages <= linked
