"""The descriptor of a POSIX message queue: selectors, `from_fd`, and when it closes."""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import select
import selectors
from typing import TYPE_CHECKING, Any

import pytest
from posix_queues import again

from ipckit import (
    AccessDenied,
    ClosedHandle,
    InvalidArgument,
    NotFound,
    PosixMessageQueue,
    Timeout,
    WouldBlock,
    _native,
)
from ipckit._msgq import posix
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipckit.testing import Child, Namespace


@pytest.fixture
def queue(posix_queue: PosixMessageQueue[bytes]) -> PosixMessageQueue[bytes]:
    return posix_queue


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
