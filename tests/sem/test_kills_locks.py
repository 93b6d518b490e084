"""Locks, buffers, barriers and events among processes that are killed with -9.

The code of each test runs in a child that forks the victims; see `victims`.
"""

from __future__ import annotations

import errno
import os
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

import ipckit
from ipckit.sem import Barrier, BoundedBuffer, Event, Lock, ReadWriteLock
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Namespace


@pytest.fixture
def lock(ns: Namespace) -> Iterator[Lock]:
    with Lock.create(ns.key()).lifetime() as made:
        yield made


@pytest.fixture
def shared(ns: Namespace) -> Iterator[ReadWriteLock]:
    with ReadWriteLock.create(ns.key()).lifetime() as made:
        yield made


# -- what all are alike in -------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Lock, ReadWriteLock, BoundedBuffer, Barrier, Event])
def test_they_are_made_found_sent_and_removed(ns: Namespace, cls: type[Any]) -> None:
    key = ns.key()
    with pytest.raises(ipckit.NotFound):
        cls.open(key)
    with cls.create(key).lifetime() as made:
        assert made.key == key
        for again in (cls.open(key), cls.from_id(made.id), pickle.loads(pickle.dumps(made))):  # noqa: S301
            assert type(again) is cls
            assert again.id == made.id
            assert not again.semaphores.owner
            again.close()
        with pytest.raises(ipckit.AlreadyExists):
            cls.create(key)
        assert repr(made).startswith(f"<{cls.__name__} <SysVSemaphoreSet")
        with pytest.raises(ipckit.InvalidArgument, match="semaphores, but a"):
            (Event if cls is not Event else Lock).open(key)
    with pytest.raises(ipckit.NotFound):
        made.unlink()


@pytest.mark.parametrize("cls", [BoundedBuffer, Barrier])
@pytest.mark.parametrize("size", [0, -1, 32768])
def test_a_size_out_of_range_is_refused(ns: Namespace, cls: type[Any], size: int) -> None:
    with pytest.raises(ipckit.InvalidArgument, match="must be 1 to 32767, not"):
        cls.create(ns.key(), size)


# -- Lock ------------------------------------------------------------------------------------------


def test_one_process_at_a_time_holds_a_lock(ns: Namespace, victims: Callable[..., Any]) -> None:
    code = """
        overlap = Overlap(args[1])
        with Lock.create(args[0]).lifetime() as lock:
            def work(tell, report):
                for _ in range(150):
                    lock.acquire(report_death=report)
                    overlap.inside()
                    lock.release()
            for victim in [start(work, n % 2 == 0) for n in range(6)]:
                end(*victim)
            result = overlap.count, lock.locked, lock.semaphores.values
    """
    path = str(ns.path())
    assert victims(code, ns.key(), path) == (900, False, [1, 0])


KILL_HOLDERS = """
    key, path, rounds = args
    overlap = Overlap(path)
    with Lock.create(key).lifetime() as lock:
        done = [0]
        def hold(tell):
            lock.acquire()
            overlap.inside(tell)
        def work(tell):
            for _ in range(rounds):
                with lock:
                    overlap.inside()
                    tell(b".")
        workers = [start(work) for _ in range(2)]
        for _ in range(rounds):
            victim = start(hold)
            assert os.read(victim[1], 2) == b"in"
            assert lock.locked
            end(*victim, kill=True)
        assert b"".join(end(*worker) for worker in workers) == b"." * 2 * rounds
        # Each dead holder is remembered until somebody has repaired what it left.
        died = lock.semaphores[1].value
        try:
            lock.acquire(report_death=True)
        except OwnerDied:
            with lock.recover():
                pass
        lock.acquire(report_death=True)
        lock.release()
        result = overlap.count, died, lock.semaphores.values
"""


def test_killed_holders_let_go(ns: Namespace, victims: Callable[..., Any]) -> None:
    assert victims(KILL_HOLDERS, ns.key(), str(ns.path()), 60) == (180, 60, [1, 0])


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_hundreds_of_killed_holders_let_go(ns: Namespace, victims: Callable[..., Any]) -> None:
    found = victims(KILL_HOLDERS, ns.key(), str(ns.path()), 800, timeout=250)
    assert found == (2400, 800, [1, 0])


def test_a_lock_killed_anywhere_is_free_again(ns: Namespace, victims: Callable[..., Any]) -> None:
    # Killed at whatever instruction: the lock is free, and never given twice.
    code = """
        memory = mmap.mmap(-1, 64)
        with Lock.create(args[0]).lifetime() as lock:
            def spin(tell):
                tell(b"go")
                while True:
                    with lock:
                        before = memory[:8]
                        memory[:8] = (int.from_bytes(before, "little") + 1).to_bytes(8, "little")
            for _ in range(80):
                victims = [start(spin) for _ in range(2)]
                for victim in victims:
                    os.read(victim[1], 2)
                for _ in range(random.randrange(2000)):
                    pass
                for victim in victims:
                    end(*victim, kill=True)
                lock.acquire(timeout=0)
                lock.release()
            with lock.recover():
                pass
            result = lock.semaphores.values
    """
    assert victims(code, ns.key()) == [1, 0]


def test_a_dead_holder_is_reported_until_somebody_recovers(
    lock: Lock, victims: Callable[..., Any]
) -> None:
    code = """
        lock = Lock.open(args[0])
        for _ in range(2):
            end(*start(lambda tell: lock.acquire()))
        lock.close()
    """
    victims(code, lock.key)
    for _ in range(2):
        with pytest.raises(ipckit.OwnerDied, match="half changed") as caught:
            lock.acquire(report_death=True)
        assert caught.value.errno == errno.EOWNERDEAD
        assert not lock.locked
    with lock:  # who does not ask is not told, and repairs nothing
        pass
    with pytest.raises(ZeroDivisionError), lock.recover():
        _ = 1 / 0
    with pytest.raises(ipckit.OwnerDied):
        lock.acquire(report_death=True)
    with lock.recover(timeout=0):
        assert lock.locked
    lock.acquire(report_death=True, timeout=0)
    lock.release()
    with lock.recover():  # nobody died: nothing is miscounted
        pass
    assert lock.semaphores.values == [1, 0]


def test_one_who_dies_while_recovering_is_reported_too(
    lock: Lock, victims: Callable[..., Any]
) -> None:
    code = """
        lock = Lock.open(args[0])
        end(*start(lambda tell: lock.acquire()))
        def repair(tell):
            with lock.recover():
                os._exit(0)
        end(*start(repair))
        lock.close()
    """
    victims(code, lock.key)
    with pytest.raises(ipckit.OwnerDied):
        lock.acquire(report_death=True)
    with lock.recover():
        pass
    assert lock.semaphores.values == [1, 0]


def test_a_lock_that_is_not_held_is_not_given_back(lock: Lock) -> None:
    with pytest.raises(ipckit.WouldBlock):
        lock.release()
    lock.acquire()
    with pytest.raises(ipckit.WouldBlock):
        lock.acquire(timeout=0)
    with pytest.raises(ipckit.Timeout):
        lock.acquire(timeout=0.01)
    lock.release()
    with pytest.raises(ipckit.WouldBlock):
        lock.release()
    assert lock.semaphores.values == [1, 0]


def test_as_many_dead_as_the_count_can_hold(lock: Lock) -> None:
    lock.semaphores[1].value = 32767
    lock.acquire(timeout=0)
    lock.release()
    assert lock.semaphores.values == [1, 1]
    with pytest.raises(ipckit.OwnerDied):
        lock.acquire(report_death=True)
    with lock.recover():
        pass
    assert lock.semaphores.values == [1, 0]


def test_a_used_up_undo_count_is_no_dead_holder(ns: Namespace, victims: Callable[..., Any]) -> None:
    code = """
        from ipckit import LimitReached
        with Lock.create(args[0]).lifetime() as lock:
            give = [SemOp(0, +1), SemOp(1, -1)]   # as another process would
            for _ in range(32767):
                lock.acquire(timeout=0)
                lock.semaphores.op(give, 0)
            try:
                lock.acquire(timeout=0)
            except LimitReached as exc:
                result = "undo count" in str(exc), lock.semaphores.values
    """
    assert victims(code, ns.key()) == (True, [1, 0])


# -- ReadWriteLock ---------------------------------------------------------------------------------


def test_readers_share_and_a_writer_is_alone(shared: ReadWriteLock) -> None:
    with shared.reading(), shared.reading(timeout=0):
        assert (shared.readers, shared.writing_now) == (2, False)
        for timeout, error in ((0, ipckit.WouldBlock), (0.01, ipckit.Timeout)):
            with pytest.raises(error):
                shared.acquire_write(timeout=timeout)
            assert shared.semaphores.values == [2, 0, 0]  # the mark is withdrawn
    with shared.writing(timeout=0):
        assert (shared.readers, shared.writing_now) == (0, True)
        for take in (shared.acquire_read, shared.acquire_write):
            with pytest.raises(ipckit.WouldBlock):
                take(timeout=0)
    for give in (shared.release_read, shared.release_write):
        with pytest.raises(ipckit.WouldBlock):
            give()
    assert shared.semaphores.values == [0, 0, 0]


def test_a_waiting_writer_goes_before_new_readers(shared: ReadWriteLock) -> None:
    shared.acquire_read()
    order: list[str] = []

    def write() -> None:
        with shared.writing():
            order.append("writer")

    def read() -> None:
        with shared.reading():
            order.append("reader")

    writer = threading.Thread(target=write)
    writer.start()
    wait_blocked(os.getpid(), "semop")
    assert shared.semaphores.values == [1, 0, 1]
    with pytest.raises(ipckit.WouldBlock):
        shared.acquire_read(timeout=0)
    reader = threading.Thread(target=read)
    reader.start()
    while shared.semaphores[2].waiting_zero != 1:
        os.sched_yield()
    shared.release_read()
    for thread in (writer, reader):
        thread.join(60)
    assert order == ["writer", "reader"]
    assert shared.semaphores.values == [0, 0, 0]


def test_killed_readers_writers_and_waiting_writers_let_go(
    ns: Namespace, victims: Callable[..., Any]
) -> None:
    code = """
        with ReadWriteLock.create(args[0]).lifetime() as lock:
            def hold(tell, take):
                take()
                tell(b"in")
                signal.pause()
            for _ in range(15):
                readers = [start(hold, lock.acquire_read) for _ in range(2)]
                for reader in readers:
                    os.read(reader[1], 2)
                writer = start(hold, lock.acquire_write)
                wait_blocked(writer[0], "semop")
                assert lock.semaphores.values == [2, 0, 1]
                end(*writer, kill=True)
                lock.acquire_read(timeout=0)    # its mark went with it
                lock.release_read()
                for reader in readers:
                    end(*reader, kill=True)
                writer = start(hold, lock.acquire_write)
                os.read(writer[1], 2)
                assert lock.semaphores.values == [0, 1, 0]
                end(*writer, kill=True)
                assert lock.semaphores.values == [0, 0, 0]
            result = "well"
    """
    assert victims(code, ns.key()) == "well"


READ_AND_WRITE = """
    key, path, rounds = args
    overlap = Overlap(path)
    inside = mmap.mmap(-1, 64)
    with ReadWriteLock.create(key).lifetime() as lock:
        def write(tell):
            for _ in range(rounds):
                with lock.writing():
                    overlap.inside()
        def read(tell):
            for _ in range(rounds):
                with lock.reading():
                    before = overlap.count
                    assert not os.path.exists(path)
                    os.sched_yield()
                    assert overlap.count == before
        def forever(tell):
            tell(b"go")
            while True:
                with lock.reading() if random.random() < 0.7 else lock.writing(timeout=600):
                    pass
        workers = [start(act) for act in (write, read, write, read)]
        for _ in range(rounds // 4):
            victim = start(forever)
            os.read(victim[1], 2)
            for _ in range(random.randrange(5000)):
                pass
            end(*victim, kill=True)
        for worker in workers:
            end(*worker)
        result = overlap.count, lock.semaphores.values
"""


def test_readers_never_see_a_writer(ns: Namespace, victims: Callable[..., Any]) -> None:
    found = victims(READ_AND_WRITE, ns.key(), str(ns.path()), 120)
    assert found == (240, [0, 0, 0])


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_readers_never_see_a_writer_among_hundreds_of_kills(
    ns: Namespace, victims: Callable[..., Any]
) -> None:
    found = victims(READ_AND_WRITE, ns.key(), str(ns.path()), 2400, timeout=250)
    assert found == (4800, [0, 0, 0])
