"""Checks of a received descriptor: what it allows, and what its sender can still do to the memory.

A receiver never opens the file again through /proc/self/fd, because that could give it a right that
the sender did not pass.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.files import path_of_fd
from ipckit._core.limits import user_name
from ipckit.errors import InvalidArgument, from_errno

if TYPE_CHECKING:
    from collections.abc import Collection

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_KINDS: Final = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFLNK: "a symbolic link",
}


def checked_uid(uid: int | None) -> int | None:
    """Check the argument `owner_uid`: a user id, or None.

    Raises:
        TypeError: it is not an integer.
    """
    return None if uid is None else int_argument("owner_uid", uid, "an int or None")


def check_access(fd: int, *, write: bool, target: str) -> None:
    """Refuse a descriptor that is not open for reading, or for writing if that is needed.

    Args:
        fd: the descriptor.
        write: whether the caller needs to write too.
        target: the object, for messages.

    Raises:
        InvalidArgument: `fd` is not open, was opened with O_PATH, or is not a regular file.
        AccessDenied: it was opened without one of the rights.

    See fcntl(2), F_GETFL.
    """
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        mode = os.fstat(fd).st_mode
    except OSError as exc:
        message = f"descriptor {fd}: {exc.strerror}"
        raise InvalidArgument(message, errno=exc.errno or errno.EBADF, target=target) from None
    message = ""
    if flags & os.O_PATH:
        message = f"descriptor {fd} was opened with O_PATH, which allows no access to the memory"
    elif not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "another kind of file")
        message = f"descriptor {fd} is not a shared-memory file (it is {kind})"
    if message:
        raise InvalidArgument(message, errno=errno.EBADF, target=target)
    access = flags & os.O_ACCMODE
    if access == os.O_WRONLY or (write and access != os.O_RDWR):
        opened, lacks = ("reading", "write") if access == os.O_RDONLY else ("writing", "read")
        message = f"descriptor {fd} was opened for {opened} only, and the caller needs to {lacks}"
        raise from_errno(errno.EACCES, op="from_fd", target=target, message=message)


def check_seal(fd: int, target: str) -> None:
    """Refuse a memfd that its sender can shrink: an access past its end is fatal (SIGBUS).

    Raises:
        InvalidArgument: `fd` is a memfd without F_SEAL_SHRINK.

    See fcntl(2), F_GET_SEALS.
    """
    seals = _seals(fd)
    if seals is None or seals & native.F_SEAL_SHRINK or not _is_memfd(fd):
        return
    message = "it is a memfd without the seal SHRINK, so its sender could shrink it"
    hint = (
        "the sender adds it with MemFd.seal; MemFd.from_fd(fd, require_seals=0) trusts the sender"
    )
    raise InvalidArgument(message, errno=errno.EPERM, op="fcntl", target=target, hint=hint)


def check_sender_cannot_shrink(fd: int, target: str, trusted_uid: int | None) -> None:
    """Refuse memory that the sender of its descriptor could shrink.

    A memfd needs the seal SHRINK. A named object in /dev/shm cannot have seals, so it must belong
    to this user or to root, and other users must not be able to write it. A file of another file
    system is refused: it can shrink, and a FUSE file can make a reader wait for ever.

    Args:
        fd: the descriptor.
        target: the object, for messages.
        trusted_uid: a user whose objects are accepted with any mode, or None.

    Raises:
        InvalidArgument: it is a memfd without SHRINK, or not a file in memory.
        AccessDenied: it is not readable, it belongs to another user, or other users can write it.
    """
    check_access(fd, write=False, target=target)
    check_seal(fd, target)
    if _seals(fd) is None:
        message = f"descriptor {fd} is not a shared-memory file (its file system is not in memory)"
        raise InvalidArgument(message, errno=errno.EINVAL, op="fcntl", target=target)
    if _is_memfd(fd):
        return
    status = os.fstat(fd)
    message = _distrust(status.st_uid, status.st_mode, {0, os.geteuid()}, trusted_uid)
    if message:
        hint = f"pass owner_uid={status.st_uid} to trust its owner"
        raise from_errno(errno.EACCES, op="receive", target=target, message=message, hint=hint)


def _distrust(owner: int, mode: int, own: Collection[int], trusted_uid: int | None) -> str:
    """Return the reason why an untrusted process could shrink a file; "" if none could."""
    if owner == trusted_uid:
        return ""
    if owner not in own:
        return f"it belongs to {user_name(owner)}, who could shrink it"
    if mode & _OTHERS_WRITE:
        return f"its mode {stat.S_IMODE(mode):#o} lets other users shrink it"
    return ""


def _seals(fd: int) -> int | None:
    """Return the seals of a file in memory; None if its file system has no seals."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return None


def _is_memfd(fd: int) -> bool:
    # The file system of a memfd is not mounted, so /proc shows "/memfd:" and the label. The path of
    # a named object begins with the mount point of its file system.
    return path_of_fd(fd).startswith("/memfd:")
