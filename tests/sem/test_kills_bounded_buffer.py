"""A bounded buffer whose users die at the worst moments: its counters follow its own record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import ipckit
from ipckit import SysVSharedMemory
from ipckit.sem import BoundedBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child

# For each death that it is told of, a process of its own that comes in and dies there.
DIES = """
import os, signal
from ipckit import SysVSharedMemory
from ipckit.sem import BoundedBuffer
from ipckit.testing import step
while (death := step.hear()) is not None:
    buffer_id, segment_id, capacity, side, change = death
    pid = os.fork()
    if pid == 0:
        memory = SysVSharedMemory.from_id(segment_id)
        record = lambda: (capacity - memory.buf[0], memory.buf[0])
        with getattr(BoundedBuffer.from_id(buffer_id), side)(record):
            memory.buf[0] += change
            os.kill(os.getpid(), signal.SIGKILL)
    step.tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""

WAITS = """
from ipckit import SysVSharedMemory
from ipckit.sem import BoundedBuffer
buffer_id, segment_id, capacity, side, change = args
with SysVSharedMemory.from_id(segment_id) as memory:
    record = lambda: (capacity - memory.buf[0], memory.buf[0])
    with BoundedBuffer.from_id(buffer_id).lifetime() as buffer:
        with getattr(buffer, side)(record):
            memory.buf[0] += change
"""


class Counted:
    """A buffer that is no more than the record of how many items are in it."""

    def __init__(self, buffer: BoundedBuffer, memory: SysVSharedMemory, capacity: int) -> None:
        self.buffer, self.memory, self.capacity = buffer, memory, capacity

    @property
    def used(self) -> int:
        return self.memory.buf[0]

    def record(self) -> tuple[int, int]:
        return self.capacity - self.used, self.used

    def fill(self, used: int) -> None:
        for _ in range(used):
            with self.buffer.producing(self.record, timeout=0):
                self.memory.buf[0] += 1

    def args(self, side: str, *, changed: bool = True) -> tuple[object, ...]:
        change = {"producing": 1, "consuming": -1}[side] if changed else 0
        return self.buffer.id, self.memory.id, self.capacity, side, change


@pytest.fixture
def made() -> Iterator[Callable[[int], Counted]]:
    buffers: list[Counted] = []

    def make(capacity: int) -> Counted:
        memory = SysVSharedMemory.create(size=8, unlink_after_attach=True)
        buffers.append(Counted(BoundedBuffer.create(None, capacity), memory, capacity))
        return buffers[-1]

    yield make
    for each in buffers:
        each.memory.close()
        each.buffer.unlink()
        each.buffer.close()


CASES = [
    (capacity, used, side, changed)
    for capacity, used in [(1, 0), (1, 1), (3, 0), (3, 1), (3, 2), (3, 3)]
    for side in ("producing", "consuming")
    for changed in (False, True)
    if used != (capacity if side == "producing" else 0)
]


@pytest.fixture
def dies(spawn: Callable[..., Child]) -> Iterator[Callable[[tuple[object, ...]], None]]:
    """Let somebody die in a buffer."""
    undertaker = spawn(DIES)

    def die(args: tuple[object, ...]) -> None:
        undertaker.tell(args)
        undertaker.expect(-9)

    yield die
    undertaker.tell(None)


def test_all_places_and_all_items_can_be_used_after_a_death(
    made: Callable[[int], Counted], dies: Callable[[tuple[object, ...]], None]
) -> None:
    for capacity, used, side, changed in CASES:
        counted = made(capacity)
        counted.fill(used)
        dies(counted.args(side, changed=changed))
        used_now = used + ({"producing": 1, "consuming": -1}[side] if changed else 0)
        assert counted.used == used_now
        counted.fill(capacity - used_now)
        with (
            pytest.raises(ipckit.WouldBlock, match="the buffer is full"),
            counted.buffer.producing(counted.record, timeout=0),
        ):
            pytest.fail("there is no place")
        for left in reversed(range(capacity)):
            with counted.buffer.consuming(counted.record, timeout=0):
                counted.memory.buf[0] = left
        with (
            pytest.raises(ipckit.Timeout, match=r"the buffer was empty for 0\.01 s"),
            counted.buffer.consuming(counted.record, timeout=0.01),
        ):
            pytest.fail("there is no item")
        assert counted.buffer.semaphores.values == [capacity, 0, 1]


@pytest.mark.parametrize("side", ["producing", "consuming"])
def test_who_waits_is_woken_for_what_a_dead_process_put_or_took(
    made: Callable[[int], Counted],
    spawn: Callable[..., Child],
    dies: Callable[[tuple[object, ...]], None],
    side: str,
) -> None:
    # The only ones there, on the other side than the dead: nobody else would wake them.
    counted = made(1)
    other = {"producing": "consuming", "consuming": "producing"}[side]
    counted.fill(0 if side == "producing" else 1)
    waiting = spawn(WAITS, *counted.args(other))
    waiting.wait_blocked("semop")
    dies(counted.args(side))
    waiting.wait()
    assert counted.used == (0 if side == "producing" else 1)


@pytest.mark.parametrize("side", ["producing", "consuming"])
def test_who_is_woken_in_vain_waits_on(
    made: Callable[[int], Counted],
    spawn: Callable[..., Child],
    dies: Callable[[tuple[object, ...]], None],
    side: str,
) -> None:
    counted = made(1)
    other = {"producing": "consuming", "consuming": "producing"}[side]
    counted.fill(0 if side == "producing" else 1)
    waiting = spawn(WAITS, *counted.args(other))
    waiting.wait_blocked("semop")
    for _ in range(3):
        dies(counted.args(side, changed=False))
        waiting.wait_blocked("semop")
    spawn(WAITS, *counted.args(side)).wait()
    waiting.wait()
    assert counted.buffer.semaphores.values[2] == 1
    assert counted.used == (0 if side == "producing" else 1)


@pytest.mark.parametrize("told", [(-1, 4), (4, -1), (32768, 0)])
def test_a_record_that_cannot_be_changes_nothing(
    made: Callable[[int], Counted], told: tuple[int, int]
) -> None:
    counted = made(3)
    counted.fill(1)
    for side in (counted.buffer.producing, counted.buffer.consuming):
        with pytest.raises(ipckit.InvalidArgument), side(lambda: told, timeout=0):
            pytest.fail("nobody comes in")
    assert counted.buffer.semaphores.values == [2, 1, 1]


def test_an_exception_in_a_block_moves_nothing(made: Callable[[int], Counted]) -> None:
    counted = made(3)
    counted.fill(1)
    for side in (counted.buffer.producing, counted.buffer.consuming):
        with pytest.raises(ZeroDivisionError), side(counted.record, timeout=0):
            raise ZeroDivisionError
        assert counted.buffer.semaphores.values == [2, 1, 1]
