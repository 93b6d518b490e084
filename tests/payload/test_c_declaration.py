"""What `c_declaration` and `c_header` write: every compiler accepts it, in every standard."""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
from enum import IntEnum, IntFlag
from typing import Annotated, Any

import pytest

from ipckit import InvalidArgument, structs
from ipckit._payload import c_names
from ipckit._payload.c_declaration import Declaration
from ipckit.structs import (
    Aligned,
    Anonymous,
    Array,
    At,
    Bits,
    Bool,
    Bytes,
    Char,
    Double,
    Float,
    Int,
    Opaque,
    Short,
    Struct,
    StructType,
    UInt,
    UInt8,
    UInt16,
    Union,
    c_header,
)

C = ("c99", "gnu99", "c11", "gnu17", "c2x")
CPP = ("c++11", "gnu++11", "c++14", "c++17", "gnu++20", "c++2b")
DIALECTS = [
    *((compiler, "c", std) for compiler in ("gcc", "clang") for std in C),
    *((compiler, "c++", std) for compiler in ("g++", "clang++") for std in CPP),
]
# Those that differ most; the soak tests compile headers in all of them.
COMPILED = [
    each for each in DIALECTS if each[2] in {"c99", "gnu17", "c2x", "c++11", "gnu++20", "c++2b"}
]
HEADERS = ("stdbool.h", "stddef.h", "stdint.h", "sys/socket.h", "sys/types.h")


def compile_all(text: str, *flags: str) -> None:
    """Check that each compiler that is installed accepts a text in the standards of `COMPILED`."""
    for compiler, language, std in COMPILED:
        if shutil.which(compiler) is None:
            continue
        command = [compiler, f"-std={std}", "-x", language, "-fsyntax-only", "-Wall", "-Wextra"]
        command += ["-Werror", *flags, "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{compiler} {std}: {done.stderr[:2000]}"


def made(name: str, fields: dict[str, Any], **rules: Any) -> StructType:
    return StructType(name, (Struct,), {"__annotations__": fields}, **rules)


class Color(IntEnum):
    RED = 1
    GREEN = 2


class Mode(IntFlag):
    READ = 1
    new = 2
    RED = 4
    ALL = 1 << 35


class Number(Union):
    i: Int
    f: Float


class Pair(Struct, packed=2):
    tag: UInt8
    value: Double


class Everything(Struct, align=16):
    kind: Bits[UInt, 3]
    color: Bits[Color, 2]
    narrow: Bits[Color, 1]
    _end: Bits[UInt, 0]
    on: Bits[Bool, 1]
    whole: Color
    brief: Annotated[Color, UInt8]
    mode: Mode
    _number: Anonymous[Number]
    _pair: Anonymous[Pair]
    new: Aligned[Int, 16]
    odd: At[Int, 66]
    bits: At[Bits[UInt, 5], 80, 2]
    pointer: Opaque[8, 8, "void *"]  # noqa: F722 - no forward reference
    key: structs.KeyT
    pid: structs.PidT
    grid: Array[Char[4], 2, 3]
    pairs: Array[Pair, 2]
    rest: Array[Int, ...]


def test_a_header_of_everything_is_accepted_everywhere() -> None:
    header = c_header(Everything)
    compile_all(header + header)
    # No name but those of the types and enumerators is left.
    found = subprocess.run(
        ["gcc", "-x", "c", "-dM", "-E", "-"],
        input=header,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.findall("#define (EVERYTHING.*)", found.stdout) == ["EVERYTHING_H "]


def test_a_header_without_extensions_is_pedantically_right() -> None:
    class Plain(Struct):
        name: Char[32]
        raw: Bytes[3]
        ok: Bool
        color: Color
        number: Number
        numbers: Array[Number, 3]
        kind: Bits[UInt, 3]
        new: structs.SockLenT

    compile_all(c_header(Plain), "-pedantic")
    assert "    socklen_t new_; /* new in Python */\n" in c_header(Plain)


def test_the_text_of_each_kind_of_member() -> None:
    text = Everything.c_declaration()
    assert "typedef enum Color { RED = 1, GREEN = 2 } Color;\n" in text
    for line in (
        "    new_ = 2, /* new in Python */",
        "    RED_ = 4, /* RED in Python */",
        "typedef struct Everything {",
        "    unsigned int kind : 3;",
        "    Color color : 2;",
        "    unsigned int narrow : 1; /* Color */",
        "    unsigned int : 0;",
        "    uint8_t brief; /* Color */",
        "    union {",
        "    #pragma pack(push, 2)",
        "    int new_ __attribute__((aligned(16))); /* new in Python */",
        "    unsigned char padding_52[14];",
        "    int odd __attribute__((packed));",
        "    unsigned char : 2;",
        "    unsigned char pointer[8] __attribute__((aligned(8))); /* void * */",
        "    int32_t key; /* key_t */",
        "    char grid[2][3][4];",
        "    int rest[];",
    ):
        assert f"{line}\n" in text, line


def test_swapped_bit_fields_are_bytes() -> None:
    class Packet(Struct, endian="big"):
        version: Bits[UInt8, 4]
        words: Bits[UInt8, 4]
        length: UInt16
        x: Bits[UInt, 3]
        offset: Bits[UInt, 13]
        last: Short

    header = c_header(Packet)
    assert (
        "    unsigned char bits_0[1]; /* big-endian bit-fields, from the highest bit: "
        "uint8_t version : 4 at 0, uint8_t words : 4 at 4 */\n"
    ) in header
    compile_all(header)


def test_names_get_an_underscore_until_they_are_unique() -> None:
    struct = made("template", {"new": Int, "new_": Int, "linux": Int, "template": Short})
    text = struct.c_declaration()
    assert "    int new__; /* new in Python */\n" in text
    assert "    int new_;\n" in text
    assert "} template_; /* template in Python */\n" in text
    compile_all(c_header(struct))


def test_a_member_can_t_have_the_name_of_its_type() -> None:
    inner = made("Point", {"x": Int})
    struct = made("Line", {"Point": inner, "pid_t": structs.PidT, "Line": Int})
    assert "    Point Point_; /* Point in Python */\n" in struct.c_declaration()
    compile_all(c_header(struct))


RENAMED = sorted(c_names._OTHER_KEYWORDS | c_names._MACROS)
COMPILERS_OWN = ["_Bool", "_Generic", "__builtin_offsetof", "__typeof", "__linux", "__is_class"]


def test_no_keyword_and_no_macro_is_left() -> None:
    names = [*RENAMED, *COMPILERS_OWN, "INT32_MAX", "SIZE_MAX", "__val", "std"]
    compile_all(c_header(made("Names", dict.fromkeys(names, Int))))
    kinds = {f"f{index}": made(name, {"x": Int}) for index, name in enumerate(names)}
    compile_all(c_header(made("Kinds", kinds)))
    enum: Any = IntEnum("Values", {name: index for index, name in enumerate(names)})
    compile_all(c_header(made("Enums", {"x": enum})))


def test_names_that_an_included_header_declares_are_renamed() -> None:
    names = ["select", "timeval", "send", "iovec", "key_t", "uint8_t", "u_int", "AF_INET"]
    kinds = {f"f{index}": made(name, {"x": Int}) for index, name in enumerate(names)}
    struct = made("Kinds", {**kinds, "SO_TYPE": structs.SockLenT, "t": structs.TimeT})
    compile_all(c_header(struct))
    assert "typedef struct timeval_ {" in struct.c_declaration()
    alone = made("Alone", {"t": kinds["f1"], "SO_TYPE": Int})  # includes no header
    assert "typedef struct timeval {" in alone.c_declaration()
    assert "    int SO_TYPE;\n" in alone.c_declaration()


@pytest.mark.parametrize(("compiler", "language", "std"), DIALECTS)
def test_the_macros_of_compilers_and_headers_are_known(
    compiler: str, language: str, std: str
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    text = "".join(f"#include <{header}>\n" for header in HEADERS)
    command = [compiler, f"-std={std}", "-x", language, "-dM", "-E", "-"]
    out = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    names = {
        name for name, value in re.findall(r"^#define (\w+) (.*)$", out, re.M) if name != value
    }
    assert {"NULL", "INT32_MAX", "AF_INET"} < names
    left = [name for name in names if c_names.Scope([name], HEADERS).add(name) == name]
    assert left == []


@pytest.mark.parametrize("name", ["int", "for", "struct", "inline", "restrict", "é", "a b", ""])
def test_names_that_no_c_program_can_have(name: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a valid name in C"):
        made("S", {name: Int}).c_declaration()


def test_two_types_of_one_name_are_refused() -> None:
    color: Any = IntEnum("Point", {"RED": 1})
    for other in (made("Point", {"y": Int}), color):
        struct = made("S", {"a": made("Point", {"x": Int}), "b": other})
        with pytest.raises(InvalidArgument, match="are named 'Point', which C does not allow"):
            struct.c_declaration()


def test_padding_can_t_follow_a_flexible_array() -> None:
    struct = made("S", {"n": Int, "rest": Array[Int, ...]}, size=32)
    with pytest.raises(InvalidArgument, match="none can follow a flexible array") as caught:
        struct.c_declaration()
    assert caught.value.errno == errno.EINVAL


def test_flexible_arrays_where_c_has_none() -> None:
    class Alone(Struct):
        rest: Array[Int, ...]

    class Either(Union):
        n: Int
        rest: Bytes[...]

    class Outer(Struct):
        kind: Int
        _: Anonymous[Either]

    compile_all("".join(map(c_header, (Alone, Either, Outer))))
    assert "    int rest[0];\n" in Alone.c_declaration()
    assert "        unsigned char rest[0];\n" in Outer.c_declaration()


def test_a_class_without_fields_of_its_own_has_the_name_of_the_struct() -> None:
    class Named(Pair):
        pass

    assert "    Pair x;\n" in made("S", {"x": Named}).c_declaration()
    assert Declaration(made("S", {"x": Named}).__plan__).plans[0] is Pair.__plan__


@pytest.mark.parametrize(("byte", "bit"), [(0, 3), (5, 0), (9, 3)])
def test_unnamed_bits_of_a_union_leave_its_size_alone(byte: int, bit: int) -> None:
    fields = {"a": Int, "z": At[Bits[UInt8, 0], byte, bit]}
    union = StructType("U", (Union,), {"__annotations__": fields})
    again: StructType = Struct.from_c(union.c_declaration(), "U")
    assert (again.size, again.alignment) == (union.size, union.alignment)
    assert again.fields[0] == union.fields[0]
