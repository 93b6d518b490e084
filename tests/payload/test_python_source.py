"""The Python source of Struct classes declares the same classes again."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated, Any

import pytest
from c_structs import struct_types
from hypothesis import HealthCheck, given, settings

from ipckit import InvalidArgument
from ipckit._payload.python_source import python_text
from ipckit.structs import (
    Aligned,
    Anonymous,
    Array,
    At,
    Bits,
    Bytes,
    Char,
    Int,
    KeyT,
    Opaque,
    Short,
    Struct,
    StructType,
    UInt,
    UInt8,
    Union,
)


def classes(source: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "made"}
    code = compile(source, "made.py", "exec", dont_inherit=True)
    exec(code, scope)  # noqa: S102 - what was written is Python
    return scope


def made(name: str, fields: dict[str, Any], **rules: Any) -> StructType:
    return StructType(name, (Struct,), {"__annotations__": fields}, **rules)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(struct_types())
def test_the_source_declares_the_same_class(struct: StructType) -> None:
    source = python_text([struct])
    again = classes(source)[struct.__name__]
    assert again.fingerprint == struct.fingerprint
    assert (again.fields, again.size, again.alignment) == (
        struct.fields,
        struct.size,
        struct.alignment,
    )
    assert python_text([again]) == source


class Color(IntEnum):
    RED = 1
    GREEN = 2


class Mode(IntFlag):
    READ = 1


class Number(Union):
    i: Int
    raw: Bytes[4]


class Point(Struct, packed=2):
    x: Short


class Stu(Struct, align=16, size=200, endian="big"):
    kind: Bits[UInt, 3]
    _end: Bits[UInt, 0]
    color: Color
    narrow: Annotated[Mode, UInt8]
    line: Aligned[Int, 16]
    odd: At[Bits[UInt, 5], 40, 2]
    pointer: Opaque[8, 8, "void *"]  # noqa: F722 - no forward reference
    _: Anonymous[Number]
    key: KeyT
    at: Array[Point, 2]
    rest: Array[Char[4], ...]


SOURCE = '''\
"""The structs of stu.h; written by ``ipckit header``."""

from enum import IntEnum, IntFlag
from typing import Annotated

from ipckit import (
    Aligned,
    Anonymous,
    Array,
    At,
    Bits,
    Bytes,
    Char,
    Int,
    KeyT,
    Opaque,
    Short,
    Struct,
    UInt,
    UInt8,
    Union,
)


class Color(IntEnum):
    RED = 1
    GREEN = 2


class Mode(IntFlag):
    READ = 1


class Number(Union):  # 4 bytes
    i: Int
    raw: Bytes[4]


class Point(Struct, packed=2):  # 2 bytes
    x: Short


class Stu(Struct, align=16, size=200, endian="big"):  # 208 bytes
    kind: Bits[UInt, 3]
    _end: Bits[UInt, 0]
    color: Color
    narrow: Annotated[Mode, UInt8]
    line: Aligned[Int, 16]
    odd: At[Bits[UInt, 5], 40, 2]
    pointer: Annotated[bytes, Opaque[8, 8, "void *"]]
    _: Anonymous[Number]
    key: KeyT
    at: Array[Point, 2]
    rest: Array[Char[4], ...]
'''


def test_the_text_of_each_kind_of_member() -> None:
    assert python_text([Stu], "stu.h") == SOURCE


def test_names_that_collide_with_those_of_ipckit() -> None:
    inner = made("Int", {"x": Int})
    source = python_text([made("Struct", {"a": inner, "Int": Int, "b": Int})])
    assert "from ipckit import Int as Int_, Struct as Struct_\n" in source
    scope = classes(source)
    assert scope["Struct"].fields[0].c_type == "Int"
    assert scope["Struct"].fields[2].c_type == "int"


def test_names_of_types_that_a_class_body_would_change() -> None:
    inner = made("__val", {"x": Int})
    struct = made("S", {"a": inner, "b": Array[inner, 2]})
    source = python_text([struct])
    assert '    a: "__val"\n    b: "Array[__val, 2]"\n' in source
    assert classes(source)["S"].fingerprint == struct.fingerprint


def test_enumerators_that_are_keywords_of_python() -> None:
    odd: Any = IntEnum("Odd", {"lambda": 1, "x": 2})
    source = python_text([made("S", {"a": odd})])
    assert 'Odd = IntEnum("Odd", {"lambda": 1, "x": 2})\n' in source
    assert list(classes(source)["Odd"].__members__) == ["lambda", "x"]


@pytest.mark.parametrize(
    ("name", "own"), [("lambda", "lambda__"), ("__x", "_x"), ("__if", "_if"), ("_", "_")]
)
def test_fields_that_a_class_body_can_t_declare_are_renamed(name: str, own: str) -> None:
    source = python_text([made("S", {"lambda_": Int, name: Int, "y": Int})])
    fields = classes(source)["S"].fields
    assert [(field.name, field.offset) for field in fields] == [("lambda_", 0), (own, 4), ("y", 8)]
    assert (f"  # {name} in C" in source) is (name != own)


def test_classes_that_a_module_can_t_declare() -> None:
    twice = made("S", {"a": made("T", {"x": Int}), "b": made("T", {"y": Int})})
    with pytest.raises(InvalidArgument, match="two types are named 'T'"):
        python_text([twice])


def test_a_class_whose_name_is_a_keyword_is_renamed() -> None:
    source = python_text([made("S", {"a": made("class", {"x": Int})})])
    assert classes(source)["S"].fields[0].c_type == "class_"
