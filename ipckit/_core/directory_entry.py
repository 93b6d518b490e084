"""Remove a file only if it is the one that was checked, although other users can rename files.

Each call that takes a path looks it up again. Between two calls another user can replace a
directory of theirs by a symbolic link, and the second call acts on a file elsewhere. So the
directory is opened once, and all other calls are relative to its descriptor.

One race remains: Linux has no call that removes an entry only if it is a certain inode. Between the
comparison in `unlink_same` and its unlinkat(2), another process can replace the entry in the same
directory. The directory itself cannot change, so:

- In a directory with the sticky bit (/tmp, /dev/shm), another user can rename and replace only
  their own files. The new entry is their own file, or a hard link to a file that also has another
  name. Removing it then loses only the link.
- In a directory that another user may write and that has no sticky bit, that user can remove every
  file anyway.
- If the owner removes the file within these microseconds, and a third user then creates a file of
  the same name, the new file is lost. This needs the owner's help, and in /tmp no user has a right
  to a name that another user uses.
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
    """The path contains a symbolic link that another user may have created."""


@contextmanager
def directory_of(path: str | os.PathLike[str], *, strict: bool = False) -> Generator[int]:
    """Open the directory that contains a path's last component, for a ``with`` block.

    Args:
        path: an absolute path, or one relative to the working directory if `strict` is false.
        strict: refuse symbolic links in the path that another user may have created. A link is
            accepted if it and its directory belong to root or to the caller, and the directory is
            not writable for all users, or, if the caller is root, for a group; /var/run is such a
            link. Use it for paths that the program
            found by itself. A path from the user needs no such check.

    Raises:
        UntrustedLinkError: `strict` refused a link.
        OSError: a directory does not exist, or this process may not search it.
    """
    text = str(os.fspath(path))
    parent = text.rpartition("/")[0] or ("/" if text.startswith("/") else ".")
    held = _walk(parent) if strict else os.open(parent, _DIRECTORY)
    try:
        yield held
    finally:
        os.close(held)


def _walk(path: str) -> int:
    """Open a directory by its absolute path, one component after the other."""
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
    """The target of a symbolic link that only root or the caller can have created.

    Raises:
        UntrustedLinkError: another user may have created it.
        NotADirectoryError: it is not a link.
    """
    link = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISLNK(link.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    holder = os.fstat(directory)
    trusted = {0, os.geteuid()}
    # A member of the group could put another link of root's there, by a rename or as a hard link.
    # The bit of the group is also set if an access control list allows a user to write. The group
    # of a directory that is not root's is often a group of the owner alone.
    writers = stat.S_IWOTH | (stat.S_IWGRP if os.geteuid() == 0 else 0)
    if {link.st_uid, holder.st_uid} - trusted or holder.st_mode & writers:
        message = "the path contains a symbolic link that another user can change"
        raise UntrustedLinkError(errno.ELOOP, message)
    return os.readlink(name, dir_fd=directory)


def unlink_same(directory: int, name: str, same: Callable[[os.stat_result], bool]) -> bool:
    """Remove an entry of a directory if it is the file that was checked.

    Args:
        directory: a descriptor of the directory.
        name: the entry's name, without a slash.
        same: returns whether the result of lstat(2) is that file, by its type, device and inode.

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
    """Remove the file at a path that the caller got from its user; see `unlink_same`."""
    name = str(os.fspath(path)).rpartition("/")[2]
    with directory_of(path) as directory:
        return unlink_same(directory, name, same)
