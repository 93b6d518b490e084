"""A pool of one worker beside other pools, and how soon a killed worker is replaced."""

from __future__ import annotations

import multiprocessing
import operator
import os
import signal
import statistics
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import Row, compare_slow

from ipckit.pool import ProcessPool, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TASKS = 500
ARRAYS = 10
ARRAY = np.arange(1 << 20, dtype=np.uint8)  # 1 MiB
GOAL = 1 / 20
KILLS = 20


def echo(value: Any) -> Any:
    """Return the argument: the task of the bench."""
    return value


def _mapped(pool: Executor) -> Callable[[], object]:
    return lambda: list(pool.map(operator.neg, range(TASKS)))


def _submitted(pool: Executor) -> Callable[[], object]:
    def run() -> None:
        futures = [pool.submit(operator.neg, number) for number in range(TASKS)]
        for future in futures:
            future.result()

    return run


def _one_by_one(pool: Executor) -> Callable[[], object]:
    def run() -> None:
        for number in range(TASKS // 5):
            pool.submit(operator.neg, number).result()

    return run


def _arrays(pool: Executor) -> Callable[[], object]:
    def run() -> None:
        for _ in range(ARRAYS):
            pool.submit(echo, ARRAY).result()

    return run


def _peers() -> Iterator[tuple[str, Executor]]:
    yield "ProcessPoolExecutor", ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    try:
        import loky  # noqa: PLC0415 - it may not be installed
    except ImportError:
        return
    yield "loky", loky.ProcessPoolExecutor(1)


def rows() -> Iterator[Row]:
    """Yield the comparisons."""
    with ExitStack() as stack:
        ours = stack.enter_context(ProcessPool(1, "fork"))
        ours.submit(echo, 1).result()  # forks before the peers have threads
        for name, peer in _peers():
            theirs = stack.enter_context(peer)
            for what, of, goal in (
                (f"{TASKS} tasks by map", _mapped, GOAL),
                (f"{TASKS} tasks by submit", _submitted, GOAL),
                (f"{TASKS // 5} tasks one by one", _one_by_one, 1.0),
                (f"{ARRAYS} arrays of 1 MiB one by one", _arrays, GOAL),
            ):
                yield compare_slow(what, name, of(theirs), of(ours), goal)


def deaths() -> Iterator[tuple[str, float, float]]:
    """Yield how soon a killed worker is noticed, and its successor works: medians, in ms."""
    for method in ("fork", "forkserver", "spawn"):
        noticed: list[float] = []
        replaced: list[float] = []
        with ProcessPool(1, method) as pool:
            pool.submit(echo, 1).result()
            for _ in range(KILLS):
                future = pool.submit(time.sleep, 60)
                while not (running := [w.pid for w in pool.stats().workers if w.task]):
                    time.sleep(0.001)
                start = time.perf_counter()
                os.kill(running[0], signal.SIGKILL)
                with suppress(WorkerDied):
                    future.result()
                noticed.append(time.perf_counter() - start)
                pool.submit(echo, 1).result()
                replaced.append(time.perf_counter() - start)
        yield method, 1e3 * statistics.median(noticed), 1e3 * statistics.median(replaced)
