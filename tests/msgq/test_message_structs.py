"""Structs that C programs send and receive as ``struct { long mtype; … }``, in both directions."""

from __future__ import annotations

import errno
import pickle
import subprocess
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import anyio
import pytest

from ipckit import (
    Array,
    Char,
    Double,
    Float,
    Int,
    InvalidArgument,
    LayoutMismatch,
    Long,
    LongLong,
    MessageTooLong,
    PosixMessageQueue,
    Short,
    Struct,
    SysVMessageQueue,
    WouldBlock,
    aio,
)
from ipckit._msgq.message_form import is_message_struct
from ipckit._native import MessageForm, msgrcv, msgsnd
from ipckit.codec import Codec, codec_for
from ipckit.msgq import Message, decode_message
from ipckit.structs import Aligned, Anonymous, Bits, UInt, Union
from ipckit.testing import require, wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ipckit.testing import Namespace


class Point(Struct):
    x: Double
    n: Short


class Int1(Struct):
    sum: Int


class MInt1(Struct):
    mtype: Long
    sum: Int


class Mixed(Struct):
    n: Int
    d: Double
    c: Char[1]


class MMixed(Struct):
    mtype: Long
    n: Int
    d: Double
    c: Char[1]


class Text(Struct):
    name: Char[10]


class MText(Struct):
    mtype: Long
    name: Char[10]


class Even(Struct):
    a: Int
    b: Float


class MEven(Struct):
    mtype: Long
    a: Int
    b: Float


class Nested(Struct):
    at: Point
    s: Short


class MNested(Struct):
    mtype: Long
    at: Point
    s: Short


class MsgBuf(Struct):
    mtext: Char[1]


class MMsgBuf(Struct):
    mtype: Long
    mtext: Char[1]


class Three(Struct):
    v: Array[Short, 3]


class MThree(Struct):
    mtype: Long
    v: Array[Short, 3]


class Bitted(Struct):
    a: Int
    b: Bits[UInt, 3]


class MBitted(Struct):
    mtype: Long
    a: Int
    b: Bits[UInt, 3]


class Number(Union):
    i: Int
    d: Double


class Either(Struct):
    number: Anonymous[Number]
    s: Short


class MEither(Struct):
    mtype: Long
    number: Anonymous[Number]
    s: Short


class MAligned(Struct):
    mtype: Long
    d: Aligned[Double, 16]


class Values(Struct):
    n: Int
    v: Array[Short, ...]


class MValues(Struct):
    mtype: Long
    n: Int
    v: Array[Short, ...]


class Empty(Struct):
    mtype: Long


class Case(NamedTuple):
    """One struct, in C and in Python."""

    c: str  # the fields after mtype
    set: str  # sets them in m
    show: str  # the arguments of printf that show them
    shown: str  # what it prints
    struct: type[Any] | None  # without mtype
    message: type[Any]  # with mtype
    values: tuple[Any, ...]
    text: int  # bytes that C sends, with tail padding
    least: int  # and without


CASES = {
    "int": Case("int sum;", "m.sum = 42;", '"%d", m.sum', "42", Int1, MInt1, (42,), 8, 4),
    "mixed": Case(
        "int n; double d; char c;",
        "m.n = -1; m.d = 0.5; m.c = 'z';",
        '"%d %g %c", m.n, m.d, m.c',
        "-1 0.5 z",
        Mixed,
        MMixed,
        (-1, 0.5, "z"),
        24,
        17,
    ),
    "text": Case(
        "char name[10];",
        'strncpy(m.name, "amy", 10);',
        '"%.10s", m.name',
        "amy",
        Text,
        MText,
        ("amy",),
        16,
        10,
    ),
    "even": Case(
        "int a; float b;",
        "m.a = 5; m.b = 1.5f;",
        '"%d %g", m.a, m.b',
        "5 1.5",
        Even,
        MEven,
        (5, 1.5),
        8,
        8,
    ),
    "nested": Case(
        "struct { double x; short n; } at; short s;",
        "m.at.x = 2.5; m.at.n = 3; m.s = -7;",
        '"%g %d %d", m.at.x, m.at.n, m.s',
        "2.5 3 -7",
        Nested,
        MNested,
        (Point(2.5, 3), -7),
        24,
        18,
    ),
    "msgbuf": Case(
        "char mtext[1];",
        "m.mtext[0] = 'q';",
        '"%c", m.mtext[0]',
        "q",
        MsgBuf,
        MMsgBuf,
        ("q",),
        8,
        1,
    ),
    "three": Case(
        "short v[3];",
        "m.v[0] = 1; m.v[1] = -2; m.v[2] = 3;",
        '"%d %d %d", m.v[0], m.v[1], m.v[2]',
        "1 -2 3",
        Three,
        MThree,
        ([1, -2, 3],),
        8,
        6,
    ),
    "bitted": Case(
        "int a; unsigned b : 3;",
        "m.a = 9; m.b = 5;",
        '"%d %d", m.a, m.b',
        "9 5",
        Bitted,
        MBitted,
        (9, 5),
        8,
        5,
    ),
    "either": Case(
        "union { int i; double d; }; short s;",
        "m.d = 0; m.i = 70000; m.s = 8;",
        '"%d %d", m.i, m.s',
        "70000 8",
        Either,
        MEither,
        (70000, 8),
        16,
        10,
    ),
    "aligned": Case(
        "_Alignas(16) double d;",
        "m.d = 0.25;",
        '"%g", m.d',
        "0.25",
        None,
        MAligned,
        (0.25,),
        24,
        16,
    ),
    "empty": Case("", "", '"%s", ""', "", None, Empty, (), 0, 0),
}

HEAD = r"""
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
"""

# The bytes that are no field's hold garbage, as a variable of a C function does.
FUNCTION = r"""
struct NAME { long mtype; FIELDS };

static int run_NAME(int id, const char *verb, long number)
{
    struct NAME m;
    memset(&m, 0xa5, sizeof m);
    if (strcmp(verb, "receive") == 0) {
        ssize_t got = msgrcv(id, &m, sizeof m - sizeof(long), number, 0);
        if (got < 0) return perror("msgrcv"), 1;
        printf("%zd %ld ", got, m.mtype);
        printf(SHOW);
        puts("");
        return 0;
    }
    m.mtype = number;
    SET
    if (msgsnd(id, &m, verb[0] == 's' ? sizeof m - sizeof(long) : LEASTul, 0) < 0)
        return perror("msgsnd"), 1;
    return 0;
}
"""

FLEXIBLE = r"""
struct values { long mtype; int n; short v[]; };

static int run_flexible(int id, const char *verb, long number)
{
    long memory[8];
    struct values *m = (struct values *)memory;
    size_t head = offsetof(struct values, v) - sizeof(long);
    if (strcmp(verb, "receive") == 0) {
        ssize_t got = msgrcv(id, m, sizeof memory - sizeof(long), number, 0);
        if (got < 0) return perror("msgrcv"), 1;
        printf("%zd %ld %d:", got, m->mtype, m->n);
        for (int i = 0; i < m->n; i++) printf(" %d", m->v[i]);
        puts("");
        return 0;
    }
    m->mtype = number;
    m->n = verb[0] == 's' ? 3 : 0;
    for (int i = 0; i < m->n; i++) m->v[i] = (short)(i - 1);
    if (msgsnd(id, m, head + (size_t)m->n * sizeof(short), 0) < 0) return perror("msgsnd"), 1;
    return 0;
}
"""

MAIN = r"""
int main(int argc, char **argv)
{
    int id = argc == 5 ? msgget((key_t)strtol(argv[1], NULL, 0), 0) : -1;
    if (id < 0) return perror("msgget"), 1;
    if (strcmp(argv[2], "flexible") == 0) return run_flexible(id, argv[3], atol(argv[4]));
CALLS
    return 1;
}
"""


class Program:
    """A C program that sends or receives one message of a case.

    The verbs are send, receive, and trimmed, which sends a message without its tail padding.
    """

    def __init__(self, directory: Path) -> None:
        gcc = require("gcc", package="gcc")
        text = HEAD
        for name, case in CASES.items():
            function = FUNCTION.replace("FIELDS", case.c).replace("SHOW", case.show)
            function = function.replace("SET", case.set).replace("LEAST", str(case.least))
            text += function.replace("NAME", f"{name}_message")
        calls = "\n".join(
            f'    if (strcmp(argv[2], "{name}") == 0)'
            f" return run_{name}_message(id, argv[3], atol(argv[4]));"
            for name in CASES
        )
        source, self.path = directory / "messages.c", directory / "messages"
        source.write_text(text + FLEXIBLE + MAIN.replace("CALLS", calls))
        subprocess.run([gcc, "-Wall", "-Wextra", "-Werror", "-o", self.path, source], check=True)

    def argv(self, queue: SysVMessageQueue[Any], case: str, verb: str, number: int) -> list[str]:
        return [str(self.path), str(int(queue.key or 0)), case, verb, str(number)]

    def __call__(self, queue: SysVMessageQueue[Any], case: str, verb: str, number: int) -> str:
        """Run it to its end, and return what it printed."""
        argv = self.argv(queue, case, verb, number)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done
        return done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program(tmp_path_factory.mktemp("c"))


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    case: str = request.param
    return case


@pytest.fixture
def queue(ns: Namespace) -> Iterator[SysVMessageQueue[MInt1]]:
    with SysVMessageQueue.create(ns.key(), MInt1) as made:
        yield made


@pytest.fixture
def raw(queue: SysVMessageQueue[Any]) -> Iterator[SysVMessageQueue[bytes]]:
    """The same queue as one of bytes."""
    with SysVMessageQueue.open(queue.key or 0) as opened:
        yield opened


# -- with C ----------------------------------------------------------------------------------------


def test_the_cases_are_what_c_sends(name: str) -> None:
    case = CASES[name]
    long = Empty.size
    assert case.message.size - long == case.text
    assert is_message_struct(case.message)
    assert case.struct is None or not is_message_struct(case.struct)


@pytest.mark.parametrize("verb", ["send", "trimmed"])
def test_a_message_struct_from_c(ns: Namespace, program: Program, name: str, verb: str) -> None:
    case = CASES[name]
    with SysVMessageQueue.create(ns.key(), case.message) as queue:
        for number in (7, 2**40):
            program(queue, name, verb, number)
            expected = case.message(number, *case.values)
            for message in (queue.peek(), queue.receive(timeout=0)):
                assert message == Message(expected, number)
                assert type(message.value) is case.message
                assert message.value.mtype == number


def test_a_message_struct_to_c(ns: Namespace, program: Program, name: str) -> None:
    case = CASES[name]
    with SysVMessageQueue.create(ns.key(), case.message) as queue:
        queue.send(case.message(5, *case.values))
        queue.send(case.message(2**63 - 1, *case.values), 2**63 - 1, timeout=5)
        assert queue.stat().cbytes == 2 * case.text
        assert program(queue, name, "receive", 2**63 - 1) == (
            f"{case.text} {2**63 - 1} {case.shown}\n"
        )
        assert program(queue, name, "receive", 0) == f"{case.text} 5 {case.shown}\n"


def test_a_struct_without_mtype_in_both_directions(
    ns: Namespace, program: Program, name: str
) -> None:
    case = CASES[name]
    if case.struct is None:
        return
    with SysVMessageQueue.create(ns.key(), case.struct) as queue:
        program(queue, name, "send", 7)
        expected = Message(case.struct(*case.values), 7)
        assert queue.peek() == queue.receive(timeout=0) == expected
        queue.send(case.struct(*case.values), 9)
        size = case.struct.size
        assert program(queue, name, "receive", 9) == f"{size} 9 {case.shown}\n"


def test_both_in_a_mapping(ns: Namespace, program: Program, name: str) -> None:
    case = CASES[name]
    types: dict[int, Any] = {3: case.message, 4: case.struct or str, 5: str}
    with SysVMessageQueue.create(ns.key(), types) as queue:
        program(queue, name, "send", 3)
        assert queue.receive(timeout=0) == Message(case.message(3, *case.values), 3)
        queue.send(case.message(3, *case.values))
        assert program(queue, name, "receive", 3) == f"{case.text} 3 {case.shown}\n"
        if case.struct is not None:
            program(queue, name, "send", 4)
            assert queue.receive(timeout=0) == Message(case.struct(*case.values), 4)


@pytest.mark.parametrize("verb", ["send", "none"])
def test_a_flexible_array_in_both_directions(ns: Namespace, program: Program, verb: str) -> None:
    values = [-1, 0, 1] if verb == "send" else []
    size = 4 + 2 * len(values)
    shown = f"{size} 5 {len(values)}:{''.join(f' {value}' for value in values)}\n"
    with SysVMessageQueue.create(ns.key(), MValues) as queue:
        program(queue, "flexible", verb, 7)
        assert queue.receive(timeout=0) == Message(MValues(7, len(values), values), 7)
        queue.send(MValues(5, len(values), values))
        assert program(queue, "flexible", "receive", 0) == shown
    with SysVMessageQueue.create(ns.key(), Values) as plain:
        program(plain, "flexible", verb, 7)
        assert plain.receive(timeout=0) == Message(Values(len(values), values), 7)
        plain.send(Values(len(values), values), 5)
        assert program(plain, "flexible", "receive", 0) == shown


@pytest.mark.parametrize("cls", [MValues, Values])
def test_a_flexible_array_takes_any_length_that_has_all_fields(
    raw: SysVMessageQueue[bytes], cls: type[Any]
) -> None:
    after = " after its mtype" if cls is MValues else ""
    with SysVMessageQueue.open(raw.key or 0, cls) as queue:
        for size in (4, 5, 6, 8, 4000):
            raw.send(b"abcd".ljust(size, b"x"), 7)
            value = queue.receive(timeout=0).value
            assert bytes(value)[-size:] == b"abcd".ljust(size, b"x")
            assert (len(value.v), value.n) == (
                (size - 4) // 2,
                int.from_bytes(b"abcd", sys.byteorder),
            )
        for size in (0, 3):
            raw.send(bytes(size), 7)
            match = f"expected at least 4 bytes for {cls.__name__}{after}, got {size}"
            with pytest.raises(LayoutMismatch, match=match):
                queue.receive(timeout=0)
        raw.send(bytes(100), 7)
        message = queue.receive(truncate=True, max_size=10)
        assert (len(message.value.v), message.truncated) == (3, True)


C_TEXTS = [
    "struct rep { long mtype; int sum; };",
    "typedef struct { long int mtype; int sum; } rep;",
    "typedef long __syscall_slong_t; struct rep { __syscall_slong_t mtype; int sum; };",
]


@pytest.mark.parametrize("text", C_TEXTS)
def test_a_struct_read_from_c(ns: Namespace, program: Program, text: str) -> None:
    rep = Struct.from_c(text)
    with SysVMessageQueue.create(ns.key(), rep) as queue:
        program(queue, "int", "send", 7)
        assert queue.receive(timeout=0).value == rep(mtype=7, sum=42)
        queue.send(rep(mtype=3, sum=42))
        assert program(queue, "int", "receive", 3) == "8 3 42\n"


def test_a_c_program_waits_for_a_message_struct(ns: Namespace, program: Program) -> None:
    with SysVMessageQueue.create(ns.key(), MMixed) as queue:
        argv = program.argv(queue, "mixed", "receive", 5)
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as waiting:
            wait_blocked(waiting.pid, "msgrcv")
            queue.send(MMixed(4, *CASES["mixed"].values))
            queue.send(MMixed(5, *CASES["mixed"].values))
            assert waiting.communicate(timeout=60)[0] == "24 5 -1 0.5 z\n"
        assert queue.receive(timeout=0).mtype == 4


# -- the message type ------------------------------------------------------------------------------


def test_an_equal_mtype_may_be_passed_too(queue: SysVMessageQueue[MInt1]) -> None:
    class Number(IntEnum):
        REPLY = 7

    for number in (7, Number.REPLY, None):
        queue.send(MInt1(7, 1), number)
        assert queue.receive(timeout=0) == Message(MInt1(7, 1), 7)


@pytest.mark.parametrize("number", [1, 8, 0, -7, 2**63, 2**70])
def test_another_mtype_is_refused(queue: SysVMessageQueue[MInt1], number: int) -> None:
    with pytest.raises(InvalidArgument, match=r"mtype is -?\d+, but MInt1.mtype is 7") as caught:
        queue.send(MInt1(7, 1), number)
    assert (caught.value.op, caught.value.errno) == ("msgsnd", errno.EINVAL)
    assert "leave the argument out" in caught.value.hint
    assert len(queue) == 0


@pytest.mark.parametrize("number", ["7", 7.0, True, b"\7"])
def test_an_mtype_of_another_type_is_refused(queue: SysVMessageQueue[MInt1], number: Any) -> None:
    with pytest.raises(TypeError, match="mtype must be an int"):
        queue.send(MInt1(7, 1), number)
    assert len(queue) == 0


@pytest.mark.parametrize("number", [0, -1, -(2**63)])
@pytest.mark.parametrize("timeout", [None, 0, 0.01])
def test_the_field_must_be_a_message_type(
    queue: SysVMessageQueue[MInt1], number: int, timeout: float | None
) -> None:
    match = f"field mtype of MInt1 must be 1 to {2**63 - 1}, not {number}"
    for argument in (None, number):
        with pytest.raises(InvalidArgument, match=match) as caught:
            queue.send(MInt1(number, 1), argument, timeout=timeout)
        assert (caught.value.op, caught.value.errno) == ("msgsnd", errno.EINVAL)
    assert len(queue) == 0


def test_the_struct_that_was_sent_is_not_changed(queue: SysVMessageQueue[MInt1]) -> None:
    value = MInt1(7, 1)
    queue.send(value)
    received = queue.receive(timeout=0).value
    received.mtype = 9
    assert value == MInt1(7, 1)
    queue.send(received)
    assert queue.receive(9, timeout=0).mtype == 9


def test_a_view_of_a_buffer_is_sent(queue: SysVMessageQueue[MInt1]) -> None:
    memory = bytearray(MInt1(7, 5))
    queue.send(MInt1.from_buffer(memory))
    queue.send(MInt1.from_buffer(bytes(memory)))
    assert [message.value for message in queue.drain()] == [MInt1(7, 5)] * 2


def test_receive_selects_by_mtype(queue: SysVMessageQueue[MInt1]) -> None:
    for number in (5, 3, 9, 3):
        queue.send(MInt1(number, len(queue)))
    assert queue.receive(9).value == MInt1(9, 2)
    assert queue.receive(-5).value == MInt1(3, 1)
    assert queue.receive(3, exclude=True).value == MInt1(5, 0)
    with pytest.raises(WouldBlock):
        queue.receive(5, timeout=0)
    with pytest.raises(TypeError, match="mapping"):
        queue.receive(MInt1)
    assert queue.receive(0).value == MInt1(3, 3)


def test_iteration_and_drain(queue: SysVMessageQueue[MInt1]) -> None:
    for number in (5, 3):
        queue.send(MInt1(number, 0))
    assert [message.value.mtype for message in queue.drain()] == [5, 3]
    queue.send(MInt1(4, 0))
    for message in queue:
        assert message == Message(MInt1(4, 0), 4)
        queue.unlink()
    queue.disown()


def test_a_class_with_the_same_fields_or_only_more_methods(queue: SysVMessageQueue[Any]) -> None:
    class More(MInt1):
        def twice(self) -> int:
            return self.sum * 2

    class Same(Struct):
        mtype: Long
        sum: Int

    class Other(Struct):
        mtype: Long
        total: Int

    for value in (More(3, 1), Same(3, 1)):
        queue.send(value)
        queue.send(value, 3)
        with pytest.raises(InvalidArgument, match=f"{type(value).__name__}.mtype is 3"):
            queue.send(value, 4)
        with pytest.raises(InvalidArgument, match=f"field mtype of {type(value).__name__}"):
            queue.send(type(value)(0, 1))
        assert {type(message.value) for message in queue.drain()} == {MInt1}
    for value in (Other(3, 1), Int1(3), b"text"):
        with pytest.raises(TypeError):
            queue.send(value)
    assert len(queue) == 0


# -- which structs they are ------------------------------------------------------------------------


def test_message_structs_begin_with_a_native_long_of_that_name() -> None:
    class Wide(Struct):
        mtype: LongLong

    class Annotation(Struct):
        mtype: Annotated[int, Long]

    class Packed(Struct, packed=True):
        mtype: Long
        n: Int

    class Kind(IntEnum):
        ASK = 5

    class Named(Struct):
        mtype: Annotated[Kind, Long]

    class Head(Struct):
        mtype: Long

    class Inside(Struct):
        head: Anonymous[Head]
        n: Int

    for cls in (Wide, Annotation, Packed, Empty, MInt1, Named, Inside):
        assert is_message_struct(cls)


def test_other_structs_are_not_message_structs(ns: Namespace) -> None:
    class Named(Struct):
        type: Long
        n: Int

    class Narrow(Struct):
        mtype: Int
        n: Int

    class Later(Struct):
        n: Long
        mtype: Long

    class Swapped(Struct, endian="big"):
        mtype: Long

    class Several(Struct):
        mtype: Array[Long, 1]

    class Inner(Struct):
        mtype: MInt1

    class Shared(Union):
        mtype: Long
        n: Int

    class Bit(Struct):
        mtype: Bits[Long, 64]

    values: list[Struct] = [Named(3, 1), Narrow(3, 1), Later(3, 1), Swapped(3)]
    values += [Several([3]), Inner(MInt1(3, 1)), Shared(mtype=3), Bit(3)]
    for value in values:
        cls = type(value)
        assert not is_message_struct(cls)
        with SysVMessageQueue.create(ns.key(), cls) as queue:
            queue.send(value, 9)
            queue.send(value)
            assert queue.stat().cbytes == 2 * cls.size
            assert queue.receive() == Message(value, 9)
            assert queue.receive() == Message(value, 1)


def test_a_packed_message_struct_has_no_padding(ns: Namespace) -> None:
    class Packed(Struct, packed=True):
        mtype: Long
        n: Short

    with SysVMessageQueue.create(ns.key(), Packed) as queue:
        queue.send(Packed(3, 1))
        assert queue.stat().cbytes == 2
        with SysVMessageQueue.open(queue.key or 0) as raw:
            raw.send(bytes(8))
        assert queue.receive().value == Packed(3, 1)
        with pytest.raises(LayoutMismatch, match="expected 2 bytes for Packed after its mtype"):
            queue.receive()


def test_the_struct_codec_is_the_struct(queue: SysVMessageQueue[MInt1]) -> None:
    with SysVMessageQueue.open(queue.key or 0, codec_for(MInt1)) as other:
        other.send(MInt1(5, 1))
        assert queue.receive(timeout=0) == Message(MInt1(5, 1), 5)
        queue.send(MInt1(6, 1))
        assert other.receive(timeout=0) == Message(MInt1(6, 1), 6)


def test_a_codec_of_ones_own_decides_the_bytes(raw: SysVMessageQueue[bytes]) -> None:
    class Own(Codec[MInt1]):
        size = MInt1.size
        accepts = MInt1
        fingerprint = "own"
        name = "own"

        def encode(self, value: MInt1) -> bytes:
            return bytes(value)

        def decode(self, data: bytes) -> MInt1:
            return MInt1.from_bytes(data)

    with SysVMessageQueue.open(raw.key or 0, Own()) as own:
        own.send(MInt1(5, 1), 9)
        assert raw.peek() == Message(bytes(MInt1(5, 1)), 9)
        assert own.receive() == Message(MInt1(5, 1), 9)


def test_a_posix_queue_carries_all_of_the_struct(ns: Namespace) -> None:
    with PosixMessageQueue.create(ns.name(), MInt1) as queue:
        queue.send(MInt1(0, 1))
        assert queue.receive().value == MInt1(0, 1)


# -- sizes -----------------------------------------------------------------------------------------


def test_a_text_that_does_not_fit_is_kept(
    queue: SysVMessageQueue[MInt1], raw: SysVMessageQueue[bytes]
) -> None:
    for text in (b"", b"abc", b"x" * 9, b"x" * 16, b"x" * 8192):
        raw.send(text, 5)
        for call in (queue.peek, queue.receive):
            with pytest.raises(LayoutMismatch) as caught:
                call()
            assert "expected 4 to 8 bytes for MInt1 after its mtype" in str(caught.value)
            assert f"got {len(text)}" in str(caught.value)
            assert (caught.value.raw, caught.value.mtype) == (text, 5)
        assert len(queue) == 0
    raw.send(b"abc", 5)
    raw.send(bytes(8), 6)
    with pytest.raises(LayoutMismatch):
        queue.drain()
    assert queue.drain() == [Message(MInt1(6, 0), 6)]


def test_padding_may_be_missing_in_part(
    queue: SysVMessageQueue[MInt1], raw: SysVMessageQueue[bytes]
) -> None:
    for size in range(4, 9):
        raw.send(b"\1\0\0\0abcd"[:size], 5)
        value = queue.receive(timeout=0).value
        assert value == MInt1(5, 1)
        assert bytes(value)[12:] == b"abcd"[: size - 4].ljust(4, b"\0")


def test_a_struct_without_mtype_takes_two_sizes(raw: SysVMessageQueue[bytes]) -> None:
    class Pair(Struct):
        a: Short
        b: Int

    class Odd(Struct):
        name: Char[9]

    for cls, sizes in ((Int1, {4, 8}), (Pair, {8}), (Odd, {9, 16}), (Point, {16})):
        with SysVMessageQueue.open(raw.key or 0, cls) as queue:
            for size in range(20):
                raw.send(bytes(size), 3)
                if size in sizes:
                    assert queue.receive(timeout=0) == Message(cls.from_bytes(bytes(cls.size)), 3)
                    continue
                match = f"expected {cls.size} bytes for {cls.__name__}, got {size}"
                with pytest.raises(LayoutMismatch, match=match) as caught:
                    queue.receive(timeout=0)
                assert (caught.value.raw, caught.value.mtype) == (bytes(size), 3)


def test_the_most_bytes_are_those_of_the_text(
    queue: SysVMessageQueue[MInt1], raw: SysVMessageQueue[bytes]
) -> None:
    queue.send(MInt1(5, 1))
    with pytest.raises(MessageTooLong):
        queue.receive(max_size=7)
    assert queue.receive(max_size=8).value == MInt1(5, 1)
    raw.send(b"\1\0\0\0abcdefgh", 5)
    assert queue.receive(truncate=True) == Message(MInt1(5, 1), 5, truncated=True)
    raw.send(b"\1\0\0\0abcd", 5)
    assert queue.receive(truncate=True) == Message(MInt1(5, 1), 5)
    raw.send(b"\1\0\0\0abcd", 5)
    assert queue.receive(truncate=True, max_size=4) == Message(MInt1(5, 1), 5, truncated=True)
    raw.send(b"\1\0\0\0abcd", 5)
    with pytest.raises(LayoutMismatch, match="got 3") as caught:
        queue.receive(truncate=True, max_size=3)
    assert (caught.value.raw, caught.value.mtype) == (b"\1\0\0", 5)


def test_cs_padding_is_not_truncated(raw: SysVMessageQueue[bytes]) -> None:
    with SysVMessageQueue.open(raw.key or 0, Int1) as queue:
        for text, cut in ((b"\1\0\0\0", False), (b"\1\0\0\0abcd", False), (b"\1\0\0\0abcde", True)):
            raw.send(text)
            assert queue.receive(truncate=True) == Message(Int1(1), 1, truncated=cut)


def test_the_size_in_an_error_is_that_of_the_text(ns: Namespace) -> None:
    class Long9000(Struct):
        mtype: Long
        text: Char[9000]

    class Long100(Struct):
        mtype: Long
        text: Char[96]

    with (
        SysVMessageQueue.create(ns.key(), Long9000) as queue,
        pytest.raises(MessageTooLong, match=r"9,000 bytes exceeds kernel\.msgmax"),
    ):
        queue.send(Long9000(1, ""))
    with SysVMessageQueue.create(ns.key(), Long100, max_bytes=96) as queue:
        queue.send(Long100(1, "x" * 96))
        with pytest.raises(WouldBlock):
            queue.send(Long100(1, ""), timeout=0)
        assert queue.receive().value == Long100(1, "x" * 96)
        queue.max_bytes = 95
        with pytest.raises(MessageTooLong, match="96 bytes exceeds the queue's max_bytes"):
            queue.send(Long100(1, ""))


# -- mappings --------------------------------------------------------------------------------------


class Ask(Struct):
    mtype: Long
    what: Char[8]


@pytest.fixture
def several() -> Iterator[SysVMessageQueue[Any]]:
    types: dict[int, Any] = {1: Ask, 2: Ask, 5: MInt1, 6: Int1, 7: bytes}
    with SysVMessageQueue.create(None, types) as made:
        yield made


def test_a_mapping_sends_a_message_struct_under_its_own_type(
    several: SysVMessageQueue[Any],
) -> None:
    values = [Ask(2, "two"), Ask(1, "one"), MInt1(5, 1), Int1(9), b"text"]
    for value in values:
        several.send(value)
    several.send(Ask(2, "two"), 2)
    found = several.drain()
    assert [message.value for message in found] == [*values, Ask(2, "two")]
    assert [message.mtype for message in found] == [2, 1, 5, 6, 7, 2]


@pytest.mark.parametrize("value", [Ask(5, ""), Ask(0, ""), Ask(-1, ""), MInt1(1, 0)])
def test_a_mapping_refuses_a_type_of_another_payload(
    several: SysVMessageQueue[Any], value: Any
) -> None:
    name = type(value).__name__
    with pytest.raises(InvalidArgument, match=f"{name}.mtype is {value.mtype}, but the queue has"):
        several.send(value)
    assert len(several) == 0


def test_a_mapping_refuses_a_number_that_differs(several: SysVMessageQueue[Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"mtype is 1, but Ask\.mtype is 2"):
        several.send(Ask(2, ""), 1)
    with pytest.raises(TypeError, match="MInt1"):
        several.send(Ask(5, ""), 5)
    with pytest.raises(InvalidArgument, match="no message type 3"):
        several.send(Ask(3, ""), 3)
    assert len(several) == 0


def test_a_mapping_selects_by_class_and_keeps_what_does_not_fit(
    several: SysVMessageQueue[Any],
) -> None:
    with SysVMessageQueue.open(several.key or 0) as raw:
        raw.send(b"abc", 5)
        raw.send(b"\1\0\0\0....", 6)
        raw.send(b"\1\0\0\0...", 6)
    with pytest.raises(LayoutMismatch, match="4 to 8 bytes for MInt1") as caught:
        several.receive(MInt1)
    assert (caught.value.raw, caught.value.mtype) == (b"abc", 5)
    assert several.receive(Int1).value == Int1(1)
    with pytest.raises(LayoutMismatch, match="expected 4 bytes for Int1, got 7"):
        several.receive(Int1)


# -- elsewhere -------------------------------------------------------------------------------------


def test_a_queue_of_message_structs_is_pickled(queue: SysVMessageQueue[MInt1]) -> None:
    with pickle.loads(pickle.dumps(queue)) as other:  # noqa: S301 - our own
        other.send(MInt1(5, 1))
        assert queue.receive(timeout=0) == Message(MInt1(5, 1), 5)
        queue.send(MInt1(6, 1))
        assert other.receive(timeout=0) == Message(MInt1(6, 1), 6)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_in_an_event_loop(ns: Namespace, backend: str) -> None:
    async def main(queue: SysVMessageQueue[MInt1]) -> None:
        face = aio.wrap(queue)
        await face.send(MInt1(5, 0), 5)
        with pytest.raises(InvalidArgument, match=r"MInt1\.mtype is 5"):
            await face.send(MInt1(5, 0), 6)
        for number in (0, -1):
            with pytest.raises(InvalidArgument, match="field mtype of MInt1"):
                await face.send(MInt1(number, 0))
        async with anyio.create_task_group() as group:
            for number in range(1, 9):  # it has room for two
                group.start_soon(face.send, MInt1(number, number))
            assert await face.receive() == Message(MInt1(5, 0), 5)
            seen = [(await face.receive(-8, timeout=10)).value.mtype for _ in range(8)]
        assert sorted(seen) == list(range(1, 9))
        await face.send(MInt1(3, 0))
        async for message in face:
            assert message.value == MInt1(3, 0)
            queue.unlink()
        queue.disown()

    with SysVMessageQueue.create(ns.key(), MInt1, max_bytes=16) as queue:
        anyio.run(main, queue, backend=backend)


def test_a_waiting_receiver_gets_the_struct(
    queue: SysVMessageQueue[MInt1], meanwhile: Callable[..., Any]
) -> None:
    for timeout, call in ((None, "msgrcv"), (10.0, "clock_nanosleep")):
        with meanwhile((call,), lambda: queue.send(MInt1(5, 2))):
            assert queue.receive(timeout=timeout) == Message(MInt1(5, 2), 5)


def test_decode_message(raw: SysVMessageQueue[bytes]) -> None:
    raw.send(b"\1\0\0\0....", 7)
    message = raw.receive()
    assert decode_message(message, MInt1) == MInt1(7, 1)
    assert decode_message(message, Int1) == Int1(1)
    with pytest.raises(LayoutMismatch, match="expected 10 bytes for Text, got 8") as caught:
        decode_message(message, Text)
    assert (caught.value.raw, caught.value.mtype) == (message.value, 7)
    for wrong in (Struct, int, bytes, 5):
        with pytest.raises(TypeError):
            decode_message(message, wrong)  # type: ignore[type-var, arg-type]


# -- the native calls ------------------------------------------------------------------------------


def test_a_form_checks_its_arguments() -> None:
    for args in ((), (MInt1,), (MInt1, True), (MInt1, True, 16, 0), (MInt1, True, "16")):
        with pytest.raises(TypeError):
            MessageForm(*args)  # type: ignore[arg-type]
    for cls in (None, int, 5, Struct):
        with pytest.raises(TypeError):
            MessageForm(cls, True, 16)  # type: ignore[arg-type] # noqa: FBT003
    for typed, end in ((True, 17), (True, 7), (True, -1), (False, 17), (False, -1), (True, 2**62)):
        with pytest.raises(ValueError, match="last field"):
            MessageForm(MInt1, typed, end)
    for end in (11, 13, 16):
        with pytest.raises(ValueError, match="last field"):
            MessageForm(MValues, True, end)  # noqa: FBT003
    form = MessageForm(MInt1, True, 12)  # noqa: FBT003
    assert (form.head, form.longest) == (8, 8)
    for wrong in ((), (5,), (5, "text"), (2**63, b""), ("5", b""), (5, b"", 1)):
        with pytest.raises((TypeError, ValueError)):
            form.decode(*wrong)  # type: ignore[arg-type]
    assert form.decode(5, bytearray(8)) == MInt1(5, 0)


def test_msgsnd_and_msgrcv_check_what_they_are_given(queue: SysVMessageQueue[MInt1]) -> None:
    for data in (b"", b"1234567"):
        with pytest.raises(ValueError, match="too short"):
            msgsnd(queue.id, None, data, 0)
    for form in (MInt1, 5, "form"):
        with pytest.raises(TypeError, match="MessageForm"):
            msgrcv(queue.id, 0, 0, 100, 0, form)  # type: ignore[arg-type]
    assert len(queue) == 0
