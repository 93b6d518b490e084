"""The descriptor of a POSIX message queue, and the queue's identity and name from it."""

from __future__ import annotations

import os
from pathlib import Path

import ipckit._native as native
from ipckit._core.descriptors import Descriptor
from ipckit._core.files import path_of_fd
from ipckit.errors import InvalidArgument
from ipckit.keys import Name


class WaitedDescriptor(Descriptor):
    """A queue's descriptor. If a call waits on it, `close` takes effect when that call returns.

    Attributes:
        calls: counts the calls in progress. Native calls take it instead of the number.
    """

    __slots__ = ("calls",)

    def __init__(self, number: int, *, owned: bool = True) -> None:
        self.calls = native.QueueDescriptor(number)
        super().__init__(number, owned=owned)

    def close(self) -> None:
        """Close the descriptor, now or when the last call on it returns."""
        number, self._number = self._number, -1
        if self.owned and number >= 0:
            self.calls.close()


def file_of(fd: int) -> tuple[int, int]:
    """Return a queue's device and inode. A later queue of the same name has another pair."""
    file = os.fstat(fd)
    return (file.st_dev, file.st_ino)


def name_of(fd: int) -> Name | None:
    """Return the name of a descriptor's queue; None for an unlinked queue."""
    if os.fstat(fd).st_nlink == 0:
        return None
    try:
        # "/name"; or a path below the mount point, if the file was opened there.
        return Name(Path(path_of_fd(fd)).name)
    except InvalidArgument:
        return None  # C programs can create names that are not text
