"""The counters of a bounded buffer, which producers and consumers share."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, Self, final

from ipckit._core.making import PATIENCE
from ipckit._core.public import public
from ipckit._native import SemOp
from ipckit._sem.initialise import checked_values
from ipckit._sem.primitive import Primitive
from ipckit._sem.stat import semaphore_limits
from ipckit._sem.vector_lock import LockBlock
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from ipckit._sem.sysv import SysVSemaphoreSet

    # Returns the numbers of free places and of items, as the buffer itself has them.
    Record: TypeAlias = Callable[[], tuple[int, int]]

_FREE: Final = 0
_ITEMS: Final = 1
_MUTEX: Final = 2


@final
@public("ipckit.sem")
class BoundedBuffer(Primitive):
    """The counters of the textbook's producer and consumer problem: empty, full and mutex.

    The buffer itself has `capacity` places and is elsewhere, in shared memory. A block acquires a
    place (or an item) and the mutex by one operation, so a process never has one without the other.

    A process that dies inside a block, or leaves it by an exception, has produced or consumed
    nothing. But the counters can't tell whether the buffer was changed before that. Therefore let
    the buffer have a record of its contents, which you update last and in one step (a
    `SharedStruct`), and let all processes pass a function that reads it:
    ``buffer.producing(record)``. The counters then follow the record, wherever a process dies.

    >>> from ipckit.sem import BoundedBuffer
    >>> with BoundedBuffer.create(capacity=8).lifetime() as buffer:
    ...     with buffer.producing(timeout=1):  # waits for a free place
    ...         pass  # put one item into the buffer
    ...     print(buffer.free, buffer.used)
    ...     with buffer.consuming(timeout=1):  # waits for an item
    ...         pass  # take one item out of the buffer
    ...     print(buffer.free, buffer.used)
    7 1
    8 0
    """

    kind = "a bounded buffer"

    @classmethod
    def _count(cls) -> int:
        return 3

    @classmethod
    def create(cls, key: int | None = None, capacity: int = 1, *, mode: int = 0o600) -> Self:
        """Create the counters of an empty buffer.

        Args:
            key: the key that finds them; by default a random one that is free; they then end
                with the last process that has them.
            capacity: the number of places in the buffer, 1 to 32767.
            mode: permission bits, 0 to 0o777; a process that uses them needs read and write.

        Returns:
            The counters, owned by this handle.

        Raises:
            AlreadyExists: a set has that key.
            LimitReached: the system has reached its limit of sets or semaphores.
            InvalidArgument: `key`, `capacity` or `mode` is out of range.

        See semget(2).
        """
        return cls._create(key, cls._empty(capacity), mode)

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
        """Open the counters that have a key, or create those of an empty buffer.

        Args:
            key: the key of the counters.
            capacity: the number of places in a new buffer, 1 to 32767.
            mode: permission bits of new counters, and the most that existing ones may allow.
            timeout: seconds to retry while other processes create and remove them.
            owner_uid: a user id whose counters are accepted, besides this user's and root's.

        Returns:
            The counters, owned by this handle if they were created here.

        Raises:
            InvalidArgument: the existing set has another number of semaphores.
            AccessDenied: the existing counters belong to another user, or allow others more than
                `mode`.
            Timeout: other processes kept creating and removing them until the deadline.
            IpcError: as for `create` and `open`.
        """
        return cls._open_or_create(key, cls._empty(capacity), mode, timeout, owner_uid)

    @staticmethod
    def _empty(capacity: int) -> list[int]:
        """Return the values for an empty buffer."""
        highest = semaphore_limits().semvmx
        if not 1 <= capacity <= highest:
            message = f"capacity must be 1 to {highest}, not {capacity}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        return [capacity, 0, 1]

    @property
    def free(self) -> int:
        """The number of free places now."""
        return self.semaphores[_FREE].value

    @property
    def used(self) -> int:
        """The number of items now."""
        return self.semaphores[_ITEMS].value

    def producing(
        self, record: Record | None = None, *, timeout: float | None = None
    ) -> AbstractContextManager[None]:
        """Put one item into the buffer during a ``with`` block.

        Args:
            record: returns the numbers of free places and of items, as the buffer's own record has
                them. It is called while no other process is in the buffer.
            timeout: seconds to wait for a free place; 0 does not wait, None waits for ever.

        Raises:
            WouldBlock: the buffer is full or another process is in it, and `timeout` is 0.
            Timeout: the buffer was full, or another process was in it, until the deadline.
            Removed: the counters were removed, during the call or before it.
            InvalidArgument: `record` returned numbers out of range.
        """
        return _Move(self.semaphores, _FREE, _ITEMS, record, timeout)

    def consuming(
        self, record: Record | None = None, *, timeout: float | None = None
    ) -> AbstractContextManager[None]:
        """Take one item out of the buffer during a ``with`` block.

        Args:
            record: as for `producing`.
            timeout: seconds to wait for an item; 0 does not wait, None waits for ever.

        Raises:
            WouldBlock: the buffer is empty or another process is in it, and `timeout` is 0.
            Timeout: the buffer was empty, or another process was in it, until the deadline.
            Removed: the counters were removed, during the call or before it.
            InvalidArgument: `record` returned numbers out of range.
        """
        return _Move(self.semaphores, _ITEMS, _FREE, record, timeout)


@final
class _Move(LockBlock):
    """A block that moves one from a buffer's free places to its items, or back."""

    def __init__(
        self,
        semaphores: SysVSemaphoreSet,
        source: int,
        target: int,
        record: Record | None,
        timeout: float | None,
    ) -> None:
        # If the process dies, its undo returns the place or item that it acquired. With a record,
        # its undo also adds one to the other counter. One producer or one consumer can then enter,
        # whichever is there, and `_check_acquired` sets both counters from the record.
        acquire = [SemOp(source, -1, undo=True), SemOp(_MUTEX, -1, undo=True)]
        release = [SemOp(source, +1, undo=True), SemOp(_MUTEX, +1, undo=True)]
        if record is not None:
            acquire += [SemOp(target, +1), SemOp(target, -1, undo=True)]
            release += [SemOp(target, +1, undo=True), SemOp(target, -1)]
        self._source, self._record = source, record
        super().__init__(
            semaphores,
            tuple(acquire),
            tuple(release),
            # The release clears the undo counts; then the item moves without undo.
            commit=(*release, SemOp(source, -1, nowait=True), SemOp(target, +1)),
            timeout=timeout,
            checked=record is not None,
        )

    def _check_acquired(self) -> tuple[int, int] | None:
        """Set the counters from the record; see `VectorLock._check_acquired`.

        Returns:
            The corrections for both counters, if the record has no place (or item) to acquire.
        """
        if self._record is None:
            return None
        wanted = checked_values(self._record())
        available = wanted[self._source] > 0
        wanted[self._source] -= 1  # which this process has acquired
        now = self._semaphores.values
        drift = wanted[_FREE] - now[_FREE], wanted[_ITEMS] - now[_ITEMS]
        if not available:
            return drift
        if any(drift):
            self._semaphores.op([SemOp(i, delta) for i, delta in enumerate(drift) if delta], 0)
        return None

    def _explain_acquire(
        self, exc: OSError | ValueError, timeout: float | None
    ) -> BaseException | None:
        state = "full" if self._source == _FREE else "empty"
        return self._semaphores._op_error(  # noqa: SLF001 - ours
            exc,
            self._acquire_ops,
            timeout,
            blocked=f"the buffer is {state}, or another process is in it",
            expired=f"the buffer was {state} for {timeout} s",
        )
