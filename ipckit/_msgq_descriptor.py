"""A POSIX queue's descriptor: threads wait on it while another may close it."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from ipckit.errors import InvalidArgument
from ipckit.keys import Name

if TYPE_CHECKING:
    from collections.abc import Generator


class Descriptor:
    """An open descriptor, closed once that was asked for and no call waits on it.

    Without the count, another thread could close it under a call that waits, and its number
    could come to mean another queue.

    Args:
        number: the descriptor, which this object takes over.
    """

    __slots__ = ("__weakref__", "_closing", "_lock", "_number", "_users")

    def __init__(self, number: int) -> None:
        self._number = number
        # Reentrant, because a signal's handler may close the handle while its thread is in here.
        self._lock = threading.RLock()
        self._users = 0
        self._closing = False
        _OPEN.add(self)

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
        if self._closing and self._users <= 0 and self._number >= 0:
            number, self._number = self._number, -1
            os.close(number)

    def _forked(self) -> None:
        # The threads that waited, or held the lock, are not in this process.
        self._lock = threading.RLock()
        self._users = 0


_OPEN: Final[WeakSet[Descriptor]] = WeakSet()


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
        return Name(Path(f"/proc/self/fd/{fd}").readlink().name)
    except InvalidArgument:
        return None  # C programs can make names that are not text
