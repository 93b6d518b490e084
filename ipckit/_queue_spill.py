"""Memory for the messages of a ProcessQueue that are too large for its channel.

A file without a name that only grows: each message has pages of its own at its end, which are given
back when the receiver is done with them. So nobody waits for anybody, a receiver reads in place
for as long as it likes, and what the dead had in hand is lost to nobody but the queue's memory.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from ipckit import _native
from ipckit._handle import closed_handle
from ipckit._shm_file import PRIVATE, READ_WRITE, check_memory, name_descriptors
from ipckit._shm_memfd import Seal, new_memfd
from ipckit.errors import Corrupt, from_errno

if TYPE_CHECKING:
    from typing_extensions import Buffer

_TARGET: Final = "ProcessQueue"
_VECTORS: Final = 1024  # IOV_MAX


class _File:
    """A descriptor that is closed when nobody needs it any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


# What is read in place by this process. A forked child reads it too: then its pages stay.
_HELD: Final[dict[tuple[int, int], weakref.ref[_native.Mapping]]] = {}
os.register_at_fork(before=_HELD.clear)


def _hold(mapping: _native.Mapping, file: _File, at: int, size: int) -> None:
    """Give the pages back once nobody looks at a mapping of them."""
    key = (id(file), at)

    def over(_: weakref.ref[_native.Mapping]) -> None:
        if _HELD.pop(key, None) is not None:
            _punch(file.fd, at, size)

    _HELD[key] = weakref.ref(mapping, over)


def _punch(fd: int, at: int, size: int) -> None:
    # Failing costs memory, and nothing else.
    with suppress(OSError):
        _native.punch(fd, at, size)


class Spill:
    """The file, in one process.

    Args:
        fd: its descriptor, which this takes over; by default a new one.
    """

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            fd = new_memfd("ipckit-queue")
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, int(Seal.SHRINK))
        self._file: _File | None = _File(fd)

    @property
    def fd(self) -> int:
        """The file's descriptor."""
        if self._file is None:
            raise closed_handle("fileno", _TARGET)
        return self._file.fd

    def put(self, parts: list[Buffer]) -> tuple[int, int]:
        """Write a message behind all others; where it is, and how many bytes it has.

        Raises:
            LimitReached: there is no memory for it.
        """
        views = [memoryview(each).cast("B") for each in parts]
        size = sum(each.nbytes for each in views)
        check_memory(size, _TARGET)
        at = self._grow(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        done = 0
        try:
            while done < size:
                written = os.pwritev(self.fd, views[:_VECTORS], at + done)
                done += written
                while views and written >= views[0].nbytes:
                    written -= views.pop(0).nbytes
                if written:
                    views[0] = views[0][written:]
        except OSError as exc:
            raise from_errno(exc.errno or errno.EIO, op="put", target=_TARGET) from None
        return at, size

    def _grow(self, size: int) -> int:
        try:
            # A file description of its own, by which flock(2) tells threads and forks apart; the
            # kernel drops the lock of who dies.
            fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as exc:
            error = from_errno(exc.errno or errno.EIO, op="put", target=_TARGET)
            raise name_descriptors(error) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            at = os.fstat(fd).st_size
            os.ftruncate(fd, at + size)
        except OSError as exc:
            raise from_errno(exc.errno or errno.EIO, op="put", target=_TARGET) from None
        finally:
            os.close(fd)
        return at

    def take(self, at: int, size: int) -> memoryview:
        """The memory of a message: the caller's own, and given back with the last look at it.

        Raises:
            Corrupt: there is no such message.
        """
        if at < 0 or at % mmap.PAGESIZE or size <= 0 or at + size > os.fstat(self.fd).st_size:
            message = f"{size:,} bytes at {at:,}, where no message is"
            raise Corrupt(message, errno=errno.EUCLEAN, op="get", target=_TARGET)
        try:
            # Private: what is written in it stays here, and a forked child has its own.
            mapping = _native.mmap(self.fd, at, size, READ_WRITE, PRIVATE)
        except OSError:  # vm.max_map_count of them live
            return self._copy(at, size)
        if self._file is not None:
            _hold(mapping, self._file, at, size)
        return memoryview(cast("Buffer", mapping))

    def _copy(self, at: int, size: int) -> memoryview:
        data = memoryview(bytearray(size))
        done = 0
        while done < size:
            done += os.preadv(self.fd, [data[done:]], at + done)
        _punch(self.fd, at, size)
        return data

    def drop(self, at: int, size: int) -> None:
        """Give the pages of a message back that nobody was told of."""
        _punch(self.fd, at, size)

    def close(self) -> None:
        """Let go of the file, which stays open for what is read in it; idempotent."""
        self._file = None
