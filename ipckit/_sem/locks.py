"""Locks for unrelated processes, over semaphore sets: a holder that dies lets go."""

from __future__ import annotations

import errno
from abc import abstractmethod
from contextlib import ContextDecorator, contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import ipckit._native as native
from ipckit._core.construct import FactoryMade, construct
from ipckit._core.making import PATIENCE
from ipckit._core.public import public
from ipckit._native import SemOp
from ipckit._sem.stat import semaphore_limits
from ipckit._sem.sysv import SysVSemaphoreSet
from ipckit.errors import (
    AccessDenied,
    InvalidArgument,
    LimitReached,
    OwnerDied,
    WouldBlock,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from contextlib import AbstractContextManager

    from ipckit.keys import Key


class Held(native.Hold):
    """What is held by vectors of operations on a semaphore set: a lock, or a block that holds one.

    `acquire`, `release` and ``with`` are native; here stands what they can't tell.
    """

    _semaphores: SysVSemaphoreSet

    def _hold(
        self,
        semaphores: SysVSemaphoreSet,
        take: tuple[SemOp, ...],
        leave: tuple[SemOp, ...],
        *,
        done: tuple[SemOp, ...] | None = None,
        mark: int = -1,
        timeout: float | None = None,
        checked: bool = False,
        block: bool = True,
    ) -> None:
        """Say what is taken and left.

        Args:
            semaphores: the set.
            take: taken all at once; the first operation with undo tells whether it is held.
            leave: releases it.
            done: releases it at the end of a block that raised nothing, if that differs.
            mark: the semaphore that counts those who wait, or -1.
            timeout: seconds for which a block waits.
            checked: a block calls `_check` once it has taken.
            block: entering gives None, and not the lock itself.
        """
        self._semaphores, self._take = semaphores, take
        self._bind(semaphores, take, leave, done, mark, timeout, checked, block)

    def _check(self) -> tuple[int, int] | None:
        """Look at what was taken; what to add to semaphores 0 and 1 if it is not there after all.

        An exception releases it.
        """
        return None

    def _explain_take(
        self, exc: OSError | ValueError, timeout: float | None
    ) -> BaseException | None:
        """What a failed take means; None to try again."""
        return self._semaphores._meaning(exc, self._take, timeout)  # noqa: SLF001 - of ours

    def _explain_leave(self, exc: OSError | ValueError, leave: tuple[SemOp, ...]) -> BaseException:
        """What a failed release means."""
        if getattr(exc, "errno", 0) != errno.EPERM:
            return self._semaphores._meaning(exc, leave, 0)  # noqa: SLF001
        told = next(op for op in self._take if op.undo)
        semaphore = self._semaphores[told.index]
        target = self._semaphores._target
        if (semaphore.value == 0) is not (told.delta < 0):
            message = "it is not held"
            return WouldBlock(message, errno=errno.EAGAIN, op="release", target=target)
        message = f"this process does not hold it (process {semaphore.pid} changed it last)"
        hint = "only the process that took it can release it"
        return AccessDenied(message, errno=errno.EPERM, op="release", target=target, hint=hint)


class Block(Held, ContextDecorator):
    """A ``with`` block that holds a lock."""

    def __init__(
        self,
        semaphores: SysVSemaphoreSet,
        take: tuple[SemOp, ...],
        leave: tuple[SemOp, ...],
        **options: Any,
    ) -> None:
        self._hold(semaphores, take, leave, **options)


@public("ipckit.sem")
class Primitive(metaclass=FactoryMade):
    """What is built from one semaphore set: making and finding it, and letting go of it.

    ``with`` takes the lock and gives it back where the thing is a lock; `close` and `unlink` are
    the set's, and `semaphores` is the set itself.
    """

    kind: ClassVar[str]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._factories = f"{cls.__name__}.create, open, open_or_create or from_id"

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
            return construct(cls, semaphores)
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
        return construct(cls, semaphores)

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
        return (type(self)._restore, (self.semaphores,))  # noqa: SLF001 - its own

    @classmethod
    def _restore(cls, semaphores: SysVSemaphoreSet) -> Self:
        """Create a pickled lock."""
        return construct(cls, semaphores)


_LOCK: Final = (SemOp(0, -1, undo=True), SemOp(1, +1))
# Semaphore 0 must be 0: a free lock can't be released.
_UNLOCK: Final = (SemOp(0, 0, nowait=True), SemOp(0, +1, undo=True))
_LOCK_FREE: Final = (*_UNLOCK, SemOp(1, -1, nowait=True))


class _LockHeld(Held):
    """What `Lock` and its `recover` have in common."""

    def _explain_take(
        self, exc: OSError | ValueError, timeout: float | None
    ) -> BaseException | None:
        meaning = super()._explain_take(exc, timeout)
        if not isinstance(meaning, LimitReached):
            return meaning
        counted = self._semaphores[1].value
        if counted < semaphore_limits().semvmx:
            return meaning  # the undo count's: other processes released it than took it
        # As many have died as the count can hold; one is as good as all of them.
        with suppress(WouldBlock):
            self._semaphores.op([SemOp(1, 1 - counted, nowait=True)], 0)
        return None


class _Recovery(_LockHeld, Block):
    """The block of `Lock.recover`."""

    def __init__(self, semaphores: SysVSemaphoreSet, timeout: float | None) -> None:
        self._timeout = timeout
        super().__init__(semaphores, _LOCK, _LOCK_FREE, timeout=timeout, checked=True)

    def _check(self) -> None:
        # The count stays as it is while the lock is held.
        deaths = self._semaphores[1].value - 1
        done = (*_UNLOCK, SemOp(1, -1 - max(0, deaths), nowait=True))
        self._hold(
            self._semaphores, _LOCK, _LOCK_FREE, done=done, timeout=self._timeout, checked=True
        )


@public("ipckit.sem")
class Lock(_LockHeld, Primitive):
    """A lock between processes: one holds it, and one that dies lets go.

    ``with lock:`` takes it and releases it. It is not re-entrant, and belongs to the process, not
    to a thread of it: only the process that took it releases it. A forked child that leaves the
    ``with`` block of its parent releases nothing.

    Who wants to know whether the last holder died with it, so that what it guards may be half
    done, asks with ``acquire(report_death=True)``: that raises `OwnerDied`, without taking the
    lock, until somebody has gone through ``with lock.recover():`` to its end.

    Semaphore 0 is 1 while the lock is free; it is taken with undo. Semaphore 1 counts the holder,
    without undo, so that it keeps those who died.
    """

    kind = "a lock"

    def __init__(self, semaphores: SysVSemaphoreSet) -> None:
        Primitive.__init__(self, semaphores)
        self._hold(semaphores, _LOCK, _LOCK_FREE, block=False)

    if TYPE_CHECKING:

        def __enter__(self) -> Self: ...

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

    def _check(self) -> None:
        """Called by ``acquire(report_death=True)`` once it has taken the lock."""
        if self.semaphores[1].value > 1:
            message = "a holder died with the lock, and what it guards may be half done"
            raise OwnerDied(
                message,
                errno=errno.EOWNERDEAD,
                op="acquire",
                target=self.semaphores._target,
                hint="repair it inside `with lock.recover():`",
            )

    @property
    def locked(self) -> bool:
        """Whether somebody holds it now."""
        return self.semaphores[0].value == 0

    def recover(self, *, timeout: float | None = None) -> AbstractContextManager[None]:
        """Take the lock to repair what a dead holder left; done when the block ends well.

        Args:
            timeout: seconds to wait for the lock; 0 does not wait, None waits for ever.

        Raises:
            IpcError: as `acquire`, when the block is entered.
        """
        return _Recovery(self.semaphores, timeout)


_READ: Final = (SemOp(1, 0), SemOp(2, 0), SemOp(0, +1, undo=True))
_READ_NO_MORE: Final = (SemOp(0, -1, undo=True, nowait=True),)
_WRITE: Final = (SemOp(0, 0), SemOp(1, 0), SemOp(1, +1, undo=True))
_WRITE_NO_MORE: Final = (SemOp(1, -1, undo=True, nowait=True),)
_WRITER_WAITS: Final = 2


@public("ipckit.sem")
class ReadWriteLock(Primitive):
    """A lock that many hold to read, or one to write; who dies lets go.

    ``with lock.reading():`` and ``with lock.writing():``. A waiting writer goes before new readers.
    Only a process that holds it releases it: a forked child that leaves the ``with`` block of its
    parent releases nothing.

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
        self._reading(None).acquire(timeout=timeout)

    def release_read(self) -> None:
        """Stop reading.

        Raises:
            WouldBlock: no process reads.
            AccessDenied: this process does not read, but others do.
            Removed: the lock was removed.
        """
        self._reading(None).release()

    def acquire_write(self, *, timeout: float | None = None) -> None:
        """Take it to write, alone; errors as `Lock.acquire`."""
        self._writing(None).acquire(timeout=timeout)

    def release_write(self) -> None:
        """Stop writing.

        Raises:
            WouldBlock: no process writes.
            AccessDenied: another process writes.
            Removed: the lock was removed.
        """
        self._writing(None).release()

    def reading(self, *, timeout: float | None = None) -> AbstractContextManager[None]:
        """Hold it to read during a ``with`` block; errors as `acquire_read`."""
        return self._reading(timeout)

    def writing(self, *, timeout: float | None = None) -> AbstractContextManager[None]:
        """Hold it to write during a ``with`` block; errors as `acquire_write`."""
        return self._writing(timeout)

    def _reading(self, timeout: float | None) -> Block:
        return Block(self.semaphores, _READ, _READ_NO_MORE, timeout=timeout)

    def _writing(self, timeout: float | None) -> Block:
        return Block(self.semaphores, _WRITE, _WRITE_NO_MORE, timeout=timeout, mark=_WRITER_WAITS)

    @property
    def readers(self) -> int:
        """How many hold it to read now."""
        return self.semaphores[0].value

    @property
    def writing_now(self) -> bool:
        """Whether somebody holds it to write now."""
        return self.semaphores[1].value > 0
