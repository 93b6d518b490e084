"""What a POSIX queue's descriptor tells of the queue."""

from __future__ import annotations

import os
from pathlib import Path

import ipckit._native as native
from ipckit._core.descriptors import Descriptor
from ipckit._core.files import path_of_fd
from ipckit.errors import InvalidArgument
from ipckit.keys import Name


class WaitedDescriptor(Descriptor):
    """A queue's descriptor, which is closed once that was asked for and no call waits on it.

    Attributes:
        calls: what native calls take; it counts those that are being made.
    """

    __slots__ = ("calls",)

    def __init__(self, number: int, *, owned: bool = True) -> None:
        self.calls = native.QueueDescriptor(number)
        super().__init__(number, owned=owned)

    def close(self) -> None:
        """Close it, now or when the last call that waits is done."""
        number, self._number = self._number, -1
        if self.owned and number >= 0:
            self.calls.close()


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
        return Name(Path(path_of_fd(fd)).name)
    except InvalidArgument:
        return None  # C programs can make names that are not text
