"""Numbers that C and Python share are defined once: the extension exports them."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from ipckit import _native

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXPORTED = {
    name: value
    for name, value in vars(_native).items()
    if name.isupper() and isinstance(value, int)
}
# No one writes such a number by chance: a magic number, a mark, a large limit.
DISTINCTIVE = 1 << 20
# Facts of the world, which no two sources need to agree on.
COMMON = frozenset({"NS_PER_SECOND"})
DEFINE = re.compile(r"^#define (\w+) +(?:U?INT(?:32|64)_C\()?(\d\w*)", re.MULTILINE)


def is_distinctive(value: int) -> bool:
    """Whether a number is large, and neither a power of two nor one less."""
    return value > DISTINCTIVE and value & (value - 1) != 0 and value & (value + 1) != 0


def integer(text: str) -> int:
    """A number as C writes it."""
    return int(text.rstrip("uUlL"), 0 if not re.fullmatch(r"0\d+", text) else 8)


def defined_in_c(native: Path) -> dict[str, int]:
    """The numbers that the C sources define, by name."""
    texts = [path.read_text() for path in native.rglob("*.[ch]")]
    found = [match.groups() for text in texts for match in DEFINE.finditer(text)]
    return {name: integer(value) for name, value in found}


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """The names that a module assigns to, without leading underscores, and the values."""
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(node, (ast.Assign, ast.AnnAssign)):
                value = node.value
                assert value is not None
                yield target.id.lstrip("_"), value


def constant(value: ast.expr) -> int | None:
    """The integer that an expression of literals is; None for any other."""
    if any(isinstance(node, (ast.Name, ast.Attribute, ast.Call)) for node in ast.walk(value)):
        return None
    found: object = eval(ast.unparse(value), {})  # noqa: S307 - literals and operators
    return found if type(found) is int else None


def copies(source: str, numbers: dict[str, int]) -> list[str]:
    """What a Python source defines again: by name and value, or by a distinctive number."""
    tree = ast.parse(source)
    names = [
        f"{name} = {ast.unparse(value)}"
        for name, value in definitions(tree)
        if name in numbers.keys() - COMMON and constant(value) == numbers[name]
    ]
    marks = {value: name for name, value in numbers.items() if is_distinctive(value)}
    literals = [
        f"{node.value:#x} is {marks[node.value]}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value in marks
    ]
    return names + literals


@pytest.fixture
def numbers(repository: Path) -> dict[str, int]:
    return defined_in_c(repository / "native") | EXPORTED


def test_the_sources_and_the_extension_have_numbers(numbers: dict[str, int]) -> None:
    assert EXPORTED["RING_OK"] == 0
    assert numbers["NS_PER_SECOND"] == 10**9
    assert any(is_distinctive(value) for value in numbers.values())


def test_python_defines_no_number_of_c_again(repository: Path, numbers: dict[str, int]) -> None:
    found = {
        str(path.relative_to(repository)): again
        for path in (repository / "ipckit").rglob("*.py")
        if (again := copies(path.read_text(), numbers))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source", ["RING_FULL = 2", "_RING_FULL: Final = 2", "x = text == 0x6B637069"]
)
def test_a_copy_is_seen(source: str) -> None:
    assert copies(source, {"RING_FULL": 2, "WAIT_MARK": 0x6B637069}) != []


def test_a_name_for_an_exported_number_is_no_copy() -> None:
    assert copies("_FULL: Final = native.RING_FULL", {"RING_FULL": 2, "FULL": 2}) == []
