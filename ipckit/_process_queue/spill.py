"""The spill file of a ProcessQueue: memory for messages for which the channel has no block.

The file is a memfd. Each such message has a piece of it, whose memory is freed when a receiver has
copied the object. A table in the file records the process that owns each piece
(native/ring/spill_table.h). Before the table grows, a process reclaims the pieces of processes that
exited.
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
    """A channel that does not warn if it is dropped unclosed, like multiprocessing.Queue."""

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()


class Spill:
    """The spill file, as one process has it open.

    Args:
        channel: the queue's channel, which carries the references to pieces.
        fd: the file's descriptor, which this object takes over; by default a new file.

    Raises:
        LimitReached: there is not enough memory, or RLIMIT_NOFILE is reached.
    """

    def __init__(self, channel: Channel[bytes], fd: int | None = None) -> None:
        fresh = fd is None
        if fd is None:
            fd = new_memfd("ipckit-queue")
        try:
            if fresh:
                # No process can truncate memory that another process has mapped.
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, int(Seal.SHRINK))
            self._file: native.SpillFile | None = native.SpillFile(channel, fd, fresh)
        except OSError as exc:
            raise _explained(exc, "open") from None
        finally:
            os.close(fd)  # the SpillFile has a duplicate

    @property
    def file(self) -> native.SpillFile:
        """The native object of the file.

        Raises:
            ClosedHandle: the file was closed.
        """
        if self._file is None:
            raise closed_handle("fileno", _TARGET)
        return self._file

    def put(self, parts: list[Buffer]) -> native.Piece:
        """Write a message into a new piece, and return the piece to be sent.

        Raises:
            LimitReached: there is not enough memory.
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
        """Close the file; idempotent. It stays mapped for objects that use its memory."""
        self._file = None


def _explained(exc: OSError, op: str) -> OSError:
    """Return the `IpcError` for an error of a system call, and any other exception unchanged."""
    if type(exc) is not OSError or exc.errno is None:
        return exc
    if exc.errno == errno.EFBIG:
        limit = soft_limit(resource.RLIMIT_FSIZE)
        message = f"the file for long objects would exceed RLIMIT_FSIZE ({limit})"
        return from_errno(errno.ENOSPC, op=op, target=_TARGET, message=message)
    return descriptor_error(exc.errno, op=op, target=_TARGET)
