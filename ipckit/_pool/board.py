"""Board: shared memory in which each worker records which task it runs.

Each worker has one cache line of eight words. The pool can read them at any time, even after the
worker was killed. After these lines, a byte for each worker tells whether it waits for its bell.
"""

from __future__ import annotations

import mmap
import os
from typing import Any, Final

from ipckit._core.descriptors import Descriptor, duplicate_for_child
from ipckit._shm.memfd import new_memfd

_WORDS: Final = 8
_WORD_BYTES: Final = 8
# The words of a worker.
_TASK: Final = 0  # the number of the task that it runs; 0 for none
_SINCE: Final = 1  # when the task began, by CLOCK_MONOTONIC, as a float
_KILLED_FOR: Final = 2  # the number of the overdue task because of which the pool kills the worker


class Board:
    """The records of all workers of a pool. A place is the index of a worker's record.

    Args:
        places: the number of workers.
        fd: the descriptor of the memory, which this object then owns; by default new memory.
    """

    def __init__(self, places: int, fd: int | None = None) -> None:
        self._places = places
        self._sleepers = (
            places * _WORDS * _WORD_BYTES
        )  # a byte for each worker follows: 1 if it sleeps
        size = self._sleepers + places
        if fd is None:
            fd = new_memfd("ipckit-pool")
            os.ftruncate(fd, size)
        self._fd = Descriptor(fd)
        self._memory = mmap.mmap(fd, size)
        # An aligned word is copied in one step, so the pool never reads a part of a new value.
        with memoryview(self._memory) as whole, whole[: self._sleepers] as words:
            self._words, self._times = words.cast("Q"), words.cast("d")

    def begin(self, place: int, task: int, now: float) -> None:
        """Record that a worker begins a task. The time is stored before the task's number."""
        self._times[place * _WORDS + _SINCE] = now
        self._words[place * _WORDS + _TASK] = task

    def end(self, place: int) -> None:
        """Record that a worker runs no task."""
        self._words[place * _WORDS + _TASK] = 0

    def task(self, place: int) -> int:
        """Return the number of the task that a worker runs; 0 for none."""
        return self._words[place * _WORDS + _TASK]

    def since(self, place: int) -> float:
        """Return when the worker's task began."""
        return self._times[place * _WORDS + _SINCE]

    def mark_for_kill(self, place: int, task: int) -> bool:
        """Record that the pool kills a worker because of a task. Return whether it still runs it.

        A worker calls `is_marked_for_kill` after each task, before it takes another one. So the
        kill can't hit another task.
        """
        self._words[place * _WORDS + _KILLED_FOR] = task
        return self.task(place) == task

    def is_marked_for_kill(self, place: int, task: int) -> bool:
        """Return whether the pool kills the worker because of a task."""
        return self._words[place * _WORDS + _KILLED_FOR] == task

    def sleep(self, place: int) -> None:
        """Record that a worker waits for its bell."""
        self._memory[self._sleepers + place] = 1

    def wake(self, place: int) -> None:
        """Record that a worker does not wait for its bell."""
        self._memory[self._sleepers + place] = 0

    def wake_sleepers(self, count: int) -> list[int]:
        """Record that up to `count` sleeping workers are awake, and return their places."""
        places: list[int] = []
        at = self._sleepers
        while len(places) < count and (at := self._memory.find(b"\1", at)) >= 0:
            self._memory[at] = 0
            places.append(at - self._sleepers)
        return places

    def clear(self, place: int) -> None:
        """Clear the record of a dead worker."""
        for word in range(_WORDS):
            self._words[place * _WORDS + word] = 0
        self.wake(place)

    def close(self) -> None:
        """Unmap the memory and close the descriptor; idempotent.

        No thread may use the board after that.
        """
        self._words.release()
        self._times.release()
        self._memory.close()
        self._fd.close()

    def __getstate__(self) -> Any:
        return self._places, duplicate_for_child(self._fd.number)

    def __setstate__(self, state: Any) -> None:
        places, fd = state
        self.__init__(places, fd.detach())  # type: ignore[misc]
