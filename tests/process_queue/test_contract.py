"""The contract of ProcessQueue; most tests also run with multiprocessing.Queue."""

from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import pickle
import queue
import threading
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import InvalidArgument, PeerGone
from ipckit._process_queue.queue import ProcessQueue as Original
from ipckit.channel import ProcessQueue
from ipckit.testing import wait_blocked
from tests.process_queue.queue_workers import work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child

OBJECTS: list[Any] = [
    None,
    5,
    "text",
    b"bytes",
    b"\x01ipckitQ looks like a frame",
    b"\x02ipckitQ looks like a reference",
    {"a": [1, 2.5, (3,)]},
    {1, 2},
    ValueError("an exception"),
    os.path.join,
    bytes(100_000),
    bytearray(100_000),
    bytes(3 << 20),
]
ARRAYS: list[Any] = [
    np.arange(10),
    np.arange(3000.0).reshape(30, 100),
    np.asfortranarray(np.arange(100_000).reshape(100, 1000)),
    np.arange(200_000)[::2],
    np.zeros((0, 5)),
    np.zeros(1 << 20, np.uint8),
    np.arange(3 << 19),
]


@pytest.fixture(params=["ours", "theirs"])
def either(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(maxsize: int = 0) -> Any:
        ours = request.param == "ours"
        made.append(ProcessQueue(maxsize) if ours else multiprocessing.Queue(maxsize))
        return made[-1]

    yield make
    for each in made:
        each.close()
        each.join_thread()
        if hasattr(each, "_reader"):
            each._reader.close()
            each._writer.close()


@pytest.fixture
def ours() -> Iterator[Callable[..., ProcessQueue[Any]]]:
    made: list[ProcessQueue[Any]] = []

    def make(*args: Any, **options: Any) -> ProcessQueue[Any]:
        made.append(ProcessQueue(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
        each.cancel_join_thread()


def test_objects_are_received_unchanged(either: Any) -> None:
    both = either()
    for value in OBJECTS:
        both.put(value)
        found = both.get(timeout=30)
        assert type(found) is type(value)
        assert found == value or repr(found) == repr(value)


def test_received_arrays_own_their_memory(either: Any) -> None:
    both = either()
    for value in ARRAYS:
        both.put({"array": value, "again": value})
        found = both.get(timeout=30)
        assert np.array_equal(found["array"], value)
        assert found["array"] is found["again"]
        assert found["array"].flags.writeable
        assert found["array"].dtype == value.dtype
        if value.size:
            found["array"].flat[0] += 1
            assert found["array"].flat[0] != value.flat[0]
    fixed = np.arange(100_000)
    fixed.flags.writeable = False
    both.put(fixed)
    assert np.array_equal(both.get(timeout=30), fixed)


def test_full_and_empty(either: Any) -> None:
    both = either(2)
    with pytest.raises(queue.Empty):
        both.get_nowait()
    with pytest.raises(queue.Empty):
        both.get(timeout=0.01)
    with pytest.raises(queue.Empty):
        both.get(True, -1)
    assert both.empty()
    assert not both.full()
    both.put(1)
    both.put_nowait(2)
    assert both.full()
    assert both.qsize() == 2
    with pytest.raises(queue.Full):
        both.put_nowait(3)
    with pytest.raises(queue.Full):
        both.put(3, timeout=0.01)
    with pytest.raises(queue.Full):
        both.put(3, False)  # noqa: FBT003
    with pytest.raises(queue.Full):
        both.put(np.zeros(100_000), block=False)
    with pytest.raises(queue.Full):
        both.put(np.zeros(1_000_000), block=False)
    assert [both.get(timeout=30), both.get(True, 30)] == [1, 2]


def test_methods_of_a_closed_queue_raise(either: Any) -> None:
    both = either()
    both.close()
    both.close()
    for call in (lambda: both.put(1), both.get, lambda: both.put_nowait(1), both.get_nowait):
        with pytest.raises(ValueError, match="is closed"):
            call()
    both.join_thread()


def test_a_queue_is_pickled_only_for_a_child(either: Any) -> None:
    with pytest.raises(RuntimeError, match="inheritance"):
        pickle.dumps(either())


def test_any_number_of_objects_waits_without_a_maxsize(either: Any) -> None:
    both = either()
    total = 50_000  # more than the memory has room for
    for number in range(total):
        both.put(number)
    for _ in range(8):
        both.put(np.zeros(900_000, np.uint8))
    assert not both.full()
    assert both.qsize() == total + 8
    assert [both.get(timeout=30) for _ in range(total)] == list(range(total))
    assert sum(both.get(timeout=30).nbytes for _ in range(8)) == 7_200_000


def test_threads_share_a_queue(either: Any) -> None:
    both = either(5)
    got: list[int] = []

    def take() -> None:
        while (value := both.get(timeout=60)) is not None:
            got.append(value)

    threads = [threading.Thread(target=take) for _ in range(2)]
    putters = [
        threading.Thread(target=lambda k=k: [both.put(k * 300 + n) for n in range(300)])
        for k in range(2)
    ]
    for each in (*threads, *putters):
        each.start()
    for each in putters:
        each.join()
    for _ in threads:
        both.put(None)
    for each in threads:
        each.join()
    assert sorted(got) == list(range(600))


# -- with multiprocessing --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_as_in_the_documentation_of_multiprocessing(
    method: str, spawn: Callable[..., Child]
) -> None:
    """The pattern of the documentation of multiprocessing: a task queue, a done queue, and STOP."""
    code = """
        import multiprocessing, sys, types
        from ipckit.channel import ProcessQueue
        sys.path.insert(0, args[1])
        from queue_workers import work
        context = multiprocessing.get_context(args[0])
        todo, done = ProcessQueue(), ProcessQueue()
        workers = [context.Process(target=work, args=(todo, done)) for _ in range(2)]
        for each in workers:
            each.start()
        for number in range(200):
            todo.put(number)
        found = [done.get(timeout=60) for _ in range(200)]
        for _ in workers:
            todo.put("STOP")
        for each in workers:
            each.join()
        assert [each.exitcode for each in workers] == [0, 0]
        result = sorted(value for _, value in found)
        todo.close()
        done.close()
        done.join_thread()
    """
    assert spawn(code, method, str(Path(__file__).parent)).result == [2 * n for n in range(200)]


def test_objects_of_a_child_are_sent_before_it_exits(ours: Any) -> None:
    found = ours(size=20_000)
    context: Any = get_context("fork")
    child = context.Process(target=_put_many, args=(found, 2000))
    child.start()
    assert [found.get(timeout=60)[0] for _ in range(2000)] == list(range(2000))
    child.join()
    assert child.exitcode == 0
    child.close()


def _put_many(found: Any, count: int) -> None:
    for number in range(count):
        found.put((number, bytes(5000)))


def test_a_child_that_cancels_the_join_exits_at_once(ours: Any) -> None:
    found = ours(size=20_000)
    context: Any = get_context("fork")
    child = context.Process(target=_put_and_leave, args=(found,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    child.close()
    assert found.get(timeout=30)[0] == 0


def _put_and_leave(found: Any) -> None:
    found.cancel_join_thread()
    _put_many(found, 2000)


def test_a_child_does_not_send_the_objects_of_its_parent(ours: Any) -> None:
    found = ours(size=20_000)
    _put_many(found, 500)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if found.qsize() < 500 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [found.get(timeout=30)[0] for _ in range(500)] == list(range(500))


def test_objects_that_only_multiprocessing_can_pickle(ours: Any) -> None:
    found = ours()
    reader, writer = get_context("fork").Pipe(duplex=False)
    with reader, writer:
        found.put({"writer": writer})
        with found.get(timeout=30)["writer"] as other:
            other.send("through a pipe")
        assert reader.recv() == "through a pipe"
    from multiprocessing import resource_sharer  # noqa: PLC0415

    resource_sharer.stop(timeout=30)


def test_put_raises_for_objects_that_can_not_be_pickled(ours: Any) -> None:
    found = ours()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        found.put(lambda: None)
    with pytest.raises(TypeError):
        found.put({"a": threading.Lock()})
    found.put([1])  # the failed calls left nothing behind
    assert found.get(timeout=30) == [1]
    assert found.empty()


def test_a_killed_worker_blocks_no_process(ours: Any) -> None:
    todo, done = ours(), ours()
    context: Any = get_context("fork")
    victims = [context.Process(target=work, args=(todo, done)) for _ in range(2)]
    for each in victims:
        each.start()
    for number in range(2000):
        todo.put(number)
    assert done.get(timeout=60)
    victims[0].kill()
    victims[0].join()
    for _ in victims:
        todo.put("STOP")
    victims[1].join(60)
    assert victims[1].exitcode == 0
    got = 1
    while not done.empty():
        done.get(timeout=30)
        got += 1
    assert 1990 <= got <= 2000  # the killed worker may have taken some
    for each in victims:
        each.close()


def test_kept_objects_block_no_process(ours: Any) -> None:
    found = ours(size=1 << 20)
    kept = []
    for number in range(200):
        found.put(np.full(50_000, number % 200, np.uint8))
        kept.append(found.get(timeout=30))
    for number in range(20):
        found.put(np.full(1 << 20, number, np.uint8))
        kept.append(found.get(timeout=30))
    assert all(np.all(each == number) for number, each in enumerate(kept[:200]))
    assert all(np.all(each == number) for number, each in enumerate(kept[200:]))


def test_a_large_object_outlives_the_queue_and_a_fork_sees_its_own(ours: Any) -> None:
    found = ours()
    found.put(np.full(1 << 21, 5, np.uint8))
    array = found.get(timeout=30)
    pid = os.fork()
    if pid == 0:
        array[:] = 6
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert np.all(array == 5)
    found.put(np.zeros(1 << 21, np.uint8))
    found.get(timeout=30)
    found.close()
    array[0] = 7
    assert array[0] == 7
    assert np.all(array[1:] == 5)


def test_the_memory_of_large_objects_is_freed(ours: Any) -> None:
    found = ours()
    fd = found._spill.file.fd
    for size in (1 << 20, 1 << 21, 20 << 20):
        for _ in range(30 if size < 1 << 22 else 3):
            found.put(np.ones(size, np.uint8))
            assert found.get(timeout=30).nbytes == size
    gc.collect()
    assert os.fstat(fd).st_blocks * 512 <= mmap.PAGESIZE  # only the table
    bounded = ours(1)
    bounded.put(1)
    with pytest.raises(queue.Full):
        bounded.put(np.ones(20 << 20, np.uint8), block=False)
    assert os.fstat(bounded._spill.file.fd).st_blocks * 512 <= mmap.PAGESIZE


def test_threads_put_large_objects(ours: Any) -> None:
    found = ours(40)
    sizes = [(1 << 20) + 1, 3 << 20]

    def put(number: int) -> None:
        for size in sizes * 20:
            found.put(np.full(size, number, np.uint8))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(4 * 40):
        array = found.get(timeout=30)
        assert np.all(array == array[0])
        del array
    for thread in threads:
        thread.join()


def test_an_array_that_changes_during_put_is_received_whole(ours: Any) -> None:
    class Clears:
        def __reduce__(self) -> tuple[Any, ...]:
            data.clear()
            return (int, (5,))

    found = ours()
    data = bytearray(b"x" * 70_000)
    found.put([data, Clears()])
    assert found.get(timeout=30) == [b"x" * 70_000, 5]


def test_peer_gone_is_raised_only_if_asked_for(ours: Any) -> None:
    found = ours(2, peer_gone="raise")
    pid = os.fork()
    if pid == 0:
        found.put("last words")
        os._exit(0)
    os.waitpid(pid, 0)
    assert found.get(timeout=30) == "last words"
    with pytest.raises(PeerGone):
        found.get(timeout=30)
    patient = ours(2)
    pid = os.fork()
    if pid == 0:
        patient.put("last words")
        os._exit(0)
    os.waitpid(pid, 0)
    assert patient.get(timeout=30) == "last words"
    with pytest.raises(queue.Empty):
        patient.get(timeout=0.2)


def test_join_thread_waits_only_while_another_process_has_the_queue(ours: Any) -> None:
    found = ours(size=20_000)
    with pytest.raises(ValueError, match="not closed"):
        found.join_thread()
    _put_many(found, 500)
    found.close()
    found.join_thread()  # no other process has it open
    assert not found._feeder.waiting  # the objects are dropped
    assert found._channel.closed


def test_a_waiting_get_is_woken(ours: Any) -> None:
    found = ours()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(found.get()))
    thread.start()
    wait_blocked(os.getpid(), "shared_futex")
    found.put(["woken"])
    thread.join()
    assert got == [["woken"]]


def test_options(ours: Any) -> None:
    assert ProcessQueue is Original
    assert ours(3, ctx=get_context("spawn")).get_nowait is not None
    with pytest.raises(InvalidArgument):
        ProcessQueue(size=0)
    with pytest.raises(InvalidArgument):
        ProcessQueue(peer_gone="never")  # type: ignore[arg-type]
    assert ProcessQueue[int].__origin__ is ProcessQueue  # type: ignore[attr-defined]


def test_a_dropped_queue_leaves_nothing_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    found: Any = ProcessQueue()
    found.put(1)
    del found
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
