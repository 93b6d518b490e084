"""What ipckit needs of the file system: paths that stay, /dev/shm, /proc, and opening a file."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from ipckit._core.deadline import Deadline
from ipckit._core.directory_entry import unlink_path
from ipckit._core.limits import user_name
from ipckit.errors import AccessDenied, IpcError, NotFound, from_errno

SHM: Final = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory and semaphores
_DESCRIPTORS: Final = "/proc/self/fd"
_LEASE_SECONDS: Final = 5.0
LEASED: Final = "another process holds a lease on it"
_NO_PROC_HINT: Final = "mount -t proc proc /proc"


def absolute(path: str, *, op: str) -> str:
    """A path that leads to the same file after os.chdir.

    Symbolic links and ``..`` stay as they are, and so does the empty path, which is no file's.

    Raises:
        NotFound: the path is relative, and the current directory was removed.
    """
    if not path or path.startswith("/"):
        return path
    try:
        return str(Path(path).absolute())
    except OSError as exc:
        message = "the path is relative, and the current directory was removed"
        code = exc.errno or errno.ENOENT
        raise NotFound(message, errno=code, op=op, target=f"file {path}") from None


def open_file(path: str, flags: int, mode: int = 0o600) -> int:
    """os.open with O_CLOEXEC and O_NONBLOCK, which waits for the end of a lease.

    `ipckit ls` and `gc` hold a lease on a file while they look whether it is in use. The kernel
    then refuses to open it without waiting, and O_NONBLOCK says not to wait: without that a FIFO
    would block. See fcntl(2), F_SETLEASE.

    Raises:
        OSError: it can't be opened; BlockingIOError when a lease lasts for seconds.
    """
    flags |= os.O_CLOEXEC | os.O_NONBLOCK
    for _ in Deadline(_LEASE_SECONDS).looks():
        try:
            return os.open(path, flags, mode)
        except BlockingIOError:
            pass
    return os.open(path, flags, mode)


def shm_error(code: int, *, op: str, target: str, creating: bool, instead: str) -> IpcError | None:
    """The error of a call in /dev/shm for which the directory itself is the reason, or None.

    Args:
        code: the errno of the call. glibc's sem_open gives ENOENT for a directory that it may not
            write.
        op: the call.
        target: the object.
        creating: whether the call was to create the object.
        instead: what needs no /dev/shm.
    """
    try:
        status = os.stat(SHM)  # noqa: PTH116 - its mode and owner
    except OSError:
        status = None
    if status is None or not stat.S_ISDIR(status.st_mode):
        if code not in {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EACCES}:
            return None
        message = f"{SHM} is missing: the system has no directory for it"
        hint = f"as root: mkdir -p {SHM} && mount -t tmpfs -o mode=1777 tmpfs {SHM}; {instead}"
        return NotFound(message, errno=errno.ENOENT, op=op, target=target, hint=hint)
    if code == errno.EROFS:
        hint = f"as root: mount -o remount,rw {SHM}; {instead}"
        return from_errno(code, op=op, target=target, message=f"{SHM} is read-only", hint=hint)
    wanted = os.X_OK | (os.W_OK if creating else 0)
    denied = code in {errno.EACCES, errno.EPERM} or (creating and code == errno.ENOENT)
    if denied and not os.access(SHM, wanted, effective_ids=True):
        code = errno.EACCES
        message = f"this process may not {'write' if creating else 'search'} {SHM}, which belongs "
        message += f"to {user_name(status.st_uid)} and has the mode {status.st_mode & 0o7777:04o}"
        hint = f"as root: chmod 1777 {SHM}; {instead}"
        return AccessDenied(message, errno=code, op=op, target=target, hint=hint)
    return None


def proc_missing() -> bool:
    """Whether /proc is not mounted, so that descriptors have no paths."""
    return not os.path.isdir(_DESCRIPTORS)  # noqa: PTH112 - no object for one look


def no_proc(*, op: str, target: str) -> IpcError:
    """The error for what takes /proc where that is not mounted."""
    message = "it takes /proc, which is not mounted here"
    return IpcError(message, errno=errno.ENOSYS, op=op, target=target, hint=_NO_PROC_HINT)


def path_of_fd(fd: int) -> str:
    """What /proc shows as the path of a descriptor; "" where /proc is not mounted.

    Raises:
        OSError: the descriptor is closed.
    """
    try:
        return os.readlink(f"{_DESCRIPTORS}/{fd}")  # noqa: PTH115 - text, not a path to follow
    except OSError:
        if proc_missing():
            os.fstat(fd)
            return ""
        raise


def unlink_own(path: str, file: tuple[int, int]) -> None:
    """Undo the making of a file, unless its name is gone or leads to another file by now.

    Args:
        path: where it was made.
        file: its device and inode.
    """
    with suppress(OSError):  # the caller raises what it failed with
        unlink_path(path, lambda status: (status.st_dev, status.st_ino) == file)
