"""MemFd: memory without a name, passed to other processes as a descriptor, with seals."""

from __future__ import annotations

import enum
import errno
import fcntl
import os
from typing import Any, Final, Self, final

import ipckit._native as native
from ipckit._core.construct import construct
from ipckit._core.descriptors import (
    Descriptor,
    checked_fd,
    descriptor_error,
    duplicate_for_child,
    handed_over,
    reopened,
)
from ipckit._core.files import path_of_fd
from ipckit._core.public import public
from ipckit._shm.allocation import allocate, check_memory, checked_size
from ipckit._shm.mapping import READ, READ_WRITE, SHARED, map_file, populate
from ipckit._shm.memory import Memory
from ipckit.errors import InvalidArgument, IpcError, NotFound, from_errno

_LABEL_MAX: Final = 249


@public("ipckit.shm")
class Seal(enum.IntFlag):
    """What no process can do to a memfd any more; a seal cannot be removed.

    Attributes:
        SEAL: add another seal.
        SHRINK: shrink it.
        GROW: grow it.
        WRITE: write it.
        FUTURE_WRITE: write it, except through mappings that exist.
        EXEC: change whether it is executable (Linux 6.3).

    Example:
        >>> from ipckit import MemFd, Seal
        >>> with MemFd.create("doc", 4096) as memory:
        ...     Seal.SHRINK in memory.seals
        True

    See fcntl(2), F_ADD_SEALS.
    """

    SEAL = native.F_SEAL_SEAL
    SHRINK = native.F_SEAL_SHRINK
    GROW = native.F_SEAL_GROW
    WRITE = native.F_SEAL_WRITE
    FUTURE_WRITE = native.F_SEAL_FUTURE_WRITE
    EXEC = native.F_SEAL_EXEC


_NO_WRITE: Final = Seal.WRITE | Seal.FUTURE_WRITE
# Added after the creator has mapped the memory, and all in one call: after SEAL none can be added.
_ADDED_LAST: Final = _NO_WRITE | Seal.SEAL


@final
@public("ipckit.shm")
class MemFd(Memory):
    """Anonymous memory with a descriptor; the kernel frees it when the last process closes it.

    Create one with `create`. Pass its descriptor to another process over a UNIX socket, and use
    `from_fd` there. It has no name and does not count against /dev/shm, and a crash leaves nothing
    behind. Seals protect both sides: with SHRINK the receiver is safe from SIGBUS, with WRITE the
    bytes never change again, and with FUTURE_WRITE only existing mappings can write.

    Example:
        >>> from ipckit import MemFd, Seal
        >>> with MemFd.create("frame", 4096) as memory:
        ...     memory.write(b"done")
        ...     memory.seal(Seal.WRITE)
        ...     memory.readonly, Seal.WRITE in memory.seals
        4
        (True, True)

    See memfd_create(2).
    """

    _factories = "MemFd.create or from_fd"

    _passed_as = "MemFd"

    _descriptor: Descriptor

    def __init__(
        self, descriptor: Descriptor, label: str, *, readonly: bool, created: bool = False
    ) -> None:
        self._label = label
        self._descriptor = descriptor
        fd = descriptor.number
        size = os.fstat(fd).st_size
        protection = READ if readonly else READ_WRITE
        mapping = map_file(fd, size, protection, SHARED, _describe(label))
        if created:
            populate(mapping)
        super().__init__(mapping, owner=False)

    @classmethod
    def create(cls, label: str, size: int, *, seal: Seal | int = Seal.SHRINK | Seal.GROW) -> Self:
        """Create memory of zeros.

        Args:
            label: what /proc/PID/fd and /proc/PID/maps show: up to 249 bytes without NUL, not
                necessarily unique.
            size: bytes, 1 or more.
            seal: the seals to add once it has its size, by default SHRINK and GROW.

        Raises:
            LimitReached: the memory is exhausted, or RLIMIT_NOFILE is reached.
            TypeError: `seal` is not an int.
            InvalidArgument: `label`, `size` or `seal` is out of range.

        See memfd_create(2).
        """
        wanted = checked_size(size)
        seals = _checked_seals(seal)
        if "\0" in label or len(os.fsencode(label)) > _LABEL_MAX:
            message = f"label must be up to {_LABEL_MAX} bytes without NUL, not {label[:32]!r}…"
            raise InvalidArgument(message, errno=errno.EINVAL, op="memfd_create")
        check_memory(wanted, _describe(label))
        created = Descriptor(new_memfd(label))
        try:
            allocate(created.number, wanted, _describe(label))
            fcntl.fcntl(created.number, fcntl.F_ADD_SEALS, seals & ~_ADDED_LAST)
            self = construct(cls, created, label, readonly=False, created=True)
            if seals & _ADDED_LAST:
                self.seal(seals & _ADDED_LAST)
        except BaseException:
            created.close()
            raise
        return self

    @classmethod
    def from_fd(
        cls, fd: int, *, require_seals: Seal | int = Seal.SHRINK, readonly: bool | None = None
    ) -> Self:
        """Map a memfd that this process received, after a check of its seals.

        The handle takes over the descriptor and closes it. If this method raises, the caller still
        owns the descriptor.

        Args:
            fd: a descriptor of a memfd.
            require_seals: seals that it must have, by default SHRINK. Without SHRINK its sender can
                shrink it, and an access then kills this process. 0 trusts the sender.
            readonly: map it for reading only. By default it is read-only if a seal or the
                descriptor's access mode forbids writing.

        Raises:
            InvalidArgument: `fd` is not a memfd, is empty, or lacks a seal.
            AccessDenied: the memory cannot be written, and `readonly` is False.
            TypeError: `fd` or `require_seals` is not an int.

        See fcntl(2), F_GET_SEALS.
        """
        wanted = _checked_seals(require_seals)
        checked_fd(fd)
        try:
            found = Seal(fcntl.fcntl(fd, fcntl.F_GET_SEALS))
            label = path_of_fd(fd)
        except OSError as exc:
            message = f"descriptor {fd} is not a memfd"
            raise InvalidArgument(message, errno=exc.errno or errno.EBADF, op="fcntl") from None
        label = label.removeprefix("/memfd:").removesuffix(" (deleted)")
        missing = wanted & ~found
        if missing:
            message = f"the memfd lacks the seal {missing!r}, so its sender can still change it"
            hint = "the sender adds seals with MemFd.seal; require_seals=0 trusts the sender"
            raise InvalidArgument(
                message, errno=errno.EPERM, op="fcntl", target=_describe(label), hint=hint
            )
        if os.fstat(fd).st_size == 0:
            message = "the memfd is empty: it has no bytes to map"
            raise InvalidArgument(message, errno=errno.EINVAL, op="mmap", target=_describe(label))
        if readonly is None:
            access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
            readonly = bool(found & _NO_WRITE) or access == os.O_RDONLY
        lent = Descriptor(fd, owned=False)
        return handed_over(lent, lambda memory: construct(cls, memory, label, readonly=readonly))

    @property
    def label(self) -> str:
        """The name that /proc shows."""
        return self._label

    def fileno(self) -> int:
        """Return the descriptor; the handle closes it.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("fileno")
        return self._descriptor.number

    @property
    def seals(self) -> Seal:
        """The seals of the memory.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("fcntl")
        return self._current_seals()

    def _current_seals(self) -> Seal:
        return Seal(fcntl.fcntl(self._descriptor.number, fcntl.F_GET_SEALS))

    def seal(self, seals: Seal | int) -> None:
        """Add seals, which no process can remove.

        Args:
            seals: the seals to add. WRITE makes this handle's memory read-only; the other seals do
                not.

        Raises:
            IpcError: with errno EBUSY, `seals` contains WRITE, and a writable mapping exists or
                arrays or views of this handle exist. If the memory has FUTURE_WRITE, this handle's
                memory is read-only from then on, because it cannot be mapped for writing again.
            AccessDenied: the memory has SEAL.
            TypeError: `seals` is not an int.
            InvalidArgument: a bit is unknown.
            ClosedHandle: the handle is closed.

        See fcntl(2), F_ADD_SEALS.
        """
        self._check_open("fcntl")
        wanted = _checked_seals(seals)
        present = self.seals
        if not wanted & Seal.WRITE or self.readonly or Seal.SEAL in present:
            self._add(wanted)
            return
        if self._mapping.exports:
            raise self._in_use("fcntl", "arrays or views use the memory")
        # This handle's own mapping prevents the seal too, even after mprotect(2) to read-only. So
        # it is unmapped first, and mapped again afterwards.
        size, protection, hint = self.size, READ, ""
        if Seal.FUTURE_WRITE in present:
            hint = "this handle's memory is read-only from now on, because of FUTURE_WRITE"
        self._mapping.close()
        try:
            self._add(wanted, hint)
        except IpcError:
            protection = READ if hint else READ_WRITE
            raise
        finally:
            fd = self._descriptor.number
            self._mapping = map_file(fd, size, protection, SHARED, self._target)

    def _add(self, seals: Seal, hint: str = "") -> None:
        try:
            fcntl.fcntl(self._descriptor.number, fcntl.F_ADD_SEALS, int(seals))
        except OSError as exc:
            code = exc.errno or errno.EIO
        else:
            return
        message = ""
        if code == errno.EBUSY:
            message = "the memfd has another mapping that is writable"
        elif code == errno.EPERM:
            message = f"no more seals can be added, because it has {self._current_seals()!r}"
        raise from_errno(code, op="fcntl", target=self._target, message=message, hint=hint)

    def _release(self) -> None:
        super()._release()
        self._descriptor.close()

    def _remove(self) -> None:
        message = "a memfd has no name to unlink; it is freed when the last process closes it"
        raise NotFound(message, errno=errno.ENOENT, op="unlink", target=self._target)

    @property
    def _target(self) -> str:
        return _describe(self._label)

    def _reopen_args(self) -> tuple[Any, ...]:
        fd = self._descriptor.number
        return (duplicate_for_child(fd), int(self.seals), self.readonly)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        duplicate, seals, readonly = args
        return reopened(
            duplicate.detach(),
            lambda fd: cls.from_fd(fd, require_seals=seals, readonly=readonly),
        )


def _describe(label: str) -> str:
    return f"memfd {label}"


def _checked_seals(seals: Seal | int) -> Seal:
    known = int(Seal.SEAL | Seal.SHRINK | Seal.GROW | Seal.WRITE | Seal.FUTURE_WRITE | Seal.EXEC)
    if not isinstance(seals, int):
        message = f"seals must be a Seal or an int, not {type(seals).__name__}"
        raise TypeError(message)
    if int(seals) & ~known:
        message = f"seals must be bits of {known:#x}, not {int(seals):#x}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="fcntl")
    return Seal(seals)


def new_memfd(label: str) -> int:
    """Create an empty memfd that is not executable.

    Raises:
        LimitReached: RLIMIT_NOFILE is reached, or the memory is exhausted.

    See memfd_create(2).
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(label, flags | native.MFD_NOEXEC_SEAL)
    except OSError as exc:
        code = exc.errno or errno.EIO
    if code == errno.EINVAL:
        try:
            return os.memfd_create(label, flags)  # before Linux 6.3
        except OSError as exc:
            code = exc.errno or errno.EIO
    raise descriptor_error(code, op="memfd_create", target=_describe(label))
