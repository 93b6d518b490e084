"""The notification of a POSIX message queue: when it calls, and what ends it."""

from __future__ import annotations

import errno
import os
import queue as queues
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from posix_queues import again, status

from ipckit import AlreadyExists, InvalidArgument, PosixMessageQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace


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


@pytest.fixture
def queue(posix_queue: PosixMessageQueue[bytes]) -> PosixMessageQueue[bytes]:
    return posix_queue


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
