"""Message queues in several threads, and signals that arrive while one of them waits."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import ClosedHandle, Removed, Timeout, WouldBlock
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from queue_kinds import Kind

    from ipckit.testing import Child

SIDES = pytest.mark.parametrize("side", ["receive", "send"])
TIMEOUTS = pytest.mark.parametrize("timeout", [None, 60.0], ids=["for ever", "with a deadline"])


def perform(side: str, queue: Any, timeout: float | None) -> None:
    """One of the two calls that can wait."""
    if side == "receive":
        queue.receive(timeout=timeout)
    else:
        queue.send(b"x", timeout=timeout)


# -- threads ---------------------------------------------------------------------------------------


@TIMEOUTS
@pytest.mark.parametrize("handles", [1, 4], ids=["one handle", "a handle each"])
def test_nothing_is_lost_or_doubled_between_threads(
    kind: Kind, timeout: float | None, handles: int
) -> None:
    each, producers, consumers = 150, 4, 4
    taken: list[list[bytes]] = [[] for _ in range(consumers)]
    errors: list[BaseException] = []
    with kind.create(**kind.room(4, 8)) as queue:
        opened = [queue, *(kind.again(queue) for _ in range(handles - 1))]

        def guarded(work: Callable[[int], None], number: int) -> None:
            try:
                work(number)
            except BaseException as exc:
                errors.append(exc)

        def produce(number: int) -> None:
            for count in range(each):
                opened[number % handles].send(b"%d %05d" % (number, count), timeout=timeout)

        def consume(number: int) -> None:
            while value := opened[number % handles].receive(timeout=timeout).value:
                taken[number].append(value)

        threads = [
            threading.Thread(target=guarded, args=(work, number))
            for work, many in ((produce, producers), (consume, consumers))
            for number in range(many)
        ]
        for thread in threads:
            thread.start()
        for thread in threads[:producers]:
            thread.join()
        for _ in range(consumers):
            queue.send(b"")
        for thread in threads[producers:]:
            thread.join()
        for handle in opened[1:]:
            handle.close()
        assert errors == []
    wanted = [b"%d %05d" % (number, count) for number in range(producers) for count in range(each)]
    assert sorted(value for values in taken for value in values) == wanted
    for values in taken:
        # One consumer receives each producer's messages in the order in which they were sent.
        for number in range(producers):
            own = [value for value in values if value.startswith(b"%d " % number)]
            assert own == sorted(own)


def test_a_polling_and_a_sleeping_receiver_together_lose_nothing(kind: Kind) -> None:
    total = 200
    counts: Counter[bytes] = Counter()
    lock = threading.Lock()
    with kind.create(**kind.room(4, 8)) as queue:

        def consume(timeout: float | None) -> None:
            while value := queue.receive(timeout=timeout).value:
                with lock:
                    counts[value] += 1

        threads = [threading.Thread(target=consume, args=(each,)) for each in (None, 60.0)]
        for thread in threads:
            thread.start()
        for number in range(total):
            queue.send(b"%d" % number)
        for _ in threads:
            queue.send(b"")
        for thread in threads:
            thread.join()
    assert counts == Counter(b"%d" % number for number in range(total))


@TIMEOUTS
def test_a_closed_handle_does_not_disturb_a_call_that_waits(
    kind: Kind, timeout: float | None, meanwhile: Callable[..., Any]
) -> None:
    with kind.create(**kind.room(1, 8)) as queue:
        waiting = kind.again(queue)

        def close_then_send() -> None:
            waiting.close()
            with pytest.raises(ClosedHandle):
                waiting.receive(timeout=0)
            queue.send(b"late")

        with meanwhile(kind.sleeps_in(receive=True, timeout=timeout), close_then_send):
            assert waiting.receive(timeout=timeout).value == b"late"
        with pytest.raises(ClosedHandle):
            waiting.receive(timeout=0)


@TIMEOUTS
@SIDES
def test_unlinking_during_a_call_that_waits(
    kind: Kind, timeout: float | None, side: str, meanwhile: Callable[..., Any]
) -> None:
    with kind.create(**kind.room(1, 8)) as queue, kind.again(queue) as other:
        if side == "send":
            queue.send(b"8 bytes.")

        def unlink() -> None:
            other.unlink()
            if not kind.cls.caps.unlink_destroys_now:
                _ = other.send(b"still") if side == "receive" else other.receive()

        with meanwhile(kind.sleeps_in(receive=side == "receive", timeout=timeout), unlink):
            if kind.cls.caps.unlink_destroys_now:
                with pytest.raises(Removed, match="removed"):
                    perform(side, queue, timeout)
            else:
                perform(side, queue, timeout)


def test_iteration_ends_with_the_queue(kind: Kind, meanwhile: Callable[..., Any]) -> None:
    if not kind.cls.caps.unlink_destroys_now:
        with kind.create() as queue:
            queue.unlink()
            queue.send(b"goes on")
            assert next(iter(queue)).value == b"goes on"
        return
    with kind.create() as queue:
        queue.send(b"one")
        with meanwhile(("msgrcv",), queue.unlink):
            assert [message.value for message in queue] == [b"one"]


def test_other_threads_run_while_one_waits(kind: Kind, meanwhile: Callable[..., Any]) -> None:
    """The receiver releases the GIL; otherwise no thread could send its message."""
    ran: list[int] = []
    with kind.create() as queue:

        def run() -> None:
            ran.extend(range(1000))
            queue.send(b"done")

        with meanwhile(kind.sleeps_in(receive=True, timeout=None), run):
            assert queue.receive().value == b"done"
            assert len(ran) == 1000


# -- signals ---------------------------------------------------------------------------------------


@TIMEOUTS
@SIDES
def test_a_handler_runs_during_the_wait_and_the_wait_continues(
    kind: Kind,
    timeout: float | None,
    side: str,
    meanwhile: Callable[..., Any],
    signals: Any,
) -> None:
    ran = [threading.Event(), threading.Event()]
    with kind.create(**kind.room(1, 8)) as queue, kind.again(queue) as other:
        if side == "send":
            queue.send(b"first...")

        asleep = kind.sleeps_in(receive=side == "receive", timeout=timeout)

        def handler(*_: object) -> None:
            next(event for event in ran if not event.is_set()).set()

        def act() -> None:
            for event in ran:
                wait_blocked(os.getpid(), *asleep)
                signals.send()
                assert event.wait(60), "the handler did not run while the call waited"
            _ = other.send(b"came.   ") if side == "receive" else other.receive()

        with (
            signals.handled(handler),
            meanwhile(asleep, act),
        ):
            if side == "receive":
                assert queue.receive(timeout=timeout).value == b"came.   "
            else:
                queue.send(b"second..", timeout=timeout)
                assert other.receive(timeout=0).value == b"second.."


@SIDES
def test_after_a_handler_the_wait_has_the_remaining_time(
    kind: Kind, side: str, signals: Any
) -> None:
    """It ends no sooner than its deadline, and repeated signals do not prolong it."""
    count = 0

    def handler(*_: object) -> None:
        nonlocal count
        count += 1

    with kind.create(**kind.room(1, 8)) as queue, signals.handled(handler, signal.SIGALRM):
        if side == "send":
            queue.send(b"8 bytes.")
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        try:
            started = time.monotonic()
            with pytest.raises(Timeout):
                perform(side, queue, 0.1)
            waited = time.monotonic() - started
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert waited >= 0.1
        # If each signal restarted the timeout, the call would never return.
        assert count > 1


class OwnError(Exception):
    pass


class OwnBlockingError(BlockingIOError):
    pass


RAISED = [
    OwnError("mine"),
    OSError(5, "mine"),
    OSError("without errno"),
    TimeoutError("mine"),
    BlockingIOError(11, "mine"),
    OwnBlockingError("mine"),
    ValueError("mine"),
    WouldBlock("mine", errno=11),
    KeyboardInterrupt(),
    SystemExit(3),
]


@pytest.mark.parametrize(
    ("side", "timeout"),
    [("receive", None), ("receive", 60.0), ("send", None), ("send", 60.0)],
)
@pytest.mark.parametrize("raised", RAISED, ids=[f"{type(each).__name__}" for each in RAISED])
def test_an_exception_of_a_handler_is_not_translated(  # noqa: PLR0917 - two tables and two fixtures
    kind: Kind,
    side: str,
    timeout: float | None,
    raised: BaseException,
    meanwhile: Callable[..., Any],
    signals: Any,
) -> None:
    def handler(*_: object) -> None:
        raise raised.with_traceback(None)

    with kind.create(**kind.room(1, 8)) as queue:
        if side == "send":
            queue.send(b"8 bytes.")
        asleep = kind.sleeps_in(receive=side == "receive", timeout=timeout)
        with (
            signals.handled(handler),
            meanwhile(asleep, signals.send),
            pytest.raises(type(raised)) as caught,
        ):
            perform(side, queue, timeout)
        assert caught.value is raised
        # Nothing was done, and the handle still works.
        assert len(queue) == (0 if side == "receive" else 1)
        queue.drain()
        queue.send(b"after")
        assert queue.receive(timeout=0).value == b"after"


def test_an_exception_of_a_handler_right_after_a_call_is_not_translated(
    kind: Kind, signals: Any
) -> None:
    """Python runs a handler when the native call has just returned to ipckit's code."""

    class Interrupting:
        """A number whose conversion sends a signal: the handler runs as soon as possible."""

        def __index__(self) -> int:
            signal.raise_signal(signal.SIGUSR1)
            return 1

    def handler(*_: object) -> None:
        raise OwnBlockingError

    with kind.create() as queue, signals.handled(handler):
        for timeout in (None, 0, 5.0):
            with pytest.raises(OwnBlockingError):
                queue.send(b"x", Interrupting(), timeout=timeout)


@TIMEOUTS
def test_control_c_ends_a_wait(
    kind: Kind,
    timeout: float | None,
    meanwhile: Callable[..., Any],
    signals: Any,
) -> None:
    with (
        kind.create() as queue,
        signals.handled(signal.default_int_handler, signal.SIGINT),
        meanwhile(
            kind.sleeps_in(receive=True, timeout=timeout), lambda: signals.send(signal.SIGINT)
        ),
        pytest.raises(KeyboardInterrupt),
    ):
        queue.receive(timeout=timeout)


@TIMEOUTS
def test_a_handler_may_use_the_queue_that_the_call_waits_on(
    kind: Kind,
    timeout: float | None,
    meanwhile: Callable[..., Any],
    signals: Any,
) -> None:
    with (
        kind.create() as queue,
        signals.handled(lambda *_: queue.send(b"from the handler")),
        meanwhile(kind.sleeps_in(receive=True, timeout=timeout), signals.send),
    ):
        assert queue.receive(timeout=timeout).value == b"from the handler"


@TIMEOUTS
def test_a_handler_may_close_the_handle_that_the_call_waits_on(
    kind: Kind,
    timeout: float | None,
    meanwhile: Callable[..., Any],
    signals: Any,
) -> None:
    with kind.create() as queue, kind.again(queue) as waiting:

        def act() -> None:
            signals.send()
            queue.send(b"x")

        with (
            signals.handled(lambda *_: waiting.close()),
            meanwhile(kind.sleeps_in(receive=True, timeout=timeout), act),
        ):
            assert waiting.receive(timeout=timeout).value == b"x"
        assert waiting.closed


@SIDES
def test_a_timed_wait_sees_a_signal_of_another_thread(
    kind: Kind, side: str, meanwhile: Callable[..., Any], signals: Any
) -> None:
    """Or one that arrived just before the sleep: neither interrupts its system call."""
    ran = threading.Event()
    with kind.create(**kind.room(1, 8)) as queue, kind.again(queue) as other:
        if side == "send":
            queue.send(b"8 bytes.")

        def act() -> None:
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            assert ran.wait(30), "the handler did not run while the call waited"
            _ = other.send(b"8 bytes.") if side == "receive" else other.receive()

        with (
            signals.handled(lambda *_: ran.set()),
            meanwhile(kind.sleeps_in(receive=side == "receive", timeout=60.0), act),
        ):
            perform(side, queue, 60.0)
        assert ran.is_set()


def test_a_signal_without_a_handler_of_python_ends_the_process(
    kind: Kind, spawn: Callable[..., Child]
) -> None:
    with kind.create() as queue:
        child = spawn(
            """
            from ipckit.testing import step
            cls, address = args
            with cls.open(address) as queue:
                step.tell("ready")
                queue.receive()
            """,
            kind.cls,
            kind.address_of(queue),
        )
        child.expect("ready")
        child.wait_blocked(*kind.sleeps_in(receive=True, timeout=None))
        child.send_signal(signal.SIGTERM)
        child.wait(expect=-signal.SIGTERM)
        queue.send(b"for who comes next")
        assert queue.receive(timeout=0).value == b"for who comes next"
