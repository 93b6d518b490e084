"""A declared order of locks: a circle of processes that wait for each other can't close."""

from __future__ import annotations

import errno
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ipckit.errors import DeadlockRisk, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping


class Lockable(Protocol):
    """What can be taken and given back: a `Lock`, a semaphore, a `PosixSemaphore`."""

    def acquire(self) -> Any:
        """Take it."""

    def release(self) -> Any:
        """Give it back."""


L = TypeVar("L", bound=Lockable)


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
        self._local = threading.local()

    @property
    def held(self) -> tuple[str, ...]:
        """What this thread holds, in the order in which it was taken."""
        return tuple(self._held())

    def _held(self) -> list[str]:
        held: list[str] | None = getattr(self._local, "held", None)
        if held is None:
            held = self._local.held = []
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
        lock = self._lock(name)
        held = self._held()
        later = [each for each in held if self._rank[each] >= self._rank[name]]
        if later:
            order = " < ".join(self._rank)
            holding = "holding it already" if name in later else f"holding {', '.join(later)}"
            message = f"taking {name} while {holding} can close a circle; the order is {order}"
            hint = "take them in that order, or all at once by one op of a semaphore set"
            raise DeadlockRisk(message, errno=errno.EDEADLK, op="acquire", target=name, hint=hint)
        lock.acquire(**options)
        held.append(name)

    def release(self, name: str, **options: Any) -> None:
        """Give a lock back, in any order.

        Raises:
            InvalidArgument: this thread does not hold it.
        """
        lock = self._lock(name)
        held = self._held()
        if name not in held:
            message = f"{name} is not held by this thread"
            raise InvalidArgument(message, errno=errno.EPERM, op="release", target=name)
        lock.release(**options)
        held.remove(name)

    @contextmanager
    def hold(self, name: str, **options: Any) -> Generator[L]:
        """Hold a lock during a ``with`` block."""
        undo = {"undo": True} if options.get("undo") else {}
        self.acquire(name, **options)
        try:
            yield self._locks[name]
        finally:
            self.release(name, **undo)

    def _lock(self, name: str) -> L:
        if name not in self._locks:
            message = f"there is no lock {name!r}; the order is {' < '.join(self._rank)}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        return self._locks[name]
