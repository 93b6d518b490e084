"""Files, and memory of no file, mapped into the process."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from pathlib import Path
from typing import Any, Final, Literal, Self

import ipckit._native as native
from ipckit._core.construct import construct
from ipckit._core.descriptors import Descriptor, identity, name_descriptors
from ipckit._core.directory_entry import unlink_path
from ipckit._core.files import LEASED, absolute, open_file, unlink_own
from ipckit._core.handle import checked_mode
from ipckit._core.public import public
from ipckit._shm.mapping import PRIVATE, READ, READ_WRITE, SHARED, allocate, map_file
from ipckit._shm.memory import Memory, checked_size
from ipckit.errors import InvalidArgument, IpcError, NotFound, from_errno

Mode = Literal["r", "r+", "private"]
Protection = Literal["none", "r", "r+"]

_PROTECTIONS: Final = {"none": 0, "r": READ, "r+": READ_WRITE}
# What asks for fewer rights than each mode.
_LESS: Final[dict[str, str]] = {
    "r": 'mode="private", readonly=True maps it for this process alone',
    "r+": 'mode="r" reads it, and mode="private" writes a copy of it',
    "private": "readonly=True asks for less",
}
_MS_ASYNC: Final = 1
_MS_INVALIDATE: Final = 2
_MS_SYNC: Final = 4


@public("ipckit.shm")
class MappedFile(Memory):
    """A file's bytes in memory, shared with whoever maps the same file, or private to this process.

    Make one with `create`, `open`, or `anonymous` for memory of no file. What is written reaches
    the other processes at once and the disk in time, or at `flush`. The file can be closed,
    renamed or unlinked; the memory stays.

    If another process cuts the file, touching what was cut off kills this process with SIGBUS.
    `stale` tells whether it has happened. Let writers only ever grow a mapped file, or share a
    `MemFd` with Seal.SHRINK, which cannot be cut.

    See mmap(2).
    """

    _factories = "MappedFile.create, open or anonymous"

    def __init__(
        self,
        mapping: native.Mapping,
        path: str | None,
        mode: Mode,
        offset: int,
        file: tuple[int, int],
        *,
        owner: bool,
    ) -> None:
        self._path = path
        self._mode: Mode = mode
        self._offset = offset
        self._file = file
        super().__init__(mapping, owner=owner)

    # -- making and finding ------------------------------------------------------------------------

    @classmethod
    def create(cls, path: str | os.PathLike[str], size: int, *, mode: int = 0o600) -> Self:
        """Make a new file of zeros and map it, shared and writable; the handle owns it.

        Args:
            path: where; nothing may be there.
            size: bytes, 1 or more, all of them allocated.
            mode: permission bits, 0 to 0o777; the umask has no say.

        Raises:
            AlreadyExists: something is there.
            NotFound: its directory is missing.
            LimitReached: the file system has no room.
            AccessDenied: the directory can't be written.
            InvalidArgument: `size` or `mode` is out of range.
        """
        wanted = checked_size(size)
        checked_mode(mode)
        text = absolute(os.fspath(path), op="open")
        made = _open(text, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        fd = made.number
        file = identity(fd)
        try:
            os.fchmod(fd, mode)
            allocate(fd, wanted, _describe(text))
            mapping = map_file(fd, wanted, READ_WRITE, SHARED, _describe(text))
            return construct(cls, mapping, text, "r+", 0, file, owner=True)
        except BaseException:
            unlink_own(text, file)
            raise
        finally:
            made.close()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        mode: Mode = "r",
        readonly: bool = False,
        offset: int = 0,
        size: int | None = None,
    ) -> Self:
        """Map a file that is there; never makes, resizes or owns it.

        Args:
            path: a regular file. In a directory that anybody may write, such as /tmp, it must
                not be a symbolic link.
            mode: ``"r"`` to read; ``"r+"`` to write the file too; ``"private"`` to write a copy
                that nobody else sees.
            readonly: map it for reading only. With ``"private"`` that is a read-only private
                mapping; ``"r"`` is read-only in any case, and ``"r+"`` contradicts it.
            offset: bytes from the start of the file, on a page border or not.
            size: bytes; by default all to the end of the file.

        Raises:
            NotFound: there is no such file.
            AccessDenied: its mode, or a seal, forbids it.
            TypeError: `readonly` is not a bool.
            InvalidArgument: it is empty, no regular file, or too short; an argument is out of
                range; or `readonly` is true with mode ``"r+"``.
        """
        if mode not in {"r", "r+", "private"}:
            message = f"mode is {mode!r}; it takes 'r', 'r+' or 'private'"
            raise InvalidArgument(message, errno=errno.EINVAL, op="mmap")
        if not isinstance(readonly, bool):
            message = f"readonly is a bool, not {type(readonly).__name__}"
            raise TypeError(message)
        if readonly and mode == "r+":
            message = "mode 'r+' writes the file, and readonly=True forbids it"
            raise InvalidArgument(message, errno=errno.EINVAL, op="mmap")
        if offset < 0 or (size is not None and size < 1):
            message = f"offset is {offset} and size {size}; they take 0 or more, and 1 or more"
            raise InvalidArgument(message, errno=errno.EINVAL, op="mmap")
        text = absolute(os.fspath(path), op="open")
        found = _open(text, os.O_RDWR if mode == "r+" else os.O_RDONLY)
        fd = found.number
        try:
            length = os.fstat(fd).st_size
            wanted = max(0, length - offset) if size is None else size
            if wanted == 0:
                message = f"the file has {length:,} bytes, and none from {offset:,} on to map"
                raise InvalidArgument(
                    message, errno=errno.EINVAL, op="mmap", target=_describe(text)
                )
            protection = READ if readonly or mode == "r" else READ_WRITE
            flags = PRIVATE if mode == "private" else SHARED
            mapping = map_file(
                fd, wanted, protection, flags, _describe(text), offset=offset, hint=_LESS[mode]
            )
            return construct(cls, mapping, text, mode, offset, identity(fd), owner=False)
        finally:
            found.close()

    @classmethod
    def anonymous(cls, size: int) -> Self:
        """Map memory of no file, shared with the children that this process forks.

        Args:
            size: bytes, 1 or more, all zeros.

        Raises:
            LimitReached: no memory or address space is left.
            InvalidArgument: `size` is out of range.
        """
        flags = SHARED | mmap.MAP_ANONYMOUS
        mapping = map_file(-1, checked_size(size), READ_WRITE, flags, _describe(None))
        return construct(cls, mapping, None, "r+", 0, (0, 0), owner=False)

    # -- facts and changes -------------------------------------------------------------------------

    @property
    def path(self) -> str | None:
        """The file's absolute path, whatever the current directory; None for memory of no file."""
        return self._path

    @property
    def mode(self) -> Mode:
        """``"r"``, ``"r+"`` or ``"private"``."""
        return self._mode

    @property
    def offset(self) -> int:
        """Bytes from the start of the file to the start of the memory."""
        return self._offset

    @property
    def stale(self) -> bool:
        """Whether the file at `path` was cut, so that touching all of the memory would be fatal.

        Look before reading a file that others may cut; between the look and the touch it can
        still happen. A file that was renamed or unlinked can't be looked at, and is not stale.
        """
        if self._path is None:
            return False
        try:
            status = os.stat(self._path)  # noqa: PTH116 - a str, as the other calls take
        except OSError:
            return False
        same = (status.st_dev, status.st_ino) == self._file
        return same and status.st_size < self._offset + self.size

    def flush(
        self,
        offset: int = 0,
        size: int | None = None,
        *,
        wait: bool = True,
        invalidate: bool = False,
    ) -> None:
        """Write the memory back to the file.

        Args:
            offset: bytes from the start of the memory.
            size: bytes; by default all from `offset` on. Whole pages are written.
            wait: until they are on the disk (MS_SYNC); else only say so (MS_ASYNC).
            invalidate: other mappings see the file's bytes anew (MS_INVALIDATE); on Linux they
                always do.

        Raises:
            InvalidArgument: the range is not inside the memory.
            IpcError: with errno EIO, the disk failed; with EBUSY, `invalidate` of locked pages.
            ClosedHandle: the handle is closed.

        See msync(2).
        """
        self._check_open("msync")
        count = max(0, self.size - offset) if size is None else size
        self._check_range("msync", offset, count)
        flags = (_MS_SYNC if wait else _MS_ASYNC) | (_MS_INVALIDATE if invalidate else 0)
        try:
            native.msync(self._mapping, offset, count, flags)
        except OSError as exc:
            raise from_errno(exc.errno or errno.EIO, op="msync", target=self._target) from None

    def protect(self, protection: Protection) -> None:
        """Change what this process may do with the memory.

        Args:
            protection: ``"none"``, ``"r"`` or ``"r+"``.

        Raises:
            IpcError: with errno EBUSY, arrays or views look at the memory and would lose a right.
            AccessDenied: the file was opened for reading only.
            InvalidArgument: another word.
            ClosedHandle: the handle is closed.

        See mprotect(2).
        """
        self._check_open("mprotect")
        if protection not in _PROTECTIONS:
            message = f"protection is {protection!r}; it takes 'none', 'r' or 'r+'"
            raise InvalidArgument(message, errno=errno.EINVAL, op="mprotect", target=self._target)
        try:
            native.mprotect(self._mapping, _PROTECTIONS[protection])
        except BufferError:
            raise self._in_use("mprotect", "the memory") from None
        except OSError as exc:
            raise from_errno(exc.errno or errno.EIO, op="mprotect", target=self._target) from None

    def advise(self, advice: str | int, offset: int = 0, size: int | None = None) -> None:
        """Tell the kernel how the memory will be used.

        Args:
            advice: a word such as ``"sequential"``, ``"willneed"``, ``"dontneed"`` or
                ``"hugepage"``, or one of mmap.MADV_*. Those that would make a later touch fatal
                are refused.
            offset: bytes from the start of the memory.
            size: bytes; by default all from `offset` on.

        Raises:
            InvalidArgument: unknown or refused advice, or a range that is not inside.
            ClosedHandle: the handle is closed.

        See madvise(2).
        """
        self._check_open("madvise")
        number = (
            getattr(mmap, f"MADV_{advice.upper()}", None) if isinstance(advice, str) else advice
        )
        count = max(0, self.size - offset) if size is None else size
        self._check_range("madvise", offset, count)
        if number is None:
            message = f"advice {advice!r} is unknown"
            raise InvalidArgument(message, errno=errno.EINVAL, op="madvise", target=self._target)
        try:
            native.madvise(self._mapping, offset, count, number)
        except ValueError as exc:
            raise InvalidArgument(
                str(exc), errno=errno.EINVAL, op="madvise", target=self._target
            ) from None
        except OSError as exc:
            raise from_errno(exc.errno or errno.EIO, op="madvise", target=self._target) from None

    def resize(self, size: int, *, shrink: bool = False) -> None:
        """Make the memory longer, and the file if it is too short; or cut both.

        Arrays and views that exist stay good, over the old size.

        Args:
            size: bytes of the memory, from its `offset` in the file on.
            shrink: really cut the file where it is longer. Every process that has it mapped is
                then killed by SIGBUS when it touches what was cut off.

        Raises:
            InvalidArgument: it is not a shared, writable file; `size` is smaller, and `shrink` is
                False; or another file is at `path` now.
            IpcError: with errno EBUSY, arrays, views or other handles of this process reach into
                what would be cut off.
            LimitReached: the file system has no room.
            ClosedHandle: the handle is closed.
        """
        self._check_open("resize")
        wanted = checked_size(size)
        if self._path is None or self._mode != "r+":
            message = "only a file that was opened with mode 'r+' can be resized"
            raise InvalidArgument(message, errno=errno.EINVAL, op="resize", target=self._target)
        if wanted < self.size and not shrink:
            message = f"{wanted:,} bytes are fewer than the {self.size:,} that are mapped"
            hint = "shrink=True cuts it, and kills whoever touches the rest with SIGBUS"
            raise InvalidArgument(
                message, errno=errno.EINVAL, op="resize", target=self._target, hint=hint
            )
        found = _open(self._path, os.O_RDWR)
        try:
            self._resize(found.number, wanted, shrink=shrink)
        finally:
            found.close()

    def _resize(self, fd: int, size: int, *, shrink: bool) -> None:
        if identity(fd) != self._file:
            message = "another file is there now"
            raise InvalidArgument(message, errno=errno.ESTALE, op="resize", target=self._target)
        end, now = self._offset + size, os.fstat(fd).st_size
        if shrink and end < now:
            before = min(self.size, now - self._offset)
            self._cut(fd, end, lambda: self._map(fd, size), lambda: self._map(fd, before))
            return
        if end > now:
            allocate(fd, end, self._target)
        self._map(fd, size)

    def _map(self, fd: int, size: int) -> None:
        mapping = map_file(fd, size, READ_WRITE, SHARED, self._target, offset=self._offset)
        old, self._mapping = self._mapping, mapping
        old.close()

    # -- lifecycle ---------------------------------------------------------------------------------

    def _remove(self) -> None:
        if self._path is None:
            raise NotFound("it is no file", errno=errno.ENOENT, op="unlink", target=self._target)
        try:
            if unlink_path(self._path, self._is_file):
                return
        except OSError as exc:
            raise from_errno(exc.errno or errno.EIO, op="unlink", target=self._target) from None
        message = "its file is gone, and another one has its name"
        raise NotFound(message, errno=errno.ENOENT, op="unlink", target=self._target)

    def _is_file(self, status: os.stat_result) -> bool:
        """Whether what has the path is the file, or a symbolic link that leads to it."""
        if stat.S_ISLNK(status.st_mode):
            status = os.stat(self._path or "")  # noqa: PTH116 - a str, as it was given
        return (status.st_dev, status.st_ino) == self._file

    def _still_ours(self) -> bool:
        try:
            return self._is_file(os.lstat(self._path or ""))
        except OSError:
            return True

    @property
    def _target(self) -> str:
        return _describe(self._path)

    def _reopen_args(self) -> tuple[Any, ...]:
        if self._path is None or self._mode == "private":
            message = "private memory and memory of no file can't be pickled: only a fork shares it"
            raise InvalidArgument(message, errno=errno.EINVAL, op="pickle", target=self._target)
        return (self._path, self._mode, self._offset, self.size)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        path, mode, offset, size = args
        return cls.open(path, mode=mode, offset=offset, size=size)


def _describe(path: str | None) -> str:
    return "anonymous memory" if path is None else f"file {path}"


def _in_shared_directory(path: str) -> bool:
    """Whether anybody may put something else at a path, so that a link there can't be trusted."""
    try:
        mode = os.stat(Path(path).parent).st_mode  # noqa: PTH116
    except OSError:
        return False
    return bool(mode & stat.S_ISVTX and mode & stat.S_IWOTH)


def _open(path: str, flags: int) -> Descriptor:
    flags |= os.O_NOFOLLOW if _in_shared_directory(path) else 0
    try:
        # Opening a FIFO does not wait; it is no regular file and refused below.
        opened = Descriptor(open_file(path, flags))
    except OSError as exc:
        writing = flags & os.O_ACCMODE == os.O_RDWR and not flags & os.O_CREAT
        raise _open_error(exc.errno or errno.EIO, path, writing=writing) from None
    except ValueError as exc:  # a NUL inside
        raise InvalidArgument(str(exc), errno=errno.EINVAL, op="open") from None
    if stat.S_ISREG(os.fstat(opened.number).st_mode):
        return opened
    opened.close()
    message = "it is no regular file"
    raise InvalidArgument(message, errno=errno.EINVAL, op="open", target=_describe(path))


def _open_error(code: int, path: str, *, writing: bool) -> IpcError:
    message = hint = ""
    if code == errno.ENOENT:
        hint = f"make it with MappedFile.create({path!r}, size), if its directory is there"
    elif writing and code in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY}:
        hint = _LESS["r+"]
    elif code == errno.ELOOP:
        message = "it is a symbolic link in a directory that anybody may write"
        return InvalidArgument(message, errno=code, op="open", target=_describe(path))
    elif code in {errno.EISDIR, errno.ENXIO, errno.ENODEV}:
        message = "it is no regular file"
        return InvalidArgument(message, errno=code, op="open", target=_describe(path))
    elif code == errno.EAGAIN:
        message = LEASED
    error = from_errno(code, op="open", target=_describe(path), message=message, hint=hint)
    return name_descriptors(error)
