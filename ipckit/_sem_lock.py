"""Locks for unrelated processes, over semaphore sets: a holder that dies lets go."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ipckit._making import PATIENCE
from ipckit._native import SemOp
from ipckit._sem_stat import semaphore_limits
from ipckit._sem_sysv import SysVSemaphoreSet
from ipckit.errors import InvalidArgument, LimitReached, OwnerDied, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ipckit.keys import Key


class Primitive(ABC):
    """What is built from one semaphore set: making and finding it, and letting go of it.

    ``with`` takes the lock and gives it back where the thing is a lock; `close` and `unlink` are
    the set's, and `semaphores` is the set itself.
    """

    kind: ClassVar[str]

    def __init__(self, semaphores: SysVSemaphoreSet) -> None:
        self.semaphores = semaphores

    @classmethod
    @abstractmethod
    def _count(cls) -> int:
        """How many semaphores it is made of."""

    @classmethod
    def _made(cls, key: int | None, values: Sequence[int], mode: int) -> Self:
        return cls._held(SysVSemaphoreSet.create(key, values, mode=mode))

    @classmethod
    def _found_or_made(
        cls,
        key: int,
        values: Sequence[int],
        mode: int,
        timeout: float | None,
        owner_uid: int | None,
    ) -> Self:
        return cls._held(
            SysVSemaphoreSet.open_or_create(
                key, values, mode=mode, timeout=timeout, owner_uid=owner_uid
            )
        )

    @classmethod
    def _held(cls, semaphores: SysVSemaphoreSet) -> Self:
        try:
            return cls(semaphores)
        except BaseException:
            with semaphores:  # which unlinks it if it was made here
                raise

    @classmethod
    def open(cls, key: int) -> Self:
        """Find one by its key; never makes one, never owns it.

        Raises:
            NotFound: there is no set of that key.
            InvalidArgument: the set has another number of semaphores, so it is something else.
        """
        return cls._of(SysVSemaphoreSet.open(key))

    @classmethod
    def from_id(cls, id: int) -> Self:
        """Use one whose set's identifier came from elsewhere; never owns it."""
        return cls._of(SysVSemaphoreSet.from_id(id))

    @classmethod
    def _of(cls, semaphores: SysVSemaphoreSet) -> Self:
        if len(semaphores) != cls._count():
            message = f"{cls.kind} has {cls._count()} semaphores, and the set {len(semaphores)}"
            target = semaphores._target
            semaphores.close()
            raise InvalidArgument(message, errno=errno.EINVAL, op="open", target=target)
        return cls(semaphores)

    @property
    def key(self) -> Key | None:
        """The key that finds it."""
        return self.semaphores.key

    @property
    def id(self) -> int:
        """The set's identifier."""
        return self.semaphores.id

    def close(self) -> None:
        """Let go of it in this process; idempotent."""
        self.semaphores.close()

    def unlink(self, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Remove it from the system; who waits gets `Removed`."""
        self.semaphores.unlink(missing_ok)

    @contextmanager
    def lifetime(self) -> Generator[Self]:
        """Close it at the end of a ``with`` block; unlink it too if it was made here."""
        with self.semaphores:
            yield self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.semaphores!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.semaphores,))


class Lock(Primitive):
    """A lock between processes: one holds it, and one that dies lets go.

    ``with lock:`` takes it and gives it back. It is not re-entrant, and belongs to the process,
    not to a thread of it.

    Who wants to know whether the last holder died with it, so that what it guards may be half
    done, asks with ``acquire(report_death=True)``: that raises `OwnerDied`, without taking the
    lock, until somebody has gone through ``with lock.recover():`` to its end.

    Semaphore 0 is 1 while the lock is free; it is taken with undo. Semaphore 1 counts the holder,
    without undo, so that it keeps those who died.
    """

    kind = "a lock"

    @classmethod
    def _count(cls) -> int:
        return 2

    @classmethod
    def create(cls, key: int | None = None, *, mode: int = 0o600) -> Self:
        """Make a new, free lock; arguments and errors are `SysVSemaphoreSet.create`'s."""
        return cls._made(key, [1, 0], mode)

    @classmethod
    def open_or_create(
        cls,
        key: int,
        *,
        mode: int = 0o600,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> Self:
        """Find a lock, or make it.

        Arguments and errors are `SysVSemaphoreSet.open_or_create`'s.
        """
        return cls._found_or_made(key, [1, 0], mode, timeout, owner_uid)

    def acquire(self, *, timeout: float | None = None, report_death: bool = False) -> None:
        """Take the lock.

        Args:
            timeout: seconds to wait; 0 does not wait, None waits for ever.
            report_death: raise where a holder died and nobody has recovered since.

        Raises:
            OwnerDied: a holder died; the lock is not taken.
            WouldBlock: it is held, and `timeout` is 0.
            Timeout: it was held until the deadline.
            Removed: it was removed, before or meanwhile.
        """
        take = [SemOp(0, -1, undo=True), SemOp(1, +1)]
        try:
            self.semaphores.op(take, timeout)
        except LimitReached:
            counted = self.semaphores[1].value
            if counted < semaphore_limits().semvmx:
                raise  # the undo count's: it was given back by other processes than took it
            # As many have died as the count can hold; one is as good as all of them.
            self.semaphores.op([SemOp(1, 1 - counted, nowait=True)], 0)
            self.semaphores.op(take, timeout)
        if report_death and self.semaphores[1].value > 1:
            self.release()
            message = "a holder died with the lock, and what it guards may be half done"
            raise OwnerDied(
                message,
                errno=errno.EOWNERDEAD,
                op="acquire",
                target=self.semaphores._target,
                hint="repair it inside `with lock.recover():`",
            )

    def release(self) -> None:
        """Give the lock back.

        Raises:
            WouldBlock: it is not held.
            Removed: it was removed.
        """
        self._give(deaths=0)

    def _give(self, *, deaths: int) -> None:
        # Semaphore 0 must be 0: a free lock can't be given back.
        give = [SemOp(0, 0, nowait=True), SemOp(0, +1, undo=True)]
        self.semaphores.op([*give, SemOp(1, -1 - deaths, nowait=True)], 0)

    @property
    def locked(self) -> bool:
        """Whether somebody holds it now."""
        return self.semaphores[0].value == 0

    @contextmanager
    def recover(self, *, timeout: float | None = None) -> Generator[None]:
        """Take the lock to repair what a dead holder left; done when the block ends well."""
        self.acquire(timeout=timeout)
        try:
            yield
        except BaseException:
            self.release()
            raise
        self._give(deaths=max(0, self.semaphores[1].value - 1))

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class ReadWriteLock(Primitive):
    """A lock that many hold to read, or one to write; who dies lets go.

    ``with lock.reading():`` and ``with lock.writing():``. A waiting writer goes before new readers.

    Semaphore 0 counts the readers, 1 the writer, 2 the waiting writers; all with undo.
    """

    kind = "a read-write lock"

    @classmethod
    def _count(cls) -> int:
        return 3

    @classmethod
    def create(cls, key: int | None = None, *, mode: int = 0o600) -> Self:
        """Make a new, free lock; arguments and errors are `SysVSemaphoreSet.create`'s."""
        return cls._made(key, [0, 0, 0], mode)

    @classmethod
    def open_or_create(
        cls,
        key: int,
        *,
        mode: int = 0o600,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> Self:
        """Find a lock, or make it.

        Arguments and errors are `SysVSemaphoreSet.open_or_create`'s.
        """
        return cls._found_or_made(key, [0, 0, 0], mode, timeout, owner_uid)

    def acquire_read(self, *, timeout: float | None = None) -> None:
        """Take it to read, with others who do; errors as `Lock.acquire`."""
        self.semaphores.op([SemOp(1, 0), SemOp(2, 0), SemOp(0, +1, undo=True)], timeout)

    def release_read(self) -> None:
        """Give it back; WouldBlock where nobody reads."""
        self.semaphores.op([SemOp(0, -1, undo=True, nowait=True)], 0)

    def acquire_write(self, *, timeout: float | None = None) -> None:
        """Take it to write, alone; errors as `Lock.acquire`."""
        free = [SemOp(0, 0), SemOp(1, 0)]
        try:
            self.semaphores.op([*free, SemOp(1, +1, undo=True)], 0)
        except WouldBlock:
            if timeout == 0:
                raise
        else:
            return
        self.semaphores.op([SemOp(2, +1, undo=True)], 0)
        take = [*free, SemOp(1, +1, undo=True), SemOp(2, -1, undo=True)]
        try:
            self.semaphores.op(take, timeout)
        except BaseException:
            self.semaphores.op([SemOp(2, -1, undo=True, nowait=True)], 0)
            raise

    def release_write(self) -> None:
        """Give it back; WouldBlock where nobody writes."""
        self.semaphores.op([SemOp(1, -1, undo=True, nowait=True)], 0)

    @contextmanager
    def reading(self, *, timeout: float | None = None) -> Generator[None]:
        """Hold it to read during a ``with`` block."""
        self.acquire_read(timeout=timeout)
        try:
            yield
        finally:
            self.release_read()

    @contextmanager
    def writing(self, *, timeout: float | None = None) -> Generator[None]:
        """Hold it to write during a ``with`` block."""
        self.acquire_write(timeout=timeout)
        try:
            yield
        finally:
            self.release_write()

    @property
    def readers(self) -> int:
        """How many hold it to read now."""
        return self.semaphores[0].value

    @property
    def writing_now(self) -> bool:
        """Whether somebody holds it to write now."""
        return self.semaphores[1].value > 0
