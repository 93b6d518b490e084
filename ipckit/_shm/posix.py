"""PosixSharedMemory: an object in /dev/shm, found by a name, and mapped into this process."""

from __future__ import annotations

import errno
import os
from typing import Any, Final, Self, final

import posix_ipc

from ipckit._core.bindings import BINDING_ERRORS, from_binding
from ipckit._core.construct import construct
from ipckit._core.creator_mark import mark
from ipckit._core.deadline import Deadline
from ipckit._core.descriptors import (
    Descriptor,
    checked_fd,
    descriptor_error,
    duplicate_for_child,
    handed_over,
    identity,
    is_spawning,
    reopened,
)
from ipckit._core.fd_access import check_access, check_seal
from ipckit._core.files import LEASED, SHM, open_file, path_of_fd, shm_error, unlink_own
from ipckit._core.handle import checked_mode
from ipckit._core.making import PATIENCE, find_or_make
from ipckit._core.public import public
from ipckit._core.taken import exists, file_use
from ipckit._core.trust import Trust
from ipckit._shm.allocation import allocate, checked_size
from ipckit._shm.mapping import READ, READ_WRITE, SHARED, map_file, populate
from ipckit._shm.memory import SHRINK_HINT, Memory
from ipckit.errors import (
    InvalidArgument,
    IpcError,
    NotFound,
    Timeout,
    from_errno,
)
from ipckit.keys import Name

_FULL: Final = (
    "a container's /dev/shm is often 64 MB: docker run --shm-size=1g, or an emptyDir of medium "
    "Memory in Kubernetes; MemFd does not count against it"
)
_INSTEAD: Final = "MemFd does not need it"


@final
@public("ipckit.shm")
class PosixSharedMemory(Memory):
    """A POSIX shared memory object, mapped into this process.

    Create one with `create`, `open`, `open_or_create` or `from_fd`. New memory is zeros, and all of
    it is allocated: if /dev/shm is full, `create` raises an error, and no SIGBUS follows later. The
    object stays until it is unlinked and the last process has unmapped it. multiprocessing's
    resource tracker does not know it.

    Example:
        >>> from ipckit import PosixSharedMemory
        >>> with PosixSharedMemory.create(size=4096) as memory:  # with a free name
        ...     memory.write(b"hello")
        ...     with PosixSharedMemory.open(memory.name, readonly=True) as again:
        ...         again.read(5)
        5
        b'hello'

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

    # -- creating and opening ----------------------------------------------------------------------

    @classmethod
    def create(cls, name: str | None = None, size: int | None = None, *, mode: int = 0o600) -> Self:
        """Create memory of zeros; the handle owns it.

        Args:
            name: the object's name, such as ``"/frames"``; None (the default) picks a free one.
            size: bytes, 1 or more; required.
            mode: permission bits, 0 to 0o777, by default 0o600; the umask has no effect.

        Returns:
            The handle. Leaving its ``with`` block unlinks the object.

        Raises:
            AlreadyExists: the name is in use.
            LimitReached: /dev/shm is full, or RLIMIT_NOFILE or RLIMIT_FSIZE is reached.
            NotFound: the system has no /dev/shm.
            AccessDenied: this process may not write /dev/shm.
            TypeError: `size` is missing, or an argument has the wrong type.
            InvalidArgument: `name`, `size` or `mode` is out of range.

        See shm_open(3) and posix_fallocate(3).
        """
        wanted_size = checked_size(size)
        checked_mode(mode)
        wanted = Name.random() if name is None else Name(name)
        try:
            # As shm_open does.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            created = Descriptor(os.open(SHM + wanted, flags, 0o600))
        except OSError as exc:
            raise _open_error(exc, wanted, creating=True) from None
        file = identity(created.number)
        try:
            # A process that opens it before `allocate` waits until it has a size. `allocate` sets
            # the whole size in one step, after everything else is ready.
            mark(created.number, wanted[1:])
            os.fchmod(created.number, mode)
            allocate(created.number, wanted_size, _describe(wanted), _FULL)
            return construct(cls, created, wanted, owner=True, readonly=False)
        except BaseException:
            created.close()
            unlink_own(SHM + wanted, file)
            raise

    @classmethod
    def open(cls, name: str, *, readonly: bool = False, timeout: float | None = 1.0) -> Self:
        """Map an existing object; never creates, resizes or owns it.

        Args:
            name: the object's name.
            readonly: map it for reading only, by default False.
            timeout: seconds to wait until its creator has set its size, by default 1; None waits
                for ever.

        Raises:
            NotFound: there is no object of that name.
            AccessDenied: the object's mode forbids it.
            Timeout: the object still has no size; its creator may have died.
            LimitReached: RLIMIT_NOFILE is reached, or no address space is left.
            InvalidArgument: `name` is invalid.

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
        """Map an object, or create it; the handle owns it only if it created it.

        Args:
            name: the object's name.
            size: bytes of a new object, and the least size of an existing one.
            mode: permission bits of a new object, by default 0o600. An existing object must not
                give other users more rights.
            timeout: seconds to wait for another process that creates it, by default 1; None waits
                for ever.
            owner_uid: a user whose object is accepted, besides this user and root.

        Raises:
            InvalidArgument: the existing object is smaller than `size`.
            AccessDenied: the existing object belongs to another user, or gives other users more
                rights than `mode`; also as for `create` and `open`.
            Timeout: another process created it, but did not set its size before the deadline.
            IpcError: as for `create` and `open`.

        Example:
            >>> from ipckit import PosixSharedMemory
            >>> with PosixSharedMemory.open_or_create("/ipckit-example", 4096) as memory:
            ...     memory.owner
            True

        See shm_open(3).
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
            message = f"the object has {found.size:,} bytes, and {size:,} were requested"
            raise InvalidArgument(message, errno=errno.EINVAL, target=found._target)
        return found

    @classmethod
    def from_fd(cls, fd: int, *, readonly: bool = False) -> Self:
        """Map memory whose descriptor this process received; never owns the object.

        The handle takes over the descriptor and closes it. If this method raises, the caller still
        owns the descriptor. Memory without seals can be shrunk by its sender, which this method
        does not check; `receive_handle` checks the owner. For a memfd use `MemFd.from_fd`.

        Args:
            fd: a descriptor of shared memory.
            readonly: map it for reading only, by default False.

        Raises:
            InvalidArgument: `fd` is closed, is not a regular file, is empty, or is a memfd without
                the seal SHRINK.
            AccessDenied: the descriptor is read-only and `readonly` is False, or it is write-only.

        See mmap(2).
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
            message = f"descriptor {fd} is an empty file: it has no bytes to map"
            raise InvalidArgument(message, errno=errno.EINVAL, target=_describe(name))
        return handed_over(
            Descriptor(fd, owned=False),
            lambda memory: construct(cls, memory, name, owner=False, readonly=readonly),
        )

    # -- facts and changes -------------------------------------------------------------------------

    @property
    def name(self) -> Name | None:
        """The object's name; None if the object was unlinked before `from_fd`."""
        return self._name

    def fileno(self) -> int:
        """Return the descriptor; the handle closes it.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("fileno")
        return self._descriptor.number

    def resize(self, size: int, *, shrink: bool = False) -> None:
        """Change the object's size, and map all of it.

        Existing arrays and views stay valid, over the old size. Other handles, in this process and
        in others, see the new size after `refresh`.

        Args:
            size: the new size in bytes, 1 or more; new bytes are zeros.
            shrink: allow the object to be shrunk, by default False. A process that then accesses
                the removed bytes is killed by SIGBUS.

        Raises:
            InvalidArgument: `size` is smaller, and `shrink` is False.
            IpcError: with errno EBUSY, arrays, views or other handles of this process use the bytes
                that would be removed.
            LimitReached: /dev/shm is full.
            AccessDenied: the handle is readonly.
            ClosedHandle: the handle is closed.

        See ftruncate(2) and posix_fallocate(3).
        """
        self._check_open("resize")
        wanted = checked_size(size)
        if self.readonly:
            message = "the handle was opened readonly"
            raise from_errno(errno.EACCES, op="resize", target=self._target, message=message)
        fd = self._descriptor.number
        now = os.fstat(fd).st_size
        if wanted < now:
            if not shrink:
                message = f"{wanted:,} bytes are fewer than the {now:,} of the object"
                raise self._invalid("resize", message, SHRINK_HINT)
            before = min(self.size, now)
            self._shrink(fd, wanted, lambda: self._map(wanted), lambda: self._map(before))
            return
        if wanted > now:
            allocate(fd, wanted, self._target, _FULL)
        self.refresh()

    def refresh(self) -> None:
        """Map the object again at its present size, which another handle may have changed.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("refresh")
        size = os.fstat(self._descriptor.number).st_size
        if size != self.size:
            self._map(size)

    def _map(self, size: int) -> None:
        """Replace the mapping by one of another size."""
        protection = READ if self.readonly else READ_WRITE
        fd = self._descriptor.number
        self._replace(map_file(fd, size, protection, SHARED, self._target))

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        super()._release()
        self._descriptor.close()

    @classmethod
    def remove(cls, name: str, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Remove the object that has a name, without opening it.

        Args:
            name: the object's name.
            missing_ok: do nothing if there is no such object; False by default.

        Raises:
            NotFound: there is no object of that name.
            AccessDenied: another user owns it.
            InvalidArgument: `name` is invalid.

        Example:
            >>> PosixSharedMemory.remove("/no-such-memory", missing_ok=True)

        See shm_unlink(3).
        """
        try:
            _unlink(Name(name))
        except NotFound:
            if not missing_ok:
                raise

    def _remove(self) -> None:
        if self._name is None:
            raise NotFound(
                "the shared memory was already unlinked", op="shm_unlink", target=self._target
            )
        _unlink(self._name)

    def _still_ours(self) -> bool:
        try:
            found = _open(self._name or Name("-"), readonly=True)
        except IpcError:
            return True
        try:
            return identity(found.number) == self._file  # the handle's descriptor may be closed
        finally:
            found.close()

    @property
    def _target(self) -> str:
        return _describe(self._name)

    def _reopen_args(self) -> tuple[Any, ...]:
        # The name of an unlinked object would raise in the process that unpickles the handle, and
        # that breaks a pool.
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


def _unlink(name: Name) -> None:
    try:
        posix_ipc.unlink_shared_memory(str(name))
    except BINDING_ERRORS as exc:
        error = from_binding(exc, op="shm_unlink", target=_describe(name))
        if isinstance(error, NotFound):
            message = "no such shared memory"
            error = NotFound(message, errno=errno.ENOENT, op=error.op, target=error.target)
        raise error from None


def _open_error(exc: OSError, name: Name, *, creating: bool = False) -> IpcError:
    target = _describe(name)
    code = exc.errno or errno.EIO
    place = shm_error(code, op="shm_open", target=target, creating=creating, instead=_INSTEAD)
    if place is not None:
        return place
    message = hint = ""
    if code == errno.ENOENT:
        message = "no such shared memory"
        hint = f'create it with PosixSharedMemory.create("{name}", size)'
    elif code == errno.EEXIST:
        use = file_use(SHM + name)
        message, hint = exists("shared memory", "PosixSharedMemory", f'"{name}"', use)
    elif code == errno.EAGAIN:
        message = LEASED
    elif code == errno.EACCES:
        hint = "the owner can allow it with a wider mode; readonly=True asks for less"
    return descriptor_error(code, op="shm_open", target=target, message=message, hint=hint)


def _open(name: Name, *, readonly: bool) -> Descriptor:
    try:
        # As shm_open(3) does. posix_ipc would keep the GIL while it waits for the end of a lease.
        flags = os.O_RDONLY if readonly else os.O_RDWR
        return Descriptor(open_file(SHM + name, flags | os.O_NOFOLLOW))
    except OSError as exc:
        raise _open_error(exc, name) from None


def _await_size(fd: int, name: Name, deadline: Deadline) -> None:
    """Wait until an object's creator has set its size; the kernel has no notification for it."""
    for _ in deadline.looks():
        status = os.fstat(fd)
        if status.st_size:
            return
        if status.st_nlink == 0:
            message = "its creator failed to allocate it, and unlinked it"
            raise NotFound(message, errno=errno.ENOENT, op="shm_open", target=_describe(name))
    message = "it has no size yet: its creator is slow, or died"
    raise Timeout(message, errno=errno.ETIMEDOUT, op="shm_open", target=_describe(name))
