"""What the Linux Test Project asserts of POSIX message queues, through ipckit.

Tests named ``mq_CALL01`` stand for ``testcases/kernel/syscalls/mq_*``, those
named ``open_posix_CALL_N`` for ``testcases/open_posix_testsuite``'s assertion N
of that call, and ``mqns_NN`` for ``testcases/kernel/containers/mqns``. A bad
address (EFAULT) can't be said in Python; in its place stands an object without
a buffer. A timeout is a number of seconds and no timespec, so a bad tv_sec or
tv_nsec is a bad number of seconds.
"""

from __future__ import annotations

import errno
import math
import os
import signal
import threading
import time
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

import ipckit
from ipckit import PosixMessageQueue, _native
from ipckit.msgq import PosixMessageQueueAttributes
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

Queue = PosixMessageQueue[bytes]

# In a child: the result of a call, or its error as (class, errno, message).
OUTCOME = """
import errno, os, resource
from pathlib import Path
from ipckit import PosixMessageQueue
def outcome(call, *args, **options):
    try:
        return call(*args, **options)
    except Exception as exc:
        return type(exc).__name__, getattr(exc, "errno", None), str(exc)
"""

PRIORITY_MAX = 32767


@pytest.fixture
def queue(ns: Namespace) -> Iterator[Queue]:
    with PosixMessageQueue.create(ns.name(), max_messages=3, max_size=16) as made:
        yield made


def fill(queue: Queue) -> None:
    for _ in range(queue.max_messages):
        queue.send(b"full", timeout=0)


def child(spawn: Callable[..., Child], code: str, *args: object, **options: Any) -> Child:
    return spawn(OUTCOME + dedent(code), *args, **options)


def nobody(spawn: Callable[..., Child], code: str, *args: object) -> Any:
    return child(spawn, code, *args, user="nobody", imports=["ipckit"]).result


# -- mq_open ---------------------------------------------------------------------------------------


def test_mq_open01_with_attributes(ns: Namespace) -> None:
    with PosixMessageQueue.create(ns.name(), max_messages=2, max_size=128, mode=0o640) as queue:
        attributes = queue.attributes()
        assert isinstance(attributes, PosixMessageQueueAttributes)
        assert (attributes.maxmsg, attributes.msgsize, attributes.curmsgs) == (2, 128, 0)
        assert os.fstat(queue.fileno()).st_mode & 0o777 == 0o640
        assert not os.get_inheritable(queue.fileno())


def test_mq_open01_with_the_defaults(ns: Namespace) -> None:
    with PosixMessageQueue.create(ns.name()) as queue:
        size = int(Path("/proc/sys/fs/mqueue/msgsize_default").read_text())
        assert (queue.max_messages, queue.max_size) == (10, size)


@pytest.mark.parametrize("length", [1, 254, 255])
def test_mq_open01_a_name_as_long_as_can_be(ns: Namespace, length: int) -> None:
    name = ns.name()[1:].ljust(length, "x")[-length:]
    with PosixMessageQueue.create(name) as queue, PosixMessageQueue.open(f"/{name}") as other:
        other.send(b"x")
        assert queue.receive(timeout=0).value == b"x"


@pytest.mark.parametrize("call", [PosixMessageQueue.create, PosixMessageQueue.open])
@pytest.mark.parametrize("name", ["x" * 256, "/" + "x" * 256, "\xe9" * 128, "x" * 10000])
def test_mq_open01_enametoolong(call: Callable[[str], Queue], name: str) -> None:
    with pytest.raises(ipckit.InvalidArgument, match="at most 255 are allowed") as caught:
        call(name)
    assert caught.value.errno == errno.ENAMETOOLONG


@pytest.mark.parametrize("call", [PosixMessageQueue.create, PosixMessageQueue.open])
@pytest.mark.parametrize("name", ["", "/", "//", "/a/b", "a/", ".", "/..", "a\0b"])
def test_mq_open01_einval_of_a_bad_name(call: Callable[[str], Queue], name: str) -> None:
    with pytest.raises(ipckit.InvalidArgument, match="can't be a POSIX IPC name") as caught:
        call(name)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.usefixtures("root")
def test_mq_open01_eacces(queue: Queue, spawn: Callable[..., Child]) -> None:
    code = """
        result = [
            outcome(PosixMessageQueue.open, args[0], **options)
            for options in ({}, {"readonly": True}, {"writeonly": True})
        ]
    """
    for outcome in nobody(spawn, code, queue.name):
        assert outcome[:2] == ("AccessDenied", errno.EACCES)


def test_mq_open01_eexist(queue: Queue) -> None:
    with pytest.raises(ipckit.AlreadyExists, match="open_or_create") as caught:
        PosixMessageQueue.create(queue.name)
    assert caught.value.errno == errno.EEXIST


def test_mq_open01_emfile(queue: Queue, spawn: Callable[..., Child]) -> None:
    code = """
        kept = [os.open("/", os.O_PATH)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (kept[0] + 8,) * 2)
        while kept[-1] < kept[0] + 7:
            kept.append(os.dup(kept[0]))
        result = outcome(PosixMessageQueue.open, args[0]), outcome(PosixMessageQueue.create)
        for fd in kept:
            os.close(fd)
    """
    for outcome in child(spawn, code, queue.name).result:
        assert outcome[:2] == ("LimitReached", errno.EMFILE)
        assert "RLIMIT_NOFILE" in outcome[2]
        assert "RLIMIT_MSGQUEUE" not in outcome[2]


def test_mq_open01_enoent(ns: Namespace) -> None:
    name = ns.name()
    with pytest.raises(ipckit.NotFound) as caught:
        PosixMessageQueue.open(name)
    assert caught.value.errno == errno.ENOENT
    assert f'PosixMessageQueue.create("{name}")' in caught.value.hint


@pytest.mark.usefixtures("root")
def test_mq_open01_enospc_at_queues_max(spawn: Callable[..., Child]) -> None:
    # Root may exceed it, as it may exceed every limit of the mqueue file system.
    code = """
        made = [PosixMessageQueue.create(max_messages=1, max_size=1) for _ in range(2)]
        refused = outcome(PosixMessageQueue.create)
        made.pop().__exit__(None, None, None)
        with PosixMessageQueue.create(max_messages=1, max_size=1):
            again = outcome(PosixMessageQueue.create)
        made.pop().__exit__(None, None, None)
        result = refused, again
    """
    sandbox = Sandbox(sysctls={"fs.mqueue.queues_max": 2})
    both = child(spawn, code, sandbox=sandbox, user="nobody", imports=["ipckit"]).result
    for outcome in both:
        assert outcome[:2] == ("LimitReached", errno.ENOSPC)
        assert "fs.mqueue.queues_max (2)" in outcome[2]


@pytest.mark.usefixtures("root")
def test_mq_open01_einval_above_msg_max_and_msgsize_max(spawn: Callable[..., Child]) -> None:
    code = """
        with PosixMessageQueue.create(max_messages=3, max_size=200):
            pass
        with PosixMessageQueue.create(max_messages=1) as queue:
            size = queue.max_size
        result = size, [
            outcome(PosixMessageQueue.create, max_messages=4, max_size=200),
            outcome(PosixMessageQueue.create, max_messages=3, max_size=201),
        ]
    """
    sandbox = Sandbox(sysctls={"fs.mqueue.msg_max": 3, "fs.mqueue.msgsize_max": 200})
    size, both = child(spawn, code, sandbox=sandbox, user="nobody", imports=["ipckit"]).result
    assert size == 200
    for outcome, limit in zip(both, ("msg_max (3)", "msgsize_max (200)"), strict=True):
        assert outcome[:2] == ("LimitReached", errno.EINVAL)
        assert f"exceeds fs.mqueue.{limit}" in outcome[2]


# -- mq_timedsend and mq_timedreceive --------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 0, 600])
@pytest.mark.parametrize("size", [0, 1, 16])
def test_mq_timedsend01_and_mq_timedreceive01_sizes(
    queue: Queue, size: int, timeout: float | None
) -> None:
    data = bytes(range(size))
    queue.send(data, PRIORITY_MAX, timeout=timeout)
    message = queue.receive(timeout=timeout)
    assert (message.value, message.priority) == (data, PRIORITY_MAX)


@pytest.mark.parametrize("timeout", [None, 0, 600])
def test_mq_timedsend01_emsgsize(queue: Queue, timeout: float | None) -> None:
    with pytest.raises(ipckit.MessageTooLong, match=r"17 bytes exceeds .* \(16\)") as caught:
        queue.send(b"x" * 17, timeout=timeout)
    assert caught.value.errno == errno.EMSGSIZE
    assert len(queue) == 0


def test_mq_timedreceive01_emsgsize_of_a_small_buffer(queue: Queue) -> None:
    # ipckit's own buffer always has the queue's message size.
    queue.send(b"x")
    for timeout in (None, 0, 600):
        with pytest.raises(OSError, match="Message too long") as caught:
            _native.mq_receive(queue.fileno(), 15, timeout, None)
        assert caught.value.errno == errno.EMSGSIZE
    assert len(queue) == 1


@pytest.mark.parametrize("timeout", [None, 0, 600])
def test_mq_timedsend01_and_mq_timedreceive01_ebadf(
    queue: Queue, ns: Namespace, timeout: float | None
) -> None:
    assert queue.name is not None
    with ns.path().open("wb+") as file:
        for fd in (-1, 2**20, file.fileno()):
            for call, args in (
                (_native.mq_send, (b"x", 0, timeout)),
                (_native.mq_receive, (16, timeout, None)),
            ):
                with pytest.raises(OSError, match="Bad file descriptor") as caught:
                    call(fd, *args)
                assert caught.value.errno == errno.EBADF
        with pytest.raises(ipckit.InvalidArgument, match="is not a POSIX message queue"):
            PosixMessageQueue.from_fd(file.fileno())
    with PosixMessageQueue.open(queue.name, readonly=True) as reader:
        with pytest.raises(ipckit.AccessDenied, match="opened readonly") as sent:
            reader.send(b"x", timeout=timeout)
        assert sent.value.errno == errno.EBADF
    with PosixMessageQueue.open(queue.name, writeonly=True) as writer:
        with pytest.raises(ipckit.AccessDenied, match="opened writeonly") as received:
            writer.receive(timeout=timeout)
        assert received.value.errno == errno.EBADF
    for closed in (reader, writer):
        with pytest.raises(ipckit.ClosedHandle):
            closed.receive(timeout=timeout)
        with pytest.raises(ipckit.ClosedHandle):
            closed.send(b"x", timeout=timeout)


def test_mq_timedsend01_eagain(queue: Queue) -> None:
    fill(queue)
    with pytest.raises(ipckit.WouldBlock, match="the queue is full") as caught:
        queue.send(b"x", timeout=0)
    assert caught.value.errno == errno.EAGAIN


def test_mq_timedreceive01_eagain(queue: Queue) -> None:
    with pytest.raises(ipckit.WouldBlock, match="no message waits") as caught:
        queue.receive(timeout=0)
    assert caught.value.errno == errno.EAGAIN


@pytest.mark.parametrize("priority", [PRIORITY_MAX + 1, -1, 2**31, 2**64])
def test_mq_timedsend01_einval_of_a_priority(queue: Queue, priority: int) -> None:
    with pytest.raises(ipckit.InvalidArgument, match=f"must be 0 to 32767, not {priority}"):
        queue.send(b"x", priority)
    assert len(queue) == 0


@pytest.mark.parametrize("timeout", [-1, -1e-9, math.nan, -math.inf])
def test_mq_timedsend01_and_mq_timedreceive01_einval_of_a_timeout(
    queue: Queue, timeout: float
) -> None:
    with pytest.raises(ipckit.InvalidArgument):
        queue.receive(timeout=timeout)
    with pytest.raises(ipckit.InvalidArgument):
        queue.send(b"x", timeout=timeout)
    # Even if the call would not have to wait.
    assert len(queue) == 0
    fill(queue)
    with pytest.raises(ipckit.InvalidArgument):
        queue.send(b"x", timeout=timeout)


def test_mq_timedsend01_and_mq_timedreceive01_etimedout(queue: Queue) -> None:
    with pytest.raises(ipckit.Timeout, match=r"no message came within 0\.001 s") as received:
        queue.receive(timeout=0.001)
    assert received.value.errno == errno.ETIMEDOUT
    fill(queue)
    with pytest.raises(ipckit.Timeout, match=r"the queue was full for 0\.001 s") as sent:
        queue.send(b"x", timeout=0.001)
    assert sent.value.errno == errno.ETIMEDOUT
    assert len(queue) == 3


@pytest.mark.parametrize(("timeout", "call"), [(None, "mq_timedsend"), (600, "poll")])
def test_mq_timedsend01_eintr(queue: Queue, signals: Any, timeout: float | None, call: str) -> None:
    fill(queue)
    signals.action = queue.receive  # the handler makes room, and the call continues
    with signals.during(call):
        queue.send(b"last", timeout=timeout)
    assert signals.seen == 1
    assert [message.value for message in queue.drain()] == [b"full", b"full", b"last"]


@pytest.mark.parametrize(("timeout", "call"), [(None, "mq_timedreceive"), (600, "poll")])
def test_mq_timedreceive01_eintr(
    queue: Queue, signals: Any, timeout: float | None, call: str
) -> None:
    signals.action = lambda: queue.send(b"from the handler")
    with signals.during(call):
        assert queue.receive(timeout=timeout).value == b"from the handler"
    assert signals.seen == 1


@pytest.mark.parametrize(("timeout", "call"), [(None, "mq_timedsend"), (600, "poll")])
def test_mq_timedsend01_eintr_by_a_handler_that_raises(
    queue: Queue, signals: Any, timeout: float | None, call: str
) -> None:
    fill(queue)
    signals.action = lambda: 1 / 0
    with signals.during(call), pytest.raises(ZeroDivisionError):
        queue.send(b"x", timeout=timeout)
    assert len(queue) == 3


@pytest.mark.parametrize(("timeout", "call"), [(None, "mq_timedreceive"), (600, "poll")])
def test_mq_timedreceive01_eintr_by_a_handler_that_raises(
    queue: Queue, signals: Any, timeout: float | None, call: str
) -> None:
    signals.action = lambda: 1 / 0
    with signals.during(call), pytest.raises(ZeroDivisionError):
        queue.receive(timeout=timeout)
    queue.send(b"still there")
    assert queue.receive(timeout=0).value == b"still there"


@pytest.mark.parametrize("data", [None, 1, "text", [b"x"]])
def test_mq_timedsend01_efault_is_a_type_error(queue: Queue, data: Any) -> None:
    with pytest.raises(TypeError):
        queue.send(data)
    assert len(queue) == 0


# -- mq_notify -------------------------------------------------------------------------------------


def test_mq_notify01_by_a_signal(queue: Queue, signals: Any) -> None:
    queue.notify(signal.SIGUSR1)
    queue.send(b"x")
    signals.wait(1)
    queue.notify(None)


def test_mq_notify01_by_a_thread(queue: Queue) -> None:
    came = threading.Event()
    queue.notify(came.set)
    assert not came.is_set()
    queue.send(b"x")
    assert came.wait(30)


def test_mq_notify01_and_open_posix_mq_notify_8_ebadf(queue: Queue) -> None:
    for fd in (-1, 2**20, 0):
        with pytest.raises(OSError, match="Bad file descriptor"):
            _native.mq_notify_signal(fd, signal.SIGUSR1)
    queue.close()
    with pytest.raises(ipckit.ClosedHandle):
        queue.notify(signal.SIGUSR1)
    queue.unlink()


def test_mq_notify01_and_open_posix_mq_notify_2_and_9_ebusy(
    queue: Queue, signals: Any, spawn: Callable[..., Child]
) -> None:
    queue.notify(signal.SIGUSR1)
    code = """
        with PosixMessageQueue.open(args[0]) as queue:
            result = [outcome(queue.notify, how) for how in (10, lambda: None)]
            queue.notify(None)  # which is not there to be given up
    """
    for outcome in child(spawn, code, queue.name).result:
        assert outcome[:2] == ("AlreadyExists", errno.EBUSY)
        assert "one process at a time" in outcome[2]
    queue.send(b"x")
    signals.wait(1)


@pytest.mark.parametrize("number", [-1, 65, 1000, 2**31])
def test_mq_notify02_einval_of_a_signal(queue: Queue, number: int) -> None:
    with pytest.raises(ipckit.InvalidArgument):
        queue.notify(number)
    queue.notify(signal.SIGUSR1)
    queue.notify(None)


@pytest.mark.parametrize("bad", ["SIGUSR1", 1.5, [signal.SIGUSR1]])
def test_mq_notify02_einval_of_another_kind(queue: Queue, bad: Any) -> None:
    with pytest.raises(TypeError):
        queue.notify(bad)


def test_mq_notify03_register_unregister_register(queue: Queue) -> None:
    # CVE-2021-38604: the C library's helper thread crashed here.
    calls: list[int] = []
    came = threading.Event()

    def called() -> None:
        calls.append(1)
        came.set()

    for _ in range(3):
        queue.notify(lambda: calls.append(-1))
        queue.notify(None)
    queue.notify(called)
    queue.send(b"x")
    assert came.wait(30)
    assert calls == [1]


def test_open_posix_mq_notify_1_only_for_an_empty_queue(queue: Queue, signals: Any) -> None:
    queue.send(b"before")
    queue.notify(signal.SIGUSR1)
    queue.send(b"after")
    assert signals.seen == 0
    queue.drain()
    queue.send(b"to the empty one")
    signals.wait(1)


def test_open_posix_mq_notify_3_null_unregisters(queue: Queue, signals: Any) -> None:
    queue.notify(signal.SIGUSR1)
    queue.notify(None)
    queue.send(b"x")
    assert signals.seen == 0


def test_open_posix_mq_notify_4_one_shot(queue: Queue, signals: Any) -> None:
    queue.notify(signal.SIGUSR1)
    for _ in range(2):
        queue.send(b"x")
        queue.receive()
    signals.wait(1)


def test_open_posix_mq_notify_5_a_blocked_receiver_wins(
    queue: Queue, signals: Any, begin: Any
) -> None:
    queue.notify(signal.SIGUSR1)
    receiver = begin(queue.receive)
    receiver.wait_blocked("mq_timedreceive")
    queue.send(b"for the receiver")
    assert receiver.result().value == b"for the receiver"
    assert signals.seen == 0
    queue.send(b"for nobody")
    signals.wait(1)


# -- mq_unlink -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("root")
def test_mq_unlink01_eacces(ns: Namespace, spawn: Callable[..., Child]) -> None:
    with PosixMessageQueue.create(ns.name(), mode=0o666) as queue:
        code = """
            with PosixMessageQueue.open(args[0]) as queue:
                result = outcome(queue.unlink)
        """
        outcome = nobody(spawn, code, queue.name)
        assert outcome[:2] == ("AccessDenied", errno.EACCES)
        assert "only the queue's owner can unlink it" in outcome[2]
        assert len(queue) == 0


def test_mq_unlink01_enoent(queue: Queue) -> None:
    queue.unlink()
    with pytest.raises(ipckit.NotFound) as caught:
        queue.unlink()
    assert caught.value.errno == errno.ENOENT
    queue.unlink(missing_ok=True)


def test_mq_unlink01_enametoolong() -> None:
    # A handle has a name that was checked, so the check is the same as mq_open's.
    with pytest.raises(ipckit.InvalidArgument) as caught:
        ipckit.Name("/" + "x" * 256)
    assert caught.value.errno == errno.ENAMETOOLONG


# -- open_posix_testsuite: mq_send -----------------------------------------------------------------


def test_open_posix_mq_send_1_and_9_a_message_is_queued(queue: Queue) -> None:
    queue.send(b"message")
    assert len(queue) == 1
    assert queue.receive().value == b"message"


def test_open_posix_mq_send_2_the_longest_message(queue: Queue) -> None:
    queue.send(b"x" * queue.max_size)
    assert queue.receive().value == b"x" * queue.max_size


def test_open_posix_mq_send_3_and_4_by_priority_then_age(queue: Queue) -> None:
    sent = [(b"a", 1), (b"b", PRIORITY_MAX), (b"c", 1)]
    for data, priority in sent:
        queue.send(data, priority)
    taken = [(message.value, message.priority) for message in queue.drain()]
    assert taken == [(b"b", PRIORITY_MAX), (b"a", 1), (b"c", 1)]


@pytest.mark.parametrize(("timeout", "call"), [(None, "mq_timedsend"), (600, "poll")])
def test_open_posix_mq_send_5_blocks_until_there_is_room(
    queue: Queue, begin: Any, timeout: float | None, call: str
) -> None:
    fill(queue)
    sender = begin(queue.send, b"last", 5, timeout=timeout)
    sender.wait_blocked(call)
    assert len(queue) == 3
    assert queue.receive().value == b"full"
    sender.result()
    assert queue.receive().value == b"last"


def test_open_posix_mq_send_5_the_highest_priority_waits_least(queue: Queue, begin: Any) -> None:
    # mq_send(3) promises no other order among waiting senders.
    fill(queue)
    sender = begin(queue.send, b"x", 0)
    sender.wait_blocked("mq_timedsend")
    with pytest.raises(ipckit.WouldBlock):
        queue.send(b"y", 9, timeout=0)
    queue.drain()
    sender.result()
    assert queue.receive(timeout=0).value == b"x"


def test_open_posix_mq_send_7_8_and_10_eagain_queues_nothing(queue: Queue) -> None:
    fill(queue)
    os.set_blocking(queue.fileno(), False)
    for timeout in (0, 0.001):
        with pytest.raises((ipckit.WouldBlock, ipckit.Timeout)):
            queue.send(b"not queued", timeout=timeout)
    assert queue.attributes().flags == os.O_NONBLOCK
    assert [message.value for message in queue.drain()] == [b"full"] * 3


def test_open_posix_mq_send_and_receive_wait_whatever_o_nonblock_says(
    queue: Queue, begin: Any
) -> None:
    # The flag belongs to the open description, so another process can have set it.
    os.set_blocking(queue.fileno(), False)
    receiver = begin(queue.receive)
    receiver.wait_blocked("poll")
    queue.send(b"x")
    assert receiver.result().value == b"x"
    fill(queue)
    sender = begin(queue.send, b"y")
    sender.wait_blocked("poll")
    queue.receive()
    sender.result()


# 11: test_mq_timedsend01_and_mq_timedreceive01_ebadf; 12: …_eintr; 13: …_einval_of_a_priority;
# 14: …_emsgsize


# -- open_posix_testsuite: mq_receive --------------------------------------------------------------


def test_open_posix_mq_receive_1_and_2_the_oldest_of_the_highest(queue: Queue) -> None:
    for data, priority in ((b"low", 1), (b"first", 2), (b"second", 2)):
        queue.send(data, priority)
    assert [queue.receive().value for _ in range(3)] == [b"first", b"second", b"low"]


# 5: test_mq_timedreceive01_emsgsize_of_a_small_buffer


@pytest.mark.parametrize(("timeout", "call"), [(None, "mq_timedreceive"), (600, "poll")])
def test_open_posix_mq_receive_7_blocks_until_a_message_comes(
    queue: Queue, begin: Any, timeout: float | None, call: str
) -> None:
    receiver = begin(queue.receive, timeout=timeout)
    receiver.wait_blocked(call)
    queue.send(b"x", 7)
    message = receiver.result()
    assert (message.value, message.priority) == (b"x", 7)


def test_open_posix_mq_receive_10_a_message_is_taken_once(queue: Queue) -> None:
    queue.send(b"once")
    assert queue.receive().value == b"once"
    assert len(queue) == 0
    with pytest.raises(ipckit.WouldBlock):
        queue.receive(timeout=0)


# 8: test_mq_timedreceive01_eagain; 11: …_ebadf; 12, 13: …_eintr


# -- open_posix_testsuite: the timed calls ---------------------------------------------------------


def test_open_posix_mq_timed_5_and_18_blocks_until_the_deadline(queue: Queue) -> None:
    start = time.monotonic()
    with pytest.raises(ipckit.Timeout):
        queue.receive(timeout=0.03)
    received = time.monotonic()
    fill(queue)
    with pytest.raises(ipckit.Timeout):
        queue.send(b"x", timeout=0.03)
    assert received - start >= 0.03
    assert time.monotonic() - received >= 0.03


@pytest.mark.parametrize("timeout", [0, 1e-9, 1e-300, 5e-324])
def test_open_posix_mq_timed_10_and_15_no_timeout_if_it_need_not_wait(
    queue: Queue, timeout: float
) -> None:
    queue.send(b"x", timeout=timeout)
    assert queue.receive(timeout=timeout).value == b"x"


@pytest.mark.parametrize("timeout", [1e-9, 1e-300, 5e-324])
def test_open_posix_mq_timed_17_a_deadline_that_has_passed(queue: Queue, timeout: float) -> None:
    with pytest.raises(ipckit.Timeout):
        queue.receive(timeout=timeout)
    fill(queue)
    with pytest.raises(ipckit.Timeout):
        queue.send(b"x", timeout=timeout)


@pytest.mark.parametrize("timeout", [1e10, 1e300, math.inf])
def test_open_posix_mq_timed_19_and_20_a_deadline_beyond_the_clock(
    queue: Queue, begin: Any, timeout: float
) -> None:
    receiver = begin(queue.receive, timeout=timeout)
    receiver.wait_blocked("poll", "mq_timedreceive")
    queue.send(b"x")
    assert receiver.result().value == b"x"


# -- namespaces ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("root")
def test_mqns_01_a_queue_is_not_seen_in_another_namespace(
    queue: Queue, spawn: Callable[..., Child]
) -> None:
    inside = child(
        spawn,
        "result = outcome(PosixMessageQueue.open, args[0])[:2]",
        queue.name,
        sandbox=Sandbox(),
    )
    assert inside.result == ("NotFound", errno.ENOENT)


@pytest.mark.usefixtures("root")
def test_mqns_02_a_queue_of_another_namespace_is_not_seen_here(
    queue: Queue, spawn: Callable[..., Child]
) -> None:
    code = """
        from ipckit.testing import step
        with PosixMessageQueue.create(args[0]) as queue:  # the same name as outside
            queue.send(b"inside")
            step.tell("made")
            step.expect("go")
            result = [message.value for message in queue.drain()]
    """
    inside = child(spawn, code, queue.name, sandbox=Sandbox())
    inside.expect("made")
    assert len(queue) == 0
    queue.send(b"outside")
    inside.tell("go")
    assert inside.result == [b"inside"]
    assert queue.receive(timeout=0).value == b"outside"


@pytest.mark.usefixtures("root")
def test_mqns_03_a_mounted_mqueue_shows_the_queues_of_its_namespace(
    queue: Queue, ns: Namespace, spawn: Callable[..., Child]
) -> None:
    code = """
        import subprocess
        mounted = Path(args[0])
        subprocess.run(["mount", "-t", "mqueue", "none", mounted], check=True)
        with PosixMessageQueue.create("/mqns-03") as queue:
            queue.send(b"12345")
            listed = os.listdir(mounted)
            text = (mounted / "mqns-03").read_text()
            (mounted / "mqns-03").unlink()
            gone = outcome(PosixMessageQueue.open, "/mqns-03")[0], len(queue)
        subprocess.run(["umount", mounted], check=True)
        result = listed, text, gone
    """
    listed, text, gone = child(spawn, code, str(ns.directory), sandbox=Sandbox()).result
    assert listed == ["mqns-03"]
    assert text.split()[0] == "QSIZE:5"
    assert gone == ("NotFound", 1)
    assert len(queue) == 0


@pytest.mark.usefixtures("root")
def test_mqns_04_the_mount_outlives_the_namespace_but_its_queues_do_not(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    code = """
        import subprocess
        from ipckit.testing import step
        subprocess.run(["mount", "-t", "mqueue", "none", args[0]], check=True)
        queue = PosixMessageQueue.create("/mqns-04")
        step.tell("made")
        step.expect("end")
        queue.close()
    """
    inside = child(spawn, code, str(ns.directory), sandbox=Sandbox())
    inside.expect("made")
    mount = os.open(f"/proc/{inside.pid}/root{ns.directory}", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert os.listdir(mount) == ["mqns-04"]  # noqa: PTH208 - a descriptor
        inside.tell("end")
        inside.wait()
        with pytest.raises(OSError, match="Permission denied"):
            os.open("new", os.O_CREAT | os.O_RDWR, dir_fd=mount)
    finally:
        os.close(mount)
    with pytest.raises(ipckit.NotFound):
        PosixMessageQueue.open("/mqns-04")


def test_rlimit_msgqueue_is_distinguished_from_rlimit_nofile(spawn: Callable[..., Child]) -> None:
    # Both are EMFILE. The limit is the user's, so the test needs a user without other processes.
    code = """
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (1, 1))
        result = outcome(PosixMessageQueue.create, max_messages=2, max_size=100)
    """
    outcome = child(spawn, code).result
    assert outcome[:2] == ("LimitReached", errno.EMFILE)
    assert "RLIMIT_MSGQUEUE (1)" in outcome[2]
    assert "ulimit -q" in outcome[2]
    assert "RLIMIT_NOFILE" not in outcome[2]
