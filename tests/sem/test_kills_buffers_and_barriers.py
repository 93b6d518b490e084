"""Bounded buffers, barriers, events and the order of locks, among processes that are killed."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

import ipckit
from ipckit import PosixSemaphore, SemOp, SysVSemaphoreSet
from ipckit.sem import Barrier, BoundedBuffer, Event, Lock, LockOrder
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Namespace


@pytest.fixture
def buffer(ns: Namespace) -> Iterator[BoundedBuffer]:
    with BoundedBuffer.create(ns.key(), 2).lifetime() as made:
        yield made


@pytest.fixture
def barrier(ns: Namespace) -> Iterator[Barrier]:
    with Barrier.create(ns.key(), 2).lifetime() as made:
        yield made


# -- BoundedBuffer ---------------------------------------------------------------------------------


def test_a_block_moves_one_and_a_failed_one_none(buffer: BoundedBuffer) -> None:
    with buffer.producing():
        assert buffer.semaphores.values == [1, 0, 0]
        with pytest.raises(ipckit.WouldBlock):  # the mutex
            buffer.semaphores.op([SemOp(2, -1)], 0)
    assert (buffer.free, buffer.used) == (1, 1)
    with pytest.raises(ZeroDivisionError), buffer.producing():
        _ = 1 / 0
    with pytest.raises(ZeroDivisionError), buffer.consuming():
        _ = 1 / 0
    assert buffer.semaphores.values == [1, 1, 1]
    with buffer.producing(timeout=0):
        pass
    for timeout, error in ((0, ipckit.WouldBlock), (0.01, ipckit.Timeout)):
        with pytest.raises(error), buffer.producing(timeout=timeout):
            pytest.fail("there is no room")
    for _ in range(2):
        with buffer.consuming(timeout=0):
            pass
    with pytest.raises(ipckit.WouldBlock), buffer.consuming(timeout=0):
        pytest.fail("there is nothing")
    assert buffer.semaphores.values == [2, 0, 1]


# Items are numbers in a ring in shared memory, whose record (head, tail) is one word. A consumer
# notes in `got` what it takes, one byte an item.
TRAFFIC = """
    key, rounds, capacity, kills = args
    memory = mmap.mmap(-1, 4096)
    got = mmap.mmap(-1, 1 << 22)
    def record():
        head, tail = struct.unpack_from("<II", memory, 0)
        return head, tail
    def counts():
        head, tail = record()
        return capacity - (tail - head), tail - head
    def change(head, tail):
        memory[:8] = struct.pack("<II", head, tail)
    with BoundedBuffer.create(key, capacity).lifetime() as buffer:
        def produce(tell, until, die):
            for _ in range(until):
                with buffer.producing(counts):
                    head, tail = record()
                    if die == 1 and random.random() < 0.2:
                        os.kill(os.getpid(), signal.SIGKILL)   # nothing is done yet
                    struct.pack_into("<I", memory, 64 + 4 * (tail % capacity), tail)
                    change(head, tail + 1)
                    if die == 2 and random.random() < 0.2:
                        os.kill(os.getpid(), signal.SIGKILL)   # recorded, not committed
        def take():
            head, tail = record()
            item, = struct.unpack_from("<I", memory, 64 + 4 * (head % capacity))
            assert item == head, (item, head)
            return head, tail
        def consume(tell, until, die):
            for _ in range(until):
                with buffer.consuming(counts):
                    head, tail = take()
                    if die == 1 and random.random() < 0.2:
                        os.kill(os.getpid(), signal.SIGKILL)
                    got[head] = got[head] + 1
                    change(head + 1, tail)
                    if die == 2 and random.random() < 0.2:
                        os.kill(os.getpid(), signal.SIGKILL)
        forever = 10 ** 9
        running = [start(act, forever, 0) for act in (produce, consume)]
        for number in range(kills):
            victims = [start(act, 1000, random.choice([1, 2])) for act in (produce, consume)]
            for victim in victims:
                # At any instruction, or where it says.
                end(*victim, kill=number % 2 == 0, suicide=True)
            for act in (produce, consume):
                end(*start(act, rounds, 0))
        for victim in running:
            end(*victim, kill=True)
        while record()[0] < record()[1]:
            with buffer.consuming(counts, timeout=1):
                head, tail = take()
                got[head] = got[head] + 1
                change(head + 1, tail)
        # Whoever comes next finds the counters right, or sets them right.
        try:
            with buffer.producing(counts, timeout=1):
                raise InterruptedError
        except InterruptedError:
            pass
        head, tail = record()
        # An item that a consumer was killed with may have been noted, and is taken again; no item
        # is missed.
        missed = [item for item in range(head) if got[item] == 0]
        again = sum(got[item] - 1 for item in range(head))
        result = head == tail > kills, missed, again <= 2 * kills + 2, buffer.semaphores.values
"""


def test_producers_and_consumers_killed_at_random(
    ns: Namespace, victims: Callable[..., Any]
) -> None:
    found = victims(TRAFFIC, ns.key(), 20, 4, 15)
    assert found == (True, [], True, [4, 0, 1])


def test_a_buffer_of_one_place_survives_as_well(ns: Namespace, victims: Callable[..., Any]) -> None:
    found = victims(TRAFFIC, ns.key(), 20, 1, 10)
    assert found == (True, [], True, [1, 0, 1])


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("capacity", [1, 3, 100])
def test_hundreds_of_killed_producers_and_consumers(
    ns: Namespace, victims: Callable[..., Any], capacity: int
) -> None:
    found = victims(TRAFFIC, ns.key(), 50, capacity, 200, timeout=250)
    assert found == (True, [], True, [capacity, 0, 1])


# -- Barrier ---------------------------------------------------------------------------------------

ROUNDS = """
    key, parties, rounds, extra = args
    counts = mmap.mmap(-1, 1 << 16)
    lasts = mmap.mmap(-1, 1 << 16)
    with Barrier.create(key, parties).lifetime() as barrier, Lock.create().lifetime() as lock:
        def work(tell):
            for number in range(rounds):
                with lock:
                    counts[number] += 1
                last = barrier.wait()
                # Nobody goes on before all have come.
                assert counts[number] == parties, (number, counts[number])
                if last:
                    lasts[number] += 1
        for victim in [start(work) for _ in range(parties)]:
            end(*victim)
        assert barrier.waiting == 0
        result = set(lasts[:rounds]), barrier.semaphores.values
"""


def test_a_barrier_serves_hundreds_of_rounds(ns: Namespace, victims: Callable[..., Any]) -> None:
    lasts, values = victims(ROUNDS, ns.key(), 4, 300, 0)
    assert lasts == {1}
    assert values == [1, 0, 0, 0, 0, 0, 4]


def test_a_barrier_of_one_never_waits(ns: Namespace) -> None:
    with Barrier.create(ns.key(), 1).lifetime() as barrier:
        assert [barrier.wait(timeout=0) for _ in range(5)] == [True] * 5
        assert (barrier.parties, barrier.waiting) == (1, 0)


def test_a_killed_waiter_has_not_come_and_another_takes_its_place(
    ns: Namespace, victims: Callable[..., Any]
) -> None:
    code = """
        with Barrier.create(args[0], 3).lifetime() as barrier:
            def come(tell):
                tell(b"last" if barrier.wait() else b"came")
            for number in range(20):
                one = start(come)
                wait_blocked(one[0], "semop")
                dead = start(come)
                wait_blocked(dead[0], "semop")
                assert barrier.waiting == 2
                end(*dead, kill=True)
                assert barrier.waiting == 1
                two = start(come)
                wait_blocked(two[0], "semop")
                assert barrier.wait(timeout=0)
                assert [end(*one), end(*two)] == [b"came", b"came"]
            result = barrier.waiting, barrier.semaphores.values
    """
    assert victims(code, ns.key()) == (0, [1, 0, 0, 0, 0, 0, 3])


def test_a_timeout_withdraws_and_is_not_counted(barrier: Barrier) -> None:
    for timeout, error in ((0, ipckit.WouldBlock), (0.01, ipckit.Timeout)):
        with pytest.raises(error):
            barrier.wait(timeout=timeout)
        assert barrier.semaphores.values == [1, 0, 0, 0, 0, 0, 2]
    with pytest.raises(ipckit.InvalidArgument):
        barrier.wait(timeout=-1)
    assert barrier.waiting == 0
    thread = threading.Thread(target=barrier.wait)
    thread.start()
    wait_blocked(os.getpid(), "semop")
    assert barrier.waiting == 1
    assert barrier.wait(timeout=60) is True
    thread.join(60)
    assert not thread.is_alive()


def test_one_who_times_out_just_as_all_have_come_has_come(barrier: Barrier) -> None:
    # Between its timeout and its taking the mutex, the other comes.
    mutex, came = barrier.semaphores[0], list[bool]()

    def come() -> None:
        with suppress(ipckit.Timeout):
            came.append(barrier.wait(timeout=0.1))

    opened = False
    while not opened:
        thread = threading.Thread(target=come)
        thread.start()
        while barrier.waiting == 0 and thread.is_alive():
            os.sched_yield()
        with mutex:
            if barrier.waiting == 1:  # else it has withdrawn already
                while mutex.waiting == 0:
                    os.sched_yield()
                barrier.semaphores.op([SemOp(4, +1), SemOp(1, +1)], 0)  # as the last to come does
                opened = True
        thread.join(60)
    assert came == [False]
    assert barrier.semaphores.values == [1, 1, 0, 0, 0, 0, 2]


def test_a_ticket_that_a_killed_leaver_left_is_cleared(barrier: Barrier) -> None:
    # The leaver was counted (undo has taken that back), its ticket is still there.
    barrier.semaphores.values = [1, 1, 0, 0, 1, 0, 2]
    thread = threading.Thread(target=barrier.wait)
    thread.start()
    wait_blocked(os.getpid(), "semop")
    assert barrier.wait(timeout=60)
    thread.join(60)
    assert barrier.semaphores.values == [1, 0, 0, 0, 0, 0, 2]
    with pytest.raises(ipckit.WouldBlock):
        barrier.wait(timeout=0)


def test_a_slow_leaver_keeps_its_ticket(barrier: Barrier) -> None:
    # More processes than parties: one is on its way out of the first round, with a ticket, while
    # two others come to the second. It is let out first.
    barrier.semaphores.values = [1, 1, 1, 0, 1, 0, 2]
    came: list[bool] = []
    threads = [threading.Thread(target=lambda: came.append(barrier.wait())) for _ in range(2)]
    for thread in threads:
        thread.start()
    while barrier.semaphores[2].waiting_zero == 0:
        os.sched_yield()
    assert came == []
    barrier.semaphores.op([SemOp(4, -1), SemOp(2, -1)], 0)  # as the leaver does
    for thread in threads:
        thread.join(60)
    assert sorted(came) == [False, True]
    assert barrier.semaphores.values == [1, 0, 0, 0, 0, 0, 2]


def test_who_opens_a_round_waits_no_longer_than_it_said(barrier: Barrier) -> None:
    barrier.semaphores.values = [1, 1, 1, 1, 1, 0, 2]
    for timeout, error in ((0, ipckit.WouldBlock), (0.01, ipckit.Timeout)):
        with pytest.raises(error):
            barrier.wait(timeout=timeout)
        assert barrier.semaphores.values == [1, 1, 1, 1, 1, 0, 2]


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_barrier_among_hundreds_of_kills(ns: Namespace, victims: Callable[..., Any]) -> None:
    # More processes than parties, killed at any moment and replaced; rounds go on, and in the end
    # nothing is left of the dead.
    code = """
        with Barrier.create(args[0], 3).lifetime() as barrier:
            def forever(tell):
                while True:
                    try:
                        barrier.wait(timeout=random.choice([None, 600, 0.001]))
                        tell(b".")
                    except Timeout:
                        pass
            running = [start(forever) for _ in range(4)]
            for _ in range(300):
                place = random.randrange(4)
                os.read(running[place][1], 1)
                end(*running[place], kill=True)
                running[place] = start(forever)
            for each in running:
                end(*each, kill=True)
            assert barrier.waiting == 0
            for _ in range(4):
                pair = [start(lambda tell: barrier.wait()) for _ in range(2)]
                for each in pair:
                    wait_blocked(each[0], "semop")
                assert barrier.wait(timeout=60)
                for each in pair:
                    end(*each)
            values = barrier.semaphores.values
            result = values[0], values[2:]
    """
    assert victims(code, ns.key(), timeout=250) == (1, [0, 0, 0, 0, 3])


# -- Event -----------------------------------------------------------------------------------------


def test_an_event_wakes_all_who_wait(ns: Namespace, victims: Callable[..., Any]) -> None:
    code = """
        with Event.create(args[0]).lifetime() as event:
            assert not event.is_set()
            waiting = [start(lambda tell: event.wait()) for _ in range(4)]
            for one in waiting:
                wait_blocked(one[0], "semop")
            end(*waiting.pop(), kill=True)
            event.set()
            for one in waiting:
                end(*one)
            event.wait(timeout=0)
            event.set()
            result = event.is_set()
    """
    assert victims(code, ns.key()) is True


def test_an_event_can_unhappen(ns: Namespace) -> None:
    with Event.create(ns.key()).lifetime() as event:
        for timeout, error in ((0, ipckit.WouldBlock), (0.01, ipckit.Timeout)):
            with pytest.raises(error):
                event.wait(timeout=timeout)
        event.set()
        event.wait()
        event.clear()
        event.clear()
        with pytest.raises(ipckit.WouldBlock):
            event.wait(timeout=0)
        assert event.key is not None
        with Event.open_or_create(event.key).lifetime() as again:
            again.set()
        assert event.is_set()


# -- LockOrder -------------------------------------------------------------------------------------


@pytest.fixture
def order(ns: Namespace) -> Iterator[LockOrder[Any]]:
    with (
        Lock.create(ns.key()).lifetime() as first,
        SysVSemaphoreSet.create(ns.key(), [1, 1]) as second,
        PosixSemaphore.create(ns.name()).lifetime() as third,
    ):
        yield LockOrder[Any]({"first": first, "second": second[0], "third": third})


def test_locks_are_taken_in_their_order_only(order: LockOrder[Any]) -> None:
    with order.hold("first"), order.hold("third") as third:
        assert order.held == ("first", "third")
        assert third.value == 0
        with pytest.raises(ipckit.DeadlockRisk, match="first < second < third") as caught:
            order.acquire("second")
        assert caught.value.errno == errno.EDEADLK
        assert "holding third" in str(caught.value)
        with pytest.raises(ipckit.DeadlockRisk, match="holding it already"):
            order.acquire("third")
    assert order.held == ()
    with order.hold("second"):  # what was refused was not taken
        pass


def test_locks_are_given_back_in_any_order(order: LockOrder[Any]) -> None:
    for name in ("first", "second", "third"):
        order.acquire(name)
    for name in ("first", "third", "second"):
        order.release(name)
        with pytest.raises(ipckit.InvalidArgument, match="not held by this thread"):
            order.release(name)
    assert order.held == ()


def test_each_thread_has_its_own_account(order: LockOrder[Any]) -> None:
    seen: list[Any] = []

    def other() -> None:
        seen.append(order.held)
        try:
            order.release("third")
        except ipckit.InvalidArgument as exc:
            seen.append(exc.errno)
        with order.hold("first"):
            seen.append(order.held)

    with order.hold("third"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(60)
        assert order.held == ("third",)
    assert seen == [(), errno.EPERM, ("first",)]


def test_options_go_to_the_lock_and_a_refusal_holds_nothing(order: LockOrder[Any]) -> None:
    with order.hold("second", undo=True, timeout=0) as second:
        assert second.value == 0
    assert second.value == 1
    second.acquire()
    with pytest.raises(ipckit.WouldBlock):
        order.acquire("second", timeout=0)
    with pytest.raises(ipckit.Timeout), order.hold("second", timeout=0.01):
        pytest.fail("it is held")
    assert order.held == ()
    with order.hold("first", report_death=True):
        pass


def test_names_that_there_are_not(order: LockOrder[Any]) -> None:
    for call in (order.acquire, order.release):
        with pytest.raises(ipckit.InvalidArgument, match="no lock 'fourth'"):
            call("fourth")
    with pytest.raises(ipckit.InvalidArgument, match="locks must not be empty"):
        LockOrder({})
