"""The descriptor of a POSIX message queue: closing it, and the file and the name behind it."""

from __future__ import annotations

import os
from pathlib import Path

import ipckit._native as native
from ipckit._core.descriptors import Descriptor
from ipckit._core.files import path_of_fd
from ipckit.errors import InvalidArgument
from ipckit.keys import Name


class WaitedDescriptor(Descriptor):
    """A queue's descriptor. `close` takes effect when no call waits on it any more.

    Attributes:
        calls: the argument of native calls, which counts the calls in progress.
    """

    __slots__ = ("calls",)

    def __init__(self, number: int, *, owned: bool = True) -> None:
        self.calls = native.QueueDescriptor(number)
        super().__init__(number, owned=owned)

    def close(self) -> None:
        """Close the descriptor now, or when the last call that waits on it returns."""
        number, self._number = self._number, -1
        if self.owned and number >= 0:
            self.calls.close()


def file_of(fd: int) -> tuple[int, int]:
    """The device and inode of a queue, which no other queue has had."""
    file = os.fstat(fd)
    return (file.st_dev, file.st_ino)


def name_of(fd: int) -> Name | None:
    """The name of the queue of a descriptor; None if no name finds it."""
    if os.fstat(fd).st_nlink == 0:
        return None
    try:
        # A path below the mount point of mqueue, if the queue was opened there.
        return Name(Path(path_of_fd(fd)).name)
    except InvalidArgument:
        return None  # a C program can choose a name that is not text
