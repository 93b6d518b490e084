"""The page for maintainers names files and functions that exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PATH = re.compile(r"`([\w./]+/[\w./]*)`|\]\(([\w./-]+)\)")
FUNCTION = re.compile(r"`(\w+)\(\)`")


def items(page: str) -> list[str]:
    """The paragraphs and the items of lists, without the headings."""
    parts = re.split(r"\n\n|\n(?=\d+\. )", page)
    return [part for part in parts if not part.startswith("#")]


def test_each_file_and_function_exists(repository: Path) -> None:
    page = (repository / "docs/internals.md").read_text()
    missing: list[str] = []
    functions = 0
    for item in items(page):
        links = [repository / "docs" / link for _, link in PATH.findall(item) if link]
        paths = [repository / name for name, _ in PATH.findall(item) if name]
        missing += [str(path) for path in [*links, *paths] if not path.exists()]
        source = "".join(path.read_text() for path in paths if path.is_file())
        names = FUNCTION.findall(item)
        functions += len(names)
        missing += [f"{name} in {item}" for name in names if not re.search(rf"\b{name}\(", source)]
    assert missing == []
    assert functions > 30
