"""``ipckit header``: its output compiles with gcc, and headers become Struct classes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Struct

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipckit.testing import Namespace

RECORDS = """
from ipckit import *

class Point(Struct):
    x: Short
    y: Array[Double, 2]

class Tight(Struct, packed=True):
    tag: Int8
    stamp: UInt64

class Record(Struct):
    name: Char[32]
    raw: Bytes[3]
    ok: Bool
    points: Array[Point, 2]
    tight: Tight
    grid: Array[Array[Float, 3], 2]
    size: SizeT
    length: SSizeT
    big: LongLong

class Swapped(Struct, endian="big"):
    number: Int

class Unspeakable(Struct):
    register: Int
"""
PRINT = """
#include <stdio.h>
#include "record.h"
int main(void)
{
    printf("%zu %zu %zu\\n", sizeof(Record), offsetof(Record, tight), offsetof(Record, big));
    return 0;
}
"""
FLAGS = ["-Wall", "-Wextra", "-Werror", "-pedantic"]


@pytest.fixture
def directory(ns: Namespace) -> Path:
    (ns.directory / "records.py").write_text(RECORDS)
    return ns.directory


def classes(source: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "made"}
    exec(compile(source, "made.py", "exec"), scope)  # noqa: S102 - what was printed is Python
    return {name: each for name, each in scope.items() if isinstance(each, type(Struct))}


def test_gcc_takes_the_header_and_finds_the_same_places(
    ipckit: Callable[..., Any], directory: Path
) -> None:
    header = ipckit("header", "records:Record", cwd=directory).stdout
    (directory / "record.h").write_text(header)
    (directory / "print.c").write_text(PRINT)
    (directory / "empty.cc").write_text('#include "record.h"\n#include "record.h"\n')
    subprocess.run(["gcc", "-std=c11", *FLAGS, "-o", "print", "print.c"], cwd=directory, check=True)
    subprocess.run(["g++", "-std=c++17", *FLAGS, "-c", "empty.cc"], cwd=directory, check=True)
    printed = subprocess.run([directory / "print"], capture_output=True, check=True).stdout
    record = classes(RECORDS)["Record"]
    places = {field.name: field.offset for field in record.fields}
    assert [int(n) for n in printed.split()] == [record.size, places["tight"], places["big"]]
    # And the way back: the header is C like any other.
    again = classes(ipckit("header", "--from", "record.h", cwd=directory).stdout)
    assert again["Record"].fingerprint == record.fingerprint


def test_a_changed_header_does_not_compile(commands: Callable[..., Any], directory: Path) -> None:
    lines = [["header", "records:Record"], ["header", "records:Swapped"]]
    (_, header, _), (_, swapped, _) = commands(*lines, cwd=directory)
    assert "int number; /* big-endian */" in swapped
    changes = {"int8_t tag": "int16_t tag", "short x": "int x", "raw[3]": "raw[4]"}
    for old, new in changes.items():
        assert old in header
        command = ["gcc", "-std=c11", "-fsyntax-only", "-x", "c", "-"]
        done = subprocess.run(
            command, input=header.replace(old, new), capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "static assertion failed" in done.stderr


HEADER = """
#ifndef STU_H
#define STU_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#define NAME_MAX_BYTES 32
struct date { uint16_t year; uint8_t month, day; };
typedef struct stu {
    char name[NAME_MAX_BYTES]; /* UTF-8 */
    int age;
    float marks[2][3];
    struct date born;
    long long id;
    signed char s;
} STU;
typedef struct __attribute__((packed)) { char c; double d; } Packed;
#if defined(__cplusplus)
}
#endif
#endif
"""
SIZES = """
#include <stdio.h>
#include "stu.h"
int main(void) { printf("%zu %zu", sizeof(STU), sizeof(Packed)); }
"""


def test_a_header_becomes_classes_of_gccs_sizes(
    ipckit: Callable[..., Any], directory: Path
) -> None:
    (directory / "stu.h").write_text(HEADER)
    (directory / "sizes.c").write_text(SIZES)
    subprocess.run(["gcc", "-o", "sizes", "sizes.c"], cwd=directory, check=True)
    sizes = subprocess.run([directory / "sizes"], capture_output=True, check=True).stdout
    source = ipckit("header", "--from", "stu.h", cwd=directory).stdout
    made = classes(source)
    assert [int(n) for n in sizes.split()] == [made["STU"].size, made["Packed"].size]
    assert set(made) == {"Struct", "date", "STU", "Packed"}
    value = made["STU"]("amy", 20, [[1, 2, 3], [4, 5, 6]], made["date"](1999, 12, 31), 7, -1)
    assert Struct.from_c(HEADER, "STU").from_bytes(bytes(value)).marks[1, 2] == 6
    assert made["STU"].fingerprint == Struct.from_c(HEADER, "STU").fingerprint
    one = ipckit("header", "--from", "-", "--name", "STU", text=HEADER).stdout
    assert set(classes(one)) == {"Struct", "date", "STU"}


def test_a_header_for_something_else_is_an_error(
    commands: Callable[..., Any], directory: Path
) -> None:
    keyword = directory / "keyword.h"
    keyword.write_text("struct class { int lambda; };")
    pointer = directory / "pointer.h"
    pointer.write_text("struct a { int *b; };")
    lines = [
        ["header"],
        ["header", "records"],
        ["header", "records:Nothing"],
        ["header", "records:Struct"],
        ["header", "records:Unspeakable"],
        ["header", "records:Record", "--from", "x.h"],
        ["header", "records:Record", "--name", "x"],
        ["header", "--from", "no-such.h"],
        ["header", "--from", pointer],
        ["header", "records:Record", "--opaque"],
        ["header", "records:Record", "-I", "."],
        ["header", "--from", keyword, "--name", "b"],
    ]
    for line, got in zip(lines, commands(*lines, cwd=directory), strict=True):
        assert (got[0], got[1]) == (2, ""), line
        assert got[2].startswith("ipckit: "), line


def test_a_header_is_taken_as_it_is(ipckit: Callable[..., Any], directory: Path) -> None:
    (directory / "include").mkdir()
    (directory / "include" / "packed.h").write_text("#pragma once\n#include <stdint.h>\n")
    (directory / "own.h").write_text("typedef struct own { char c; } own_t;\n")
    (directory / "dev.h").write_text(
        '#include <packed.h>\n#include "own.h"\n'
        "struct PACKED dev { own_t own; uint32_t id; struct dev *next; };\n"
        "struct other { long double x;\n  void *p; };\n"
    )
    options = ["--from", "dev.h", "-I", "include", "-D", "PACKED=__attribute__((packed))"]
    source = ipckit("header", *options, "--name", "dev", "--opaque", cwd=directory).stdout
    made = classes(source)
    assert (made["dev"].size, made["dev"].fields[2].offset) == (13, 5)
    failed = ipckit("header", *options, cwd=directory, status=2).stderr
    assert [line.split(": ")[-2] for line in failed.splitlines()] == [
        "struct dev, member next",
        "struct other, member x",
        "struct other, member p",
    ]
    assert failed.startswith("ipckit: dev.h:3: ")


def test_the_output_of_a_preprocessor_is_taken(ipckit: Callable[..., Any], directory: Path) -> None:
    (directory / "stu.h").write_text(HEADER)
    text = subprocess.run(
        ["gcc", "-E", "stu.h"], cwd=directory, check=True, capture_output=True, text=True
    ).stdout
    source = ipckit("header", "--from", "-", "--name", "STU", text=text).stdout
    assert classes(source)["STU"].fingerprint == Struct.from_c(HEADER, "STU").fingerprint
