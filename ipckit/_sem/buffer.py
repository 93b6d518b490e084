"""Ways to wait for each other, over semaphore sets: buffer counters, barrier, event."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, Self

import ipckit._native as native
from ipckit._core.construct import construct
from ipckit._core.making import PATIENCE
from ipckit._core.public import public
from ipckit._native import SemOp
from ipckit._sem.initialise import checked_values
from ipckit._sem.locks import Block, Primitive
from ipckit._sem.stat import semaphore_limits
from ipckit._sem.sysv import SysVSemaphoreSet
from ipckit.errors import InvalidArgument, Timeout, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    # Free places and items, as a buffer's own record has them.
    Record: TypeAlias = Callable[[], tuple[int, int]]

_FREE: Final = 0
_ITEMS: Final = 1
_MUTEX: Final = 2
_COME: Final = (SemOp(0, -1, undo=True),)  # the first of a barrier's operations, for messages


@public("ipckit.sem")
class BoundedBuffer(Primitive):
    """The counters of the textbook's producer and consumer: empty, full and mutex.

    They guard a buffer of `capacity` places that lives elsewhere, in shared memory:

        with buffer.producing():         # waits for a free place, alone in the buffer
            …put one item into it…
        with buffer.consuming():         # waits for an item, alone in the buffer
            …take one item out of it…

    Who dies inside a block, or leaves it by an exception, has produced or consumed nothing. What
    the counters can't know is whether the buffer itself was changed already. So let the buffer
    have a record of what is in it, changed last and at once (a `SharedStruct`), and let everybody
    name it: ``buffer.producing(record)``. The counters then follow the record, whoever died where,
    and nobody waits for a place or an item that is there.

    Semaphore 0 counts free places, 1 items, 2 is the mutex. A block takes a place and the mutex,
    or an item and the mutex, by one operation, so that no two processes are ever between.
    """

    kind = "a bounded buffer"

    @classmethod
    def _count(cls) -> int:
        return 3

    @classmethod
    def create(cls, key: int | None = None, capacity: int = 1, *, mode: int = 0o600) -> Self:
        """Make the counters of an empty buffer.

        Args:
            key: the key to find them by; None picks a free one.
            capacity: how many items the buffer holds, 1 to 32767.
            mode: permission bits.
        """
        return cls._made(key, [cls._checked(capacity), 0, 1], mode)

    @classmethod
    def open_or_create(
        cls,
        key: int,
        capacity: int,
        *,
        mode: int = 0o600,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> Self:
        """Find the counters, or make those of an empty buffer.

        The other arguments and the errors are `SysVSemaphoreSet.open_or_create`'s.

        Args:
            key: the key to find them by.
            capacity: how many items the buffer holds, of counters that are made.
            mode: permission bits of counters that are made, and the widest of those found.
            timeout: seconds to keep trying while others make and remove them.
            owner_uid: a user whose counters are accepted beside this user's and root's.
        """
        return cls._found_or_made(key, [cls._checked(capacity), 0, 1], mode, timeout, owner_uid)

    @staticmethod
    def _checked(capacity: int) -> int:
        highest = semaphore_limits().semvmx
        if not 1 <= capacity <= highest:
            message = f"capacity is {capacity}; it takes 1 to {highest}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        return capacity

    @property
    def free(self) -> int:
        """How many places are free."""
        return self.semaphores[0].value

    @property
    def used(self) -> int:
        """How many items there are."""
        return self.semaphores[1].value

    def producing(
        self, record: Record | None = None, *, timeout: float | None = None
    ) -> AbstractContextManager[None]:
        """Put one item into the buffer during a ``with`` block.

        Args:
            record: tells how many places are free and how many items there are, as the buffer's
                own record has it; called when this process is alone in the buffer.
            timeout: seconds to wait for a free place; 0 does not wait, None waits for ever.

        Raises:
            WouldBlock: the buffer is full, and `timeout` is 0.
            Timeout: it was full until the deadline.
            Removed: the counters were removed, before or meanwhile.
            InvalidArgument: the record tells numbers that can't be.
        """
        return _Move(self.semaphores, _FREE, _ITEMS, record, timeout)

    def consuming(
        self, record: Record | None = None, *, timeout: float | None = None
    ) -> AbstractContextManager[None]:
        """Take one item out of the buffer during a ``with`` block.

        Args:
            record: as in `producing`.
            timeout: seconds to wait for an item; 0 does not wait, None waits for ever.

        Raises:
            WouldBlock: the buffer is empty, and `timeout` is 0.
            Timeout: it was empty until the deadline.
            Removed: the counters were removed, before or meanwhile.
            InvalidArgument: the record tells numbers that can't be.
        """
        return _Move(self.semaphores, _ITEMS, _FREE, record, timeout)


class _Move(Block):
    """A block that moves one from a buffer's free places to its items, or back."""

    def __init__(
        self,
        semaphores: SysVSemaphoreSet,
        source: int,
        target: int,
        record: Record | None,
        timeout: float | None,
    ) -> None:
        # What is undone for the dead gives back the place, or item, that they took. Where there is
        # a record it adds one to the other counter too: so one of either side comes in, whoever
        # is there, and lets both counters follow the record.
        take = [SemOp(source, -1, undo=True), SemOp(_MUTEX, -1, undo=True)]
        leave = [SemOp(source, +1, undo=True), SemOp(_MUTEX, +1, undo=True)]
        if record is not None:
            take += [SemOp(target, +1), SemOp(target, -1, undo=True)]
            leave += [SemOp(target, +1, undo=True), SemOp(target, -1)]
        self._source, self._record = source, record
        super().__init__(
            semaphores,
            tuple(take),
            tuple(leave),
            # To leave clears the undo counts of what was really moved.
            done=(*leave, SemOp(source, -1, nowait=True), SemOp(target, +1)),
            timeout=timeout,
            checked=record is not None,
        )

    def _check(self) -> tuple[int, int] | None:
        """Let the counters follow the record; or say how they are to, if nothing is there by it."""
        if self._record is None:
            return None
        wanted = checked_values(self._record())
        there = wanted[self._source] > 0
        wanted[self._source] -= 1  # which this process has taken
        now = self._semaphores.values
        drift = wanted[_FREE] - now[_FREE], wanted[_ITEMS] - now[_ITEMS]
        if not there:
            return drift
        if any(drift):
            self._semaphores.op([SemOp(i, delta) for i, delta in enumerate(drift) if delta], 0)
        return None

    def _explain_take(
        self, exc: OSError | ValueError, timeout: float | None
    ) -> BaseException | None:
        meaning = super()._explain_take(exc, timeout)
        state = "full" if self._source == _FREE else "empty"
        if isinstance(meaning, WouldBlock):
            meaning.strerror = f"the buffer is {state}, or somebody is in it"
        elif isinstance(meaning, Timeout):
            meaning.strerror = f"the buffer was {state} for {timeout} s"
        return meaning


@public("ipckit.sem")
class Event(Primitive):
    """Something that has happened or not, for which any number of processes can wait.

    Its one semaphore is 1 until it happens, and 0 from then on.
    """

    kind = "an event"

    @classmethod
    def _count(cls) -> int:
        return 1

    @classmethod
    def create(cls, key: int | None = None, *, mode: int = 0o600) -> Self:
        """Make an event that has not happened."""
        return cls._made(key, [1], mode)

    @classmethod
    def open_or_create(
        cls,
        key: int,
        *,
        mode: int = 0o600,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> Self:
        """Find an event, or make one that has not happened.

        Arguments and errors are `SysVSemaphoreSet.open_or_create`'s.
        """
        return cls._found_or_made(key, [1], mode, timeout, owner_uid)

    def set(self) -> None:
        """Let it happen: all who wait go on."""
        self.semaphores[0].value = 0

    def clear(self) -> None:
        """Let it not have happened."""
        self.semaphores[0].value = 1

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self.semaphores[0].value == 0

    def wait(self, *, timeout: float | None = None) -> None:
        """Wait until it has happened.

        Args:
            timeout: seconds to wait; 0 does not wait, None waits for ever.

        Raises:
            WouldBlock: it has not, and `timeout` is 0.
            Timeout: it had not until the deadline.
            Removed: it was removed, before or meanwhile.
        """
        self.semaphores[0].wait_zero(timeout=timeout)


@public("ipckit.sem")
class Barrier(Primitive):
    """A place where a number of processes wait until all are there; again and again.

    Who dies while waiting has not come: the others wait on, until another comes in its place.

    Semaphores: 0 mutex; 1 which of two rounds is on (0 or 1); 2 and 3 who is in each round, with
    undo; 4 and 5 the tickets out of each; 6 how many are wanted.
    """

    kind = "a barrier"

    @classmethod
    def _count(cls) -> int:
        return 7

    @classmethod
    def create(cls, key: int | None = None, parties: int = 2, *, mode: int = 0o600) -> Self:
        """Make a barrier.

        Args:
            key: the key to find it by; None picks a free one.
            parties: how many wait for each other, 1 to 32767.
            mode: permission bits.
        """
        highest = semaphore_limits().semvmx
        if not 1 <= parties <= highest:
            message = f"parties is {parties}; it takes 1 to {highest}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        return construct(cls, SysVSemaphoreSet.create(key, [1, 0, 0, 0, 0, 0, parties], mode=mode))

    @property
    def parties(self) -> int:
        """How many wait for each other."""
        return self.semaphores[6].value

    @property
    def waiting(self) -> int:
        """How many are there now."""
        values = self.semaphores.values
        return values[2 + values[1]]

    def wait(self, *, timeout: float | None = None) -> bool:
        """Wait until all are there.

        Args:
            timeout: seconds to wait; 0 goes on only if this is the last, None waits for ever.

        Returns:
            Whether this was the last to come: true for exactly one of them.

        Raises:
            WouldBlock: others are missing, and `timeout` is 0.
            Timeout: others were missing until the deadline; this process has not come then.
            Removed: it was removed, before or meanwhile.
        """
        try:
            return native.barrier_wait(self.semaphores, timeout)
        except (native.CallFailed, native.BadArgument) as exc:
            error = self.semaphores._meaning(exc, _COME, timeout)  # noqa: SLF001 - of ours
        if isinstance(error, WouldBlock):
            error.strerror = "others are missing"
        elif isinstance(error, Timeout):
            error.strerror = f"others were missing for {timeout} s"
        raise error
