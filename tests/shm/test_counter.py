"""Counter: in memory of its own and in other memory; threads, and processes that are killed."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import (
    AlreadyExists,
    ClosedHandle,
    Corrupt,
    Counter,
    Int,
    Int64,
    InvalidArgument,
    LayoutMismatch,
    MappedFile,
    MemFd,
    NotFound,
    PosixSharedMemory,
    SharedArray,
    Struct,
    Timeout,
    pair,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

LEAST, MOST = -(2**63), 2**63 - 1


class Totals(Struct):
    kind: Int
    bytes: Int64


# -- the operations --------------------------------------------------------------------------------


def test_add_returns_the_new_value() -> None:
    with Counter.create() as counter:
        assert counter.value == 0
        assert [counter.add(), counter.add(5), counter.add(-7), counter.add(0)] == [1, 6, -1, -1]
        assert counter.add(np.int32(4)) == 3
        assert counter.value == 3


def test_the_value_can_be_set() -> None:
    with Counter.create(value=9) as counter:
        assert counter.value == 9
        for value in (LEAST, MOST, 0):
            counter.value = value
            assert counter.value == value
        with pytest.raises(AttributeError):
            del counter.value


def test_compare_exchange_changes_only_the_expected_value() -> None:
    with Counter.create() as counter:
        assert counter.compare_exchange(0, MOST) is True
        assert counter.compare_exchange(0, 1) is False
        assert counter.value == MOST


@pytest.mark.parametrize(("value", "n"), [(MOST, 1), (LEAST, -1), (2**62, 2**62), (-2, LEAST)])
def test_a_sum_that_does_not_fit_raises_and_changes_nothing(value: int, n: int) -> None:
    with Counter.create(value=value) as counter:
        with pytest.raises(OverflowError, match="does not fit into 64 bits"):
            counter.add(n)
        assert counter.value == value


@pytest.mark.parametrize("value", [MOST + 1, LEAST - 1])
def test_a_number_of_more_than_64_bits_is_refused(value: int) -> None:
    with Counter.create() as counter:
        with pytest.raises(OverflowError, match=r"n must be -2\*\*63 to 2\*\*63 - 1"):
            counter.add(value)
        with pytest.raises(OverflowError, match="value must be"):
            counter.value = value
        with pytest.raises(OverflowError, match="new must be"):
            counter.compare_exchange(0, value)
        with pytest.raises(OverflowError):
            Counter.create(value=value)
        assert counter.value == 0


@pytest.mark.parametrize("value", [1.0, "1", None, True, b"1"])
def test_what_is_no_integer_is_refused(value: Any) -> None:
    with Counter.create() as counter:
        with pytest.raises(TypeError):
            counter.add(value)
        with pytest.raises(TypeError):
            counter.value = value
        with pytest.raises(TypeError):
            counter.compare_exchange(value, 1)
        assert counter.value == 0
    method: Any = counter.add
    with pytest.raises(TypeError, match="at most 1"):
        method(1, 2)


def test_the_argument_can_close_the_counter() -> None:
    counter = Counter.create()

    class Closing:
        def __index__(self) -> int:
            counter.close()
            return 1

    with pytest.raises(ClosedHandle):
        counter.add(Closing())  # type: ignore[arg-type]


def test_a_closed_counter_raises() -> None:
    counter = Counter.create()
    counter.close()
    counter.close()
    for act in (counter.add, lambda: counter.value, lambda: counter.compare_exchange(0, 1)):
        with pytest.raises(ClosedHandle):
            act()
    with pytest.raises(ClosedHandle):
        counter.value = 1
    with pytest.raises(ClosedHandle):
        pickle.dumps(counter)
    assert repr(counter) == "<Counter anonymous counter, closed>"


# -- in other memory -------------------------------------------------------------------------------


def test_it_counts_in_any_memory(ns: Namespace) -> None:
    with (
        MappedFile.anonymous(64) as anonymous,
        MemFd.create("counter", 64) as memfd,
        PosixSharedMemory.create(ns.name(), 64) as posix,
        SharedArray.create(8, np.int64) as shared,
    ):
        for memory in (anonymous, memfd, posix, shared, np.zeros(8), bytearray(64)):
            counter = Counter.view(memory, 16)
            assert counter.add(7) == 7
            again = Counter.view(memory, 16)
            assert again.add() == 8
            assert (again.owner, again.name) == (False, None)
        assert shared.array.tolist() == [0, 0, 8, 0, 0, 0, 0, 0]
        assert Counter.view(shared.array[2:3]).value == 8
        assert repr(again) == "<Counter counter in other memory, value 8, open>"


def test_it_counts_in_a_field_of_a_struct() -> None:
    with MappedFile.anonymous(Totals.size) as memory:
        totals = memory.view(Totals)
        totals.bytes = 40
        offset = next(each.offset for each in Totals.fields if each.name == "bytes")
        assert Counter.view(totals, offset).add(2) == 42
        assert totals.bytes == 42


def test_it_keeps_the_memory_mapped() -> None:
    memory = MappedFile.anonymous(64)
    counter = Counter.view(memory)
    memory.close()
    assert counter.add() == 1
    mapping = memory._mapping
    assert mapping.exports > 0
    counter.close()
    assert mapping.exports == 0


def test_a_bytearray_can_not_be_resized_under_it() -> None:
    data = bytearray(8)
    counter = Counter.view(data)
    with pytest.raises(BufferError):
        data.extend(b"x")
    counter.close()
    data.extend(b"x")


@pytest.mark.parametrize("offset", [-1, -8, 1, 4, 57, 64, MOST, 2**64])
def test_an_offset_outside_or_not_aligned_is_refused(offset: int) -> None:
    with MappedFile.anonymous(64) as memory, pytest.raises(InvalidArgument):
        Counter.view(memory, offset)


def test_other_memory_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="contiguous"):
        Counter.view(np.zeros((4, 4), np.int64)[:, :2])
    with pytest.raises(InvalidArgument, match="not inside 0 bytes"):
        Counter.view(b"")
    for bad in (3, None, "12345678", np.array([None])):
        with pytest.raises(TypeError):
            Counter.view(bad)  # type: ignore[arg-type]
    memory = MappedFile.anonymous(64)
    memory.close()
    with pytest.raises(ClosedHandle):
        Counter.view(memory)


def test_read_only_memory_is_only_read() -> None:
    counter = Counter.view(bytes(8))
    assert (counter.value, counter.readonly) == (0, True)
    with pytest.raises(TypeError, match="read-only"):
        counter.add()
    with pytest.raises(TypeError, match="read-only"):
        counter.value = 1
    with pytest.raises(TypeError, match="read-only"):
        counter.compare_exchange(0, 1)


def test_a_counter_in_other_memory_has_no_descriptor_and_no_pickle() -> None:
    counter = Counter.view(bytearray(8))
    with pytest.raises(TypeError, match="pass the handle of the memory"):
        pickle.dumps(counter)
    with pytest.raises(TypeError, match="pass the handle of the memory"):
        counter.fileno()
    with pytest.raises(NotFound):
        counter.unlink()


# -- names -----------------------------------------------------------------------------------------


def test_a_name_has_the_lifecycle_of_other_handles(ns: Namespace) -> None:
    name = ns.name()
    with pytest.raises(NotFound, match=r"no such .*create it with Counter\.create"):
        Counter.open(name)
    with Counter.create(name, value=3, mode=0o640) as counter:
        assert (counter.owner, counter.name) == (True, name)
        assert os.stat(f"/dev/shm{name}").st_mode & 0o777 == 0o640  # noqa: PTH116, S108
        with pytest.raises(AlreadyExists, match=r"Counter\.open"):
            Counter.create(name)
        with Counter.open_or_create(name, mode=0o640) as other:
            assert (other.add(), other.owner) == (4, False)
        with Counter.open(name, readonly=True) as reader:
            assert reader.value == 4
            with pytest.raises(TypeError, match="read-only"):
                reader.add()
        with SharedArray.open(name) as array:  # it is an array of one number
            assert array.array[()] == 4
        assert repr(counter) == f"<Counter counter {name}, value 4, open, owner>"
    with pytest.raises(NotFound):
        Counter.open(name)
    with Counter.open_or_create(name) as counter:
        assert (counter.owner, counter.value) == (True, 0)


def test_other_memory_of_the_name_is_refused(ns: Namespace) -> None:
    with (
        SharedArray.create(3, np.int64, name=ns.name()) as array,
        pytest.raises(LayoutMismatch, match=r"array \(3,\) int64, not a counter"),
    ):
        Counter.open(str(array.name))
    with PosixSharedMemory.create(ns.name(), 4096) as memory:
        with pytest.raises(Timeout, match="no header yet"):
            Counter.open(str(memory.name), timeout=0.01)
        memory.write(b"something else")
        with pytest.raises(Corrupt):
            Counter.open(str(memory.name))


# -- threads and processes -------------------------------------------------------------------------


def test_threads_lose_no_addition() -> None:
    with Counter.create() as counter:

        def count() -> None:
            for _ in range(3000):
                counter.add()

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counter.value == 12000


def test_a_copy_and_a_pickle_are_the_same_counter(ns: Namespace) -> None:
    for counter in (Counter.create(), Counter.create(ns.name())):
        with counter:
            for made in (copy.copy(counter), copy.deepcopy(counter)):
                before = counter.value
                assert (made.add(), counter.value, made.owner) == (before + 1, before + 1, False)
            with pickle.loads(pickle.dumps(counter)) as made:  # noqa: S301
                assert made.add() == 3


def test_it_reaches_another_process_by_its_name_or_descriptor(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    code = """
        from ipckit import Counter
        with Counter.open(args[0]) as counter:
            result = counter.add(5)
    """
    with Counter.create(ns.name()) as counter:
        assert spawn(code, str(counter.name)).result == 5
        left, right = pair()
        with left, right:
            left.send_handle(counter)
            with right.receive_handle(Counter) as received:
                assert received.add() == 6
        with Counter.from_fd(os.dup(counter.fileno())) as again:
            assert again.add() == 7


# Both halves of 64 bits change in each step, so that a torn number shows.
STEP = 2**32 + 1


def _count_for_ever(counter: Counter, own: Counter) -> None:
    while True:
        counter.add(STEP)
        own.add(STEP)


def test_a_kill_at_any_moment_loses_nothing_and_blocks_nobody() -> None:
    with Counter.create() as counter, SharedArray.create(8, np.int64) as tallies:
        mine = [Counter.view(tallies, 8 * index) for index in range(8)]
        children: list[int] = []
        for index in range(8):
            pid = os.fork()
            if pid == 0:
                try:
                    _count_for_ever(counter, mine[index])
                finally:
                    os._exit(1)
            children.append(pid)
            if len(children) < 2:
                continue
            before = counter.value
            while counter.value < before + 200 * STEP:  # the first of two has surely counted
                seen = counter.value
                assert seen >> 32 == seen & 0xFFFFFFFF
            os.kill(children[0], signal.SIGKILL)
            os.waitpid(children.pop(0), 0)
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)
        # Each process that was killed can have counted once more than it had noted.
        difference, rest = divmod(counter.value - int(tallies.array.sum()), STEP)
        assert rest == 0
        assert 0 <= difference <= 8
        assert (tallies.array % STEP).tolist() == [0] * 8
        assert counter.add(STEP) == counter.value


def test_forked_children_lose_no_addition_and_no_exchange() -> None:
    with Counter.create() as counter, Counter.create() as largest:
        children = []
        for index in range(3):
            pid = os.fork()
            if pid == 0:
                try:
                    for n in range(2000):
                        counter.add()
                        while (old := largest.value) < 3 * n + index:
                            if largest.compare_exchange(old, 3 * n + index):
                                break
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(pid)
        for pid in children:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert (counter.value, largest.value) == (6000, 5999)
