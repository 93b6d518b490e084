"""Shared memory: System V, POSIX, memfd, and mapped files; numpy arrays and structs live in it."""

from ipckit._shared_struct import SharedStruct
from ipckit._shm_base import Memory
from ipckit._shm_mapped import MappedFile
from ipckit._shm_memfd import MemFd, Seal
from ipckit._shm_posix import PosixSharedMemory
from ipckit._shm_stat import (
    SysVSharedMemoryLimits,
    SysVSharedMemoryStat,
    SysVSharedMemoryUsage,
    list_segments,
    memory_limits,
    memory_usage,
)
from ipckit._shm_sysv import SysVSharedMemory

__all__ = [
    "MappedFile",
    "MemFd",
    "Memory",
    "PosixSharedMemory",
    "Seal",
    "SharedStruct",
    "SysVSharedMemory",
    "SysVSharedMemoryLimits",
    "SysVSharedMemoryStat",
    "SysVSharedMemoryUsage",
    "list_segments",
    "memory_limits",
    "memory_usage",
]
