"""Workers that die: by a signal, by themselves, at the time limit, in the initializer."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

import numpy as np
import pool_tasks as tasks
import pytest

from ipckit import ClosedHandle, Timeout
from ipckit._pool.crew import Crew
from ipckit._pool.manager import Manager
from ipckit.pool import ProcessPool, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from ipckit.testing import Child

SECONDS = 60


def error_of(future: Future[Any]) -> BaseException:
    error = future.exception(SECONDS)
    assert error is not None
    return error


def running(pool: ProcessPool) -> int:
    """Wait until a worker runs a task, and return its process."""
    while True:
        for worker in pool.stats().workers:
            if worker.task:
                return worker.pid
        time.sleep(0.001)


def wait_ready(pool: ProcessPool) -> None:
    # A dead worker may be gone, and the next one not there yet.
    while sum(member.ready for member in pool._started().crew) < 2:
        time.sleep(0.001)


# -- one task --------------------------------------------------------------------------------------


def test_a_killed_worker_fails_its_own_task(pool: ProcessPool, tmp_path: Path) -> None:
    future = pool.submit(time.sleep, 100)
    pid = running(pool)
    other = pool.submit(tasks.wait_for, tmp_path / "go")
    waiting = [pool.submit(tasks.add, number) for number in range(50)]
    os.kill(pid, signal.SIGKILL)
    error = error_of(future)
    assert isinstance(error, WorkerDied)
    assert (error.pid, error.signal, error.exitcode) == (pid, signal.SIGKILL, None)
    assert error.task == "time.sleep"
    assert f"worker process {pid} was killed by SIGKILL while it ran time.sleep" in str(error)
    assert [each.result(SECONDS) for each in waiting] == list(range(50))
    (tmp_path / "go").touch()
    assert other.result(SECONDS) != pid
    assert pool.stats().died == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN + 1])
def test_other_signals(pool: ProcessPool, number: int) -> None:
    error = error_of(pool.submit(tasks.die, number))
    assert isinstance(error, WorkerDied)
    assert error.signal == number


@pytest.mark.parametrize("status", [0, 5])
def test_a_task_that_exits(pool: ProcessPool, status: int) -> None:
    error = error_of(pool.submit(tasks.exit_at_once, status))
    assert isinstance(error, WorkerDied)
    assert (error.signal, error.exitcode) == (None, status)
    assert f"exited with status {status}" in str(error)
    assert pool.submit(tasks.add, 1).result(SECONDS) == 1


def test_a_worker_that_dies_while_it_unpickles(pool: ProcessPool) -> None:
    error = error_of(pool.submit(tasks.echo, tasks.DiesUnpickled()))
    assert isinstance(error, WorkerDied)
    assert error.task == "pool_tasks.echo"


def test_the_others_of_a_map_go_on(pool: ProcessPool) -> None:
    found = pool.map(tasks.die_at_odd, [0, 1, 2])
    assert next(found) == 0
    with pytest.raises(WorkerDied):
        next(found)
    assert list(pool.map(tasks.die_at_odd, [2, 4])) == [2, 4]


def test_idle_workers_that_are_killed_are_replaced(pool: ProcessPool) -> None:
    pool.submit(tasks.add, 1).result(SECONDS)
    for turn in range(5):
        wait_ready(pool)
        for worker in pool.stats().workers:
            os.kill(worker.pid, signal.SIGKILL)
        assert pool.submit(tasks.add, turn).result(SECONDS) == turn
        while pool.stats().died < 2 * turn + 2:
            time.sleep(0.001)


def test_a_dead_worker_has_no_zombie_and_no_memory(pool: ProcessPool) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    pool.submit(tasks.add, 1).result(SECONDS)
    wait_ready(pool)
    started = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    array = np.zeros(5 << 20, np.uint8)
    for _ in range(10):
        assert isinstance(error_of(pool.submit(tasks.die, array)), TypeError)
        assert isinstance(error_of(pool.submit(tasks.exit_at_once, 1)), WorkerDied)
    while pool.stats().died < 10:
        time.sleep(0.001)
    wait_ready(pool)
    pool.submit(tasks.add, 1).result(SECONDS)
    assert before < len(os.listdir("/proc/self/fd")) <= started + 1  # noqa: PTH208
    while os.fstat(pool._started()._plan.long_jobs._fd.number).st_blocks:
        time.sleep(0.001)


def test_the_process_that_forks_workers_may_be_killed() -> None:
    with ProcessPool(2, "fork") as pool:
        pool.submit(tasks.add, 1).result(SECONDS)
        nursery: Any = pool._started().crew.launcher
        os.kill(nursery._process.pid, signal.SIGKILL)
        nursery._process.join()
        error = error_of(pool.submit(tasks.die))
        assert isinstance(error, WorkerDied)
        assert error.signal in {None, signal.SIGKILL}
        assert error_of(pool.submit(tasks.exit_at_once, 0)).pid > 0  # type: ignore[attr-defined]
        assert list(pool.map(tasks.add, range(100))) == list(range(100))


# -- retries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 100_000, 5 << 20])
def test_a_task_runs_again(tmp_path: Path, size: int) -> None:
    array = np.arange(size, dtype=np.uint8)
    with ProcessPool(2, "fork", retries=3) as pool:
        future = pool.submit(_die_twice, tmp_path / "runs", array)
        array[:] = 1  # the job was sent
        assert future.result(SECONDS) == (3, int(np.arange(size, dtype=np.uint8).sum()))
        assert pool.stats().died == 2
        assert pool.stats().done == 1


def _die_twice(path: Path, array: Any) -> tuple[int, int]:
    return tasks.die_until(path, 3), int(array.sum())


@pytest.mark.parametrize("retries", [0, 2])
def test_a_task_runs_as_often_as_retries_say(tmp_path: Path, retries: int) -> None:
    with ProcessPool(2, "fork", retries=retries) as pool:
        assert isinstance(error_of(pool.submit(tasks.note_and_die, tmp_path / "runs")), WorkerDied)
        assert pool.submit(tasks.add, 1).result(SECONDS) == 1
    assert (tmp_path / "runs").stat().st_size == retries + 1


@pytest.mark.parametrize("retries", [0, 1])
def test_a_death_that_is_seen_late_is_counted(
    tmp_path: Path, retries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel frees a worker's locks first. So the job is returned before its death is seen."""
    note_death = Manager._note_death

    def note_late(manager: Manager, member: Any) -> None:
        threading.Timer(0.2, note_death, (manager, member)).start()

    monkeypatch.setattr(Manager, "_note_death", note_late)
    with ProcessPool(2, "fork", retries=retries) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(Crew, "ended", lambda _: [])
            future = pool.submit(tasks.note_and_die, tmp_path / "runs")
            assert isinstance(error_of(future), WorkerDied)
        assert pool.stats().died == retries + 1
        assert pool.submit(tasks.add, 1).result(SECONDS) == 1
    assert (tmp_path / "runs").stat().st_size == retries + 1


def test_the_job_of_a_worker_that_had_not_begun_it_runs(pool: ProcessPool) -> None:
    """The state after a kill between taking the job and noting it."""
    pool.submit(tasks.add, 1).result(SECONDS)
    manager = pool._started()
    task = manager._plan.jobs.take(0) if len(manager._plan.jobs) else None
    assert task is None
    for worker in pool.stats().workers:
        os.kill(worker.pid, signal.SIGSTOP)
    future = pool.submit(tasks.add, 5)
    pid = os.fork()
    if pid == 0:  # a receiver like a worker
        manager._plan.jobs.take(SECONDS)
        os._exit(0)
    os.waitpid(pid, 0)
    for worker in pool.stats().workers:
        os.kill(worker.pid, signal.SIGCONT)
    assert future.result(SECONDS) == 5
    assert pool.stats().died == 0


# -- the time limit --------------------------------------------------------------------------------


def test_a_task_over_its_time_is_killed() -> None:
    with ProcessPool(2, "fork", task_timeout=0.2, retries=5) as pool:
        begin = time.monotonic()
        futures = [pool.submit(tasks.spin), pool.submit(tasks.pid_after, 0.01)]
        error = error_of(futures[0])
        assert isinstance(error, Timeout)
        assert "pool_tasks.spin" in str(error)
        assert "longer than 0.2 s" in str(error)
        assert time.monotonic() - begin >= 0.2
        assert futures[1].result(SECONDS) > 0
        assert pool.submit(tasks.add, 1).result(SECONDS) == 1
        assert pool.stats().died == 1  # and the task did not run again


def test_tasks_within_their_time_are_not_killed() -> None:
    with ProcessPool(2, "fork", task_timeout=30) as pool:
        for _ in range(3):
            assert len(set(pool.map(tasks.pid_after, [0.001] * 20))) <= 2
        assert pool.stats().died == 0


def test_only_the_overdue_task_is_killed() -> None:
    """Tasks end at about the limit: each has a result or ran too long, and no other is lost."""
    with ProcessPool(2, "fork", task_timeout=0.02) as pool:
        futures = [pool.submit(tasks.pid_after, 0.0195), pool.submit(tasks.pid_after, 0.001)]
        futures += [pool.submit(tasks.pid_after, 0.0185 + n / 10000) for n in range(40)]
        kinds = {type(future.exception(SECONDS)) for future in futures}
        assert kinds <= {type(None), Timeout}


# -- the start -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("raise", "initializer raised an exception"),
        ("sys.exit", "initializer raised an exception"),
        ("exit", "ended with status 3"),
        ("kill", "ended by signal 9"),
    ],
)
def test_an_initializer_that_fails_breaks_the_pool(kind: str, text: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with ProcessPool(2, "fork", tasks.break_initializer, (kind, go)) as pool:
        futures = [pool.submit(tasks.add, 1) for _ in range(5)]
        found = pool.map(tasks.add, range(5))
        go.touch()
        for future in futures:
            assert text in str(error_of(future))
            assert isinstance(error_of(future), BrokenProcessPool)
        with pytest.raises(BrokenProcessPool, match=text):
            list(found)
        with pytest.raises(BrokenProcessPool, match=text):
            pool.submit(tasks.add, 1)


def test_a_pool_that_can_not_start_a_process_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError

    pool = ProcessPool(1, "fork")
    with monkeypatch.context() as patch:
        patch.setattr(BaseProcess, "start", refuse)
        with pytest.raises(BlockingIOError):
            pool.submit(tasks.add, 1)
    assert pool.submit(tasks.add, 1).result(SECONDS) == 1
    pool.shutdown()


def test_a_pool_that_can_not_start_a_thread_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    pool = ProcessPool(1, "fork")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(BrokenProcessPool, match="can't start new thread"):
            pool.submit(tasks.add, 1)
    pool.shutdown()


# -- all at once -----------------------------------------------------------------------------------


def test_a_task_that_closes_descriptors() -> None:
    array = np.zeros(5 << 20, np.uint8)
    with ProcessPool(1, "fork") as pool:
        assert pool.submit(tasks.close_descriptors).result(SECONDS) is None
        assert pool.submit(bytes, 1 << 20).result(SECONDS) == bytes(1 << 20)
        assert isinstance(error_of(pool.submit(bytes, 5 << 20)), ClosedHandle)
        # The worker's locks are free, so the pool may take its jobs for those of a dead worker.
        future = pool.submit(tasks.echo, array)
        assert isinstance(future.exception(SECONDS), ClosedHandle | None)
        assert isinstance(error_of(pool.submit(tasks.die)), WorkerDied)
        assert np.array_equal(pool.submit(tasks.echo, array).result(SECONDS), array)


def test_no_memory_for_arguments_or_results(spawn: Callable[..., Child]) -> None:
    code = """
        import resource, sys
        sys.path.insert(0, args[0])
        import numpy as np
        import pool_tasks as tasks
        from ipckit.pool import ProcessPool
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, 16 << 20))
        with ProcessPool(2, "fork") as pool:
            long = np.ones(30 << 20, np.uint8)
            errors = [pool.submit(tasks.echo, long), pool.submit(bytes, 30 << 20)]
            result = [type(error.exception(60)).__name__ for error in errors]
            found = pool.map(tasks.echo, [1, long, 3])
            result.append(next(found))
            try:
                next(found)
            except OSError as exc:
                result.append(type(exc).__name__)
            result.append(pool.submit(tasks.add, 1).result(60))
    """
    expected = ["LimitReached", "LimitReached", 1, "LimitReached", 1]
    assert spawn(code, os.path.dirname(__file__)).result == expected  # noqa: PTH120


def test_a_callback_that_exits_does_not_end_the_pool(pool: ProcessPool, tmp_path: Path) -> None:
    future = pool.submit(tasks.wait_for, tmp_path / "go")
    future.add_done_callback(lambda _: sys.exit(3))
    (tmp_path / "go").touch()
    future.result(SECONDS)
    assert pool.submit(tasks.add, 3).result(SECONDS) == 3


@pytest.mark.parametrize("rounds", [1, pytest.param(30, marks=pytest.mark.soak)])
def test_kills_at_any_moment_lose_no_task(rounds: int) -> None:
    """Each task has its result, or WorkerDied and then it had begun."""
    with ProcessPool(3, "fork") as strict, ProcessPool(2, "fork", retries=10_000) as again:
        ended = threading.Event()

        def kill() -> None:
            done = {strict: 0, again: 0}
            while not ended.wait(random.random() / 50):
                for pool in (strict, again):
                    stats = pool.stats()
                    # A pool gives up if only workers that are still starting are killed.
                    if stats.done == done[pool]:
                        continue
                    done[pool] = stats.done
                    with suppress(ProcessLookupError, IndexError):
                        os.kill(random.choice(stats.workers).pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            for _ in range(rounds):
                long = bytes(3 << 20)
                values = [n if n % 5 else bytes(n * 40) for n in range(1000)] + [long] * 4
                once = [strict.submit(tasks.echo, value) for value in values]
                often = [again.submit(tasks.echo, value) for value in values]
                found = again.map(tasks.add, range(5000))
                assert [future.result(SECONDS) for future in often] == values
                assert sum(found) == sum(range(5000))
                for value, future in zip(values, once, strict=True):
                    error = future.exception(SECONDS)
                    assert error is None or isinstance(error, WorkerDied)
                    assert error is not None or future.result() == value
        finally:
            ended.set()
            killer.join()
        assert strict.submit(tasks.add, 1).result(SECONDS) == 1
        assert strict.stats().waiting == again.stats().waiting == 0
