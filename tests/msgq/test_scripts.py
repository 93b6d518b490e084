"""The scripts as a user runs them: ``python path/to/script.py`` from anywhere."""

from __future__ import annotations

import ast
import contextlib
import errno
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from script_runs import SCRIPTS, Scripts, fails, misused, quiet

import ipckit
from ipckit import Char, Int, PosixMessageQueue, Struct, SysVMessageQueue
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipckit.testing import Namespace

RUNNABLE = sorted(path.name for path in SCRIPTS.glob("[!_]*.py"))


class Stu(Struct):
    name: Char[32]
    age: Int


class Kind:
    """The scripts of one kind of queue, and how to reach a queue with them."""

    def __init__(self, name: str, ns: Namespace) -> None:
        self.sysv = name == "sysv"
        self.where: Any = ns.key() if self.sysv else ns.name()
        self.here = ["--key" if self.sysv else "--name", self.where]
        self.cls: Any = SysVMessageQueue if self.sysv else PosixMessageQueue
        self.sender, self.receiver = (
            ("msgq_send.py", "msgq_recv.py") if self.sysv else ("mq_send.py", "mq_recv.py")
        )
        self.receives = "msgrcv" if self.sysv else "mq_timedreceive"
        self.sends = "msgsnd" if self.sysv else "mq_timedsend"
        # The first column for a message that was sent without a number.
        self.default = b"1" if self.sysv else b"0"

    def shown(self, *payloads: bytes) -> bytes:
        return b"".join(self.default + b"\t" + payload + b"\n" for payload in payloads)


@pytest.fixture(params=["sysv", "posix"])
def kind(request: pytest.FixtureRequest, ns: Namespace) -> Kind:
    return Kind(request.param, ns)


@pytest.fixture
def queue(kind: Kind) -> Iterator[Any]:
    with kind.cls.create(kind.where) as made:
        yield made


# -- every script ----------------------------------------------------------------------------------


def test_there_is_a_script_for_each_side() -> None:
    assert {"msgq_send.py", "msgq_recv.py", "mq_send.py", "mq_recv.py", "demo.py"} <= set(RUNNABLE)


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_script_shows_its_command_and_is_short(name: str) -> None:
    text = (SCRIPTS / name).read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert f" python scripts/{name}" in docstring
    assert len(text.splitlines()) <= 80


def test_help_and_missing_options(scripts: Scripts) -> None:
    named = ["msgq_send.py", "msgq_recv.py", "mq_send.py", "mq_recv.py"]
    helps = scripts.run_all(*([name, "--help"] for name in named))
    for done in helps:
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"--timeout" in done.stdout
    for done in scripts.run_all(
        *([name] for name in [*named, "demo_consumer.py", "demo_producer.py"])
    ):
        misused(done)


# -- sending and receiving -------------------------------------------------------------------------


def test_texts_and_create(kind: Kind, scripts: Scripts) -> None:
    quiet(scripts.run(kind.sender, *kind.here, "--create", "hello", "", b"\xff caf\xc3\xa9"))
    # The queue exists, and --create opens it.
    (again,) = scripts.run_all([kind.sender, *kind.here, "--create", "--", "--text"])
    quiet(again)
    got = scripts.run(kind.receiver, *kind.here, "--count", 4, "--timeout", 0, "--remove")
    quiet(got, kind.shown(b"hello", b"", b"\xff caf\xc3\xa9", b"--text"))
    with pytest.raises(ipckit.NotFound):
        kind.cls.open(kind.where)


LINES = [b"first", b"", b"  kept  ", b"\xff\xfe no UTF-8", b"tab\there\r", b"", b"no newline"]


def test_lines_of_standard_input_and_of_a_file(
    kind: Kind, queue: Any, scripts: Scripts, ns: Namespace
) -> None:
    quiet(scripts.run(kind.sender, *kind.here, stdin=b"\n".join(LINES)))
    assert [message.value for message in queue.drain()] == LINES
    path = ns.path(".txt")
    path.write_bytes(b"\n".join(LINES))
    sent, got, empty = scripts.run_all(
        [kind.sender, *kind.here, "--file", path.name],
        [kind.receiver, *kind.here, "--count", len(LINES)],
        [kind.sender, *kind.here],
        stdin=[b"not this", b"", b""],
    )
    quiet(sent)
    quiet(got, kind.shown(*LINES))
    quiet(empty)
    assert len(queue) == 0


def test_lines_are_sent_and_shown_without_delay(kind: Kind, queue: Any, scripts: Scripts) -> None:
    receiver = scripts.start(kind.receiver, *kind.here, "--count", 2)
    sender = scripts.start(kind.sender, *kind.here, stdin=subprocess.PIPE)
    assert sender.stdin is not None
    assert receiver.stdout is not None
    for line in (b"one", b"two"):
        sender.stdin.write(line + b"\n")
        sender.stdin.flush()
        assert receiver.stdout.readline() == kind.shown(line)
    sender.stdin.close()
    assert (sender.wait(60), receiver.wait(60)) == (0, 0)
    assert len(queue) == 0


def test_structs(kind: Kind, scripts: Scripts) -> None:
    lines = "amy,20\nbob , -31\nde Vries, jr.,2147483647\n\u00e9lise,0\n".encode()
    quiet(scripts.run(kind.sender, *kind.here, "--create", "--struct", stdin=lines))
    with kind.cls.open(kind.where, Stu) as queue:
        people = [
            Stu("amy", 20),
            Stu("bob", -31),
            Stu("de Vries, jr.", 2**31 - 1),
            Stu("\u00e9lise", 0),
        ]
        assert [queue.receive(timeout=0).value for _ in range(4)] == people
        for each in people[:2]:
            queue.send(each)
    got = scripts.run(kind.receiver, *kind.here, "--struct", "--count", 2, "--remove")
    quiet(
        got,
        kind.shown(b"Stu(name='amy', age=20)", b"Stu(name='bob', age=31)".replace(b"31", b"-31")),
    )


def test_bad_lines_of_structs(kind: Kind, queue: Any, scripts: Scripts) -> None:
    bad = [
        (b"amy", "'amy' is not name,age"),
        (b"", "'' is not name,age"),
        (b"amy,", "the age is not an integer"),
        (b"amy,x", "the age is not an integer"),
        (b"amy,2147483648", "2147483648"),
        (b"x" * 33 + b",1", "32"),
        (b"a\0b,1", "NUL"),
        (b"\xff,\xff", "is not name,age"),
    ]
    runs = scripts.run_all(
        *[[kind.sender, *kind.here, "--struct"]] * len(bad),
        stdin=[b"before,1\n" + line + b"\nafter,2\n" for line, _ in bad],
    )
    for done, (_, word) in zip(runs, bad, strict=True):
        fails(done, word)
        assert done.stdout == b""
    # The lines before the bad one were sent, the lines after it were not.
    assert len(queue) == len(bad)
    sent = [Stu.from_bytes(message.value) for message in queue.drain()]
    assert sent == [Stu("before", 1)] * len(bad)


def test_a_message_that_is_not_a_struct_is_shown_in_the_error(
    kind: Kind, queue: Any, scripts: Scripts
) -> None:
    # The message has left the queue, so its bytes are nowhere else.
    queue.send(b"precious\n\xff")
    done = scripts.run(kind.receiver, *kind.here, "--struct", "--timeout", 0)
    fails(done, "expected 36 bytes for Stu, got 10", r"b'precious\n\xff'")


def test_count_zero_and_timeouts(kind: Kind, queue: Any, scripts: Scripts) -> None:
    nought, empty, late = scripts.run_all(
        [kind.receiver, *kind.here, "--count", 0],
        [kind.receiver, *kind.here, "--timeout", 0],
        [kind.receiver, *kind.here, "--timeout", "0.01"],
    )
    quiet(nought)
    fails(empty, "no message waits")
    fails(late, "no message came within 0.01 s")
    with contextlib.suppress(ipckit.WouldBlock):
        while True:
            queue.send(b"full", timeout=0)
    before = len(queue)
    full, late = scripts.run_all(
        [kind.sender, *kind.here, "--timeout", 0, "x"],
        [kind.sender, *kind.here, "--timeout", "0.01", "x"],
    )
    fails(full, "the queue is full")
    fails(late, "the queue was full for 0.01 s")
    assert len(queue) == before


def test_types(ns: Namespace, scripts: Scripts) -> None:
    kind = Kind("sysv", ns)
    with kind.cls.create(kind.where) as queue:
        largest = 2**63 - 1
        queue.send(b"5", 5)
        sent, taken = scripts.run_all(
            [kind.sender, *kind.here, "--type", largest, "x"],
            [kind.receiver, *kind.here, "--type", largest, "--count", 1],
        )
        quiet(sent)
        quiet(taken, b"%d\tx\n" % largest)
        queue.drain()
        for mtype in (3, 2, 1, 2, 4):
            queue.send(b"%d" % mtype, mtype)
        least, other, none = scripts.run_all(
            [kind.receiver, *kind.here, "--type", -2, "--count", 3],
            [kind.receiver, *kind.here, "--type", 3, "--except", "--count", 1],
            [kind.receiver, *kind.here, "--type", 9, "--timeout", 0],
        )
        quiet(least, b"1\t1\n2\t2\n2\t2\n")
        quiet(other, b"4\t4\n")
        fails(none, "no message waits for select=9")
        assert [message.value for message in queue.drain()] == [b"3"]


def test_priorities(ns: Namespace, scripts: Scripts) -> None:
    kind = Kind("posix", ns)
    with kind.cls.create(kind.where) as queue:
        low, high, got = scripts.run_all(
            [kind.sender, *kind.here, "--priority", 0, "low"],
            [kind.sender, *kind.here, "--priority", 32767, "high"],
            [kind.receiver, *kind.here, "--count", 2],
        )
        quiet(low)
        quiet(high)
        quiet(got, b"32767\thigh\n0\tlow\n")
        assert len(queue) == 0


def test_path_and_proj_are_the_key_of_ftok(ns: Namespace, scripts: Scripts) -> None:
    path = ns.path()
    path.touch()
    projects = ("A", "1", "17", "0x11")
    keys = [ipckit.ftok(path, p if len(p) == 1 else int(p, 0)) for p in projects]
    assert len(set(keys)) == 3
    here = [["--path", path.name, "--proj", project] for project in projects]
    for done in scripts.run_all(*(["msgq_send.py", *each, "--create", each[-1]] for each in here)):
        quiet(done)
    for key, project in zip(keys, projects, strict=True):
        with SysVMessageQueue.open(key) as queue:
            assert queue.receive(timeout=0).value == project.encode()
            queue.send(b"back")
    got = scripts.run_all(*(["msgq_recv.py", *each, "--count", 1, "--timeout", 0] for each in here))
    for done in got:
        quiet(done, b"1\tback\n")
    for key in set(keys):
        with SysVMessageQueue.open(key).adopt():
            pass


# -- errors ----------------------------------------------------------------------------------------


def test_the_error_of_a_missing_queue_says_how_to_create_it(kind: Kind, scripts: Scripts) -> None:
    for done in scripts.run_all([kind.sender, *kind.here, "x"], [kind.receiver, *kind.here]):
        fails(done, "no such queue", "create", str(kind.where))


def test_an_error_is_one_line(ns: Namespace, kind: Kind, queue: Any, scripts: Scripts) -> None:
    missing = ns.path()
    long, gone, directory, odd = scripts.run_all(
        [kind.sender, *kind.here, "x" * 8193],
        [kind.sender, *kind.here, "--file", missing],
        [kind.sender, *kind.here, "--file", ns.directory],
        [kind.sender, *kind.here, "--file", "two\nlines"],
    )
    fails(long, "8,193 bytes exceeds")
    fails(gone, os.strerror(errno.ENOENT), str(missing))
    fails(directory, os.strerror(errno.EISDIR))
    fails(odd, os.strerror(errno.ENOENT))
    if kind.sysv:
        options: Sequence[object] = ["--path", "two\nlines", "--proj", "A"]
        nowhere = ["--path", missing, "--proj", "A"]
    else:
        options = ["--name", "two\nlines"]
        nowhere = ["--name", "a/b"]
    two, one = scripts.run_all([kind.sender, *options, "x"], [kind.receiver, *nowhere])
    fails(two, "no such")
    fails(one, "no such file" if kind.sysv else "a slash after the first")
    assert len(queue) == 0


def test_bad_usage_in_a_new_process(kind: Kind, scripts: Scripts) -> None:
    misused(scripts.run(kind.receiver, *kind.here, "--count", -1), "--count must be 0 or more")


def test_bad_usage_exits_with_2(kind: Kind, scripts: Scripts) -> None:
    cases: list[tuple[list[object], str]] = [
        ([kind.receiver, *kind.here, "--count", -1], "--count must be 0 or more"),
        ([kind.receiver, *kind.here, "--count", "x"], "--count"),
        ([kind.receiver, *kind.here, "--timeout", -1], "--timeout"),
        ([kind.receiver, *kind.here, "--timeout", "nan"], "--timeout"),
        ([kind.sender, *kind.here, "--timeout", "x", "y"], "--timeout"),
        ([kind.sender, *kind.here, "--file", "f", "text"], "exclude each other"),
        ([kind.sender, *kind.here, "--nonsense"], "--nonsense"),
    ]
    if kind.sysv:
        here = kind.here
        cases += [
            ([kind.sender, *here, "--type", 0, "x"], "--type must be 1"),
            ([kind.sender, *here, "--type", -1, "x"], "--type must be 1"),
            ([kind.sender, *here, "--type", 2**63, "x"], "--type must be 1"),
            ([kind.sender, *here, "--type", "x", "x"], "--type"),
            ([kind.receiver, *here, "--type", 2**63], "--type"),
            ([kind.receiver, *here, "--type", -(2**63) - 1], "--type"),
            ([kind.receiver, *here, "--except"], "--except needs --type"),
            ([kind.receiver, *here, "--except", "--type", -1], "--except needs --type"),
            ([kind.receiver, "--key", 0], "IPC_PRIVATE"),
            ([kind.receiver, "--key", "abc"], "write it as 1234"),
            ([kind.receiver, "--key", 2**32], "out of range"),
            ([kind.receiver, *here, "--path", "/"], "not allowed with"),
            ([kind.receiver, *here, "--proj", "A"], "--proj goes with --path"),
            ([kind.receiver, "--path", "/"], "--path needs --proj"),
            ([kind.receiver, "--path", "/", "--proj", "ab"], "one ASCII character, or 1 to 255"),
            ([kind.receiver, "--path", "/", "--proj", 256], "1 to 255"),
            ([kind.receiver, "--path", "/", "--proj", ""], "one ASCII character, or 1 to 255"),
        ]
    else:
        cases += [
            ([kind.sender, *kind.here, "--priority", -1, "x"], "--priority must be 0 to 32767"),
            ([kind.sender, *kind.here, "--priority", 32768, "x"], "--priority must be 0 to 32767"),
        ]
    for done, (_, word) in zip(scripts.run_all(*(case for case, _ in cases)), cases, strict=True):
        misused(done, word)


@pytest.mark.parametrize("stream", ["<&-", ">&-", ">/dev/full"])
def test_a_stream_that_is_closed_or_full(
    kind: Kind, queue: Any, scripts: Scripts, stream: str
) -> None:
    queue.send(b"still there")
    script, *options = [kind.sender] if stream == "<&-" else [kind.receiver, "--timeout", "0"]
    done = scripts.run(script, *kind.here, *options, then=stream)
    fails(done, {"<&-": "input", ">&-": "output"}.get(stream, os.strerror(errno.ENOSPC)))
    # It receives nothing that it can't show. That a device is full shows only in a write.
    assert len(queue) == (stream != ">/dev/full")


# -- interrupted -----------------------------------------------------------------------------------


def test_ctrl_c_is_quiet(kind: Kind, queue: Any, scripts: Scripts) -> None:
    receiver = scripts.start(kind.receiver, *kind.here)
    reader = scripts.start(kind.sender, *kind.here, stdin=subprocess.PIPE)
    wait_blocked(receiver.pid, kind.receives)
    wait_blocked(reader.pid, "read")
    for process in (receiver, reader):
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 128 + signal.SIGINT  # with its input still open
        assert process.communicate() == (b"", b"")
    with contextlib.suppress(ipckit.WouldBlock):
        while True:
            queue.send(b"full", timeout=0)
    sender = scripts.start(kind.sender, *kind.here, "x")
    wait_blocked(sender.pid, kind.sends)
    sender.send_signal(signal.SIGINT)
    assert sender.communicate() == (b"", b"")
    assert sender.returncode == 128 + signal.SIGINT


def test_ctrl_c_with_remove_removes(kind: Kind, scripts: Scripts) -> None:
    kind.cls.create(kind.where).close()
    receiver = scripts.start(kind.receiver, *kind.here, "--remove")
    wait_blocked(receiver.pid, kind.receives)
    receiver.send_signal(signal.SIGINT)
    assert receiver.communicate() == (b"", b"")
    with pytest.raises(ipckit.NotFound):
        kind.cls.open(kind.where)


def test_a_closed_pipe_is_quiet(kind: Kind, queue: Any, scripts: Scripts) -> None:
    for text in (b"one", b"two"):
        queue.send(text)
    receiver = scripts.start(kind.receiver, *kind.here, stdout=subprocess.PIPE)
    head = subprocess.run(["head", "-1"], stdin=receiver.stdout, capture_output=True, check=True)
    assert head.stdout == kind.shown(b"one")
    assert receiver.stdout is not None
    receiver.stdout.close()  # the last reader
    with contextlib.suppress(ipckit.WouldBlock):
        queue.send(b"three", timeout=0)
    assert receiver.wait(60) == 1
    assert receiver.stderr is not None
    assert receiver.stderr.read() == b""
    queue.drain()


def test_a_queue_removed_while_the_scripts_run(ns: Namespace, scripts: Scripts) -> None:
    kind = Kind("sysv", ns)
    with kind.cls.create(kind.where, max_bytes=1) as queue:
        receiver = scripts.start(kind.receiver, *kind.here)
        wait_blocked(receiver.pid, "msgrcv")
        queue.unlink()
    assert receiver.communicate() == (b"", b"")
    assert receiver.returncode == 0
    with kind.cls.create(kind.where, max_bytes=1) as queue:
        queue.send(b"x")
        sender = scripts.start(kind.sender, *kind.here, "y")
        wait_blocked(sender.pid, "msgsnd")
        queue.unlink()
    out, err = sender.communicate()
    fails(subprocess.CompletedProcess([], sender.returncode, out, err), "the queue was removed")


def test_kill_9_of_either_side(kind: Kind, queue: Any, scripts: Scripts) -> None:
    receiver = scripts.start(kind.receiver, *kind.here)
    sender = scripts.start(kind.sender, *kind.here, stdin=subprocess.PIPE)
    wait_blocked(receiver.pid, kind.receives)
    wait_blocked(sender.pid, "read")
    receiver.kill()
    receiver.wait()
    assert sender.stdin is not None
    sender.stdin.write(b"whole\nhal")
    sender.stdin.flush()
    message = queue.receive(timeout=30)
    wait_blocked(sender.pid, "read")
    sender.kill()
    sender.wait()
    assert message.value == b"whole"
    assert len(queue) == 0
    queue.send(b"another")
    assert queue.receive(timeout=0).value == b"another"


# -- the demonstration -----------------------------------------------------------------------------


def side_of(demo: subprocess.Popen[bytes], script: str) -> int:
    """The process of one side, once it is there."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for pid in Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if script.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
    pytest.fail(f"{script} was not started")


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def test_the_demonstration(scripts: Scripts) -> None:
    done = scripts.run("demo.py")
    assert done.returncode == 0, done
    text = done.stdout.decode()
    assert "made <SysVMessageQueue" in text
    assert "PID  COMMAND" in text
    rows = [line.split() for line in text.partition("RESIDENT KiB\n")[2].splitlines()]
    table = [row for row in rows if row and row[0].isdecimal()]
    assert table
    assert any("python" in row[1] for row in table)
    # All messages arrived.
    words = next(line for line in text.splitlines() if line.startswith("consumer ")).split()
    assert words[3] == words[5]
    assert "$ ipcs -q" in text
    assert done.stderr.decode().startswith("producer ")


@pytest.mark.parametrize("victim", ["consumer", "producer"])
def test_a_killed_side_ends_the_demonstration(scripts: Scripts, victim: str) -> None:
    demo = scripts.start("demo.py")
    producer = side_of(demo, "demo_producer.py")
    os.kill(producer, signal.SIGSTOP)  # so that the consumer waits
    consumer = side_of(demo, "demo_consumer.py")
    wait_blocked(consumer, "msgrcv")
    os.kill({"consumer": consumer, "producer": producer}[victim], signal.SIGKILL)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert b"Traceback" not in out + err
    assert gone(producer)
    assert gone(consumer)
    assert b"removing <SysVMessageQueue" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_nothing(scripts: Scripts, number: int) -> None:
    demo = scripts.start("demo.py", process_group=0)
    producer = side_of(demo, "demo_producer.py")
    os.kill(producer, signal.SIGSTOP)
    consumer = side_of(demo, "demo_consumer.py")
    wait_blocked(consumer, "msgrcv")
    if number == signal.SIGINT:
        os.killpg(demo.pid, number)  # as a terminal does
    else:
        demo.send_signal(number)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 128 + number
    assert err == b""
    assert b"made <SysVMessageQueue" in out
    assert gone(producer)
    assert gone(consumer)


def test_a_foreign_message_cannot_control_the_terminal(ns: Namespace) -> None:
    """A pipe gets the bytes as they came; a terminal gets what can be shown."""
    with SysVMessageQueue.create(ns.key()) as queue:
        for _ in range(2):
            queue.send(b"\x1b]0;owned\x07\xff")
        command = [sys.executable, SCRIPTS / "msgq_recv.py", "--key", str(int(queue.key))]
        ours, theirs = pty.openpty()
        try:
            subprocess.run(
                [*command, "--count", "1"], stdout=theirs, stdin=subprocess.DEVNULL, check=True
            )
            shown = os.read(ours, 4096)
        finally:
            os.close(theirs)
            os.close(ours)
        assert shown == "1\t\ufffd]0;owned\ufffd\ufffd\r\n".encode()
        piped = subprocess.run([*command, "--count", "1"], stdout=subprocess.PIPE, check=True)
        assert piped.stdout == b"1\t\x1b]0;owned\x07\xff\n"
