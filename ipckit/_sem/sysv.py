"""System V semaphore sets."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, final

import ipckit._native as native
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.handle import Capabilities, Handle, checked_mode
from ipckit._core.making import PATIENCE, find_or_make
from ipckit._core.public import public
from ipckit._core.sysv import SysVObject
from ipckit._core.trust import Trust
from ipckit._native import Semaphore, SemOp
from ipckit._sem import last_process
from ipckit._sem.errors import get_error, op_error
from ipckit._sem.initialise import (
    CREATOR_GRACE,
    await_initialised,
    checked_values,
    initialise,
    is_initialised,
)
from ipckit._sem.stat import SETS, SysVSemaphoreSetStat
from ipckit.errors import (
    AlreadyExists,
    InvalidArgument,
    IpcError,
    Removed,
    Timeout,
    from_errno,
)
from ipckit.keys import Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType


@final
@public("ipckit.sem")
class SysVSemaphoreSet(native.SemaphoreSetBase, SysVObject):
    """A set of System V semaphores.

    ``s[i]`` is one semaphore of the set, with `acquire`, `release`, `wait_zero` and
    ``with s[i]:``. `op` performs several operations at once: all of them, or none.

    One semop sets the initial values and sem_otime, so other processes see all values or none. If
    the creator dies before that, `open_or_create` removes the set and creates it again.

    >>> from ipckit import SemOp, SysVSemaphoreSet
    >>> with SysVSemaphoreSet.create(values=[1, 0]) as s:
    ...     with s[0]:  # released by the kernel if this process is killed
    ...         print(s.values)
    ...     s.op([SemOp(0, -1), SemOp(1, +1)], timeout=1)
    ...     print(s.values)
    [0, 0]
    [0, 1]

    See semget(2), semop(2) and semctl(2).
    """

    _factories = "SysVSemaphoreSet.create, open, open_or_create or from_id"

    _table = SETS
    caps = Capabilities(
        pollable=False,
        timed=True,
        priorities=False,
        typed_receive=False,
        unlink_destroys_now=True,
    )

    def __init__(self, set_id: int, count: int, key: Key | None, *, owner: bool) -> None:
        self._ident = set_id
        self._key = key
        Handle.__init__(self, owner=owner)
        self._id = set_id
        self._count = count

    # -- creating and finding ----------------------------------------------------------------------

    @classmethod
    def create(
        cls, key: int | None = None, values: Sequence[int] = (1,), *, mode: int = 0o600
    ) -> Self:
        """Create a set, which the handle owns.

        Args:
            key: the key that finds the set; by default a random one that is free.
            values: the initial values, 0 to 32767 each, one for each semaphore.
            mode: permission bits, 0 to 0o777: write to change values, read to read them. The umask
                does not apply.

        Returns:
            The handle of the new set.

        Raises:
            AlreadyExists: a set has that key.
            Removed: another process removed the set before it was initialised.
            LimitReached: `values` has more semaphores than a set can have, or the system has
                reached its limit of sets or semaphores.
            InvalidArgument: `key`, a value or `mode` is out of range, or `values` is empty.

        See semget(2).
        """
        wanted_values = checked_values(values)
        checked_mode(mode)
        # The creator needs both permissions to initialise the set. `mode` is applied afterwards.
        flags = native.IPC_CREAT | native.IPC_EXCL | mode | 0o600
        while True:
            wanted = Key.random() if key is None else Key(key)
            try:
                set_id = _semget(wanted, len(wanted_values), flags)
            except AlreadyExists:
                if key is not None:
                    raise
                continue
            break
        self: Self | None = None
        try:
            self = construct(cls, set_id, len(wanted_values), wanted, owner=True)
            initialise(set_id, wanted_values)
            if mode & 0o600 != 0o600:  # noqa: PLR2004 - read and write of the owner
                self.chmod(mode)
        except BaseException:
            with suppress(OSError):  # another process may have removed it
                native.sem_get(set_id, 0, native.IPC_RMID)
            if self is not None:
                self.close()
            raise
        return self

    @classmethod
    def open(cls, key: int, *, timeout: float | None = 1.0) -> Self:
        """Open an existing set by its key. The handle does not own it.

        Args:
            key: the set's key.
            timeout: seconds to wait until the set is initialised. Then `open` takes the set as it
                is, because Linux creates semaphores with the value 0 and some programs want that.

        Returns:
            The handle of the set.

        Raises:
            NotFound: no set has that key.
            AccessDenied: the caller has neither read nor write permission.
            InvalidArgument: `key` or `timeout` is out of range.

        See semget(2).
        """
        wanted, deadline = Key(key), Deadline(timeout)
        while True:
            set_id = _semget(wanted, 0, 0)
            try:
                count = SETS.present(set_id, wanted).nsems
                await_initialised(set_id, deadline)
            except Removed:
                continue  # removed between the calls; another set may have the key now
            return construct(cls, set_id, count, wanted, owner=False)

    @classmethod
    def open_or_create(
        cls,
        key: int,
        values: Sequence[int] = (1,),
        *,
        mode: int = 0o600,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> Self:
        """Open the set that has a key, or create it. The handle owns a set that it created.

        If a set is not initialised within a second, its creator is assumed dead, and the set is
        removed and created again. It is not initialised here, because the creator may only be slow
        and would then add its values a second time.

        Args:
            key: the set's key.
            values: the initial values of a new set. An existing set must have as many semaphores.
            mode: permission bits of a new set, and the most that an existing set may allow.
            timeout: seconds to retry while other processes create and remove the set, or while it
                is not initialised.
            owner_uid: a user id whose set is accepted, besides this user's and root's.

        Returns:
            The handle of the set.

        Raises:
            InvalidArgument: the existing set has another number of semaphores.
            AccessDenied: the existing set belongs to another user, was created by one, or allows
                other users more than `mode`; or its creator died and was another user.
            Timeout: until the deadline, other processes kept creating and removing the set, or did
                not initialise it.
            IpcError: as for `create` and `open`.
        """
        wanted_values = checked_values(values)
        deadline = Deadline(timeout)
        # A live creator may need that long, so with less time no creator is assumed dead.
        patient = deadline.remaining is None or float(timeout or 0) >= CREATOR_GRACE
        wanted, trust = Key(key), Trust(owner_uid, checked_mode(mode))
        return find_or_make(
            lambda: cls.create(key, wanted_values, mode=mode),
            lambda: cls._found(
                wanted, wanted_values, trust, CREATOR_GRACE if patient else deadline.remaining
            ),
            deadline,
            op="semget",
            target=SETS.named(None, wanted),
            removed="removed",
        )

    @classmethod
    def _found(cls, key: Key, values: list[int], trust: Trust, grace: float | None) -> Self:
        """Open an existing set, for `open_or_create`.

        Raises:
            Removed: the creator died before it initialised the set, which is removed now.
        """
        set_id = _semget(key, 0, 0)
        found = SETS.present(set_id, key)
        trust.check_sysv(found, op="semget", target=SETS.named(set_id, key))
        self = construct(cls, set_id, found.nsems, key, owner=False)
        try:
            if len(self) != len(values):
                message = f"the set has {len(self)} semaphores, not {len(values)}"
                raise InvalidArgument(message, errno=errno.EINVAL, target=self._target)  # noqa: TRY301
            if not any(values):
                initialise(self._id, values)
            await_initialised(self._id, Deadline(grace))
            if not is_initialised(self._id):
                if grace != CREATOR_GRACE:
                    message = "its creator has not initialised it"
                    raise Timeout(message, errno=errno.ETIMEDOUT, op="semget", target=self._target)  # noqa: TRY301
                self.unlink(missing_ok=True)
                raise from_errno(errno.EIDRM, op="semctl", target=self._target)  # noqa: TRY301
        except BaseException:
            self.close()
            raise
        return self

    @classmethod
    def from_id(cls, id: int) -> Self:
        """Open an existing set by its identifier. The handle does not own it.

        Args:
            id: what semget returned, in this process or another; `id` of another handle.

        Returns:
            The handle of the set.

        Raises:
            NotFound: no set has that identifier.
            InvalidArgument: `id` is negative or above 2**31 - 1.
        """
        found, key = SETS.given(id)
        return construct(cls, id, found.nsems, key, owner=False)

    # -- operations --------------------------------------------------------------------------------

    def op(self, ops: Iterable[SemOp], timeout: float | None = None) -> None:
        """Perform several operations at once: all of them, or none.

        The kernel tries them in order. If one is not possible, it does none of them and waits until
        all are possible. So a process that acquires several semaphores by one call never holds one
        while it waits for another.

        Args:
            ops: the operations, 1 to 500 (kernel.sem).
            timeout: seconds to wait; 0 does not wait, None waits for ever.

        Raises:
            WouldBlock: the call would wait, and `timeout` is 0 or an operation has `nowait`.
            Timeout: the operations were not possible until the deadline.
            LimitReached: there are too many operations, or one would exceed the range of a value
                or of an undo count. The message says which.
            InvalidArgument: there are no operations, one names a semaphore that the set does not
                have, or `timeout` is negative.
            Removed: the set was removed, during the call or before it.
            AccessDenied: the caller has no write permission (if all operations wait for zero: no
                read permission); or this is a forked child, and an operation would release with
                undo what only its parent acquired.
            ClosedHandle: the handle is closed.

        >>> with SysVSemaphoreSet.create(values=[1, 1]) as s:
        ...     s.op([SemOp(0, -1, undo=True), SemOp(1, -1, undo=True)])  # both, or neither
        ...     s.values
        [0, 0]

        See semop(2).
        """
        vector = ops if isinstance(ops, list) else tuple(ops)
        try:
            native.sem_ops(self._id, vector, timeout)
        except (native.CallFailed, native.BadArgument) as exc:
            raise self._op_error(exc, vector, timeout) from None

    def _explain_op(
        self, exc: OSError | ValueError, index: int, delta: int, timeout: float | None
    ) -> IpcError:
        """Return the error for a failed operation. `native.Semaphore` calls this."""
        return self._op_error(exc, [SemOp(index, delta)], timeout)

    def _op_error(
        self,
        exc: OSError | ValueError,
        ops: Sequence[SemOp],
        timeout: float | None,
        *,
        blocked: str = "",
        expired: str = "",
    ) -> IpcError:
        """Return the error for a failed semop; see `op_error` for the arguments."""
        return op_error(
            self._ident,
            self._target,
            exc,
            ops,
            timeout,
            closed=self._closed,
            blocked=blocked,
            expired=expired,
        )

    def __iter__(self) -> Iterator[Semaphore]:
        """Iterate over the semaphores, in order."""
        return (self[index] for index in range(len(self)))

    @property
    def values(self) -> list[int]:
        """The values of all semaphores at one moment (GETALL); assignable (SETALL).

        An assignment clears every process's undo counts for the set. It raises InvalidArgument if
        the number of values is not the number of semaphores, or if a value is not 0 to 32767.
        """
        self._check_open("semctl")
        try:
            return native.sem_getall(self._id)
        except OSError as exc:
            raise self._control_error(exc) from None

    @values.setter
    def values(self, values: Iterable[int]) -> None:
        self._check_open("semctl")
        wanted = checked_values(list(values))
        try:
            native.sem_setall(self._id, wanted)
        except ValueError as exc:
            raise InvalidArgument(
                str(exc), errno=errno.EINVAL, op="semctl", target=self._target
            ) from None
        except OSError as exc:
            raise self._control_error(exc) from None

    def _get(self, index: int, command: int) -> int:
        self._check_open("semctl")
        try:
            return native.sem_get(self._id, index, command)
        except OSError as exc:
            raise self._control_error(exc) from None

    def _value(self, index: int) -> int:
        return self._get(index, native.GETVAL)

    def _pid(self, index: int) -> int:
        return self._get(index, native.GETPID)

    def _waiting(self, index: int) -> int:
        return self._get(index, native.GETNCNT)

    def _waiting_zero(self, index: int) -> int:
        return self._get(index, native.GETZCNT)

    def _set_value(self, index: int, value: int) -> None:
        self._check_open("semctl")
        (wanted,) = checked_values([value])
        try:
            native.sem_setval(self._id, index, wanted)
        except OSError as exc:
            raise self._control_error(exc) from None

    # -- facts and changes -------------------------------------------------------------------------

    def stat(self) -> SysVSemaphoreSetStat:
        """Return the status of the set: every field of semid_ds.

        Raises:
            Removed: the set was removed.
            AccessDenied: the caller has no read permission.
            ClosedHandle: the handle is closed.

        >>> with SysVSemaphoreSet.create(values=[1, 1, 1], mode=0o640) as s:
        ...     s.stat().nsems, oct(s.stat().mode)
        (3, '0o640')

        See semctl(2), IPC_STAT.
        """
        self._check_open("semctl")
        return SETS.look(self._ident, self._target)

    def _apply(self, status: SysVSemaphoreSetStat) -> None:
        native.sem_set(self._ident, status.uid, status.gid, status.mode & 0o777)

    # -- lifecycle ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._check_open("enter")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        Handle.__exit__(self, exc_type, exc, traceback)

    def disown(self) -> Self:
        """Give up ownership: neither a ``with`` block nor the end of the process removes the set.

        Returns:
            The handle itself.
        """
        last_process.forget(self._ident)
        return super().disown()

    def unlink(self, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Remove the set from the system; works on a closed handle too.

        Args:
            missing_ok: do nothing if the set does not exist any more; False by default.

        Raises:
            NotFound: the set does not exist any more.
            AccessDenied: the caller is neither the set's owner nor its creator.
        """
        super().unlink(missing_ok)
        last_process.forget(self._ident)

    def _release(self) -> None:
        # The handle owns no kernel resource. The id -1 makes each later call fail.
        self._id = -1

    @staticmethod
    def _find(key: Key) -> int:
        return native.semget(int(key), 0, 0)

    @staticmethod
    def _rmid(ident: int) -> None:
        native.sem_get(ident, 0, native.IPC_RMID)

    def _size_text(self) -> str:
        return f"values {self.values}"

    def _reopen_args(self) -> tuple[Any, ...]:
        return (self._ident,)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        return cls.from_id(*args)


def _semget(key: Key, count: int, flags: int) -> int:
    try:
        return native.semget(int(key), count, flags)
    except OSError as exc:
        raise get_error(exc.errno or errno.EIO, key, count) from None
