# ruff: noqa: S301 - what a test pickled it may unpickle
from __future__ import annotations

import array
import copy
import ctypes
import gc
import inspect
import math
import pickle
import pydoc
import struct
import sys
import weakref
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest

from ipckit.errors import InvalidArgument, LayoutMismatch
from ipckit.structs import (
    Array,
    Bool,
    Bytes,
    Char,
    Double,
    Float,
    Int,
    Int8,
    Int16,
    Int64,
    Long,
    LongLong,
    Short,
    SizeT,
    Struct,
    StructType,
    UInt,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
)


class Stu(Struct):
    name: Char[32]
    age: Int


class Point(Struct):
    x: Double
    y: Double = 0.5


class Shape(Struct):
    kind: Short
    at: Point
    grid: Array[Int, 2, 3]
    words: Array[Char[4], 2]
    corners: Array[Point, 2]
    flags: Array[Bool, 3]


def shape() -> Any:
    return Shape(
        7,
        Point(1.0, 2.0),
        [[1, 2, 3], [4, 5, 6]],
        ["ab", "cdef"],
        [Point(0.0), Point(9.0, 9.5)],
        [True, False, True],
    )


def test_the_example_of_the_design_is_36_bytes_that_c_reads() -> None:
    assert Stu.size == 36
    assert bytes(Stu("amy", 20)) == struct.pack("32si", b"amy", 20)
    assert Stu(name="amy", age=20) == Stu("amy", 20) == Stu("amy", age=20)
    assert repr(Stu("amy", 20)) == "Stu(name='amy', age=20)"


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        (("amy",), {}),
        (("amy", 1, 2), {}),
        (("amy", 1), {"age": 1}),
        (("amy", 1), {"size": 1}),
        ((), {"name": "amy", "age": 1, "more": 2}),
    ],
)
def test_missing_unknown_and_doubled_arguments_are_type_errors(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match="Stu"):
        Stu(*args, **kwargs)


def test_defaults_are_used_and_checked_when_the_class_is_made() -> None:
    assert Point(1.0).y == 0.5
    with pytest.raises(TypeError, match="'x' takes an int, not str"):

        class _Wrong(Struct):
            x: Int = "no"  # type: ignore[assignment]

    with pytest.raises(InvalidArgument):

        class _Large(Struct):
            x: Int8 = 128

    with pytest.raises(TypeError, match="without a default follows"):

        class _Order(Struct):
            x: Int = 0
            y: Int


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        *((k, c) for k, c in zip((Int8, Int16, Int, Int64), "bhiq", strict=True)),
        *((k, c) for k, c in zip((UInt8, UInt16, UInt32, UInt64), "BHIQ", strict=True)),
    ],
)
def test_integers_hold_their_range_and_no_more(kind: Any, code: str, endian: Any) -> None:
    bits = 8 * struct.calcsize(code)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if code.islower() else (0, (1 << bits) - 1)
    one_type = type(Struct)("One", (Struct,), {"__annotations__": {"v": kind}}, endian=endian)
    order = "<" if endian == "little" else ">"
    for value in (low, high, 0, 1, low + 1, high - 1, high // 3):
        one = one_type(value)
        assert one.v == value
        assert bytes(one) == struct.pack(order + code, value)
    for value in (low - 1, high + 1, 1 << 64, -(1 << 64), 10**5000):
        with pytest.raises(InvalidArgument, match=rf"'v' must be {low} to {high}, not .*"):
            one_type(value)
    for value in (1.0, "1", None, b"1", [1]):
        with pytest.raises(TypeError, match="'v' takes an int, not"):
            one_type(value)
    assert one_type(np.int8(1)).v == 1


def test_floats_in_both_orders_and_their_range() -> None:
    class Both(Struct, endian="big"):
        f: Float
        d: Double

    both = Both(1.5, -2.25)
    assert bytes(both) == struct.pack(">f4xd", 1.5, -2.25)
    assert (both.f, both.d) == (1.5, -2.25)
    both.f = 3
    assert both.f == 3.0
    both.f = math.inf
    assert both.f == math.inf
    both.d = math.nan
    assert math.isnan(both.d)
    with pytest.raises(InvalidArgument, match="'f'"):
        both.f = 1e39
    with pytest.raises(InvalidArgument, match="'d' is too large"):
        both.d = 10**400
    with pytest.raises(TypeError, match="'d' takes a float, not str"):
        both.d = "1.0"  # type: ignore[assignment]


def test_bool_takes_bools_and_reads_any_other_byte_as_true() -> None:
    class Flag(Struct):
        on: Bool

    assert Flag(on=True).on is True
    assert Flag.from_bytes(b"\xff").on is True
    with pytest.raises(TypeError, match="'on' takes a bool, not int"):
        Flag(1)  # type: ignore[arg-type]


def test_text_is_padded_and_never_cut() -> None:
    stu = Stu("zoë", 1)
    assert bytes(stu)[:32] == "zoë".encode().ljust(32, b"\0")
    stu.name = "x" * 32
    assert stu.name == "x" * 32
    stu.name = "short"
    assert bytes(stu)[:32] == b"short".ljust(32, b"\0")
    with pytest.raises(InvalidArgument, match="at most 32 bytes, not 33"):
        stu.name = "x" * 33
    with pytest.raises(InvalidArgument, match="at most 32 bytes, not 34"):
        stu.name = "ë" * 17
    with pytest.raises(InvalidArgument, match="NUL"):
        stu.name = "a\0b"
    with pytest.raises(TypeError, match="takes a str, not bytes"):
        stu.name = b"amy"  # type: ignore[assignment]
    assert stu.name == "short"


def test_text_that_is_not_utf8_survives_a_round_trip() -> None:
    raw = b"\xff\xfeabc\x80".ljust(32, b"\0")
    stu = Stu.from_bytes(raw + bytes(4))
    other = Stu(stu.name, 0)
    assert bytes(other) == raw + bytes(4)
    with pytest.raises(ValueError, match="surrogates not allowed"):
        stu.name = "\ud800"


def test_long_text_is_read_beyond_the_small_buffer() -> None:
    class Page(Struct):
        text: Char[1000]

    assert Page("é" * 500).text == "é" * 500


def test_bytes_are_padded_and_read_whole() -> None:
    class Mac(Struct):
        raw: Bytes[6]

    mac = Mac(b"\x01\x02")
    assert mac.raw == b"\x01\x02\0\0\0\0"
    mac.raw = memoryview(b"abcdef")  # type: ignore[assignment]
    assert mac.raw == b"abcdef"
    with pytest.raises(InvalidArgument, match="at most 6 bytes"):
        mac.raw = b"1234567"
    with pytest.raises(TypeError, match="bytes-like"):
        mac.raw = "text"  # type: ignore[assignment]


def test_fields_cannot_be_deleted_nor_invented() -> None:
    stu = Stu("amy", 20)
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del stu.age
    with pytest.raises(AttributeError):
        stu.agee = 1  # type: ignore[attr-defined]


def test_nested_structs_are_views() -> None:
    thing = shape()
    thing.at.x = 8.0
    assert thing.at == Point(8.0, 2.0)
    thing.at = Point(3.0)
    assert thing.at.x == 3.0
    with pytest.raises(TypeError, match="'at' takes a Point, not Stu"):
        thing.at = Stu("amy", 1)
    at = thing.at
    del thing
    gc.collect()
    assert at.y == 0.5


def test_number_arrays_are_live_numpy_arrays() -> None:
    thing = shape()
    grid = thing.grid
    assert grid.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert grid.flags.aligned
    grid[1, 2] = 60
    assert thing.grid[1, 2] == 60
    thing.grid = np.arange(6, dtype=np.int64).reshape(2, 3)
    assert grid.tolist() == [[0, 1, 2], [3, 4, 5]]
    del thing
    gc.collect()
    assert grid.sum() == 15


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([1, 2, 3], InvalidArgument),
        ([[1, 2, 3], [4, 5, 1 << 31]], InvalidArgument),
        ([[1, 2, 3], [4, 5, 1 << 70]], InvalidArgument),
        ([[1, 2, 3], [4, 5, 0.5]], TypeError),
        ([["a", "b", "c"], ["d", "e", "f"]], TypeError),
        (None, InvalidArgument),
    ],
)
def test_number_arrays_refuse_what_numpy_would_bend(value: Any, error: type[Exception]) -> None:
    thing = shape()
    with pytest.raises(error, match="'grid' takes"):
        thing.grid = value
    assert thing == shape()


def test_float_arrays_take_ints_but_no_overflow() -> None:
    class Cloud(Struct):
        f: Array[Float, 2]

    assert Cloud([1, 2]).f.tolist() == [1.0, 2.0]
    assert Cloud([math.inf, 0.0]).f[0] == math.inf
    with pytest.raises(InvalidArgument, match="out of range"):
        Cloud([1e39, 0.0])


def test_other_arrays_are_live_sequences() -> None:
    thing = shape()
    assert thing.words == ["ab", "cdef"]
    thing.words[-1] = "z"
    assert list(thing.words) == ["ab", "z"]
    assert thing.words[:1] == ["ab"]
    thing.corners[1].x = -1.0
    thing.corners[0] = Point(4.0)
    assert thing.corners == [Point(4.0), Point(-1.0, 9.5)]
    assert repr(thing.words) == "['ab', 'z']"
    assert Point(4.0) in thing.corners
    assert thing.words != "ab"
    with pytest.raises(IndexError):
        thing.words[2]
    with pytest.raises(InvalidArgument, match="2 items, not 1"):
        thing.words = ["a"]
    for wrong in ("ab", None, {"a", "b"}):
        with pytest.raises(TypeError, match="'words' takes a sequence"):
            thing.words = wrong
    with pytest.raises(InvalidArgument, match=r"'words\[0\]' takes at most 4"):
        thing.words[0] = "12345"


def test_a_field_may_be_called_as_anything_of_the_class() -> None:
    odd_type = Struct.from_c(
        "struct odd { int size; int fields; int dtype; int from_bytes; int copy; int fingerprint;"
        " int class; int asdict; };"
    )
    odd = odd_type(1, 2, 3, 4, 5, 6, **{"class": 7, "asdict": 8})
    assert (odd.size, odd.fields, odd.from_bytes, odd.copy) == (1, 2, 4, 5)
    assert (odd_type.size, len(odd_type.fields), odd_type.dtype.itemsize) == (32, 8, 32)
    assert StructType.from_bytes(odd_type, bytes(odd)) == odd == pickle.loads(pickle.dumps(odd))
    assert odd != StructType.zeroed(odd_type)
    assert "size=1" in repr(odd)


def test_a_view_writes_to_the_buffer_and_keeps_it() -> None:
    memory = bytearray(100)
    view = Stu.from_buffer(memory, 10)
    view.name, view.age = "amy", 20
    assert memory[10:46] == bytes(Stu("amy", 20))
    memory[42] = 21
    assert view.age == 21
    with pytest.raises(BufferError):
        memory.clear()
    del view
    memory.clear()


def test_a_view_of_read_only_memory_cannot_be_written() -> None:
    view = Stu.from_buffer(bytes(Stu("amy", 20)))
    assert view == Stu("amy", 20)
    with pytest.raises(TypeError, match="read-only"):
        view.age = 1
    assert memoryview(view).readonly
    copied = view.copy()
    copied.age = 1
    assert view.age == 20
    frozen = Shape.from_buffer(bytes(shape()))
    for attempt in (
        lambda: setattr(frozen.at, "x", 1.0),
        lambda: frozen.words.__setitem__(0, "x"),
        lambda: setattr(frozen, "grid", [[0] * 3] * 2),
    ):
        with pytest.raises(TypeError, match="read-only"):
            attempt()
    with pytest.raises(ValueError, match="read-only"):
        frozen.grid[0, 0] = 1


@pytest.mark.parametrize("offset", [-1, 1, 36, sys.maxsize, -sys.maxsize - 1])
def test_a_view_lies_within_its_buffer(offset: int) -> None:
    with pytest.raises(InvalidArgument, match=r"Stu needs 36 bytes at offset .*has 36"):
        Stu.from_buffer(bytearray(36), offset)


def test_views_of_numpy_ctypes_and_array_memory() -> None:
    for memory in (np.zeros(36, "u1"), (ctypes.c_char * 36)(), array.array("i", [0] * 9)):
        Stu.from_buffer(memory).age = 5
        assert memoryview(memory).tobytes()[32:] == struct.pack("i", 5)
    records = np.zeros(3, Stu.dtype)
    Stu.from_buffer(records, 36).name = "amy"
    assert records["name"].tolist() == [b"", b"amy", b""]
    with pytest.raises((BufferError, ValueError), match="contiguous"):
        Stu.from_buffer(np.zeros(72, "u1")[::2])


@pytest.mark.parametrize("length", [0, 35, 37, 1000])
def test_bytes_of_another_length_are_a_mismatch_that_keeps_them(length: int) -> None:
    data = bytes(range(256)) * 4
    with pytest.raises(LayoutMismatch, match=f"expected 36 bytes for Stu, got {length}") as caught:
        Stu.from_bytes(data[:length])
    assert caught.value.raw == data[:length]


def test_equality_ignores_padding_and_knows_classes() -> None:
    class Padded(Struct):
        a: Int8
        b: Int

    assert Padded.from_bytes(b"\x01abc\x02\0\0\0") == Padded(1, 2)
    assert Padded(1, 2) != Padded(1, 3)
    assert shape() == shape()

    class Same(Struct):
        a: Int8
        b: Int

    assert Padded(1, 2) != Same(1, 2)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Padded(1, 2))


def test_match_statements() -> None:
    match Stu("amy", 20):
        case Stu(name, age):
            assert (name, age) == ("amy", 20)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_copies_and_pickles_are_by_value(protocol: int) -> None:
    memory = bytearray(bytes(Stu("amy", 20)))
    stu = Stu.from_buffer(memory)
    for twin in (copy.copy(stu), copy.deepcopy(stu), pickle.loads(pickle.dumps(stu, protocol))):
        twin.age = 99
        assert stu.age == 20
        assert twin.name == "amy"
    assert pickle.loads(pickle.dumps(Stu, protocol)) is Stu


def test_asdict_shares_nothing() -> None:
    thing = shape()
    plain = thing.asdict()
    thing.grid[0, 0] = 100
    assert plain["grid"] == [[1, 2, 3], [4, 5, 6]]
    assert plain["corners"] == [{"x": 0.0, "y": 0.5}, {"x": 9.0, "y": 9.5}]


def test_layout_facts() -> None:
    assert [tuple(field) for field in Stu.fields] == [
        ("name", 0, 32, "char[32]"),
        ("age", 32, 4, "int"),
    ]
    assert Stu.alignment == 4
    assert Shape.fields[2].c_type == "int[2][3]"
    assert Stu.dtype == np.dtype([("name", "S32"), ("age", "i4")])
    record = np.frombuffer(shape(), Shape.dtype)[0]
    assert record["grid"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert record["corners"]["x"].tolist() == [0.0, 9.0]
    assert Shape.dtype.itemsize == Shape.size


def test_packed_and_endian() -> None:
    class Header(Struct, packed=True, endian="big"):
        kind: UInt8
        length: UInt32

    assert (Header.size, Header.alignment) == (5, 1)
    assert bytes(Header(1, 2)) == b"\x01\0\0\0\x02"
    assert Header.dtype["length"] == np.dtype(">u4")

    class Many(Struct, endian="big"):
        values: Array[UInt16, 2]

    assert bytes(Many([1, 2])) == b"\0\x01\0\x02"
    with pytest.raises(InvalidArgument, match="endian"):

        class _Wrong(Struct, endian="middle"):  # type: ignore[call-arg]
            a: Int


def test_the_fingerprint_is_of_the_layout_and_not_of_the_names_of_types() -> None:
    def made(fields: dict[str, Any], **how: Any) -> str:
        return type(Struct)("S", (Struct,), {"__annotations__": fields}, **how).fingerprint

    one = made({"a": Int, "b": Long})
    assert one == made({"a": Int, "b": LongLong}) == made({"a": Int, "b": Int64})
    assert one == made({"a": Int, "b": Long}, endian=sys.byteorder)
    others = {
        made({"a": Int, "c": Long}),
        made({"b": Long, "a": Int}),
        made({"a": UInt32, "b": Long}),
        made({"a": Int, "b": Long}, packed=True),
        made({"a": Int, "b": Long}, endian="big" if sys.byteorder == "little" else "little"),
        made({"a": Int, "b": SizeT}),
        made({"a": Int, "b": Double}),
        made({"a": Array[Int, 1], "b": Long}),
        one,
    }
    assert len(others) == 9
    assert Stu.fingerprint == "6b6d9a3f9b5c9297"


def test_annotations_are_resolved_where_they_stand() -> None:
    class Inner(Struct):
        a: Int

    local_size = 3

    class Outer(Struct):
        count: ClassVar[int] = 4
        inner: Inner
        text: Annotated[str, Char[local_size]] = "abc"
        table: Annotated[Any, Array[Inner, 2]] = (Inner(1), Inner(2))

        @property
        def double(self) -> int:
            return 2 * self.inner.a

    outer = Outer(Inner(2))
    assert (outer.double, outer.text, outer.table[1].a, Outer.count) == (4, "abc", 2, 4)


@pytest.mark.parametrize("wrong", [int, str, "amy", None, list[int]])
def test_what_has_no_size_in_c_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"S\.a: .* has no size in C"):
        type(Struct)("S", (Struct,), {"__annotations__": {"a": Annotated[wrong, "x"]}})


def test_bad_counts_are_refused() -> None:
    for kind in (Char, Bytes):
        with pytest.raises(InvalidArgument):
            kind[0]
        with pytest.raises(TypeError):
            kind["3"]
        with pytest.raises(TypeError):
            kind[True]
    with pytest.raises(TypeError):
        Array[Int]
    with pytest.raises(InvalidArgument):
        Array[Int, -1]
    with pytest.raises(InvalidArgument, match="at most"):
        type(Struct)("S", (Struct,), {"__annotations__": {"a": Array[Int, sys.maxsize // 4]}})


def test_structs_nest_and_do_not_extend() -> None:
    with pytest.raises(TypeError, match="fields of two structs"):

        class _More(Stu):
            grade: Int

    with pytest.raises(TypeError, match="fields of two structs"):

        class _Both(Stu, Point):  # type: ignore[misc]
            pass

    class Loud(Stu):
        def shout(self) -> str:
            return self.name.upper()

    loud = Loud("amy", 20)
    assert loud.shout() == "AMY"
    assert loud != Stu("amy", 20)
    with pytest.raises(TypeError, match="no fields"):
        Struct()
    with pytest.raises(TypeError, match="no fields"):
        _ = Struct.size
    with pytest.raises(TypeError, match="__slots__"):
        type(Struct)("S", (Struct,), {"__slots__": ("a",)})
    with pytest.raises(TypeError, match="packed"):

        class _Nothing(Struct, packed=True):
            pass

    with pytest.raises(InvalidArgument, match="Python reserves names that start and end with __"):
        type(Struct)("S", (Struct,), {"__annotations__": {"__class__": Int}})


def test_from_bytes_makes_the_class_it_is_called_on() -> None:
    class Loud(Stu):
        pass

    class Own(Stu):
        @classmethod
        def from_bytes(cls, data: bytes) -> Any:
            return (cls, data)

    class Heir(Own):
        pass

    data = bytes(Stu("amy", 20))
    assert type(Loud.from_bytes(data)) is Loud
    assert type(Stu.from_bytes(data)) is Stu
    assert Heir.from_bytes(data) == (Heir, data)
    with pytest.raises(TypeError, match="no fields"):
        Struct.from_bytes(data)


def test_records_and_classes_die() -> None:
    class Temporary(Struct):
        a: Int

    class Bytearray(bytearray):
        pass

    gone = weakref.ref(Temporary)
    memory = Bytearray(4)
    memory.view = Temporary.from_buffer(memory)  # type: ignore[attr-defined]
    freed = weakref.ref(memory)
    Temporary.example = Temporary(1)  # type: ignore[attr-defined]
    del Temporary, memory
    gc.collect()
    assert gone() is None
    assert freed() is None


def test_names_that_c_cannot_have() -> None:
    class Odd(Struct):
        int: Int

    with pytest.raises(InvalidArgument, match="'int' is not a valid name in C"):
        Odd.c_declaration()


# -- inspect and help ------------------------------------------------------------------------------


class Reading(Struct):
    sensor: Char[8]
    value: Double = 0.0
    flags: UInt = 7


def test_the_signature_shows_the_fields_with_their_defaults() -> None:
    assert str(inspect.signature(Reading)) == "(sensor, value=0.0, flags=7)"


def test_the_metaclass_shows_its_own_signature() -> None:
    # The descriptor of the fields' signature is found on the metaclass too.
    assert list(inspect.signature(StructType).parameters) == [
        "name",
        "bases",
        "namespace",
        "packed",
        "align",
        "size",
        "endian",
    ]


def test_a_constructor_of_the_user_s_own_shows_its_own_parameters() -> None:
    class Point(Reading):
        def __init__(self, x: int) -> None:
            super().__init__(str(x))

    assert list(inspect.signature(Point).parameters) == ["x"]


def test_help_says_of_each_field_what_it_is() -> None:
    text = pydoc.render_doc(Reading, renderer=pydoc.plaintext)
    assert "Reading(sensor, value=0.0, flags=7)" in text
    assert " |  sensor\n |      text, 8 bytes at offset 0\n" in text
    assert " |  flags\n |      unsigned integer, 4 bytes at offset 16\n" in text
    assert " |  from_bytes(data, /)" in text or " |  from_bytes(cls, data, /)" in text
