"""The base of System V queues, segments and sets, and the kernel's tables of them."""

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

_REMOVED = frozenset({errno.EINVAL, errno.EIDRM})
_ID_MAX = 2**31 - 1


class Status(Protocol):
    """The status fields that all kinds of System V objects have."""

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
        noun: the word for an object in messages, such as ``"queue"``.
        title: the word before an object's key and id.
        call: the system call that reads and changes an object's status, such as ``"msgctl"``.
        stat: the native function that returns an object's fields, by id or by index.
        stat_any: the command for `stat` that takes an index and needs no read permission.
        highest: returns the highest index in use.
        made: creates the status from the fields and the id.
        hint: the hint of AccessDenied.
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
        """Return all objects of the IPC namespace, even those that the caller may not read."""
        found: list[S] = []
        for index in range(self.highest() + 1):
            try:
                fields = self.stat(index, self.stat_any)
            except OSError:
                continue  # no object in this slot
            found.append(self.made(fields, fields[0]))
        return found

    def find(self, ident: int) -> S | None:
        """Return an object by its id, even if the caller may not read it; None if it is missing."""
        try:
            return self.made(self.stat(ident, native.IPC_STAT), ident)
        except PermissionError:
            return next((each for each in self.all() if each.id == ident), None)
        except OSError:
            return None

    def look(self, ident: int, target: str) -> S:
        """Return an object by its id (IPC_STAT).

        Args:
            ident: the id.
            target: the object, for the error.

        Raises:
            Removed: no object has that id.
            AccessDenied: the caller may not read it.
        """
        try:
            return self.made(self.stat(ident, native.IPC_STAT), ident)
        except OSError as exc:
            raise self.error(exc, ident, target) from None

    def named(self, ident: int | None, key: Key | None) -> str:
        """Return an object's name for messages: ``queue key 0x000004d2 id 5``."""
        parts = [self.title]
        if key is not None:
            parts.append(f"key {key:#010x}")
        if ident is not None:
            parts.append(f"id {ident}")
        return " ".join(parts)

    def given(self, ident: int) -> tuple[S, Key | None]:
        """Return the object and the key for an id that the user passed.

        Raises:
            NotFound: no object has that id.
            TypeError: the id is not an int.
            InvalidArgument: the id is out of range.
        """
        ident = int_argument("id", ident)
        if not 0 <= ident <= _ID_MAX:
            message = f"id must be 0 to {_ID_MAX}, not {ident}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        found = self.find(ident)
        if found is None:
            raise self.missing(ident, None)
        return found, Key(found.key) if found.key else None

    def present(self, ident: int, key: Key) -> S:
        """Return an object whose id was just found by its key.

        Raises:
            Removed: the object was removed after that.
        """
        found = self.find(ident)
        if found is None:
            raise self.removed(self.named(ident, key))
        return found

    def missing(self, ident: int | None, key: Key | None, code: int = errno.EINVAL) -> NotFound:
        """Return the exception for an object that does not exist."""
        target = self.named(ident, key)
        return NotFound(f"no such {self.noun}", errno=code, op=self.call, target=target)

    def removed(self, target: str, code: int = errno.EIDRM) -> Removed:
        """Return the exception for an object that was removed.

        Args:
            target: the object.
            code: EIDRM from a call that waited, EINVAL from a call after the removal.
        """
        return Removed(f"the {self.noun} was removed", errno=code, op=self.call, target=target)

    def denied(
        self, ident: int, target: str, *, op: str = "", code: int = errno.EACCES
    ) -> AccessDenied:
        """Return the exception for a forbidden call, with the object's owner and mode."""
        found = self.find(ident)
        message = "permission denied"
        if found is not None:
            mode = found.mode & 0o777
            message += f": the owner is {user_name(found.uid)}, the mode {mode:04o}"
        return AccessDenied(message, errno=code, op=op or self.call, target=target, hint=self.hint)

    def error(self, exc: OSError, ident: int, target: str) -> IpcError:
        """Return the exception for a failed call of `call`."""
        code = exc.errno or errno.EIO
        if code in {errno.EACCES, errno.EPERM}:
            return self.denied(ident, target, code=code)
        if code in _REMOVED:
            return self.removed(target, code)
        return from_errno(code, op=self.call, target=target)


def table_of(cls: type[SysVObject]) -> Table[Any]:
    """Return the kernel's table that has the objects of a class, such as `SysVMessageQueue`."""
    return cls._table


class SysVObject(Handle):
    """A handle on a System V object: its id and key, its owner and mode."""

    _table: ClassVar[Table[Any]]
    _ident: int
    _key: Key | None

    @property
    def key(self) -> Key | None:
        """The key that finds the object; None for an object created with IPC_PRIVATE."""
        return self._key

    @property
    def id(self) -> int:
        """The identifier that the kernel gave the object."""
        return self._ident

    def chmod(self, mode: int) -> None:
        """Change the object's permission bits.

        Write permission is needed to send, to change a semaphore, and to attach for writing.

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
        """Change the object's owner, its group, or both.

        Args:
            uid: the new owner's user id; None keeps the old one.
            gid: the new group's id; None keeps the old one.

        Raises:
            InvalidArgument: a number is out of range.
            AccessDenied: the caller is neither owner nor creator.
            Removed: the object was removed.
            ClosedHandle: the handle is closed.
        """
        wanted = {"uid": uid, "gid": gid}
        self._change(**{name: value for name, value in wanted.items() if value is not None})

    def _change(self, **wanted: int) -> None:
        """Change some fields of the object's status (IPC_SET), and keep the others."""
        self._check_open(self._table.call)
        now = self._table.find(self._ident)
        if now is None:
            raise self._table.removed(self._target, errno.EINVAL)
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
        """Set the fields of a status that IPC_SET can set; may raise OSError and ValueError."""

    def _control_error(self, exc: OSError) -> IpcError:
        return self._table.error(exc, self._ident, self._target)

    @classmethod
    def remove(cls, key: int, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Remove the object that has a key, without opening it.

        Args:
            key: the object's key.
            missing_ok: do nothing if no object has that key; False by default.

        Raises:
            NotFound: no object has that key.
            AccessDenied: the caller is neither the object's owner nor its creator.
            InvalidArgument: `key` is out of range.

        Example:
            >>> from ipckit import SysVMessageQueue, SysVSemaphoreSet, SysVSharedMemory
            >>> for each in (SysVMessageQueue, SysVSemaphoreSet, SysVSharedMemory):
            ...     each.remove(0x4D2, missing_ok=True)
        """
        wanted, table = Key(key), cls._table
        ident: int | None = None
        try:
            ident = cls._find(wanted)
            cls._rmid(ident)
        except OSError as exc:
            code = exc.errno or errno.EIO
            if code == errno.ENOENT or code in _REMOVED:
                if missing_ok:
                    return
                raise table.missing(ident, wanted, code) from None
            target = table.named(ident, wanted)
            raise table.error(exc, -1 if ident is None else ident, target) from None

    @staticmethod
    @abstractmethod
    def _find(key: Key) -> int:
        """Return the id of the object that has a key; may raise OSError."""

    def _remove(self) -> None:
        try:
            self._rmid(self._ident)
        except OSError as exc:
            error = self._control_error(exc)
            if isinstance(error, Removed):
                code = error.errno or errno.EINVAL
                raise self._table.missing(self._ident, self._key, code) from None
            raise error from None

    @staticmethod
    @abstractmethod
    def _rmid(ident: int) -> None:
        """Remove the object of an id (IPC_RMID); may raise OSError."""

    @property
    def _target(self) -> str:
        return self._table.named(self._ident, self._key)
