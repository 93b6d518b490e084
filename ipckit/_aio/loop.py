"""The event loops: asyncio, with uvloop too, and trio, behind the protocol Loop."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class WaitingCall:
    """An awaited call that waits; `wake` ends its sleep."""

    __slots__ = ("wake",)

    def __init__(self) -> None:
        self.wake: Callable[[], object] = no_wake


def no_wake() -> None:
    """Do nothing: a call that does not sleep makes an attempt before its next sleep anyway."""


class Loop(Protocol):
    """A running event loop."""

    @property
    def key(self) -> Hashable:
        """A key that no other running loop has."""
        ...

    def time(self) -> float:
        """Return the seconds on the clock that `sleep` uses."""
        ...

    async def checkpoint(self) -> None:
        """Let other tasks run, and let a cancellation arrive."""
        ...

    async def sleep(
        self, call: WaitingCall, seconds: float | None, fd: int, *, writing: bool
    ) -> None:
        """Sleep until the call is woken, the time is up, or a descriptor is ready.

        Args:
            call: its `wake` ends the sleep; called in the loop's thread.
            seconds: the longest sleep; None for no limit.
            fd: a descriptor that no other call watches; -1 for none.
            writing: whether to watch for writable instead of readable.
        """
        ...

    def soon(self, function: Callable[[], object]) -> None:
        """Have the loop call a function; from any thread. Does nothing if the loop has ended."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the loop will never resume the calls that wait in it."""
        ...


class AsyncioLoop:
    """The event loop of asyncio that runs in this thread, of any policy."""

    __slots__ = ("key",)

    def __init__(self) -> None:
        self.key = asyncio.get_running_loop()

    # Not the loop's own clock: uvloop's may be some milliseconds old.
    time = staticmethod(time.monotonic)

    async def checkpoint(self) -> None:
        """Let other tasks run, and let a cancellation arrive."""
        await asyncio.sleep(0)

    async def sleep(
        self, call: WaitingCall, seconds: float | None, fd: int, *, writing: bool
    ) -> None:
        """Sleep, as `Loop.sleep`."""
        loop = self.key
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not future.done():
                with suppress(RuntimeError):  # the loop was closed
                    future.set_result(None)

        call.wake = wake
        timer = None if seconds is None else loop.call_later(seconds, wake)
        try:
            if fd >= 0:
                (loop.add_writer if writing else loop.add_reader)(fd, wake)
            await future
        finally:
            call.wake = no_wake
            if timer is not None:
                timer.cancel()
            if fd >= 0:
                with suppress(RuntimeError):  # the loop was closed, and its epoll with it
                    (loop.remove_writer if writing else loop.remove_reader)(fd)

    def soon(self, function: Callable[[], object]) -> None:
        """Have the loop call a function; from any thread."""
        with suppress(RuntimeError):  # it was closed
            self.key.call_soon_threadsafe(function)

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
        """Return the seconds on trio's clock, which tests replace."""
        now: float = self._trio.current_time()
        return now

    async def checkpoint(self) -> None:
        """Let other tasks run, and let a cancellation arrive."""
        await self._trio.lowlevel.checkpoint()

    async def sleep(
        self, call: WaitingCall, seconds: float | None, fd: int, *, writing: bool
    ) -> None:
        """Sleep, as `Loop.sleep`."""
        trio = self._trio
        scope = trio.CancelScope()
        if seconds is not None:
            scope.deadline = self.time() + seconds
        call.wake = scope.cancel
        try:
            with scope:
                if fd < 0:
                    await trio.sleep_forever()
                else:
                    await (trio.lowlevel.wait_writable if writing else trio.lowlevel.wait_readable)(
                        fd
                    )
        finally:
            call.wake = no_wake

    def soon(self, function: Callable[[], object]) -> None:
        """Have the loop call a function; from any thread."""
        with suppress(self._trio.RunFinishedError):
            self.key.run_sync_soon(function)

    @property
    def ended(self) -> bool:
        """Always False: a run of trio ends its tasks before it ends."""
        return False


def running() -> Loop:
    """Return the event loop that runs the caller.

    Raises:
        RuntimeError: no event loop runs in this thread.
    """
    trio: Any = sys.modules.get("trio")  # a program that runs in trio has imported it
    if trio is not None:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            pass
        else:
            return TrioLoop(trio)
    return AsyncioLoop()
