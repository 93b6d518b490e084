"""ProcessPool as an executor: tasks, results, exceptions, map, cancel, statistics."""

from __future__ import annotations

import gc
import os
import pickle
import time
import traceback
from concurrent.futures import CancelledError, Future, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np
import pool_tasks as tasks
import pytest

from ipckit import InvalidArgument, IpcError
from ipckit.pool import ProcessPool, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ipckit.testing import Child

SECONDS = 60


def error_of(future: Future[Any]) -> BaseException:
    error = future.exception(SECONDS)
    assert error is not None
    return error


# -- tasks -----------------------------------------------------------------------------------------


def test_results_of_all_sizes_and_kinds(pool: ProcessPool) -> None:
    values: list[Any] = [None, 1, "x", b"", [1, {"a": 2}], "x" * 5000, bytes(100_000)]
    values += [bytes(size) for size in (4060, 4080, 4096, 1 << 20, (1 << 21) + 1, 5 << 20)]
    futures = [pool.submit(tasks.echo, value) for value in values]
    assert [future.result(SECONDS) for future in futures] == values


@pytest.mark.parametrize("size", [10, 3000, 1 << 20, 9 << 20])
def test_arrays_come_back_writable(pool: ProcessPool, size: int) -> None:
    array = np.arange(size, dtype=np.uint8)
    again = pool.submit(tasks.echo, array).result(SECONDS)
    assert np.array_equal(again, array)
    again[:] = 0
    assert array[1] == 1


def test_more_large_arguments_than_the_channel_holds(pool: ProcessPool) -> None:
    array = np.arange(1 << 20, dtype=np.uint8)
    futures = [pool.submit(tasks.echo, array + number) for number in range(24)]
    for number, future in enumerate(futures):
        assert np.array_equal(future.result(SECONDS), array + number)
    while os.fstat(pool._started()._plan.long_jobs._fd.number).st_blocks:
        time.sleep(0.001)


def test_arguments_by_position_and_name(pool: ProcessPool) -> None:
    assert pool.submit(tasks.add, 1, second=2).result(SECONDS) == 3
    with pytest.raises(TypeError):
        pool.submit(fn=tasks.add)  # type: ignore[call-arg]


def test_tasks_run_in_other_processes_at_the_same_time(pool: ProcessPool, tmp_path: Path) -> None:
    futures = [pool.submit(tasks.wait_for, tmp_path / "go") for _ in range(2)]
    while pool.stats().running < 2:
        time.sleep(0.001)
    (tmp_path / "go").touch()
    pids = {future.result(SECONDS) for future in futures}
    assert len(pids | {os.getpid()}) == 3


def test_exceptions_have_the_remote_traceback(pool: ProcessPool) -> None:
    error = error_of(pool.submit(tasks.fail, "here"))
    assert type(error) is RuntimeError
    assert error.args == ("here",)
    assert type(error.__cause__).__name__ == "_RemoteTraceback"
    assert "raise RuntimeError(text)" in "".join(traceback.format_exception(error))


def test_what_can_not_be_pickled_fails_its_own_task(pool: ProcessPool) -> None:
    errors = {
        "function": error_of(pool.submit(lambda: None)),
        "argument": error_of(pool.submit(tasks.echo, tasks.NotPicklable())),
        "in the worker": error_of(pool.submit(tasks.echo, tasks.NotUnpicklable())),
        "result": error_of(pool.submit(tasks.not_picklable)),
        "in the pool": error_of(pool.submit(tasks.not_unpicklable)),
        "exception": error_of(pool.submit(tasks.fail_with, "private")),
        "exception in the pool": error_of(pool.submit(tasks.fail_with, "two")),
    }
    assert {key: type(error).__name__ for key, error in errors.items()} == {
        "function": "AttributeError" if "lambda" in str(errors["function"]) else "PicklingError",
        "argument": "TypeError",
        "in the worker": "ValueError",
        "result": "TypeError",
        "in the pool": "ValueError",
        "exception": "RuntimeError",
        "exception in the pool": "TypeError",
    }
    assert "PrivateError" in str(errors["exception"])
    assert pool.submit(tasks.add, 1).result(SECONDS) == 1
    assert pool.stats().died == 0


def test_exit_and_interrupt_of_a_task_are_its_exceptions(pool: ProcessPool) -> None:
    assert isinstance(error_of(pool.submit(exit, 3)), SystemExit)
    assert pool.submit(tasks.interrupted).result(SECONDS) == "interrupted"
    assert pool.stats().died == 0


def test_a_task_is_freed_when_it_is_done(pool: ProcessPool) -> None:
    class Tracked(bytearray):
        pass

    deleted: list[int] = []
    array = np.frombuffer(tracked := Tracked(1 << 20), np.uint8)
    future = pool.submit(tasks.echo, array)
    import weakref  # noqa: PLC0415

    weakref.finalize(tracked, deleted.append, 1)
    future.result(SECONDS)
    del array, tracked
    gc.collect()
    assert deleted == [1]


def test_a_callback_may_submit(pool: ProcessPool) -> None:
    second: Future[int] = Future()

    def go_on(first: Future[int]) -> None:
        pool.submit(tasks.add, first.result(), 1).add_done_callback(
            lambda found: second.set_result(found.result())
        )

    pool.submit(tasks.add, 1, 1).add_done_callback(go_on)
    assert second.result(SECONDS) == 3


# -- map -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
@pytest.mark.parametrize("buffersize", [None, 1, 20])
def test_map_keeps_the_order(pool: ProcessPool, chunksize: int, buffersize: int | None) -> None:
    found = pool.map(
        tasks.add, range(500), range(500, 1000), chunksize=chunksize, buffersize=buffersize
    )
    assert list(found) == [a + b for a, b in zip(range(500), range(500, 1000), strict=True)]
    assert list(pool.map(tasks.add, [], buffersize=buffersize)) == []


def test_short_calls_of_a_map_are_sent_together(pool: ProcessPool) -> None:
    list(pool.map(tasks.add, range(10)))
    before = next(pool._started()._numbers)
    assert sum(pool.map(tasks.add, range(20_000))) == 199_990_000
    assert next(pool._started()._numbers) - before < 4000
    assert pool.stats().done == 20_010


def test_a_long_call_delays_few_short_ones(pool: ProcessPool) -> None:
    list(pool.map(tasks.echo, range(1000)))  # the pool learns that it is short
    assert max(pool._started()._paces.of(tasks.echo).seconds, 1e-3) == 1e-3
    seconds = [0.0] * 200
    seconds[3] = 0.05
    list(pool.map(time.sleep, [0.0] * 100))
    begin = time.monotonic()
    pids = set(pool.map(tasks.pid_after, seconds))
    assert len(pids) == 2
    assert time.monotonic() - begin >= 0.05


def test_an_exception_of_map_comes_after_the_results_before_it(pool: ProcessPool) -> None:
    list(pool.map(divmod, [1] * 200, [1] * 200))
    found = pool.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert [next(found), next(found)] == [(0, 1), (0, 1)]
    with pytest.raises(ZeroDivisionError) as caught:
        next(found)
    assert "_RemoteTraceback" in repr(type(caught.value.__cause__))
    with pytest.raises(StopIteration):
        next(found)


def test_a_call_of_map_that_can_not_be_pickled(pool: ProcessPool) -> None:
    list(pool.map(tasks.echo, range(500)))
    found = pool.map(tasks.echo, [1, 2, tasks.NotPicklable(), 4])
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(TypeError, match="not to be pickled"):
        next(found)
    results = [*map(tasks.echo, range(10)), tasks.not_picklable]
    found = pool.map(_call, results)
    assert [next(found) for _ in range(10)] == list(range(10))
    with pytest.raises(TypeError, match="not to be pickled"):
        next(found)


def _call(value: Any) -> Any:
    return value() if callable(value) else value


def test_map_without_a_reader_runs_all(pool: ProcessPool, tmp_path: Path) -> None:
    pool.map(tasks.note, [tmp_path / "notes"] * 50)
    pool.shutdown()
    assert (tmp_path / "notes").stat().st_size == 50


def test_map_reads_at_most_buffersize_ahead(pool: ProcessPool) -> None:
    read = 0

    def numbers() -> Iterator[int]:
        nonlocal read
        for number in range(2000):
            read += 1
            yield number

    for count, value in enumerate(pool.map(tasks.echo, numbers(), buffersize=20), 1):
        assert value == count - 1
        assert read - count <= 20
    assert read == 2000


def test_map_times_out(pool: ProcessPool, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    pool.submit(tasks.add, 1).result(SECONDS)
    found = pool.map(tasks.wait_for, [tmp_path / "there", tmp_path / "go"], timeout=0.5)
    next(found)
    with pytest.raises(TimeoutError):
        next(found)
    (tmp_path / "go").touch()


def test_map_keeps_no_result(pool: ProcessPool) -> None:
    import weakref  # noqa: PLC0415

    for value in pool.map(np.zeros, [3] * 20):
        reference = weakref.ref(value)
        del value
        assert reference() is None


def test_a_map_whose_iterator_is_dropped_stops(pool: ProcessPool) -> None:
    found = pool.map(time.sleep, [0.001] * 100_000)
    next(found)
    del found
    pool.shutdown()
    assert pool.stats().done < 100


def test_map_checks_its_arguments(pool: ProcessPool) -> None:
    for wrong in ({"chunksize": 0}, {"chunksize": -1}, {"buffersize": 0}):
        with pytest.raises(ValueError, match="must be"):
            pool.map(tasks.add, [1], **wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        pool.map(tasks.add, [1], buffersize="1")  # type: ignore[arg-type]


# -- cancel, shutdown ------------------------------------------------------------------------------


def test_tasks_that_wait_can_be_cancelled(tmp_path: Path) -> None:
    with ProcessPool(1, "fork") as pool:
        futures = [pool.submit(tasks.wait_for, tmp_path / "go") for _ in range(20)]
        cancelled = [future.cancel() for future in futures]
        (tmp_path / "go").touch()
        assert not wait(futures, SECONDS).not_done
        assert 17 <= sum(cancelled) <= 19
        assert [future.cancelled() for future in futures] == cancelled


def test_shutdown_cancels_what_waits(tmp_path: Path) -> None:
    pool = ProcessPool(1, "fork")
    futures = [pool.submit(tasks.wait_for, tmp_path / "go") for _ in range(20)]
    found = pool.map(tasks.echo, range(10))
    pool.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "go").touch()
    assert len(list(as_completed(futures, SECONDS))) == 20
    assert sum(future.cancelled() for future in futures) >= 17
    with pytest.raises(CancelledError):
        list(found)
    pool.shutdown()


def test_after_shutdown_submit_raises(pool: ProcessPool) -> None:
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(tasks.add, 1)
    assert pool.stats().workers == ()
    used = ProcessPool(1, "fork")
    used.submit(tasks.add, 1).result(SECONDS)
    used.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        used.submit(tasks.add, 1)
    used.shutdown()
    used.shutdown()


def test_a_pool_that_was_never_used_starts_nothing() -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    pool = ProcessPool()
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
    assert pool.stats().workers == ()
    pool.shutdown()


def test_a_pool_that_is_deleted_finishes_its_tasks() -> None:
    pool = ProcessPool(2, "fork")
    futures = [pool.submit(tasks.pid_after, 0.01) for _ in range(6)]
    thread = pool._started().thread
    del pool
    gc.collect()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert all(future.done() for future in futures)


# -- options and statistics ------------------------------------------------------------------------


def test_initializer_and_context_object() -> None:
    with ProcessPool(2, get_context("fork"), tasks.set_state, ("set",)) as pool:
        assert {pool.submit(tasks.state).result(SECONDS) for _ in range(8)} == {"set"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_workers": 0},
        {"max_workers": -1},
        {"max_workers": 251},
        {"max_tasks_per_child": 0},
        {"max_tasks_per_child": 2, "mp_context": "fork"},
        {"retries": -1},
        {"task_timeout": 0},
        {"task_timeout": -1},
        {"mp_context": "spoon"},
    ],
    ids=str,
)
def test_numbers_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        ProcessPool(**wrong)
    assert "mp_context" in wrong or isinstance(caught.value, InvalidArgument)


@pytest.mark.parametrize(
    "wrong", [{"max_workers": 1.5}, {"initializer": 5}, {"retries": "1"}, {"task_timeout": "1"}]
)
def test_arguments_of_another_type(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        ProcessPool(**wrong)


def test_statistics(tmp_path: Path) -> None:
    with ProcessPool(2, "fork") as pool:
        assert pool.stats().done == 0
        pool.submit(tasks.add, 1).result(SECONDS)
        error_of(pool.submit(tasks.fail, "x"))
        futures = [pool.submit(tasks.wait_for, tmp_path / "go") for _ in range(10)]
        while (stats := pool.stats()).running < 2:
            time.sleep(0.001)
        assert (stats.done, stats.failed, stats.waiting, stats.died) == (2, 1, 8, 0)
        assert [worker.task for worker in stats.workers] == ["pool_tasks.wait_for"] * 2
        assert all(worker.seconds > 0 for worker in pool.stats().workers)
        (tmp_path / "go").touch()
        wait(futures)
    assert pool.stats().done == 12


def test_the_exception_of_a_dead_worker() -> None:
    error = WorkerDied("gone", pid=5, signal=9, task="f")
    assert isinstance(error, (IpcError, BrokenProcessPool))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (again.pid, again.signal, again.exitcode, again.task) == (5, 9, None, "f")
    assert str(again) == str(error)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_start_methods(method: str, spawn: Callable[..., Child]) -> None:
    code = """
        import sys
        sys.path.insert(0, args[1])
        import numpy as np
        import pool_tasks as tasks
        from ipckit.pool import ProcessPool, WorkerDied
        with ProcessPool(2, args[0], tasks.set_state, ("set",), max_tasks_per_child=3) as pool:
            result = [pool.submit(tasks.state).result(60), sum(pool.map(tasks.add, range(10)))]
            array = np.arange(5 << 20, dtype=np.uint8)
            result.append(np.array_equal(pool.submit(tasks.echo, array).result(60), array))
            result.append(len({pool.submit(tasks.pid_after, 0).result(60) for _ in range(7)}) > 1)
            error = pool.submit(tasks.die).exception(60)
            result += [type(error) is WorkerDied, pool.submit(tasks.add, 1).result(60)]
            result.append(pool.stats().died)
    """
    directory = os.path.dirname(__file__)  # noqa: PTH120
    assert spawn(code, method, directory).result == ["set", 45, True, True, True, 1, 1]
