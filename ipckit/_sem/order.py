"""A declared order of locks: a circle of processes that wait for each other can't close."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import ipckit._native as native
from ipckit._core.public import public
from ipckit.errors import DeadlockRisk, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager


class Lockable(Protocol):
    """What can be taken and given back: a `Lock`, a semaphore, a `PosixSemaphore`."""

    def acquire(self) -> Any:
        """Take it."""

    def release(self) -> Any:
        """Give it back."""


L = TypeVar("L", bound=Lockable)


class _Ordered(native.Ordered, ContextDecorator):
    """A block that holds a lock of an order."""


@public("ipckit.sem")
class LockOrder(Generic[L]):
    """Locks that are taken in one order only, by everybody who uses this.

    Deadlock takes four conditions: mutual exclusion, hold and wait, no preemption, and a circle of
    processes each waiting for the next. An order of locks breaks the fourth: who holds one takes
    only later ones, so the waiting never comes back to where it began. This raises before a lock
    is taken against the order, on the first run that tries, and not once in a thousand runs.

        order = LockOrder({"accounts": a, "journal": b})
        with order.hold("accounts"), order.hold("journal"): …      # fine
        with order.hold("journal"), order.hold("accounts"): …      # DeadlockRisk

    Each thread has its own account of what it holds.

    Args:
        locks: names and locks, in the order in which they may be taken.
    """

    def __init__(self, locks: Mapping[str, L]) -> None:
        if not locks:
            message = "an order has 1 lock or more"
            raise InvalidArgument(message, errno=errno.EINVAL)
        self._locks = dict(locks)
        self._rank = {name: rank for rank, name in enumerate(self._locks)}
        self._names = {name: name for name in self._locks}
        self._local = threading.local()

    @property
    def held(self) -> tuple[str, ...]:
        """What this thread holds, in the order in which it was taken."""
        return tuple(self._held())

    def _held(self) -> list[str]:
        # A forked child holds nothing of what its parent holds.
        process = os.getpid()
        if getattr(self._local, "process", None) != process:
            self._local.held, self._local.process = list[str](), process
        held: list[str] = self._local.held
        return held

    def acquire(self, name: str, **options: Any) -> None:
        """Take a lock, if that can't close a circle.

        Args:
            name: the lock's name.
            options: for the lock's own `acquire`, such as ``timeout=``.

        Raises:
            DeadlockRisk: this thread holds that lock, or one that comes later.
            InvalidArgument: there is no lock of that name.
        """
        self._ordered(name, options, {}).__enter__()

    def release(self, name: str, **options: Any) -> None:
        """Give a lock back, in any order.

        Raises:
            InvalidArgument: this thread does not hold it.
        """
        self._ordered(name, {}, options).__exit__()

    def hold(self, name: str, **options: Any) -> AbstractContextManager[L]:
        """Hold a lock during a ``with`` block.

        A forked child that leaves the block of its parent releases nothing.

        Args:
            name: the lock's name.
            options: for the lock's own `acquire`, such as ``timeout=``; ``undo=True`` goes to its
                `release` too.

        Raises:
            DeadlockRisk: as `acquire`, when the block is entered.
            InvalidArgument: there is no lock of that name.
        """
        block = self._ordered(name, options, {"undo": True} if options.get("undo") else {})
        return cast("AbstractContextManager[L]", block)

    def _ordered(self, name: str, options: dict[str, Any], undo: dict[str, Any]) -> _Ordered:
        # The order's own string: the account is searched by identity.
        return _Ordered(self, self._lock(name), self._names[name], options, undo)

    def _account(self, name: str) -> list[str]:
        """The list to note a name in once its lock is taken."""
        held = self._held()
        later = [each for each in held if self._rank[each] >= self._rank[name]]
        if later:
            order = " < ".join(self._rank)
            holding = "holding it already" if name in later else f"holding {', '.join(later)}"
            message = f"taking {name} while {holding} can close a circle; the order is {order}"
            hint = "take them in that order, or all at once by one op of a semaphore set"
            raise DeadlockRisk(message, errno=errno.EDEADLK, op="acquire", target=name, hint=hint)
        return held

    def _noted(self, name: str) -> list[str]:
        """The list that has the name of a lock that is held."""
        held = self._held()
        if name not in held:
            message = f"{name} is not held by this thread"
            raise InvalidArgument(message, errno=errno.EPERM, op="release", target=name)
        return held

    def _lock(self, name: str) -> L:
        if name not in self._locks:
            message = f"there is no lock {name!r}; the order is {' < '.join(self._rank)}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        return self._locks[name]
