"""Read the bytes of shared memory of every kind, without disturbing its users."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self

from ipckit._core.files import SHM, open_regular
from ipckit.errors import InvalidArgument, NotFound, from_errno
from ipckit.shm import SysVSharedMemory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from ipckit.inventory import IpcObject

_PIECE: Final = 1 << 20
_SHM: Final = Path(SHM)
_HELD: Final = re.compile(r"fd (\d+)")


class Source(Protocol):
    """Bytes that can be read from any offset."""

    @property
    def size(self) -> int: ...
    def read(self, n: int, /, offset: int) -> bytes: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class FileSource:
    """The bytes of a file, read by pread. If the file shrinks, less is read, without a SIGBUS.

    Args:
        path: the path of the file.
        name: the object, for errors.
        follow: follow a symbolic link.
        identity: the device and inode that the file must have; any by default.
    """

    def __init__(
        self, path: str, name: str, *, follow: bool, identity: tuple[int, ...] = ()
    ) -> None:
        self._name = name
        try:
            fd = open_regular(path, follow=follow)
        except OSError as exc:
            denied = exc.errno in {errno.EACCES, errno.EPERM}
            hint = "the owner can allow it with chmod; or run as root" if denied else ""
            raise from_errno(exc.errno or errno.EIO, op="open", target=name, hint=hint) from None
        if fd is None:
            message = "it is not shared memory or a regular file"
            raise InvalidArgument(message, errno=errno.EINVAL, target=name)
        status = os.fstat(fd)
        if identity not in {(), (status.st_dev, status.st_ino)}:
            os.close(fd)
            message = "it was replaced or changed after it was listed"
            raise NotFound(message, errno=errno.ENOENT, target=name)
        self._fd = fd
        self.size = status.st_size

    def read(self, n: int, /, offset: int) -> bytes:
        """Read bytes from an offset; fewer at the end of the file."""
        try:
            return os.pread(self._fd, n, offset)
        except OSError as exc:
            raise from_errno(exc.errno or errno.EIO, op="pread", target=self._name) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._fd)


def _segment(ident: int) -> Source:
    return SysVSharedMemory.from_id(ident, readonly=True)


def _descriptor_of(found: IpcObject) -> str:
    """Return the path in ``/proc`` of a descriptor of an object that has no name."""
    for holder in found.holders:
        match = _HELD.search(holder.how)
        if match:
            return f"/proc/{holder.pid}/fd/{match[1]}"
    message = "could not find a process that has a descriptor of it"
    hint = "if you know one, use /proc/PID/fd/N as the OBJECT"
    raise NotFound(message, target=found.address, hint=hint)


def open_path(path: str) -> Source:
    """Open a file, or what a process has open as ``/proc/PID/fd/N``.

    Raises:
        NotFound: there is no such file.
        AccessDenied: the caller may not read it.
        InvalidArgument: it is not shared memory or a regular file.
    """
    return FileSource(path, path, follow=True)


def open_object(found: IpcObject) -> Source:
    """Open the memory of an object of the inventory.

    Raises:
        NotFound: it was removed; or it has no name, and no process was found that has it open.
        AccessDenied: its mode forbids it.
    """
    if found.kind == "sysv-segment":
        return _segment(found.id)
    if found.kind == "memfd" or found.details.get("unlinked"):
        path, follow = _descriptor_of(found), True
    else:
        path, follow = str(_SHM / found.file_name), False
    return FileSource(path, found.address, follow=follow, identity=found.identity)


def pieces(source: Source, offset: int, size: int) -> Iterator[bytes]:
    """Yield the bytes from an offset, in pieces; fewer than `size` if the source ends sooner."""
    end = offset + size
    while offset < end:
        data = source.read(min(_PIECE, end - offset), offset)
        if not data:
            return
        yield data
        offset += len(data)
