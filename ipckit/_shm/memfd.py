"""Memory without a name, handed from process to process by its descriptor, and sealed."""

from __future__ import annotations

import enum
import errno
import fcntl
import os
from typing import Any, Final, Self

from ipckit._core.construct import construct
from ipckit._core.descriptors import (
    Descriptor,
    checked_fd,
    duplicate_for_child,
    handed_over,
    name_descriptors,
    reopened,
)
from ipckit._core.files import path_of_fd
from ipckit._core.public import public
from ipckit._shm.mapping import READ, READ_WRITE, SHARED, allocate, check_memory, map_file, populate
from ipckit._shm.memory import Memory, checked_size
from ipckit.errors import InvalidArgument, IpcError, NotFound, from_errno

_MFD_NOEXEC_SEAL: Final = 0x8  # Linux 6.3; Python has no name for it yet
_LABEL_MAX: Final = 249


@public("ipckit.shm")
class Seal(enum.IntFlag):
    """What can no longer be done to a memfd, by anybody, for ever; see fcntl(2)."""

    SEAL = 0x1
    SHRINK = 0x2
    GROW = 0x4
    WRITE = 0x8
    FUTURE_WRITE = 0x10
    EXEC = 0x20


_UNWRITABLE: Final = Seal.WRITE | Seal.FUTURE_WRITE
_LATE: Final = _UNWRITABLE | Seal.SEAL  # once it is mapped, and all at once


@public("ipckit.shm")
class MemFd(Memory):
    """Anonymous memory with a descriptor, which goes with its last holder.

    Make one with `create`; another process gets it by its descriptor, over a UNIX socket, and uses
    `from_fd`. It has no name, is not in /dev/shm and does not count there, and no crash leaves it
    behind. Seals protect both sides: with SHRINK the receiver can't be killed by SIGBUS, with WRITE
    the bytes never change again, with FUTURE_WRITE only who has it mapped already can write.

    See memfd_create(2).
    """

    _factories = "MemFd.create or from_fd"

    _passed_as = "MemFd"

    _descriptor: Descriptor

    def __init__(
        self, descriptor: Descriptor, label: str, *, readonly: bool, fresh: bool = False
    ) -> None:
        self._label = label
        self._descriptor = descriptor
        fd = descriptor.number
        size = os.fstat(fd).st_size
        protection = READ if readonly else READ_WRITE
        mapping = map_file(fd, size, protection, SHARED, _describe(label))
        if fresh:
            populate(mapping)
        super().__init__(mapping, owner=False)

    @classmethod
    def create(cls, label: str, size: int, *, seal: Seal | int = Seal.SHRINK | Seal.GROW) -> Self:
        """Make new memory of zeros.

        Args:
            label: shown in /proc/PID/fd and /proc/PID/maps; up to 249 bytes, no NUL, need not be
                unique.
            size: bytes, 1 or more.
            seal: what to rule out at once, once it has its size.

        Raises:
            LimitReached: memory or RLIMIT_NOFILE is used up.
            InvalidArgument: `label`, `size` or `seal` is out of range.

        See memfd_create(2).
        """
        wanted = checked_size(size)
        seals = _checked_seals(seal)
        if "\0" in label or len(os.fsencode(label)) > _LABEL_MAX:
            message = f"label is {label[:32]!r}…; it takes up to {_LABEL_MAX} bytes without NUL"
            raise InvalidArgument(message, errno=errno.EINVAL, op="memfd_create")
        check_memory(wanted, _describe(label))
        made = Descriptor(new_memfd(label))
        try:
            allocate(made.number, wanted, _describe(label))
            fcntl.fcntl(made.number, fcntl.F_ADD_SEALS, seals & ~_LATE)
            self = construct(cls, made, label, readonly=False, fresh=True)
            if seals & _LATE:
                self.seal(seals & _LATE)
        except BaseException:
            made.close()
            raise
        return self

    @classmethod
    def from_fd(
        cls, fd: int, *, require_seals: Seal | int = Seal.SHRINK, readonly: bool | None = None
    ) -> Self:
        """Map a memfd that came from elsewhere, after a look at its seals.

        The handle takes the descriptor over and closes it. Where this fails, the descriptor is
        still the caller's.

        Args:
            fd: a descriptor of a memfd.
            require_seals: seals that it must have. Without SHRINK its sender can kill this process
                by cutting it; 0 trusts the sender.
            readonly: map it for reading only; by default only where it can't be written.

        Raises:
            InvalidArgument: `fd` is no memfd, has no size, or lacks a seal.
            AccessDenied: it can't be written, and `readonly` is False.

        See fcntl(2), F_GET_SEALS.
        """
        wanted = _checked_seals(require_seals)
        checked_fd(fd)
        try:
            found = Seal(fcntl.fcntl(fd, fcntl.F_GET_SEALS))
            label = path_of_fd(fd)
        except OSError as exc:
            message = f"descriptor {fd} is no memfd"
            raise InvalidArgument(message, errno=exc.errno or errno.EBADF, op="fcntl") from None
        label = label.removeprefix("/memfd:").removesuffix(" (deleted)")
        missing = wanted & ~found
        if missing:
            message = f"it lacks the seal {missing!r}: its sender could change it under us"
            hint = "the sender seals it with MemFd.seal; require_seals=0 trusts the sender"
            raise InvalidArgument(
                message, errno=errno.EPERM, op="fcntl", target=_describe(label), hint=hint
            )
        if os.fstat(fd).st_size == 0:
            message = "it has no bytes to map"
            raise InvalidArgument(message, errno=errno.EINVAL, op="mmap", target=_describe(label))
        if readonly is None:
            access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
            readonly = bool(found & _UNWRITABLE) or access == os.O_RDONLY
        lent = Descriptor(fd, owned=False)
        return handed_over(lent, lambda memory: construct(cls, memory, label, readonly=readonly))

    @property
    def label(self) -> str:
        """What /proc shows it as."""
        return self._label

    def fileno(self) -> int:
        """The descriptor, which stays the handle's.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("fileno")
        return self._descriptor.number

    @property
    def seals(self) -> Seal:
        """What can no longer be done to it.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("fcntl")
        return self._present()

    def _present(self) -> Seal:
        return Seal(fcntl.fcntl(self._descriptor.number, fcntl.F_GET_SEALS))

    def seal(self, seals: Seal | int) -> None:
        """Rule something out for ever.

        Args:
            seals: what to add. WRITE makes the handle's own memory read-only; so does no other.

        Raises:
            IpcError: with errno EBUSY, WRITE while somebody has it mapped for writing, or arrays or
                views of this handle look at it. After FUTURE_WRITE the handle's own memory is
                then read-only all the same: it can't be mapped for writing again.
            AccessDenied: it was sealed with SEAL.
            InvalidArgument: unknown bits.
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
            raise self._in_use("fcntl", "the memory")
        # Our own mapping is the first in the way; even a read-only one is, made before the seal.
        size, protection = self.size, READ
        self._mapping.close()
        try:
            self._add(wanted)
        except IpcError as exc:
            if Seal.FUTURE_WRITE in present:
                exc.hint = "this handle's memory is read-only from now on, as FUTURE_WRITE wants it"
            else:
                protection = READ_WRITE
            raise
        finally:
            fd = self._descriptor.number
            self._mapping = map_file(fd, size, protection, SHARED, self._target)

    def _add(self, seals: Seal) -> None:
        try:
            fcntl.fcntl(self._descriptor.number, fcntl.F_ADD_SEALS, int(seals))
        except OSError as exc:
            message = ""
            if exc.errno == errno.EBUSY:
                message = "another mapping of it can be written"
            elif exc.errno == errno.EPERM:
                message = f"no more seals: it has {self._present()!r}"
            raise from_errno(
                exc.errno or errno.EIO, op="fcntl", target=self._target, message=message
            ) from None

    def _release(self) -> None:
        super()._release()
        self._descriptor.close()

    def _remove(self) -> None:
        message = "a memfd has no name to unlink; it goes with its last holder"
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
        message = f"seals are of Seal, not {type(seals).__name__}"
        raise TypeError(message)
    if int(seals) & ~known:
        message = f"seals are {int(seals):#x}; the bits are {known:#x}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="fcntl")
    return Seal(seals)


def new_memfd(label: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(label, flags | _MFD_NOEXEC_SEAL)
    except OSError as exc:
        code = exc.errno or errno.EIO
    if code == errno.EINVAL:
        try:
            return os.memfd_create(label, flags)  # a kernel before 6.3
        except OSError as exc:
            code = exc.errno or errno.EIO
    raise name_descriptors(from_errno(code, op="memfd_create", target=_describe(label)))
