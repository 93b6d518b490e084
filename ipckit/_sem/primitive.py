"""The base class of the locks, the buffer, the event and the barrier: one semaphore set each."""

from __future__ import annotations

import errno
from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ipckit._core.construct import FactoryMade, construct
from ipckit._core.making import PATIENCE
from ipckit._core.public import public
from ipckit._sem import last_process
from ipckit._sem.errors import exists_error
from ipckit._sem.sysv import SysVSemaphoreSet
from ipckit.errors import AlreadyExists, InvalidArgument
from ipckit.keys import Key

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence


@public("ipckit.sem")
class Primitive(metaclass=FactoryMade):
    """A synchronisation primitive that is built on one semaphore set.

    ``with`` belongs to the primitive: for a `Lock` it acquires and releases. `lifetime` closes and
    unlinks at the end of a block.

    Attributes:
        semaphores: the set.

    Example:
        >>> from ipckit.sem import Event, Lock, Primitive
        >>> issubclass(Lock, Primitive), issubclass(Event, Primitive)
        (True, True)
        >>> with Event.create().lifetime() as event:
        ...     event.key == event.semaphores.key
        True
    """

    kind: ClassVar[str]  # for messages, such as "a lock"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "_factories" not in cls.__dict__:
            cls._factories = f"{cls.__name__}.create, open, open_or_create or from_id"

    def __init__(self, semaphores: SysVSemaphoreSet) -> None:
        self.semaphores = semaphores

    @classmethod
    @abstractmethod
    def _count(cls) -> int:
        """Return the number of semaphores that the primitive is built on."""

    @classmethod
    def _create(cls, key: int | None, values: Sequence[int], mode: int) -> Self:
        try:
            made = SysVSemaphoreSet.create(key, values, mode=mode)
        except AlreadyExists:
            noun = cls.kind.partition(" ")[2]
            raise exists_error(Key(key or 0), noun, cls.__name__) from None
        owning = cls._owning(made)
        if key is None:
            last_process.keep(made.id, made.key)
        return owning

    @classmethod
    def _open_or_create(
        cls,
        key: int,
        values: Sequence[int],
        mode: int,
        timeout: float | None,
        owner_uid: int | None,
    ) -> Self:
        return cls._owning(
            SysVSemaphoreSet.open_or_create(
                key, values, mode=mode, timeout=timeout, owner_uid=owner_uid
            )
        )

    @classmethod
    def _owning(cls, semaphores: SysVSemaphoreSet) -> Self:
        try:
            return construct(cls, semaphores)
        except BaseException:
            with semaphores:  # closes the set, and unlinks it if it was created here
                raise

    @classmethod
    def open(cls, key: int) -> Self:
        """Open an existing object of this class by its key. The handle does not own it.

        Args:
            key: the key of its semaphore set.

        Raises:
            NotFound: no set has that key.
            InvalidArgument: the set has another number of semaphores, so it is something else.
            AccessDenied: the caller has neither read nor write permission.
        """
        return cls._of(SysVSemaphoreSet.open(key))

    @classmethod
    def from_id(cls, id: int) -> Self:
        """Open an existing object by the identifier of its set. The handle does not own it.

        Args:
            id: what semget returned, in this process or another.

        Raises:
            NotFound: no set has that identifier.
            InvalidArgument: the set has another number of semaphores, so it is something else.
        """
        return cls._of(SysVSemaphoreSet.from_id(id))

    @classmethod
    def _of(cls, semaphores: SysVSemaphoreSet) -> Self:
        if len(semaphores) != cls._count():
            message = f"the set has {len(semaphores)} semaphores, but {cls.kind} has {cls._count()}"
            target = semaphores._target
            semaphores.close()
            raise InvalidArgument(message, errno=errno.EINVAL, op="open", target=target)
        return construct(cls, semaphores)

    @property
    def key(self) -> Key | None:
        """The key of the set; None for one created with IPC_PRIVATE."""
        return self.semaphores.key

    @property
    def id(self) -> int:
        """The identifier of the set."""
        return self.semaphores.id

    def close(self) -> None:
        """Close the handle in this process. A second call does nothing."""
        self.semaphores.close()

    def unlink(self, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Remove it from the system. A process that waits for it gets `Removed`.

        Args:
            missing_ok: whether to ignore that it was removed already.

        Raises:
            NotFound: it was removed already.
            AccessDenied: the caller is neither its owner nor its creator.
        """
        self.semaphores.unlink(missing_ok)

    @classmethod
    def remove(cls, key: int, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Remove the object that has a key, without opening it.

        A process that waits for it gets `Removed`. The call does not check that the set is of this
        class.

        Args:
            key: the key of its semaphore set.
            missing_ok: do nothing if no set has that key; False by default.

        Raises:
            NotFound: no set has that key.
            AccessDenied: the caller is neither its owner nor its creator.
            InvalidArgument: `key` is out of range.

        >>> from ipckit.sem import Lock
        >>> Lock.remove(0x4D2, missing_ok=True)
        """
        SysVSemaphoreSet.remove(key, missing_ok)

    @contextmanager
    def lifetime(self) -> Generator[Self]:
        """Close it at the end of a ``with`` block, and unlink it if this handle owns it.

        >>> from ipckit.sem import Lock
        >>> with Lock.create().lifetime() as lock, lock:
        ...     lock.locked
        True
        """
        with self.semaphores:
            yield self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.semaphores!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self)._restore, (self.semaphores,))  # noqa: SLF001 - its own

    @classmethod
    def _restore(cls, semaphores: SysVSemaphoreSet) -> Self:
        """Recreate a pickled object."""
        return construct(cls, semaphores)


class PlainPrimitive(Primitive):
    """A primitive that takes no argument of its own: it always has the same initial values."""

    _initial: ClassVar[tuple[int, ...]]

    @classmethod
    def _count(cls) -> int:
        return len(cls._initial)

    @classmethod
    def create(cls, key: int | None = None, *, mode: int = 0o600) -> Self:
        """Create an object in its initial state: a free lock, an event that is not set.

        Args:
            key: the key that finds it; by default a random one that is free; the object then ends
                with the last process that has it.
            mode: permission bits, 0 to 0o777; a process that uses it needs read and write.

        Returns:
            The handle, which owns the new object.

        Raises:
            AlreadyExists: a set has that key.
            LimitReached: the system has reached its limit of sets or semaphores.
            InvalidArgument: `key` or `mode` is out of range.

        See semget(2).
        """
        return cls._create(key, cls._initial, mode)

    @classmethod
    def open_or_create(
        cls,
        key: int,
        *,
        mode: int = 0o600,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> Self:
        """Open the object that has a key, or create it in its initial state.

        Args:
            key: the key of its semaphore set.
            mode: permission bits of a new object, and the most that an existing one may allow.
            timeout: seconds to retry while other processes create and remove it.
            owner_uid: a user id whose object is accepted, besides this user's and root's.

        Returns:
            The handle, which owns the object if this call created it.

        Raises:
            InvalidArgument: the existing set has another number of semaphores.
            AccessDenied: the existing one belongs to another user, or allows others more than
                `mode`.
            Timeout: other processes kept creating and removing it until the deadline.
            IpcError: as for `create` and `open`.
        """
        return cls._open_or_create(key, cls._initial, mode, timeout, owner_uid)
