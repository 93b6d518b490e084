"""System V semaphore sets."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import ipckit._native as native
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.handle import Capabilities, Handle, checked_mode
from ipckit._core.making import PATIENCE, find_or_make
from ipckit._core.public import public
from ipckit._core.sysv import SysVObject
from ipckit._core.trust import Trust
from ipckit._native import Semaphore, SemOp
from ipckit._sem.errors import get_set, op_error
from ipckit._sem.initialise import (
    MAKER_GRACE,
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


@public("ipckit.sem")
class SysVSemaphoreSet(native.SemaphoreRow, SysVObject):
    """A set of System V semaphores, operated on together, all or nothing.

    Make one with `create`, `open`, `open_or_create` or `from_id`. ``s[i]`` is one semaphore,
    with `acquire`, `release`, `wait_zero` and ``with s[i]:``; ``s.op([…])`` is several
    operations at once, of which all are done or none.

    A set is initialised by one semop, which adds the values to zeros and sets sem_otime: others
    never see a half of it. If its maker dies before, who comes next makes it anew.

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

    # -- making and finding ------------------------------------------------------------------------

    @classmethod
    def create(
        cls, key: int | None = None, values: Sequence[int] = (1,), *, mode: int = 0o600
    ) -> Self:
        """Make a new set, which the handle owns.

        Args:
            key: the key to find it by; None picks a free one.
            values: what the semaphores begin with, 0 to 32767 each; as many as there shall be.
            mode: permission bits, 0 to 0o777; write alters, read reads. The umask has no say.

        Raises:
            AlreadyExists: there is a set of that key.
            Removed: another process has removed it already.
            LimitReached: more semaphores than a set can have, or all that the system allows exist.
            InvalidArgument: `key`, a value or `mode` is out of range, or there are no values.

        See semget(2).
        """
        wanted_values = checked_values(values)
        checked_mode(mode)
        # Its maker has to be able to initialise it, whatever the mode will be.
        flags = native.IPC_CREAT | native.IPC_EXCL | mode | 0o600
        while True:
            wanted = Key.random() if key is None else Key(key)
            try:
                set_id = get_set(wanted, len(wanted_values), flags)
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
            with suppress(OSError):  # another process has removed it
                native.sem_get(set_id, 0, native.IPC_RMID)
            if self is not None:
                self.close()
            raise
        return self

    @classmethod
    def open(cls, key: int, *, timeout: float | None = 1.0) -> Self:
        """Find a set by its key; never makes one, never owns it.

        Args:
            key: the set's key.
            timeout: seconds to wait for a maker that has not initialised it. After that the set
                is taken as it is: Linux makes semaphores 0, and not every program initialises.

        Raises:
            NotFound: there is no set of that key.
            AccessDenied: the caller may neither read nor alter it.
            InvalidArgument: `key` is out of range.

        See semget(2).
        """
        wanted, deadline = Key(key), Deadline(timeout)
        while True:
            set_id = get_set(wanted, 0, 0)
            try:
                count = SETS.present(set_id, wanted).nsems
                await_initialised(set_id, deadline)
            except Removed:
                continue  # between two calls; the key leads to another one, or to none
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
        """Find a set, or make it; the handle owns it only if it made it.

        A set that its maker has not initialised within a second, because it died, is removed and
        made anew: initialising it here could meet a maker that was only slow.

        Args:
            key: the set's key.
            values: what the semaphores of a set that is made begin with; one that is found must
                have as many.
            mode: permission bits of a set that is made, and the widest of one that is found.
            timeout: seconds to keep trying while others make and remove it meanwhile, or have
                not initialised it.
            owner_uid: a user whose set is accepted beside this user's and root's.

        Raises:
            InvalidArgument: the set that is there has another number of semaphores.
            AccessDenied: the set that is there belongs to another user or was made by one, or lets
                other users do more than `mode`. Also where its maker died, and was another user.
            Timeout: others made and removed it, or did not initialise it, until the deadline.
            IpcError: as `create` and `open`.
        """
        wanted_values = checked_values(values)
        deadline = Deadline(timeout)
        # With less time than a maker that lives may need, no maker is taken for dead.
        patient = deadline.remaining is None or float(timeout or 0) >= MAKER_GRACE
        wanted, trust = Key(key), Trust(owner_uid, checked_mode(mode))
        return find_or_make(
            lambda: cls.create(key, wanted_values, mode=mode),
            lambda: cls._found(
                wanted, wanted_values, trust, MAKER_GRACE if patient else deadline.remaining
            ),
            deadline,
            op="semget",
            target=SETS.named(None, wanted),
            removed="removed",
        )

    @classmethod
    def _found(cls, key: Key, values: list[int], trust: Trust, grace: float | None) -> Self:
        """An existing set; Removed where its maker died before it was initialised."""
        set_id = get_set(key, 0, 0)
        found = SETS.present(set_id, key)
        trust.check_sysv(found, op="semget", target=SETS.named(set_id, key))
        self = construct(cls, set_id, found.nsems, key, owner=False)
        try:
            if len(self) != len(values):
                message = f"the set has {len(self)} semaphores, and {len(values)} are wanted"
                raise InvalidArgument(message, errno=errno.EINVAL, target=self._target)  # noqa: TRY301
            if not any(values):
                initialise(self._id, values)
            await_initialised(self._id, Deadline(grace))
            if not is_initialised(self._id):
                if grace != MAKER_GRACE:
                    message = "its maker has not initialised it"
                    raise Timeout(message, errno=errno.ETIMEDOUT, op="semget", target=self._target)  # noqa: TRY301
                self.unlink(missing_ok=True)
                raise from_errno(errno.EIDRM, op="semctl", target=self._target)  # noqa: TRY301
        except BaseException:
            self.close()
            raise
        return self

    @classmethod
    def from_id(cls, id: int) -> Self:
        """Use a set whose identifier came from elsewhere; never owns it.

        Args:
            id: what semget gave, in this process or another.

        Raises:
            NotFound: there is no set of that id.
            InvalidArgument: `id` is negative or above 2**31 - 1.
        """
        found, key = SETS.given(id)
        return construct(cls, id, found.nsems, key, owner=False)

    # -- operations --------------------------------------------------------------------------------

    def op(self, ops: Iterable[SemOp], timeout: float | None = None) -> None:
        """Do several operations at once: all of them, or none.

        They are tried in order. If one can't be done, none is, and the call waits until all can
        be; so taking several semaphores by one vector never holds one while it waits for another.

        Args:
            ops: `SemOp`s, 1 to 500 (kernel.sem).
            timeout: seconds to wait; 0 does not wait, None waits for ever.

        Raises:
            WouldBlock: it can't be done at once, and `timeout` is 0 or an operation has `nowait`.
            Timeout: it could not be done until the deadline.
            LimitReached: too many operations, or one would leave a value's or an undo count's
                range; the message says which.
            InvalidArgument: no operations, or one names a semaphore that the set has not got.
            Removed: the set was removed, before or meanwhile.
            AccessDenied: no right to alter it (or to read, for waits for zero alone); or this is a
                forked child, and an operation releases with undo what only its parent took.
            ClosedHandle: the handle is closed.

        See semop(2).
        """
        vector = ops if isinstance(ops, list) else tuple(ops)
        try:
            native.sem_ops(self._id, vector, timeout)
        except (native.CallFailed, native.BadArgument) as exc:
            raise self._meaning(exc, vector, timeout) from None

    def _explain_op(
        self, exc: OSError | ValueError, index: int, delta: int, timeout: float | None
    ) -> IpcError:
        """Called by a semaphore whose operation failed."""
        return self._meaning(exc, [SemOp(index, delta)], timeout)

    def _meaning(
        self, exc: OSError | ValueError, ops: Sequence[SemOp], timeout: float | None
    ) -> IpcError:
        """What a failed operation means."""
        return op_error(self._ident, self._target, exc, ops, timeout, closed=self._closed)

    def __iter__(self) -> Iterator[Semaphore]:
        """Each semaphore, in order."""
        return (self[index] for index in range(len(self)))

    @property
    def values(self) -> list[int]:
        """All values at one moment (GETALL); set them all at once (SETALL).

        Setting clears everybody's undo counts for the set. It raises InvalidArgument where the
        values are not as many as the semaphores, or not 0 to 32767.
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
        """What the kernel knows of the set: every field of semid_ds.

        Raises:
            Removed: the set was removed.
            AccessDenied: the caller may not read it.
            ClosedHandle: the handle is closed.

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

    def _release(self) -> None:
        # No kernel object belongs to the handle; an id that never was makes each call fail.
        self._id = -1

    def _rmid(self) -> None:
        native.sem_get(self._ident, 0, native.IPC_RMID)

    def _size_text(self) -> str:
        return f"values {self.values}"

    def _reopen_args(self) -> tuple[Any, ...]:
        return (self._ident,)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        return cls.from_id(*args)
