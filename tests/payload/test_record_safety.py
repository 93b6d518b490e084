"""Garbage for the C types: whatever happens is an exception, and the process goes on."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipckit._native import Field, Layout, Record, record_from_buffer, record_from_bytes
from ipckit.structs import Array, Bytes, Char, Int, Struct

HUGE = [-1, sys.maxsize, -sys.maxsize - 1, 1 << 64, -(1 << 64), sys.maxsize // 4 + 1]


class Pair(Struct):
    a: Int
    b: Char[4]


class Wide(Struct):
    a: Int
    text: Char[400]
    pairs: Array[Pair, 3]
    numbers: Array[Int, 4]


@pytest.mark.parametrize("size", [*HUGE, "4", None, 4.0])
def test_layout_refuses_bad_sizes(size: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        Layout(size, (), {})


@pytest.mark.parametrize("number", [*HUGE, "4", None, 4.0])
@pytest.mark.parametrize("code", ["i", "c", "s", "o"])
def test_field_refuses_bad_places(code: str, number: Any) -> None:
    for offset, size in ((number, 4), (0, number)):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            Field("a", code, offset, size)


@pytest.mark.parametrize(
    "args",
    [
        ("a", "i", 0, 3),
        ("a", "f", 0, 2),
        ("a", "?", 0, 2),
        ("a", "x", 0, 4),
        ("a", "\0", 0, 4),
        ("a", "\U0010ffff", 0, 4),
        ("a", "r", 0, 4),
        ("a", "r", 0, 4, False, int),
        ("a", "r", 0, 4, False, Struct),
        ("a", "r", 0, 4, False, Pair),
        (b"a", "i", 0, 4),
        ("a", "ii", 0, 4),
        ("a",),
    ],
)
def test_field_refuses_what_no_field_is(args: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Field(*args)


def test_layout_refuses_fields_that_reach_out_of_it() -> None:
    with pytest.raises(ValueError, match="reaches beyond"):
        Layout(4, (Field("a", "i", 1, 4),), {})
    for fields in ((1,), [Field("a", "i", 0, 4)], ("a",)):
        with pytest.raises(TypeError):
            Layout(4, fields, {})  # type: ignore[arg-type]
    for modes in (b"1", "", [0]):
        with pytest.raises(TypeError, match="modes"):
            Layout(4, (), {}, modes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a mode is"):
        Layout(4, (Field("a", "i", 0, 4),), {}, b"\x03")
    for size, minimum in ((4, 5), (4, -2), (-1, -1)):
        with pytest.raises(ValueError, match="out of range"):
            Layout(size, (), {}, None, lambda *_: 0, minimum)
    with pytest.raises(ValueError, match="reaches beyond"):
        Layout(4, (Field("a", "i", 0, 4),), {}, None, lambda *_: 4, 2)


@pytest.mark.parametrize(
    ("code", "size", "first_bit", "width"),
    [
        ("f", 4, 0, 3),
        ("i", 4, 0, 3),
        ("i", 1, 8, 1),
        ("i", 1, -1, 1),
        ("u", 9, 1, 65),
        ("u", 1, 0, -1),
    ],
)
def test_a_field_refuses_bits_that_are_not_in_its_bytes(
    code: str, size: int, first_bit: int, width: int
) -> None:
    with pytest.raises(ValueError, match="invalid code"):
        Field("a", code, 0, size, False, None, first_bit, width)  # noqa: FBT003


@pytest.mark.parametrize("target", [None, 1, "x", object(), Pair, bytearray(100)])
def test_a_field_serves_records_alone(target: Any) -> None:
    field = Pair.__dict__["a"]
    if target is not None:
        with pytest.raises(TypeError):
            field.__get__(target)
    with pytest.raises(TypeError):
        field.__set__(target, 1)
    with pytest.raises(TypeError):
        field.__delete__(target)


def test_a_field_of_a_larger_struct_does_not_reach_beyond_a_smaller_one() -> None:
    pair = Pair(1, "x")
    for name in ("text", "pairs", "numbers"):
        field = Wide.__dict__[name]
        with pytest.raises(TypeError, match="a field of another struct"):
            field.__get__(pair)
        with pytest.raises(TypeError, match="a field of another struct"):
            field.__set__(pair, "x")


def test_records_need_a_layout_that_is_one() -> None:
    class Bare(Record):
        pass

    class Fake(Record):
        __layout__ = 5

    class Raising(type):
        @property
        def __layout__(cls) -> object:
            raise KeyError

    class Angry(Record, metaclass=Raising):
        pass

    for kind in (Record, Bare, Fake, Struct):
        for make in (
            kind,
            lambda kind=kind: kind.__new__(kind),
            lambda kind=kind: record_from_bytes(kind, b""),
            lambda kind=kind: record_from_buffer(kind, b""),
        ):
            with pytest.raises(TypeError, match="has no fields"):
                make()  # type: ignore[no-untyped-call]
    with pytest.raises(KeyError):
        Angry()
    with pytest.raises(TypeError):
        Record.__new__(int)  # type: ignore[type-var]


@pytest.mark.parametrize("cls", [int, None, 5, object, "Pair"])
def test_only_records_are_made(cls: Any) -> None:
    with pytest.raises(TypeError):
        record_from_bytes(cls, bytes(8))
    with pytest.raises(TypeError):
        record_from_buffer(cls, bytes(8))


def test_a_subclass_with_a_dict_keeps_its_bytes_apart() -> None:
    class Loose(Record):
        __layout__ = Layout(9, (Field("a", "u", 0, 8), Field("b", "u", 8, 1)), {})

    records: list[Any] = [Loose(2**64 - 1, 255) for _ in range(50)]
    for i, record in enumerate(records):
        record.anything = i
    gc.collect()
    assert [record.anything for record in records] == list(range(50))
    assert all(bytes(record) == b"\xff" * 9 for record in records)


def test_a_layout_that_changes_does_not_move_those_who_had_it() -> None:
    class Loose(Record):
        __layout__ = Layout(8, (Field("a", "u", 0, 8),), {})
        a = Field("a", "u", 0, 8)

    class Holder(Record):
        __layout__ = Layout(8, (Field("in_", "r", 0, 8, type=Loose),), {})
        in_ = Field("in_", "r", 0, 8, type=Loose)

    old, holder = Loose(1), Holder(Loose(2))
    Loose.__layout__ = Layout(1 << 20, (), {})
    assert (old.a, bytes(old)) == (1, (1).to_bytes(8, sys.byteorder))
    with pytest.raises(ValueError, match="needs 1048576 bytes"):
        _ = holder.in_
    with pytest.raises(TypeError, match="takes a record of 8 bytes"):
        holder.in_ = Loose()
    del Loose.__layout__
    with pytest.raises(TypeError, match="no fields"):
        _ = holder.in_
    assert old.a == 1


def test_values_that_act_while_they_are_set() -> None:
    memory = bytearray(8)
    view = Pair.from_buffer(memory)

    class Evil:
        def __index__(self) -> int:
            with pytest.raises(BufferError):
                memory.extend(bytes(1000))
            view.__init__(1, "x")  # type: ignore[misc]
            gc.collect()
            return 7

    class Bad:
        def __index__(self) -> int:
            raise KeyError

    class Wrong:
        def __index__(self) -> Any:
            return "x"  # noqa: PLE0305 - on purpose

    view.a = Evil()  # type: ignore[assignment]
    assert (view.a, view.b) == (7, "x")
    with pytest.raises(KeyError):
        view.a = Bad()  # type: ignore[assignment]
    with pytest.raises(TypeError):
        view.a = Wrong()  # type: ignore[assignment]
    assert view.a == 7


def test_init_may_be_called_again_and_left_out() -> None:
    pair = Pair.__new__(Pair)
    assert (pair.a, pair.b) == (0, "")
    pair.__init__(1, "x")  # type: ignore[misc]
    with pytest.raises(TypeError):
        pair.__init__()  # type: ignore[misc]
    with pytest.raises(TypeError):
        Pair.__init__(object(), 1, "x")  # type: ignore[arg-type]
    assert (pair.a, pair.b) == (1, "x")


def test_copying_into_itself_overlaps_safely() -> None:
    memory = bytearray(range(12))

    class Holder(Struct):
        pair: Pair
        raw: Bytes[4]

    holder = Holder.from_buffer(memory)
    holder.pair = Pair.from_buffer(memory, 4)
    assert memory == bytes([4, 5, 6, 7, 8, 9, 10, 11, 8, 9, 10, 11])
    holder.raw = memoryview(holder)[6:10]  # type: ignore[assignment]
    assert memory[8:] == bytes([10, 11, 8, 9])


def test_released_views_and_dead_exporters() -> None:
    memory = memoryview(bytearray(8))
    view = Pair.from_buffer(memory)
    with pytest.raises(BufferError):
        memory.release()
    exported = memoryview(view)
    del memory, view
    gc.collect()
    exported[0] = 5
    assert exported[0] == 5
    released = memoryview(bytes(8))
    released.release()
    with pytest.raises(ValueError, match="released"):
        Pair.from_buffer(released)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers(), max_size=5),
    st.just(Pair(1, "x")),
)


@given(st.lists(ANYTHING, max_size=5), st.dictionaries(st.text(max_size=4), ANYTHING, max_size=2))
def test_any_arguments_give_a_record_or_an_exception(args: list[Any], more: dict[str, Any]) -> None:
    for kind in (Pair, Wide):
        try:
            made = kind(*args, **more)
        except (TypeError, ValueError):
            continue
        assert type(made)(*(getattr(made, name) for name in made.__match_args__)) == made


@given(st.binary(min_size=Wide.size, max_size=Wide.size))
def test_any_bytes_can_be_read(data: bytes) -> None:
    record = Wide.from_bytes(data)
    assert repr(record)
    assert record.asdict()["a"] == record.a
    assert record == record.copy()


def test_addresses_and_hidden_elements_are_not_taken_as_bytes() -> None:
    class Plain(Struct):
        data: Bytes[16]

    objects = np.array([object(), object()])
    masked = np.ma.array([1.0, -9999.0], mask=[0, 1])
    for wrong in (memoryview(objects), objects, masked):
        with pytest.raises(TypeError):
            Plain.from_bytes(wrong)
        with pytest.raises(TypeError):
            Plain(wrong)  # type: ignore[arg-type]
