"""Bytes on the command line: hexdumps, and structs to and from JSON."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipckit import (
    Anonymous,
    Array,
    Bits,
    Bytes,
    Char,
    Double,
    Float,
    Int,
    InvalidArgument,
    Short,
    Struct,
    Union,
)
from ipckit._cli.hexdump import hexdump
from ipckit._cli.payload import (
    decoded,
    json_line,
    line_of,
    message_fields,
    plain,
    struct_from_json,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class Point(Struct):
    x: Int
    y: Array[Array[Double, 2], 2]


class Everything(Struct):
    a: Short
    raw: Bytes[3]
    points: Array[Point, 2]
    names: Array[Char[4], 2]
    size: Int  # also the name of what the class has


def od(data: bytes) -> list[str]:
    """What od says of the bytes, in our format."""
    done = subprocess.run(
        ["od", "-A", "x", "-t", "x1z"], input=data, capture_output=True, check=True
    )
    lines = []
    for line in done.stdout.decode().splitlines():
        offset, _, rest = line.partition(" ")
        if offset == "*" or not rest:
            lines.append(offset if offset == "*" else f"{int(offset, 16):08x}")
            continue
        digits, _, text = rest.rpartition("  >")
        row = digits.split()
        left, right = " ".join(row[:8]), " ".join(row[8:])
        lines.append(f"{int(offset, 16):08x}  {left:<23}  {right:<23}  |{text.removesuffix('<')}|")
    return lines if data else []


@pytest.mark.parametrize("cuts", [[], [1], [5, 16, 40], [32, 48]])
def test_a_hexdump_equals_that_of_od_for_pieces_of_any_length(cuts: Sequence[int]) -> None:
    data = b"amy\0" + bytes(70) + bytes(range(256)) + b"\x07" * 64 + b"end"
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert list(hexdump(pieces)) == od(data)


@given(st.lists(st.sampled_from([b"", b"\0" * 16, b"\0" * 48, b"a", b"b" * 16, b"b" * 7])))
def test_a_hexdump_without_collapse_has_every_row(pieces: list[bytes]) -> None:
    lines = list(hexdump(pieces, collapse=False))
    shown = bytes.fromhex("".join(line[10:58] for line in lines[:-1]))
    assert shown == b"".join(pieces)


@given(st.lists(st.sampled_from([b"\0" * 16, b"\0" * 48, b"a" * 16, b"b" * 32])))
def test_collapsed_rows_do_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    assert list(hexdump(pieces)) == list(hexdump([b"".join(pieces)]))


def test_a_hexdump_counts_from_its_start_offset() -> None:
    assert list(hexdump([b"a"], start=4096)) == [
        "00001000  61                                                |a|",
        "00001001",
    ]


def everything() -> Everything:
    points = [Point(1, [[1.5, 2], [3, 4]]), Point(-2, [[0, 0], [0, 1e300]])]
    return Everything(7, b"\x01\xff\0", points, ["é", "abcd"], 9)


def test_a_struct_round_trips_through_json() -> None:
    value = everything()
    text = json.dumps(plain(value))
    assert struct_from_json(Everything, text) == value
    assert json.loads(text)["raw"] == "01ff00"


def test_a_struct_can_be_an_array_of_its_fields() -> None:
    text = '[7, "01ff00", [[1, [[1.5, 2], [3, 4]]], {"x": -2, "y": [[0, 0], [0, 1e300]]}], '
    assert struct_from_json(Everything, text + '["é", "abcd"], 9]') == everything()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("3", "object or array"),
        ("[1, 2, 3]", "has 2 fields, not 3"),
        ('{"x": 1}', "needs a value for field 'y'"),
        ('{"x": 1, "z": 2}', "no field 'z'; its fields are x, y"),
        ('{"x": "a", "y": [[1, 2], [3, 4]]}', "takes an int"),
        ('{"x": 9999999999, "y": [[1, 2], [3, 4]]}', "'x'"),
        ('{"x": 1, "y": [1, 2]}', "shape"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_json_that_does_not_fit_the_struct_is_an_error(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        struct_from_json(Point, text)
    assert why in str(caught.value)


class Number(Union):
    i: Int
    f: Float


class Mixed(Struct):
    _number: Anonymous[Number]
    named: Number
    bits: Bits[Int, 5]
    points: Array[Point, ...]


def test_unions_bit_fields_and_flexible_arrays_round_trip_through_json() -> None:
    points = [Point(1, [[1.5, 2], [3, 4]]), Point(-2, [[0, 0], [0, 1e300]])]
    mixed = Mixed(f=2.5, named=Number(i=7), bits=-3, points=points)  # type: ignore[call-arg]
    shown = plain(mixed)
    assert shown["i"] == 0x40200000
    assert struct_from_json(Mixed, json.dumps(shown)) == mixed
    assert struct_from_json(Mixed, json.dumps({**shown, "points": []})).points == []  # type: ignore[attr-defined]
    in_order = [shown["i"], [7], -3, shown["points"]]
    assert struct_from_json(Mixed, json.dumps(in_order)) == mixed
    with pytest.raises(InvalidArgument, match=r"Mixed\.f shares its bytes with another member"):
        struct_from_json(Mixed, json.dumps({**shown, "f": 3.0}))


def test_bytes_are_hexadecimal_digits() -> None:
    value = plain(everything())
    with pytest.raises(InvalidArgument, match="hexadecimal"):
        struct_from_json(Everything, json.dumps({**value, "raw": "xyz"}))
    with pytest.raises(InvalidArgument, match="2 items, not 1"):
        struct_from_json(Everything, json.dumps({**value, "names": ["a"]}))


def test_bytes_that_do_not_fit_the_struct_are_shown_in_hex() -> None:
    value, why = decoded(Point, b"short")
    assert value is None
    assert "40 bytes" in why
    fields, why = message_fields(b"short\xff", Point)
    assert fields == {"size": 6, "hex": "73686f7274ff", "text": None}
    assert why


def test_text_that_is_not_utf8_round_trips_through_json() -> None:
    value = everything()
    at = next(field.offset for field in Everything.fields if field.name == "names")
    memoryview(value).cast("B")[at] = 0xFF
    line = json_line(plain(value)).decode()
    assert "\\udcff" in line
    assert struct_from_json(Everything, line) == value


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"plain\0\0", "plain"),
        ("wört".encode(), "wört"),
        (b"a\x1b[31m\nb", "a\\x1b[31m\\nb"),
        ("a\u202eb".encode(), "a\\u202eb"),
        (b"\xff\xfea", "..a"),
    ],
)
def test_a_printed_line_has_no_terminal_control_characters(data: bytes, line: str) -> None:
    assert line_of(data) == line
