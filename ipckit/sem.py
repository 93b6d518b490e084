"""Semaphores: System V sets and POSIX; and what is built from sets."""

from ipckit._native import Semaphore, SemOp
from ipckit._sem_lock import Lock, Primitive, ReadWriteLock
from ipckit._sem_order import LockOrder
from ipckit._sem_posix import PosixSemaphore
from ipckit._sem_stat import (
    SysVSemaphoreLimits,
    SysVSemaphoreSetStat,
    SysVSemaphoreUsage,
    list_sets,
    semaphore_limits,
    semaphore_usage,
)
from ipckit._sem_sync import Barrier, BoundedBuffer, Event
from ipckit._sem_sysv import SysVSemaphoreSet

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
