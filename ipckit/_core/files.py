"""Absolute paths, files that are under a lease, errors of /dev/shm, and paths from /proc."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from ipckit._core.deadline import Deadline
from ipckit._core.directory_entry import unlink_path
from ipckit._core.limits import user_name
from ipckit.errors import AccessDenied, IpcError, NotFound, from_errno

SHM: Final = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory and semaphores
CHANNEL_PREFIX: Final = "ipckit."  # the names of channels' files there begin with it
TOPIC_PREFIX: Final = "ipckit-topic."  # and those of topics with this
_DESCRIPTORS: Final = "/proc/self/fd"
_LEASE_SECONDS: Final = 5.0
LEASED: Final = "another process holds a lease on it"
_NO_PROC_HINT: Final = "mount -t proc proc /proc"


def absolute(path: str, *, op: str) -> str:
    """Make a path absolute, so that a later os.chdir has no effect on it.

    Symbolic links, ``..`` and the empty path are not changed.

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
    """Open a file with O_CLOEXEC and O_NONBLOCK; retry for some seconds if it is under a lease.

    `ipckit ls` and `gc` hold a lease on a file while they check whether it is in use. During a
    lease, an open with O_NONBLOCK fails instead of waiting. O_NONBLOCK is needed because an open of
    a FIFO would wait without it.

    Raises:
        OSError: the file cannot be opened; BlockingIOError if it is still under a lease.

    See fcntl(2), F_SETLEASE.
    """
    flags |= os.O_CLOEXEC | os.O_NONBLOCK
    for _ in Deadline(_LEASE_SECONDS).looks():
        try:
            return os.open(path, flags, mode)
        except BlockingIOError:
            pass
    return os.open(path, flags, mode)


def is_alone(fd: int | None) -> bool | None:
    """Return whether no other process has a file open or mapped.

    Takes a write lease, see fcntl(2). The kernel grants it only if no other process, in any
    namespace, has the file open or mapped. A process that opens the file waits until `fd` is
    closed, so a true answer stays true until then.

    Args:
        fd: a descriptor of the file; None if the caller may not open it.

    Returns:
        None if it can't be known: the caller may not open the file, or does not own it.
    """
    if fd is None:
        return None
    try:
        # The kernel sends a signal when another process opens the file. The default, SIGIO, would
        # end this process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def open_regular(path: str, *, follow: bool = True) -> int | None:
    """Open a file for reading if it is a regular file, although its path may lead anywhere.

    The path is another user's choice, also /proc/PID/fd/N. Opening a device or a FIFO can have side
    effects, so the type is checked first, by O_PATH.

    Args:
        path: the file.
        follow: follow a symbolic link.

    Returns:
        A descriptor, with O_NONBLOCK; None if it is not a regular file.

    Raises:
        OSError: the file cannot be opened.
    """
    held = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        if not stat.S_ISREG(os.fstat(held).st_mode):
            return None
        return os.open(f"{_DESCRIPTORS}/{held}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(held)


def shm_error(code: int, *, op: str, target: str, creating: bool, instead: str) -> IpcError | None:
    """Create the error of a call that failed because of the directory /dev/shm; else return None.

    Args:
        code: the errno of the call. glibc's sem_open fails with ENOENT if the caller may not write
            to the directory.
        op: the call.
        target: the object.
        creating: whether the call would have created the object.
        instead: the class to use without /dev/shm, for the hint.
    """
    try:
        status = os.stat(SHM)  # noqa: PTH116 - its mode and owner
    except OSError:
        status = None
    if status is None or not stat.S_ISDIR(status.st_mode):
        if code not in {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EACCES}:
            return None
        message = f"{SHM} is missing, and this object is a file in it"
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
    """Return whether /proc is not mounted; then ipckit can't find a descriptor's path."""
    return not os.path.isdir(_DESCRIPTORS)  # noqa: PTH112 - one call needs no Path


def no_proc(*, op: str, target: str) -> IpcError:
    """Create the error of a call that needs /proc, which is not mounted."""
    message = "it needs /proc, which is not mounted"
    return IpcError(message, errno=errno.ENOSYS, op=op, target=target, hint=_NO_PROC_HINT)


def path_of_fd(fd: int) -> str:
    """Return the path of a descriptor as /proc shows it; "" if /proc is not mounted.

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
    """Remove a file that this process created, unless another file has its path now.

    Args:
        path: the file's path.
        file: its device and inode.
    """
    with suppress(OSError):  # the caller is raising an error already, which must not be replaced
        unlink_path(path, lambda status: (status.st_dev, status.st_ino) == file)
