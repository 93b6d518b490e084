"""Shared memory: System V, POSIX, memfd, and mapped files; numpy arrays and structs live in it."""

from typing import TYPE_CHECKING

from ipckit._core.lazy_names import lazy_names

if TYPE_CHECKING:
    from ipckit._shm.counter import Counter
    from ipckit._shm.mapped_file import MappedFile
    from ipckit._shm.memfd import MemFd, Seal
    from ipckit._shm.memory import Memory
    from ipckit._shm.posix import PosixSharedMemory
    from ipckit._shm.shared_array import SharedArray
    from ipckit._shm.shared_struct import SharedStruct
    from ipckit._shm.stat import (
        SysVSharedMemoryLimits,
        SysVSharedMemoryStat,
        SysVSharedMemoryUsage,
        list_segments,
        memory_limits,
        memory_usage,
    )
    from ipckit._shm.sysv import SysVSharedMemory
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "ipckit._shm.counter": "Counter",
            "ipckit._shm.mapped_file": "MappedFile",
            "ipckit._shm.memfd": "MemFd Seal",
            "ipckit._shm.memory": "Memory",
            "ipckit._shm.posix": "PosixSharedMemory",
            "ipckit._shm.shared_array": "SharedArray",
            "ipckit._shm.shared_struct": "SharedStruct",
            "ipckit._shm.stat": (
                "SysVSharedMemoryLimits SysVSharedMemoryStat SysVSharedMemoryUsage "
                "list_segments memory_limits memory_usage"
            ),
            "ipckit._shm.sysv": "SysVSharedMemory",
        },
    )

__all__ = [
    "Counter",
    "MappedFile",
    "MemFd",
    "Memory",
    "PosixSharedMemory",
    "Seal",
    "SharedArray",
    "SharedStruct",
    "SysVSharedMemory",
    "SysVSharedMemoryLimits",
    "SysVSharedMemoryStat",
    "SysVSharedMemoryUsage",
    "list_segments",
    "memory_limits",
    "memory_usage",
]
