"""Memory for the messages of a ProcessQueue that are too large to be copied through its channel.

A file without a name: each message has pages of its own, which are given back when the receiver is
done with them. So nobody waits for anybody, and a receiver reads in place for as long as it likes.
Pages that are given back are used again, since they are warm; beyond some megabytes they go back to
the system. What the dead had in hand stays taken for as long as the queue lives.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from ipckit import _native
from ipckit._channel import Channel
from ipckit._handle import closed_handle
from ipckit._shm_file import (
    MADV_POPULATE_WRITE,
    PRIVATE,
    READ_WRITE,
    SHARED,
    check_memory,
    name_descriptors,
)
from ipckit._shm_memfd import Seal, new_memfd
from ipckit.errors import Corrupt, IpcError, WouldBlock, from_errno

if TYPE_CHECKING:
    from typing_extensions import Buffer

_TARGET: Final = "ProcessQueue"
_VECTORS: Final = 1024  # IOV_MAX
# What is kept to be used again: at most so many pieces of so many bytes.
_KEPT: Final = 16
_KEPT_SIZE: Final = 1 << 22
_MAPPED: Final = 32  # of them that a sender keeps mapped
_PIECE: Final = struct.Struct("=QQ")  # where it is, and its bytes


class QuietChannel(Channel[bytes]):
    """A channel that says nothing when it is dropped; multiprocessing.Queue does not either."""

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()


class _File:
    """The descriptor, closed when nobody needs it any more; and the pieces to be used again."""

    def __init__(self, fd: int, pieces: Channel[bytes]) -> None:
        self.fd, self.pieces = fd, pieces

    def __del__(self) -> None:
        os.close(self.fd)

    def drop(self, at: int, size: int) -> None:
        """Give a message's piece back: to who puts the next one, or to the system."""
        span = _span(size)
        if span <= _KEPT_SIZE:
            with suppress(IpcError):  # enough are kept, or the queue is closed
                self.pieces.send(_PIECE.pack(at, span), timeout=0)
                return
        with suppress(OSError):  # failing costs memory, and nothing else
            _native.punch(self.fd, at, span)


# What is read in place by this process. A forked child reads it too: then its pages stay.
_HELD: Final[dict[tuple[int, int], weakref.ref[_native.Mapping]]] = {}
os.register_at_fork(before=_HELD.clear)


class Spill:
    """The file, in one process.

    Args:
        fd: its descriptor, which this takes over; by default a new one.
        pieces: the channel of the pieces that can be used again.
    """

    def __init__(self, fd: int | None = None, pieces: Channel[bytes] | None = None) -> None:
        if fd is None:
            fd = new_memfd("ipckit-queue")
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, int(Seal.SHRINK))
        self.pieces = pieces or QuietChannel.anonymous(capacity=_KEPT, size=4096)
        self._file: _File | None = _File(fd, self.pieces)
        self._mappings: dict[int, memoryview] = {}
        self._lock = threading.Lock()

    @property
    def file(self) -> _File:
        """The file.

        Raises:
            ClosedHandle: this was closed.
        """
        if self._file is None:
            raise closed_handle("fileno", _TARGET)
        return self._file

    def put(self, parts: list[Buffer]) -> tuple[int, int]:
        """Write a message behind all others; where it is, and how many bytes it has.

        Raises:
            LimitReached: there is no memory for it.
        """
        views = [memoryview(each).cast("B") for each in parts]
        size = sum(each.nbytes for each in views)
        span = _span(size)
        at = self._used_piece(span)
        memory = None if at is None else self._mapped(at, span)
        if at is None:
            check_memory(span, _TARGET)
            at = self._grow(span)
        if memory is None:
            self._write(views, at, size)
            return at, size
        done = 0
        for each in views:
            memory[done : done + each.nbytes] = each
            done += each.nbytes
        return at, size

    def _write(self, views: list[memoryview], at: int, size: int) -> None:
        # Not in place: where there is no memory, this says so, and there a signal kills the writer.
        done = 0
        try:
            while done < size:
                written = os.pwritev(self.file.fd, views[:_VECTORS], at + done)
                done += written
                while views and written >= views[0].nbytes:
                    written -= views.pop(0).nbytes
                if written:
                    views[0] = views[0][written:]
        except OSError as exc:
            raise from_errno(exc.errno or errno.EIO, op="put", target=_TARGET) from None

    def _mapped(self, at: int, span: int) -> memoryview | None:
        """A piece that was used before, mapped for as long as it is likely to be used again."""
        with self._lock:
            found = self._mappings.pop(at, None)
            if found is None or found.nbytes != span:
                try:
                    mapping = _native.mmap(self.file.fd, at, span, READ_WRITE, SHARED)
                    # All of it has memory from here on, also what no message has filled yet.
                    _native.madvise(mapping, 0, span, MADV_POPULATE_WRITE)
                except OSError:  # no memory, vm.max_map_count of them live, or Linux before 5.14
                    return None
                found = memoryview(cast("Buffer", mapping))
                if len(self._mappings) >= _MAPPED:
                    del self._mappings[next(iter(self._mappings))]
            self._mappings[at] = found
            return found

    def _used_piece(self, span: int) -> int | None:
        if span <= _KEPT_SIZE:
            with suppress(WouldBlock):
                at, size = cast("tuple[int, int]", _PIECE.unpack(self.pieces.receive(timeout=0)))
                if size == span:
                    return at
                self.drop(at, size)
        return None

    def _grow(self, size: int) -> int:
        try:
            # A file description of its own, by which flock(2) tells threads and forks apart; the
            # kernel drops the lock of who dies.
            fd = os.open(f"/proc/self/fd/{self.file.fd}", os.O_RDWR | os.O_CLOEXEC)
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
        if at < 0 or at % mmap.PAGESIZE or size <= 0 or at + size > os.fstat(self.file.fd).st_size:
            message = f"{size:,} bytes at {at:,}, where no message is"
            raise Corrupt(message, errno=errno.EUCLEAN, op="get", target=_TARGET)
        try:
            # Private: what is written in it stays here, and a forked child has its own.
            mapping = _native.mmap(self.file.fd, at, size, READ_WRITE, PRIVATE)
        except OSError:  # vm.max_map_count of them live
            return self._copy(at, size)
        file = self.file  # for longer than this queue is open
        key = (id(file), at)

        def over(_: object) -> None:
            if _HELD.pop(key, None) is not None:
                file.drop(at, size)

        _HELD[key] = weakref.ref(mapping, over)
        return memoryview(cast("Buffer", mapping))

    def _copy(self, at: int, size: int) -> memoryview:
        data = memoryview(bytearray(size))
        done = 0
        while done < size:
            done += os.preadv(self.file.fd, [data[done:]], at + done)
        self.drop(at, size)
        return data

    def drop(self, at: int, size: int) -> None:
        """Give back the memory of a message that nobody was told of."""
        self.file.drop(at, size)

    def forked(self) -> None:
        """In a forked child: who held the lock is not here."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the file, which stays open for what is read in it; idempotent."""
        self.pieces.close()
        with self._lock:
            self._mappings.clear()
        self._file = None


def _span(size: int) -> int:
    """The bytes of a message's piece: a power of two, so that pieces fit again."""
    return max(mmap.PAGESIZE, 1 << (size - 1).bit_length())
