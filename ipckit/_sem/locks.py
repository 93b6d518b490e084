"""Locks between processes. The kernel releases the lock of a process that dies."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, final

from ipckit._core.public import public
from ipckit._native import SemOp
from ipckit._sem.primitive import PlainPrimitive
from ipckit._sem.stat import semaphore_limits
from ipckit._sem.vector_lock import LockBlock, VectorLock
from ipckit.errors import LimitReached, OwnerDied, WouldBlock

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ipckit._sem.sysv import SysVSemaphoreSet

_FREE: Final = 0  # 1 while the lock is free
_HOLDERS: Final = 1  # the holder, and the holders that died since the last recovery

_LOCK: Final = (SemOp(_FREE, -1, undo=True), SemOp(_HOLDERS, +1))
# The first operation fails if the lock is free: a free lock can't be released.
_UNLOCK_DEAD: Final = (SemOp(_FREE, 0, nowait=True), SemOp(_FREE, +1, undo=True))
_UNLOCK: Final = (*_UNLOCK_DEAD, SemOp(_HOLDERS, -1, nowait=True))


@final
@public("ipckit.sem")
class Lock(VectorLock, PlainPrimitive):
    """A lock between processes, which the kernel releases if its holder dies.

    ``with lock:`` acquires and releases it. It is not re-entrant. It belongs to the process, not to
    one of its threads, and only the process that acquired it can release it. A forked child that
    leaves the ``with`` block of its parent releases nothing.

    If a holder dies, the data that the lock guards may be half changed.
    ``acquire(report_death=True)`` therefore raises `OwnerDied`, without acquiring the lock, until a
    process completes a ``with lock.recover():`` block.

    >>> from ipckit import OwnerDied
    >>> from ipckit.sem import Lock
    >>> with Lock.create().lifetime() as lock:
    ...     with lock:
    ...         print(lock.locked)
    ...     try:
    ...         lock.acquire(timeout=1, report_death=True)
    ...     except OwnerDied:
    ...         with lock.recover():
    ...             pass  # repair the data
    ...     else:
    ...         lock.release()
    ...     print(lock.locked)
    True
    False

    See semop(2), SEM_UNDO.
    """

    # Semaphore 0 is acquired with undo. Semaphore 1 is counted without undo, so that it keeps
    # count of the holders that died.
    kind = "a lock"
    _initial = (1, 0)

    def __init__(self, semaphores: SysVSemaphoreSet) -> None:
        PlainPrimitive.__init__(self, semaphores)
        self._configure(semaphores, _LOCK, _UNLOCK, block=False)

    if TYPE_CHECKING:

        def __enter__(self) -> Self: ...

    def _check_acquired(self) -> None:
        """Raise OwnerDied if a holder died; for ``acquire(report_death=True)``."""
        if self.semaphores[_HOLDERS].value > 1:
            message = "a process died while it held the lock, so the data may be half changed"
            raise OwnerDied(
                message,
                errno=errno.EOWNERDEAD,
                op="acquire",
                target=self.semaphores._target,
                hint="repair the data in a `with lock.recover():` block",
            )

    def _explain_acquire(
        self, exc: OSError | ValueError, timeout: float | None
    ) -> BaseException | None:
        error = super()._explain_acquire(exc, timeout)
        if not isinstance(error, LimitReached):
            return error
        counted = self.semaphores[_HOLDERS].value
        if counted < semaphore_limits().semvmx:
            return error  # the undo count: other processes released what this one acquired
        # So many holders died that the count is full. One dead holder says as much as all of them.
        with suppress(WouldBlock):
            self.semaphores.op([SemOp(_HOLDERS, 1 - counted, nowait=True)], 0)
        return None

    @property
    def locked(self) -> bool:
        """Whether a process holds the lock now."""
        return self.semaphores[_FREE].value == 0

    def recover(self, *, timeout: float | None = None) -> AbstractContextManager[None]:
        """Hold the lock during a ``with`` block that repairs the data after a holder died.

        If the block raises nothing, the deaths until then are forgotten, and
        ``acquire(report_death=True)`` succeeds again.

        Args:
            timeout: seconds to wait for the lock; 0 does not wait, None waits for ever.

        Raises:
            IpcError: as for `acquire`, when the block is entered.

        >>> with Lock.create().lifetime() as lock:
        ...     with lock.recover(timeout=1):
        ...         print("repaired")
        repaired
        """
        return _Recovery(self, timeout)


@final
class _Recovery(LockBlock):
    """The block of `Lock.recover`."""

    def __init__(self, lock: Lock, timeout: float | None) -> None:
        self._lock, self._timeout = lock, timeout
        super().__init__(lock.semaphores, _LOCK, _UNLOCK, timeout=timeout, checked=True)

    def _check_acquired(self) -> None:
        # The count of deaths can't change while this process holds the lock.
        deaths = max(0, self._semaphores[_HOLDERS].value - 1)
        self._configure(
            self._semaphores,
            _LOCK,
            _UNLOCK,
            commit=(*_UNLOCK_DEAD, SemOp(_HOLDERS, -1 - deaths, nowait=True)),
            timeout=self._timeout,
            checked=True,
        )

    def _explain_acquire(
        self, exc: OSError | ValueError, timeout: float | None
    ) -> BaseException | None:
        return self._lock._explain_acquire(exc, timeout)  # noqa: SLF001 - the same operations


_READERS: Final = 0
_WRITERS: Final = 1
_WAITING_WRITERS: Final = 2

_READ: Final = (
    SemOp(_WRITERS, 0),
    SemOp(_WAITING_WRITERS, 0),
    SemOp(_READERS, +1, undo=True),
)
_STOP_READING: Final = (SemOp(_READERS, -1, undo=True, nowait=True),)
_WRITE: Final = (SemOp(_READERS, 0), SemOp(_WRITERS, 0), SemOp(_WRITERS, +1, undo=True))
_STOP_WRITING: Final = (SemOp(_WRITERS, -1, undo=True, nowait=True),)


@final
@public("ipckit.sem")
class ReadWriteLock(PlainPrimitive):
    """A lock that many processes can hold to read, or one to write.

    Use ``with lock.reading():`` and ``with lock.writing():``. A waiting writer goes before new
    readers. The kernel releases the lock of a process that dies. Only a process that holds the lock
    can release it: a forked child that leaves the ``with`` block of its parent releases nothing.

    >>> from ipckit.sem import ReadWriteLock
    >>> with ReadWriteLock.create().lifetime() as lock:
    ...     with lock.reading(), lock.reading():
    ...         print(lock.readers, lock.writing_now)
    ...     with lock.writing(timeout=1):
    ...         print(lock.readers, lock.writing_now)
    2 False
    0 True

    See semop(2), SEM_UNDO.
    """

    kind = "a read-write lock"
    _initial = (0, 0, 0)  # all three are counted with undo

    def acquire_read(self, *, timeout: float | None = None) -> None:
        """Acquire the lock to read, beside other readers.

        Args:
            timeout: seconds to wait; 0 does not wait, None waits for ever.

        Raises:
            WouldBlock: a process writes or waits to write, and `timeout` is 0.
            Timeout: a process wrote or waited to write until the deadline.
            Removed: the lock was removed, during the call or before it.
            InvalidArgument: `timeout` is negative.
        """
        self._reading(None).acquire(timeout=timeout)

    def release_read(self) -> None:
        """Release the lock after reading.

        Raises:
            WouldBlock: no process reads.
            AccessDenied: other processes read, but this one does not.
            Removed: the lock was removed.
        """
        self._reading(None).release()

    def acquire_write(self, *, timeout: float | None = None) -> None:
        """Acquire the lock to write, alone.

        Args:
            timeout: seconds to wait; 0 does not wait, None waits for ever.

        Raises:
            WouldBlock: another process reads or writes, and `timeout` is 0.
            Timeout: other processes read or wrote until the deadline.
            Removed: the lock was removed, during the call or before it.
            InvalidArgument: `timeout` is negative.
        """
        self._writing(None).acquire(timeout=timeout)

    def release_write(self) -> None:
        """Release the lock after writing.

        Raises:
            WouldBlock: no process writes.
            AccessDenied: another process writes.
            Removed: the lock was removed.
        """
        self._writing(None).release()

    def reading(self, *, timeout: float | None = None) -> AbstractContextManager[None]:
        """Hold the lock to read during a ``with`` block.

        Args:
            timeout: seconds to wait; 0 does not wait, None waits for ever.

        Raises:
            IpcError: as for `acquire_read`, when the block is entered.
        """
        return self._reading(timeout)

    def writing(self, *, timeout: float | None = None) -> AbstractContextManager[None]:
        """Hold the lock to write during a ``with`` block.

        Args:
            timeout: seconds to wait; 0 does not wait, None waits for ever.

        Raises:
            IpcError: as for `acquire_write`, when the block is entered.
        """
        return self._writing(timeout)

    def _reading(self, timeout: float | None) -> LockBlock:
        return LockBlock(self.semaphores, _READ, _STOP_READING, timeout=timeout)

    def _writing(self, timeout: float | None) -> LockBlock:
        return LockBlock(
            self.semaphores, _WRITE, _STOP_WRITING, timeout=timeout, waiters=_WAITING_WRITERS
        )

    @property
    def readers(self) -> int:
        """The number of processes that read now."""
        return self.semaphores[_READERS].value

    @property
    def writing_now(self) -> bool:
        """Whether a process writes now."""
        return self.semaphores[_WRITERS].value > 0
