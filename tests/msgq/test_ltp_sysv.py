"""What the Linux Test Project asserts of msgget, msgsnd, msgrcv and msgctl, through ipckit.

Each test is named after its row: ``testcases/kernel/syscalls/msg*/NAME.c``,
``testcases/kernel/ipc/msgstress`` and ``testcases/kernel/containers/sysvipc``.
A bad address (EFAULT) can't be said in Python; in its place stands an object
without a buffer, which is refused before any system call.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

import ipckit
from ipckit import SysVMessageQueue, _native
from ipckit.msgq import limits, list_queues, usage
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

# In a child: the result of a call, or its error as (class, errno, message).
OUTCOME = """
import errno
from pathlib import Path
from ipckit import SysVMessageQueue, _native
from ipckit.msgq import limits, list_queues, usage
def outcome(call, *args, **options):
    try:
        return call(*args, **options)
    except Exception as exc:
        return type(exc).__name__, getattr(exc, "errno", None), str(exc)
"""

FULL = b"x" * 8192  # two fill a queue of the usual 16384 bytes


@pytest.fixture
def queue(ns: Namespace) -> Iterator[SysVMessageQueue[bytes]]:
    with SysVMessageQueue.create(ns.key()) as made:
        yield made


def fill(queue: SysVMessageQueue[bytes]) -> None:
    queue.max_bytes = 16
    queue.send(b"x" * 16)


def child(spawn: Callable[..., Child], code: str, *args: object, **options: Any) -> Child:
    return spawn(OUTCOME + dedent(code), *args, **options)


def nobody(spawn: Callable[..., Child], code: str, *args: object) -> Any:
    return child(spawn, code, *args, user="nobody", imports=["ipckit.msgq"]).result


# -- msgget ----------------------------------------------------------------------------------------


def test_msgget01_a_message_is_received_as_it_was_sent(ns: Namespace) -> None:
    key = ns.key()
    with SysVMessageQueue.create(key, mode=0o600) as queue:
        queue.send(b"message type 1", 1)
        with SysVMessageQueue.open(key) as other:
            assert other.id == queue.id
            message = other.receive(1, timeout=0)
        assert (message.value, message.mtype) == (b"message type 1", 1)


def test_msgget02_eexist(queue: SysVMessageQueue[bytes]) -> None:
    assert queue.key is not None
    with pytest.raises(ipckit.AlreadyExists) as caught:
        SysVMessageQueue.create(queue.key)
    assert caught.value.errno == errno.EEXIST
    assert "open_or_create" in caught.value.hint


def test_msgget02_enoent(ns: Namespace) -> None:
    key = ns.key()
    with pytest.raises(ipckit.NotFound) as caught:
        SysVMessageQueue.open(key)
    assert caught.value.errno == errno.ENOENT
    assert f"SysVMessageQueue.create({key})" in caught.value.hint


@pytest.mark.usefixtures("root")
def test_msgget02_eacces_to_read_to_write_and_both(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    queues = [SysVMessageQueue.create(ns.key(), mode=mode) for mode in (0o622, 0o644, 0o600)]
    code = """
        only_write, only_read, none = args
        with SysVMessageQueue.open(only_write) as queue:
            read = outcome(queue.receive, timeout=0)
            queue.send(b"may")
        with SysVMessageQueue.open(only_read) as queue:
            write = outcome(queue.send, b"may not", timeout=0)
            empty = outcome(queue.receive, timeout=0)
        result = read, write, outcome(SysVMessageQueue.open, none), empty
    """
    read, write, both, empty = nobody(spawn, code, *(queue.key for queue in queues))
    for outcome, mode in ((read, "0622"), (write, "0644"), (both, "0600")):
        assert outcome[:2] == ("AccessDenied", errno.EACCES)
        assert f"the owner is root (uid 0), the mode {mode}" in outcome[2]
    assert empty[0] == "WouldBlock"
    assert queues[0].receive(timeout=0).value == b"may"
    for queue in queues:
        queue.unlink()
        queue.close()


@pytest.mark.usefixtures("root")
def test_msgget03_enospc_at_msgmni(spawn: Callable[..., Child]) -> None:
    code = """
        made = [SysVMessageQueue.create() for _ in range(3)]
        refused = outcome(SysVMessageQueue.create)
        made.pop().__exit__(None, None, None)
        with SysVMessageQueue.create():
            again = outcome(SysVMessageQueue.create)
        for queue in made:
            queue.close()
        result = refused, again
    """
    sandbox = Sandbox(sysctls={"kernel.msgmni": 3})
    refused, again = child(spawn, code, sandbox=sandbox).result
    assert refused[:2] == again[:2] == ("LimitReached", errno.ENOSPC)
    assert "kernel.msgmni (3)" in refused[2]


@pytest.mark.usefixtures("root")
def test_msgget04_and_05_msg_next_id(spawn: Callable[..., Child]) -> None:
    code = """
        setting = Path("/proc/sys/kernel/msg_next_id")
        with SysVMessageQueue.create() as first:
            after = setting.read_text().strip()
            setting.write_text(str(first.id))
            with SysVMessageQueue.create() as second:
                result = first.id, after, second.id, setting.read_text().strip()
    """
    sandbox = Sandbox(sysctls={"kernel.msg_next_id": 12345})
    first, after, second, at_end = child(spawn, code, sandbox=sandbox).result
    assert first == 12345  # 04: honoured, then reset
    assert after == "-1"
    assert second != first  # 05: taken, so another one
    assert at_end == "-1"


# -- msgsnd ----------------------------------------------------------------------------------------


def test_msgsnd01_the_stat_fields(queue: SysVMessageQueue[bytes]) -> None:
    before = int(time.time() - 0.1)
    queue.send(b"0123456789")
    stat = queue.stat()
    assert (stat.cbytes, stat.qnum, stat.lspid) == (10, 1, os.getpid())
    assert before <= stat.stime <= time.time()


@pytest.mark.usefixtures("root")
def test_msgsnd02_eacces(queue: SysVMessageQueue[bytes], spawn: Callable[..., Child]) -> None:
    code = """
        with SysVMessageQueue.from_id(args[0]) as queue:
            result = outcome(queue.send, b"x", timeout=0), outcome(queue.send, b"x")
    """
    for outcome in nobody(spawn, code, queue.id):
        assert outcome[:2] == ("AccessDenied", errno.EACCES)
    assert len(queue) == 0


@pytest.mark.parametrize("data", [None, 1, "text", [b"x"]])
def test_msgsnd02_efault_is_a_type_error(queue: SysVMessageQueue[bytes], data: Any) -> None:
    with pytest.raises(TypeError):
        queue.send(data)
    assert len(queue) == 0


def test_msgsnd02_einval_of_a_bad_id(queue: SysVMessageQueue[bytes]) -> None:
    for bad in (-1, queue.id + 1):
        with pytest.raises(OSError, match="Invalid argument") as caught:
            _native.msgsnd(bad, 1, b"x", None)
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(ipckit.InvalidArgument):
        SysVMessageQueue.from_id(-1)
    with pytest.raises(ipckit.NotFound):
        SysVMessageQueue.from_id(queue.id + 1)


@pytest.mark.parametrize("mtype", [0, -1, 2**63])
def test_msgsnd02_einval_of_a_bad_type(queue: SysVMessageQueue[bytes], mtype: int) -> None:
    with pytest.raises(ipckit.InvalidArgument, match=f"must be 1 to {2**63 - 1}, not {mtype}"):
        queue.send(b"x", mtype)
    assert len(queue) == 0


def test_msgsnd02_einval_of_a_bad_size_names_msgmax(queue: SysVMessageQueue[bytes]) -> None:
    # A size below 0 is impossible: it is the buffer's. One above msgmax has the same errno.
    for timeout in (0, None):
        with pytest.raises(
            ipckit.MessageTooLong, match=r"8,193 bytes exceeds kernel\.msgmax \(8192\)"
        ):
            queue.send(b"x" * 8193, timeout=timeout)
    assert len(queue) == 0


@pytest.mark.usefixtures("root")
def test_msgsnd02_a_raised_msgmax_and_one_lowered_below_what_is_queued(
    spawn: Callable[..., Child],
) -> None:
    code = """
        big = bytes(range(250)) * 80
        with SysVMessageQueue.create() as queue:
            refused = outcome(queue.send, big + b"+")
            queue.send(big)
            Path("/proc/sys/kernel/msgmax").write_text("100")
            lowered = outcome(queue.send, b"x" * 101)
            with SysVMessageQueue.open(queue.key) as late:
                # The kernel copies no more than msgmax (EINVAL), but it delivers any message.
                copy = outcome(late.peek)
                result = refused, lowered, copy, late.receive(timeout=0).value == big
    """
    sandbox = Sandbox(sysctls={"kernel.msgmax": 20000, "kernel.msgmnb": 30000})
    refused, lowered, copy, equal = child(spawn, code, sandbox=sandbox).result
    assert refused[0] == lowered[0] == "MessageTooLong"
    assert "20,001 bytes exceeds kernel.msgmax (20000)" in refused[2]
    assert "101 bytes exceeds kernel.msgmax (100)" in lowered[2]
    assert copy[:2] == ("MessageTooLong", errno.EINVAL)
    assert "longer than kernel.msgmax (100)" in copy[2]
    assert equal


def test_msgsnd05_eagain(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(FULL)
    queue.send(FULL)
    with pytest.raises(ipckit.WouldBlock, match="the queue is full") as caught:
        queue.send(b"x", timeout=0)
    assert caught.value.errno == errno.EAGAIN
    with pytest.raises(ipckit.Timeout) as late:
        queue.send(b"x", timeout=0.01)
    assert late.value.errno == errno.ETIMEDOUT
    assert len(queue) == 2


def test_msgsnd05_messages_without_text_fill_a_queue_too(queue: SysVMessageQueue[bytes]) -> None:
    queue.max_bytes = 3
    for _ in range(3):
        queue.send(b"", timeout=0)
    with pytest.raises(ipckit.WouldBlock):
        queue.send(b"", timeout=0)


@pytest.mark.parametrize(("timeout", "call"), [(None, "msgsnd"), (600, "clock_nanosleep")])
def test_msgsnd05_eintr(
    queue: SysVMessageQueue[bytes], signals: Any, timeout: float | None, call: str
) -> None:
    fill(queue)
    signals.action = queue.receive  # the handler makes room, and the call continues
    with signals.during(call):
        queue.send(b"second", timeout=timeout)
    assert signals.seen == 1
    assert [message.value for message in queue.drain()] == [b"second"]


@pytest.mark.parametrize(("timeout", "call"), [(None, "msgsnd"), (600, "clock_nanosleep")])
def test_msgsnd05_eintr_by_a_handler_that_raises(
    queue: SysVMessageQueue[bytes], signals: Any, timeout: float | None, call: str
) -> None:
    fill(queue)
    signals.action = lambda: 1 / 0
    with signals.during(call), pytest.raises(ZeroDivisionError):
        queue.send(b"second", timeout=timeout)
    assert len(queue) == 1


@pytest.mark.parametrize(
    ("timeout", "call", "code"),
    [(None, "msgsnd", errno.EIDRM), (600, "clock_nanosleep", errno.EINVAL)],
)
def test_msgsnd06_eidrm(
    queue: SysVMessageQueue[bytes], begin: Any, timeout: float | None, call: str, code: int
) -> None:
    fill(queue)
    sender = begin(queue.send, b"second", timeout=timeout)
    sender.wait_blocked(call)
    queue.unlink()
    with pytest.raises(ipckit.Removed, match="the queue was removed") as caught:
        sender.result()
    assert caught.value.errno == code


# -- msgrcv ----------------------------------------------------------------------------------------


def test_msgrcv01_a_message_and_the_stat_fields(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"hello", 7)
    before = int(time.time() - 0.1)
    message = queue.receive(7)
    assert (message.value, message.mtype, message.truncated) == (b"hello", 7, False)
    stat = queue.stat()
    assert (stat.cbytes, stat.qnum, stat.lrpid) == (0, 0, os.getpid())
    assert before <= stat.rtime <= time.time()


def test_msgrcv02_e2big_leaves_the_message(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"12345678")
    with pytest.raises(ipckit.MessageTooLong, match="still queued") as caught:
        queue.receive(max_size=4)
    assert caught.value.errno == errno.E2BIG
    assert queue.receive(max_size=8).value == b"12345678"


@pytest.mark.usefixtures("root")
def test_msgrcv02_eacces(queue: SysVMessageQueue[bytes], spawn: Callable[..., Child]) -> None:
    queue.send(b"secret")
    code = """
        with SysVMessageQueue.from_id(args[0]) as queue:
            result = outcome(queue.receive, timeout=0), outcome(queue.receive), outcome(queue.peek)
    """
    for outcome in nobody(spawn, code, queue.id):
        assert outcome[:2] == ("AccessDenied", errno.EACCES)
    assert len(queue) == 1


def test_msgrcv02_efault_is_a_type_error(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"x")
    for bad in (None, "1", 1.0, True):
        with pytest.raises(TypeError):
            queue.receive(bad)  # type: ignore[arg-type]
    assert len(queue) == 1


def test_msgrcv02_einval_of_a_bad_id() -> None:
    with pytest.raises(OSError, match="Invalid argument") as caught:
        _native.msgrcv(-1, 0, 0, 8, None, None)
    assert caught.value.errno == errno.EINVAL


def test_msgrcv02_einval_of_a_negative_size(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"x")
    with pytest.raises(ValueError, match=r"size must be .*, not -1"):
        _native.msgrcv(queue.id, 0, 0, -1, 0, None)
    with pytest.raises(ipckit.InvalidArgument, match=r"max_size must be .*, not -1"):
        queue.receive(max_size=-1)
    assert len(queue) == 1


def test_msgrcv02_enomsg(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"two", 2)
    cases: list[tuple[int, bool]] = [(3, False), (-1, False), (-1, True), (2, True)]
    for select, exclude in cases:
        with pytest.raises(
            ipckit.WouldBlock, match=f"no message waits for select={select}"
        ) as caught:
            queue.receive(select, exclude=exclude, timeout=0)
        assert caught.value.errno == errno.ENOMSG
    assert queue.receive(timeout=0).value == b"two"


def test_msgrcv03_a_copy_never_waits(queue: SysVMessageQueue[bytes]) -> None:
    # The kernel refuses MSG_COPY without IPC_NOWAIT (EINVAL); ipckit adds the flag.
    with pytest.raises(OSError, match="No message") as caught:
        _native.msgrcv(queue.id, 0, _native.MSG_COPY, 8, None, None)
    assert caught.value.errno == errno.ENOMSG


def test_msgrcv03_einval_of_a_copy_with_except(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"x")
    flags = _native.MSG_COPY | _native.IPC_NOWAIT | _native.MSG_EXCEPT
    with pytest.raises(OSError, match="Invalid argument") as caught:
        _native.msgrcv(queue.id, 0, flags, 8, 0, None)
    assert caught.value.errno == errno.EINVAL


def test_msgrcv03_enomsg_of_an_index_beyond_the_last(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"x")
    assert queue.peek(0).value == b"x"
    for index in (1, 2**63 - 1):
        with pytest.raises(ipckit.WouldBlock) as caught:
            queue.peek(index)
        assert caught.value.errno == errno.ENOMSG
    for index in (-1, 2**63):
        with pytest.raises(ipckit.InvalidArgument):
            queue.peek(index)


@pytest.mark.parametrize(("timeout", "call"), [(None, "msgrcv"), (600, "clock_nanosleep")])
def test_msgrcv05_eintr(
    queue: SysVMessageQueue[bytes], signals: Any, timeout: float | None, call: str
) -> None:
    signals.action = lambda: queue.send(b"from the handler")
    with signals.during(call):
        assert queue.receive(timeout=timeout).value == b"from the handler"
    assert signals.seen == 1


@pytest.mark.parametrize(("timeout", "call"), [(None, "msgrcv"), (600, "clock_nanosleep")])
def test_msgrcv05_eintr_by_a_handler_that_raises(
    queue: SysVMessageQueue[bytes], signals: Any, timeout: float | None, call: str
) -> None:
    signals.action = lambda: 1 / 0
    with signals.during(call), pytest.raises(ZeroDivisionError):
        queue.receive(timeout=timeout)
    queue.send(b"still there")
    assert queue.receive(timeout=0).value == b"still there"


@pytest.mark.parametrize("select", [0, 5, -5])
@pytest.mark.parametrize("timeout", [None, 600])
def test_msgrcv06_eidrm(
    queue: SysVMessageQueue[bytes], begin: Any, select: int, timeout: float | None
) -> None:
    # A timed call finds that the queue was removed when it polls again.
    call, code = ("clock_nanosleep", errno.EINVAL) if timeout else ("msgrcv", errno.EIDRM)
    receiver = begin(queue.receive, select, timeout=timeout)
    receiver.wait_blocked(call)
    queue.unlink()
    with pytest.raises(ipckit.Removed, match="the queue was removed") as caught:
        receiver.result()
    assert caught.value.errno == code


def test_msgrcv07_except(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"one", 1)
    queue.send(b"two", 2)
    message = queue.receive(1, exclude=True, timeout=0)
    assert (message.value, message.mtype) == (b"two", 2)
    assert len(queue) == 1


def test_msgrcv07_noerror_truncates_and_says_so(queue: SysVMessageQueue[bytes]) -> None:
    for size in (7, 8, 9):
        queue.send(b"x" * size)
    cut = [queue.receive(truncate=True, max_size=8, timeout=0) for _ in range(3)]
    assert [(len(each.value), each.truncated) for each in cut] == [
        (7, False),
        (8, False),
        (8, True),
    ]
    assert len(queue) == 0


def test_msgrcv07_copy_leaves_the_queue_as_it_was(queue: SysVMessageQueue[bytes]) -> None:
    for mtype in (3, 1, 2):
        queue.send(b"%d" % mtype, mtype)
    before = queue.stat()
    assert [(queue.peek(i).value, queue.peek(i).mtype) for i in range(3)] == [
        (b"3", 3),
        (b"1", 1),
        (b"2", 2),
    ]
    assert queue.stat() == before


def test_msgrcv07_type_zero_is_the_first(queue: SysVMessageQueue[bytes]) -> None:
    for mtype in (2, 1):
        queue.send(b"%d" % mtype, mtype)
    assert [queue.receive(0, timeout=0).mtype for _ in range(2)] == [2, 1]


def test_msgrcv07_a_positive_type_is_the_first_of_it(queue: SysVMessageQueue[bytes]) -> None:
    for text, mtype in ((b"a", 1), (b"b", 2), (b"c", 2)):
        queue.send(text, mtype)
    assert [queue.receive(2, timeout=0).value for _ in range(2)] == [b"b", b"c"]
    assert len(queue) == 1


def test_msgrcv07_a_negative_type_is_the_lowest_up_to_it(queue: SysVMessageQueue[bytes]) -> None:
    for text, mtype in ((b"a", 3), (b"b", 2), (b"c", 1), (b"d", 2), (b"e", 4)):
        queue.send(text, mtype)
    taken = [queue.receive(-3, timeout=0).value for _ in range(4)]
    assert taken == [b"c", b"b", b"d", b"a"]
    with pytest.raises(ipckit.WouldBlock):
        queue.receive(-3, timeout=0)
    assert queue.receive(timeout=0).value == b"e"


@pytest.mark.parametrize("least", [-(2**63), -(2**63) + 1, -(2**40)])
def test_msgrcv08_a_negative_type_is_a_full_long(
    queue: SysVMessageQueue[bytes], least: int
) -> None:
    queue.send(b"high", 2**40)
    queue.send(b"low", 2**31)
    assert [queue.receive(least, timeout=0).mtype for _ in range(2)] == [2**31, 2**40]


# -- msgctl ----------------------------------------------------------------------------------------


def test_msgctl01_a_fresh_queue(ns: Namespace) -> None:
    key, before = ns.key(), int(time.time() - 0.1)
    with SysVMessageQueue.create(key, mode=0o640) as queue:
        stat = queue.stat()
    assert (stat.stime, stat.rtime, stat.cbytes, stat.qnum, stat.lspid, stat.lrpid) == (0,) * 6
    assert before <= stat.ctime <= time.time()
    assert stat.qbytes == limits().msgmnb > 0
    assert (stat.key, stat.mode) == (key, 0o640)
    assert (stat.uid, stat.cuid) == (os.geteuid(),) * 2
    assert (stat.gid, stat.cgid) == (os.getegid(),) * 2


def test_msgctl02_set_lowers_qbytes(queue: SysVMessageQueue[bytes]) -> None:
    queue.max_bytes -= 1
    assert queue.max_bytes == queue.stat().qbytes == limits().msgmnb - 1


def test_msgctl03_einval_after_removal(queue: SysVMessageQueue[bytes]) -> None:
    queue.unlink()
    calls: list[Callable[[], object]] = [
        queue.stat,
        lambda: len(queue),
        lambda: queue.max_bytes,
        lambda: queue.chmod(0o600),
        lambda: queue.chown(0),
        queue.drain,
        queue.peek,
        queue.receive,
        lambda: queue.receive(timeout=0),
        lambda: queue.receive(timeout=600),
        lambda: queue.receive(max_size=1),
        lambda: queue.receive(1, exclude=True),
        lambda: queue.send(b"x"),
        lambda: queue.send(b"x", timeout=0),
        lambda: queue.send(b"x", timeout=600),
    ]
    for call in calls:
        with pytest.raises(ipckit.Removed, match="the queue was removed") as caught:
            call()
        assert caught.value.target == f"queue key {queue.key:#010x} id {queue.id}"
        assert caught.value.errno == errno.EINVAL


@pytest.mark.usefixtures("root")
def test_msgctl04_eacces_and_eperm(
    queue: SysVMessageQueue[bytes], spawn: Callable[..., Child]
) -> None:
    code = """
        with SysVMessageQueue.from_id(args[0]) as queue:
            result = [
                outcome(queue.stat),
                outcome(queue.unlink),
                outcome(queue.chmod, 0o666),
                outcome(queue.chown, 65534),
                outcome(setattr, queue, "max_bytes", 1),
            ]
    """
    outcomes = nobody(spawn, code, queue.id)
    for kind, _, text in outcomes:
        assert kind == "AccessDenied"
        assert "the owner is root (uid 0), the mode 0600" in text
    assert [code for _, code, _ in outcomes] == [errno.EACCES] + [errno.EPERM] * 4


def test_msgctl04_einval(queue: SysVMessageQueue[bytes]) -> None:
    with pytest.raises(ValueError, match="command is IPC_STAT"):
        _native.msg_stat(queue.id, -1)
    with pytest.raises(ValueError, match="command is IPC_INFO"):
        _native.msg_info(-1)
    with pytest.raises(OSError, match="Invalid argument") as caught:
        _native.msg_stat(-1, _native.IPC_STAT)
    assert caught.value.errno == errno.EINVAL


def test_msgctl05_times_are_seconds_of_64_bits(queue: SysVMessageQueue[bytes]) -> None:
    before = int(time.time() - 0.1)
    queue.send(b"x")
    queue.receive()
    stat = queue.stat()
    for stamp in (stat.stime, stat.rtime, stat.ctime):
        # Garbage in the upper half would be later than any present time.
        assert before - 1 <= stamp <= time.time()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("user", [None, "nobody"])
def test_msgctl06_the_sums_equal_proc(
    ns: Namespace, spawn: Callable[..., Child], user: str
) -> None:
    made = [SysVMessageQueue.create(ns.key()) for _ in range(3)]
    for queue in made[1:]:
        queue.send(b"12345")
    made[2].send(b"678")
    code = """
        rows = [line.split() for line in Path("/proc/sysvipc/msg").read_text().splitlines()[1:]]
        key, ident, _, cbytes, qnum = range(5)
        total = usage()
        assert total.queues == len(rows), (total, rows)
        assert total.messages == sum(int(row[qnum]) for row in rows)
        assert total.bytes == sum(int(row[cbytes]) for row in rows)
        listed = {(each.key, each.id, each.cbytes, each.qnum) for each in list_queues()}
        assert listed == {(int(r[key]), int(r[ident]), int(r[cbytes]), int(r[qnum])) for r in rows}
        result = total.queues, total.messages, total.bytes
    """
    queues, messages, size = child(spawn, code, user=user, imports=["ipckit.msgq"]).result
    assert queues >= 3
    assert messages >= 3
    assert size >= 13
    for queue in made:
        queue.unlink()
        queue.close()


def test_msgctl12_ipc_info_msg_info_and_msg_stat(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"123")
    for name in ("msgmax", "msgmnb", "msgmni"):
        setting = int(Path(f"/proc/sys/kernel/{name}").read_text())
        assert getattr(limits(), name) == setting
    assert usage().queues == len(list_queues()) >= 1
    highest = _native.msg_info(_native.MSG_INFO)[0]
    found = {}
    for index in range(highest + 1):
        try:
            fields = _native.msg_stat(index, _native.MSG_STAT)
        except OSError as exc:
            assert exc.errno == errno.EINVAL  # noqa: PT017 - most slots are empty
        else:
            found[fields[0]] = fields[1:]
    assert found[queue.id] == _native.msg_stat(queue.id, _native.IPC_STAT)[1:]


# -- many at once, and namespaces ------------------------------------------------------------------


def test_msgstress01_many_queues_and_processes_lose_nothing(spawn: Callable[..., Child]) -> None:
    # A writer and a reader for each queue, each a process; every text has its own checksum.
    code = """
        import os, random, zlib
        QUEUES, MESSAGES = 8, 150
        def write(queue, number):
            for i in range(MESSAGES):
                text = random.randbytes(random.randrange(1, 400))
                head = b"%d %d " % (number, i)
                queue.send(head + b"%d " % zlib.crc32(text) + text, number + 1)
        def read(queue, number):
            for i in range(MESSAGES):
                who, place, crc, text = queue.receive(number + 1).value.split(b" ", 3)
                assert (int(who), int(place)) == (number, i)
                assert int(crc) == zlib.crc32(text)
        queues = [SysVMessageQueue.create(max_bytes=1000) for _ in range(QUEUES)]
        pids = []
        for number, queue in enumerate(queues):
            for act in (write, read):
                pid = os.fork()
                if pid == 0:
                    try:
                        act(queue, number)
                    except BaseException as exc:
                        os.write(2, repr(exc).encode())
                        os._exit(1)
                    os._exit(0)
                pids.append(pid)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        left = [len(queue) for queue in queues]
        for queue in queues:
            queue.unlink()
            queue.close()
        result = set(statuses), set(left)
    """
    assert child(spawn, code).result == ({0}, {0})


@pytest.mark.usefixtures("root")
def test_containers_sysvipc_mesgq_nstest_a_queue_is_of_its_namespace(
    queue: SysVMessageQueue[bytes], spawn: Callable[..., Child]
) -> None:
    queue.send(b"outside")
    code = """
        found = outcome(SysVMessageQueue.open, args[0])
        by_id = outcome(SysVMessageQueue.from_id, args[1])
        result = found[:2], by_id[0], len(list_queues())
    """
    inside = child(spawn, code, queue.key, queue.id, sandbox=Sandbox())
    assert inside.result == (("NotFound", errno.ENOENT), "NotFound", 0)
    shared = "with SysVMessageQueue.open(args[0]) as queue: result = queue.receive().value"
    assert child(spawn, shared, queue.key).result == b"outside"


@pytest.mark.usefixtures("root")
def test_containers_sysvipc_msg_comm_one_key_in_two_namespaces(spawn: Callable[..., Child]) -> None:
    code = """
        from ipckit.testing import step
        with SysVMessageQueue.create(4711) as queue:
            step.tell("made")
            step.expect("send")
            queue.send(args[0])
            step.tell("sent")
            step.expect("receive")
            result = queue.receive().value, len(queue)
    """
    both = [child(spawn, code, text, sandbox=Sandbox()) for text in (b"one", b"two")]
    for heard, told in (("made", "send"), ("sent", "receive")):
        for one in both:
            one.expect(heard)
        for one in both:
            one.tell(told)
    assert [one.result for one in both] == [(b"one", 0), (b"two", 0)]
