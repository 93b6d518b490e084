"""What System V queues, segments and sets have in common: an id, a key, an owner and a mode."""

from __future__ import annotations

import errno
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.handle import Handle, checked_mode
from ipckit._core.limits import user_name
from ipckit.errors import AccessDenied, InvalidArgument, IpcError, NotFound, Removed, from_errno
from ipckit.keys import Key

if TYPE_CHECKING:
    from collections.abc import Callable

_GONE = frozenset({errno.EINVAL, errno.EIDRM})
_ID_MAX = 2**31 - 1


class Status(Protocol):
    """What the kernel tells of every kind of object."""

    @property
    def id(self) -> int: ...
    @property
    def key(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def cuid(self) -> int: ...
    @property
    def mode(self) -> int: ...


S = TypeVar("S", bound=Status)


@dataclass(frozen=True, slots=True)
class Table(Generic[S]):
    """One of the kernel's three tables of System V objects.

    Attributes:
        noun: the name of such an object in messages.
        title: the word before its key and id in messages.
        call: the system call that reads and changes its status, such as ``"msgctl"``.
        stat: the native call that returns an object's fields, by id or by index.
        stat_any: the command of `stat` that takes an index and needs no read permission.
        highest: returns the highest index in use.
        made: creates the status from the fields and the id.
        hint: what a caller without permission can do.
    """

    noun: str
    title: str
    call: str
    stat: Callable[[int, int], tuple[int, ...]]
    stat_any: int
    highest: Callable[[], int]
    made: Callable[[tuple[int, ...], int], S]
    hint: str = "the owner can allow it with chmod"

    def all(self) -> list[S]:
        """All objects of the IPC namespace, also those without read permission."""
        found: list[S] = []
        for index in range(self.highest() + 1):
            try:
                fields = self.stat(index, self.stat_any)
            except OSError:
                continue  # no object in this slot
            found.append(self.made(fields, fields[0]))
        return found

    def find(self, ident: int) -> S | None:
        """The object of an id, also without read permission; None if there is no such object."""
        try:
            return self.made(self.stat(ident, native.IPC_STAT), ident)
        except PermissionError:
            return next((each for each in self.all() if each.id == ident), None)
        except OSError:
            return None

    def look(self, ident: int, target: str) -> S:
        """The object of an id (IPC_STAT).

        Raises:
            Removed: there is no object of that id.
            AccessDenied: the caller may not read it.
        """
        try:
            return self.made(self.stat(ident, native.IPC_STAT), ident)
        except OSError as exc:
            raise self.error(exc, ident, target) from None

    def named(self, ident: int | None, key: Key | None) -> str:
        """An object's name for messages: ``queue key 0x000004d2 id 5``."""
        parts = [self.title]
        if key is not None:
            parts.append(f"key {key:#010x}")
        if ident is not None:
            parts.append(f"id {ident}")
        return " ".join(parts)

    def given(self, ident: int) -> tuple[S, Key | None]:
        """The object of an id from the caller, and its key.

        Raises:
            NotFound: there is no object of that id.
            TypeError: `ident` is not an int.
            InvalidArgument: it is out of range.
        """
        ident = int_argument("id", ident)
        if not 0 <= ident <= _ID_MAX:
            message = f"id is {ident}; it takes 0 to {_ID_MAX}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        found = self.find(ident)
        if found is None:
            raise self.missing(ident, None)
        return found, Key(found.key) if found.key else None

    def present(self, ident: int, key: Key) -> S:
        """The object that was just found by a key.

        Raises:
            Removed: it was removed in between.
        """
        found = self.find(ident)
        if found is None:
            raise self.gone(self.named(ident, key))
        return found

    def missing(self, ident: int | None, key: Key | None, code: int = errno.EINVAL) -> NotFound:
        """The error for an object that is not there."""
        target = self.named(ident, key)
        return NotFound(f"no such {self.noun}", errno=code, op=self.call, target=target)

    def gone(self, target: str, code: int = errno.EIDRM) -> Removed:
        """The error for an object that was removed; to a later call the kernel says EINVAL."""
        return Removed(f"the {self.noun} was removed", errno=code, op=self.call, target=target)

    def denied(
        self, ident: int, target: str, *, op: str = "", code: int = errno.EACCES
    ) -> AccessDenied:
        """The error for a forbidden call, with the object's owner and mode."""
        found = self.find(ident)
        message = "permission denied"
        if found is not None:
            mode = found.mode & 0o777
            message += f": the owner is {user_name(found.uid)}, the mode {mode:04o}"
        return AccessDenied(message, errno=code, op=op or self.call, target=target, hint=self.hint)

    def error(self, exc: OSError, ident: int, target: str) -> IpcError:
        """The error of a failed call that reads or changes the status."""
        code = exc.errno or errno.EIO
        if code in {errno.EACCES, errno.EPERM}:
            return self.denied(ident, target, code=code)
        if code in _GONE:
            return self.gone(target, code)
        return from_errno(code, op=self.call, target=target)


class SysVObject(Handle):
    """A handle on a System V object: its id and key, its owner and mode."""

    _table: ClassVar[Table[Any]]
    _ident: int
    _key: Key | None

    @property
    def key(self) -> Key | None:
        """The key that finds the object; None if it was created with IPC_PRIVATE."""
        return self._key

    @property
    def id(self) -> int:
        """The identifier that the kernel gave the object."""
        return self._ident

    def chmod(self, mode: int) -> None:
        """Change who may write (send, alter, attach to write) and who may read.

        Args:
            mode: permission bits, 0 to 0o777.

        Raises:
            InvalidArgument: `mode` is out of range.
            AccessDenied: the caller is neither owner nor creator.
            Removed: the object was removed.
            ClosedHandle: the handle is closed.
        """
        self._change(mode=checked_mode(mode))

    def chown(self, uid: int | None = None, gid: int | None = None) -> None:
        """Change the owner, the group, or both.

        Args:
            uid: the new owner; None (the default) keeps the owner.
            gid: the new group; None (the default) keeps the group.

        Raises:
            InvalidArgument: a number is out of range.
            AccessDenied: the caller is neither owner nor creator.
            Removed: the object was removed.
            ClosedHandle: the handle is closed.
        """
        wanted = {"uid": uid, "gid": gid}
        self._change(**{name: value for name, value in wanted.items() if value is not None})

    def _change(self, **wanted: int) -> None:
        """IPC_SET with some fields changed."""
        self._check_open(self._table.call)
        now = self._table.find(self._ident)
        if now is None:
            raise self._table.gone(self._target, errno.EINVAL)
        try:
            self._apply(replace(now, **wanted))
        except ValueError as exc:
            raise InvalidArgument(
                str(exc), errno=errno.EINVAL, op=self._table.call, target=self._target
            ) from None
        except OSError as exc:
            raise self._control_error(exc) from None

    @abstractmethod
    def _apply(self, status: Any) -> None:
        """IPC_SET of a status; may raise OSError and ValueError."""

    def _control_error(self, exc: OSError) -> IpcError:
        return self._table.error(exc, self._ident, self._target)

    def _remove(self) -> None:
        try:
            self._rmid()
        except OSError as exc:
            error = self._control_error(exc)
            if isinstance(error, Removed):
                code = error.errno or errno.EINVAL
                raise self._table.missing(self._ident, self._key, code) from None
            raise error from None

    @abstractmethod
    def _rmid(self) -> None:
        """IPC_RMID; may raise OSError."""

    @property
    def _target(self) -> str:
        return self._table.named(self._ident, self._key)
