"""Recognize the files of /dev/shm that are IPC objects, and not a person's data.

People keep files on this RAM disk, and POSIX shared memory is a file with any name and any
content. A file therefore counts as an IPC object only by a content, a generated name, or a mark
that no other file has.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Final

import ipckit._native as native
from ipckit._core.bridge_file import BRIDGE_MAGIC, BRIDGE_PREFIX
from ipckit._core.creator_mark import is_marked
from ipckit._core.files import CHANNEL_PREFIX, TOPIC_PREFIX
from ipckit._inventory.model import FILE_PREFIXES, SEMAPHORE_PREFIX

# Names that a program generates. The first number of torch is the pid of the creator.
_GENERATED: Final = re.compile(
    r"ipckit-[0-9a-f]{16}"  # keys.Name.random
    r"|ipckit-test-\d+-[0-9a-f]{12}"  # testing.Namespace
    r"|psm_[0-9a-f]{8}"  # multiprocessing.shared_memory
    r"|torch_\d+_\d+_\d+"  # torch.multiprocessing: pid, random number, counter
)
_MAGIC_NUMBERS: Final = {
    CHANNEL_PREFIX: native.CHANNEL_MAGIC,
    TOPIC_PREFIX: native.TOPIC_MAGIC,
}
# The last character of a magic number is the version of the layout.
_STARTS: Final = {
    prefix: re.compile(re.escape(magic[:-1]) + rb"[0-9A-Za-z]")
    for prefix, magic in (
        *((name, number.to_bytes(8, sys.byteorder)) for name, number in _MAGIC_NUMBERS.items()),
        (BRIDGE_PREFIX, BRIDGE_MAGIC),
    )
}
_POSTGRESQL: Final = re.compile(r"PostgreSQL\.\d{1,10}")
_START: Final = 32
_SHARED: Final = 128  # glibc writes this into a semaphore that processes share
# PostgreSQL's dynamic shared memory. Its control segment begins with this word. In every other
# segment that was inspected (areas, parallel queries), bytes 16 to 24 hold the size of the file.
_PG_CONTROL: Final = 0x9A503D32
_PG_SIZE: Final = slice(16, 24)


def is_object(file: str, fd: int | None) -> bool:
    """Return whether a file of /dev/shm is an IPC object, by its name, its mark or its content.

    Args:
        file: the name of the file.
        fd: a descriptor to read the file; None if the caller may not open it.
    """
    if _GENERATED.fullmatch(file):
        return True
    if fd is None:
        return False
    try:
        start, size = os.pread(fd, _START, 0), os.fstat(fd).st_size
    except OSError:
        return False
    return is_marked(fd, file) or _has_content(file, start, size)


def has_object_name(file: str) -> bool:
    """Return whether a file's name is one of an IPC object, if the content agrees."""
    return file.startswith(tuple(FILE_PREFIXES.values())) or _POSTGRESQL.fullmatch(file) is not None


def _has_content(file: str, start: bytes, size: int) -> bool:
    """Return whether a file has the content that its name promises."""
    for prefix, pattern in _STARTS.items():
        if file.startswith(prefix):
            return pattern.match(start) is not None
    if file.startswith(SEMAPHORE_PREFIX):
        return size == native.SEM_T_SIZE and _is_semaphore(start)
    return _POSTGRESQL.fullmatch(file) is not None and _is_postgresql(start, size)


def _is_semaphore(data: bytes) -> bool:
    """Return whether 32 bytes are a named semaphore of glibc: value, waiters, 128, and zeros."""
    value, waiters, shared, *rest = _words(data)
    # On 64 bits, glibc keeps the value and the number of waiters in the first two words.
    return max(value, waiters) <= native.SEM_VALUE_MAX and shared == _SHARED and not any(rest)


def _is_postgresql(start: bytes, size: int) -> bool:
    """Return whether a file with a name of PostgreSQL begins as its shared memory does."""
    stated = int.from_bytes(start[_PG_SIZE], sys.byteorder)
    return len(start) == _START and (_words(start)[0] == _PG_CONTROL or stated == size)


def _words(data: bytes) -> list[int]:
    whole = len(data) // 4 * 4
    return [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, whole, 4)]
