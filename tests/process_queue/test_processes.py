"""Forked children that have not used a ProcessQueue yet, or never use it."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ipckit import PeerGone
from ipckit.channel import ProcessQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANY = 300  # more than a queue's 256 places
OBJECTS = 100
LARGE = bytes(100_000)  # 100 of them have no room in the queue's 4 MiB


@contextmanager
def children(count: int, act: Callable[[], object]) -> Iterator[list[int]]:
    pids: list[int] = []
    try:
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                try:
                    act()
                finally:
                    os._exit(1)
            pids.append(pid)
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def ended_well(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def queue() -> Iterator[ProcessQueue[object]]:
    made: ProcessQueue[object] = ProcessQueue(peer_gone="raise")
    yield made
    made.close()


@pytest.mark.soak
def test_children_that_never_use_the_queue_take_no_place(queue: ProcessQueue[object]) -> None:
    with children(MANY, signal.pause):
        pid = os.fork()
        if pid == 0:
            queue.put("from a worker")
            os._exit(0)
        assert ended_well(pid)
        assert queue.get() == "from a worker"


def test_children_that_never_use_the_queue_block_no_process(queue: ProcessQueue[object]) -> None:
    with children(1, signal.pause):
        pid = os.fork()
        if pid == 0:
            queue.put("the last")
            os._exit(0)
        assert ended_well(pid)
        assert queue.get() == "the last"
        with pytest.raises(PeerGone):
            queue.get()


def test_waiting_objects_are_kept_for_a_child_that_has_not_used_the_queue_yet() -> None:
    queue: ProcessQueue[bytes] = ProcessQueue()
    reader, writer = os.pipe()
    for _ in range(OBJECTS):
        queue.put(LARGE)
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent waits, or has failed
        taken = sum(queue.get(timeout=60) == LARGE for _ in range(OBJECTS))
        os._exit(taken != OBJECTS)
    os.close(reader)
    queue.close()
    assert queue._holders.others()
    assert len(queue._channel.peers()) == 1
    os.close(writer)
    queue.join_thread()
    assert ended_well(pid)


def test_waiting_objects_are_dropped_when_no_other_process_has_the_queue() -> None:
    queue: ProcessQueue[bytes] = ProcessQueue()
    for _ in range(OBJECTS):
        queue.put(LARGE)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert ended_well(pid)
    queue.close()
    queue.join_thread()  # returns
    assert not queue._holders.others()
