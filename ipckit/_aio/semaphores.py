"""Semaphores in an event loop.

The kernel does not report a change of a semaphore, so a call that waits polls it, with pauses that
grow to 20 ms. A face's `release` wakes the waiting calls of its process at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self, final

from ipckit._aio.face import Face, waiters_of
from ipckit._aio.wait_queue import POLLED
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
@final
class SysVSemaphore(Face[Semaphore]):
    """One semaphore of a `SysVSemaphoreSet` in an event loop.

    ``async with`` acquires 1 and releases it, with undo.

    Example:
        >>> import asyncio
        >>> from ipckit import SysVSemaphoreSet, aio
        >>> async def main():
        ...     with SysVSemaphoreSet.create(values=[1]) as semaphores:
        ...         async with aio.wrap(semaphores[0]):
        ...             return semaphores.values
        >>> asyncio.run(main())
        [0]
    """

    __slots__ = ()

    def __init__(self, handle: Semaphore) -> None:
        super().__init__(handle, waiters_of(handle.set))

    @property
    def closed(self) -> bool:
        """Whether the set's handle was closed."""
        return bool(self._handle.set.closed)

    def close(self) -> None:
        """Close the set's handle; idempotent; never raises."""
        self._handle.set.close()

    async def acquire(
        self, n: int = 1, *, timeout: float | None = None, undo: bool = False
    ) -> None:
        """Subtract `n` from the semaphore, as soon as its value is at least `n`.

        Calls that wait for the same `n` are served in order.

        Args:
            n: 1 to 32767; by default 1.
            timeout: seconds to wait; None (the default) waits without limit, 0 does not wait.
            undo: have the kernel add `n` again when this process exits (SEM_UNDO).

        Raises:
            WouldBlock: the value is too small, with a timeout of 0.
            Timeout: the value was too small until the deadline.
            Removed: the set was removed, before the call or during it.
            IpcError: as the semaphore's own `acquire`.

        See semop(2).
        """
        semaphore = self._handle
        # Each `n` has its own queue of calls: a call with a large `n` must not delay one with a
        # small `n`, which may have to succeed before the large one can.
        await self._waiters.call(
            (_ACQUIRE, semaphore.index, n),
            lambda: semaphore.acquire(n, timeout=0, undo=undo),
            timeout,
            POLLED,
        )
        self._wake_waiters()

    def release(self, n: int = 1, *, undo: bool = False) -> None:
        """Add `n` to the semaphore; never waits, and is not a coroutine.

        Args:
            n: 1 to 32767; by default 1.
            undo: the same as for `acquire`.

        Raises:
            LimitReached: the value would exceed 32767.
            IpcError: as the semaphore's own `release`.

        See semop(2).
        """
        self._handle.release(n, undo=undo)
        self._wake_waiters()

    async def wait_zero(self, *, timeout: float | None = None) -> None:
        """Wait until the semaphore is 0.

        Args:
            timeout: seconds to wait; None (the default) waits without limit, 0 does not wait.

        Raises:
            WouldBlock: the value is not 0, with a timeout of 0.
            Timeout: the value was not 0 until the deadline.
            Removed: the set was removed, before the call or during it.
            IpcError: as the semaphore's own `wait_zero`.

        See semop(2).
        """
        semaphore = self._handle
        await self._waiters.call(
            ("zero", semaphore.index), lambda: semaphore.wait_zero(timeout=0), timeout, POLLED
        )

    def _wake_waiters(self) -> None:
        if self._waiters.queues:
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
        # In a forked child that leaves its parent's block, this releases nothing.
        self._handle.__exit__(exc_type, exc, traceback)
        self._wake_waiters()


@public("ipckit.aio")
@final
class SemaphoreSet(Face[SysVSemaphoreSet]):
    """A `SysVSemaphoreSet` in an event loop; ``face[i]`` is one of its semaphores.

    Example:
        >>> import asyncio
        >>> from ipckit import SemOp, SysVSemaphoreSet, aio
        >>> async def main():
        ...     async with aio.wrap(SysVSemaphoreSet.create(values=[2, 0])) as semaphores:
        ...         await semaphores.op([SemOp(0, -1), SemOp(1, +1)])
        ...         return semaphores.handle.values
        >>> asyncio.run(main())
        [1, 1]
    """

    __slots__ = ()

    def __init__(self, handle: SysVSemaphoreSet) -> None:
        super().__init__(handle, waiters_of(handle))

    def __getitem__(self, index: int) -> SysVSemaphore:
        return SysVSemaphore(self._handle[index])

    def __len__(self) -> int:
        return len(self._handle)

    async def op(self, ops: Iterable[SemOp], timeout: float | None = None) -> None:
        """Do several operations atomically, as `SysVSemaphoreSet.op`.

        Args:
            ops: 1 to 500 operations, each a `SemOp`.
            timeout: seconds to wait; None (the default) waits without limit, 0 does not wait.

        Raises:
            WouldBlock: the operations can't be done at once, and `timeout` is 0 or the operation
                that would have to wait has `nowait`.
            Timeout: the operations could not be done before the deadline.
            Removed: the set was removed, before the call or during it.
            IpcError: as `SysVSemaphoreSet.op`.

        See semop(2).
        """
        handle, vector = self._handle, tuple(ops)
        has_nowait = any(each.nowait for each in vector)

        def attempt() -> WouldBlock | None:
            try:
                handle.op(vector, timeout=0)
            except WouldBlock as exc:
                if has_nowait and _must_not_wait(handle, vector):
                    return exc
                raise
            return None

        problem = await self._waiters.call(("op", vector), attempt, timeout, POLLED)
        if problem is not None:
            raise problem
        if self._waiters.queues:
            self._waiters.wake()


def _must_not_wait(handle: SysVSemaphoreSet, vector: tuple[SemOp, ...]) -> bool:
    """Whether the first operation that would wait has `nowait`; with a timeout of 0 all seem to."""
    try:
        values = handle.values
    except AccessDenied:
        return True  # write permission without read permission; an unwanted wait would be worse
    for each in vector:
        after = values[each.index] + each.delta
        if after < 0 or (each.delta == 0 and after != 0):
            return each.nowait
        values[each.index] = after
    return False


@public("ipckit.aio")
@final
class NamedSemaphore(Face[PosixSemaphore]):
    """A `PosixSemaphore` in an event loop; ``async with`` acquires 1 and releases it.

    Example:
        >>> import asyncio
        >>> from ipckit import PosixSemaphore, aio
        >>> async def main():
        ...     with PosixSemaphore.create(value=1).lifetime() as gate:
        ...         async with aio.wrap(gate):
        ...             return gate.value
        >>> asyncio.run(main())
        0
    """

    __slots__ = ()

    def __init__(self, handle: PosixSemaphore) -> None:
        super().__init__(handle, waiters_of(handle))

    async def acquire(self, *, timeout: float | None = None) -> None:
        """Subtract 1 from the semaphore, as soon as its value is at least 1.

        Args:
            timeout: seconds to wait; None (the default) waits without limit, 0 does not wait.

        Raises:
            WouldBlock: the value is 0, with a timeout of 0.
            Timeout: the value was 0 until the deadline.
            IpcError: as `PosixSemaphore.acquire`.

        See sem_wait(3).
        """
        semaphore = self._handle
        await self._waiters.call(_ACQUIRE, lambda: semaphore.acquire(timeout=0), timeout, POLLED)

    def release(self) -> None:
        """Add 1 to the semaphore; never waits, and is not a coroutine.

        Raises:
            LimitReached: the value is the highest possible.
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
        # In a forked child that leaves its parent's block, this releases nothing.
        self._handle.__exit__(exc_type, exc, traceback)
        self._waiters.wake()
