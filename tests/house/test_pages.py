"""The pages of the package: names alone, each of which says which page it is on."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import pickletools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ipckit
from ipckit._core.construct import FactoryMade
from ipckit.structs import Char, Int, Struct

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace

PACKAGE = Path(__file__).parents[2] / "ipckit"
CODE = {"errors", "keys", "mypy_plugin"}
PAGES = sorted(path.stem for path in PACKAGE.glob("[!_]*.py") if path.stem not in CODE)


class Stu(Struct):
    name: Char[32]
    age: Int = 20


def exported(page: str) -> dict[str, Any]:
    module = importlib.import_module(f"ipckit.{page}")
    return {name: getattr(module, name) for name in module.__all__}


def is_code(value: object) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value)


EVERYTHING = {name: getattr(ipckit, name) for name in ipckit.__all__}
CLASSES = {
    f"{page}.{name}": value
    for page in [*PAGES, "errors", "keys"]
    for name, value in (exported(page) if page in PAGES else EVERYTHING).items()
    if inspect.isclass(value) and value.__module__ == f"ipckit.{page}"
}


def test_there_are_pages() -> None:
    assert {"msgq", "shm", "sem", "unixsock", "channel", "inventory", "testing"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_a_docstring_imports_and_names(page: str) -> None:
    body = ast.parse((PACKAGE / f"{page}.py").read_text()).body
    assert isinstance(body[0], ast.Expr)
    rest = [type(each).__name__ for each in body[1:] if not isinstance(each, ast.ImportFrom)]
    # Some pages import a name when it is first used; test_exports.py compares the two branches.
    assert rest in (["Assign"], ["If", "Assign"])
    names = list(exported(page))
    assert names == sorted(names)


@pytest.mark.parametrize("page", PAGES)
def test_each_class_and_function_names_its_page(page: str) -> None:
    elsewhere = {
        name: value.__module__
        for name, value in exported(page).items()
        if is_code(value) and value.__module__ != f"ipckit.{page}"
    }
    assert elsewhere == {}


def test_what_the_package_exports_names_a_page() -> None:
    pages = {"ipckit", *(f"ipckit.{page}" for page in [*PAGES, *CODE])}
    found = {name: value.__module__ for name, value in EVERYTHING.items() if is_code(value)}
    assert {name: module for name, module in found.items() if module not in pages} == {}


MADE = {name: cls for name, cls in CLASSES.items() if getattr(cls, "_factories", "")}


def test_classes_of_each_mechanism_have_factories() -> None:
    assert {name.partition(".")[0] for name in MADE} >= {
        "channel",
        "msgq",
        "sem",
        "shm",
        "topic",
        "unixsock",
    }


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_class_with_factories_can_not_be_called(name: str) -> None:
    cls = MADE[name]
    assert isinstance(cls, FactoryMade)
    with pytest.raises(TypeError, match=f"{cls.__name__} has no public constructor; use "):
        cls()


VALUES: list[Any] = [
    *(cls for cls in CLASSES.values() if not cls.__name__.startswith("_")),
    ipckit.Key(7),
    ipckit.Name("/frames"),
    ipckit.Message(b"x", 3),
    ipckit.SemOp(0, -1),
    ipckit.NotFound("no such queue", errno=2, op="msgget", target="key 7"),
    ipckit.structs.FieldInfo("age", 32, 4, "int"),
    ipckit.codec.BytesCodec(),
    ipckit.codec.RawCodec(),
    ipckit.codec.StrCodec(),
    ipckit.codec.Pickle(),
    ipckit.codec.StructCodec(Stu),
    ipckit.codec.ArrayCodec(np.dtype("i4")),
    ipckit.codec.codec_for(Stu),
    ipckit.framing.FixedFrames(8),
    ipckit.unixsock.Abstract("x"),
    ipckit.unixsock.Credentials(1, 2, 3),
    ipckit.Capabilities(
        pollable=True, timed=True, priorities=False, typed_receive=False, unlink_destroys_now=True
    ),
    Stu("amy"),
    Struct.from_c("typedef struct { int x; } Point;"),
    Struct.from_c("typedef struct { int x; } Point;")(3),
]


def globals_of(pickled: bytes) -> set[str]:
    """The modules that a pickle names."""
    found: set[str] = set()
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            found.add(str(argument).partition(" ")[0])
        elif opcode.name == "STACK_GLOBAL":
            found.add(texts[-2])
        elif isinstance(argument, str):
            texts.append(argument)
    return found


def check(value: object) -> None:
    pickled = pickle.dumps(value, 2)  # protocol 2 names modules in full at each place
    again = pickle.loads(pickled)  # noqa: S301 - it was pickled above
    if isinstance(again, (ipckit.Handle, ipckit.Lock)):
        again.close()
    private = {module for module in globals_of(pickled) if module.startswith("ipckit._")}
    assert private == set()


@pytest.mark.parametrize(
    "value", VALUES, ids=lambda value: getattr(value, "__name__", type(value).__name__)
)
def test_a_pickle_names_pages_alone(value: Any) -> None:
    check(value)


HANDLES: list[Callable[[Namespace], ipckit.Handle | ipckit.Lock]] = [
    lambda ns: ipckit.SysVMessageQueue.create(ns.key()),
    lambda ns: ipckit.PosixMessageQueue.create(ns.name()),
    lambda ns: ipckit.SysVSharedMemory.create(ns.key(), 64),
    lambda ns: ipckit.PosixSharedMemory.create(ns.name(), 64),
    lambda ns: ipckit.SysVSemaphoreSet.create(ns.key(), [1]),
    lambda ns: ipckit.PosixSemaphore.create(ns.name()),
    lambda ns: ipckit.Channel.create(ns.name()),
    lambda ns: ipckit.Topic.create(ns.name()),
    lambda ns: ipckit.MappedFile.create(ns.path("data"), 64),
    lambda ns: ipckit.Lock.create(ns.key()),
]


@pytest.mark.parametrize("make", HANDLES)
def test_a_pickled_handle_names_pages_alone(
    ns: Namespace, make: Callable[[Namespace], ipckit.Handle | ipckit.Lock]
) -> None:
    handle = make(ns)
    try:
        check(handle)
    finally:
        handle.unlink()
        handle.close()
