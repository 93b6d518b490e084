"""The memory of long objects when processes are killed: nothing is torn or leaked."""

from __future__ import annotations

import os
import queue
import signal
import time
from typing import Any

import numpy as np
import pytest
from forks import forked, reap
from interruptions import in_time
from queue_memory import BLOCK, BOTH, PIECE, array, drained, held, set_word, spilled, words

import ipckit
from ipckit._core.processes import is_dead
from ipckit.channel import View

SWEEP_MIN = 16
QUEUED = 1 << 24


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@BOTH
@pytest.mark.parametrize("doing", ["got", "put"])
def test_memory_of_killed_processes_is_reused(make: Any, doing: str, size: int) -> None:
    """A receiver dies with a message in its hands, and a sender after it has written one."""
    found = make(4)
    for value in range(40):

        def work(value: int = value) -> None:
            if doing == "got":
                kept = found._take(View, 30)
            elif size == PIECE:
                kept = found._spill.put([array(value)])
            else:
                kept = found._channel.loan(size)
            assert kept is not None
            die()

        if doing == "got":
            found.put(array(value, size))
        assert reap(forked(work)) == -signal.SIGKILL
    found.put(array(1, size))
    assert drained(found) == [1]
    assert spilled(found) <= (2 * SWEEP_MIN * (PIECE + 4096) if size == PIECE else 4 * BLOCK)
    found._channel.peers()  # notices the last process that died


@pytest.mark.parametrize("maxsize", [0, 3])
def test_kills_at_any_moment_tear_and_leak_nothing(make: Any, maxsize: int) -> None:
    found = make(maxsize)
    sizes = [100, 5000, BLOCK, PIECE]

    def put() -> None:
        for value in range(1 << 30):
            found.put(array(value % 200, sizes[value % 4]))

    def get() -> None:
        while True:
            each = found.get(timeout=60)
            if not np.all(each == each[0]):
                os._exit(7)

    for turn in range(12):
        sender, receiver = forked(put), forked(get)
        time.sleep(0.02 + turn / 400)
        first, second = (sender, receiver) if turn % 2 else (receiver, sender)
        for pid in (first, second):
            os.kill(pid, signal.SIGKILL)
            assert reap(pid) == -signal.SIGKILL
    drained(found)

    def reclaim() -> None:  # a put that finds no memory reclaims that of dead processes
        while found._channel.stats().bytes_used:
            for value in range(3):
                found.put(array(value, BLOCK))
            for value in range(3):
                assert np.all(found.get(timeout=60) == value)

    in_time(reclaim)
    for value in range(2 * SWEEP_MIN):
        found.put(array(value, PIECE))
        found.put(array(value, BLOCK))
        assert np.all(found.get(timeout=60) == value)
        assert np.all(found.get(timeout=60) == value)
    found._spill.file.reclaim({token for token in found._spill.file.owners() if is_dead(token)})
    assert sum(word != 0 for word in words(found)) == 0
    assert spilled(found) <= 0


def test_a_message_whose_object_died_with_its_receiver_is_skipped(make: Any) -> None:
    """The state after a kill between taking the piece and taking the message."""
    found = make()
    found.put(array(1))
    found.put(array(2))
    pid = forked(lambda: None)
    token = ipckit._core.processes.token() % (1 << 42) | pid << 42
    assert reap(pid) == 0
    set_word(found, 0, token)
    assert drained(found) == [2]
    with pytest.raises(queue.Empty):
        found.get(timeout=0.01)
    found._spill.file.reclaim({token})
    assert held(found) == 0


def test_a_piece_without_a_message_is_reclaimed(make: Any) -> None:
    """The state after a kill between passing the piece on and sending the message."""
    found = make()
    pieces = [found._spill.put([b"message"]) for _ in range(3)]
    for number in range(3):
        set_word(found, number, QUEUED | number)
    found._spill.file.reclaim(set())
    assert held(found) == 3  # messages with these numbers can still arrive
    found.put(0)
    found.put(1)
    assert found.get() == 0
    assert found.get() == 1
    found._spill.file.reclaim(set())
    assert held(found) == 1
    found.put(2)
    assert found.get() == 2
    del pieces  # does not free what the queue owns
    found._spill.file.reclaim(set())
    assert held(found) == 0
