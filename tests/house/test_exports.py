"""The package and its modules export the names in their `__all__`."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
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
    private = [each for each in exported if each.startswith("_") and each != "__version__"]
    assert private == []


def test_the_package_exports_all_that_it_imports() -> None:
    path = PACKAGE / "__init__.py"
    exported = importlib.import_module("ipckit").__all__
    taken = [
        alias.asname or alias.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ipckit")
        for alias in node.names
    ]
    assert sorted(name for name in taken if not name.startswith("_")) == sorted(
        name for name in exported if name in taken
    )


def test_each_error_can_be_had_from_the_package() -> None:
    errors = importlib.import_module("ipckit.errors")
    package = importlib.import_module("ipckit")
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.IpcError)
    }
    assert kinds <= set(package.__all__)


@pytest.mark.usefixtures("exec_only")
def test_importing_the_package_imports_nothing_that_few_need() -> None:
    names = "numpy secrets random tempfile subprocess multiprocessing click msgspec clang"
    code = f"import ipckit, sys; print(*(set({names!r}.split()) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "\n"
