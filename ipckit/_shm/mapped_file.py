"""MappedFile: a file, or anonymous memory, mapped into this process."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from pathlib import Path
from typing import Any, Final, Literal, Self, final

import ipckit._native as native
from ipckit._core.construct import construct
from ipckit._core.descriptors import Descriptor, descriptor_error, identity
from ipckit._core.directory_entry import unlink_path
from ipckit._core.files import LEASED, absolute, open_file, unlink_own
from ipckit._core.handle import checked_mode
from ipckit._core.public import public
from ipckit._shm.allocation import allocate, checked_size
from ipckit._shm.mapping import PRIVATE, READ, READ_WRITE, SHARED, map_file
from ipckit._shm.memory import SHRINK_HINT, Memory
from ipckit.errors import InvalidArgument, IpcError, NotFound, from_errno

Mode = Literal["r", "r+", "private"]
Protection = Literal["none", "r", "r+"]

_PROTECTIONS: Final = {"none": 0, "r": READ, "r+": READ_WRITE}
# For each mode, how to ask for fewer rights.
_FEWER_RIGHTS: Final[dict[str, str]] = {
    "r": 'mode="private", readonly=True maps it for this process alone',
    "r+": 'mode="r" reads it, and mode="private" writes a copy of it',
    "private": "readonly=True asks for less",
}


@final
@public("ipckit.shm")
class MappedFile(Memory):
    """A file's bytes in memory: shared with every process that maps the file, or private.

    Create one with `create` or `open`, or with `anonymous` for memory without a file. Other
    processes see a write at once. The kernel writes it to the disk later, or at `flush`. The file
    can be renamed or unlinked; the memory stays.

    If another process shrinks the file, an access to the removed bytes kills this process with
    SIGBUS. `stale` tells whether that has happened. Let writers only grow a mapped file, or share a
    `MemFd` with Seal.SHRINK, which cannot shrink.

    Example:
        >>> import os, tempfile
        >>> from ipckit import MappedFile
        >>> path = os.path.join(tempfile.mkdtemp(), "data")
        >>> with MappedFile.create(path, 4096) as file:  # removes the file: the handle owns it
        ...     file.write(b"hello")
        ...     with MappedFile.open(path) as again:
        ...         again.read(5)
        5
        b'hello'

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

    # -- creating and opening ----------------------------------------------------------------------

    @classmethod
    def create(cls, path: str | os.PathLike[str], size: int, *, mode: int = 0o600) -> Self:
        """Create a file of zeros and map it, shared and writable; the handle owns the file.

        Args:
            path: the file's path, which must not exist.
            size: bytes, 1 or more, all of which are allocated.
            mode: permission bits, 0 to 0o777, by default 0o600; the umask has no effect.

        Returns:
            The handle. Leaving its ``with`` block removes the file.

        Raises:
            AlreadyExists: the path exists.
            NotFound: its directory does not exist.
            LimitReached: the file system is full, or RLIMIT_FSIZE or RLIMIT_NOFILE is reached.
            AccessDenied: this process may not write the directory.
            InvalidArgument: `size` or `mode` is out of range.

        See open(2), posix_fallocate(3) and mmap(2).
        """
        wanted = checked_size(size)
        checked_mode(mode)
        text = absolute(os.fspath(path), op="open")
        created = _open(text, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        fd = created.number
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
            created.close()

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
        """Map an existing file; never creates, resizes or owns it.

        Args:
            path: a regular file. In a directory that any user may write, such as /tmp, it must not
                be a symbolic link.
            mode: ``"r"`` (the default) to read; ``"r+"`` to write the file too; ``"private"`` to
                write a copy that only this process sees.
            readonly: map the file for reading only. With ``"private"`` this is a read-only private
                mapping. ``"r"`` is always read-only, and ``"r+"`` contradicts it.
            offset: bytes from the start of the file, by default 0. It need not be a multiple of the
                page size.
            size: bytes; by default all from `offset` to the end of the file.

        Raises:
            NotFound: there is no such file.
            AccessDenied: the file's mode or a seal forbids it.
            LimitReached: RLIMIT_NOFILE is reached, or no address space is left.
            TypeError: `readonly` is not a bool.
            InvalidArgument: the file is empty, too short or not a regular file; an argument is out
                of range; or `readonly` is true with mode ``"r+"``.

        See open(2) and mmap(2).
        """
        _check_open_arguments(mode, readonly, offset, size)
        text = absolute(os.fspath(path), op="open")
        found = _open(text, os.O_RDWR if mode == "r+" else os.O_RDONLY)
        fd = found.number
        try:
            length = os.fstat(fd).st_size
            wanted = max(0, length - offset) if size is None else size
            if wanted == 0:
                message = f"the file has {length:,} bytes, so none can be mapped from {offset:,} on"
                raise InvalidArgument(
                    message, errno=errno.EINVAL, op="mmap", target=_describe(text)
                )
            protection = READ if readonly or mode == "r" else READ_WRITE
            flags = PRIVATE if mode == "private" else SHARED
            hint = _FEWER_RIGHTS[mode]
            mapping = map_file(
                fd, wanted, protection, flags, _describe(text), offset=offset, hint=hint
            )
            return construct(cls, mapping, text, mode, offset, identity(fd), owner=False)
        finally:
            found.close()

    @classmethod
    def anonymous(cls, size: int) -> Self:
        """Map memory without a file, which this process shares with the children that it forks.

        Args:
            size: bytes, 1 or more, all zeros.

        Raises:
            LimitReached: no memory or address space is left.
            InvalidArgument: `size` is out of range.

        See mmap(2), MAP_ANONYMOUS.
        """
        flags = SHARED | mmap.MAP_ANONYMOUS
        mapping = map_file(-1, checked_size(size), READ_WRITE, flags, _describe(None))
        return construct(cls, mapping, None, "r+", 0, (0, 0), owner=False)

    # -- facts and changes -------------------------------------------------------------------------

    @property
    def path(self) -> str | None:
        """The file's absolute path; None for anonymous memory."""
        return self._path

    @property
    def mode(self) -> Mode:
        """The mode that the file was opened with: ``"r"``, ``"r+"`` or ``"private"``."""
        return self._mode

    @property
    def offset(self) -> int:
        """The start of the memory, in bytes from the start of the file."""
        return self._offset

    @property
    def stale(self) -> bool:
        """Whether the file was shrunk, so that an access to some of the memory would be fatal.

        Check it before each read of a file that other processes may shrink. The file can still
        shrink between the check and the read. For a file that was renamed or unlinked it is False,
        because only the file at `path` can be checked.
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
        """Write the memory to the disk.

        Args:
            offset: bytes from the start of the memory; by default 0.
            size: bytes; by default all from `offset` on. Whole pages are written.
            wait: return when the pages are on the disk (MS_SYNC, the default); otherwise only
                schedule the writes (MS_ASYNC).
            invalidate: make other mappings read the file again (MS_INVALIDATE), by default False.
                On Linux they always see what was written.

        Raises:
            InvalidArgument: the range is not inside the memory.
            IpcError: with errno EIO, the disk failed; with errno EBUSY, `invalidate` is true and
                pages are locked.
            ClosedHandle: the handle is closed.

        See msync(2).
        """
        self._check_open("msync")
        count = max(0, self.size - offset) if size is None else size
        self._check_range("msync", offset, count)
        flags = native.MS_SYNC if wait else native.MS_ASYNC
        flags |= native.MS_INVALIDATE if invalidate else 0
        try:
            native.msync(self._mapping, offset, count, flags)
        except OSError as exc:
            raise from_errno(exc.errno or errno.EIO, op="msync", target=self._target) from None

    def protect(self, protection: Protection) -> None:
        """Change whether this process may read and write the memory.

        Args:
            protection: ``"none"``, ``"r"`` to read, or ``"r+"`` to read and write.

        Raises:
            IpcError: with errno EBUSY, arrays or views use the memory and would lose a right.
            AccessDenied: the file was opened for reading only.
            InvalidArgument: `protection` is another value.
            ClosedHandle: the handle is closed.

        See mprotect(2).
        """
        self._check_open("mprotect")
        if protection not in _PROTECTIONS:
            message = f"protection must be 'none', 'r' or 'r+', not {protection!r}"
            raise self._invalid("mprotect", message)
        try:
            native.mprotect(self._mapping, _PROTECTIONS[protection])
        except BufferError:
            raise self._in_use("mprotect", "arrays or views use the memory") from None
        except OSError as exc:
            raise from_errno(exc.errno or errno.EIO, op="mprotect", target=self._target) from None

    def advise(self, advice: str | int, offset: int = 0, size: int | None = None) -> None:
        """Tell the kernel how the memory will be used.

        Args:
            advice: a name such as ``"sequential"``, ``"willneed"``, ``"dontneed"`` or
                ``"hugepage"``, or one of mmap.MADV_*. Advice that would make a later access fatal
                is refused.
            offset: bytes from the start of the memory; by default 0.
            size: bytes; by default all from `offset` on.

        Raises:
            InvalidArgument: the advice is unknown or refused, or the range is not inside the
                memory.
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
            raise self._invalid("madvise", f"advice {advice!r} is unknown")
        try:
            native.madvise(self._mapping, offset, count, number)
        except ValueError as exc:
            raise self._invalid("madvise", str(exc)) from None
        except OSError as exc:
            raise from_errno(exc.errno or errno.EIO, op="madvise", target=self._target) from None

    def resize(self, size: int, *, shrink: bool = False) -> None:
        """Grow the memory, and the file if it is too short; or shrink both.

        Existing arrays and views stay valid, over the old size.

        Args:
            size: the new size of the memory in bytes, from its `offset` in the file on.
            shrink: allow the file to be shrunk, by default False. A process that then accesses the
                removed bytes is killed by SIGBUS.

        Raises:
            InvalidArgument: the mode is not ``"r+"``; `size` is smaller and `shrink` is False; or
                another file has this path now.
            IpcError: with errno EBUSY, arrays, views or other handles of this process use the bytes
                that would be removed.
            LimitReached: the file system is full.
            ClosedHandle: the handle is closed.

        See ftruncate(2) and posix_fallocate(3).
        """
        self._check_open("resize")
        wanted = checked_size(size)
        if self._path is None or self._mode != "r+":
            message = "only a file that was opened with mode 'r+' can be resized"
            raise self._invalid("resize", message)
        if wanted < self.size and not shrink:
            message = f"{wanted:,} bytes are fewer than the {self.size:,} that are mapped"
            raise self._invalid("resize", message, SHRINK_HINT)
        found = _open(self._path, os.O_RDWR)
        try:
            self._resize(found.number, wanted, shrink=shrink)
        finally:
            found.close()

    def _resize(self, fd: int, size: int, *, shrink: bool) -> None:
        if identity(fd) != self._file:
            message = "the file was replaced: another file has its path now"
            raise InvalidArgument(message, errno=errno.ESTALE, op="resize", target=self._target)
        end, now = self._offset + size, os.fstat(fd).st_size
        if shrink and end < now:
            before = min(self.size, now - self._offset)
            self._shrink(fd, end, lambda: self._map(fd, size), lambda: self._map(fd, before))
            return
        if end > now:
            allocate(fd, end, self._target)
        self._map(fd, size)

    def _map(self, fd: int, size: int) -> None:
        """Replace the mapping by one of another size."""
        self._replace(map_file(fd, size, READ_WRITE, SHARED, self._target, offset=self._offset))

    # -- lifecycle ---------------------------------------------------------------------------------

    def _remove(self) -> None:
        if self._path is None:
            message = "anonymous memory has no file to unlink"
            raise NotFound(message, errno=errno.ENOENT, op="unlink", target=self._target)
        try:
            if unlink_path(self._path, self._is_file):
                return
        except OSError as exc:
            raise from_errno(exc.errno or errno.EIO, op="unlink", target=self._target) from None
        message = "the file was removed, and another file has its path now"
        raise NotFound(message, errno=errno.ENOENT, op="unlink", target=self._target)

    def _is_file(self, status: os.stat_result) -> bool:
        """Whether the entry at the path is the file, or a symbolic link to it."""
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
            message = "private and anonymous memory cannot be pickled: only a fork shares it"
            raise self._invalid("pickle", message)
        return (self._path, self._mode, self._offset, self.size)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        path, mode, offset, size = args
        return cls.open(path, mode=mode, offset=offset, size=size)


def _describe(path: str | None) -> str:
    return "anonymous memory" if path is None else f"file {path}"


def _check_open_arguments(mode: str, readonly: object, offset: int, size: int | None) -> None:
    message = ""
    if mode not in {"r", "r+", "private"}:
        message = f"mode must be 'r', 'r+' or 'private', not {mode!r}"
    elif not isinstance(readonly, bool):
        type_message = f"readonly must be a bool, not {type(readonly).__name__}"
        raise TypeError(type_message)
    elif readonly and mode == "r+":
        message = "mode 'r+' writes the file, and readonly=True forbids it"
    elif offset < 0 or (size is not None and size < 1):
        message = f"offset must be 0 or more and size 1 or more, not {offset} and {size}"
    if message:
        raise InvalidArgument(message, errno=errno.EINVAL, op="mmap")


def _in_shared_directory(path: str) -> bool:
    """Whether any user may create a file beside a path, so that a link there is not trusted."""
    try:
        mode = os.stat(Path(path).parent).st_mode  # noqa: PTH116
    except OSError:
        return False
    return bool(mode & stat.S_ISVTX and mode & stat.S_IWOTH)


def _open(path: str, flags: int) -> Descriptor:
    flags |= os.O_NOFOLLOW if _in_shared_directory(path) else 0
    try:
        # `open_file` does not wait for a FIFO, which is refused below: it is not a regular file.
        opened = Descriptor(open_file(path, flags))
    except OSError as exc:
        writing = flags & os.O_ACCMODE == os.O_RDWR and not flags & os.O_CREAT
        raise _open_error(exc.errno or errno.EIO, path, writing=writing) from None
    except ValueError as exc:  # a NUL inside
        raise InvalidArgument(str(exc), errno=errno.EINVAL, op="open") from None
    if stat.S_ISREG(os.fstat(opened.number).st_mode):
        return opened
    opened.close()
    message = "the path is not a regular file"
    raise InvalidArgument(message, errno=errno.EINVAL, op="open", target=_describe(path))


def _open_error(code: int, path: str, *, writing: bool) -> IpcError:
    target = _describe(path)
    message = hint = ""
    if code == errno.ENOENT:
        hint = f"create it with MappedFile.create({path!r}, size), if its directory exists"
    elif writing and code in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY}:
        hint = _FEWER_RIGHTS["r+"]
    elif code == errno.ELOOP:
        message = "the path is a symbolic link in a directory that any user may write"
        return InvalidArgument(message, errno=code, op="open", target=target)
    elif code in {errno.EISDIR, errno.ENXIO, errno.ENODEV}:
        message = "the path is not a regular file"
        return InvalidArgument(message, errno=code, op="open", target=target)
    elif code == errno.EAGAIN:
        message = LEASED
    return descriptor_error(code, op="open", target=target, message=message, hint=hint)
