"""The pool's process: how it ends, forks, is interrupted, killed, and how it idles."""

from __future__ import annotations

import gc
import os
import signal
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

import pool_tasks as tasks
import pytest

from ipckit.pool import ProcessPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child

SECONDS = 60
METHODS = ["fork", "spawn", "forkserver"]
HERE = str(Path(__file__).parent)
SETUP = """
    import os, signal, sys, time
    sys.path.insert(0, args[1])
    import pool_tasks as tasks
    from ipckit.pool import ProcessPool
    from ipckit.testing import step
"""


@pytest.mark.parametrize("method", METHODS)
def test_workers_end_with_a_pool_that_is_killed(method: str, spawn: Callable[..., Child]) -> None:
    code = (
        SETUP
        + """
    pool = ProcessPool(3, args[0])
    futures = [pool.submit(tasks.pid_after, 0.1) for _ in range(3)]
    for future in futures:
        future.result(60)
    pool.submit(time.sleep, 100)  # one of them is busy
    while not pool.stats().running:
        time.sleep(0.001)
    step.tell([worker.pid for worker in pool.stats().workers])
    time.sleep(100)
    """
    )
    child = spawn(code, method, HERE)
    pids = child.hear(SECONDS)
    assert len(pids) == 3
    child.kill()
    assert tasks.wait_gone(pids, 30) == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("last", ["", "pool.shutdown(wait=False)", "del pool"])
def test_the_interpreter_waits_for_tasks(
    method: str, last: str, spawn: Callable[..., Child]
) -> None:
    if last and method != "fork":
        pytest.skip("the start method makes no difference to it")
    code = (
        SETUP + f"    pool = ProcessPool(3, args[0])\n    pool.submit(print, 'ran')\n    {last}\n"
    )
    child = spawn(code, method, HERE)
    child.wait(SECONDS)
    assert child.stdout == "ran\n"
    assert child.stderr == ""


def test_after_the_end_of_the_interpreter_submit_raises(spawn: Callable[..., Child]) -> None:
    code = (
        SETUP
        + """
    import atexit
    def last():
        try:
            pool.submit(tasks.add, 1)
        except RuntimeError as exc:
            print(exc)
    atexit.register(last)
    pool = ProcessPool(1, args[0])
    pool.submit(tasks.add, 1).result(60)
    """
    )
    child = spawn(code, "fork", HERE)
    child.wait(SECONDS)
    assert child.stdout == "cannot schedule new futures after interpreter shutdown\n"


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_interrupts_tasks_and_prints_nothing(
    method: str, spawn: Callable[..., Child]
) -> None:
    code = (
        SETUP
        + """
    os.setpgid(0, 0)
    with ProcessPool(3, args[0]) as pool:
        futures = [pool.submit(time.sleep, 100) for _ in range(2)]
        pool.submit(tasks.add, 1).result(60)  # the third is idle
        while pool.stats().running < 2:
            time.sleep(0.001)
        try:
            step.tell("ready")
            while True:  # a Condition that is interrupted as it begins to wait can raise others
                time.sleep(0.01)
        except KeyboardInterrupt:
            pass
        result = [type(future.exception(60)).__name__ for future in futures]
        result += [pool.submit(tasks.add, 2).result(60), pool.stats().died]
    """
    )
    child = spawn(code, method, HERE)
    child.expect("ready", SECONDS)
    os.killpg(child.pid, signal.SIGINT)
    child.wait(SECONDS)
    assert child.result == ["KeyboardInterrupt", "KeyboardInterrupt", 2, 0]
    assert child.stderr == ""


def test_a_worker_ignores_ctrl_c_if_the_program_does(spawn: Callable[..., Child]) -> None:
    code = (
        SETUP
        + """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ProcessPool(1, args[0]) as pool:
        result = pool.submit(signal.getsignal, signal.SIGINT).result(60) == signal.SIG_IGN
    """
    )
    assert spawn(code, "fork", HERE).result is True


def test_a_forked_child_leaves_the_pool_to_its_parent() -> None:
    pool = ProcessPool(2, "fork")
    waiting = [pool.submit(tasks.pid_after, 0.02) for _ in range(8)]
    large = pool.submit(tasks.echo, bytes(9 << 20))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with pytest.raises(BrokenProcessPool, match="belongs to the parent"):
                pool.submit(tasks.add, 1)
            pool.shutdown()
            del pool, waiting, large
            gc.collect()
            with ProcessPool(1, "fork") as own:
                status = own.submit(tasks.add, 0).result(SECONDS)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert large.result(SECONDS) == bytes(9 << 20)
    assert all(future.result(SECONDS) for future in waiting)
    pool.shutdown()


def test_a_pool_in_a_worker() -> None:
    with ProcessPool(1, "fork") as pool:
        assert pool.submit(tasks.nested, "fork").result(SECONDS) == 3


def test_two_pools_end_independently() -> None:
    first, second = ProcessPool(1, "fork"), ProcessPool(1, "fork")
    assert first.submit(tasks.add, 1).result(SECONDS) == 1
    assert second.submit(tasks.add, 2).result(SECONDS) == 2
    first.shutdown()
    assert second.submit(tasks.add, 3).result(SECONDS) == 3
    second.shutdown()


def test_a_worker_has_one_thread_besides_its_own() -> None:
    with ProcessPool(1, "fork") as pool:
        assert pool.submit(tasks.threads).result(SECONDS) == ["MainThread", "ipckit-pool-parent"]


def switches(pid: int) -> int:
    """How often the threads of a process have gone to sleep."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        total += int(path.read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return total


def test_an_idle_pool_sleeps_and_wakes(spawn: Callable[..., Child]) -> None:
    code = (
        SETUP
        + """
    with ProcessPool(2, args[0]) as pool:
        for number in range(2):
            futures = [pool.submit(tasks.add, n) for n in range(4)]
            assert [future.result(60) for future in futures] == [0, 1, 2, 3]
            step.tell([worker.pid for worker in pool.stats().workers])
            step.expect("go on")
    """
    )
    child = spawn(code, "fork", HERE)
    for _ in range(2):
        pids = child.hear(SECONDS)
        end = time.monotonic() + 30
        quiet = False
        while not quiet and time.monotonic() < end:
            before = [switches(pid) for pid in pids]
            time.sleep(0.5)
            quiet = before == [switches(pid) for pid in pids]
        assert quiet
        child.tell("go on")


def test_workers_that_slept_are_woken_to_end() -> None:
    with ProcessPool(2, "fork") as pool:
        pool.submit(tasks.add, 1).result(SECONDS)
        while not pool._started()._quiet or 1 not in pool._started()._plan.board._memory[-2:]:
            time.sleep(0.01)
    assert pool.stats().workers == ()
