"""How a ProcessQueue ends, and how it replaces multiprocessing.Queue in the library."""

from __future__ import annotations

import copyreg
import errno
import logging
import logging.config
import mmap
import multiprocessing
import multiprocessing.queues
import os
import pickle
import queue
import struct
import sys
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import Corrupt, PeerGone, PosixSharedMemory, Timeout, WouldBlock
from ipckit._process_queue.feeder import Feeder, Holders
from ipckit.channel import ProcessQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TAIL = 256  # native/ring/channel_layout.h
SENT_TAIL = 144


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


# -- lost objects are reported ---------------------------------------------------------------------


def overflow(found: Any, objects: int) -> None:
    """Put objects until some wait in this process."""
    while len(found._feeder.waiting) < objects:
        found.put(bytes(1000))


def corrupt(found: Any) -> None:
    """Overwrite the channel's memory, and let the feeder find out."""
    with mmap.mmap(found._channel.memory_fd, 1 << 12) as memory:
        struct.pack_into("=Q", memory, TAIL, 2**64 - 1)
        struct.pack_into("=Q", memory, SENT_TAIL, 2**64 - 1)
    thread = found._feeder._thread
    with suppress(Corrupt):
        found._channel.receive(timeout=0)
    if thread is not None:
        thread.join(60)
        assert not thread.is_alive()


def test_put_says_how_many_objects_are_lost(make: Any) -> None:
    found = make(size=1 << 14)
    overflow(found, 5)
    waiting = len(found._feeder.waiting)
    corrupt(found)
    assert not found._feeder.waiting
    with pytest.raises(Corrupt, match=f"lost objects: {waiting}"):
        found._put_unbounded(b"")
    found.close()  # does not warn: the error was raised before


def test_join_thread_says_how_many_objects_are_lost(make: Any) -> None:
    found = make(size=1 << 14)
    overflow(found, 5)
    corrupt(found)
    with pytest.warns(RuntimeWarning, match=r"ProcessQueue: .*lost objects: "):
        found.close()
    with pytest.raises(Corrupt, match="lost objects: "):
        found.join_thread()


def test_objects_without_a_receiver_are_reported_as_lost(make: Any) -> None:
    found = make(size=1 << 14, peer_gone="raise")
    pid = os.fork()
    if pid == 0:
        found.get(timeout=60)
        os._exit(0)
    found.put(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with pytest.raises(PeerGone, match="lost objects: "):
        overflow(found, 1 << 20)


class Stopped:
    """A channel whose lock is held by a stopped process for a while."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.sent = deque(errors), list[bytes]()
        self.closed = False

    def send(self, message: bytes) -> None:
        if self.errors:
            raise self.errors.popleft()
        self.sent.append(message)

    def peers(self) -> list[int]:
        return [1, 2]

    def close(self) -> None:
        self.closed = True


def test_a_stopped_process_loses_no_object() -> None:
    channel: Any = Stopped(WouldBlock("busy"), Timeout("busy"), WouldBlock("busy"))
    feeder = Feeder(channel, Holders())
    for number in range(3):
        feeder.add(bytes([number]))
    feeder.close()
    feeder.join()
    assert channel.sent == [b"\0", b"\1", b"\2"]


def test_any_error_of_the_thread_is_reported() -> None:
    channel: Any = Stopped(OSError(errno.EUSERS, "no place"))
    feeder = Feeder(channel, Holders())
    feeder.add(b"1")
    with pytest.raises(OSError, match=r"no place.*lost objects: 1"):
        feeder.join()
    feeder.close()
    feeder.add(b"2")  # the feeder still works
    feeder._join = False
    while feeder.waiting:
        pass
    assert channel.sent == [b"2"]


# -- a closed queue --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_a_closed_queue_that_was_not_used_is_empty(kind: str, make: Any) -> None:
    found = make() if kind == "ours" else multiprocessing.Queue()
    found.close()
    found.join_thread()
    assert found.qsize() == 0
    assert not found.full()
    if kind == "ours" or sys.version_info >= (3, 13):
        assert found.empty()
    if kind == "theirs":
        found._reader.close()
        found._writer.close()


def test_empty_of_a_closed_queue_that_was_used_raises(make: Any) -> None:
    for size in (10, 2 << 20):
        found = make()
        found.put(bytes(size))
        found.close()
        found.join_thread()
        with pytest.raises(OSError, match="is closed"):
            found.empty()
        assert found.qsize() == 1
        assert not found.full()
    bounded = make(1)
    bounded.put(1)
    bounded.close()
    assert bounded.full()


def test_a_child_that_put_nothing_can_call_empty_after_close(make: Any) -> None:
    found = make()
    found.put(1)
    pid = os.fork()
    if pid == 0:
        found.close()
        os._exit(0 if found.qsize() == 1 and not found.empty() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert found.get(timeout=30) == 1


def test_a_get_that_races_with_close_raises(make: Any) -> None:
    found = make()
    found.close()
    with pytest.raises(ValueError, match="is closed"):
        found._take(None, 0)


# -- as a replacement of multiprocessing.Queue -----------------------------------------------------


def test_it_is_a_multiprocessing_queue(make: Any) -> None:
    found = make()
    assert isinstance(found, multiprocessing.queues.Queue)
    own = set(vars(ProcessQueue))
    public = {name for name in dir(multiprocessing.queues.Queue) if not name.startswith("_")}
    assert public <= own  # no method of Queue is inherited, because Queue.__init__ was not called


def test_logging_accepts_it_as_a_multiprocessing_queue(make: Any) -> None:
    def configure(found: Any) -> bool:
        handler = {"class": "logging.handlers.QueueHandler", "queue": found}
        try:
            logging.config.dictConfig(
                {"version": 1, "disable_existing_loggers": False, "handlers": {"q": handler}}
            )
        except (TypeError, ValueError):
            return False
        return True

    theirs: Any = multiprocessing.Queue()
    before = logging._handlers.copy()  # type: ignore[attr-defined]
    try:
        assert configure(make()) or not configure(theirs)
    finally:
        theirs.close()
        theirs._reader.close()
        theirs._writer.close()
        for name in set(logging._handlers) - set(before):  # type: ignore[attr-defined]
            del logging._handlers[name]  # type: ignore[attr-defined]


class Thing:
    """An object with two reducers, one after the other."""


def test_a_reducer_that_was_replaced_is_used(make: Any) -> None:
    found = make()
    extra: Any = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    for table, register in (
        (extra, ForkingPickler.register),
        (copyreg.dispatch_table, copyreg.pickle),
    ):
        try:
            for value in ("first", "second"):
                register(Thing, lambda _, value=value: (str, (value,)))
                found.put([Thing()])
                assert found.get(timeout=30) == [value]
        finally:
            del table[Thing]
        found.put([Thing()])
        assert type(found.get(timeout=30)[0]) is Thing


# -- unlinked memory in a pool ---------------------------------------------------------------------


def read(memory: PosixSharedMemory) -> bytes:
    return bytes(memory.read(4))


def test_unlinked_memory_is_submitted_to_a_pool() -> None:
    from multiprocessing import resource_sharer  # noqa: PLC0415

    with (
        ProcessPoolExecutor(1, get_context("fork")) as pool,
        PosixSharedMemory.create(size=16) as memory,
    ):
        memory.write(b"abcd")
        assert pool.submit(read, memory).result(60) == b"abcd"
        memory.unlink()
        assert pool.submit(read, memory).result(60) == b"abcd"
        again = pickle.loads(pickle.dumps(memory))  # noqa: S301 - made here
        with again:
            again.write(b"efgh")
        assert pool.submit(read, memory).result(60) == b"efgh"
    resource_sharer.stop(timeout=30)


def test_objects_in_all_places_are_counted(make: Any) -> None:
    found = make(size=1 << 14)
    overflow(found, 3)
    for size in (100, 20_000, 2 << 20):
        found.put(np.zeros(size, np.uint8))
    waiting = found.qsize()
    got = 0
    with suppress(queue.Empty):
        while True:
            found.get(timeout=0.2 if got >= waiting else 30)
            got += 1
    assert got == waiting


# -- no memory -------------------------------------------------------------------------------------


class Greedy:
    """An object whose first unpickling finds no memory."""

    attempts = 0

    def __init__(self, size: int) -> None:
        self.data = bytes(size)

    def __reduce__(self) -> tuple[object, ...]:
        return (Greedy.made, (self.data,))

    @classmethod
    def made(cls, data: bytes) -> str:
        cls.attempts += 1
        if cls.attempts == 1:
            raise MemoryError
        return f"{len(data)} bytes at attempt {cls.attempts}"


@pytest.mark.parametrize("size", [10, 100_000, 2_000_000])
def test_an_object_for_which_there_is_no_memory_waits_for_the_next_get(size: int) -> None:
    queue: ProcessQueue[object] = ProcessQueue()
    Greedy.attempts = 0
    queue.put(Greedy(size))
    queue.put("the next")
    with pytest.raises(MemoryError):
        queue.get()
    assert queue.qsize() == 2
    pid = os.fork()
    if pid == 0:  # the object that was taken belongs to the parent
        os._exit(queue.get() != "the next")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not queue.empty()
    assert queue.get() == f"{size} bytes at attempt 2"
    assert queue.empty()
    queue.close()
