"""The memory of long objects when a process forks: nothing is torn or leaked."""

from __future__ import annotations

import errno
import os
import resource
import signal
from functools import partial
from typing import Any

import numpy as np
import pytest
from forks import forked, reap
from interruptions import EACH, at_step, in_time
from queue_memory import BOTH, SIZE, array, drained, held, spilled

from ipckit.channel import ProcessQueue

pytestmark = pytest.mark.usefixtures("opcodes_are_traced")

SENDING = ("_process_queue/queue", "_process_queue/spill")  # the code that owns memory


@BOTH
@EACH
@pytest.mark.parametrize("maxsize", [0, 4])
def test_a_fork_during_a_put_keeps_no_process_waiting(
    make: Any, maxsize: int, each: int, size: int
) -> None:
    step = 0
    while True:
        step += each
        found = make(maxsize)
        reader, writer = os.pipe()
        children: list[int] = []

        def fork(reader: int = reader, writer: int = writer, kids: list[int] = children) -> None:
            def live_on() -> None:
                os.close(writer)
                os.read(reader, 1)

            kids.append(forked(live_on))

        with at_step(step, fork, *SENDING) as steps:
            found.put(array(1, size))
        in_time(partial(found.put, array(2, size)))
        assert drained(found) == [1, 2]
        os.close(writer)
        os.close(reader)
        assert [reap(pid) for pid in children] == [0] * len(children)
        assert held(found) == 0
        found.close()
        if steps[0] < step:
            break
    assert step > 20


@BOTH
@EACH
@pytest.mark.parametrize("maxsize", [pytest.param(0, marks=pytest.mark.soak), 4])
def test_both_processes_put_after_a_fork_during_a_put(
    make: Any, maxsize: int, each: int, size: int
) -> None:
    """The child goes on with its copy of the call."""
    step, steps = 0, [1]
    while steps[0] >= step:
        step += each
        found = make(maxsize)
        reader, writer = os.pipe()

        def put(step: int = step, writer: int = writer, found: Any = found) -> None:
            pids: list[int] = []
            with at_step(step, lambda: pids.append(os.fork()), *SENDING) as seen:
                found.put(array(1, size))
            if pids == [0]:
                os._exit(0)
            os.write(writer, b"%d" % seen[0])
            assert [reap(pid) for pid in pids] == [0] * len(pids)

        assert reap(forked(put)) == 0
        steps[0] = int(os.read(reader, 10))
        values = drained(found)
        assert values == [1] * len(values)
        # In the child, the object is sent twice only if the parent had sent it before it forked.
        assert 1 <= len(values) <= 2
        assert held(found) == 0
        os.close(reader)
        os.close(writer)
        found.close()
    assert step > 20


@BOTH
@EACH
def test_a_child_of_a_fork_during_a_get_takes_the_next_object(
    make: Any, each: int, size: int
) -> None:
    """The parent frees the memory before the child goes on."""
    step, steps, inherited = 0, [1], 0
    while steps[0] >= step:
        step += each
        found = make()
        found.put(array(1, size))
        reader, writer = os.pipe()
        pids: list[int] = []

        def fork(reader: int = reader, writer: int = writer, kids: list[int] = pids) -> None:
            kids.append(os.fork())
            if kids == [0]:
                os.close(writer)
                os.read(reader, 1)  # until the parent has used the memory again

        with at_step(step, fork, *SENDING) as seen:
            got = found.get(timeout=30)
        if pids == [0]:
            os._exit(100 + int(got[0]) if np.all(got == got[0]) else 1)
        steps = seen
        assert np.all(got == 1)
        found.put(array(2, size))
        os.close(writer)
        os.close(reader)
        status = [reap(pid) for pid in pids]
        # Before the object is complete, it is the parent's. Afterwards, both have it.
        assert status in ([], [101], [102])
        inherited += status == [101]
        assert drained(found) == ([] if status == [102] else [2])
        assert held(found) == 0
        found.close()
    assert step > 20
    assert 0 < inherited < step


@BOTH
def test_a_fork_in_a_signal_handler_during_put_puts_in_both_processes(make: Any, size: int) -> None:
    found = make(1)
    found.put(array(0, size))
    reader, writer = os.pipe()

    def fork(*_: object) -> None:
        if os.fork() == 0:
            array_of_each[:] = 2
        os.write(writer, b"x")

    array_of_each = array(1, size)

    def put() -> None:
        signal.signal(signal.SIGALRM, fork)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        found.put(array_of_each)

    pid = forked(put)
    assert os.read(reader, 1) == b"x"
    assert os.read(reader, 1) == b"x"
    values = []
    for _ in range(3):
        each = found.get(timeout=60)
        assert np.all(each == each[0])
        values.append(int(each[0]))
        del each
    assert values[0] == 0
    assert sorted(values[1:]) == [1, 2]
    assert reap(pid) == 0
    os.close(reader)
    os.close(writer)


@BOTH
def test_a_received_object_owns_its_memory(make: Any, size: int) -> None:
    found = make()
    found.put(array(1, size))
    kept = found.get()
    assert held(found) == 0
    pid = os.fork()
    if pid == 0:
        kept[:] = 6
        os._exit(0)
    assert reap(pid) == 0
    found.put(array(2, size))  # uses the same memory
    assert np.all(kept == 1)
    kept[:] = 3
    assert drained(found) == [2]
    assert spilled(found) <= 0


def test_failed_forks_leak_no_memory() -> None:
    def run() -> None:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        found: Any = ProcessQueue(size=SIZE)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        for value in range(20):
            found.put(array(value))
            kept = found.get()
            with pytest.raises(OSError, match="unavailable") as caught:
                os.fork()
            assert caught.value.errno == errno.EAGAIN
            assert np.all(kept == value)
            del kept
        assert held(found) == 0
        assert spilled(found) <= 0

    assert reap(forked(run)) == 0
