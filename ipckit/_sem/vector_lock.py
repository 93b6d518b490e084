"""Locks that are acquired and released by vectors of operations on a semaphore set."""

from __future__ import annotations

import errno
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any

import ipckit._native as native
from ipckit.errors import AccessDenied, WouldBlock

if TYPE_CHECKING:
    from ipckit._native import SemOp
    from ipckit._sem.sysv import SysVSemaphoreSet


class VectorLock(native.VectorLock):
    """A lock that one vector of operations acquires and another releases.

    The native base has `acquire`, `release` and ``with``. This class has what the base calls to
    check an acquisition and to explain an error.
    """

    _semaphores: SysVSemaphoreSet

    def _configure(
        self,
        semaphores: SysVSemaphoreSet,
        acquire: tuple[SemOp, ...],
        release: tuple[SemOp, ...],
        *,
        commit: tuple[SemOp, ...] | None = None,
        waiters: int = -1,
        timeout: float | None = None,
        checked: bool = False,
        block: bool = True,
    ) -> None:
        """Set the operations of the lock.

        Args:
            semaphores: the set.
            acquire: the operations that acquire the lock. The first one with undo tells whether
                this process holds the lock.
            release: the operations that release it.
            commit: the operations that release it at the end of a ``with`` block that raised
                nothing; None for `release`.
            waiters: the semaphore that counts the processes that wait for the lock, or -1.
            timeout: the seconds that a ``with`` block waits.
            checked: whether a ``with`` block calls `_check_acquired`.
            block: whether ``with`` returns None, and not the lock itself.
        """
        self._semaphores, self._acquire_ops = semaphores, acquire
        self._bind(semaphores, acquire, release, commit, waiters, timeout, checked, block)

    def _check_acquired(self) -> tuple[int, int] | None:
        """Check what was just acquired. An exception from here releases it.

        Returns:
            None to keep it. Otherwise it is released, these numbers are added to semaphores 0 and
            1 in the same step, and the acquisition starts again.
        """
        return None

    def _explain_acquire(
        self, exc: OSError | ValueError, timeout: float | None
    ) -> BaseException | None:
        """Return the error for a failed acquire, or None to try again."""
        return self._semaphores._op_error(exc, self._acquire_ops, timeout)  # noqa: SLF001 - ours

    def _explain_release(
        self, exc: OSError | ValueError, release: tuple[SemOp, ...]
    ) -> BaseException:
        """Return the error for a failed release by the operations `release`."""
        if getattr(exc, "errno", 0) != errno.EPERM:
            return self._semaphores._op_error(exc, release, 0)  # noqa: SLF001 - ours
        marker = next(op for op in self._acquire_ops if op.undo)
        semaphore = self._semaphores[marker.index]
        target = self._semaphores._target
        # An operation below 0 takes the value to 0, one above 0 counts the holders.
        held = (semaphore.value == 0) is (marker.delta < 0)
        if not held:
            message = "the lock is not held"
            return WouldBlock(message, errno=errno.EAGAIN, op="release", target=target)
        message = f"this process does not hold the lock (process {semaphore.pid} changed it last)"
        hint = "only the process that acquired it can release it"
        return AccessDenied(message, errno=errno.EPERM, op="release", target=target, hint=hint)


class LockBlock(VectorLock, ContextDecorator):
    """A ``with`` block that holds a lock. The arguments are those of `_configure`."""

    def __init__(
        self,
        semaphores: SysVSemaphoreSet,
        acquire: tuple[SemOp, ...],
        release: tuple[SemOp, ...],
        **options: Any,
    ) -> None:
        self._configure(semaphores, acquire, release, **options)
