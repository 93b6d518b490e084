"""POSIX named semaphores."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Self, final

import posix_ipc

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.bindings import BINDING_ERRORS, errno_of
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline, checked_timeout
from ipckit._core.descriptors import Descriptor, descriptor_error
from ipckit._core.files import LEASED, SHM, open_file, shm_error
from ipckit._core.handle import Capabilities, Handle, checked_mode, closed_handle
from ipckit._core.making import PATIENCE, find_or_make
from ipckit._core.public import public
from ipckit._core.taken import exists, file_use
from ipckit._core.trust import Trust
from ipckit.errors import (
    Corrupt,
    InvalidArgument,
    IpcError,
    NotFound,
    from_errno,
)
from ipckit.keys import Name

if TYPE_CHECKING:
    from collections.abc import Generator

_INSTEAD: Final = "System V semaphores do not need it"


@final
@public("ipckit.sem")
class PosixSemaphore(native.PosixSemaphoreBase, Handle):
    """A POSIX named semaphore.

    It has no owner in the kernel and no undo: if a process is killed, what it acquired stays
    acquired. Use a `SysVSemaphoreSet` if that matters.

    ``with sem:`` acquires and releases 1, like other semaphores in Python. `lifetime` closes the
    handle at the end of a block, and unlinks the semaphore if the handle owns it.

    Timeouts use the monotonic clock if the C library can (glibc 2.30 and later). If `monotonic` is
    false, setting the system time moves the deadlines.

    >>> from ipckit import PosixSemaphore
    >>> with PosixSemaphore.create(value=1).lifetime() as gate:
    ...     with gate:
    ...         print(gate.value)
    ...     print(gate.value)
    0
    1

    See sem_overview(7).
    """

    _factories = "PosixSemaphore.create, open or open_or_create"

    caps = Capabilities(
        pollable=False,
        timed=True,
        priorities=False,
        typed_receive=False,
        unlink_destroys_now=False,
    )

    monotonic: Final = bool(native.SEM_CLOCK_IS_MONOTONIC)

    def __init__(self, mapping: native.Mapping, name: Name, inode: int, *, owner: bool) -> None:
        self._name = name
        self._inode = inode
        self._mapping = mapping
        self._attach(mapping)
        Handle.__init__(self, owner=owner)

    # -- creating and finding ----------------------------------------------------------------------

    @classmethod
    def create(cls, name: str | None = None, value: int = 1, *, mode: int = 0o600) -> Self:
        """Create a semaphore, which the handle owns.

        Args:
            name: the name that finds it, such as ``"/gate"``, at most 251 bytes (255 with musl);
                by default a random one that is free.
            value: the initial value, 0 to 2147483647.
            mode: permission bits, 0 to 0o777. The umask does not apply.

        Returns:
            The handle of the new semaphore.

        Raises:
            AlreadyExists: a semaphore has that name.
            NotFound: another process unlinked it already, or the system has no /dev/shm.
            AccessDenied: the process has no write permission for /dev/shm.
            LimitReached: /dev/shm is full, or the process has reached RLIMIT_NOFILE.
            InvalidArgument: `name`, `value` or `mode` is out of range.

        See sem_open(3).
        """
        checked_mode(mode)
        value = _checked_value(value)
        wanted = Name.random() if name is None else _checked_name(name)
        created = cls._create(wanted, value, mode)
        if created is None:
            message = "another process already unlinked it"
            raise NotFound(message, errno=errno.ENOENT, op="sem_open", target=_describe(wanted))
        return created

    @classmethod
    def _create(cls, wanted: Name, value: int, mode: int) -> Self | None:
        """Create a semaphore; None if another process has unlinked it already."""
        try:
            native.sem_create(str(wanted), 0o600, value)
        except OSError as exc:
            raise _create_error(exc.errno or errno.EIO, wanted) from None
        try:
            with suppress(FileNotFoundError):
                # The umask may have removed permissions that opening needs. No other user can put
                # a link in its place, because the directory is sticky.
                os.chmod(_path(wanted), 0o600)  # noqa: PTH101 - a name, as the other calls take
            return cls._mapped(wanted, owner=True, mode=mode)
        except NotFound:
            return None  # another process unlinked it, so there is nothing to remove
        except BaseException:
            with suppress(*BINDING_ERRORS):  # another process may have unlinked it
                posix_ipc.unlink_semaphore(str(wanted))
            raise

    @classmethod
    def open(cls, name: str) -> Self:
        """Open an existing semaphore by its name. The handle does not own it.

        Args:
            name: the semaphore's name.

        Returns:
            The handle of the semaphore.

        Raises:
            NotFound: no semaphore has that name.
            AccessDenied: the caller lacks read or write permission.
            Corrupt: the file of that name in /dev/shm is not a semaphore.
            InvalidArgument: `name` is not a valid name.

        See sem_open(3).
        """
        return cls._mapped(_checked_name(name), owner=False)

    @classmethod
    def open_or_create(
        cls,
        name: str,
        value: int = 1,
        *,
        mode: int = 0o600,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> Self:
        """Open the semaphore that has a name, or create it. The handle owns one that it created.

        Args:
            name: the semaphore's name.
            value: the initial value of a new semaphore, 0 to 2147483647.
            mode: permission bits of a new semaphore, and the most that an existing one may allow.
            timeout: seconds to retry while other processes create and unlink it.
            owner_uid: a user id whose semaphore is accepted, besides this user's and root's.

        Returns:
            The handle of the semaphore.

        Raises:
            AccessDenied: the existing semaphore belongs to another user, or allows other users more
                than `mode`.
            Timeout: other processes kept creating and unlinking it until the deadline.
            IpcError: as for `create` and `open`.
        """
        deadline = Deadline(timeout)
        value = _checked_value(value)
        wanted, trust = _checked_name(name), Trust(owner_uid, checked_mode(mode))
        return find_or_make(
            lambda: cls._create(wanted, value, mode),
            lambda: cls._mapped(wanted, owner=False, trust=trust),
            deadline,
            op="sem_open",
            target=_describe(wanted),
        )

    @classmethod
    def _mapped(
        cls, name: Name, *, owner: bool, mode: int | None = None, trust: Trust | None = None
    ) -> Self:
        found = _open_file(name)
        fd = found.number
        try:
            if trust is not None:
                # Another user could truncate the file during the checks below.
                Trust(trust.owner_uid).check_file(fd, op="sem_open", target=_describe(name))
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size != native.SEM_T_SIZE:
                message = (
                    f"the file is not a semaphore: it has {status.st_size:,} bytes instead of "
                    f"{native.SEM_T_SIZE}"
                )
                raise Corrupt(message, errno=errno.EUCLEAN, op="sem_open", target=_describe(name))
            if mode is not None:
                os.fchmod(fd, mode)
            protection = mmap.PROT_READ | mmap.PROT_WRITE
            mapping = native.mmap(fd, 0, status.st_size, protection, mmap.MAP_SHARED)
            self = construct(cls, mapping, name, status.st_ino, owner=owner)
            try:
                _ = self.value  # raises Corrupt if the file has the size but not the contents
                if trust is not None:
                    trust.check_file(fd, op="sem_open", target=_describe(name))
            except BaseException:
                self.close()
                raise
        except IpcError:
            raise
        except OSError as exc:
            code = exc.errno or errno.EIO
            raise from_errno(code, op="sem_open", target=_describe(name)) from None
        finally:
            found.close()
        return self

    # -- facts -------------------------------------------------------------------------------------

    @property
    def name(self) -> Name:
        """The semaphore's name."""
        return self._name

    @contextmanager
    def lifetime(self) -> Generator[Self]:
        """Close the handle at the end of a ``with`` block, and unlink the semaphore if it owns it.

        For other handles ``with`` itself does this. For a semaphore it acquires and releases.

        Raises:
            ClosedHandle: the handle is closed already.
        """
        self._check_open("lifetime")
        try:
            yield self
        finally:
            Handle.__exit__(self, None, None, None)

    def _explain_op(self, exc: OSError | ValueError, op: str, timeout: float | None) -> IpcError:
        """Return the error for a failed operation. The native base calls this."""
        if not isinstance(exc, OSError):
            checked_timeout(timeout)
            return InvalidArgument(str(exc), errno=errno.EINVAL, op=op, target=self._target)
        if self._closed:
            return closed_handle(op, self._target)
        message = ""
        if exc.errno == errno.EAGAIN:
            message = "the semaphore is 0"
        elif exc.errno == errno.ETIMEDOUT:
            message = f"the semaphore was 0 for {timeout} s"
        elif exc.errno == errno.EOVERFLOW:
            message = f"the semaphore has its highest value, {native.SEM_VALUE_MAX}"
        elif exc.errno == errno.EUCLEAN:
            message = "the file has the size of a semaphore, but is not one"
        return from_errno(exc.errno or errno.EIO, op=op, target=self._target, message=message)

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        self._mapping.close()

    @classmethod
    def remove(cls, name: str, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Remove the semaphore that has a name, without opening it.

        Args:
            name: the semaphore's name.
            missing_ok: do nothing if there is no such semaphore; False by default.

        Raises:
            NotFound: there is no semaphore of that name.
            AccessDenied: another user owns it.
            InvalidArgument: `name` is invalid.

        Example:
            >>> PosixSemaphore.remove("/no-such-gate", missing_ok=True)

        See sem_unlink(3).
        """
        try:
            _unlink(_checked_name(name))
        except NotFound:
            if not missing_ok:
                raise

    def _remove(self) -> None:
        _unlink(self._name)

    def _still_ours(self) -> bool:
        try:
            return os.lstat(_path(self._name)).st_ino == self._inode
        except OSError:
            return True

    @property
    def _target(self) -> str:
        return _describe(self._name)

    def _size_text(self) -> str:
        return f"value {self.value}"

    def _reopen_args(self) -> tuple[Any, ...]:
        return (str(self._name),)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        return cls.open(*args)


def _checked_value(value: int) -> int:
    value = int_argument("value", value)
    if not 0 <= value <= native.SEM_VALUE_MAX:
        message = f"value must be 0 to {native.SEM_VALUE_MAX}, not {value}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return value


def _describe(name: Name) -> str:
    return f"semaphore {name}"


def _path(name: Name) -> str:
    return f"{SHM}/{native.SEM_FILE_PREFIX}{name[1:]}"


def _unlink(name: Name) -> None:
    try:
        posix_ipc.unlink_semaphore(str(name))
    except BINDING_ERRORS as exc:
        code = errno_of(exc)
        message = "no such semaphore" if code == errno.ENOENT else ""
        raise from_errno(code, op="sem_unlink", target=_describe(name), message=message) from None


def _checked_name(name: str) -> Name:
    wanted = Name(name)
    length = len(os.fsencode(wanted)) - 1
    if length > native.SEM_NAME_MAX:
        message = f"a semaphore's name must have at most {native.SEM_NAME_MAX} bytes, not {length}"
        raise InvalidArgument(message, errno=errno.ENAMETOOLONG, op="sem_open")
    return wanted


def _open_file(name: Name) -> Descriptor:
    """Open the semaphore's file. It is not opened by sem_open, which does not check its size."""
    try:
        return Descriptor(open_file(_path(name), os.O_RDWR | os.O_NOFOLLOW))
    except OSError as exc:
        raise _open_error(exc.errno or errno.EIO, name) from None


def _open_error(code: int, name: Name) -> IpcError:
    """Return the error for a semaphore that can't be opened."""
    target = _describe(name)
    error = shm_error(code, op="sem_open", target=target, creating=False, instead=_INSTEAD)
    if error is not None:
        return error
    if code in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
        message = "the file of that name is not a semaphore"
        return Corrupt(message, errno=code, op="sem_open", target=target)
    message = hint = ""
    if code == errno.EAGAIN:
        message = LEASED
    elif code == errno.ENOENT:
        message, hint = "no such semaphore", f'create it with PosixSemaphore.create("{name}")'
    elif code == errno.EACCES:
        hint = "a semaphore needs both read and write permission"
    return descriptor_error(code, op="sem_open", target=target, message=message, hint=hint)


def _create_error(code: int, name: Name) -> IpcError:
    """Return the error for a semaphore that can't be created."""
    target = _describe(name)
    error = shm_error(code, op="sem_open", target=target, creating=True, instead=_INSTEAD)
    if error is not None:
        return error
    message = hint = ""
    if code == errno.EEXIST:
        message, hint = exists("semaphore", "PosixSemaphore", f'"{name}"', file_use(_path(name)))
    return from_errno(code, op="sem_open", target=target, message=message, hint=hint)
