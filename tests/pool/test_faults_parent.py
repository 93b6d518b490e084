"""Faults that the program itself causes: limits, signals, callbacks, shutdown in the middle."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pool_tasks as tasks
import pytest

from ipckit._pool.errors import name_of
from ipckit.pool import ProcessPool, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child

SECONDS = 60
HERE = str(Path(__file__).parent)
_BLOCKS_OF_TABLE = 2048  # of 512 bytes; a result of the test has 10240
SETUP = """
    import os, signal, sys, time
    sys.path.insert(0, args[0])
    import pool_tasks as tasks
    from ipckit.pool import ProcessPool, WorkerDied
"""


# -- shutdown during a map -------------------------------------------------------------------------


def _slow_from_5000(number: int) -> int:
    if number >= 5000:
        time.sleep(0.01)
    return number


def test_calls_that_a_worker_sends_back_after_shutdown_run() -> None:
    with ProcessPool(2, "fork") as pool:
        assert len(list(pool.map(_slow_from_5000, range(3000)))) == 3000
        found = pool.map(_slow_from_5000, [6000] * 26)  # sent together, because it was fast
    assert list(found) == [6000] * 26


def test_calls_that_a_worker_sends_back_after_a_cancelling_shutdown_fail() -> None:
    pool = ProcessPool(2, "fork")
    assert len(list(pool.map(_slow_from_5000, range(3000)))) == 3000
    found = pool.map(_slow_from_5000, [6000] * 2000)
    pool.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        list(found)
    pool.shutdown()


# -- exceptions of signal handlers -----------------------------------------------------------------


class _StopError(BaseException):
    pass


def _raise(*_: object) -> None:
    raise _StopError


@pytest.mark.parametrize("rounds", [15, pytest.param(300, marks=pytest.mark.soak)])
def test_a_signal_handler_raises_at_any_moment_of_the_start(
    rounds: int, spawn: Callable[..., Child]
) -> None:
    """No worker is lost: the pool works, and it ends."""
    code = (
        SETUP
        + """
    import gc, random, threading
    class Stop(BaseException):
        pass
    def stop(*_):
        raise Stop
    signal.signal(signal.SIGALRM, stop)
    sys.unraisablehook = lambda _: None  # of finalizers that it interrupts, and of their sockets
    for turn in range(args[1]):
        futures = []
        with ProcessPool(3, "fork") as pool:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.random() * 0.04 + 1e-6)
                try:
                    futures = [pool.submit(tasks.add, 1) for _ in range(100)]
                    futures[-1].result(60)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Stop:
                pass
            assert pool.submit(tasks.add, 7).result(60) == 7
            while pool.stats().waiting or pool.stats().running:
                time.sleep(0.001)
    del pool, futures
    gc.collect()
    result = threading.active_count(), len(os.listdir("/proc/self/fd")) < 20
    """
    )
    child = spawn(code, HERE, rounds)
    child.wait(110)
    assert child.result == (1, True)


def test_a_task_that_was_left_waiting_is_handed_out_with_the_next(pool: ProcessPool) -> None:
    """The state after a signal handler has ended `submit` before it handed the task out."""
    assert pool.submit(tasks.add, 1).result(SECONDS) == 1
    manager: Any = pool._started()
    while not manager._quiet:
        time.sleep(0.01)
    hand_out = manager._hand_out
    manager._hand_out = _raise
    with pytest.raises(_StopError):
        pool.submit(tasks.add, 2)
    manager._hand_out = hand_out
    assert pool.submit(tasks.add, 3).result(SECONDS) == 3


# -- futures ---------------------------------------------------------------------------------------


def test_callbacks_that_exit_do_not_break_the_pool(
    pool: ProcessPool, caplog: pytest.LogCaptureFixture
) -> None:
    future = pool.submit(time.sleep, 0.05)
    future.add_done_callback(lambda _: sys.exit(3))
    assert pool.submit(tasks.add, 1).result(SECONDS) == 1
    future.result(SECONDS)
    assert pool.submit(tasks.add, 2).result(SECONDS) == 2
    assert "SystemExit" in caplog.text


def test_a_future_that_the_user_completes_does_not_break_the_pool(pool: ProcessPool) -> None:
    for _ in range(4):
        pool.submit(time.sleep, 0.02)
    future = pool.submit(tasks.add, 5)
    future.set_result(3)
    assert pool.submit(tasks.add, 5).result(SECONDS) == 5
    assert future.result() == 3


def test_callbacks_may_submit_and_shut_down(pool: ProcessPool) -> None:
    found: list[Any] = []
    done = threading.Event()

    def submit(_: object) -> None:
        found.append(pool.submit(tasks.add, 1))
        pool.shutdown(wait=False)
        done.set()

    pool.submit(time.sleep, 0.02).add_done_callback(submit)
    assert done.wait(SECONDS)
    assert found[0].result(SECONDS) == 1


def test_an_exception_of_unpickling_keeps_no_message(pool: ProcessPool) -> None:
    errors = [pool.submit(tasks.not_unpicklable, 5 << 20).exception(SECONDS) for _ in range(3)]
    assert {str(error) for error in errors} == {"not to be unpickled"}
    assert "in _raise" in str(errors[0].__cause__)  # type: ignore[union-attr]
    while os.fstat(pool._started()._plan.spill.file.fd).st_blocks > _BLOCKS_OF_TABLE:
        time.sleep(0.001)


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1e9, float("inf")])
def test_a_time_limit_of_any_length(seconds: float) -> None:
    with ProcessPool(1, "fork", task_timeout=seconds) as pool:
        assert pool.submit(tasks.add, 1).result(SECONDS) == 1
        assert isinstance(pool.submit(tasks.die).exception(SECONDS), WorkerDied)


@pytest.mark.parametrize("busy", [False, True])
def test_a_chunksize_that_is_no_int(pool: ProcessPool, busy: bool) -> None:  # noqa: FBT001
    if busy:
        for _ in range(4):
            pool.submit(time.sleep, 0.02)
    with pytest.raises(TypeError, match="chunksize"):
        pool.map(tasks.add, [1], chunksize=1.5)  # type: ignore[arg-type]
    assert pool.submit(tasks.add, 1).result(SECONDS) == 1


def test_the_limit_of_files_fails_only_the_task(spawn: Callable[..., Child]) -> None:
    code = (
        SETUP
        + """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, 20 << 20))
    with ProcessPool(1, "fork") as pool:
        for _ in range(4):
            pool.submit(time.sleep, 0.02)
        error = pool.submit(len, bytes(30 << 20)).exception(60)
        result = [type(error).__name__, "RLIMIT_FSIZE" in str(error)]
        result += [pool.submit(len, bytes(6 << 20)).result(60) >> 20 for _ in range(8)]
    """
    )
    assert spawn(code, HERE).result == ["LimitReached", True] + [6] * 8


def test_the_limit_of_files_is_not_reached_by_calls_that_end(spawn: Callable[..., Child]) -> None:
    code = (
        SETUP
        + """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, 20 << 20))
    with ProcessPool(1, "fork") as pool:
        waiting, result = [pool.submit(len, bytes(5 << 20))], []
        for _ in range(12):  # there is always one, so the file is never empty
            waiting.append(pool.submit(len, bytes(5 << 20)))
            result.append(waiting.pop(0).result(60) >> 20)
        waiting.pop().result(60)
    """
    )
    assert spawn(code, HERE).result == [5] * 12


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_no_descriptor_for_another_worker(method: str, spawn: Callable[..., Child]) -> None:
    """No process is lost, and the pool goes on when there are descriptors again."""
    code = (
        SETUP
        + """
    import resource, multiprocessing
    with ProcessPool(2, args[1]) as pool:
        pool.submit(tasks.add, 1).result(60)
        pids = [worker.pid for worker in pool.stats().workers]
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir("/proc/self/fd"))) - 1
        for free in range(8):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + free, limits[1]))
            for worker in pool.stats().workers:
                os.kill(worker.pid, signal.SIGKILL)
            time.sleep(0.1)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        result = [pool.submit(tasks.add, 1).result(60)]
    result.append(len(multiprocessing.active_children()))
    """
    )
    child = spawn(code, HERE, method)
    child.wait(SECONDS)
    assert child.result == [1, 0]


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_program_that_ignores_sigchld(method: str, spawn: Callable[..., Child]) -> None:
    code = (
        SETUP
        + """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with ProcessPool(2, args[1]) as pool:
        errors = [pool.submit(tasks.exit_at_once, 3).exception(60) for _ in range(3)]
        result = [type(error).__name__ for error in errors] + [pool.submit(tasks.add, 1).result(60)]
    """
    )
    child = spawn(code, HERE, method)
    child.wait(SECONDS)
    assert child.result == ["WorkerDied"] * 3 + [1]
    assert child.stderr == ""


# -- other processes -------------------------------------------------------------------------------

_POOL: ProcessPool | None = None


def _submit_to_global_pool() -> int:
    assert _POOL is not None
    try:
        return _POOL.submit(tasks.add, 1).result(SECONDS)
    finally:
        _POOL.shutdown()


def test_a_task_can_not_use_the_pool_that_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker would start as many workers, and so would they."""
    with ProcessPool(1, "fork") as pool:
        monkeypatch.setitem(globals(), "_POOL", pool)
        error = pool.submit(_submit_to_global_pool).exception(SECONDS)
        assert isinstance(error, BrokenProcessPool)
        assert "belongs to the parent process" in str(error)


def test_a_forkserver_that_a_pool_starts_blocks_no_signal(spawn: Callable[..., Child]) -> None:
    code = (
        SETUP
        + """
    import multiprocessing
    from multiprocessing import resource_tracker
    resource_tracker.ensure_running()
    with ProcessPool(1, "forkserver") as pool:
        pool.submit(tasks.add, 1).result(60)
    pipe = multiprocessing.Pipe()
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=tasks.send_mask, args=(pipe[1],))
    process.start()
    result = pipe[0].recv()
    process.join()
    """
    )
    assert spawn(code, HERE).result == []


def test_a_stopped_worker_does_not_stop_the_end_for_ever() -> None:
    """The jobs to stop are sent again if the channel could not take them at first."""
    pool = ProcessPool(2, "fork")
    assert pool.submit(tasks.add, 1).result(SECONDS) == 1
    jobs: Any = pool._started()._plan.jobs
    send, refused = jobs.send, [1, 2, 3]

    def refuse(*args: Any, **options: Any) -> None:
        if refused:
            refused.pop()
            raise TimeoutError
        send(*args, **options)

    jobs.send = refuse
    pool.shutdown()
    assert not refused


# -- names -----------------------------------------------------------------------------------------


def test_names_of_functions_contain_no_arguments() -> None:
    assert name_of(partial(partial(tasks.add, "x" * 1000), 2)) == "pool_tasks.add"
    assert name_of(tasks.Callable("x")) == "pool_tasks.Callable"


# -- descriptors -----------------------------------------------------------------------------------


def test_many_descriptors() -> None:
    """The pool could not tell how a worker died: select(2) takes no descriptor above 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("RLIMIT_NOFILE is too low")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with ProcessPool(1, "fork") as pool:
            error = pool.submit(tasks.die).exception(SECONDS)
        assert isinstance(error, WorkerDied)
        assert error.signal == signal.SIGKILL
    finally:
        for fd in files:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
