"""Pickles of memory without a name: they refer to a descriptor of the process that pickled it.

multiprocessing has such pickles too (`DupFd`), and they serve a child that is about to start. In
other pickles, such as the arguments of a pool's tasks, each one keeps a descriptor of its own until
it is unpickled, it can be unpickled once only, and that takes 0.7 ms. A pool with some thousand
waiting tasks runs out of descriptors, and a task cannot be retried.

So a pickle here names the process, its descriptor and the inode of the memory. The other process
opens it through /proc. The memory itself counts the pickles that no process has opened yet. If the
handle is closed before, such as that of an array which is the result of a task, the process keeps
the descriptor open until the count is 0.
"""

from __future__ import annotations

import atexit
import errno
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from ipckit._core.descriptors import identity
from ipckit._core.forks import at_fork
from ipckit._shm.array_header import waiting_pickles
from ipckit.errors import AccessDenied, NotFound, from_errno

if TYPE_CHECKING:
    from ipckit._shm.memfd import MemFd
    from ipckit._shm.posix import PosixSharedMemory

    ArrayMemory: TypeAlias = MemFd | PosixSharedMemory

# Closed by their handles, but named by pickles. A deque, because a garbage collection can call
# `release` at any moment.
_KEPT: Final[deque[ArrayMemory]] = deque()


# A reference to memory: the process that has it, its descriptor, and the device and inode. A plain
# tuple, because pickles contain it.
Loan: TypeAlias = tuple[int, int, tuple[int, int]]


def lend(memory: ArrayMemory) -> Loan:
    """Return a reference to memory, and count it. The handle is to be closed by `release`."""
    _close_unneeded()
    loan = (os.getpid(), memory.fileno(), identity(memory.fileno()))
    waiting_pickles(memory).add()
    return loan


def open_loan(loan: Loan, target: str) -> int:
    """Open the memory of a reference; the caller then calls `count_opened`.

    Args:
        loan: the reference.
        target: the object, for messages.

    Returns:
        A new descriptor.

    Raises:
        NotFound: the process has exited, or does not have the memory any more.
        AccessDenied: the kernel does not let this process use descriptors of the other one.
    """
    pid, fd, file = loan
    path = f"/proc/{pid}/fd/{fd}"
    try:
        # By its inode first: the number can be that of another file now, such as a terminal, and
        # opening that has effects.
        status = os.stat(path)  # noqa: PTH116 - of one call
        same = (status.st_dev, status.st_ino) == file
        found = os.open(path, os.O_RDWR | os.O_CLOEXEC) if same else -1
    except PermissionError:
        message = f"it is anonymous memory of process {pid}, and this process may not open it"
        hint = "give it a name, or pass it as an argument of multiprocessing.Process"
        raise AccessDenied(
            message, errno=errno.EACCES, op="open", target=target, hint=hint
        ) from None
    except OSError as exc:
        if exc.errno not in {errno.ENOENT, errno.ESRCH, errno.ENXIO, errno.ENOTDIR}:
            raise from_errno(exc.errno or errno.EIO, op="open", target=target) from None
    else:
        if found >= 0:
            if identity(found) == file:
                return found
            os.close(found)
    message = f"process {pid}, which pickled it, has exited or has freed the memory"
    hint = "keep that process, or give the array a name"
    raise NotFound(message, errno=errno.ENOENT, op="open", target=target, hint=hint)


def count_opened(memory: ArrayMemory) -> None:
    """Count a pickle as opened. A pickle can be opened several times, by a task that is retried."""
    count = waiting_pickles(memory)
    while (waiting := count.value) > 0 and not count.compare_exchange(waiting, waiting - 1):
        pass


def release(memory: ArrayMemory) -> None:
    """Close memory that was lent; at once, or when no pickle of it waits any more."""
    if sys.is_finalizing():
        memory.close()  # nobody closes it later
        return
    _KEPT.append(memory)
    _close_unneeded()


def _close_unneeded() -> None:
    for _ in range(len(_KEPT)):
        try:
            memory = _KEPT.popleft()
        except IndexError:
            return  # another thread closed the rest
        if waiting_pickles(memory).value > 0:
            _KEPT.append(memory)
        else:
            memory.close()


def _close_all() -> None:
    while _KEPT:
        _KEPT.popleft().close()


# The pickles name the parent. Its memory must not live on in a child.
at_fork("loans", after_in_child=_close_all)
atexit.register(_close_all)
