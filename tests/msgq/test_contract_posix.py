"""What only POSIX message queues have."""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import queue as queues
import select
import selectors
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import (
    AccessDenied,
    AlreadyExists,
    Char,
    ClosedHandle,
    Int,
    InvalidArgument,
    LayoutMismatch,
    LimitReached,
    MessageTooLong,
    NotFound,
    PosixMessageQueue,
    Struct,
    Timeout,
    WouldBlock,
    _native,
)
from ipckit._msgq import posix
from ipckit.msgq import PosixMessageQueueAttributes
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ipckit.testing import Child, Namespace


class Stu(Struct):
    name: Char[32]
    age: Int


@pytest.fixture
def queue(ns: Namespace) -> Iterator[PosixMessageQueue[bytes]]:
    with PosixMessageQueue.create(ns.name(), max_messages=2, max_size=8) as made:
        yield made


def again(queue: PosixMessageQueue[Any], **options: bool) -> PosixMessageQueue[bytes]:
    return PosixMessageQueue.open(queue.name or "", **options)


def status(queue: PosixMessageQueue[Any]) -> dict[str, int]:
    """The text that the kernel shows for a read of the descriptor: bytes, and the notification."""
    text = os.pread(queue.fileno(), 200, 0).decode()
    return {name: int(value) for name, _, value in (each.partition(":") for each in text.split())}


# -- priorities ------------------------------------------------------------------------------------


def test_the_highest_priority_is_received_first_and_its_oldest_message(ns: Namespace) -> None:
    with PosixMessageQueue.create(ns.name()) as queue:
        for number, priority in enumerate((0, 5, 32767, 5, 0, 32767)):
            queue.send(b"%d" % number, priority)
        messages = queue.drain()
    assert [message.value for message in messages] == [b"2", b"5", b"1", b"3", b"0", b"4"]
    assert [message.priority for message in messages] == [32767, 32767, 5, 5, 0, 0]
    assert {message.mtype for message in messages} == {0}


@pytest.mark.parametrize("priority", [-1, 32768, 2**31, 2**63, -(2**70)])
def test_priorities_out_of_range_send_nothing(
    queue: PosixMessageQueue[bytes], priority: int
) -> None:
    for timeout in (None, 0, 5.0):
        with pytest.raises(InvalidArgument, match=f"priority must be 0 to 32767, not {priority}"):
            queue.send(b"x", priority, timeout=timeout)
    assert len(queue) == 0


@pytest.mark.parametrize("priority", ["1", 1.0, None, b"1"])
def test_priorities_of_a_wrong_type(queue: PosixMessageQueue[bytes], priority: Any) -> None:
    with pytest.raises(TypeError):
        queue.send(b"x", priority)
    assert len(queue) == 0


# -- sizes -----------------------------------------------------------------------------------------


def test_attributes_are_what_was_asked(queue: PosixMessageQueue[bytes]) -> None:
    assert queue.attributes() == PosixMessageQueueAttributes(0, 2, 8, 0)
    queue.send(b"four")
    queue.send(b"three")
    assert queue.attributes() == PosixMessageQueueAttributes(0, 2, 8, 2)
    assert (queue.max_messages, queue.max_size, len(queue)) == (2, 8, 2)
    # The kernel counts only the text here.
    assert status(queue)["QSIZE"] == 9


def test_the_default_size_is_the_payload_types(ns: Namespace) -> None:
    with PosixMessageQueue.create(ns.name(), Stu) as queue:
        assert (queue.max_messages, queue.max_size) == (10, Stu.size)
        queue.send(Stu("amy", 20))
        assert queue.receive(timeout=0).value == Stu("amy", 20)
    with PosixMessageQueue.create(ns.name(), str) as other:
        assert other.max_size == 8192


@pytest.mark.parametrize("value", [0, -1, 2**63, 2**70])
@pytest.mark.parametrize("what", ["max_messages", "max_size"])
def test_sizes_out_of_range(ns: Namespace, what: str, value: int) -> None:
    with pytest.raises(InvalidArgument, match=f"{what} must be 1 to .*, not {value}"):
        PosixMessageQueue.create(ns.name(), **{what: value})  # type: ignore[call-overload]


@pytest.mark.parametrize("value", ["8", 8.0, True, None])
@pytest.mark.parametrize("what", ["max_messages", "max_size"])
def test_sizes_of_a_wrong_type(ns: Namespace, what: str, value: Any) -> None:
    if (what, value) == ("max_size", None):
        return  # that is the default
    with pytest.raises(TypeError, match=what):
        PosixMessageQueue.create(ns.name(), **{what: value})


@pytest.mark.parametrize(
    ("what", "sysctl"), [("max_messages", "msg_max"), ("max_size", "msgsize_max")]
)
def test_sizes_above_the_limits_name_the_sysctl(what: str, sysctl: str, ns: Namespace) -> None:
    with pytest.raises(LimitReached, match=rf"{what} of 20,000,000 exceeds fs.mqueue.{sysctl}"):
        PosixMessageQueue.create(ns.name(), **{what: 20_000_000})  # type: ignore[call-overload]


def test_a_type_too_large_for_the_queue_does_not_open(queue: PosixMessageQueue[bytes]) -> None:
    with pytest.raises(LayoutMismatch, match="Stu has 36 bytes") as caught:
        PosixMessageQueue.open(queue.name or "", Stu)
    assert "8" in str(caught.value)
    fd = os.dup(queue.fileno())
    with pytest.raises(LayoutMismatch):
        PosixMessageQueue.from_fd(fd, Stu)
    os.close(fd)  # it is still the caller's
    name = f"{queue.name}-2"
    with pytest.raises(LayoutMismatch):
        PosixMessageQueue.create(name, Stu, max_size=8)
    with pytest.raises(NotFound):
        PosixMessageQueue.open(name)


def test_the_error_of_a_long_message_names_the_size(queue: PosixMessageQueue[bytes]) -> None:
    with pytest.raises(MessageTooLong, match=r"9 bytes exceeds the queue's max_size \(8\)"):
        queue.send(b"9 bytes..")


# -- readonly and writeonly ------------------------------------------------------------------------


def test_readonly_and_writeonly(queue: PosixMessageQueue[bytes]) -> None:
    with again(queue, readonly=True) as reader, again(queue, writeonly=True) as writer:
        writer.send(b"x")
        for timeout in (None, 0, 5.0):
            with pytest.raises(AccessDenied, match="readonly"):
                reader.send(b"y", timeout=timeout)
            with pytest.raises(AccessDenied, match="writeonly"):
                writer.receive(timeout=timeout)
        with pytest.raises(AccessDenied):
            writer.drain()
        assert reader.receive(timeout=0).value == b"x"
        for handle in (reader, writer):
            with pickle.loads(pickle.dumps(handle)) as copy:  # noqa: S301
                flags = (fcntl.fcntl(each.fileno(), fcntl.F_GETFL) for each in (handle, copy))
                assert len({flag & os.O_ACCMODE for flag in flags}) == 1


def test_not_readonly_and_writeonly(queue: PosixMessageQueue[bytes]) -> None:
    with pytest.raises(InvalidArgument):
        again(queue, readonly=True, writeonly=True)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("mode", "allowed"),
    [
        (0o600, []),
        (0o604, ["readonly"]),
        (0o602, ["writeonly"]),
        (0o606, ["readonly", "writeonly"]),
    ],
)
def test_modes_grant_other_users_their_rights(
    ns: Namespace, spawn: Callable[..., Child], mode: int, allowed: list[str]
) -> None:
    with PosixMessageQueue.create(ns.name(), mode=mode) as queue:
        spawn(
            """
            from ipckit import AccessDenied, PosixMessageQueue
            name, allowed = args
            opened = []
            for way in ("readonly", "writeonly"):
                try:
                    PosixMessageQueue.open(name, **{way: True}).close()
                except AccessDenied as exc:
                    assert isinstance(exc, PermissionError) and exc.hint, exc
                else:
                    opened.append(way)
            assert opened == allowed, opened
            try:
                with PosixMessageQueue.open(name) as queue:
                    try:
                        queue.unlink()
                    except AccessDenied as exc:
                        assert "owner" in exc.hint
                    else:
                        raise AssertionError("unlinked")
            except AccessDenied:
                assert len(allowed) < 2
            else:
                assert len(allowed) == 2
            """,
            queue.name,
            allowed,
            user="nobody",
            imports=["ipckit"],
        ).wait()


# -- the descriptor --------------------------------------------------------------------------------


def test_the_descriptor_is_not_inherited(queue: PosixMessageQueue[bytes]) -> None:
    with again(queue) as other:
        for handle in (queue, other):
            assert not os.get_inheritable(handle.fileno())


def test_selectors_see_both_directions(queue: PosixMessageQueue[bytes]) -> None:
    with selectors.DefaultSelector() as selector:
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        selector.register(queue, both)

        def events() -> int:
            return sum(mask for _, mask in selector.select(0))

        assert events() == selectors.EVENT_WRITE
        queue.send(b"one")
        assert events() == both
        queue.send(b"two")
        assert events() == selectors.EVENT_READ
        queue.drain()
        assert events() == selectors.EVENT_WRITE


def test_epoll_edges(queue: PosixMessageQueue[bytes]) -> None:
    with select.epoll() as poll:
        poll.register(queue, select.EPOLLIN | select.EPOLLET)
        assert poll.poll(0) == []
        queue.send(b"one")
        assert poll.poll(30) == [(queue.fileno(), select.EPOLLIN)]
        assert poll.poll(0) == []
        queue.receive()


def test_a_selector_wakes_for_a_message(
    queue: PosixMessageQueue[bytes], meanwhile: Callable[..., Any]
) -> None:
    with meanwhile(("select", "poll", "epoll_wait"), lambda: queue.send(b"x")):
        readable, _, _ = select.select([queue], [], [], 60)
    assert readable == [queue]


def test_o_nonblock_changes_no_call(
    queue: PosixMessageQueue[bytes], meanwhile: Callable[..., Any]
) -> None:
    """O_NONBLOCK belongs to the open file description, so another process can set it."""
    os.set_blocking(queue.fileno(), False)
    assert queue.attributes().flags == os.O_NONBLOCK
    with again(queue) as other:
        for timeout in (None, 60.0):
            with meanwhile(("poll",), lambda: other.send(b"came")):
                assert queue.receive(timeout=timeout).value == b"came"
    with pytest.raises(Timeout):
        queue.receive(timeout=0.001)
    with pytest.raises(WouldBlock):
        queue.receive(timeout=0)


def test_from_fd_takes_over_the_descriptor(queue: PosixMessageQueue[bytes]) -> None:
    fd = os.dup(queue.fileno())
    with PosixMessageQueue.from_fd(fd, str) as handle:
        assert handle.fileno() == fd
        assert (handle.name, handle.owner) == (queue.name, False)
        assert (handle.max_messages, handle.max_size) == (2, 8)
        handle.send("text")
    with pytest.raises(OSError, match="descriptor") as caught:
        os.fstat(fd)
    assert caught.value.errno == errno.EBADF
    assert queue.receive(timeout=0).value == b"text"


def test_from_fd_knows_readonly_and_writeonly(queue: PosixMessageQueue[bytes]) -> None:
    with again(queue, readonly=True) as reader:
        handle = PosixMessageQueue.from_fd(os.dup(reader.fileno()))
    with handle, pytest.raises(AccessDenied, match="readonly"):
        handle.send(b"x")


def test_from_fd_of_an_unlinked_queue(queue: PosixMessageQueue[bytes]) -> None:
    queue.unlink()
    with PosixMessageQueue.from_fd(os.dup(queue.fileno())) as handle:
        assert handle.name is None
        assert "unlinked" in repr(handle)
        handle.send(b"x")
        assert queue.receive(timeout=0).value == b"x"
        with pytest.raises(NotFound):
            handle.unlink()
        handle.unlink(missing_ok=True)
        with pytest.raises(InvalidArgument, match="pickled"):
            pickle.dumps(handle)
        handle.adopt()  # leaving the block has nothing to unlink


def test_from_fd_of_a_name_that_looks_unlinked(ns: Namespace) -> None:
    name = ns.name() + " (deleted)"
    with (
        PosixMessageQueue.create(name) as queue,
        PosixMessageQueue.from_fd(os.dup(queue.fileno())) as handle,
    ):
        assert handle.name == name


@pytest.mark.usefixtures("root")
def test_from_fd_of_a_file_where_queues_are_mounted(spawn: Callable[..., Child]) -> None:
    spawn(
        """
        import os, subprocess, tempfile
        from ipckit import PosixMessageQueue
        with tempfile.TemporaryDirectory() as here, PosixMessageQueue.create("seen") as queue:
            subprocess.run(["mount", "-t", "mqueue", "none", here], check=True)
            try:
                fd = os.open(f"{here}/seen", os.O_RDWR)
                with PosixMessageQueue.from_fd(fd) as handle:
                    assert handle.name == "/seen", handle
                    handle.send(b"x")
                os.close(os.open(f"{here}/no text \\udcff", os.O_RDWR | os.O_CREAT))
                fd = os.open(f"{here}/no text \\udcff", os.O_RDWR)
                with PosixMessageQueue.from_fd(fd) as handle:
                    assert handle.name is None, handle
                os.unlink(f"{here}/no text \\udcff")
                assert queue.receive(timeout=0).value == b"x"
            finally:
                subprocess.run(["umount", here], check=True)
        """,
        sandbox=Sandbox(),
    ).wait()


@pytest.mark.parametrize("fd", [-1, 2**30, 2**31, 2**63])
def test_from_fd_of_no_descriptor(fd: int) -> None:
    with pytest.raises(InvalidArgument, match="not a POSIX message queue"):
        PosixMessageQueue.from_fd(fd)


def test_from_fd_of_another_file(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(InvalidArgument, match="not a POSIX message queue"):
        PosixMessageQueue.from_fd(fd)
    os.close(fd)


@pytest.mark.parametrize("fd", ["1", 1.0, None])
def test_from_fd_of_a_wrong_type(fd: Any) -> None:
    with pytest.raises(TypeError):
        PosixMessageQueue.from_fd(fd)


def test_a_copy_in_a_child_closes_although_a_thread_waited_at_the_fork(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    """The thread that waits does not exist in the child, so its call is not counted there."""
    spawn(
        """
        import os, threading, warnings
        from ipckit import PosixMessageQueue
        from ipckit.testing import wait_blocked
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside a thread
        with PosixMessageQueue.create(args[0]) as queue:
            thread = threading.Thread(target=queue.receive)
            thread.start()
            wait_blocked(os.getpid(), "mq_timedreceive")
            fd = queue.fileno()
            pid = os.fork()
            if pid == 0:
                status = 1
                queue.close()
                try:
                    os.fstat(fd)
                except OSError:
                    status = 0
                os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            queue.send(b"x")
            thread.join()
        """,
        ns.name(),
    ).wait()


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_the_descriptor_of_a_closed_handle_closes_after_the_last_call_on_it(
    queue: PosixMessageQueue[bytes], timeout: float | None, meanwhile: Callable[..., Any]
) -> None:
    waiting = again(queue)
    fd = waiting.fileno()

    def act() -> None:
        waiting.close()
        with again(queue) as other:
            assert other.fileno() != fd  # the number is not free while the call waits
        queue.send(b"x")

    with meanwhile(("mq_timedreceive", "poll"), act):
        assert waiting.receive(timeout=timeout).value == b"x"
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)


def test_an_argument_that_closes_the_handle_raises_closed_handle(
    queue: PosixMessageQueue[bytes],
) -> None:
    class Closing(float):
        def __float__(self) -> float:
            handle.close()
            return 60.0

    for call in ("receive", "send"):
        handle = again(queue)
        fd = handle.fileno()
        args = (b"x",) if call == "send" else ()
        with pytest.raises(ClosedHandle):
            getattr(handle, call)(*args, timeout=Closing(60.0))
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(fd)
    assert len(queue) == 0


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_wait_is_one_native_call(
    queue: PosixMessageQueue[bytes],
    timeout: float | None,
    meanwhile: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It tries, and then sleeps, without Python code or an exception in between."""
    calls: list[str] = []
    received, sent = _native.mq_receive, _native.mq_send
    for name in ("mq_receive", "mq_send"):

        def counted(*args: Any, name: str = name) -> Any:
            calls.append(name)
            return getattr(_native, name)(*args)

        monkeypatch.setattr(posix, name, counted)
    other = os.dup(queue.fileno())
    for _ in range(2):  # the second goes to sleep without looking
        with meanwhile(("mq_timedreceive", "poll"), lambda: sent(other, b"x", 0, 0)):
            assert queue.receive(timeout=timeout).value == b"x"
    assert calls == ["mq_receive"] * 2
    for _ in range(queue.max_messages):
        sent(other, b"x", 0, 0)
    with meanwhile(("mq_timedsend", "poll"), lambda: received(other, 8, 0, None)):
        queue.send(b"y", timeout=timeout)
    assert calls == ["mq_receive"] * 2 + ["mq_send"]
    os.close(other)


def test_receives_work_after_sleeps_and_after_messages(
    queue: PosixMessageQueue[bytes], meanwhile: Callable[..., Any]
) -> None:
    """In any order: with another program's O_NONBLOCK, with waiting messages, without any."""
    flags = fcntl.fcntl(queue.fileno(), fcntl.F_GETFL)
    for nonblocking in (0, os.O_NONBLOCK, 0):
        fcntl.fcntl(queue.fileno(), fcntl.F_SETFL, flags | nonblocking)
        for _ in range(3):
            with meanwhile(("mq_timedreceive", "poll"), lambda: queue.send(b"later")):
                assert queue.receive().value == b"later"
            queue.send(b"now")
            assert queue.receive().value == b"now"
            with pytest.raises(WouldBlock):
                queue.receive(timeout=0)
            with pytest.raises(Timeout):
                queue.receive(timeout=0.001)


def test_a_bare_descriptor_is_not_closed_with_its_object() -> None:
    reader, writer = os.pipe()
    descriptor = _native.QueueDescriptor(reader)
    with pytest.raises(OSError, match="descriptor") as caught:
        _native.mq_receive(descriptor, 8, 0, None)  # which is no queue
    assert caught.value.errno == errno.EBADF
    del descriptor
    os.fstat(reader)
    descriptor = _native.QueueDescriptor(reader)
    descriptor.close()
    descriptor.close()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(reader)
    os.close(writer)


# -- unlinking -------------------------------------------------------------------------------------


def test_an_unlinked_queue_still_works_for_open_handles(queue: PosixMessageQueue[bytes]) -> None:
    with again(queue) as other:
        queue.unlink()
        with pytest.raises(NotFound):
            again(queue)
        other.send(b"still")
        assert queue.receive(timeout=0).value == b"still"
        assert len(other) == 0


def test_an_owner_does_not_unlink_a_later_queue_of_its_name(ns: Namespace) -> None:
    name = ns.name()
    with PosixMessageQueue.create(name) as old:
        old.unlink()
        old.adopt()
        new = PosixMessageQueue.create(name)
        new.send(b"new")
    with new, PosixMessageQueue.open(name) as found:
        assert found.receive(timeout=0).value == b"new"


@pytest.mark.usefixtures("root")
def test_an_owner_that_may_not_read_can_unlink(ns: Namespace, spawn: Callable[..., Child]) -> None:
    spawn(
        """
        from ipckit import PosixMessageQueue
        with PosixMessageQueue.create(args[0], mode=0) as queue:
            queue.send(b"x")
        """,
        ns.name(),
        user="nobody",
        imports=["ipckit"],
    ).wait()
    assert ns.leftovers() == []


# -- notification ----------------------------------------------------------------------------------


class Calls:
    """A callback, whose calls a test can wait for."""

    def __init__(self) -> None:
        self.queue: queues.SimpleQueue[int] = queues.SimpleQueue()

    def __call__(self) -> None:
        self.queue.put(threading.get_ident())

    def wait(self) -> int:
        return self.queue.get(timeout=60)


def settle() -> None:
    """Wait until all notifiers' threads have ended, and with them their descriptors."""
    for thread in threading.enumerate():
        if thread.name == "ipckit-mq-notify":
            thread.join(60)
            assert not thread.is_alive()


def test_notify_calls_once(queue: PosixMessageQueue[bytes]) -> None:
    calls = Calls()
    queue.notify(calls)
    assert status(queue)["NOTIFY_PID"] == os.getpid()
    queue.send(b"x")
    assert calls.wait() != threading.get_ident()
    settle()
    assert status(queue)["NOTIFY_PID"] == 0
    assert queue.receive(timeout=0).value == b"x"
    queue.send(b"y")
    assert calls.queue.empty()


def test_only_a_message_to_an_empty_queue_notifies(queue: PosixMessageQueue[bytes]) -> None:
    calls = Calls()
    queue.send(b"already")
    queue.notify(calls)
    queue.send(b"second")
    assert status(queue)["NOTIFY_PID"] == os.getpid()
    queue.drain()
    queue.send(b"third")
    calls.wait()
    settle()


def test_notify_repeats(queue: PosixMessageQueue[bytes]) -> None:
    calls = Calls()
    queue.notify(calls, repeat=True)
    for _ in range(5):
        queue.send(b"x")
        calls.wait()
        # It registers again before the call, so that no message is missed.
        assert status(queue)["NOTIFY_PID"] == os.getpid()
        queue.drain()
    queue.notify(None)
    settle()
    assert status(queue)["NOTIFY_PID"] == 0
    queue.send(b"x")
    assert calls.queue.empty()


def test_notify_by_signal(queue: PosixMessageQueue[bytes], signals: Any) -> None:
    ran = threading.Event()
    with signals.handled(lambda *_: ran.set()):
        queue.notify(signal.SIGUSR1)
        assert status(queue)["SIGNO"] == signal.SIGUSR1
        queue.send(b"x")
        assert ran.wait(60)
    assert status(queue)["NOTIFY_PID"] == 0


def test_notify_is_replaced_by_the_next_of_the_same_handle(
    queue: PosixMessageQueue[bytes], signals: Any
) -> None:
    first, second = Calls(), Calls()
    queue.notify(first)
    queue.notify(second, repeat=True)
    queue.send(b"x")
    second.wait()
    assert first.queue.empty()
    ran = threading.Event()
    queue.drain()
    with signals.handled(lambda *_: ran.set()):
        queue.notify(signal.SIGUSR1)
        queue.send(b"x")
        assert ran.wait(60)
    settle()
    assert second.queue.empty()


def test_only_one_process_can_register(
    queue: PosixMessageQueue[bytes], spawn: Callable[..., Child]
) -> None:
    child = spawn(
        """
        from ipckit import PosixMessageQueue
        from ipckit.testing import step
        with PosixMessageQueue.open(args[0]) as queue:
            queue.notify(print)
            step.tell("registered")
            step.expect("give up")
            queue.notify(None)
            step.tell("gave up")
            step.expect("end")
        """,
        queue.name,
    )
    child.expect("registered")
    assert status(queue)["NOTIFY_PID"] == child.pid
    for callback in (print, signal.SIGUSR1):
        with pytest.raises(AlreadyExists, match="one process at a time") as caught:
            queue.notify(callback)  # type: ignore[arg-type]
        assert caught.value.errno == errno.EBUSY
    queue.notify(None)  # not ours to give up
    assert status(queue)["NOTIFY_PID"] == child.pid
    child.tell("give up")
    child.expect("gave up")
    calls = Calls()
    queue.notify(calls)
    child.tell("end")
    child.wait()
    assert status(queue)["NOTIFY_PID"] == os.getpid()
    queue.send(b"x")
    calls.wait()
    settle()


def test_notify_ends_with_a_killed_process(
    queue: PosixMessageQueue[bytes], spawn: Callable[..., Child]
) -> None:
    child = spawn(
        """
        from ipckit import PosixMessageQueue
        from ipckit.testing import step
        queue = PosixMessageQueue.open(args[0])
        queue.notify(print)
        step.tell("registered")
        step.hear()
        """,
        queue.name,
    )
    child.expect("registered")
    child.kill()
    calls = Calls()
    queue.notify(calls)
    queue.send(b"x")
    calls.wait()
    settle()


def test_close_ends_the_registration(queue: PosixMessageQueue[bytes]) -> None:
    calls = Calls()
    with again(queue) as other:
        other.notify(calls, repeat=True)
        assert status(queue)["NOTIFY_PID"] == os.getpid()
    assert status(queue)["NOTIFY_PID"] == 0
    settle()
    queue.send(b"x")
    assert calls.queue.empty()


def test_any_close_in_the_process_ends_the_registration_and_no_later_one(
    queue: PosixMessageQueue[bytes],
) -> None:
    """The kernel ends it; the first notifier must not end the second one's."""
    calls = Calls()
    queue.notify(print)
    again(queue).close()
    settle()
    assert status(queue)["NOTIFY_PID"] == 0
    with again(queue) as other:
        other.notify(calls)
        queue.send(b"x")
        calls.wait()
        settle()


def test_a_forked_copy_leaves_the_registration_alone(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    spawn(
        """
        import os, threading, warnings
        from ipckit import PosixMessageQueue
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside a thread
        with PosixMessageQueue.create(args[0]) as queue:
            told = threading.Event()
            queue.notify(told.set)
            pid = os.fork()
            if pid == 0:
                queue.notify(None)
                queue.close()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            queue.send(b"x")
            assert told.wait(60)
        """,
        ns.name(),
    ).wait()


def test_a_callback_may_use_and_close_the_handle(queue: PosixMessageQueue[bytes]) -> None:
    got: queues.SimpleQueue[bytes] = queues.SimpleQueue()
    other = again(queue)

    def callback() -> None:
        for message in other.drain():
            got.put(message.value)
        other.close()

    other.notify(callback, repeat=True)
    queue.send(b"x")
    assert got.get(timeout=60) == b"x"
    settle()
    assert other.closed


def test_a_callback_that_raises_is_reported_and_ends_it(
    queue: PosixMessageQueue[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: queues.SimpleQueue[object] = queues.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.put(args.exc_type))

    def callback() -> None:
        raise ZeroDivisionError

    queue.notify(callback, repeat=True)
    queue.send(b"x")
    assert reported.get(timeout=60) is ZeroDivisionError
    settle()
    assert status(queue)["NOTIFY_PID"] == 0


def test_a_waiting_receiver_takes_precedence(
    queue: PosixMessageQueue[bytes], meanwhile: Callable[..., Any]
) -> None:
    calls = Calls()
    queue.notify(calls)
    with meanwhile(("mq_timedreceive",), lambda: queue.send(b"x")):
        assert queue.receive().value == b"x"
    assert status(queue)["NOTIFY_PID"] == os.getpid()
    queue.notify(None)
    settle()
    assert calls.queue.empty()


@pytest.mark.parametrize("number", [0, -1, 65, 2**31, 2**70])
def test_notify_signals_out_of_range(queue: PosixMessageQueue[bytes], number: int) -> None:
    calls = Calls()
    queue.notify(calls)
    with pytest.raises(InvalidArgument, match="must be 1 to 64, not"):
        queue.notify(number)
    assert status(queue)["NOTIFY_PID"] == os.getpid()  # what was asked before still holds
    queue.notify(None)
    settle()


@pytest.mark.parametrize("callback", [True, False, "SIGUSR1", 1.0, b"", [print]])
def test_notify_of_a_wrong_type(queue: PosixMessageQueue[bytes], callback: Any) -> None:
    with pytest.raises(TypeError, match="callback must be"):
        queue.notify(callback)
    assert status(queue)["NOTIFY_PID"] == 0


@pytest.mark.parametrize("callback", [None, signal.SIGUSR1])
def test_only_callables_repeat(queue: PosixMessageQueue[bytes], callback: Any) -> None:
    with pytest.raises(InvalidArgument, match="repeat"):
        queue.notify(callback, repeat=True)
    assert status(queue)["NOTIFY_PID"] == 0


CALLS: dict[str, Callable[[Any], object]] = {
    "fileno": lambda queue: queue.fileno(),
    "attributes": lambda queue: queue.attributes(),
    "notify": lambda queue: queue.notify(print),
    "notify signal": lambda queue: queue.notify(signal.SIGUSR1),
    "notify none": lambda queue: queue.notify(None),
    "select": lambda queue: select.select([queue], [], [], 0),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_on_a_closed_handle(queue: PosixMessageQueue[bytes], call: str) -> None:
    queue.close()
    with pytest.raises(ClosedHandle):
        CALLS[call](queue)


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("root")
def test_the_limits_are_named(spawn: Callable[..., Child]) -> None:
    spawn(
        """
        import os, resource
        from ipckit import LimitReached, PosixMessageQueue

        def refused(*texts):
            before = len(os.listdir("/proc/self/fd"))
            try:
                PosixMessageQueue.create("refused")
            except LimitReached as exc:
                for text in texts:
                    assert text in str(exc), exc
            else:
                raise AssertionError("no error")
            assert len(os.listdir("/proc/self/fd")) == before

        with PosixMessageQueue.create("one", max_size=100):
            soft, hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
            resource.setrlimit(resource.RLIMIT_MSGQUEUE, (50_000, hard))
            refused("RLIMIT_MSGQUEUE (50000)", "82,880 bytes")
            resource.setrlimit(resource.RLIMIT_MSGQUEUE, (soft, hard))

            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            full = os.dup(0)  # the lowest that is free
            os.close(full)
            resource.setrlimit(resource.RLIMIT_NOFILE, (full, hard))
            try:
                PosixMessageQueue.create("refused")
            except LimitReached as exc:
                assert f"RLIMIT_NOFILE ({full})" in str(exc), exc
            else:
                raise AssertionError("no error")
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        """,
        sandbox=Sandbox(),
    ).wait()


@pytest.mark.usefixtures("root")
def test_the_limit_of_queues_is_named(spawn: Callable[..., Child]) -> None:
    spawn(
        """
        from ipckit import LimitReached, PosixMessageQueue
        made = [PosixMessageQueue.create(max_size=100) for _ in range(2)]
        try:
            PosixMessageQueue.create(max_size=100)
        except LimitReached as exc:
            assert "fs.mqueue.queues_max (2)" in str(exc), exc
        else:
            raise AssertionError("no error")
        for queue in made:
            with queue:
                pass
        """,
        sandbox=Sandbox(sysctls={"fs.mqueue.queues_max": 2}),
        user="nobody",
        imports=["ipckit"],
    ).wait()
