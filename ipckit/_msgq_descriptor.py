"""A POSIX queue's descriptor: threads wait on it while another may close it."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from ipckit._descriptor import Descriptor
from ipckit._files import path_of_fd
from ipckit.errors import InvalidArgument
from ipckit.keys import Name

if TYPE_CHECKING:
    from collections.abc import Generator


class WaitedDescriptor(Descriptor):
    """A descriptor that is closed once that was asked for and no call waits on it.

    Without the count, another thread could close it under a call that waits, and its number
    could come to mean another queue.
    """

    __slots__ = ("_closing", "_lock", "_users")

    def __init__(self, number: int, *, owned: bool = True) -> None:
        # Reentrant, because a signal's handler may close the handle while its thread is in here.
        self._lock = threading.RLock()
        self._users = 0
        self._closing = False
        super().__init__(number, owned=owned)
        _OPEN.add(self)

    @property
    def closed(self) -> bool:
        """Whether `close` was called, also while a call still waits."""
        return self._closing

    @contextmanager
    def kept_open(self) -> Generator[int]:
        """The descriptor, open for the length of the block, or -1 where it was closed before."""
        with self._lock:
            self._users += 1
        try:
            yield self._number
        finally:
            with self._lock:
                self._users -= 1
                self._close_unused()

    def close(self) -> None:
        """Close it, now or when the last call that waits is done."""
        with self._lock:
            self._closing = True
            self._close_unused()

    def _close_unused(self) -> None:
        if self._closing and self._users <= 0:
            super().close()

    def _forked(self) -> None:
        # The threads that waited, or held the lock, are not in this process.
        self._lock = threading.RLock()
        self._users = 0


_OPEN: Final[WeakSet[WaitedDescriptor]] = WeakSet()


def _forked() -> None:
    for descriptor in _OPEN:
        descriptor._forked()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_forked)


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
