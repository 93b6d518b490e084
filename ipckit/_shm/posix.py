"""POSIX shared memory."""

from __future__ import annotations

import errno
import os
from typing import Any, Final, Self

import posix_ipc

from ipckit._core.bindings import BINDING_ERRORS, from_binding
from ipckit._core.construct import construct
from ipckit._core.creator_mark import mark
from ipckit._core.deadline import Deadline
from ipckit._core.descriptors import (
    Descriptor,
    checked_fd,
    duplicate_for_child,
    handed_over,
    identity,
    is_spawning,
    name_descriptors,
    reopened,
)
from ipckit._core.fd_access import check_access, check_seal
from ipckit._core.files import LEASED, SHM, open_file, path_of_fd, shm_error, unlink_own
from ipckit._core.handle import checked_mode
from ipckit._core.making import PATIENCE, find_or_make
from ipckit._core.public import public
from ipckit._core.trust import Trust
from ipckit._shm.mapping import READ, READ_WRITE, SHARED, allocate, map_file, populate
from ipckit._shm.memory import Memory, checked_size
from ipckit.errors import (
    AlreadyExists,
    InvalidArgument,
    IpcError,
    NotFound,
    Timeout,
    from_errno,
)
from ipckit.keys import Name

_FULL: Final = (
    "a container's /dev/shm is often 64 MB: docker run --shm-size=1g, or an emptyDir of medium "
    "Memory in Kubernetes; MemFd does not count there"
)
_INSTEAD: Final = "MemFd needs none"


@public("ipckit.shm")
class PosixSharedMemory(Memory):
    """A POSIX shared memory object, mapped into this process.

    Make one with `create`, `open`, `open_or_create` or `from_fd`. Fresh memory is zeros, and really
    there: a full /dev/shm is an error when it is made, not a SIGBUS when it is touched. It stays
    until it is unlinked and the last who has it mapped is gone; multiprocessing's resource
    tracker never hears of it.

    See shm_overview(7).
    """

    _factories = "PosixSharedMemory.create, open, open_or_create or from_fd"

    _passed_as = "PosixSharedMemory"

    _descriptor: Descriptor

    def __init__(
        self, descriptor: Descriptor, name: Name | None, *, owner: bool, readonly: bool
    ) -> None:
        self._name = name
        self._descriptor = descriptor
        fd = descriptor.number
        status = os.fstat(fd)
        protection = READ if readonly else READ_WRITE
        mapping = map_file(fd, status.st_size, protection, SHARED, _describe(name))
        if owner:
            populate(mapping)
        self._file = status.st_dev, status.st_ino
        super().__init__(mapping, owner=owner)

    # -- making and finding ------------------------------------------------------------------------

    @classmethod
    def create(cls, name: str | None = None, size: int | None = None, *, mode: int = 0o600) -> Self:
        """Make new memory of zeros, which the handle owns.

        Args:
            name: the name to find it by, such as ``"/frames"``; None picks a free one.
            size: bytes, 1 or more; required.
            mode: permission bits, 0 to 0o777; the umask has no say.

        Raises:
            AlreadyExists: there is an object of that name.
            LimitReached: /dev/shm has no room for it, or RLIMIT_NOFILE is used up.
            NotFound: the system has no /dev/shm.
            AccessDenied: /dev/shm does not let this process write.
            InvalidArgument: `name`, `size` or `mode` is out of range.

        See shm_open(3) and posix_fallocate(3).
        """
        wanted_size = checked_size(size)
        checked_mode(mode)
        wanted = Name.random() if name is None else Name(name)
        try:
            # As shm_open does.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            made = Descriptor(os.open(SHM + wanted, flags, 0o600))
        except OSError as exc:
            raise _open_error(exc, wanted, creating=True) from None
        file = identity(made.number)
        try:
            # Who opens it meanwhile waits for it to have a size, which comes last and at once.
            mark(made.number, wanted[1:])
            os.fchmod(made.number, mode)
            allocate(made.number, wanted_size, _describe(wanted), _FULL)
            return construct(cls, made, wanted, owner=True, readonly=False)
        except BaseException:
            made.close()
            unlink_own(SHM + wanted, file)
            raise

    @classmethod
    def open(cls, name: str, *, readonly: bool = False, timeout: float | None = 1.0) -> Self:
        """Find memory by its name and map it; never makes, resizes or owns it.

        Args:
            name: the object's name.
            readonly: map it for reading only.
            timeout: seconds to wait for its maker, where it has no size yet.

        Raises:
            NotFound: there is no object of that name.
            AccessDenied: the mode forbids it.
            Timeout: it had no size until the deadline; its maker may have died.
            LimitReached: RLIMIT_NOFILE is used up.
            InvalidArgument: `name` can't be one.

        See shm_open(3).
        """
        return cls._found(Name(name), Deadline(timeout), readonly=readonly)

    @classmethod
    def _found(
        cls, name: Name, deadline: Deadline, *, readonly: bool = False, trust: Trust | None = None
    ) -> Self:
        found = _open(name, readonly=readonly)
        try:
            if trust is not None:
                trust.check_file(found.number, op="shm_open", target=_describe(name))
            _await_size(found.number, name, deadline)
            return construct(cls, found, name, owner=False, readonly=readonly)
        except BaseException:
            found.close()
            raise

    @classmethod
    def open_or_create(
        cls,
        name: str,
        size: int,
        *,
        mode: int = 0o600,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> Self:
        """Find memory, or make it; the handle owns it only if it made it.

        Args:
            name: the object's name.
            size: bytes of an object that is made, and the least of one that is found.
            mode: permission bits of an object that is made, and the widest of one that is found.
            timeout: seconds to wait for somebody else who is making it.
            owner_uid: a user whose object is accepted beside this user's and root's.

        Raises:
            InvalidArgument: the object that is there is smaller than `size`.
            AccessDenied: the object that is there belongs to another user, or lets other users do
                more than `mode`; also as `create` and `open`.
            Timeout: somebody else began it and did not finish until the deadline.
            IpcError: as `create` and `open`.
        """
        deadline = Deadline(timeout)
        wanted, trust = Name(name), Trust(owner_uid, checked_mode(mode))
        found = find_or_make(
            lambda: cls.create(name, size, mode=mode),
            lambda: cls._found(wanted, deadline, trust=trust),
            deadline,
            op="shm_open",
            target=_describe(wanted),
        )
        if found.size < size:
            found.close()
            message = f"the object has {found.size:,} bytes, and {size:,} are wanted"
            raise InvalidArgument(message, errno=errno.EINVAL, target=found._target)
        return found

    @classmethod
    def from_fd(cls, fd: int, *, readonly: bool = False) -> Self:
        """Map memory whose descriptor came from elsewhere; never owns the object.

        The handle takes the descriptor over and closes it. Where this fails, the descriptor is
        still the caller's. The sender of a descriptor can cut what has no seal; `receive_handle`
        looks at whose it is, and this method trusts the caller. For a memfd take `MemFd.from_fd`.

        Args:
            fd: a descriptor of shared memory.
            readonly: map it for reading only.

        Raises:
            InvalidArgument: `fd` is closed, is not a regular file, has no size, or is a memfd
                without the seal SHRINK.
            AccessDenied: the descriptor is read-only and `readonly` is False, or it is write-only.
        """
        name: Name | None = None
        target = f"the shared memory of descriptor {checked_fd(fd)}"
        check_access(fd, write=not readonly, target=target)
        check_seal(fd, target)
        size = os.fstat(fd).st_size
        shown = path_of_fd(fd)
        if shown.startswith("/dev/shm/") and not shown.endswith(" (deleted)"):  # noqa: S108
            name = Name(shown.removeprefix("/dev/shm"))  # noqa: S108
        if size == 0:
            message = f"descriptor {fd} has no bytes to map"
            raise InvalidArgument(message, errno=errno.EINVAL, target=_describe(name))
        return handed_over(
            Descriptor(fd, owned=False),
            lambda memory: construct(cls, memory, name, owner=False, readonly=readonly),
        )

    # -- facts and changes -------------------------------------------------------------------------

    @property
    def name(self) -> Name | None:
        """The name that finds the object; None for a descriptor of an unlinked one."""
        return self._name

    def fileno(self) -> int:
        """The descriptor, which stays the handle's.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("fileno")
        return self._descriptor.number

    def resize(self, size: int, *, shrink: bool = False) -> None:
        """Change the object's size, and map it anew.

        Arrays and views that exist stay good, over the old size. Other handles, here and
        elsewhere, see the new size after `refresh`.

        Args:
            size: bytes, 1 or more; new ones are zeros.
            shrink: really cut it where `size` is below the present one. Every process that has
                it mapped is then killed by SIGBUS when it touches what was cut off.

        Raises:
            InvalidArgument: `size` is smaller, and `shrink` is False.
            IpcError: with errno EBUSY, arrays, views or other handles of this process reach into
                what would be cut off.
            LimitReached: /dev/shm has no room.
            AccessDenied: the handle is readonly.
            ClosedHandle: the handle is closed.
        """
        self._check_open("resize")
        wanted = checked_size(size)
        if self.readonly:
            message = "the handle is readonly"
            raise from_errno(errno.EACCES, op="resize", target=self._target, message=message)
        fd = self._descriptor.number
        now = os.fstat(fd).st_size
        if wanted < now:
            if not shrink:
                message = f"{wanted:,} bytes are fewer than the {now:,} it has"
                hint = "shrink=True cuts it, and kills whoever touches the rest with SIGBUS"
                raise InvalidArgument(
                    message, errno=errno.EINVAL, op="resize", target=self._target, hint=hint
                )
            before = min(self.size, now)
            self._cut(fd, wanted, lambda: self._map(wanted), lambda: self._map(before))
            return
        if wanted > now:
            allocate(fd, wanted, self._target, _FULL)
        self.refresh()

    def refresh(self) -> None:
        """Map the object anew, at the size that it has now; `size` is then that.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("refresh")
        size = os.fstat(self._descriptor.number).st_size
        if size != self.size:
            self._map(size)

    def _map(self, size: int) -> None:
        protection = READ if self.readonly else READ_WRITE
        mapping = map_file(self._descriptor.number, size, protection, SHARED, self._target)
        old, self._mapping = self._mapping, mapping
        old.close()

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        super()._release()
        self._descriptor.close()

    def _remove(self) -> None:
        if self._name is None:
            raise NotFound("it was unlinked already", op="shm_unlink", target=self._target)
        try:
            posix_ipc.unlink_shared_memory(str(self._name))
        except BINDING_ERRORS as exc:
            raise from_binding(exc, op="shm_unlink", target=self._target) from None

    def _still_ours(self) -> bool:
        try:
            found = _open(self._name or Name("-"), readonly=True)
        except IpcError:
            return True
        try:
            return identity(found.number) == self._file  # our own may be closed by now
        finally:
            found.close()

    @property
    def _target(self) -> str:
        return _describe(self._name)

    def _reopen_args(self) -> tuple[Any, ...]:
        # A name that leads nowhere would fail in the process that unpickles it, and break a pool.
        number = self._descriptor.number
        unlinked = self._name is None or os.fstat(number).st_nlink == 0
        if is_spawning() or unlinked:
            return (duplicate_for_child(number), self.readonly)
        return (str(self._name), self.readonly)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        found, readonly = args
        if isinstance(found, str):
            return cls.open(found, readonly=readonly)
        return reopened(found.detach(), lambda fd: cls.from_fd(fd, readonly=readonly))


def _describe(name: Name | None) -> str:
    return "unlinked shared memory" if name is None else f"shared memory {name}"


def _open_error(exc: OSError, name: Name, *, creating: bool = False) -> IpcError:
    target = _describe(name)
    code = exc.errno or errno.EIO
    error = from_errno(code, op="shm_open", target=target)
    place = shm_error(code, op="shm_open", target=target, creating=creating, instead=_INSTEAD)
    if place is not None:
        return place
    if isinstance(error, NotFound):
        error.strerror = "no such shared memory"
        error.hint = f'make it with PosixSharedMemory.create("{name}", size)'
    elif isinstance(error, AlreadyExists):
        error.strerror = "it exists already"
        error.hint = f'find it with PosixSharedMemory.open("{name}"), or use open_or_create'
    elif error.errno == errno.EAGAIN:
        error.strerror = LEASED
    elif error.errno == errno.EACCES:
        error.hint = "the owner can allow it with a wider mode; readonly=True asks for less"
    return name_descriptors(error)


def _open(name: Name, *, readonly: bool) -> Descriptor:
    try:
        # As shm_open does; but posix_ipc waits for the end of a lease while it keeps the GIL.
        flags = os.O_RDONLY if readonly else os.O_RDWR
        return Descriptor(open_file(SHM + name, flags | os.O_NOFOLLOW))
    except OSError as exc:
        raise _open_error(exc, name) from None


def _await_size(fd: int, name: Name, deadline: Deadline) -> None:
    """Wait until an object's maker has given it its size; the kernel tells nobody when."""
    for _ in deadline.looks():
        status = os.fstat(fd)
        if status.st_size:
            return
        if status.st_nlink == 0:
            message = "its maker gave up and unlinked it"
            raise NotFound(message, errno=errno.ENOENT, op="shm_open", target=_describe(name))
    message = "it has no size yet: its maker is slow, or died"
    raise Timeout(message, errno=errno.ETIMEDOUT, op="shm_open", target=_describe(name))
