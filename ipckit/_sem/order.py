"""A declared order of locks, which makes a deadlock among their users impossible."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, final

import ipckit._native as native
from ipckit._core.public import public
from ipckit.errors import DeadlockRisk, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager


class Lockable(Protocol):
    """An object with `acquire` and `release`: a `Lock`, a `Semaphore`, a `PosixSemaphore`."""

    def acquire(self) -> Any:
        """Acquire it."""

    def release(self) -> Any:
        """Release it."""


L = TypeVar("L", bound=Lockable)


@final
class _OrderedBlock(native.OrderedBlock, ContextDecorator):
    """A ``with`` block that holds a lock of an order."""


@final
@public("ipckit.sem")
class LockOrder(Generic[L]):
    """Locks that every process acquires in the same order.

    A deadlock needs four conditions at once: mutual exclusion, hold and wait, no preemption, and a
    circle of processes that each wait for the next. An order of locks breaks the fourth: a process
    that holds a lock acquires only later ones, so no circle can close. `LockOrder` raises before a
    lock is acquired against the order, each time, and not only when a deadlock happens.

    It records the locks of each thread separately, and only those acquired through it.

    Args:
        locks: names and locks, in the order in which they may be acquired.

    Raises:
        InvalidArgument: there are no locks.

    >>> from ipckit import DeadlockRisk
    >>> from ipckit.sem import Lock, LockOrder
    >>> with Lock.create().lifetime() as a, Lock.create().lifetime() as b:
    ...     order = LockOrder({"accounts": a, "journal": b})
    ...     with order.hold("accounts"), order.hold("journal"):
    ...         print(order.held)
    ...     try:
    ...         with order.hold("journal"), order.hold("accounts"):
    ...             pass
    ...     except DeadlockRisk:
    ...         print("against the order")
    ('accounts', 'journal')
    against the order
    """

    def __init__(self, locks: Mapping[str, L]) -> None:
        if not locks:
            message = "locks must not be empty"
            raise InvalidArgument(message, errno=errno.EINVAL)
        self._locks = dict(locks)
        self._rank = {name: rank for rank, name in enumerate(self._locks)}
        self._names = {name: name for name in self._locks}
        self._local = threading.local()

    @property
    def held(self) -> tuple[str, ...]:
        """The names of the locks that this thread holds, in the order of acquisition."""
        return tuple(self._held())

    def _held(self) -> list[str]:
        # A forked child does not hold its parent's locks.
        process = os.getpid()
        if getattr(self._local, "process", None) != process:
            self._local.held, self._local.process = list[str](), process
        held: list[str] = self._local.held
        return held

    def acquire(self, name: str, **options: Any) -> None:
        """Acquire a lock, if the order allows it.

        Args:
            name: the lock's name.
            **options: for the lock's own `acquire`, such as ``timeout=``.

        Raises:
            DeadlockRisk: this thread holds that lock, or one that comes later in the order.
            InvalidArgument: no lock has that name.
            IpcError: as for the lock's own `acquire`.
        """
        self._ordered(name, options, {}).__enter__()

    def release(self, name: str, **options: Any) -> None:
        """Release a lock. The order does not matter here.

        Args:
            name: the lock's name.
            **options: for the lock's own `release`, such as ``undo=``.

        Raises:
            InvalidArgument: this thread does not hold the lock, or no lock has that name.
            IpcError: as for the lock's own `release`.
        """
        self._ordered(name, {}, options).__exit__()

    def hold(self, name: str, **options: Any) -> AbstractContextManager[L]:
        """Hold a lock during a ``with`` block.

        A forked child that leaves the block of its parent releases nothing.

        Args:
            name: the lock's name.
            **options: for the lock's own `acquire`, such as ``timeout=``. ``undo=True`` is also
                passed to its `release`.

        Returns:
            A context manager that returns the lock.

        Raises:
            DeadlockRisk: as for `acquire`, when the block is entered.
            InvalidArgument: no lock has that name.
        """
        block = self._ordered(name, options, {"undo": True} if options.get("undo") else {})
        return cast("AbstractContextManager[L]", block)

    def _ordered(self, name: str, options: dict[str, Any], undo: dict[str, Any]) -> _OrderedBlock:
        # The string from `_names`, because the native code searches the list by identity.
        return _OrderedBlock(self, self._lock(name), self._names[name], options, undo)

    def _check_acquire(self, name: str) -> list[str]:
        """Return the list of held locks, to which the native code appends the acquired lock.

        Raises:
            DeadlockRisk: the order forbids it.
        """
        held = self._held()
        later = [each for each in held if self._rank[each] >= self._rank[name]]
        if later:
            order = " < ".join(self._rank)
            holding = "holding it already" if name in later else f"holding {', '.join(later)}"
            message = f"acquiring {name} while {holding} can deadlock; the order is {order}"
            hint = "acquire them in that order, or all at once by one op of a semaphore set"
            raise DeadlockRisk(message, errno=errno.EDEADLK, op="acquire", target=name, hint=hint)
        return held

    def _check_release(self, name: str) -> list[str]:
        """Return the list of held locks, which contains the name.

        Raises:
            InvalidArgument: this thread does not hold the lock.
        """
        held = self._held()
        if name not in held:
            message = f"{name} is not held by this thread"
            raise InvalidArgument(message, errno=errno.EPERM, op="release", target=name)
        return held

    def _lock(self, name: str) -> L:
        if name not in self._locks:
            message = f"the order has no lock {name!r}; it is {' < '.join(self._rank)}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        return self._locks[name]
