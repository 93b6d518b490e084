"""A lock that a process holds when it forks: the child does not release it, in whatever way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

# The code of each test runs in one child that forks others. `held` says what each kind of lock
# has of its own semaphores, `ways` how each is held.
KINDS = """
    import asyncio, multiprocessing, time
    from contextlib import ExitStack
    from ipckit import AccessDenied, InvalidArgument, PosixSemaphore, SysVSemaphoreSet, aio
    from ipckit.sem import LockOrder

    def in_child(act):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                act()
                status = 0
            except BaseException as exc:
                os.write(2, repr(exc).encode() + b"\\n")
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def raises(error, call):
        try:
            call()
        except error:
            return
        raise AssertionError(f"{call} did not raise {error}")

    stack = ExitStack()
    lock = stack.enter_context(Lock.create().lifetime())
    shared = stack.enter_context(ReadWriteLock.create().lifetime())
    buffer = stack.enter_context(BoundedBuffer.create(None, 4).lifetime())
    pair = stack.enter_context(SysVSemaphoreSet.create(None, [3, 1]))
    posix = stack.enter_context(PosixSemaphore.create(None, 3).lifetime())
    order = LockOrder({"lock": lock, "one": pair[1], "posix": posix})
    with buffer.producing():
        pass
    record = lambda: (3, 1)

    def held():
        return (lock.semaphores.values, shared.semaphores.values, buffer.semaphores.values,
                pair.values, posix.value)

    ways = {
        "lock": lambda: lock,
        "recover": lock.recover,
        "reading": shared.reading,
        "writing": lambda: shared.writing(timeout=1),
        "producing": buffer.producing,
        "consuming": lambda: buffer.consuming(timeout=1),
        "by a record": lambda: buffer.producing(record, timeout=1),
        "semaphore": lambda: pair[0],
        "posix": lambda: posix,
        "ordered": lambda: order.hold("lock"),
        "ordered one": lambda: order.hold("one", undo=True),
        "ordered posix": lambda: order.hold("posix"),
    }
"""


@pytest.fixture
def forks(victims: Callable[..., Any]) -> Callable[..., Any]:
    """Run code with one of each kind of lock, which are free again at its end."""

    def run(code: str) -> Any:
        return victims(
            KINDS + "    free = held()\n" + code + "    assert held() == free, held()\n"
            "    stack.close()\n"
        )

    return run


def test_a_child_that_leaves_its_parents_block_releases_nothing(forks: Callable[..., Any]) -> None:
    code = """
    class Left(Exception):
        pass

    def leave(block, *how):
        def act():
            block.__exit__(*how)
            assert held() == taken, held()
        return act

    result = []
    for name, way in ways.items():
        for error in (None, Left()):
            block = way()
            try:
                with block:
                    taken = held()
                    assert taken != free, name
                    in_child(leave(block, None, None, None))
                    in_child(leave(block, Left, Left(), None))
                    # As the last processes of multiprocessing and of a fork in a thread do.
                    child = multiprocessing.get_context("fork").Process(
                        target=leave(block, None, None, None))
                    child.start()
                    child.join()
                    assert child.exitcode == 0, name
                    assert held() == taken, (name, held())
                    if error is not None:
                        raise error
            except Left:
                pass
            if error is not None or name not in ("producing", "consuming", "by a record"):
                assert held() == free, (name, held())
            else:
                with buffer.consuming() if name != "consuming" else buffer.producing():
                    pass
        result.append(name)
"""
    assert len(forks(code)) == 12


def test_a_child_can_take_and_release_for_itself(forks: Callable[..., Any]) -> None:
    code = """
    def again(way):
        def act():
            before = held()
            with way():
                assert held() != before
            assert held() == before
        return act
    result = 0
    for name in ("reading", "semaphore", "posix"):   # which several can hold at once
        way = ways[name]
        block = way()
        with block:
            taken = held()
            in_child(again(way))
            def nested():
                again(way)()
                again(lambda: block)()
                block.__exit__(None, None, None)
                assert held() == taken
                in_child(lambda: (again(way)(), block.__exit__(None, None, None)))
                assert held() == taken
            in_child(nested)
            assert held() == taken, name
        result += 1
    # What a child was forked with in a block is no hindrance once the parent has left it.
    for name, way in ways.items():
        if name in ("producing", "consuming", "by a record"):
            continue
        reader, writer = os.pipe()
        with way():
            pid = os.fork()
            if pid == 0:
                os.read(reader, 1)
                status = 1
                try:
                    for _ in range(2):
                        again(way)()
                    status = 0
                finally:
                    os._exit(status)
        os.write(writer, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, name
        os.close(reader)
        os.close(writer)
        result += 1
"""
    assert forks(code) == 12


def test_a_child_is_told_that_what_its_parent_holds_is_not_its_own(
    forks: Callable[..., Any],
) -> None:
    code = """
    def refused(call, error=AccessDenied):
        def act():
            taken = held()
            raises(error, call)
            assert held() == taken, held()
        return act
    lock.acquire()
    in_child(refused(lock.release))
    again = Lock.from_id(lock.id)
    in_child(refused(again.release))
    again.release()   # it belongs to the process, not to a handle
    again.close()
    shared.acquire_read()
    in_child(refused(shared.release_read))
    in_child(refused(shared.release_write, WouldBlock))   # which nobody holds
    shared.release_read()
    shared.acquire_write()
    in_child(refused(shared.release_write))
    shared.release_write()
    pair[0].acquire(2, undo=True)
    in_child(refused(lambda: pair[0].release(2, undo=True)))
    in_child(refused(lambda: pair.op([SemOp(0, +1, undo=True)])))
    in_child(lambda: (pair[0].release(), pair[0].acquire()))   # without undo: a hand-off
    in_child(lambda: (pair[0].acquire(undo=True), pair[0].release(undo=True)))
    pair[0].release(2, undo=True)
    order.acquire("lock")
    in_child(refused(lambda: order.release("lock"), InvalidArgument))
    in_child(lambda: order.held == () or os._exit(3))
    order.release("lock")
    posix.acquire()
    in_child(posix.release)   # a POSIX semaphore's release is for all
    posix.acquire()
    posix.release()
    posix.release()
    posix.acquire()
    result = "told"
"""
    assert forks(code) == "told"


def test_a_stranger_cannot_release_a_lock(forks: Callable[..., Any]) -> None:
    code = """
    reader, writer = os.pipe()
    tell, told = os.pipe()
    pid = os.fork()     # before anything is taken
    if pid == 0:
        os.read(reader, 1)
        status = 1
        try:
            for call in (lock.release, shared.release_write):
                raises(AccessDenied, call)
            raises(AccessDenied, lambda: lock.__exit__(None, None, None))
            status = 0
        finally:
            os._exit(status)
    with lock, shared.writing():
        taken = held()
        os.write(writer, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert held() == taken
    for each in (reader, writer, tell, told):
        os.close(each)
    result = "kept"
"""
    assert forks(code) == "kept"


def test_a_fork_of_another_thread_releases_nothing(forks: Callable[..., Any]) -> None:
    code = """
    inside, leave = threading.Event(), threading.Event()
    def hold():
        with lock, pair[0], posix:
            inside.set()
            leave.wait()
    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    taken = held()
    def act():
        for block in (lock, pair[0], posix):
            block.__exit__(None, None, None)
        raises(AccessDenied, lock.release)
    in_child(act)
    assert held() == taken
    leave.set()
    thread.join()
    result = "kept"
"""
    assert forks(code) == "kept"


def test_a_child_that_leaves_an_async_block_releases_nothing(forks: Callable[..., Any]) -> None:
    code = """
    async def main():
        for face in (aio.wrap(pair)[0], aio.wrap(posix)):
            async with face:
                taken = held()
                def leave():
                    try:
                        face.__aexit__(None, None, None).send(None)
                    except StopIteration:
                        pass
                    assert held() == taken, held()
                in_child(leave)
                assert held() == taken
    asyncio.run(main())
    result = "kept"
"""
    assert forks(code) == "kept"
