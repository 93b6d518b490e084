"""The descriptor of a POSIX message queue, and what it tells of the queue."""

from __future__ import annotations

import os
from pathlib import Path

import ipckit._native as native
from ipckit._core.descriptors import Descriptor
from ipckit._core.files import path_of_fd
from ipckit.errors import InvalidArgument
from ipckit.keys import Name


class WaitedDescriptor(Descriptor):
    """A queue's descriptor, which `close` leaves open until no call waits on it.

    Attributes:
        calls: the argument of native calls, which counts the calls in progress.
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
    """Return a queue's identity: no other queue has the same, whatever its name."""
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
