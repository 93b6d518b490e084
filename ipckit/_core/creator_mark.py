"""A mark on POSIX shared memory that ipckit created, by which `ipckit gc` recognizes it.

POSIX shared memory is a file in /dev/shm with any name and contents. Without a mark it looks like a
file that a user stores there. The mark is an extended attribute; tmpfs has these since Linux 6.6.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

_ATTRIBUTE: Final = "user.ipckit.memory"


def mark(fd: int, name: str) -> None:
    """Mark a file as shared memory, if its file system can keep the mark.

    Args:
        fd: a descriptor of the file.
        name: the file's name in /dev/shm.
    """
    with suppress(OSError):
        os.setxattr(fd, _ATTRIBUTE, _value(fd, name))


def is_marked(fd: int, name: str) -> bool:
    """Return whether `mark` marked this file, and the file still has this name."""
    try:
        return os.getxattr(fd, _ATTRIBUTE) == _value(fd, name)
    except OSError:
        return False


def _value(fd: int, name: str) -> bytes:
    # `cp -a` copies the attribute to another inode, and `mv` keeps it under another name. Neither
    # file is shared memory that ipckit created.
    return b"%d %s" % (os.fstat(fd).st_ino, os.fsencode(name))
