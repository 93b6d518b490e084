"""What of an event loop the awaitable calls need: asyncio's (uvloop's too), and trio's."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Ticket:
    """One call that waits."""

    __slots__ = ("wake",)

    def __init__(self) -> None:
        self.wake: Callable[[], object] = idle


def idle() -> None:
    """What waking a call does that is not asleep: it looks again before it sleeps."""


class Loop(Protocol):
    """A running event loop."""

    @property
    def key(self) -> Hashable:
        """What tells it from others."""
        ...

    def time(self) -> float:
        """Seconds on the clock by which it waits."""
        ...

    async def checkpoint(self) -> None:
        """Let others run, and cancellation come."""
        ...

    async def sleep(self, ticket: Ticket, seconds: float | None, fd: int, *, writing: bool) -> None:
        """Wait until the ticket is woken, the time is up, or a descriptor is ready.

        Args:
            ticket: its `wake` ends the sleep, in the loop's thread.
            seconds: how long at most; None for ever.
            fd: a descriptor that nobody else waits on; -1 for none.
            writing: whether it shall be writable, and not readable.
        """
        ...

    def soon(self, call: Callable[[], object]) -> None:
        """Have the loop call something, from any thread; nothing where the loop has ended."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the loop will never go on with those who wait in it."""
        ...


class AsyncioLoop:
    """The loop of asyncio that runs in this thread, whoever made it."""

    __slots__ = ("key",)

    def __init__(self) -> None:
        self.key = asyncio.get_running_loop()

    # A loop's own clock may be some milliseconds old, as uvloop's is.
    time = staticmethod(time.monotonic)

    async def checkpoint(self) -> None:
        """Let others run, and cancellation come."""
        await asyncio.sleep(0)

    async def sleep(self, ticket: Ticket, seconds: float | None, fd: int, *, writing: bool) -> None:
        """Wait, as `Loop` says."""
        loop = self.key
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not future.done():
                with suppress(RuntimeError):  # the loop was closed, and nobody waits any more
                    future.set_result(None)

        ticket.wake = wake
        timer = None if seconds is None else loop.call_later(seconds, wake)
        try:
            if fd >= 0:
                (loop.add_writer if writing else loop.add_reader)(fd, wake)
            await future
        finally:
            ticket.wake = idle
            if timer is not None:
                timer.cancel()
            if fd >= 0:
                with suppress(RuntimeError):  # the loop was closed, and its epoll with it
                    (loop.remove_writer if writing else loop.remove_reader)(fd)

    def soon(self, call: Callable[[], object]) -> None:
        """Have the loop call something, from any thread."""
        with suppress(RuntimeError):  # it was closed
            self.key.call_soon_threadsafe(call)

    @property
    def ended(self) -> bool:
        """Whether the loop was closed."""
        return self.key.is_closed()


class TrioLoop:
    """The run of trio in this thread."""

    __slots__ = ("_trio", "key")

    def __init__(self, trio: Any) -> None:
        self._trio = trio
        self.key = trio.lowlevel.current_trio_token()

    def time(self) -> float:
        """Seconds on trio's clock, which tests replace."""
        now: float = self._trio.current_time()
        return now

    async def checkpoint(self) -> None:
        """Let others run, and cancellation come."""
        await self._trio.lowlevel.checkpoint()

    async def sleep(self, ticket: Ticket, seconds: float | None, fd: int, *, writing: bool) -> None:
        """Wait, as `Loop` says."""
        trio = self._trio
        scope = trio.CancelScope()
        if seconds is not None:
            scope.deadline = self.time() + seconds
        ticket.wake = scope.cancel
        try:
            with scope:
                if fd < 0:
                    await trio.sleep_forever()
                else:
                    await (trio.lowlevel.wait_writable if writing else trio.lowlevel.wait_readable)(
                        fd
                    )
        finally:
            ticket.wake = idle

    def soon(self, call: Callable[[], object]) -> None:
        """Have the loop call something, from any thread."""
        with suppress(self._trio.RunFinishedError):
            self.key.run_sync_soon(call)

    @property
    def ended(self) -> bool:
        """Never while somebody waits: a run of trio ends its tasks first."""
        return False


def running() -> Loop:
    """The event loop that runs the caller.

    Raises:
        RuntimeError: none does.
    """
    trio: Any = sys.modules.get("trio")  # who runs in it has imported it
    if trio is not None:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            pass
        else:
            return TrioLoop(trio)
    return AsyncioLoop()
