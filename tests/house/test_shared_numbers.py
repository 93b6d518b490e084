"""Numbers that C and Python share are exported by the extension; Python does not define them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import ipckit._native as native

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHARED = {name for name in dir(native) if name.isupper() and type(getattr(native, name)) is int}


def constants(source: str) -> Iterator[str]:
    """The names of the module's own constants that are assigned a value."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets: list[ast.expr] = [node.target]
        elif isinstance(node, ast.Assign):
            targets = node.targets
        else:
            continue
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_it_finds_a_copy() -> None:
    assert "_UNIT" in list(constants("_UNIT: Final = 32"))
    assert "UNIT" in SHARED
    assert "RING_OK" in SHARED


def test_python_defines_no_shared_number_again(repository: Path) -> None:
    copies = [
        f"{path.relative_to(repository)}: {name}"
        for path in (repository / "ipckit").rglob("*.py")
        for name in constants(path.read_text())
        if name.lstrip("_") in SHARED
    ]
    assert not copies
