"""Reading the bytes of shared memory, wherever they are, without disturbing who uses it."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self

from ipckit.errors import InvalidArgument, NotFound, from_errno
from ipckit.shm import SysVSharedMemory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from ipckit.inventory import IpcObject

_PIECE: Final = 1 << 20
_SHM: Final = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
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
    """A file's bytes, by pread: a file that shrinks meanwhile ends sooner, and faults nobody."""

    def __init__(self, path: str, name: str, *, follow: bool) -> None:
        self._name = name
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        flags |= 0 if follow else os.O_NOFOLLOW
        try:
            self._fd = os.open(path, flags)
        except OSError as exc:
            raise from_errno(exc.errno or errno.EIO, op="open", target=name) from None
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            message = "neither memory nor a file"
            raise InvalidArgument(message, errno=errno.EINVAL, target=name)
        self.size = status.st_size

    def read(self, n: int, /, offset: int) -> bytes:
        """Some bytes from an offset; fewer where the file ends."""
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
    """The path under ``/proc`` at which a process holds an object that has no name."""
    for holder in found.holders:
        match = _HELD.search(holder.how)
        if match:
            return f"/proc/{holder.pid}/fd/{match[1]}"
    message = "no process is seen that has it as a descriptor"
    raise NotFound(message, target=found.address, hint="/proc/PID/fd/N names it too")


def open_path(path: str) -> Source:
    """A file, or what a process has open as ``/proc/PID/fd/N``.

    Raises:
        NotFound: there is no such file.
        AccessDenied: it may not be read.
        InvalidArgument: it is neither memory nor a file.
    """
    return FileSource(path, path, follow=True)


def open_object(found: IpcObject) -> Source:
    """The bytes of memory that the inventory knows.

    Raises:
        NotFound: it is gone, or has no name, and no process is seen that has it open.
        AccessDenied: its mode forbids it.
    """
    if found.kind == "sysv-segment":
        return _segment(found.id)
    if found.kind == "memfd" or found.details.get("unlinked"):
        return FileSource(_descriptor_of(found), found.address, follow=True)
    path = str(_SHM / found.file_name)
    return FileSource(path, found.address, follow=False)


def pieces(source: Source, offset: int, size: int) -> Iterator[bytes]:
    """The bytes from an offset, a piece at a time, to the end where the source ends sooner."""
    end = offset + size
    while offset < end:
        data = source.read(min(_PIECE, end - offset), offset)
        if not data:
            return
        yield data
        offset += len(data)
