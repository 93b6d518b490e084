"""The memory of long objects: no interruption, fork or kill tears or leaks it."""

from __future__ import annotations

import errno
import gc
import logging
import logging.handlers
import mmap
import os
import pickle
import queue
import resource
import signal
import struct
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ipckit
from ipckit import LimitReached, WouldBlock
from ipckit._core.processes import is_dead
from ipckit.channel import ProcessQueue, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

SIZE = 1 << 18  # bytes of a queue
BLOCK = 100_000  # such an object is in a block of the channel
PIECE = 150_000  # such an object has a piece of the spill file
BOTH = pytest.mark.parametrize("size", [BLOCK, PIECE])
# An interruption or a fork at each of several hundred steps takes long: `make test` has one at
# every third.
EACH = pytest.mark.parametrize("each", [3, pytest.param(1, marks=pytest.mark.soak)])
HEADER, ENTRY = 1024, 32  # native/ring/spill_table.h
SWEEP_MIN = 16
QUEUED = 1 << 24
TABLE = 1 << 16  # at most so much memory for the entries that these tests use
SENDING = ("_process_queue/queue", "_process_queue/spill")  # the code that owns memory
PACKAGE = str(Path(ipckit.__file__).parent)


class Interrupted(Exception):  # noqa: N818 - no error
    """The exception that a signal handler raises."""


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def one(*args: Any, size: int = SIZE) -> Any:
        made.append(ProcessQueue(*args, size=size))
        return made[-1]

    yield one
    for each in made:
        each.cancel_join_thread()
        each.close()


def array(value: int, size: int = PIECE) -> Any:
    return np.full(size, value, np.uint8)


def words(found: Any) -> list[int]:
    """The owners of the first pieces, from the table."""
    table = os.pread(found._spill.file.fd, 64 * ENTRY, HEADER)
    return [row[0] for row in struct.iter_unpack("=4Q", table)]


def set_word(found: Any, index: int, word: int) -> None:
    with mmap.mmap(found._spill.file.fd, 1 << 14) as table:
        struct.pack_into("=Q", table, HEADER + ENTRY * index, word)


def held(found: Any) -> int:
    """The number of pieces that are not free, plus 100 if a block of the drained channel is not."""
    gc.collect()
    assert len(found._channel) == 0
    blocks = found._channel.stats().bytes_used != 0
    return sum(word != 0 for word in words(found)) + 100 * blocks


def spilled(found: Any) -> int:
    """The bytes of memory in the spill file, without its table."""
    return os.fstat(found._spill.file.fd).st_blocks * 512 - TABLE


def drained(found: Any) -> list[int]:
    """The values of all objects that wait; each object must be whole."""
    values = []
    with suppress(queue.Empty):
        while True:
            each = found.get_nowait()
            assert np.all(each == each[0])
            values.append(int(each[0]))
    return values


@contextmanager
def at_step(step: int, act: Callable[[], object], *where: str) -> Iterator[list[int]]:
    """Call a function at one step of ipckit's Python code, where a signal handler could run."""
    files = tuple(str(Path(PACKAGE) / each) for each in where or [""])
    steps = [0]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(files):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            steps[0] += 1
            if steps[0] == step:
                act()
        return trace

    sys.settrace(trace)
    try:
        yield steps
    finally:
        sys.settrace(None)


def interrupt() -> None:
    raise Interrupted


@pytest.fixture(autouse=True, scope="module")
def _opcodes_are_traced() -> None:
    """CPython 3.12 traces opcodes from the second time on."""
    with at_step(0, interrupt):
        ProcessQueue[Any]().close()


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.001)


def in_time(call: Callable[[], Any]) -> None:
    """Run a call in a thread, and fail if it does not end."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as exc:  # the test raises it
            failed.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it waits for ever"
    if failed:
        raise failed[0]


def forked(act: Callable[[], object]) -> int:
    """Fork a child that calls a function and exits with status 0."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return pid


def reap(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# -- interruptions ---------------------------------------------------------------------------------


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


# -- forks -----------------------------------------------------------------------------------------


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


# -- processes that are killed ---------------------------------------------------------------------


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


# -- the pieces ------------------------------------------------------------------------------------


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
