"""Modules, and names of modules, that are imported when they are first used.

Without this, ``import ipckit`` would take ten times as long, and ``ipckit --version`` twice.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_sources: dict[str, Mapping[str, str]] = {}  # the second argument of `lazy_names` by the first


def lazy_names(
    module: str, sources: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the functions ``__getattr__`` and ``__dir__`` of a module with such names.

    Type checkers do not see what this function does. The module imports the same names under
    ``TYPE_CHECKING``, and calls it in the other branch.

    Args:
        module: the full name of the module.
        sources: for each module that has some of the names, those names, separated by blanks. A
            direct submodule is an attribute too, as if it had been imported.

    See PEP 562.
    """
    _sources[module] = sources
    source_of = {name: source for source, names in sources.items() for name in names.split()}
    modules = {
        source.rpartition(".")[2]: source
        for source in sources
        if source.rpartition(".")[0] == module
    }
    known = vars(sys.modules[module])

    def get(name: str) -> Any:
        if name in modules:
            value: Any = importlib.import_module(modules[name])
        elif name in source_of:
            value = getattr(importlib.import_module(source_of[name]), name)
        else:
            message = f"module {module!r} has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=sys.modules[module])
        known[name] = value  # the next read does not call this function
        return value

    def names() -> list[str]:
        return sorted({*known, *source_of, *modules})

    return get, names


class LazyModule:
    """A proxy for a module, which imports it when an attribute is read.

    Args:
        name: the full name of the module.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self._name), name)
        setattr(self, name, value)  # the next read does not call __getattr__
        return value


def import_name(name: str) -> None:
    """Import the module that has a name of the package, if there is one.

    Args:
        name: the name of a public class; or any text, such as one that another process sent.
    """
    for source, names in _sources.get("ipckit", {}).items():
        if name in names.split():
            importlib.import_module(source)
            getattr(sys.modules[source], name, None)  # its page imports it when it is used


def import_all() -> None:
    """Import every name of the package and of its pages that were imported.

    A process that is about to lose access to the directory of the package calls this.
    """
    done = set[str]()
    while left := _sources.keys() - done:
        for module in left:
            for source in _sources[module]:
                importlib.import_module(source)
        done |= left
