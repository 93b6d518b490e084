# ruff: noqa: S301 - what a test pickled it may unpickle
"""Struct.from_c: what it reads, how its classes pickle, and what it refuses."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from typing import Any

import pytest

from ipckit.errors import InvalidSource
from ipckit.structs import Char, Int, Struct


class Stu(Struct):
    name: Char[32]
    age: Int


TEXT = """
#ifndef X_H
#define X_H
#include <stdint.h>
/* a comment
   of two lines */
#define N 4      // four
#define M (N * 2)
enum colour { RED, GREEN = 5, BLUE };
typedef unsigned int u32;
typedef u32 grid[2][N];
typedef struct { short x, y; } point;
struct __attribute__((packed)) inner { uint8_t a; double size; };
struct outer {
    struct inner in[2];
    grid g;
    char words[3][M];
    enum colour c;
    struct { int x; } pos;
    point from, to;
    unsigned char mac[6];
    long unsigned int z[BLUE];
    char c1;
    bool yes;
    int w[sizeof(struct inner) / 2 << 1];
};
#endif
"""


def test_from_c_reads_what_headers_have() -> None:
    outer = Struct.from_c(TEXT)
    assert outer.__name__ == "outer"
    facts = {field.name: (field.offset, field.size) for field in outer.fields}
    assert facts["in"] == (0, 18)
    assert facts["words"] == (52, 24)
    assert facts["z"] == (104, 48)
    assert facts["w"] == (156, 32)
    again = Struct.from_c(outer.c_declaration())
    assert again.fingerprint == outer.fingerprint
    assert Struct.from_c(TEXT, "point").size == 4
    assert type(outer.zeroed().to) is Struct.from_c(TEXT, "point")
    assert outer.zeroed().pos.x == 0


def test_from_c_classes_pickle_by_their_layout() -> None:
    stu_type = Struct.from_c("typedef struct stu { char name[32]; int age; } STU;")
    assert (stu_type.__name__, stu_type.size, stu_type.fingerprint) == ("STU", 36, Stu.fingerprint)
    assert Struct.from_c("typedef struct stu { char name[32]; int age; } STU;") is stu_type
    data = pickle.dumps(stu_type("amy", 20))
    assert pickle.loads(data) == stu_type("amy", 20)
    inner = Struct.from_c(TEXT).zeroed().pos
    assert pickle.loads(pickle.dumps(inner)) == inner
    outer = Struct.from_c(TEXT)
    assert pickle.loads(pickle.dumps(outer)) is outer
    colour = outer.zeroed().c
    assert colour.name == "RED"
    assert pickle.loads(pickle.dumps(colour)) is colour
    assert pickle.loads(pickle.dumps(type(colour))) is type(colour)
    fingerprint = stu_type.fingerprint
    del stu_type
    gc.collect()
    assert type(pickle.loads(data)).fingerprint == fingerprint


@pytest.mark.usefixtures("exec_only")
def test_a_pickled_class_needs_no_libclang() -> None:
    value = Struct.from_c(TEXT).zeroed()
    program = (
        "import pickle, sys; sys.modules['clang'] = None\n"
        f"value = pickle.loads({pickle.dumps(value)!r})\n"
        "print(value.c.name, type(value).fingerprint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"RED {type(value).fingerprint}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("struct a {\n int y;\n int *x; };", "<text>:3: struct a, member x: a pointer"),
        ("struct a { int x", "<text>:1: expected"),
        ("int x;", "declares no struct"),
        ("struct a { struct b x; };", "incomplete type 'struct b'"),
        ("struct a { struct a x; };", "incomplete type 'struct a'"),
        ("struct a { long double x; };", "member x: "),
        ("struct a { int x[Q]; };", "'Q'"),
        ("struct a { int x[-1]; };", "negative size"),
        ("struct a { int x[1 / 0]; };", "<text>:1"),
        ("#define A A\nstruct a { int x[A]; };", "'A'"),
        ("struct a { void f(void); };", "'f'"),
        ("struct a { int x; int x; };", "duplicate member 'x'"),
        ("struct a { int x; }; struct a { int y; };", "redefinition of 'a'"),
        ("(" * 5000, "<text>"),
        ("struct a { int x; };", "declares no struct b"),
    ],
)
def test_from_c_says_what_it_refuses(text: str, says: str) -> None:
    with pytest.raises(InvalidSource) as caught:
        Struct.from_c(text, "b" if "struct b" in says and "{ int x; }" in text else None)
    assert says in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_from_c_without_libclang_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("libclang", "c_unit", "c_description", "c_reader", "c_structs"):
        monkeypatch.delitem(sys.modules, f"ipckit._payload.{name}", raising=False)
        monkeypatch.delattr(f"ipckit._payload.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "clang", None)
    with pytest.raises(ImportError, match="pip install libclang"):
        Struct.from_c("struct never_seen { int x; };")


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ((b"struct s { int x; };",), {}),
        (("struct s { int x; };", 3), {}),
        (("struct s { int x; };",), {"include_dirs": "include"}),
        (("struct s { int x; };",), {"defines": ["X"]}),
        (("struct s { int x; };",), {"include_dirs": [3]}),
    ],
)
def test_from_c_refuses_arguments_of_the_wrong_type(args: Any, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Struct.from_c(*args, **options)


def test_a_macro_can_be_a_number() -> None:
    assert Struct.from_c("struct s { int x[N]; };", defines={"N": 3}).size == 12
