"""Arrays and structs that are the memory itself."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from ipckit import (
    InvalidArgument,
    LayoutMismatch,
)
from ipckit.structs import Char, Double, Int, Struct

SIZE = 5000


class Stu(Struct):
    name: Char[32]
    age: Int


def test_an_array_is_the_memory_itself(memory: Any) -> None:
    array = memory.array("<i4", (3, 4), offset=8)
    assert (array.shape, array.dtype, array.flags.owndata) == ((3, 4), np.dtype("<i4"), False)
    assert array.flags.c_contiguous
    assert array.flags.aligned
    assert array.__array_interface__["data"][0] == memory.address + 8
    array[2, 3] = 7
    assert memory.read(4, 8 + 44) == b"\7\0\0\0"
    memory.write(b"\1", 8)
    assert array[0, 0] == 1


def test_the_shape_is_what_fits_unless_it_is_said(memory: Any) -> None:
    assert memory.array("<f8").shape == (625,)
    assert memory.array("<f8", offset=16).shape == (623,)
    assert memory.array("V7").shape == (714,)
    assert memory.array("<f8", 3).shape == memory.array("<f8", np.int64(3)).shape == (3,)  # type: ignore[arg-type]
    assert memory.array("<f8", ()).shape == ()
    assert memory.array("<f8", 0).size == memory.array("u1", offset=SIZE).size == 0
    assert memory.array(np.uint8, (5, 0)).shape == (5, 0)
    assert memory.array(Stu).shape == (SIZE // 36,)


def test_an_array_that_does_not_fit_is_refused(memory: Any) -> None:
    cases: list[Any] = [
        ("<f8", 626, 0),
        ("<f8", (25, 26), 0),
        ("<f8", 625, 8),
        ("<f8", 1, 4),
        ("<i4", 1, 2),
        ("<f8", -1, 0),
        ("<f8", (-1, -1), 0),
        ("u1", None, -1),
        ("u1", None, SIZE + 1),
        ("<f8", 2**60, 0),
        ("<f8", (2**40, 2**40), 0),
        ("u1", (0, 2**70), 0),
        (Stu, 139, 0),
    ]
    for dtype, shape, offset in cases:
        with pytest.raises(InvalidArgument):
            memory.array(dtype, shape, offset=offset)


def test_an_array_of_what_has_no_bytes_is_refused(memory: Any) -> None:
    cases: list[Any] = ["O", object, "V0", "U0", [("a", "O")], "no dtype", 5]
    for dtype in cases:
        with pytest.raises(TypeError):
            memory.array(dtype)


def test_a_shape_is_of_integers(memory: Any) -> None:
    cases: list[Any] = [1.5, "3", (1.0,), [1, [2]], {}]
    for shape in cases:
        with pytest.raises(TypeError):
            memory.array("u1", shape)


def test_structs_and_structured_arrays_show_the_same_bytes(memory: Any) -> None:
    stu, array = memory.view(Stu, offset=36), memory.array(Stu, 3)
    stu.name = "amy"
    stu.age += 20
    assert (array[1]["name"], array[1]["age"]) == (b"amy", 20)
    array["age"] += 1
    assert (stu.age, memory.view(Stu).age) == (21, 1)
    assert memory.read(36, 36) == bytes(stu)
    with pytest.raises(InvalidArgument):
        memory.view(Stu, offset=SIZE - 35)
    with pytest.raises(InvalidArgument):
        memory.view(Stu, offset=-1)
    memory.view(Stu, offset=SIZE - 36).age = 5
    for wrong in (int, None, "Stu", Stu("x", 1)):
        with pytest.raises(TypeError, match="Struct class"):
            memory.view(wrong)  # type: ignore[type-var, arg-type]


def test_shared_structs_are_kept_apart_from_other_layouts(memory: Any) -> None:
    class Point(Struct):
        x: Double

    shared = memory.shared(Stu, offset=64)
    shared.store(Stu("amy", 20))
    assert memory.shared(Stu, offset=64).load() == Stu("amy", 20)
    with pytest.raises(LayoutMismatch):
        memory.shared(Point, offset=64)
    for offset in (-8, 4, SIZE - 64, SIZE):
        with pytest.raises(InvalidArgument):
            memory.shared(Stu, offset=offset)


def test_views_live_as_long_as_anybody_looks(kind: Any) -> None:
    memory = kind.create()
    mapping = memory._mapping
    base = memory.array("u1")
    views = [base[10:20], base.reshape(-1, 2).T, base.view("V5"), memoryview(base), memory.buf[::3]]
    if kind.named:
        memory.unlink()
    memory.close()
    del base, memory
    gc.collect()
    while views:
        bytes(views.pop())
        gc.collect()
        assert bool(mapping.exports) == bool(views)
