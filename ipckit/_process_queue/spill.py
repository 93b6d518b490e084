"""Memory for the messages of a ProcessQueue that are too large to be copied through its channel.

A file without a name: each message has a piece of it, which is freed when the receiver is done with
the object. So no process waits for another, and a receiver reads in place for as long as it likes.
A table in the file says which process has which piece (native/ring/spill_table.h); the pieces of
a process that exited are freed when a piece is wanted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit._channel.channel import Channel
from ipckit._core.descriptors import descriptor_error
from ipckit._core.handle import closed_handle
from ipckit._core.limits import soft_limit
from ipckit._core.processes import is_dead
from ipckit._shm.allocation import check_memory
from ipckit._shm.memfd import Seal, new_memfd
from ipckit.errors import from_errno

if TYPE_CHECKING:
    from typing_extensions import Buffer

_TARGET: Final = "ProcessQueue"


class QuietChannel(Channel[bytes]):
    """A channel that says nothing when it is dropped; multiprocessing.Queue does not either."""

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()


class Spill:
    """The file, in one process.

    Args:
        channel: the queue's, in which the messages travel that refer to pieces.
        fd: the file's descriptor, which this takes over; by default of a new file.

    Raises:
        LimitReached: memory or RLIMIT_NOFILE is used up.
    """

    def __init__(self, channel: Channel[bytes], fd: int | None = None) -> None:
        fresh = fd is None
        if fd is None:
            fd = new_memfd("ipckit-queue")
        try:
            if fresh:
                # No process can cut off what another one has mapped.
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, int(Seal.SHRINK))
            self._file: native.SpillFile | None = native.SpillFile(channel, fd, fresh)
        except OSError as exc:
            raise _explained(exc, "open") from None
        finally:
            os.close(fd)  # the file has a duplicate

    @property
    def file(self) -> native.SpillFile:
        """The file.

        Raises:
            ClosedHandle: this was closed.
        """
        if self._file is None:
            raise closed_handle("fileno", _TARGET)
        return self._file

    def put(self, parts: list[Buffer]) -> native.Piece:
        """Write a message into a piece of its own, to be sent.

        Raises:
            LimitReached: there is no memory for it.
        """
        file = self.file
        size = sum(memoryview(each).nbytes for each in parts)
        check_memory(size, _TARGET)
        try:
            piece = file.claim(size, False)  # noqa: FBT003
            while piece is None:
                file.reclaim({each for each in file.owners() if is_dead(each)})
                piece = file.claim(size, True)  # noqa: FBT003
            piece.write(parts)
        except OSError as exc:
            raise _explained(exc, "put") from None
        return piece

    def close(self) -> None:
        """Close the file, which stays open for the objects in it; idempotent."""
        self._file = None


def _explained(exc: OSError, op: str) -> OSError:
    """The `IpcError` for an error of the kernel; what a signal handler raised stays as it is."""
    if type(exc) is not OSError or exc.errno is None:
        return exc
    if exc.errno == errno.EFBIG:
        limit = soft_limit(resource.RLIMIT_FSIZE)
        message = f"the file of large objects would exceed RLIMIT_FSIZE ({limit})"
        return from_errno(errno.ENOSPC, op=op, target=_TARGET, message=message)
    return descriptor_error(exc.errno, op=op, target=_TARGET)
