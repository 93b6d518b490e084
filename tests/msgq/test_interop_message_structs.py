"""Structs that C programs send and receive as ``struct { long mtype; … }``, in both directions."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from ipckit import (
    Array,
    Char,
    Double,
    Float,
    Int,
    Long,
    Short,
    Struct,
    SysVMessageQueue,
)
from ipckit._msgq.message_form import is_message_struct
from ipckit.msgq import Message
from ipckit.structs import Aligned, Anonymous, Bits, UInt, Union
from ipckit.testing import require, wait_blocked

if TYPE_CHECKING:
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
