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
    shown: dict[str, Any] = {}
    for page in PAGES:
        module: Any = importlib.import_module(page)
        if ">>> " in (module.__doc__ or ""):
            found[page] = (page, module.__doc__)
        for name in getattr(module, "__all__", ()):
            item = getattr(module, name)
            if shown.setdefault(name, item) is not item:  # as unixsock.Peer and inventory.Peer
                name = f"{page}.{name}"  # noqa: PLW2901
            objects = {name: item}
            if inspect.isclass(item):
                bases = [
                    base for base in item.__mro__[1:] if base.__module__.startswith("ipckit._")
                ]
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


def test_each_public_class_has_an_example() -> None:
    without: list[str] = []
    for page in PAGES:
        module: Any = importlib.import_module(page)
        classes = [getattr(module, name) for name in getattr(module, "__all__", ())]
        classes = [each for each in classes if inspect.isclass(each)]
        # Not `inspect.getdoc`, which returns the docstring of a base class.
        without += [f"{page}.{each.__name__}" for each in classes if ">>> " not in doc_of(each)]
    assert without == []


def doc_of(cls: type) -> str:
    return cls.__doc__ or ""


@pytest.mark.parametrize("path", EXAMPLES)
def test_an_example_prints_what_it_shows(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, text = EXAMPLES[path]
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(page)
    scope = {name: getattr(ipckit, name) for name in ipckit.__all__} | vars(module)
    scope |= {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    scope["__name__"] = "__main__"
    test = doctest.DocTestParser().get_doctest(text, scope, path, None, None)
    said: list[str] = []
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    doctest.DocTestRunner(verbose=False, optionflags=flags).run(test, out=said.append)
    assert "".join(said) == ""
