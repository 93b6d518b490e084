"""Who waits for a handle in event loops: one line for each thing that can be waited for.

Nothing is ever taken on behalf of a call that waits: who comes to the head of a line tries by
itself, and returns what it got without another await. So a call that is cancelled has taken
nothing; all that it leaves is its place.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from weakref import WeakSet

from ipckit._aio.loop import Loop, Ticket, running
from ipckit._core.deadline import checked_timeout
from ipckit._core.descriptors import Descriptor
from ipckit._core.forks import at_fork
from ipckit.errors import IpcError, Timeout, WouldBlock, from_errno

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

R = TypeVar("R")

# So many calls may be done at once, one after the other, before the loop gets a turn.
TURNS: Final = 32

# Under load what is waited for comes within a turn of the loop, and telling the loop to watch a
# descriptor takes longer than one.
_TURNS_BEFORE_SLEEP: Final = 1

# What tells nobody that it changed is looked at again after a part of the time waited so far.
_SHORTEST_PAUSE: Final = 50e-6
_LONGEST_PAUSE: Final = 20e-3
_PAUSE_PART: Final = 1 / 32
_DAY: Final = 86400.0  # loops have their own ideas of the longest timer


class Again(Exception):  # noqa: N818 - it is no error
    """An attempt got somewhere, and is to go on after the loop had a turn."""


class Way(NamedTuple):
    """How a call learns that it is worth trying again.

    Attributes:
        fileno: gives the descriptor to wait on; None where there is none.
        writing: whether that is to be writable, and not readable.
        longest: seconds between two tries at most; None to wait for the descriptor alone.
        parts: an attempt may do a part and leave the rest to a later one, so that nobody may
            come between; else a call with a timeout of 0 does not mind who waits.
    """

    fileno: Callable[[], int] | None
    writing: bool = False
    longest: float | None = None
    parts: bool = False


LOOKING: Final = Way(None, longest=_LONGEST_PAUSE)


class Line:
    """The calls of one event loop that wait for the same, the longest waiting first."""

    __slots__ = ("_duplicate", "loop", "tickets")

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.tickets: deque[Ticket] = deque()
        self._duplicate: Descriptor | None = None

    def wake(self) -> None:
        """Have its head look again; in the loop's thread."""
        if self.tickets:
            self.tickets[0].wake()

    def descriptor(self, way: Way) -> int:
        """What its head waits on: a duplicate, which no other thread closes or waits on."""
        if way.fileno is None:
            return -1
        if self._duplicate is None:
            number = way.fileno()
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
    """All the calls that wait for one handle, in whatever loop.

    Attributes:
        lines: by loop, and by what is waited for; there is one only while somebody is in it.
        turns: how many calls may still be done at once before the loop gets a turn.
        unsent: what a stream's cancelled send left, which goes before the next.
        partial: what a stream's cancelled receive of a record had got.
    """

    __slots__ = ("__weakref__", "lines", "partial", "target", "turns", "unsent")

    def __init__(self, target: Callable[[], str]) -> None:
        self.lines: dict[tuple[Hashable, Hashable], Line] = {}
        self.turns = TURNS
        self.unsent: memoryview = memoryview(b"")
        self.partial: Any = None
        self.target = target
        _ALL.add(self)

    def wake(self) -> None:
        """Have the head of each line look again, and tell the next if it fails; from any thread."""
        self._forget_ended()
        for line in list(self.lines.values()):
            line.loop.soon(line.wake)

    def _forget_ended(self) -> None:
        """Forget who waits in loops that were closed under them."""
        for key, line in list(self.lines.items()):
            if line.loop.ended:
                self.lines.pop(key, None)
                line.close()

    def forked(self) -> None:
        """Forget, in a forked child, who waits in the parent.

        Once the duplicates are closed, nothing here can end a wait in the epoll that both have.
        """
        lines, self.lines = self.lines, {}
        for line in lines.values():
            line.close()
        self.unsent = memoryview(b"")
        self.partial = None

    async def call(
        self,
        what: Hashable,
        attempt: Callable[[], R],
        timeout: float | None,
        way: Way,
    ) -> R:
        """Do something that may have to wait.

        Args:
            what: what it waits for; calls with the same `what` and loop are done in order.
            attempt: does it at once, or raises WouldBlock and leaves all as it was.
            timeout: seconds; None for ever, 0 not at all.
            way: how it learns that it is worth trying again.

        Raises:
            Timeout: the deadline passed.
            WouldBlock: it can't be done at once, with a timeout of 0.
            IpcError: what `attempt` raises.
        """
        seconds = checked_timeout(timeout)
        if self.turns <= 0:
            self.turns = TURNS
            await running().checkpoint()
        if not self.lines or (seconds == 0 and not way.parts):
            self.turns -= 1
            try:
                return attempt()
            except Again:
                pass
            except WouldBlock:
                if seconds == 0:
                    raise
        # No await before it stands in line: a stream's send may have begun.
        return await self._wait(what, attempt, seconds, way)

    async def _wait(
        self, what: Hashable, attempt: Callable[[], R], seconds: float | None, way: Way
    ) -> R:
        """As `call`, after an attempt that failed, or where others may be in front."""
        loop = running()
        key = (loop.key, what)
        line = self.lines.get(key)
        if line is None:
            self._forget_ended()
            line = self.lines[key] = Line(loop)
        ticket = Ticket()
        line.tickets.append(ticket)
        try:
            return await self._in_turn(line, ticket, attempt, seconds, way)
        finally:
            self._leave(key, line, ticket)

    async def _in_turn(
        self,
        line: Line,
        ticket: Ticket,
        attempt: Callable[[], R],
        seconds: float | None,
        way: Way,
    ) -> R:
        loop = line.loop
        began = loop.time()
        turns = _TURNS_BEFORE_SLEEP
        while True:
            first = line.tickets[0] is ticket
            problem: WouldBlock | None = None
            progress = False
            if first:
                try:
                    return attempt()
                except WouldBlock as exc:
                    problem = exc
                except Again:
                    progress = True
            waited = loop.time() - began
            if seconds is not None and waited >= seconds and not (progress and seconds == 0):
                raise self._late(problem, seconds)
            self.turns = TURNS
            if progress or (first and turns > 0):
                turns -= not progress
                await loop.checkpoint()
                continue
            limits = [_DAY] if seconds is None else [_DAY, seconds - waited]
            fd = -1
            if first:
                fd = line.descriptor(way)
                if way.longest is not None:
                    # With a descriptor it is only what that does not tell.
                    pause = _DAY if fd >= 0 else max(waited * _PAUSE_PART, _SHORTEST_PAUSE)
                    limits.append(min(pause, way.longest))
            await loop.sleep(ticket, min(limits), fd, writing=way.writing)

    def _leave(self, key: tuple[Hashable, Hashable], line: Line, ticket: Ticket) -> None:
        first = line.tickets[0] is ticket
        line.tickets.remove(ticket)
        if not line.tickets:
            line.close()
            if self.lines.get(key) is line:
                del self.lines[key]
        elif first:
            line.wake()

    def _late(self, problem: WouldBlock | None, seconds: float) -> IpcError:
        if seconds == 0:
            return problem or WouldBlock(
                "others wait in front of it", errno=errno.EAGAIN, op="wait", target=self.target()
            )
        if problem is None:
            message = f"others were in front of it for {seconds} s"
            return Timeout(message, errno=errno.ETIMEDOUT, op="wait", target=self.target())
        message = f"{problem.strerror}, and {seconds} s have passed"
        return Timeout(message, errno=errno.ETIMEDOUT, op=problem.op, target=problem.target)


_ALL: Final[WeakSet[Waiters]] = WeakSet()


def _forked() -> None:
    for waiters in _ALL:
        waiters.forked()


at_fork("waiters", after_in_child=_forked)
