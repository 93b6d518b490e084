"""Semaphores beside sysv_ipc and posix_ipc: uncontended acquire and release in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import posix_ipc
import sysv_ipc
from harness import Row, compare

from ipckit import PosixSemaphore, SemOp, SysVSemaphoreSet

if TYPE_CHECKING:
    from collections.abc import Iterator


def sysv() -> Iterator[Row]:
    """Yield the rows for one semaphore of a set beside sysv_ipc, and for three beside one."""
    with SysVSemaphoreSet.create(values=[1]) as semaphores:
        peer = sysv_ipc.Semaphore(semaphores.key)
        one = semaphores[0]

        def theirs() -> None:
            peer.acquire()
            peer.release()

        def ours() -> None:
            one.acquire()
            one.release()

        def indexed() -> None:
            semaphores[0].acquire()
            semaphores[0].release()

        yield compare("System V, acquire + release", "sysv_ipc", theirs, ours, 1.0)
        yield compare("System V, the same, s[0] each time", "sysv_ipc", theirs, indexed, 1.0)
    with SysVSemaphoreSet.create(values=[1, 1, 1]) as semaphores:
        first = [SemOp(0, -1)], [SemOp(0, +1)]
        three = [SemOp(i, -1) for i in range(3)], [SemOp(i, +1) for i in range(3)]

        def single() -> None:
            semaphores.op(first[0])
            semaphores.op(first[1])

        def vector() -> None:
            semaphores.op(three[0])
            semaphores.op(three[1])

        yield compare("System V, op over 3 semaphores", "op over 1", single, vector, 1.3)


def posix() -> Iterator[Row]:
    """Yield the row for an uncontended POSIX semaphore."""
    semaphore = PosixSemaphore.create()
    with semaphore.lifetime():
        peer = posix_ipc.Semaphore(str(semaphore.name))

        def theirs() -> None:
            peer.acquire()
            peer.release()

        def ours() -> None:
            semaphore.acquire()
            semaphore.release()

        yield compare("POSIX, acquire + release", "posix_ipc", theirs, ours, 1.2)
        peer.close()


def rows() -> Iterator[Row]:
    """Yield each comparison as soon as it is measured."""
    yield from sysv()
    yield from posix()
