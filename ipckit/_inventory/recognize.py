"""Which files of /dev/shm are IPC objects for certain, and which may be a person's data.

People keep files on this RAM disk, and shared memory is a file of any name and content. So a file
counts as an object only by a content or a name that nothing else has.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Final

from ipckit._core.creator_mark import is_marked

# Names that a program makes up itself; the number in some is the pid of the process that made it.
_MADE_UP: Final = re.compile(
    r"ipckit-[0-9a-f]{16}"  # keys.Name.random
    r"|ipckit-test-\d+-[0-9a-f]{12}"  # testing.Namespace
    r"|psm_[0-9a-f]{8}"  # multiprocessing.shared_memory
    r"|torch_\d+_\d+_\d+"  # torch.multiprocessing: pid, random number, counter
)
_CHANNEL: Final = re.compile(rb"\0IPCHNL[0-9A-Za-z]")
_POSTGRESQL: Final = re.compile(r"PostgreSQL\.\d{1,10}")
_START: Final = 32
_SEM_T_BYTES: Final = 32
_SEM_VALUE_MAX: Final = 0x7FFFFFFF
_SHARED: Final = 128  # what glibc writes into a semaphore that processes share
# PostgreSQL's dynamic memory: the control segment begins with this word. Each other one that was
# looked at, of areas and of parallel queries, has the file's size in the bytes from 16 to 24.
_PG_CONTROL: Final = 0x9A503D32
_PG_SIZE: Final = slice(16, 24)


def is_object(file: str, fd: int | None) -> bool:
    """Whether a file of /dev/shm is an IPC object by its content, its name, or ipckit's mark.

    Args:
        file: its name.
        fd: a descriptor to read it; None if it may not be opened.
    """
    if _MADE_UP.fullmatch(file):
        return True
    if fd is None:
        return False
    try:
        start, size = os.pread(fd, _START, 0), os.fstat(fd).st_size
    except OSError:
        return False
    return is_marked(fd, file) or _has_content(file, start, size)


def has_object_name(file: str) -> bool:
    """Whether a file has a name of which only its content tells if it is an IPC object."""
    return file.startswith(("ipckit.", "sem.")) or _POSTGRESQL.fullmatch(file) is not None


def _has_content(file: str, start: bytes, size: int) -> bool:
    """Whether a file has the content that belongs to its name."""
    if file.startswith("ipckit."):
        return _CHANNEL.match(start) is not None
    if file.startswith("sem."):
        return size == _SEM_T_BYTES and _is_semaphore(start)
    return _POSTGRESQL.fullmatch(file) is not None and _is_postgresql(start, size)


def _is_semaphore(data: bytes) -> bool:
    """Whether 32 bytes are glibc's named semaphore: value, waiters, 128, and zeros."""
    value, waiters, shared, *rest = _words(data)
    # In the first two, glibc on 64 bits keeps the value and how many wait.
    return max(value, waiters) <= _SEM_VALUE_MAX and shared == _SHARED and not any(rest)


def _is_postgresql(start: bytes, size: int) -> bool:
    """Whether memory with PostgreSQL's name begins as PostgreSQL lets it."""
    told = int.from_bytes(start[_PG_SIZE], sys.byteorder)
    return len(start) == _START and (_words(start)[0] == _PG_CONTROL or told == size)


def _words(data: bytes) -> list[int]:
    whole = len(data) // 4 * 4
    return [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, whole, 4)]
