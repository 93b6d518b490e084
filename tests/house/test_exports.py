"""The package and its modules export the names in their `__all__`."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent.parent / "ipckit"
PUBLIC = sorted(path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("_"))


def test_there_are_modules() -> None:
    assert {"errors", "testing"} <= set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_module_has_what_its_all_says(name: str) -> None:
    module = importlib.import_module(f"ipckit.{name}")
    exported: list[str] = list(getattr(module, "__all__", []))
    assert exported == sorted(set(exported))
    assert [each for each in exported if not hasattr(module, each)] == []
    assert [each for each in exported if each.startswith("_")] == []


def test_the_package_has_what_its_all_says() -> None:
    package = importlib.import_module("ipckit")
    exported: list[str] = list(package.__all__)
    assert exported
    assert exported == sorted(set(exported))
    assert [each for each in exported if not hasattr(package, each)] == []
    assert [each for each in exported if each.startswith("_")] == []


def names_by_source(module: str) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """The names that a module imports for type checkers, and those that `lazy_names` imports."""
    path = PACKAGE / f"{module.partition('.')[2] or '__init__'}.py"
    checked: dict[str, set[str]] = {}
    lazy: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ipckit."):
            checked.setdefault(node.module or "", set()).update(each.name for each in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "lazy_names":
            table = ast.literal_eval(node.args[1])
            lazy = {source: set(names.split()) for source, names in table.items()}
    checked.pop("ipckit._core.lazy_names", None)
    return checked, lazy


LAZY = [
    name for name in ["ipckit", *(f"ipckit.{page}" for page in PUBLIC)] if names_by_source(name)[1]
]


def test_the_package_and_some_pages_import_at_first_use() -> None:
    assert {"ipckit", "ipckit.msgq", "ipckit.shm", "ipckit.sem", "ipckit.channel"} <= set(LAZY)


@pytest.mark.parametrize("name", LAZY)
def test_a_type_checker_sees_what_is_imported_at_first_use(name: str) -> None:
    checked, lazy = names_by_source(name)
    assert checked == lazy
    exported = importlib.import_module(name).__all__
    names = set().union(*lazy.values())
    names.discard("__version__")  # `from ipckit import *` leaves the caller's own alone
    assert sorted(names) == exported


def test_the_attributes_of_the_package() -> None:
    package = importlib.import_module("ipckit")
    assert package.keys.Key is package.Key
    assert {*package.__all__, "__version__", "msgq", "structs"} <= set(dir(package))
    with pytest.raises(AttributeError, match="module 'ipckit' has no attribute 'Chanel'"):
        _ = package.Chanel


def test_each_error_can_be_had_from_the_package() -> None:
    errors = importlib.import_module("ipckit.errors")
    package = importlib.import_module("ipckit")
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.IpcError)
    }
    assert kinds <= set(package.__all__)
