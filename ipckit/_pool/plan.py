"""Plan: the channels, shared memory and options that a pool shares with its workers."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, Final

from ipckit._core.descriptors import duplicate_for_child
from ipckit._core.processes import token
from ipckit._pool.bell import Bell
from ipckit._pool.board import Board
from ipckit._pool.long_jobs import LongJobs
from ipckit._process_queue.spill import QuietChannel, Spill

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZE: Final = 1 << 22  # bytes for messages above 4 KiB; shorter ones have as much of their own
_CAPACITY: Final = 1 << 12  # in messages, more than the pool ever hands out


class Plan:
    """The objects that a pool and its workers share.

    A forked worker inherits the plan. With other start methods, a worker unpickles it.

    Args:
        places: the maximum number of workers.
        initializer: called in each worker before its first task, or None.
        initargs: the arguments of the initializer.
        max_tasks: the number of tasks after which a worker exits, or None.

    Attributes:
        jobs: the channel to the workers. A worker takes a job, and acknowledges it after it has
            sent the result. If it dies before that, another worker gets the job.
        results: the channel to the pool.
        spill: memory for results that do not fit into `results`.
        long_jobs: memory for jobs that do not fit into `jobs`.
        board: the board on which workers record the tasks that they run.
        bells: the bells that wake idle workers. With start methods other than fork, a worker gets
            only its own bell.
        pool: the process id and token of the pool's process.
        mask: the signals that the thread which started the pool has blocked. Workers block them
            too.
    """

    def __init__(
        self,
        places: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        max_tasks: int | None,
    ) -> None:
        self.initializer, self.initargs, self.max_tasks = initializer, initargs, max_tasks
        self.pool = os.getpid(), token()
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        # Do not spin. On an idle machine, a round trip takes 70 us in both cases. If other
        # processes need the processors, spinning makes it 4 times as long.
        self.jobs = QuietChannel.anonymous(capacity=_CAPACITY, size=_SIZE, spin=0)
        self.results = QuietChannel.anonymous(
            capacity=_CAPACITY, size=_SIZE, spin=0, peer_gone="wait"
        )
        self.spill = Spill(self.results)
        self.long_jobs = LongJobs()
        self.board = Board(places)
        self.bells = [Bell() for _ in range(places)]

    def close(self) -> None:
        """Close all objects in this process; idempotent."""
        self.jobs.close()
        self.results.close()
        self.spill.close()
        self.long_jobs.close()
        self.board.close()
        for bell in self.bells:
            bell.close()

    def __getstate__(self) -> Any:
        spill = duplicate_for_child(self.spill.file.fd)
        return {**self.__dict__, "spill": spill, "bells": []}

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state)
        self.spill = Spill(self.results, state["spill"].detach())
