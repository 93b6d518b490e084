"""LongJobs: a memory file for calls that do not fit into the channel to the workers.

Only the pool allocates and frees memory in the file. If a call is delivered again, the new worker
reads it at the same offset. When a call has ended, the pool frees its memory, which leaves a hole
in the file; see MADV_REMOVE in madvise(2). A new call is written into the first hole that is long
enough, because RLIMIT_FSIZE limits the offsets.
"""

from __future__ import annotations

import errno
import mmap
import os
import resource
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ipckit._core.descriptors import Descriptor, duplicate_for_child, identity
from ipckit._core.limits import soft_limit
from ipckit._pool.messages import REFERENCE
from ipckit._shm.allocation import check_memory
from ipckit._shm.memfd import new_memfd
from ipckit.errors import ClosedHandle, from_errno

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ipckit._process_queue.pickling import Parts
    from ipckit.errors import IpcError

_PAGE: Final = mmap.PAGESIZE
_WRITE_MAX: Final = 1 << 26  # bytes of one pwrite, after which signal handlers can run
_TARGET: Final = "ProcessPool"


class LongJobs:
    """The file of long jobs, opened in one process.

    Args:
        fd: the file's descriptor, which this object then owns; by default a new file.
    """

    def __init__(self, fd: int | None = None) -> None:
        self._fd = Descriptor(new_memfd("ipckit-pool-jobs") if fd is None else fd)
        self._identity = identity(self._fd.number)
        self._size = 0  # the size of the file
        self._taken: dict[int, int] = {}  # the end of each call, by its beginning

    def put(self, parts: Parts) -> LongJob:
        """Write a call into the file, and return the object that owns its memory.

        Raises:
            LimitReached: there is not enough memory.
        """
        size = sum(memoryview(part).nbytes for part in parts)
        check_memory(size, _TARGET)
        whole = size + -size % _PAGE
        at = self._first_hole(whole)
        end = at + whole
        job = LongJob(self._fd, self._taken, at, size)
        self._taken[at] = end
        try:
            if end > self._size:
                os.ftruncate(self._fd.number, end)
                self._size = end
            for part in parts:
                at += _written(self._fd.number, part, at)
        except OSError as exc:
            job.free()
            raise _no_memory(exc.errno or errno.EIO) from None
        return job

    def _first_hole(self, size: int) -> int:
        """Return the offset of the first hole of at least `size` bytes, or of the end."""
        start = 0
        # Use a copy, because the garbage collector may free a call during the loop.
        for begin, end in sorted(self._taken.copy().items()):
            if begin - start >= size:
                break
            start = end
        return start

    def read(self, reference: bytes) -> mmap.mmap:
        """Map the memory of a call.

        Raises:
            ClosedHandle: a task has closed the file's descriptor.
        """
        offset, size = REFERENCE.unpack(reference)
        number = self._fd.number
        try:
            intact = identity(number) == self._identity
        except OSError:
            intact = False
        if not intact:
            message = f"a task has closed descriptor {number}, which belongs to the pool"
            raise ClosedHandle(message, op="task", target=_TARGET)
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        return mmap.mmap(number, size, flags=flags, prot=mmap.PROT_READ, offset=offset)

    def close(self) -> None:
        """Close the file; idempotent."""
        self._fd.close()

    def __getstate__(self) -> Any:
        return duplicate_for_child(self._fd.number)

    def __setstate__(self, fd: Any) -> None:
        self.__init__(fd.detach())  # type: ignore[misc]


class LongJob:
    """The memory of one call. It is freed when the object is deleted.

    Args:
        fd: the descriptor of the file.
        taken: the end of each call in the file, by its beginning.
        offset: the offset of the call in the file.
        size: the size of the call in bytes.
    """

    __slots__ = ("_fd", "_pid", "_taken", "offset", "size")

    def __init__(self, fd: Descriptor, taken: dict[int, int], offset: int, size: int) -> None:
        self._fd, self._taken, self.offset, self.size = fd, taken, offset, size
        self._pid = os.getpid()

    def free(self) -> None:
        """Free the memory; idempotent. Does nothing in a forked child."""
        size, self.size = self.size, 0
        if size and not self._fd.closed and self._pid == os.getpid():
            whole = size + -size % _PAGE
            # If mmap fails because of the limit of address space, the memory stays allocated. If
            # the file could not grow, there is no memory to free.
            with (
                suppress(OSError, ValueError),
                mmap.mmap(self._fd.number, whole, offset=self.offset) as memory,
            ):
                memory.madvise(mmap.MADV_REMOVE)
            self._taken.pop(self.offset, None)  # last, because then another call may use the range

    def __del__(self) -> None:
        self.free()


def _no_memory(code: int) -> IpcError:
    """Return the exception for an errno of ftruncate or pwrite on the file."""
    if code == errno.EFBIG:
        limit = soft_limit(resource.RLIMIT_FSIZE)
        message = f"the file for long arguments would exceed RLIMIT_FSIZE ({limit})"
        return from_errno(errno.ENOSPC, op="submit", target=_TARGET, message=message)
    return from_errno(code, op="submit", target=_TARGET)


def _written(fd: int, part: Buffer, at: int) -> int:
    data = memoryview(part).cast("B")
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done : done + _WRITE_MAX], at + done)
    return done
