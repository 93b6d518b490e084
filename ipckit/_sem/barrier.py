"""A barrier: processes wait until a number of them have arrived."""

from __future__ import annotations

import errno
from typing import Final, Self, final

import ipckit._native as native
from ipckit._core.public import public
from ipckit._native import SemOp
from ipckit._sem.primitive import Primitive
from ipckit._sem.stat import semaphore_limits
from ipckit.errors import InvalidArgument

# The first operation of `wait`, for messages.
_ARRIVE: Final = (SemOp(native.BARRIER_MUTEX, -1, undo=True),)


@final
@public("ipckit.sem")
class Barrier(Primitive):
    """A point where a number of processes wait until all have arrived. It can be used repeatedly.

    A process that dies while it waits does not count as arrived: the others wait until another
    process takes its place.

    >>> from ipckit.sem import Barrier
    >>> with Barrier.create(parties=1).lifetime() as barrier:
    ...     barrier.wait(timeout=1)
    True
    """

    kind = "a barrier"
    _factories = "Barrier.create, open or from_id"

    @classmethod
    def _count(cls) -> int:
        return native.BARRIER_COUNT

    @classmethod
    def create(cls, key: int | None = None, parties: int = 2, *, mode: int = 0o600) -> Self:
        """Create a barrier.

        Args:
            key: the key that finds it; by default a random one that is free; the object then ends
                with the last process that has it.
            parties: the number of processes that wait for each other, 1 to 32767.
            mode: permission bits, 0 to 0o777; a process that uses it needs read and write.

        Returns:
            The barrier, owned by this handle.

        Raises:
            AlreadyExists: a set has that key.
            LimitReached: the system has reached its limit of sets or semaphores.
            InvalidArgument: `key`, `parties` or `mode` is out of range.

        See semget(2).
        """
        highest = semaphore_limits().semvmx
        if not 1 <= parties <= highest:
            message = f"parties must be 1 to {highest}, not {parties}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        values = [0] * native.BARRIER_COUNT
        values[native.BARRIER_MUTEX] = 1
        values[native.BARRIER_PARTIES] = parties
        return cls._create(key, values, mode)

    @property
    def parties(self) -> int:
        """The number of processes that wait for each other."""
        return self.semaphores[native.BARRIER_PARTIES].value

    @property
    def waiting(self) -> int:
        """The number of processes that have arrived now."""
        values = self.semaphores.values
        return values[native.BARRIER_ARRIVED + values[native.BARRIER_ROUND]]

    def wait(self, *, timeout: float | None = None) -> bool:
        """Wait until all processes have arrived.

        Args:
            timeout: seconds to wait; 0 continues only if this process is the last to arrive, None
                waits for ever.

        Returns:
            Whether this process was the last to arrive; true for exactly one of them.

        Raises:
            WouldBlock: other processes have not arrived, and `timeout` is 0.
            Timeout: other processes had not arrived until the deadline. This process then does not
                count as arrived.
            Removed: the barrier was removed, during the call or before it.
            InvalidArgument: `timeout` is negative.
            Corrupt: the set holds values that are not a barrier's.
        """
        try:
            return native.barrier_wait(self.semaphores, timeout)
        except (native.CallFailed, native.BadArgument) as exc:
            raise self.semaphores._op_error(  # noqa: SLF001 - ours
                exc,
                _ARRIVE,
                timeout,
                blocked="other processes have not arrived",
                expired=f"other processes had not arrived after {timeout} s",
            ) from None
