"""Queues of awaited calls that wait for a handle.

A handle has one queue for each event loop and each condition, such as "readable". Only the call at
the head of a queue makes attempts, and it returns the result without another await. So a cancelled
call has taken nothing from the handle; it only leaves its place in the queue.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from weakref import WeakSet

from ipckit._aio.loop import Loop, WaitingCall, running
from ipckit._core.deadline import checked_timeout
from ipckit._core.descriptors import Descriptor
from ipckit._core.forks import at_fork
from ipckit.errors import IpcError, Timeout, WouldBlock, from_errno

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

R = TypeVar("R")

# How many calls may succeed without waiting before the loop runs its other tasks.
CALLS_PER_TURN: Final = 32

# How often a call yields to the loop before it has the loop watch a descriptor. Under load the
# condition is often true after one turn of the loop, and watching a descriptor takes longer.
_YIELDS_BEFORE_SLEEP: Final = 1

# Some objects have no descriptor that reports a change. They are polled, with a pause that is a
# fraction of the time that the call has waited.
_SHORTEST_PAUSE: Final = 50e-6
_LONGEST_PAUSE: Final = 20e-3
_PAUSE_FRACTION: Final = 1 / 32
_DAY: Final = 86400.0  # event loops limit the length of a timer


class Unfinished(Exception):  # noqa: N818 - not an error
    """Raised by an attempt that did a part of its work, and continues after a turn of the loop."""


class Wakeup(NamedTuple):
    """When a call that waits makes its next attempt.

    Attributes:
        fileno: returns the descriptor to watch; None for an object that is polled.
        writing: whether to watch for writable instead of readable.
        longest: the longest pause between two attempts in seconds; None if the descriptor suffices.
        parts: whether an attempt may do a part of its work, so that no other call may come between
            its parts. Otherwise a call with a timeout of 0 does not queue behind others.
        misleads: returns whether the descriptor is readable although an attempt would fail. The
            object is polled then.
    """

    fileno: Callable[[], int] | None
    writing: bool = False
    longest: float | None = None
    parts: bool = False
    misleads: Callable[[], bool] | None = None


POLLED: Final = Wakeup(None, longest=_LONGEST_PAUSE)


class WaitQueue:
    """The calls of one event loop that wait for one condition, the longest waiting first."""

    __slots__ = ("_duplicate", "calls", "loop")

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.calls: deque[WaitingCall] = deque()
        self._duplicate: Descriptor | None = None

    def wake(self) -> None:
        """Wake the first call for another attempt; call this in the loop's thread."""
        if self.calls:
            self.calls[0].wake()

    def descriptor(self, wakeup: Wakeup) -> int:
        """Return the descriptor to watch: a duplicate, which no other thread closes or watches."""
        if wakeup.fileno is None:
            return -1
        if self._duplicate is None:
            number = wakeup.fileno()
            try:
                self._duplicate = Descriptor(os.dup(number))
            except OSError as exc:
                raise from_errno(exc.errno or errno.EIO, op="dup") from None
        return self._duplicate.number

    def close(self) -> None:
        """Close the duplicate."""
        if self._duplicate is not None:
            self._duplicate.close()
            self._duplicate = None


class Waiters:
    """All awaited calls that wait for one handle, in any event loop.

    Attributes:
        queues: by loop and condition; a queue exists only while a call is in it.
        budget: how many calls may still succeed without waiting before the loop runs other tasks.
        unsent: the rest of a cancelled send on a stream, which the next send sends first.
        partial: the bytes of a record that a cancelled receive on a stream had received.
        target: returns the handle for messages.
    """

    __slots__ = ("__weakref__", "budget", "partial", "queues", "target", "unsent")

    def __init__(self, target: Callable[[], str]) -> None:
        self.queues: dict[tuple[Hashable, Hashable], WaitQueue] = {}
        self.budget = CALLS_PER_TURN
        self.unsent: memoryview = memoryview(b"")
        self.partial: Any = None
        self.target = target
        _ALL.add(self)

    def wake(self) -> None:
        """Wake the first call of each queue for another attempt; from any thread."""
        self._drop_ended_loops()
        for queue in list(self.queues.values()):
            queue.loop.soon(queue.wake)

    def _drop_ended_loops(self) -> None:
        """Drop the queues of loops that were closed while calls waited in them."""
        for key, queue in list(self.queues.items()):
            if queue.loop.ended:
                self.queues.pop(key, None)
                queue.close()

    def forked(self) -> None:
        """Drop the parent's calls in a forked child.

        Parent and child share the loop's epoll. Once the duplicates are closed, nothing in the
        child can end a wait in it.
        """
        queues, self.queues = self.queues, {}
        for queue in queues.values():
            queue.close()
        self.unsent = memoryview(b"")
        self.partial = None

    async def call(
        self,
        condition: Hashable,
        attempt: Callable[[], R],
        timeout: float | None,
        wakeup: Wakeup,
    ) -> R:
        """Make attempts until one succeeds, and return its result.

        Args:
            condition: what the call waits for. Calls of one loop with the same condition are served
                in order.
            attempt: succeeds at once, or raises WouldBlock and changes nothing.
            timeout: seconds; None waits for ever, 0 not at all.
            wakeup: when to make the next attempt.

        Raises:
            Timeout: the deadline passed.
            WouldBlock: the attempt would have to wait, with a timeout of 0.
            IpcError: any other error of `attempt`.
        """
        seconds = checked_timeout(timeout)
        if self.budget <= 0:
            self.budget = CALLS_PER_TURN
            await running().checkpoint()
        if not self.queues or (seconds == 0 and not wakeup.parts):
            self.budget -= 1
            try:
                return attempt()
            except Unfinished:
                pass
            except WouldBlock:
                if seconds == 0:
                    raise
        # No await before the call is in the queue, because it may have sent a part of its bytes.
        return await self._wait(condition, attempt, seconds, wakeup)

    async def _wait(
        self,
        condition: Hashable,
        attempt: Callable[[], R],
        seconds: float | None,
        wakeup: Wakeup,
    ) -> R:
        """Queue a call whose first attempt failed, or that has to wait for other calls."""
        loop = running()
        key = (loop.key, condition)
        queue = self.queues.get(key)
        if queue is None:
            self._drop_ended_loops()
            queue = self.queues[key] = WaitQueue(loop)
        call = WaitingCall()
        queue.calls.append(call)
        try:
            return await self._in_turn(queue, call, attempt, seconds, wakeup)
        finally:
            self._leave(key, queue, call)

    async def _in_turn(
        self,
        queue: WaitQueue,
        call: WaitingCall,
        attempt: Callable[[], R],
        seconds: float | None,
        wakeup: Wakeup,
    ) -> R:
        loop = queue.loop
        began = loop.time()
        yields = _YIELDS_BEFORE_SLEEP
        while True:
            first = queue.calls[0] is call
            problem: WouldBlock | None = None
            progress = False
            if first:
                try:
                    return attempt()
                except WouldBlock as exc:
                    problem = exc
                except Unfinished:
                    progress = True
            waited = loop.time() - began
            if seconds is not None and waited >= seconds and not (progress and seconds == 0):
                raise self._deadline_error(problem, seconds)
            self.budget = CALLS_PER_TURN
            if progress or (first and yields > 0):
                yields -= not progress
                await loop.checkpoint()
                continue
            limits = [_DAY] if seconds is None else [_DAY, seconds - waited]
            fd = -1
            if first:
                fd = queue.descriptor(wakeup)
                longest = wakeup.longest
                if wakeup.misleads is not None and wakeup.misleads():
                    fd, longest = -1, _LONGEST_PAUSE
                if longest is not None:
                    # With a descriptor, only `longest` limits the pause.
                    pause = _DAY if fd >= 0 else max(waited * _PAUSE_FRACTION, _SHORTEST_PAUSE)
                    limits.append(min(pause, longest))
            await loop.sleep(call, min(limits), fd, writing=wakeup.writing)

    def _leave(self, key: tuple[Hashable, Hashable], queue: WaitQueue, call: WaitingCall) -> None:
        """Remove a call from its queue, and wake the next one."""
        first = queue.calls[0] is call
        queue.calls.remove(call)
        if not queue.calls:
            queue.close()
            if self.queues.get(key) is queue:
                del self.queues[key]
        elif first:
            queue.wake()

    def _deadline_error(self, problem: WouldBlock | None, seconds: float) -> IpcError:
        """Return the error after the deadline; `problem` is None if the call never was first."""
        if seconds == 0:
            return problem or WouldBlock(
                "other calls are ahead of it in the queue",
                errno=errno.EAGAIN,
                op="wait",
                target=self.target(),
            )
        if problem is None:
            message = f"other calls were ahead of it in the queue for {seconds} s"
            return Timeout(message, errno=errno.ETIMEDOUT, op="wait", target=self.target())
        message = f"{problem.strerror}; the call waited for {seconds} s"
        return Timeout(
            message,
            errno=errno.ETIMEDOUT,
            op=problem.op,
            target=problem.target,
            hint=problem.hint,
        )


_ALL: Final[WeakSet[Waiters]] = WeakSet()


def _forked() -> None:
    for waiters in _ALL:
        waiters.forked()


at_fork("waiters", after_in_child=_forked)
