"""`PoolStats` and `WorkerStats`: the results of `ProcessPool.stats`."""

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
        pid: the process id of the worker.
        task: the name of the function that it runs, shortened; "" if it is idle or starting.
        seconds: for how many seconds it has run the task; 0.0 if it runs none.
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
        done: the number of tasks that have ended: with a result, with an exception, or because the
            pool has given them up.
        failed: the number of these tasks that ended with an exception.
        waiting: the number of tasks that wait, including cancelled ones.
        running: the number of tasks that workers run now.
        died: the number of workers that died, including those that were killed because of
            `task_timeout`.
        workers: the state of each worker.

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
