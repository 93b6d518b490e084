"""What a POSIX queue's descriptor tells of the queue."""

from __future__ import annotations

import os
from pathlib import Path

from ipckit.errors import InvalidArgument
from ipckit.keys import Name


def file_of(fd: int) -> tuple[int, int]:
    """What tells a queue from all others, past and present, of any name."""
    file = os.fstat(fd)
    return (file.st_dev, file.st_ino)


def name_of(fd: int) -> Name | None:
    """The name that finds the queue of a descriptor, or None where none does."""
    if os.fstat(fd).st_nlink == 0:
        return None
    try:
        # A path where mqueue is mounted, if somebody opened it there.
        return Name(Path(f"/proc/self/fd/{fd}").readlink().name)
    except InvalidArgument:
        return None  # C programs can make names that are not text
