"""Unions, bit-fields, enums, alignment, anonymous members and flexible array members."""

from __future__ import annotations

import copy
import enum
import inspect
import pickle
import struct
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pytest

from ipckit import (
    Channel,
    MappedFile,
    PosixMessageQueue,
    SharedStruct,
    SysVMessageQueue,
)
from ipckit.errors import InvalidArgument, LayoutMismatch
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
    Long,
    Opaque,
    PidT,
    Short,
    Struct,
    UChar,
    UInt,
    UInt8,
    ULong,
    Union,
    UShort,
)

if TYPE_CHECKING:
    from pathlib import Path


class Number(Union):
    i: Int
    f: Float
    raw: Bytes[4]


class Color(enum.IntEnum):
    RED = 1
    GREEN = 2


class Tagged(Struct):
    kind: Int
    _number: Anonymous[Number]
    after: Short


# -- unions ----------------------------------------------------------------------------------------


def test_a_union_takes_one_member_and_reads_all() -> None:
    assert (Number.size, Number.alignment) == (4, 4)
    assert Number(f=1.0).i == 0x3F800000  # type: ignore[call-arg]
    assert Number(7).raw == b"\7\0\0\0"  # type: ignore[call-arg]
    assert bytes(Number.zeroed()) == bytes(4)
    number = Number(raw=b"\0\0\0@")  # type: ignore[call-arg]
    assert (number.f, number == Number(f=2.0)) == (2.0, True)  # type: ignore[call-arg]
    assert number.asdict() == {"i": 0x40000000, "f": 2.0, "raw": b"\0\0\0@"}
    assert pickle.loads(pickle.dumps(number)) == copy.deepcopy(number) == number  # noqa: S301
    assert str(inspect.signature(Number)) == "(i, *, f=Ellipsis, raw=Ellipsis)"


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((1, 2.0), {}, "takes at most 1 by position"),
        ((1,), {"f": 2.0}, "'i' and 'f', which share their bytes"),
        ((), {"f": 2.0, "raw": b""}, "'f' and 'raw', which share their bytes"),
        ((), {"g": 2.0}, "'g', which is not a field"),
        ((1,), {"i": 2}, "'i', which is not a field or has two values"),
        ((), {}, "Number needs a value for field 'i', or for one that shares its bytes"),
        ((1, 2, 3, 4), {}, "Number takes at most 1 by position, not 4"),
    ],
)
def test_a_union_refuses_two_members(args: Any, kwargs: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        Number(*args, **kwargs)


def test_the_members_of_an_anonymous_union_are_fields() -> None:
    tagged: Any = Tagged(1, f=2.5, after=3)  # type: ignore[call-arg]
    assert (tagged.f, tagged.after, tagged._number.f) == (2.5, 3, 2.5)
    assert Tagged(1, 7, 3).i == 7  # type: ignore[attr-defined,call-arg]
    tagged.i = 0
    assert tagged == Tagged(1, 0, 3)  # type: ignore[call-arg]
    assert [(field.name, field.offset) for field in Tagged.fields] == [
        ("kind", 0), ("i", 4), ("f", 4), ("raw", 4), ("after", 8)
    ]  # fmt: skip
    with pytest.raises(TypeError, match="Tagged needs a value for field 'after'"):
        Tagged(1, f=2.5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Tagged needs a value for field 'i', or for one"):
        Tagged(1, after=3)  # type: ignore[call-arg]
    match Tagged(1, 7, 3):  # type: ignore[call-arg]
        case Tagged(1, 7, after):  # type: ignore[misc]
            assert after == 3
        case _:
            pytest.fail("the first member matches by position")


def test_an_anonymous_struct_in_a_union_is_given_whole() -> None:
    class Pair(Struct):
        x: Short
        y: Short

    class Both(Union):
        _pair: Anonymous[Pair]
        word: UInt

    assert Both(1, 2).word == 0x20001  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="needs a value for field 'x'"):
        Both(y=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="needs a value for field 'x'"):
        Both()  # type: ignore[call-arg]
    assert Both(word=5).x == 5  # type: ignore[attr-defined,call-arg]
    with pytest.raises(TypeError, match="share their bytes"):
        Both(1, word=5)  # type: ignore[call-arg]


def test_unions_nest_and_are_shared() -> None:
    class Message(Struct):
        kind: Int
        value: Number

    message = Message(1, Number(f=1.5))  # type: ignore[call-arg]
    assert message.value.f == 1.5
    message.value = Number(3)  # type: ignore[call-arg]
    assert message.value.i == 3
    with MappedFile.anonymous(4096) as memory:
        shared = memory.shared(Number, offset=64)
        shared.store(Number(f=0.5))  # type: ignore[call-arg]
        assert shared.load().f == 0.5
    with Channel.create(None, Number) as channel:
        channel.send(Number(f=0.5))  # type: ignore[call-arg]
        assert channel.receive().f == 0.5


def test_a_member_of_a_union_has_no_default() -> None:
    with pytest.raises(TypeError, match="can't have a default"):
        type("U", (Union,), {"__annotations__": {"a": Int, "b": Int}, "a": 1})


# -- bit-fields ------------------------------------------------------------------------------------


class Bitty(Struct):
    a: Bits[UInt, 3]
    b: Bits[Int, 5]
    c: Bits[UInt, 30]
    ok: Bits[Bool, 1]
    color: Bits[Color, 2]
    big: Bits[ULong, 64]


def test_bit_fields_have_their_place_and_their_range() -> None:
    assert [(field.offset, field.bits) for field in Bitty.fields] == [
        (0, (0, 3)), (0, (3, 5)), (4, (0, 30)), (7, (6, 1)), (8, (0, 2)), (16, (0, 64))
    ]  # fmt: skip
    value = Bitty(5, -16, 2**30 - 1, ok=True, color=Color.GREEN, big=2**64 - 1)
    assert (value.a, value.b, value.c, value.ok, value.big) == (
        5, -16, 2**30 - 1, True, 2**64 - 1
    )  # fmt: skip
    assert value.color is Color.GREEN  # type: ignore[comparison-overlap]
    value.a = 2
    assert (value.b, value.a) == (-16, 2)
    for name, wrong in (("a", 8), ("a", -1), ("b", 16), ("b", -17), ("c", 2**30), ("color", 4)):
        with pytest.raises(InvalidArgument, match=name):
            setattr(value, name, wrong)
    with pytest.raises(TypeError):
        value.ok = 1
    assert (value.a, value.b) == (2, -16)


def test_bit_fields_that_share_bytes_are_one_field_of_the_dtype() -> None:
    class Two(Struct):
        a: Bits[UChar, 3]
        b: Bits[UChar, 5]
        c: UChar

    assert Two.dtype.names == ("a,b", "c")
    assert np.frombuffer(bytes(Two(1, 2, 3)), Two.dtype)[0].tolist() == (1 | 2 << 3, 3)


def test_bits_of_a_big_endian_struct_begin_at_the_highest() -> None:
    class Big(Struct, endian="big"):
        a: Bits[UShort, 4]
        b: Bits[UShort, 12]

    assert bytes(Big(1, 2)) == bytes([0x10, 0x02])
    assert Big.from_bytes(b"\xab\xcd").b == 0xBCD


def test_packed_bit_fields_cross_units() -> None:
    class Tight(Struct, packed=True):
        a: Bits[UInt, 3]
        b: Bits[ULong, 64]
        c: Bits[UInt, 5]

    assert Tight.size == 9
    value = Tight(5, 0x0123456789ABCDEF, 17)
    assert (value.a, value.b, value.c) == (5, 0x0123456789ABCDEF, 17)
    raw = int.from_bytes(bytes(value), "little")
    assert raw == 5 | 0x0123456789ABCDEF << 3 | 17 << 67


def test_a_bit_field_of_width_0_begins_a_new_unit() -> None:
    class Split(Struct):
        a: Bits[UChar, 3]
        _: Bits[UInt, 0]
        b: Bits[UChar, 3]

    assert [field.name for field in Split.fields] == ["a", "b"]
    assert [field.offset for field in Split.fields] == [0, 4]


@pytest.mark.parametrize("wrong", [(UInt, 33), (UInt, -1), (Bool, 2)])
def test_bits_that_no_type_has_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="takes 0 to"):
        Bits[wrong]
    with pytest.raises(TypeError):
        Bits[Double, 3]
    with pytest.raises(TypeError):
        Bits[UInt]
    with pytest.raises(TypeError, match="bit-field"):
        Array[Bits[UInt, 3], 2]


# -- enums -----------------------------------------------------------------------------------------


def test_an_enum_reads_as_its_members_and_keeps_other_numbers() -> None:
    class Paint(Struct):
        color: Color
        small: Annotated[Color, UInt8]
        many: Array[Color, 2]

    paint = Paint(Color.RED, Color.GREEN, [1, 2])
    assert (paint.color, paint.small) == (Color.RED, Color.GREEN)
    assert isinstance(paint.color, Color)
    assert [field.size for field in Paint.fields] == [4, 1, 8]
    other = Paint.from_bytes(struct.pack("IB3xII", 9, 7, 1, 1))
    assert (other.color, other.small) == (9, 7)
    assert not isinstance(other.color, Color)
    with pytest.raises(InvalidArgument):
        paint.color = -1  # type: ignore[assignment]
    with pytest.raises(TypeError):
        paint.color = "RED"  # type: ignore[assignment]


def test_flags_combine() -> None:
    class Mode(enum.IntFlag):
        READ = 4
        WRITE = 2

    class Open(Struct):
        mode: Mode

    assert Open(Mode.READ | Mode.WRITE).mode == Mode.READ | Mode.WRITE
    assert isinstance(Open.from_bytes(bytes([6, 0, 0, 0])).mode, Mode)


def test_an_enum_has_the_width_that_gcc_gives_it() -> None:
    def size(**values: int) -> tuple[int, str]:
        made: Any = enum.IntEnum("E", values)  # type: ignore[misc]
        kind: Any = type("S", (Struct,), {"__annotations__": {"e": made}})
        return kind.size, kind.__plan__.entries[0].ctype.integer.code

    assert size(A=0) == (4, "u")
    assert size(A=-1) == (4, "i")
    assert size(A=2**32 - 1) == (4, "u")
    assert size(A=2**32) == (8, "u")
    assert size(A=-1, B=2**31) == (8, "i")
    with pytest.raises(InvalidArgument, match="no integer type"):
        size(A=-1, B=2**63)
    with pytest.raises(
        InvalidArgument, match=r"E\.BIG is 256, which is out of the range of uint8_t"
    ):
        type(
            "S",
            (Struct,),
            {"__annotations__": {"e": Annotated[enum.IntEnum("E", {"BIG": 256}), UInt8]}},
        )


# -- places ----------------------------------------------------------------------------------------


def test_alignment_packing_and_places() -> None:
    class Ring(Struct, align=128):
        head: Int
        tail: Aligned[Int, 64]

    assert (Ring.fields[1].offset, Ring.size, Ring.alignment) == (64, 128, 128)

    class Half(Struct, packed=2):
        a: UChar
        b: Double
        c: Aligned[Int, 16]

    assert ([field.offset for field in Half.fields], Half.size) == ([0, 2, 10], 14)

    class Odd(Struct, size=20):
        a: At[Int, 3]
        b: At[Bits[UChar, 3], 8, 2]
        c: UChar

    assert [field.offset for field in Odd.fields] == [3, 8, 9]
    assert (Odd.size, Odd.alignment, bytes(Odd(1, 5, 2))[8]) == (20, 1, 5 << 2)
    with pytest.raises(InvalidArgument, match="before the end of the previous member"):
        type("S", (Struct,), {"__annotations__": {"a": Int, "b": At[Int, 2]}})


@pytest.mark.parametrize(
    "options", [{"packed": 3}, {"align": 3}, {"align": 0}, {"size": -1}, {"packed": 32}]
)
def test_rules_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        type(Struct)("S", (Struct,), {"__annotations__": {"a": Int}}, **options)
    with pytest.raises(TypeError, match="declares no fields"):
        type(Struct)("S", (Struct,), {}, align=8)


def test_opaque_members_are_bytes_with_an_alignment() -> None:
    class Node(Struct):
        key: Int
        next: Opaque[8, 8, "struct node *"]  # noqa: F722 - no annotation, but a type of C
        pid: PidT

    assert [field.offset for field in Node.fields] == [0, 8, 16]
    assert Node(1, b"\1", 3).next == b"\1" + bytes(7)


def test_two_fields_of_one_name_are_refused() -> None:
    fields = {"i": Int, "_u": Anonymous[Number]}
    with pytest.raises(InvalidArgument, match="two fields named 'i'"):
        type("S", (Struct,), {"__annotations__": fields})


# -- flexible array members ------------------------------------------------------------------------


class Samples(Struct):
    sensor: UShort
    values: Array[Int, ...]


class Note(Struct):
    kind: Int
    text: Char[...]


def test_a_flexible_array_is_the_rest_of_the_memory() -> None:
    samples = Samples(7, [1, 2, 3])
    assert (Samples.size, len(bytes(samples))) == (4, 16)
    assert samples.values.tolist() == [1, 2, 3]
    samples.values[1] = 9
    assert Samples.from_bytes(bytes(samples)) == samples == samples.copy()
    assert pickle.loads(pickle.dumps(samples)) == samples  # noqa: S301
    assert len(Samples.from_bytes(bytes(19)).values) == 3  # the last 3 bytes are no item
    assert Samples(1, []).values.size == 0
    assert Samples.zeroed(5).values.size == 5
    assert Note(1, "hello").text == "hello"
    assert bytes(Note(1, "hello")) == struct.pack("i5s", 1, b"hello")
    with pytest.raises(LayoutMismatch, match="at least 4 bytes"):
        Samples.from_bytes(b"123")
    with pytest.raises(InvalidArgument):
        samples.values = [1, 2]
    with pytest.raises(InvalidArgument):
        Samples.zeroed(-1)
    with pytest.raises(InvalidArgument):
        Number.zeroed(1)
    view = Samples.from_buffer(bytearray(40), 8)
    assert view.values.size == 7


def test_a_struct_that_ends_with_a_flexible_one_is_flexible() -> None:
    class Envelope(Struct):
        to: Int
        samples: Samples

    envelope = Envelope(3, Samples(7, [1, 2, 3]))
    assert len(bytes(envelope)) == 20
    assert envelope.samples.values.tolist() == [1, 2, 3]
    assert Envelope.from_bytes(bytes(envelope)) == envelope
    with pytest.raises(TypeError, match="takes a record of 16 bytes"):
        envelope.samples = Samples(1, [1])
    with pytest.raises(InvalidArgument, match="last member"):
        type("S", (Struct,), {"__annotations__": {"a": Samples, "b": Int}})
    with pytest.raises(TypeError, match="flexible"):
        Array[Samples, 2]


def test_flexible_structs_in_queues_channels_and_memory(tmp_path: Path) -> None:
    many = [Samples(1, []), Samples(2, [5]), Samples(3, list(range(100)))]
    with Channel.create(None, Samples) as channel:
        channel.send_many(many)
        assert channel.receive_many() == many
        channel.send(many[2])
        with channel.receive_view() as view:
            assert Samples.from_buffer(view.buf) == many[2]
    with SysVMessageQueue.create(type=Samples) as queue:
        for each in many:
            queue.send(each)
        assert [queue.receive().value for _ in many] == many
    with PosixMessageQueue.create(None, Samples) as posix:
        for each in many:
            posix.send(each)
        assert [posix.receive().value for _ in many] == many
    with MappedFile.create(tmp_path / "samples", 64) as memory:
        assert memory.view(Samples).values.size == 15
        with pytest.raises(TypeError, match="no fixed size"):
            memory.shared(Samples)
    with pytest.raises(TypeError, match="no fixed size"):
        SharedStruct.bytes_for(Samples)


def test_old_fingerprints_stay() -> None:
    class Stu(Struct):
        name: Char[32]
        age: Int
        marks: Array[Long, 2]

    assert Stu.fingerprint == "7c111c13cec0771d"


def test_annotations_in_quotes_are_read_in_a_module_of_text_annotations() -> None:
    class Quoted(Struct):
        number: "Bits[UInt, 3]"  # noqa: UP037
        name: "Char[4]"  # noqa: UP037

    assert [field.name for field in Quoted.fields] == ["number", "name"]


def test_an_array_takes_its_own_items_in_another_order() -> None:
    class Cell(Struct):
        x: Int

    class Row(Struct):
        cells: Array[Cell, 3]

    row = Row([Cell(1), Cell(2), Cell(3)])
    row.cells = row.cells[::-1]
    assert [cell.x for cell in row.cells] == [3, 2, 1]


def test_a_nested_flexible_struct_can_be_shorter_than_its_fixed_part() -> None:
    class Inner(Struct):
        number: Int
        tag: Char[1]
        text: Char[...]

    class Outer(Struct):
        key: Int
        inner: Inner

    assert (Inner.size, Outer.size) == (8, 12)
    outer = Outer(5, Inner(1, "a", ""))
    assert (len(bytes(outer)), outer.inner.text) == (9, "")
    longer = Outer(5, Inner(1, "a", "hello"))
    assert Outer.from_bytes(bytes(longer)).inner.text == "hello"
    assert Outer.dtype.itemsize == 12


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Samples(1, 5), "field 'values' takes a value with a length, not int"),
        (
            lambda: Samples(1, iter([1])),
            "field 'values' takes a value with a length, not list_iter",
        ),
        (lambda: Samples(1, [1.5]), "field 'values' takes int32 values, not float64"),
        (lambda: Note(1, 5), "field 'text' takes a value with a length, not int"),
        (lambda: Note(1, b"x"), "field 'text' takes a str, not bytes"),
        (lambda: Samples(1), "Samples needs a value for field 'values'"),
    ],
)
def test_a_flexible_array_names_itself_in_errors(make: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        make()
