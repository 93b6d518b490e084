"""task_done and join of a ProcessQueue, with processes that are killed; its descriptor; batches."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import logging.handlers
import mmap
import multiprocessing
import os
import pickle
import queue
import selectors
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, get_context
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from forks import forked, reap

import ipckit
from ipckit import InvalidArgument, OwnerDied, ProcessQueue, Timeout, WouldBlock
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sleeping_calls import Signals

ENTRIES = 1024  # native/ring/spill_table.h


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def one(*args: Any, **options: Any) -> Any:
        made.append(ProcessQueue(*args, **options))
        return made[-1]

    yield one
    for each in made:
        each.cancel_join_thread()
        each.close()


@pytest.fixture(params=["ours", "theirs"])
def either(request: pytest.FixtureRequest, make: Callable[..., Any]) -> Iterator[Any]:
    if request.param == "ours":
        yield make()
        return
    theirs = multiprocessing.JoinableQueue()
    yield theirs
    theirs.close()
    theirs.join_thread()
    theirs._reader.close()  # type: ignore[attr-defined]
    theirs._writer.close()  # type: ignore[attr-defined]


@contextmanager
def holding(act: Callable[[], object]) -> Iterator[int]:
    """A child that has acted and waits, until it is killed at the end."""
    reader, writer = os.pipe()

    def act_and_wait() -> None:
        act()
        os.write(writer, b"1")
        signal.pause()

    pid = forked(act_and_wait)
    try:
        os.close(writer)
        assert os.read(reader, 1)
        yield pid
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# -- task_done and join ----------------------------------------------------------------------------


def test_task_done_is_refused_if_no_task_is_left(either: Any) -> None:
    with pytest.raises(ValueError, match="too many times"):
        either.task_done()
    either.put(1)
    either.task_done()  # before it was got, as in JoinableQueue
    either.join()
    with pytest.raises(ValueError, match="too many times"):
        either.task_done()
    assert either.get(timeout=30) == 1


def test_join_waits_for_all_tasks_of_threads(either: Any) -> None:
    done: list[int] = []

    def work() -> None:
        while (value := either.get(timeout=60)) is not None:
            if value % 10 == 0 and value < 100:
                either.put(value + 100)  # a task can add tasks
            done.append(value)
            either.task_done()
        either.task_done()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for value in range(1, 100):
        either.put(value)
    either.join()
    assert sorted(done) == [*range(1, 100), *range(110, 200, 10)]
    for _ in threads:
        either.put(None)
    either.join()
    for each in threads:
        each.join()


def test_it_is_a_joinable_queue_by_class(make: Any) -> None:
    assert isinstance(make(), multiprocessing.queues.JoinableQueue)  # type: ignore[attr-defined]


def test_a_waiting_join_is_woken(make: Any) -> None:
    found = make()
    found.put(1)
    thread = threading.Thread(target=found.join)
    thread.start()
    wait_blocked(os.getpid(), "shared_futex")
    assert reap(forked(lambda: (found.get(), found.task_done()))) == 0
    thread.join()


def test_join_takes_a_timeout_and_runs_signal_handlers(make: Any, signals: Signals) -> None:
    found = make()
    found.put(1)
    with pytest.raises(WouldBlock, match="not done yet: 1"):
        found.join(0)
    with pytest.raises(Timeout, match="not done yet: 1"):
        found.join(0.01)
    with pytest.raises(WouldBlock):
        found.join(-1)
    signals.action = found.task_done
    with signals.during("shared_futex"):
        found.join()
    assert signals.seen == 1
    found.join(0)
    found.close()
    for call in (found.join, found.task_done, found.fileno, found.get_many):
        with pytest.raises(ValueError, match="is closed"):
            call()


def test_a_task_of_a_killed_process_is_lost(make: Any) -> None:
    found = make()
    found.put_many(range(5))

    def take_three() -> None:
        found.get_many(3)
        found.task_done()

    with holding(take_three) as pid:
        assert found._spill.file.tasks() == (4, 0)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert found.get() == 3
        with pytest.raises(WouldBlock, match="not done yet"):
            found.join(0)  # this process has one, and one waits
        found.task_done()
        timer = threading.Timer(0, lambda: (found.get(), found.task_done()))
        timer.start()
        with pytest.raises(OwnerDied, match=r"lost objects: 2\. .*All other objects are done"):
            found.join()
        timer.join()
    found.join()  # it is raised once
    found.put(5)
    found.task_done()
    found.join()
    with pytest.raises(ValueError, match="too many times"):
        found.task_done()


def test_processes_that_exit_leave_their_counts(make: Any) -> None:
    found = make()
    for number in range(5):  # one after the other, in the same place among the peers
        found.put_many([number, number])
        assert reap(forked(lambda: (found.get_many(2), found.task_done()))) == 0
    found.put(1)
    assert reap(forked(lambda: (found.get(), found.task_done()))) == 0
    with pytest.raises(OwnerDied, match="lost objects: 5"):
        found.join(60)
    assert found._spill.file.tasks() == (0, 5)


def test_a_child_can_report_the_tasks_of_its_parent(make: Any) -> None:
    found = make()
    found.put_many(range(3))
    assert found.get_many() == [0, 1, 2]
    assert reap(forked(lambda: [found.task_done() for _ in range(3)])) == 0
    found.join()
    found.put(4)
    found.get()
    with pytest.raises(WouldBlock):
        found.join(0)
    found.task_done()
    found.join()


def test_objects_in_the_memory_of_another_process_are_tasks(make: Any) -> None:
    found = make(size=20_000)
    with holding(lambda: [found.put(bytes(5000)) for _ in range(200)]):
        assert found.qsize() < 200
        assert found._spill.file.tasks()[0] >= 200  # one that is on its way may count twice
        with pytest.raises(WouldBlock):
            found.join(0)
        for _ in range(200):
            found.get(timeout=60)
            found.task_done()
        found.join()
    # Those of a process that was killed were never sent, and no call waits for them.
    with holding(lambda: [found.put(bytes(5000)) for _ in range(200)]):
        pass
    while not found.empty():
        found.get(timeout=60)
        found.task_done()
    found.join(60)


def test_large_objects_are_tasks(make: Any) -> None:
    found = make()
    for size in (10, 10_000, 1 << 20, 5 << 20):
        found.put(bytes(size))
        assert len(found.get(timeout=60)) == size
        found.task_done()
        with pytest.raises(ValueError, match="too many times"):
            found.task_done()
    found.join(0)


def test_an_object_whose_taker_was_killed_in_between_is_lost(make: Any) -> None:
    found = make(size=1 << 18)
    found.put(bytes(150_000))  # has a piece of the file
    with mmap.mmap(found._spill.file.fd, ENTRIES + 8) as table:
        assert table[ENTRIES : ENTRIES + 8] != bytes(8)
        # The process that took the piece was killed before it took the message.
        table[ENTRIES : ENTRIES + 8] = (1 << 42).to_bytes(8, sys.byteorder)
    with pytest.raises(queue.Empty):
        found.get_nowait()
    with pytest.raises(OwnerDied, match="lost objects: 1"):
        found.join()
    assert found._spill.file.tasks() == (0, 1)


def test_many_tasks_do_not_overflow_their_count(make: Any) -> None:
    found = make()
    table = found._spill.file
    found.put(1)
    assert table.tasks() == (1, 0)
    for _ in range(100):
        found.put_many(range(1000))
        found.get_many()
    assert table.tasks() == (100_001, 0)


# -- many objects ----------------------------------------------------------------------------------


def test_many_objects_in_one_call(make: Any) -> None:
    found = make()
    with pytest.raises(queue.Empty):
        found.get_many(block=False)
    with pytest.raises(queue.Empty):
        found.get_many(5, timeout=0.01)
    objects: list[Any] = ["a", 1, None, {"b": 2}, bytes(100_000), b"x" * (3 << 20), 2.5]
    found.put_many(iter(objects))
    assert found.get_many(2) == objects[:2]
    assert found.get_many(np.int64(1)) == objects[2:3]
    assert found.get_many() == objects[3:]
    found.put_many([])
    with pytest.raises(InvalidArgument):
        found.get_many(0)
    with pytest.raises(TypeError):
        found.get_many("all")
    total = 20_000  # more than there is room for
    found.put_many(range(total))
    got: list[int] = []
    while len(got) < total:
        got += found.get_many(timeout=30)
    assert got == list(range(total))


def test_a_batch_that_ends_early_says_how_far_it_came(make: Any) -> None:
    found = make(3)
    with pytest.raises(queue.Full) as full:
        found.put_many(range(5), timeout=0.01)
    assert full.value.sent == 3  # type: ignore[attr-defined]
    with pytest.raises(queue.Full) as full:
        found.put_many([1], block=False)
    assert full.value.sent == 0  # type: ignore[attr-defined]
    assert found.get_many() == [0, 1, 2]
    with pytest.raises((pickle.PicklingError, AttributeError)) as unfit:
        found.put_many([1, lambda: None, 3])
    assert unfit.value.sent == 1  # type: ignore[attr-defined]
    found.put(Fails())
    found.put("after")
    with pytest.raises(LookupError) as failed:
        found.get_many()
    assert failed.value.received == (1,)  # type: ignore[attr-defined]
    assert found.get_many() == ["after"]


def fail() -> None:
    raise LookupError


class Fails:
    def __reduce__(self) -> tuple[Any, ...]:
        return (fail, ())


# -- the descriptor --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["short", bytes(10_000), bytes(5 << 20)], ids=["s", "m", "l"])
def test_the_descriptor_is_readable_while_an_object_waits(make: Any, value: Any) -> None:
    found = make()
    with selectors.DefaultSelector() as selector:
        selector.register(found, selectors.EVENT_READ)
        assert selector.select(0) == []
        assert reap(forked(lambda: found.put(value))) == 0
        assert [key.fileobj for key, _ in selector.select(30)] == [found]
        assert connection.wait([found], 0) == [found]
        assert found.get_nowait() == value
        # The thread that makes it readable can be late; then a call makes it unreadable.
        if selector.select(0):
            with pytest.raises(queue.Empty):
                found.get_nowait()
        assert selector.select(0) == []


def test_a_forked_child_has_its_own_descriptor(make: Any) -> None:
    found = make()
    before = found.fileno()

    def child() -> None:
        assert connection.wait([found], 0) == []
        found.put(1)
        assert connection.wait([found], 30) == [found]
        assert found.get_nowait() == 1

    pid = forked(child)
    assert reap(pid) == 0
    assert found.fileno() == before


def test_an_event_loop_reads_it(make: Any) -> None:
    found = make()

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        got = loop.create_future()
        loop.add_reader(found, lambda: got.set_result(found.get_nowait()))
        pid = forked(lambda: found.put("from a child"))
        try:
            return await asyncio.wait_for(got, 60)
        finally:
            loop.remove_reader(found)
            os.waitpid(pid, 0)

    assert asyncio.run(main()) == "from a child"


# -- in the library --------------------------------------------------------------------------------


def test_the_package_exports_it() -> None:
    assert ipckit.ProcessQueue is ipckit.channel.ProcessQueue
    assert "ProcessQueue" in ipckit.__all__


def test_repr_says_what_waits(make: Any) -> None:
    found = make(10)
    found.put_many("ab")
    assert repr(found) == "<ProcessQueue anonymous, 2 of 10 objects, open>"
    found.close()
    assert repr(found) == "<ProcessQueue anonymous, closed>"
    endless = make(size=20_000)
    assert repr(endless) == "<ProcessQueue anonymous, 0 objects, no maxsize, open>"
    endless.put_many([bytes(5000)] * 50)
    here = len(endless._feeder.waiting)
    text = f"<ProcessQueue anonymous, 50 objects, {here} of them in this process, no maxsize, open>"
    assert repr(endless) == text
    endless.close()
    endless.join_thread()  # drops the objects
    assert repr(ProcessQueue.__new__(ProcessQueue)) == "<ProcessQueue anonymous, AttributeError>"


_kept: Any = None


def keep(found: Any) -> None:
    global _kept  # noqa: PLW0603 - as the message says
    _kept = found


def put_square(number: int) -> None:
    _kept.put(number * number)


def test_a_task_of_an_executor_can_not_carry_it(make: Any) -> None:
    found = make()
    context: Any = get_context("fork")
    with ProcessPoolExecutor(1, context, initializer=keep, initargs=(found,)) as pool:
        with pytest.raises(RuntimeError, match=r"initializer=keep, initargs=\(queue,\)"):
            pool.submit(keep, found).result(60)
        pool.submit(put_square, 5).result(60)
    assert found.get(timeout=60) == 25


@contextmanager
def configured(handler: dict[str, Any]) -> Iterator[logging.Logger]:
    before = set(logging._handlers)  # type: ignore[attr-defined]
    name = "ipckit-test-queue"
    logger = logging.getLogger(name)
    try:
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "handlers": {"q": handler},
                "loggers": {name: {"handlers": ["q"], "level": "INFO", "propagate": False}},
            }
        )
        yield logger
    finally:
        logger.handlers.clear()
        for each in set(logging._handlers) - before:  # type: ignore[attr-defined]
            del logging._handlers[each]  # type: ignore[attr-defined]


# From 3.12.0 to 3.12.3, dictConfig takes no queue of processes with the key "class".
REFUSING = (3, 12) <= sys.version_info < (3, 12, 4)
KEYS = ["()"] if REFUSING else ["()", "class"]


@pytest.mark.parametrize("key", KEYS)
def test_logging_through_it(make: Any, key: str) -> None:
    found = make()
    records: list[str] = []

    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(f"{record.process} {record.getMessage()}")

    listener = logging.handlers.QueueListener(found, Keeps())
    handler = {key: "logging.handlers.QueueHandler", "queue": found}
    with configured(handler) as logger:
        pid = forked(lambda: logger.warning("from %s", "a child"))
        assert reap(pid) == 0
        listener.start()
        listener.stop()
    assert records == [f"{pid} from a child"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a handler has no listener before 3.12")
@pytest.mark.parametrize("spec", ["ipckit.ProcessQueue", {"()": "ipckit.ProcessQueue"}])
def test_logging_creates_it_by_name(spec: Any) -> None:
    handler = {"class": "logging.handlers.QueueHandler", "queue": spec, "handlers": []}
    with configured(handler) as logger:
        made: Any = logger.handlers[0]
        assert type(made.queue) is ProcessQueue
        made.queue.close()
