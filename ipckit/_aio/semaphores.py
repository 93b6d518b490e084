"""Semaphores in an event loop.

The kernel tells no loop that a semaphore changed: who waits looks again and again, first every
millisecond, at last every 20. What a face gives back wakes its process's waiters at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from ipckit._aio.face import Face, waiters_of
from ipckit._aio.line import LOOKING
from ipckit._core.public import public
from ipckit._native import Semaphore, SemOp
from ipckit._sem.posix import PosixSemaphore
from ipckit._sem.sysv import SysVSemaphoreSet
from ipckit.errors import AccessDenied, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType


_ACQUIRE: Final = "acquire"


@public("ipckit.aio")
class SysVSemaphore(Face[Semaphore]):
    """One semaphore of a `SysVSemaphoreSet` in an event loop.

    ``async with`` takes 1 and gives it back, with undo.
    """

    __slots__ = ()

    def __init__(self, handle: Semaphore) -> None:
        super().__init__(handle, waiters_of(handle.set))

    @property
    def closed(self) -> bool:
        """Whether the set's handle was closed."""
        return bool(self._handle.set.closed)

    def close(self) -> None:
        """Close the set's handle; idempotent, never raises."""
        self._handle.set.close()

    async def acquire(
        self, n: int = 1, *, timeout: float | None = None, undo: bool = False
    ) -> None:
        """Take `n` from the semaphore, waiting until it has that much.

        Those who wait for the same number are served in order.

        Args:
            n: how much, 1 to 32767.
            timeout: seconds to wait; 0 does not wait, None waits for ever.
            undo: give it back when this process ends without doing so (SEM_UNDO).

        Raises:
            WouldBlock: too little, and `timeout` is 0.
            Timeout: too little until the deadline.
            Removed: the set was removed, before or meanwhile.
            IpcError: as the semaphore's own `acquire`.

        See semop(2).
        """
        semaphore = self._handle
        # Each number has a line of its own: who wants much must not keep out who wants little, for
        # that one may be what the first waits for.
        await self._waiters.call(
            (_ACQUIRE, semaphore.index, n),
            lambda: semaphore.acquire(n, timeout=0, undo=undo),
            timeout,
            LOOKING,
        )
        self._tell()

    def release(self, n: int = 1, *, undo: bool = False) -> None:
        """Give `n` to the semaphore; never waits, and is no coroutine.

        Args:
            n: how much, 1 to 32767.
            undo: as `acquire` had it.

        Raises:
            LimitReached: the value would exceed 32767.
            IpcError: as the semaphore's own `release`.

        See semop(2).
        """
        self._handle.release(n, undo=undo)
        self._tell()

    async def wait_zero(self, *, timeout: float | None = None) -> None:
        """Wait until the semaphore is 0.

        Args:
            timeout: seconds to wait; 0 does not wait, None waits for ever.

        Raises:
            WouldBlock: it is not 0, and `timeout` is 0.
            Timeout: it was not 0 until the deadline.
            Removed: the set was removed, before or meanwhile.
            IpcError: as the semaphore's own `wait_zero`.

        See semop(2).
        """
        semaphore = self._handle
        await self._waiters.call(
            ("zero", semaphore.index), lambda: semaphore.wait_zero(timeout=0), timeout, LOOKING
        )

    def _tell(self) -> None:
        if self._waiters.lines:
            self._waiters.wake()

    async def __aenter__(self) -> Self:
        await self.acquire(undo=True)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A forked child that leaves the block of its parent releases nothing.
        self._handle.__exit__(exc_type, exc, traceback)
        self._tell()


@public("ipckit.aio")
class SemaphoreSet(Face[SysVSemaphoreSet]):
    """A `SysVSemaphoreSet` in an event loop; ``face[i]`` is one of its semaphores."""

    __slots__ = ()

    def __init__(self, handle: SysVSemaphoreSet) -> None:
        super().__init__(handle, waiters_of(handle))

    def __getitem__(self, index: int) -> SysVSemaphore:
        return SysVSemaphore(self._handle[index])

    def __len__(self) -> int:
        return len(self._handle)

    async def op(self, ops: Iterable[SemOp], timeout: float | None = None) -> None:
        """Do several operations at once, all of them or none, as `SysVSemaphoreSet.op`.

        Args:
            ops: `SemOp`s, 1 to 500.
            timeout: seconds to wait; 0 does not wait, None waits for ever.

        Raises:
            WouldBlock: it can't be done at once, and `timeout` is 0, or an operation that stands
                in the way has `nowait`.
            Timeout: it could not be done until the deadline.
            Removed: the set was removed, before or meanwhile.
            IpcError: as `SysVSemaphoreSet.op`.

        See semop(2).
        """
        handle, vector = self._handle, tuple(ops)
        impatient = any(each.nowait for each in vector)

        def attempt() -> WouldBlock | None:
            try:
                handle.op(vector, timeout=0)
            except WouldBlock as exc:
                if impatient and _must_not_wait(handle, vector):
                    return exc
                raise
            return None

        problem = await self._waiters.call(("op", vector), attempt, timeout, LOOKING)
        if problem is not None:
            raise problem
        if self._waiters.lines:
            self._waiters.wake()


def _must_not_wait(handle: SysVSemaphoreSet, vector: tuple[SemOp, ...]) -> bool:
    """Whether the operation that can't be done has `nowait`: for a timeout of 0, all have."""
    try:
        values = handle.values
    except AccessDenied:
        return True  # it may be altered and not read: better not wait than wait unasked
    for each in vector:
        after = values[each.index] + each.delta
        if after < 0 or (each.delta == 0 and after != 0):
            return each.nowait
        values[each.index] = after
    return False


@public("ipckit.aio")
class NamedSemaphore(Face[PosixSemaphore]):
    """A `PosixSemaphore` in an event loop; ``async with`` takes 1 and gives it back."""

    __slots__ = ()

    def __init__(self, handle: PosixSemaphore) -> None:
        super().__init__(handle, waiters_of(handle))

    async def acquire(self, *, timeout: float | None = None) -> None:
        """Take 1 from the semaphore, waiting until it has that much.

        Args:
            timeout: seconds to wait; 0 does not wait, None waits for ever.

        Raises:
            WouldBlock: it is 0, and `timeout` is 0.
            Timeout: it was 0 until the deadline.
            IpcError: as `PosixSemaphore.acquire`.

        See sem_wait(3).
        """
        semaphore = self._handle
        await self._waiters.call(_ACQUIRE, lambda: semaphore.acquire(timeout=0), timeout, LOOKING)

    def release(self) -> None:
        """Give 1 to the semaphore; never waits, and is no coroutine.

        Raises:
            LimitReached: it has its highest value.
            IpcError: as `PosixSemaphore.release`.

        See sem_post(3).
        """
        self._handle.release()
        self._waiters.wake()

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A forked child that leaves the block of its parent releases nothing.
        self._handle.__exit__(exc_type, exc, traceback)
        self._waiters.wake()
