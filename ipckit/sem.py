"""Semaphores: System V sets and POSIX; and what is built from sets."""

from ipckit._native import Semaphore, SemOp
from ipckit._sem.locks import Lock, Primitive, ReadWriteLock
from ipckit._sem.order import LockOrder
from ipckit._sem.posix import PosixSemaphore
from ipckit._sem.stat import (
    SysVSemaphoreLimits,
    SysVSemaphoreSetStat,
    SysVSemaphoreUsage,
    list_sets,
    semaphore_limits,
    semaphore_usage,
)
from ipckit._sem.sysv import SysVSemaphoreSet
from ipckit._sem.buffer import Barrier, BoundedBuffer, Event

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
