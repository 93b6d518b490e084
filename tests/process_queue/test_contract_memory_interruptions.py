"""The memory of long objects when calls are interrupted: nothing is torn or leaked."""

from __future__ import annotations

import logging
import logging.handlers
import pickle
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from forks import forked, reap
from interruptions import EACH, Interrupted, at_step, in_time, interrupt
from queue_memory import BLOCK, BOTH, PIECE, array, drained, held

from ipckit import WouldBlock
from ipckit.channel import View

if TYPE_CHECKING:
    from types import FrameType


pytestmark = pytest.mark.usefixtures("opcodes_are_traced")


@BOTH
@pytest.mark.parametrize("maxsize", [0, 4])
def test_an_interrupted_put_tears_nothing_and_leaks_nothing(
    make: Any, maxsize: int, size: int
) -> None:
    found = make(maxsize)
    # So that later steps contain no imports. CPython 3.12 traces opcodes from the second time on.
    with at_step(0, interrupt):
        found.put(array(0, size))
    found.get()
    step, arrived = 0, 0
    while True:
        step += 1
        with at_step(step, interrupt) as steps, suppress(Interrupted):
            found.put(array(1, size))
        found.put(array(2, size))
        values = drained(found)
        assert values in ([2], [1, 2])
        arrived += len(values) - 1
        assert held(found) == 0
        if steps[0] < step:
            break
    assert step > 50
    assert 1 < arrived < step  # some were interrupted after the object was sent


@BOTH
def test_an_interrupted_get_leaks_nothing(make: Any, size: int) -> None:
    found = make()
    step = 0
    while True:
        step += 1
        found.put(array(1, size))
        with at_step(step, interrupt) as steps, suppress(Interrupted):
            found.get(timeout=30)
        found.put(array(2, size))
        assert drained(found) in ([2], [1, 2])
        assert held(found) == 0
        if steps[0] < step:
            break
    assert step > 20


@BOTH
def test_an_interruption_while_memory_is_freed_is_not_lost(make: Any, size: int) -> None:
    found = make()
    found.put(array(1, size))
    kept = found._take(View, 0)
    ran: list[str] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        ran.append(f"{frame.f_code.co_name} {event}")

    sys.setprofile(profile)
    try:
        del kept
    finally:
        sys.setprofile(None)
    # Memory is freed by C code, so no exception of a signal handler is raised in it and lost.
    assert not [each for each in ran if each.endswith(" call")]
    assert held(found) == 0


@EACH
@pytest.mark.parametrize("size", [100, 5000, PIECE])
def test_a_handler_can_put_during_a_put(make: Any, size: int, each: int) -> None:
    """The first put has found the channel full and starts the thread."""
    found = make(size=1 << 14)
    step, steps = 0, [1]
    while steps[0] >= step:
        step += each
        for filler in (8000, 1000, 0):
            with suppress(WouldBlock):
                while True:
                    found._channel.send(pickle.dumps(bytes(filler)), timeout=0)

        def put(step: int = step, steps: list[int] = steps) -> None:
            with at_step(step, lambda: found.put(array(2, size))) as seen:
                found.put(array(1, size))
            steps[:] = seen

        in_time(put)
        wanted = [1] if steps[0] < step else [1, 2]
        values: list[int] = []
        while len(values) < len(wanted):
            got = found.get(timeout=60)
            if not isinstance(got, bytes):
                assert np.all(got == got[0])
                values.append(int(got[0]))
        assert sorted(values) == wanted
    assert step > 50


@pytest.mark.parametrize("size", [100, 5000, BLOCK, PIECE])
def test_a_handler_can_put_during_a_put_into_a_bounded_queue(make: Any, size: int) -> None:
    found = make(4)
    step, steps = 0, [1]
    while steps[0] >= step:
        step += 1 if size < PIECE else 3

        def put(step: int = step, steps: list[int] = steps) -> None:
            with at_step(step, lambda: found.put(array(2, size))) as seen:
                found.put(array(1, size))
            steps[:] = seen

        in_time(put)
        assert sorted(drained(found)) == ([1] if steps[0] < step else [1, 2])
        assert held(found) == 0
    assert step > 50


class PutsAgain:
    """An object that puts others into the same queue when it is pickled and when it is deleted."""

    def __init__(self, found: Any, log: logging.Logger, size: int) -> None:
        self.found, self.log, self.size = found, log, size

    def __reduce__(self) -> tuple[object, ...]:
        self.found.put(array(2, self.size))
        self.log.warning("in the middle")
        return (array, (1, self.size))

    def __del__(self) -> None:
        self.found.put(array(3, self.size))


@pytest.mark.parametrize("maxsize", [0, 10])
@pytest.mark.parametrize("size", [100, 5000, BLOCK, PIECE])
def test_pickling_and_del_and_logging_can_put(make: Any, maxsize: int, size: int) -> None:
    found = make(maxsize)
    log = logging.Logger("queue15")  # noqa: LOG001 - of this test only
    log.addHandler(logging.handlers.QueueHandler(found))

    def put() -> None:
        found.put([PutsAgain(found, log, size)])

    in_time(put)
    values = [found.get(timeout=60) for _ in range(4)]
    assert int(values[0][0]) == 2
    assert values[1].getMessage() == "in the middle"
    assert int(values[2][0][0]) == 1
    assert int(values[3][0]) == 3
    assert held(found) == 0


def test_signals_that_come_during_a_wait_for_memory_do_not_nest(make: Any) -> None:
    # The signals are faster than the wait for memory in `put`.
    found = make(1000)
    found.put(array(1))
    found.get()
    depth, deepest, count, over = [0], [0], [0], []

    def handler(*_: object) -> None:
        if over:  # it must not start the timer again
            return
        count[0] += 1
        depth[0] += 1
        deepest[0] = max(deepest[0], *depth)
        if depth[0] < 20:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            found.put(array(2, BLOCK))
        depth[0] -= 1

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        while count[0] < 50 and deepest[0] < 20:
            found.put(array(1, BLOCK))
            if found.qsize() > 10:
                found.get()
    finally:
        over.append(True)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert deepest[0] < 20


@pytest.mark.parametrize("maxsize", [0, 3])
@pytest.mark.parametrize("size", [100, 5000, BLOCK, PIECE])
def test_signal_handlers_put_while_their_thread_puts(make: Any, maxsize: int, size: int) -> None:
    found = make(maxsize)
    total = 300

    def work() -> None:
        count = [0]

        def handler(*_: object) -> None:
            if count[0] < total:
                count[0] += 1
                found.put(array(2, size))

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        sent = 0
        while sent < total or count[0] < total:
            found.put(array(1, size))
            sent += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        found.put(sent)
        found.close()
        found.join_thread()

    pid = forked(work)
    numbers = [0, 0, 0]
    while not isinstance(each := found.get(timeout=60), int):
        assert np.all(each == each[0])
        numbers[each[0]] += 1
    assert reap(pid) == 0
    assert numbers == [0, each, total]
    assert held(found) == 0
