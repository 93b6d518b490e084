"""Removing a file that was judged, in a directory where other users can move things about.

A path is looked up again by each call that takes it. Between two calls another user can put a
symbolic link in the place of a directory of theirs, and the second call acts on a file elsewhere.
So the directory is opened once, and everything else happens relative to its descriptor.

One window remains: Linux has no call that removes an entry only if it is a certain inode. Between
the comparison in `unlink_same` and its unlinkat(2) another process can put another entry of the
same name into the same directory. The directory itself can no longer change, so:

- in a directory with the sticky bit (/tmp, /dev/shm) another user can move and replace only their
  own files there. A file that they can put under the name is theirs, or a hard link to a file that
  exists under another name too, which loses the link and nothing else.
- in a directory that another user may write without the sticky bit, that user can remove each file
  anyway.
- a third user who makes a new file of the name within these microseconds, just after its owner
  removed the old one, loses the new one. That takes the owner's help, and /tmp gives nobody a right
  to a name that another user has.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_LINKS: Final = 40  # as path_resolution(7) has it


class UntrustedLinkError(OSError):
    """A path goes through a symbolic link that another user can have made."""


@contextmanager
def directory_of(path: str | os.PathLike[str], *, strict: bool = False) -> Generator[int]:
    """Open the directory of a path's last part; the descriptor is good for the block.

    Args:
        path: an absolute path, or one relative to the working directory if `strict` is false.
        strict: refuse a symbolic link on the way, unless it and the directory that it is in
            belong to root or to the caller, and not everybody may write there: /var/run is such
            a link. It is for paths that the caller did not name, but found.

    Raises:
        UntrustedLinkError: `strict` refused a link.
        OSError: a directory is missing, or may not be searched.
    """
    text = str(os.fspath(path))
    parent = text.rpartition("/")[0] or ("/" if text.startswith("/") else ".")
    held = _walk(parent) if strict else os.open(parent, _DIRECTORY)
    try:
        yield held
    finally:
        os.close(held)


def _walk(path: str) -> int:
    """Open a directory by its absolute path, one part after the other."""
    held = os.open("/", _DIRECTORY)
    parts = deque(path.split("/"))
    links = 0
    try:
        while parts:
            part = parts.popleft()
            if not part:
                continue
            target = ""
            try:
                found = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=held)
            except NotADirectoryError:
                target = _trusted_link(held, part)
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
                parts.extendleft(reversed(target.split("/")))
                found = os.open("/" if target.startswith("/") else ".", _DIRECTORY, dir_fd=held)
            os.close(held)
            held = found
    except BaseException:
        os.close(held)
        raise
    return held


def _trusted_link(directory: int, name: str) -> str:
    """Where a symbolic link leads, if only root or the caller can have made it.

    Raises:
        UntrustedLinkError: another user can have made it.
        NotADirectoryError: it is no link.
    """
    link = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISLNK(link.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    holder = os.fstat(directory)
    trusted = {0, os.geteuid()}
    if {link.st_uid, holder.st_uid} - trusted or holder.st_mode & stat.S_IWOTH:
        message = "a symbolic link that another user can change leads there"
        raise UntrustedLinkError(errno.ELOOP, message)
    return os.readlink(name, dir_fd=directory)


def unlink_same(directory: int, name: str, same: Callable[[os.stat_result], bool]) -> bool:
    """Remove an entry of a directory if it is the file that was judged.

    Args:
        directory: a descriptor of the directory.
        name: the entry's name, without a slash.
        same: tells by lstat's fields whether it is that file: its type, device and inode at least.

    Returns:
        False if the entry is another file, which stays.

    Raises:
        FileNotFoundError: there is no such entry.
        OSError: it may not be removed.
    """
    if not same(os.stat(name, dir_fd=directory, follow_symlinks=False)):
        return False
    os.unlink(name, dir_fd=directory)
    return True


def unlink_path(path: str | os.PathLike[str], same: Callable[[os.stat_result], bool]) -> bool:
    """Remove the file at a path that the caller was given; see `unlink_same`."""
    name = str(os.fspath(path)).rpartition("/")[2]
    with directory_of(path) as directory:
        return unlink_same(directory, name, same)
