"""The memory of large objects: no interruption, fork or kill tears or leaks it."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import pickle
import queue
import resource
import signal
import struct
import sys
import threading
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ipckit
from ipckit import LimitReached, WouldBlock
from ipckit.channel import ProcessQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

LARGE = 1_100_000  # bytes; such an object has a piece of the spill file
HEADER, ENTRY, WARM = 1024, 32, 16  # native/ring/spill_table.h
QUEUED = 1 << 24
PACKAGE = str(Path(ipckit.__file__).parent)


class Interrupted(Exception):  # noqa: N818 - no error
    """The exception that a signal handler raises."""


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


def array(value: int, size: int = LARGE) -> Any:
    return np.full(size, value, np.uint8)


def words(found: Any) -> list[int]:
    """The owners of the first pieces, from the table."""
    table = os.pread(found._spill.file.fd, 64 * ENTRY, HEADER)
    return [row[0] for row in struct.iter_unpack("=4Q", table)]


def set_word(found: Any, index: int, word: int) -> None:
    with mmap.mmap(found._spill.file.fd, 1 << 14) as table:
        struct.pack_into("=Q", table, HEADER + ENTRY * index, word)


def held(found: Any) -> int:
    """The number of pieces that are not free."""
    gc.collect()
    return sum(word != 0 for word in words(found))


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
def at_step(step: int, act: Callable[[], None], where: str = "") -> Iterator[list[int]]:
    """Call a function at one step of ipckit's Python code, where a signal handler could run."""
    files = str(Path(PACKAGE) / where)
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


@pytest.mark.parametrize("maxsize", [0, 4])
def test_an_interrupted_put_tears_nothing_and_leaks_nothing(make: Any, maxsize: int) -> None:
    found = make(maxsize)
    # So that later steps contain no imports. CPython 3.12 traces opcodes from the second time on.
    with at_step(0, interrupt):
        found.put(array(0))
    found.get()
    step, arrived = 0, 0
    while True:
        step += 1
        with at_step(step, interrupt) as steps, suppress(Interrupted):
            found.put(array(1))
        found.put(array(2))
        values = drained(found)
        assert values in ([2], [1, 2])
        arrived += len(values) - 1
        assert held(found) == 0
        if steps[0] < step:
            break
    assert step > 50
    assert 1 < arrived < step  # some were interrupted after the object was sent


def test_an_interrupted_get_leaks_nothing(make: Any) -> None:
    found = make()
    step = 0
    while True:
        step += 1
        found.put(array(1))
        with at_step(step, interrupt) as steps, suppress(Interrupted):
            found.get(timeout=30)
        found.put(array(2))
        assert drained(found) in ([2], [1, 2])
        assert held(found) == 0
        if steps[0] < step:
            break
    assert step > 20


def test_an_interruption_while_memory_is_freed_is_not_lost(make: Any) -> None:
    found = make()
    found.put(array(1))
    kept = found.get()
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


@pytest.mark.parametrize("size", [100, LARGE])
def test_a_handler_can_put_during_a_put(make: Any, size: int) -> None:
    """The first put has found the channel full and starts the thread."""
    found = make(size=1 << 14)
    step, steps = 0, [1]
    while steps[0] >= step:
        step += 1
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
            each = found.get(timeout=60)
            if not isinstance(each, bytes):
                assert np.all(each == each[0])
                values.append(int(each[0]))
        assert sorted(values) == wanted
    assert step > 50


# -- forks -----------------------------------------------------------------------------------------


def test_a_fork_during_a_put_keeps_no_process_waiting(make: Any) -> None:
    step = 0
    while True:
        step += 1
        found = make()
        reader, writer = os.pipe()
        children: list[int] = []

        def fork(reader: int = reader, writer: int = writer, kids: list[int] = children) -> None:
            def live_on() -> None:
                os.close(writer)
                os.read(reader, 1)

            kids.append(forked(live_on))

        with at_step(step, fork, "_process_queue/spill") as steps:
            found.put(array(1))
        in_time(partial(found.put, array(2)))
        assert drained(found) == [1, 2]
        os.close(writer)
        os.close(reader)
        assert [reap(pid) for pid in children] == [0] * len(children)
        assert held(found) == 0
        found.close()
        if steps[0] < step:
            break
    assert step > 20


def test_a_fork_in_a_signal_handler_during_put_puts_in_both_processes(make: Any) -> None:
    found = make(1)
    found.put(array(0))
    reader, writer = os.pipe()

    def fork(*_: object) -> None:
        if os.fork() == 0:
            array_of_each[:] = 2
        os.write(writer, b"x")

    array_of_each = array(1)

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


def test_a_child_keeps_the_objects_that_it_inherits(make: Any) -> None:
    found = make()
    found.put(array(1))
    kept = [found.get()]
    reader, writer = os.pipe()

    def check() -> None:
        os.close(writer)
        os.read(reader, 1)
        assert np.all(kept[0] == 1)

    pid = forked(check)
    os.close(reader)
    kept.clear()
    found.put(array(2))  # uses the same memory
    assert words(found)[0] != 0
    os.close(writer)
    assert reap(pid) == 0
    assert drained(found) == [2]


def test_forks_while_an_object_is_kept_leak_no_memory(make: Any) -> None:
    found = make()
    for value in range(20):
        found.put(array(value, 1 << 21))
        kept = found.get()
        assert reap(forked(lambda kept=kept: kept.sum())) == 0
        assert held(found) == 0
        assert np.all(kept == value)
    assert os.fstat(found._spill.file.fd).st_blocks * 512 < 4 << 20


def test_failed_forks_leak_no_memory() -> None:
    def run() -> None:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        found: Any = ProcessQueue()
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        for value in range(20):
            found.put(array(value, 1 << 21))
            kept = found.get()
            with pytest.raises(OSError, match="unavailable") as caught:
                os.fork()
            assert caught.value.errno == errno.EAGAIN
            assert np.all(kept == value)
            del kept
        assert held(found) == 0
        assert os.fstat(found._spill.file.fd).st_blocks * 512 < 4 << 20

    assert reap(forked(run)) == 0


# -- processes that are killed ---------------------------------------------------------------------


@pytest.mark.parametrize("doing", ["got", "put"])
def test_pieces_of_killed_processes_are_reused(make: Any, doing: str) -> None:
    found = make()
    for value in range(40):

        def die(value: int = value) -> None:
            if doing == "got":
                kept = found.get(timeout=30)
            else:
                kept = found._spill.put([array(value, 1 << 21)])
            assert kept is not None
            os.kill(os.getpid(), signal.SIGKILL)

        if doing == "got":
            found.put(array(value, 1 << 21))
        assert reap(forked(die)) == -signal.SIGKILL
    found.put(array(1, 1 << 21))
    assert drained(found) == [1]
    used = os.fstat(found._spill.file.fd).st_blocks * 512
    assert used <= (WARM << 21) + (1 << 20)  # 40 of them would be 80 MiB


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
    assert os.fstat(found._spill.file.fd).st_blocks * 512 < (WARM + 1) * (LARGE + 8192)


def test_sizes_of_all_kinds_have_pieces(make: Any) -> None:
    found = make(1000, size=1 << 16)
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
