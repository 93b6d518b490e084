"""Semaphores: System V sets, POSIX semaphores, and the locks that are built on sets."""

from typing import TYPE_CHECKING

from ipckit._core.lazy_names import lazy_names

if TYPE_CHECKING:
    from ipckit._native import Semaphore, SemOp
    from ipckit._sem.barrier import Barrier
    from ipckit._sem.buffer import BoundedBuffer
    from ipckit._sem.event import Event
    from ipckit._sem.locks import Lock, ReadWriteLock
    from ipckit._sem.order import LockOrder
    from ipckit._sem.posix import PosixSemaphore
    from ipckit._sem.primitive import Primitive
    from ipckit._sem.stat import (
        SysVSemaphoreLimits,
        SysVSemaphoreSetStat,
        SysVSemaphoreUsage,
        list_sets,
        semaphore_limits,
        semaphore_usage,
    )
    from ipckit._sem.sysv import SysVSemaphoreSet
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "ipckit._native": "Semaphore SemOp",
            "ipckit._sem.barrier": "Barrier",
            "ipckit._sem.buffer": "BoundedBuffer",
            "ipckit._sem.event": "Event",
            "ipckit._sem.locks": "Lock ReadWriteLock",
            "ipckit._sem.order": "LockOrder",
            "ipckit._sem.posix": "PosixSemaphore",
            "ipckit._sem.primitive": "Primitive",
            "ipckit._sem.stat": (
                "SysVSemaphoreLimits SysVSemaphoreSetStat SysVSemaphoreUsage list_sets "
                "semaphore_limits semaphore_usage"
            ),
            "ipckit._sem.sysv": "SysVSemaphoreSet",
        },
    )

__all__ = [
    "Barrier",
    "BoundedBuffer",
    "Event",
    "Lock",
    "LockOrder",
    "PosixSemaphore",
    "Primitive",
    "ReadWriteLock",
    "SemOp",
    "Semaphore",
    "SysVSemaphoreLimits",
    "SysVSemaphoreSet",
    "SysVSemaphoreSetStat",
    "SysVSemaphoreUsage",
    "list_sets",
    "semaphore_limits",
    "semaphore_usage",
]
