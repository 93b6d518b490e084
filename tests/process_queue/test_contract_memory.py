"""The memory of long objects: which sizes it has, and how it is used again."""

from __future__ import annotations

import errno
import gc
import os
import queue
import resource
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from forks import forked, reap
from interruptions import in_time
from queue_memory import BLOCK, PIECE, array, drained, held, spilled

from ipckit import LimitReached
from ipckit.channel import ProcessQueue

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.001)


def test_pieces_are_reused(make: Any) -> None:
    found = make(1000)
    before = 0
    for turn in range(3):
        for value in range(40):
            found.put(array(value))
        ends = os.fstat(found._spill.file.fd).st_size
        assert drained(found) == list(range(40))
        assert held(found) == 0
        if turn:
            assert ends == before
        before = ends
    gc.collect()
    assert spilled(found) <= 0


@pytest.mark.parametrize("maxsize", [0, 10])
def test_long_objects_wait_up_to_maxsize_without_a_receiver(make: Any, maxsize: int) -> None:
    found = make(maxsize)
    for size in (BLOCK, 5000, PIECE):
        for value in range(10):
            found.put(array(value, size), timeout=60)
        assert found.qsize() == 10
        if maxsize:
            assert found.full()
            with pytest.raises(queue.Full):
                found.put(array(0, size), block=False)
        values = [int(found.get(timeout=60)[0]) for _ in range(10)]
        assert values == list(range(10))
    in_time(lambda: wait_until(lambda: held(found) == 0))
    assert spilled(found) <= 0


def test_put_nowait_needs_only_a_place(make: Any) -> None:
    found = make(40, size=1 << 16)
    for value in range(40):
        found.put_nowait(array(value, 20_000))
    assert drained(found) == list(range(40))


@pytest.mark.parametrize("maxsize", [0, 3])
def test_a_small_queue_takes_objects_of_any_size(make: Any, maxsize: int) -> None:
    found = make(maxsize, size=4096)
    for size in (1, 2000, 2048, 3000, 4000, 5000, BLOCK):
        found.put(bytes(size), timeout=60)
        assert found.get(timeout=60) == bytes(size)


def test_objects_at_the_limits(make: Any) -> None:
    found = make(10)
    longest = found._channel.longest
    for limit in (4096, 16384, 65536, longest):
        for size in range(limit - 200, limit + 2):
            if limit == longest and size % 20:
                continue
            for value in (bytes([size % 250]) * size, bytearray(size)):
                found.put(value)
                assert found.get(timeout=60) == value
    for size in (longest - 1, longest, longest + 1):
        message = found._send_parts([bytes(size)], 0)
        assert message is (True if size <= longest else None)
        if message:
            found._channel.receive()
    assert held(found) == 0


def test_sizes_of_all_kinds_have_pieces(make: Any) -> None:
    found = make(1000)
    sizes = [40_000, 65_536, 65_537, 1 << 20, (1 << 22) - 200, 1 << 22, (1 << 22) + 1, 9 << 20]
    for _ in range(2):
        kept = []
        for value, size in enumerate(sizes * 4):
            found.put(array(value, size))
        for value, size in enumerate(sizes * 4):
            kept.append(found.get(timeout=30))
            assert kept[-1].nbytes == size
            assert np.all(kept[-1] == value)
        for value, each in enumerate(kept):
            assert np.all(each == value)
            each[:] = 0  # memory of the object itself
        del kept, each
    assert held(found) == 0


def test_a_size_that_no_piece_has_is_refused(make: Any) -> None:
    file = make()._spill.file
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        file.claim(1 << 60, True)  # noqa: FBT003
    piece = file.claim(100, False)  # noqa: FBT003
    with pytest.raises(ValueError, match="more bytes"):
        piece.write([bytes(101)])
    with pytest.raises(ValueError, match="fewer bytes"):
        piece.write([bytes(99)])
    with pytest.raises(TypeError):
        piece.write((bytes(100),))
    with pytest.raises(TypeError):
        piece.write(["text"])
    with pytest.raises(BufferError):
        memoryview(piece)
    with pytest.raises(TypeError):
        type(file)(5, 0, True)  # noqa: FBT003


def test_no_memory_for_an_object_is_limit_reached() -> None:
    def run() -> None:
        found: Any = ProcessQueue()
        found.put(array(1))
        limit = os.fstat(found._spill.file.fd).st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(LimitReached):
            found.put(array(2, 64 << 20))
        assert drained(found) == [1]
        assert held(found) == 0

    assert reap(forked(run)) == 0
