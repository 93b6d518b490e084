"""POSIX named semaphores."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Self

import posix_ipc

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.bindings import BINDING_ERRORS, from_binding
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline, checked_timeout
from ipckit._core.descriptors import Descriptor, descriptor_error
from ipckit._core.files import LEASED, SHM, open_file, shm_error
from ipckit._core.handle import Capabilities, Handle, checked_mode, closed_handle
from ipckit._core.making import PATIENCE, find_or_make
from ipckit._core.public import public
from ipckit._core.trust import Trust
from ipckit.errors import (
    AlreadyExists,
    Corrupt,
    InvalidArgument,
    IpcError,
    NotFound,
    from_errno,
)
from ipckit.keys import Name

if TYPE_CHECKING:
    from collections.abc import Generator

_VALUE_MAX: Final = 2**31 - 1
_NAME_MAX: Final = 251  # the C library puts "sem." before it
_PROT_READ_WRITE: Final = 3
_MAP_SHARED: Final = 1
_INSTEAD: Final = "System V semaphores need none"


@public("ipckit.sem")
class PosixSemaphore(native.PosixSemaphoreBase, Handle):
    """A POSIX named semaphore: a number that processes take from and give to.

    Make one with `create`, `open` or `open_or_create`. It has no owner in the kernel and no undo:
    what a process has taken when it is killed stays taken. Where that matters take a
    `SysVSemaphoreSet`.

    As other semaphores in Python, ``with sem:`` takes 1 and gives it back; it is `lifetime` that
    closes the handle at the end, and unlinks the semaphore if the handle owns it.

    Deadlines are on the monotonic clock where the C library can (glibc 2.30 and later, see
    `monotonic`); elsewhere setting the time of day moves them.

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

    # -- making and finding ------------------------------------------------------------------------

    @classmethod
    def create(cls, name: str | None = None, value: int = 1, *, mode: int = 0o600) -> Self:
        """Make a new semaphore, which the handle owns.

        Args:
            name: the name to find it by, such as ``"/gate"``, up to 251 bytes; None picks a free
                one.
            value: what it begins with, 0 to 2147483647.
            mode: permission bits, 0 to 0o777; the umask has no say.

        Raises:
            AlreadyExists: there is a semaphore of that name.
            NotFound: another process has unlinked it already, or the system has no /dev/shm.
            AccessDenied: /dev/shm does not let this process write.
            LimitReached: /dev/shm has no room, or RLIMIT_NOFILE is used up.
            InvalidArgument: `name`, `value` or `mode` is out of range.

        See sem_open(3).
        """
        checked_mode(mode)
        value = _checked_value(value)
        wanted = Name.random() if name is None else _checked_name(name)
        made = cls._made(wanted, value, mode)
        if made is None:
            message = "another process has unlinked it already"
            raise NotFound(message, errno=errno.ENOENT, op="sem_open", target=_describe(wanted))
        return made

    @classmethod
    def _made(cls, wanted: Name, value: int, mode: int) -> Self | None:
        """A new semaphore; None where another process has unlinked it already."""
        try:
            native.sem_create(str(wanted), 0o600, value)
        except OSError as exc:
            raise _create_error(exc, wanted) from None
        try:
            with suppress(FileNotFoundError):
                # The umask may have taken what opening it takes. The sticky directory lets nobody
                # else put a link in its place.
                os.chmod(_path(wanted), 0o600)  # noqa: PTH101 - a name, as the other calls take
            return cls._mapped(wanted, owner=True, mode=mode)
        except NotFound:
            return None  # unlinked meanwhile, so there is nothing to remove
        except BaseException:
            with suppress(*BINDING_ERRORS):  # unlinked meanwhile
                posix_ipc.unlink_semaphore(str(wanted))
            raise

    @classmethod
    def open(cls, name: str) -> Self:
        """Find a semaphore by its name; never makes one, never owns it.

        Args:
            name: the semaphore's name.

        Raises:
            NotFound: there is no semaphore of that name.
            AccessDenied: the mode does not allow both reading and writing.
            Corrupt: what has that name in /dev/shm is no semaphore.
            InvalidArgument: `name` can't be one.

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
        """Find a semaphore, or make it; the handle owns it only if it made it.

        Args:
            name: the semaphore's name.
            value: what one that is made begins with.
            mode: permission bits of one that is made, and the widest of one that is found.
            timeout: seconds to keep trying while others make and unlink it meanwhile.
            owner_uid: a user whose semaphore is accepted beside this user's and root's.

        Raises:
            AccessDenied: the semaphore that is there belongs to another user, or lets other users
                do more than `mode`; also as `create` and `open`.
            Timeout: others made and unlinked it until the deadline.
            IpcError: as `create` and `open`.
        """
        deadline = Deadline(timeout)
        value = _checked_value(value)
        wanted, trust = _checked_name(name), Trust(owner_uid, checked_mode(mode))
        return find_or_make(
            lambda: cls._made(wanted, value, mode),
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
                # Another user could cut the file while it is looked at.
                Trust(trust.owner_uid).check_file(fd, op="sem_open", target=_describe(name))
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size != native.SEM_T_SIZE:
                message = (
                    f"the file has {status.st_size:,} bytes and a semaphore "
                    f"{native.SEM_T_SIZE}: it is none"
                )
                raise Corrupt(message, errno=errno.EUCLEAN, op="sem_open", target=_describe(name))
            if mode is not None:
                os.fchmod(fd, mode)
            mapping = native.mmap(fd, 0, status.st_size, _PROT_READ_WRITE, _MAP_SHARED)
            self = construct(cls, mapping, name, status.st_ino, owner=owner)
            try:
                _ = self.value  # Corrupt for 32 bytes that are no semaphore's
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
        """The name that finds the semaphore."""
        return self._name

    @contextmanager
    def lifetime(self) -> Generator[Self]:
        """Close the handle at the end of a ``with`` block; unlink the semaphore too if it owns it.

        What ``with`` itself does for other handles; here that takes and gives back.
        """
        self._check_open("lifetime")
        try:
            yield self
        finally:
            Handle.__exit__(self, None, None, None)

    def _explain_op(self, exc: OSError | ValueError, op: str, timeout: float | None) -> IpcError:
        """Called by a native operation that failed."""
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
            message = f"the semaphore has its highest value, {_VALUE_MAX}"
        elif exc.errno == errno.EUCLEAN:
            message = "the file has a semaphore's size, but holds none"
        return from_errno(exc.errno or errno.EIO, op=op, target=self._target, message=message)

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        self._mapping.close()

    def _remove(self) -> None:
        try:
            posix_ipc.unlink_semaphore(str(self._name))
        except BINDING_ERRORS as exc:
            error = from_binding(exc, op="sem_unlink", target=self._target)
            if error.errno == errno.ENOENT:
                error.strerror = "no such semaphore"
            raise error from None

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
    if not 0 <= value <= _VALUE_MAX:
        message = f"value is {value}; it takes 0 to {_VALUE_MAX}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return value


def _describe(name: Name) -> str:
    return f"semaphore {name}"


def _path(name: Name) -> str:
    return f"{SHM}/sem.{name[1:]}"


def _checked_name(name: str) -> Name:
    wanted = Name(name)
    length = len(os.fsencode(wanted)) - 1
    if length > _NAME_MAX:
        message = f"a semaphore's name is at most {_NAME_MAX} bytes, and this has {length}"
        raise InvalidArgument(message, errno=errno.ENAMETOOLONG, op="sem_open")
    return wanted


def _open_file(name: Name) -> Descriptor:
    """The semaphore's file; the C library's sem_open would not look at its size."""
    try:
        return Descriptor(open_file(_path(name), os.O_RDWR | os.O_NOFOLLOW))
    except OSError as exc:
        code = exc.errno or errno.EIO
    target = _describe(name)
    error = shm_error(code, op="sem_open", target=target, creating=False, instead=_INSTEAD)
    if error is not None:
        raise error
    message = LEASED if code == errno.EAGAIN else ""
    error = descriptor_error(code, op="sem_open", target=target, message=message)
    if code == errno.ENOENT:
        error.strerror = "no such semaphore"
        error.hint = f'make it with PosixSemaphore.create("{name}")'
    elif code == errno.EACCES:
        error.hint = "a semaphore takes both the right to read and the right to write"
    elif code in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
        message = "what has that name is no semaphore"
        raise Corrupt(message, errno=code, op="sem_open", target=_describe(name))
    raise error


def _create_error(exc: OSError, name: Name) -> IpcError:
    target = _describe(name)
    code = exc.errno or errno.EIO
    place = shm_error(code, op="sem_open", target=target, creating=True, instead=_INSTEAD)
    if place is not None:
        return place
    error = from_errno(code, op="sem_open", target=target)
    if isinstance(error, AlreadyExists):
        error.strerror = "the semaphore exists already"
        error.hint = f'find it with PosixSemaphore.open("{name}"), or use open_or_create'
    return error
