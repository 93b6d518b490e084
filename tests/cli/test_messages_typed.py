"""``ipckit peek``, ``send`` and ``recv`` of channels and topics, run in this process."""

from __future__ import annotations

import ctypes
import enum
import json
import os
import re
import signal
import struct
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from ipckit import (
    Array,
    Bits,
    Bytes,
    Channel,
    Char,
    Double,
    Int,
    InvalidArgument,
    MemFd,
    PidT,
    Struct,
    SysVMessageQueue,
    Topic,
    UInt,
    UInt8,
    Union,
)
from ipckit._cli import receive
from ipckit._cli.arrays import array_from, plain_array
from ipckit._cli.interrupts import Interrupts
from ipckit._cli.output import json_of
from ipckit._core.files import SHM
from ipckit.codec import RawCodec, codec_for
from ipckit.structs import StructType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from command_line import Done

    from ipckit.testing import Child, Namespace

SMALL: Any = {"capacity": 8, "size": 1 << 16}


class Colour(enum.IntEnum):
    RED = 1
    BLUE = -2


class Stu(Struct):
    name: Char[32]
    age: Int


class Number(Union):
    whole: Int
    real: Double


class Packed(Struct, packed=2):
    flag: UInt8
    point: Double
    raw: Bytes[3]


class Big(Struct, endian="big"):
    pid: PidT
    grid: Array[Array[Int, 2], 2]


class Nested(Struct):
    colour: Colour
    stu: Stu
    number: Number
    names: Array[Char[4], 2]


class Swapped(Struct, endian="big"):
    low: Bits[UInt, 3]  # C has no such bit-fields


class Long(Struct):
    stu: Stu
    number_with_a_name_of_many_letters_1: Int
    number_with_a_name_of_many_letters_2: Int
    number_with_a_name_of_many_letters_3: Int
    number_with_a_name_of_many_letters_4: Int
    number_with_a_name_of_many_letters_5: Int
    number_with_a_name_of_many_letters_6: Int
    number_with_a_name_of_many_letters_7: Int
    number_with_a_name_of_many_letters_8: Int


class Tail(Struct):
    count: Int
    rest: Array[Int, ...]


class Pair(msgspec.Struct):
    first: int
    second: list[str]
    raw: bytes = b""


class Old(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int)]


HERE = __name__

RECORDS = np.dtype([("a", "<i4"), ("b", "S3"), ("c", "<f4", (2,))])
NESTED = np.dtype([("t", "<M8[ms]"), ("d", "<m8[s]"), ("r", [("z", "<c8"), ("v", "V2")], (2,))])
TYPES: list[tuple[Any, list[Any]]] = [
    (bytes, [b"hello", b"", b"\0\xff\x1b[2J\n"]),
    (str, ["amy", "", "two\nlines \x1b[31mr\0"]),
    (Stu, [Stu("amy", 20), Stu("\udcff", 3)]),
    (Packed, [Packed(255, -1e300, b"\0\0\0")]),
    (Big, [Big(1, [[1, 2], [3, -4]])]),
    (Nested, [Nested(Colour.BLUE, Stu("b\x1böb", 3), Number.from_bytes(bytes(8)), ["ab", "cdef"])]),
    (Tail, [Tail(1, [1, 2, 3]), Tail(0, [])]),
    (np.dtype("f4"), [np.array([0.1, -1e30, np.inf], "f4"), np.zeros(0, "f4")]),
    (np.dtype(">i8"), [np.array([2**63 - 1, -(2**63)], ">i8")]),
    (np.dtype("?"), [np.array([True, False])]),
    (np.dtype("U3"), [np.array(["añ", "\U0001f600"], "U3")]),
    (np.dtype((np.uint8, (2, 3, 2))), [np.arange(12, dtype="u1").reshape(2, 3, 2)]),
    (RECORDS, [np.array([(1, b"x", (1, 2)), (2, b"abc", (0.1, 4))], RECORDS)]),
    (NESTED, [np.array([("2020-01-01T00:00:00.123", 5, [(1 + 2j, b"ab"), (3, b"cd")])], NESTED)]),
]
IDS = [getattr(each, "__name__", str(each)) for each, _ in TYPES]


def names(payload: Any, values: Any) -> list[bytes]:
    """The bytes of messages, to compare arrays with NaN and Structs with padding too."""
    codec = codec_for(payload)
    return [bytes(codec.encode(each)) for each in values]


@pytest.mark.parametrize(("payload", "values"), TYPES, ids=IDS)
def test_messages_of_each_type_go_out_and_in_again(
    run: Callable[..., Done], ns: Namespace, payload: Any, values: list[Any]
) -> None:
    name, bits = ns.name().removeprefix("/"), names(payload, values)
    size = 1 << 16 if codec_for(payload).size is None else None
    with (
        Channel.create(name, payload, capacity=8, size=size) as channel,
        Topic.create(name, payload, capacity=8, history=8, size=size) as topic,
        topic.subscribe() as messages,
    ):
        channel.send_many(values)
        peeked = run("peek", f"channel:{name}", "--json")
        taken = run("recv", f"channel:{name}", "--all", "--json")
        assert (taken.status, taken.err, len(channel)) == (0, "", 0)
        assert peeked.records == [
            {"index": index, "returned": 0, **each} for index, each in enumerate(taken.records)
        ]
        assert [each["size"] for each in taken.records] == [len(each) for each in bits]
        # Records of recv, as lines of standard input.
        assert run("send", f"topic:{name}", "--json", text=taken.out) == (0, b"", "")
        assert names(payload, [messages.receive(timeout=0) for _ in bits]) == bits
        # Values, as arguments.
        plain = [each.get("value", each.get("text")) for each in taken.records]
        if payload is not bytes:
            words = plain if payload is str else [json.dumps(each) for each in plain]
            assert run("send", f"channel:{name}", "--", *words) == (0, b"", "")
            assert names(payload, [channel.receive(timeout=0) for _ in bits]) == bits
        # Hexadecimal digits.
        shown = run("recv", f"topic:{name}", "-n", len(bits), "--hex")
        assert shown.out.split() == [each.hex().encode() for each in bits if each]
        assert run("send", f"channel:{name}", "--hex", text=shown.out) == (0, b"", "")
        assert run("recv", f"channel:{name}", "--all", "--raw").out == b"".join(bits)
    if isinstance(payload, type) and issubclass(payload, Struct):
        named = ("--struct", f"{HERE}:{payload.__name__}", "--json")
        with SysVMessageQueue.create(ns.key()) as queue:
            assert run("send", f"q:{queue.id}", *named, text=taken.out) == (0, b"", "")
            again = run("recv", f"q:{queue.id}", "--all", *named)
        assert again.records == [{"mtype": 1, **each} for each in taken.records]


def test_a_number_keeps_its_precision_in_json() -> None:
    third = np.array([np.longdouble(1) / 3, np.longdouble("inf")])
    assert array_from(plain_array(third), third.dtype).tolist() == third.tolist()
    for kind in ("f2", "f4", "f8", "c8"):
        data = np.random.default_rng(1).integers(0, 256, 4000, np.uint8).tobytes()
        values = np.frombuffer(data, kind)
        again = array_from(json.loads(json_of(plain_array(values))), values.dtype)
        with np.errstate(invalid="ignore"):  # numpy 2.5 warns of signalling NaNs
            assert np.array_equal(again, values, equal_nan=True)
    assert plain_array(np.array([0.1], "f4")) == [0.1]


PAIRS = [("a", "i4"), ("b", "i4")]
UNFIT: list[tuple[Any, Any, str]] = [
    (3, "i4", "expected a list of int32, not 3"),
    ([1.5], "i4", "1.5 is not a value of int32"),
    ([True], "i4", "True is not a value of int32"),
    ([300], "u1", "300 is out of range for uint8: 0 to 255"),
    ([1], "?", "1 is not a value of bool"),
    (["x"], "f4", "'x' is not a value of float32"),
    ([1e39], "f4", "out of its range"),
    ([10**400], "f8", "out of its range"),
    ([[1, 2, 3]], "c8", "is not a value of complex64"),
    (["zz"], "S3", "hexadecimal digits"),
    (["aabbccdd"], "S3", "expected 3 bytes for |S3, not 4"),
    (["aa"], "V3", "expected 3 bytes for |V3, not 1"),
    (["abcd"], "U3", "'abcd' is not a value of <U3"),
    (["x"], "M8[s]", "do not fit datetime64[s]"),
    ([1], "M8[s]", "1 is not a value of datetime64[s]"),
    ([{"a": 1}], PAIRS, "a record of a, b needs a field 'b'"),
    ([{"a": 1, "b": 2, "c": 3}], PAIRS, "a record of a, b has no field 'c'"),
    ([[1]], PAIRS, "expected an object of a, b, not [1]"),
    ([[1, 2]], ("i4", (2, 2)), "expected 2 of int32 of shape (2,), not 1"),
    ([[1, 2], [1]], ("i4", (2, 2)), "expected 2 of int32, not 1"),
]


@pytest.mark.parametrize(("value", "kind", "why"), UNFIT)
def test_values_that_do_not_fit_a_dtype_are_refused(value: Any, kind: Any, why: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(why)):
        array_from(value, np.dtype(kind))


# -- types that the header does not have, or that the user names -----------------------------------


@pytest.fixture
def channel_of(ns: Namespace) -> Iterator[Callable[..., Channel[Any]]]:
    """Create channels that are removed at the end."""
    with ExitStack() as stack:

        def create(payload: Any, *values: Any, capacity: int = 8) -> Channel[Any]:
            name = ns.name().removeprefix("/")
            size = 1 << 16 if codec_for(payload).size is None else None
            made: Channel[Any] = Channel.create(name, payload, capacity=capacity, size=size)
            stack.enter_context(made)
            made.send_many(values)
            return made

        yield create


def opened(channel: Channel[Any], payload: Any) -> Channel[Any]:
    found: Channel[Any] = Channel.open(str(channel.name), payload)
    return found


def address(channel: Channel[Any] | Topic[Any]) -> str:
    return f"{channel._kind.word}:{str(channel.name)[1:]}"


UNKNOWN = [
    (Old, Old(7), "the header does not say enough about the type of the messages: 'Old(x: c_int)"),
    (Swapped, Swapped(1), "which does not say everything about it: 'typedef struct __attribute__"),
    (Long, Long(Stu("a", 1), *range(1, 9)), "has only the beginning of it: 'typedef struct Stu"),
]


@pytest.mark.parametrize(("payload", "value", "why"), UNKNOWN)
def test_messages_of_an_unknown_type_are_not_taken_unless_as_bytes(
    run: Callable[..., Done],
    channel_of: Callable[..., Channel[Any]],
    payload: Any,
    value: Any,
    why: str,
) -> None:
    channel, data = channel_of(payload, value, value), bytes(value)
    name = address(channel)
    shown = run("peek", name, "-n", 1)
    assert (shown.status, shown.out.count(b"message")) == (0, 1)
    assert b"  00000000  " in shown.out
    for done in (shown, run("recv", name), run("send", name, "[1]")):
        assert why in done.err
        assert done.err.count("\n") == 1
    assert (run("recv", name).status, run("send", name, "[1]").status) == (2, 2)
    assert len(channel) == 2
    taken = run("recv", name, "--json")
    assert (taken.status, taken.records[0]["hex"]) == (0, data.hex())
    assert run("recv", name, "--hex").out == data.hex().encode() + b"\n"
    assert run("send", name, "--json", text=taken.out).status == 0
    assert run("send", name, "--raw", text=data).status == 0
    size = f"each message has {len(data)} bytes, not {len(data) - 1}"
    assert size in run("send", name, "--raw", text=data[1:]).err
    assert [bytes(channel.receive(timeout=0)) for _ in range(2)] == [data, data]
    if issubclass(payload, Struct):
        named = ("--struct", f"{HERE}:{payload.__name__}")
        sent = json.dumps(Struct.asdict(value))
        assert run("send", name, *named, sent).status == 0
        taken = run("recv", name, *named, "--json")
        assert taken.records == [{"size": len(data), "value": json.loads(sent)}]


def test_msgpack_is_shown_without_its_class_and_made_with_it(
    run: Callable[..., Done], channel_of: Callable[..., Channel[Any]]
) -> None:
    pair = Pair(1, ["x", "y"], b"\0")
    channel = channel_of(Pair, pair, pair, pair)
    name, named = address(channel), ("--struct", f"{HERE}:Pair")
    plain = {"first": 1, "second": ["x", "y"], "raw": "AA=="}
    assert json.loads(run("recv", name).out) == plain
    assert run("recv", name, *named).out == repr(pair).encode() + b"\n"
    taken = run("recv", name, "--json")
    assert taken.records[0]["value"] == plain
    refused = run("send", name, "--json", text=taken.out)
    assert (refused.status, len(channel)) == (2, 0)
    assert "line 1: the header does not have the whole type; name the class by" in refused.err
    assert run("send", name, *named, "--json", text=taken.out).status == 0
    assert channel.receive(timeout=0) == pair
    assert "Expected `int`" in run("send", name, *named, '{"first": "x", "second": []}').err
    assert "is not a Struct class" in run("dump", name, *named).err
    with opened(channel, RawCodec()) as raw:
        raw.send(b"\xc1")
    assert run("recv", name).out == b"c1\n"


def test_a_missing_package_is_named(
    run: Callable[..., Done], channel_of: Callable[..., Channel[Any]], monkeypatch: Any
) -> None:
    def absent(*_: Any, **__: Any) -> Any:
        raise ImportError

    stus, pairs = channel_of(Stu, Stu("amy", 20)), channel_of(Pair, Pair(1, []))
    monkeypatch.setattr(StructType, "from_c", absent)
    monkeypatch.setitem(sys.modules, "msgspec", None)
    for channel, package in ((stus, "libclang"), (pairs, "msgspec")):
        done = run("recv", address(channel))
        assert (done.status, f"pip install {package}" in done.err) == (2, True)
        assert run("peek", address(channel)).out.startswith(b"message 0  ")
    assert run("recv", address(stus), "--struct", f"{HERE}:Stu").out.startswith(b"Stu(name='amy'")


def test_a_type_that_the_user_names_is_compared_with_that_of_the_messages(
    run: Callable[..., Done], channel_of: Callable[..., Channel[Any]]
) -> None:
    channel = channel_of(Stu, Stu("amy", 20))
    name = address(channel)
    c_text = "typedef struct Stu { char name[32]; int age; } Stu;"
    for words in (
        ("peek", name, "--struct", f"{HERE}:Number"),
        ("recv", name, "--struct", f"{HERE}:Pair"),
        ("recv", name, "--c", c_text.replace("int", "unsigned")),
        ("send", name, "--struct", f"{HERE}:RECORDS", "[]"),
    ):
        done = run(*words)
        assert (done.status, len(channel)) == (1, 1)
        assert f"{name}: the messages are {c_text}, and you named " in done.err
    assert run("recv", name, "--c", c_text).out == b"Stu(name='amy', age=20)\n"
    rows = channel_of(RECORDS)
    records = run("send", address(rows), "--struct", f"{HERE}:RECORDS", '[[1, "6162", [1, 2]]]')
    assert (records.status, rows.receive(timeout=0)["b"][0]) == (0, b"ab")


def test_bytes_that_are_not_of_the_type_are_shown_in_hex_and_not_lost(
    run: Callable[..., Done], channel_of: Callable[..., Channel[Any]]
) -> None:
    words, numbers = channel_of(str), channel_of(np.dtype("i4"))
    for channel, bad in ((words, b"\xff\xfe"), (numbers, b"\0\1\2")):
        with opened(channel, RawCodec()) as raw:
            raw.send_many([bad, b"good"])
        shown = run("peek", address(channel), "-n", 1)
        assert (shown.status, bad.hex(" ").encode() in shown.out) == (1, True)
        assert shown.err.startswith("ipckit: message 0: expected ")
        taken = run("recv", address(channel))
        assert (taken.status, taken.out) == (1, bad.hex().encode() + b"\n")
        assert run("send", address(channel), "--hex", bad.hex()).status == 2
    assert words.receive(timeout=0) == "good"


HOSTILE = [
    b'#include "/etc/passwd" typedef struct A { int a; } A;',
    b"#include </etc/passwd> typedef struct A { int a; } A;",
    b"%:include <stdio.h> typedef struct A { int a; } A;",
    b"typedef struct A { int a[0x7fffffff][0x7fffffff]; } A;",
    b'typedef struct A { char a[sizeof("x")]; } A;',
    b"typedef " + b"(" * 370,
    b"array of " + b"(" * 370,
    b"array of [('a', 'O')]",
    b"array of ('f8', (99999999, 99999999, 99999999, 99999999))",
    b"\x1b[2J \xff\n" * 20,
    b"bytes",
    b"",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_the_header_is_not_trusted(
    run: Callable[..., Done], channel_of: Callable[..., Channel[Any]], text: bytes
) -> None:
    channel = channel_of(Old, Old(7))
    os.pwrite(channel.memory_fd, text.ljust(384, b"\0"), 640)
    shown = run("peek", address(channel))
    assert (shown.status, shown.out.count(b"\n")) == (0, 2)
    assert shown.err.count("\n") == 1
    assert shown.err[:-1].isprintable()
    assert run("recv", address(channel)).status == 2


# -- what a person sees ----------------------------------------------------------------------------


class Many(Struct):
    name: Char[8]
    numbers: Array[Int, 300]
    raw: Bytes[200]
    stus: Array[Stu, 101]


def test_a_terminal_shows_the_ends_of_what_is_long(
    run: Callable[..., Done], channel_of: Callable[..., Channel[Any]]
) -> None:
    many = Many("amy", range(300), b"\1" * 200, [Stu("x", 1)] * 101)
    structs, arrays = (
        channel_of(Many, many),
        channel_of(np.dtype("f4"), np.arange(1000, dtype="f4")),
    )
    frames = channel_of(np.dtype(("u1", (7, 20, 3))), np.zeros((7, 20, 3), "u1"))
    data = channel_of(bytes, bytes(range(256)) * 2, b"\x1b[2J")
    words = channel_of(str, "\x1b[2Jé\n")
    line = run("recv", address(structs), terminal=True).out.decode()
    assert line.startswith("Many(name='amy', numbers=int32 of shape (300,): [0, 1, 2, ..., 297, ")
    assert r"raw=b'\x01\x01\x01'...b'\x01\x01\x01', stus=[Stu(name='x', age=1), Stu" in line
    assert len(line) < 400
    start = b"message 0  4000 bytes  "
    shown = run("peek", address(arrays), terminal=True).out
    ends = b"float32 of shape (1000,): [0.0, 1.0, 2.0, ..., 997.0, 998.0, 999.0]\n"
    assert shown == start + ends
    assert json.loads(run("peek", address(arrays)).out.removeprefix(start)) == list(range(1000))
    line = run("recv", address(frames), terminal=True).out.decode()
    row = f"[{', '.join(['[0, 0, 0]'] * 3)}, ..., {', '.join(['[0, 0, 0]'] * 3)}]"
    assert line == f"uint8 of shape (7, 20, 3): [{row}, {row}, {row}, ..., {row}, {row}, {row}]\n"
    shown = run("peek", address(data), "-n", 1, terminal=True).out
    assert shown.endswith(b"  ... 256 more bytes, shown by --json or in a pipe\n")
    assert run("peek", address(data), "-n", 1).out.count(b"\n") == 33
    assert run("recv", address(data), "-n", 2, terminal=True).out.endswith(b"\n\\x1b[2J\n")
    assert (
        rb"  \x1b[2J\xc3\xa9\n".replace(rb"\xc3\xa9", "é".encode())
        in run("peek", address(words)).out
    )
    assert run("recv", address(words), terminal=True).out == "\\x1b[2Jé\\n\n".encode()


def test_peek_shows_the_next_of_a_channel_and_the_newest_of_a_topic(
    run: Callable[..., Done], channel_of: Callable[..., Channel[Any]], ns: Namespace
) -> None:
    channel = channel_of(str, *map(str, range(12)), capacity=20)
    with channel.take() as taken:
        shown = run("peek", address(channel))
        assert [line.split()[-1] for line in shown.out.split(b"\n")[:-1]] == [
            b"%d" % number for number in range(1, 11)
        ]
        more, unacknowledged = shown.err.splitlines()
        assert more == f"ipckit: {address(channel)}: 1 more message; to show all: -n 11"
        assert unacknowledged.endswith(
            "1 more were taken by receivers that have not acknowledged them"
        )
        taken.requeue()
    shown = run("peek", address(channel), "-n", 20)
    assert shown.out.startswith(b"message 0  1 byte  given back 1 time  0\nmessage 1  1 byte  1\n")
    assert (shown.err, len(channel)) == ("", 12)
    with Topic.create(ns.name()[1:], str, **SMALL, history=4) as topic:
        empty = run("peek", address(topic))
        assert empty == (0, b"", f"ipckit: {address(topic)}: no messages\n")
        topic.publish_many("abcdef")
        assert [each["text"] for each in run("peek", address(topic), "--json").records] == list(
            "abcdef"
        )
        assert run("peek", address(topic), "-n", 1).out == b"message 0  1 byte  f\n"


def test_peek_looks_into_an_anonymous_channel(run: Callable[..., Done]) -> None:
    with Channel.anonymous(Stu, capacity=2) as channel:
        channel.send(Stu("amy", 20))
        inode = os.fstat(channel.memory_fd).st_ino
        shown = run("peek", f"memfd:{inode}", "-n", 1)
        assert shown == (0, b"message 0  36 bytes  Stu(name='amy', age=20)\n", "")
    with MemFd.create("memory", 64) as memory:
        other = run("peek", f"memfd:{os.fstat(memory.fileno()).st_ino}")
    assert (other.status, "only the messages of channels and topics" in other.err) == (2, True)


# -- the other side --------------------------------------------------------------------------------


def test_recv_says_that_the_last_sender_is_gone(
    run: Callable[..., Done], channel_of: Callable[..., Channel[Any]], ns: Namespace
) -> None:
    channel = channel_of(str)
    name = address(channel)
    assert run("recv", name, "--timeout", 0.01).err.endswith(": no message came within 0.01 s\n")
    assert run("recv", name, "--all") == (0, b"", "")
    assert run("send", name, "one").status == 0  # and its process ends, as it were
    done = run("recv", name, "-n", 2)
    again = f"to wait for a new one: ipckit recv --follow {name}"
    gone = f"ipckit: {name}: no message waits, and the last process that sends is gone; {again}\n"
    assert done == (1, b"one\n", gone)
    assert run("recv", name, "--all") == (0, b"", "")
    with Topic.create(ns.name()[1:], str, **SMALL) as topic:
        assert run("send", address(topic), "one").status == 0
        assert "the last process that publishes is gone" in run("recv", address(topic)).err


def test_send_says_that_there_is_no_room(
    run: Callable[..., Done], channel_of: Callable[..., Channel[Any]]
) -> None:
    channel = channel_of(str, "a", capacity=1)
    full = run("send", address(channel), "b", "--timeout", 0.01)
    assert (full.status, "the channel was full for 0.01 s" in full.err) == (1, True)
    with opened(channel, str) as other:
        other.receive()
        channel.send("c")
    gone = run("send", address(channel), "d")
    why = (
        "is full, and the last process that receives is gone; to look at the messages: ipckit peek "
    )
    assert gone == (1, b"", f"ipckit: {address(channel)} {why}{address(channel)}\n")


def test_recv_does_not_take_a_held_lock_for_an_empty_channel(
    run: Callable[..., Done], channel_of: Callable[..., Channel[Any]], monkeypatch: Any
) -> None:
    channel = channel_of(str, "a")
    (generation,) = struct.unpack("=I", os.pread(channel.memory_fd, 4, 1024))
    held = struct.pack("=I", 1 | generation << 9)  # by the first peer, which is this handle
    monkeypatch.setattr(receive, "_FOR_LOCK", 0.01)
    for lock, status in ((held, 1), (bytes(4), 0)):
        os.pwrite(channel.memory_fd, lock, 384)
        done = run("recv", address(channel), "--all")
        assert (done.status, "held the channel's lock" in done.err) == (status, bool(status))
    assert done.out == b"a\n"


def test_recv_does_not_wait_for_what_was_removed(
    run: Callable[..., Done], channel_of: Callable[..., Channel[Any]], monkeypatch: Any
) -> None:
    channel, opens = channel_of(str), Channel.open

    def removed(*args: Any, **options: Any) -> Any:
        found = opens(*args, **options)
        channel.unlink()
        return found

    monkeypatch.setattr(receive, "_PIECE", 0.01)
    monkeypatch.setattr(Channel, "open", removed)
    done = run("recv", address(channel), "--follow")
    why = "the channel was removed, and no process sends to it any more"
    assert done == (1, b"", f"ipckit: {address(channel)}: {why}\n")
    channel.disown()


@pytest.mark.parametrize("kind", [Channel, Topic])
def test_messages_are_sent_and_received_under_a_name_that_is_not_utf8(
    kind: Any, run: Callable[..., Done], ns: Namespace
) -> None:
    name = ns.name()[1:]
    with kind.create(name, Number, **SMALL) as made:
        prefix = "ipckit." if kind is Channel else "ipckit-topic."
        path = Path(f"{SHM}/{prefix}{name}\udcff")
        Path(f"{SHM}/{prefix}{name}").rename(path)
        word = f"{kind.__name__.lower()}:{name}\\udcff"
        if kind is Channel:
            assert run("send", word, '{"whole": 7}').status == 0
            assert made.receive().whole == 7
            made.send(Number(whole=8))
            assert b"8" in run("recv", word).out
        else:
            with made.subscribe() as messages:
                assert run("send", word, '{"whole": 7}').status == 0
                assert messages.receive().whole == 7
            assert "no message waits" in run("recv", word, "--timeout", 0).err
        path.unlink()


def test_a_file_that_is_no_channel_is_an_error(run: Callable[..., Done], ns: Namespace) -> None:
    name = f"channel:{ns.name()[1:]}"
    path = Path(SHM) / f"ipckit.{name.removeprefix('channel:')}"
    try:
        for size in (0, 5000):
            path.write_bytes(b"x" * size)
            for done in (run("peek", name), run("recv", name), run("send", name, "a")):
                assert (done.status, done.out, "not a channel" in done.err) == (1, b"", True)
    finally:
        path.unlink()


def test_recv_subscribes_without_delaying_publishers_and_reports_what_it_lost(
    run: Callable[..., Done], ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Topic.create(ns.name()[1:], str, capacity=2, size=1 << 16, history=2) as topic:
        topic.publish_many(["a", "b"])
        subscribe = Topic.subscribe

        def slow(self: Topic[Any], **options: Any) -> Any:
            found = subscribe(self, **options)
            topic.publish_many(["c", "d", "e"], timeout=0)
            return found

        monkeypatch.setattr(Topic, "subscribe", slow)
        done = run("recv", address(topic), "--all")
    assert (done.status, done.out) == (0, b"d\ne\n")
    lost = "lost 3 messages, published faster than they were printed"
    assert done.err == f"ipckit: {address(topic)}: {lost}\n"


WRONG = [
    ("send", "--mtype", 1, "a"),
    ("send", "--priority", 1, "a"),
    ("recv", "--mtype", 1),
    ("recv", "--exclude"),
    ("peek", "--mtype", 1),
    ("send", "[1, 2, 3]"),
    ("send", "{"),
    ("send", '{"name": "a", "no": 1}'),
    ("send", "--hex", "00"),
    ("send", "--hex", "xx"),
    ("send", "--json", '{"text": "a"}'),
    ("send", "--json", '{"size": 1}'),
    ("send", "--struct", "json:loads", "a"),
    ("send", "--struct", f"{HERE}:Stu", "--hex", "00"),
    ("recv", "--all", "--follow"),
]


def test_wrong_usage_sends_and_takes_nothing(
    run: Callable[..., Done], channel_of: Callable[..., Channel[Any]]
) -> None:
    channel = channel_of(Stu, Stu("amy", 20))
    for command, *words in WRONG:
        done = run(command, address(channel), *words)
        assert (done.status, done.out, done.err.count("\n")) == (2, b"", 1), words
    assert len(channel) == 1


# -- other users, stopped peers, Ctrl-C ------------------------------------------------------------

STOPPED = """
from ipckit import Channel
from ipckit.testing import step
with Channel.create(args[0], str, capacity=2, size=1 << 16, mode=0o644) as channel:
    channel.send("secret")
    step.tell("sent")
    step.hear()
"""


@pytest.mark.usefixtures("root")
def test_peek_needs_only_permission_to_read_and_no_help_of_the_peers(
    commands: Callable[..., Any], spawn: Callable[..., Child], ns: Namespace
) -> None:
    name = ns.name()[1:]
    owner = spawn(STOPPED, name)
    owner.expect("sent")
    os.kill(owner.pid, signal.SIGSTOP)
    lines = [
        ["peek", f"channel:{name}"],
        ["recv", f"channel:{name}"],
        ["send", f"channel:{name}", "a"],
    ]
    shown, *others = commands(*lines, user="nobody")
    os.kill(owner.pid, signal.SIGCONT)
    owner.tell("done")
    assert shown == (0, "message 0  6 bytes  secret\n", "")
    for status, out, err in others:
        assert (status, out) == (1, "")
        assert "a channel needs permission to read and to write" in err


@pytest.mark.usefixtures("root")
def test_send_asks_before_it_sends_to_another_user(
    run: Callable[..., Done], channel_of: Callable[..., Channel[Any]]
) -> None:
    channel = channel_of(str)
    os.fchown(channel.memory_fd, 65534, -1)
    refused = run("send", address(channel), "secret")
    assert (refused.status, len(channel)) == (3, 0)
    user = refused.err.rpartition(" ")[2][:-1]
    assert refused.err.endswith(f"all the same: ipckit send {address(channel)} --owner {user}\n")
    for owner in (user, 65534):
        assert run("send", address(channel), "hello", "--owner", owner).status == 0
    assert run("recv", address(channel), "--all").out == b"hello\nhello\n"
    os.fchown(channel.memory_fd, os.geteuid(), -1)


def test_following_waits_for_a_new_sender_until_ctrl_c(
    channel_of: Callable[..., Channel[Any]],
) -> None:
    channel = channel_of(Stu)
    command = [sys.executable, "-m", "ipckit", "recv", "--follow", address(channel)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        assert follower.stderr is not None
        for age in (1, 2):
            with opened(channel, Stu) as sender:
                sender.send(Stu("amy", age))
            assert follower.stdout.readline() == b"Stu(name='amy', age=%d)\n" % age
        follower.send_signal(signal.SIGINT)
        assert follower.wait(30) == 130
        assert follower.stderr.read() == b"\nipckit: interrupted\n"


def test_ctrl_c_waits_until_a_message_is_printed() -> None:
    interrupts = Interrupts()
    before = signal.getsignal(signal.SIGINT)
    done: list[int] = []
    with interrupts.handled():
        with pytest.raises(KeyboardInterrupt), interrupts.delayed():  # noqa: PT012 - in the block
            signal.raise_signal(signal.SIGINT)
            done.append(1)
        with pytest.raises(KeyboardInterrupt), interrupts.delayed(), interrupts.allowed():
            done.append(2)
    with interrupts.handled(), pytest.raises(KeyboardInterrupt), interrupts.delayed():
        signal.raise_signal(signal.SIGINT)  # the second
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is before
