"""What a worker process needs: the channels, the shared memory and the pool's options."""

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

_SIZE: Final = 1 << 22  # bytes for messages of more than 4 KiB, and as much for shorter ones
_CAPACITY: Final = 1 << 12  # messages; more than the pool ever hands out


class Plan:
    """What the pool and its workers share. A forked worker inherits it; another one unpickles it.

    Args:
        places: the maximum number of workers.
        initializer: called in each worker before its first task, or None.
        initargs: its arguments.
        max_tasks: the number of tasks after which a worker exits, or None.

    Attributes:
        jobs: the channel to the workers. A worker takes a job and acknowledges it when its result
            is sent; if it dies before, another worker gets the job.
        results: the channel to the pool.
        spill: memory for results for which `results` has no block.
        long_jobs: memory for jobs for which `jobs` has no block.
        board: where workers note what they run.
        bells: they wake idle workers. Another start method than fork passes only the worker's own.
        pool: the process id and token of the pool's process.
        mask: the signals that its thread blocked when the pool was started. Workers block them too.
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
        # Without spinning: a round trip takes 70 us with it or without on an idle machine, and 4
        # times as long with it if other processes need the processors.
        self.jobs = QuietChannel.anonymous(capacity=_CAPACITY, size=_SIZE, spin=0)
        self.results = QuietChannel.anonymous(
            capacity=_CAPACITY, size=_SIZE, spin=0, peer_gone="wait"
        )
        self.spill = Spill(self.results)
        self.long_jobs = LongJobs()
        self.board = Board(places)
        self.bells = [Bell() for _ in range(places)]

    def close(self) -> None:
        """Close all of it in this process; idempotent."""
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
