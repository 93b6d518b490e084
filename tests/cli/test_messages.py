"""``ipckit peek``, ``send`` and ``recv`` of queues."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Bytes, Char, Int, PosixMessageQueue, Struct, SysVMessageQueue
from ipckit.testing import Child, wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from command_line import Done

    from ipckit.testing import Namespace

C_STU = "typedef struct stu { char name[32]; int age; } Stu;"
HELLO = """\
message 0  type 3  5 bytes
  00000000  68 65 6c 6c 6f                                    |hello|
"""


class Stu(Struct):
    name: Char[32]
    age: Int


class Raw(Struct):
    raw: Bytes[3]


@pytest.fixture
def queue(ns: Namespace) -> Iterator[SysVMessageQueue[bytes]]:
    with SysVMessageQueue.create(ns.key()) as made:
        yield made


@pytest.fixture
def posix(ns: Namespace) -> Iterator[PosixMessageQueue[bytes]]:
    with PosixMessageQueue.create(ns.name()) as made:
        yield made


def module(directory: Path) -> Path:
    """A directory with a module that declares Stu."""
    text = "from ipckit import *\nclass Stu(Struct):\n    name: Char[32]\n    age: Int\n"
    (directory / "records.py").write_text(text)
    return directory


def test_a_message_goes_from_shell_to_shell_and_is_seen_on_the_way(
    ipckit: Callable[..., Any], queue: SysVMessageQueue[bytes]
) -> None:
    name = f"q:{queue.id}"
    ipckit("send", name, "hello", "--mtype", 3)
    assert ipckit("peek", name).stdout == HELLO
    assert queue.stat().qnum == 1
    assert ipckit("recv", f"{queue.key:#x}", "--timeout", 5).stdout == "hello\n"
    done = ipckit("peek", name)
    assert (done.stdout, done.stderr) == ("", f"ipckit: {name}: no messages\n")


def test_send_takes_lines_and_structs_and_refuses_others(
    commands: Callable[..., Any], ipckit: Callable[..., Any], ns: Namespace
) -> None:
    with SysVMessageQueue.create(ns.key(), Stu) as queue:
        name = f"q:{queue.id}"
        lines = '{"name": "amy", "age": 20}\n\n["böb", 31]\n'
        here = module(ns.directory)
        ipckit("send", name, "--struct", "records:Stu", "--mtype", 2, text=lines, cwd=here)
        assert queue.peek(0).value == Stu("amy", 20)
        assert (queue.peek(1).value, queue.peek(1).mtype) == (Stu("böb", 31), 2)
        # What is no Stu is shown all the same, also to who asks for one: nothing is lost.
        struct = ("--c", C_STU)
        results = commands(
            ["send", name, "short"],
            ["peek", name, *struct],
            ["peek", name, "-n", 1, "--json", *struct],
            ["peek", name, "--mtype", 1, "--json", *struct],
            ["peek", name, "--mtype", 9],
            ["recv", name, "-n", 2, "--json", *struct],
            ["recv", name, *struct],
        )
        _, shown, one, other, none, taken, last = results
        assert shown[0] == 1
        assert "message 1  type 2  36 bytes  Stu(name='böb', age=31)\n" in shown[1]
        assert "message 2: expected 36 bytes for Stu, got 5" in shown[2]
        record = {"index": 0, "mtype": 2, "size": 36, "value": {"name": "amy", "age": 20}}
        assert (one[0], json.loads(one[1])) == (0, record)
        record = {"index": 2, "mtype": 1, "size": 5, "hex": b"short".hex(), "text": "short"}
        assert (other[0], json.loads(other[1])) == (1, record)
        assert none == (0, "", f"ipckit: {name}: no messages of type 9\n")
        assert [json.loads(line)["value"]["age"] for line in taken[1].splitlines()] == [20, 31]
        assert last[:2] == (1, b"short".hex() + "\n")


def test_a_message_struct_is_sent_under_its_own_type(
    run: Callable[..., Done], queue: SysVMessageQueue[bytes]
) -> None:
    name = f"q:{queue.id}"
    struct = ("--c", "struct rep { long mtype; int sum; };")
    sent = [
        run("send", name, *struct, '{"mtype": 7, "sum": 42}'),
        run("send", name, *struct, "--mtype", 7, "[7, 43]"),
        run("send", name, *struct, "--mtype", 8, "[7, 44]"),
        run("send", name, *struct, "[0, 45]"),
        run("send", name, *struct, '{"sum": 46}'),
    ]
    assert [status for status, _, _ in sent] == [0, 0, 2, 2, 2]
    assert "the argument mtype is 8, but rep.mtype is 7" in sent[2][2]
    assert "field mtype of rep must be 1 to" in sent[3][2]
    assert "needs a value for field 'mtype'" in sent[4][2]
    queue.send(b"\1\0\0\0", 9)
    queue.send(b"abc", 9)
    shown = run("peek", name, *struct)
    assert b"message 0  type 7  8 bytes  rep(mtype=7, sum=42)\n" in shown.out
    assert b"message 2  type 9  4 bytes  rep(mtype=9, sum=1)\n" in shown.out
    assert "message 3: expected 4 to 8 bytes for rep after its mtype, got 3" in shown.err
    taken = run("recv", name, "-n", 3, "--json", *struct)
    assert taken.records == [
        {"mtype": 7, "size": 8, "value": {"mtype": 7, "sum": 42}},
        {"mtype": 7, "size": 8, "value": {"mtype": 7, "sum": 43}},
        {"mtype": 9, "size": 4, "value": {"mtype": 9, "sum": 1}},
    ]
    assert run("recv", name, *struct)[:2] == (1, b"abc".hex().encode() + b"\n")
    assert run("send", name, *struct, "--json", text=taken.out).status == 0
    assert [each.mtype for each in queue.drain()] == [7, 7, 9]
    other = '{"mtype": 8, "value": [7, 1]}'
    assert run("send", name, *struct, "--json", other).status == 2


def test_padding_that_c_adds_is_shown_as_part_of_the_struct(
    run: Callable[..., Done], queue: SysVMessageQueue[bytes]
) -> None:
    name = f"q:{queue.id}"
    struct = ("--c", "struct rep { int sum; };")
    queue.send(b"\1\0\0\0....", 7)
    assert b"type 7  8 bytes  rep(sum=1)" in run("peek", name, *struct).out
    assert run("recv", name, *struct).out == b"rep(sum=1)\n"


def test_messages_move_between_queues_whole(
    run: Callable[..., Done],
    queue: SysVMessageQueue[bytes],
    posix: PosixMessageQueue[bytes],
) -> None:
    sent = [b"\xff\xfe", b"", b"a\nb", b"nul\0"]
    for number, each in enumerate(sent, 1):
        queue.send(each, mtype=number)
    taken = run("recv", f"q:{queue.id}", "--all", "--json")
    run("send", f"mq:{posix.name}", "--json", "--priority", 7, text=taken.out)
    assert [(m.value, m.priority) for m in posix.drain()] == [(each, 7) for each in sent]
    run("send", f"q:{queue.id}", "--json", text=taken.out)
    assert [(m.value, m.mtype) for m in queue.drain()] == list(zip(sent, range(1, 5), strict=True))


def test_posix_queues_send_by_priority_and_are_not_peeked_into(
    run: Callable[..., Done], posix: PosixMessageQueue[bytes]
) -> None:
    name = f"mq:{posix.name}"
    results = [
        run("send", name, "low"),
        run("send", name, "high", "--priority", 5),
        run("peek", name),
        run("recv", name, "--json"),
        run("recv", name, "--hex"),
        run("recv", name, "--all"),
        run("recv", name, "--timeout", 0),
        run("recv", name, "--timeout", 0.02),
        run("recv", name, "--mtype", 1),
        run("send", name, "x", "--mtype", 1),
        run("send", name, "--json"),
    ]
    assert [status for status, _, _ in results] == [0, 0, 3, 0, 0, 0, 1, 1, 2, 2, 0]
    assert "no call to look" in results[2][2]
    assert json.loads(results[3][1]) == {
        "priority": 5,
        "size": 4,
        "hex": b"high".hex(),
        "text": "high",
    }
    assert results[4][1] == b"low".hex().encode() + b"\n"
    assert results[5][1:] == (b"", "")
    assert "no message" in results[6][2]
    assert "within 0.02 s" in results[7][2]


def test_receiving_chooses_by_type(
    run: Callable[..., Done], queue: SysVMessageQueue[bytes]
) -> None:
    for mtype in (5, 2, 9, 2):
        queue.send(b"%d" % mtype, mtype=mtype)
    name = f"q:{queue.id}"
    results = [
        run("recv", name, "--mtype", 2),
        run("recv", name, "--mtype", -8),
        run("recv", name, "--mtype", 5, "--exclude"),
        run("recv", name, "--exclude"),
        run("recv", name, "--raw"),
    ]
    assert [out for _, out, _ in results] == [b"2\n", b"2\n", b"9\n", b"", b"5"]
    assert results[3][0] == 2


def test_send_takes_hex_and_raw_bytes(
    run: Callable[..., Done], queue: SysVMessageQueue[bytes]
) -> None:
    name = f"q:{queue.id}"
    run("send", name, "--hex", "00ff")
    run("send", name, "--raw", text=b"two\nlines\n")
    run("send", name, text=b"one\r\n\ntwo")
    assert [m.value for m in queue.drain()] == [b"\0\xff", b"two\nlines\n", b"one", b"", b"two"]


BAD_MESSAGES = [
    ["--hex", "xyz"],
    ["--raw", "word"],
    ["--json", "[]"],
    ["--json", "{}"],
    ["--json", "{"],
    ["--json", '{"value": {}}'],
    ["--json", '{"text": "a", "mtype": "b"}'],
    ["--json", '{"text": "a", "mtype": -1}'],
    ["--json", '{"text": "a", "mtype": 99999999999999999999}'],
    ["--mtype", 0, "a"],
    ["--priority", 1, "a"],
    ["--timeout", -1, "a"],
    ["--timeout", "nan", "a"],
    ["--timeout", "inf", "a"],
    ["--c", "int x;", "a"],
    ["--c", C_STU, "[1, 2]"],
    ["--c", C_STU, "--hex", "00"],
    ["--c", C_STU, "--struct", "a:B", "[]"],
    ["--c", "@/nowhere", "[]"],
    ["--struct", "no_such_module:X", "[]"],
    ["--struct", "json", "[]"],
    ["--struct", "json:loads", "[]"],
    ["--struct", "ipckit:Struct", "[]"],
]


def test_wrong_usage_is_an_error_and_sends_nothing(
    run: Callable[..., Done], queue: SysVMessageQueue[bytes]
) -> None:
    name = f"q:{queue.id}"
    lines = [["send", name, *words] for words in BAD_MESSAGES]
    lines += [["recv", name, "--mtype", 2**63]]
    lines += [["recv", name, "--all", "-n", 1], ["recv", name, "--raw", "--c", C_STU]]
    lines += [["peek", name, "-n", 0], ["peek", "m:1"], ["peek", "q:x"], ["peek"], ["send"]]
    results = [run(*line) for line in lines]
    wrong = [(line, got) for line, got in zip(lines, results, strict=True) if got[0] != 2]
    assert [line for line, _ in wrong] == [["peek", "q:x"]]  # which is the name of nothing
    assert all(err.startswith("ipckit: ") and err.count("\n") == 1 for _, _, err in results)
    assert queue.stat().qnum == 0


def test_an_absent_queue_is_an_error(run: Callable[..., Done]) -> None:
    lines = [["peek", "q:2000000000"], ["recv", "0x7ffffff1"], ["send", "mq:/no-such-queue", "a"]]
    for status, out, err in [run(*line) for line in lines]:
        assert (status, out) == (1, b"")
        assert "no such object" in err


def test_too_long_a_message_names_the_limit(
    run: Callable[..., Done], queue: SysVMessageQueue[bytes]
) -> None:
    done = run("send", f"q:{queue.id}", "--raw", text=b"x" * 9000)
    assert (done.status, "kernel.msgmax (8192)" in done.err) == (1, True)


@pytest.mark.usefixtures("root")
def test_another_user_gets_a_permission_error_with_the_reason(
    commands: Callable[..., Any], queue: SysVMessageQueue[bytes]
) -> None:
    queue.send(b"secret")
    name = f"q:{queue.id}"
    lines = [["peek", name], ["recv", name], ["send", name, "a"]]
    for status, out, err in commands(*lines, user="nobody"):
        assert (status, out) == (1, "")
        assert "the mode 0600" in err
    assert queue.stat().qnum == 1


FOLLOWER = [sys.executable, "-m", "ipckit", "recv", "--follow"]


def test_following_prints_each_message_when_it_comes(queue: SysVMessageQueue[bytes]) -> None:
    with subprocess.Popen(
        [*FOLLOWER, f"q:{queue.id}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as follower:
        assert follower.stdout is not None
        assert follower.stderr is not None
        wait_blocked(follower.pid, "msgrcv")
        queue.send(b"one")
        assert follower.stdout.readline() == b"one\n"
        queue.send(b"two")
        assert follower.stdout.readline() == b"two\n"
        wait_blocked(follower.pid, "msgrcv")
        follower.send_signal(signal.SIGINT)
        assert follower.wait(30) == 130
        assert follower.stderr.read().split() == [b"ipckit:", b"interrupted"]


def test_recv_ends_when_the_reader_closes_the_pipe(queue: SysVMessageQueue[bytes]) -> None:
    for number in range(200):
        queue.send(b"%d" % number)
    command = f"{sys.executable} -m ipckit peek q:{queue.id} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.stdout == "message 0  type 1  1 byte\n"
    assert done.stderr == ""
    assert done.returncode in {0, 128 + signal.SIGPIPE}


def test_recv_takes_nothing_if_its_output_is_closed(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"hello")
    words = [sys.executable, "-m", "ipckit", "recv", f"q:{queue.id}"]
    shell = ["sh", "-c", 'exec "$@" >&-', "sh"]
    done = subprocess.run([*shell, *words], stderr=subprocess.PIPE, text=True, check=False)
    said = "ipckit: standard output is closed; nothing was received\n"
    assert (done.returncode, done.stderr) == (1, said)
    assert len(queue) == 1


def test_a_removed_queue_ends_the_wait(
    queue: SysVMessageQueue[bytes], spawn: Callable[..., Child]
) -> None:
    code = "import sys\nfrom ipckit import cli\nresult = cli.run(args)"
    child = spawn(code, "recv", f"q:{queue.id}")
    child.wait_blocked("msgrcv")
    queue.unlink()
    queue.disown()
    child.wait()
    assert child.result == 1
    assert "the queue was removed" in child.stderr


def test_a_struct_can_be_in_a_file_of_c(run: Callable[..., Done], ns: Namespace) -> None:
    with SysVMessageQueue.create(ns.key(), Raw) as queue:
        queue.send(Raw(b"\1\2\3"))
        path = ns.path(".h")
        path.write_text("#include <stdint.h>\ntypedef struct { uint8_t raw[3]; } Raw;\n")
        done = run("peek", f"q:{queue.id}", "--c", f"@{path}")
        assert done.out == b"message 0  type 1  3 bytes  Raw(raw=[1, 2, 3])\n"
