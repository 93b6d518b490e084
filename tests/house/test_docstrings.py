"""The examples in the docstrings of public classes and functions."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

import ipckit

PACKAGE = Path(ipckit.__file__).parent
PAGES = ["ipckit", *(f"ipckit.{path.stem}" for path in sorted(PACKAGE.glob("[a-z]*.py")))]


def examples() -> dict[str, tuple[str, str]]:
    """Each docstring of a public object that has an example, by name, with the object's page."""
    found: dict[str, tuple[str, str]] = {}
    for page in PAGES:
        module: Any = importlib.import_module(page)
        for name in getattr(module, "__all__", ()):
            item = getattr(module, name)
            objects = {name: item}
            if inspect.isclass(item):
                bases = [base for base in item.__mro__[1:] if base.__module__ == "ipckit._native"]
                for each in (*bases, item):
                    objects |= {f"{name}.{key}": value for key, value in vars(each).items()}
            for path, each in objects.items():
                text = inspect.getdoc(getattr(each, "__func__", each)) or ""
                if ">>> " in text and path not in found:
                    found[path] = (page, text)
    return found


EXAMPLES = examples()


def test_there_are_examples() -> None:
    assert {"SysVMessageQueue", "PosixMessageQueue.create", "Channel.send"} <= EXAMPLES.keys()


@pytest.mark.parametrize("path", EXAMPLES)
def test_an_example_prints_what_it_shows(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, text = EXAMPLES[path]
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(page)
    scope = {name: getattr(ipckit, name) for name in ipckit.__all__} | vars(module)
    scope |= {name: getattr(module, name) for name in module.__all__}
    scope["__name__"] = "__main__"
    test = doctest.DocTestParser().get_doctest(text, scope, path, None, None)
    said: list[str] = []
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    doctest.DocTestRunner(verbose=False, optionflags=flags).run(test, out=said.append)
    assert "".join(said) == ""
