"""`PoolStats` and `WorkerStats`, what `ProcessPool.stats` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from ipckit._core.public import public


@public("ipckit.pool")
@final
@dataclass(frozen=True, slots=True)
class WorkerStats:
    """The state of one worker process.

    Attributes:
        pid: its process id.
        task: the function that it runs, shortened; "" if it is idle or starting.
        seconds: since when it runs the task; 0.0 if it runs none.
        done: the number of tasks that it has ended.

    Example:
        >>> from ipckit.pool import ProcessPool
        >>> with ProcessPool(1, mp_context="fork") as pool:
        ...     pool.submit(abs, -1).result(timeout=60)
        ...     [worker.done for worker in pool.stats().workers]
        1
        [1]
    """

    pid: int
    task: str
    seconds: float
    done: int


@public("ipckit.pool")
@final
@dataclass(frozen=True, slots=True)
class PoolStats:
    """The state of a pool.

    Attributes:
        done: the number of tasks that ended: with a result, with an exception, or because they were
            given up.
        failed: how many of these ended with an exception.
        waiting: the number of tasks that wait, including those that were cancelled.
        running: the number of tasks that workers run now.
        died: the number of workers that died and were replaced, including those of tasks that ran
            too long.
        workers: the workers.

    Example:
        >>> from ipckit.pool import ProcessPool
        >>> with ProcessPool(1, mp_context="fork") as pool:
        ...     pool.submit(abs, -1).result(timeout=60)
        ...     pool.stats().done
        1
        1
    """

    done: int
    failed: int
    waiting: int
    running: int
    died: int
    workers: tuple[WorkerStats, ...]
