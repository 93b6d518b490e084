"""Fairness, the loop's lag, and what happens to loops, threads, forks and handles meanwhile."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
import uvloop

from ipckit import (
    ClosedHandle,
    FixedFrames,
    Framed,
    LengthPrefixed,
    PosixMessageQueue,
    SysVMessageQueue,
    WouldBlock,
    aio,
    pair,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ipckit.testing import Child, Namespace

    Run = Callable[..., Any]
    Settle = Callable[[], Awaitable[None]]

WAITERS = 100
PIPES = ["sysv", "posix", "seqpacket", "frames", "channel", "topic"]


# -- fairness --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PIPES)
def test_a_hundred_who_wait_are_served_in_order(
    run: Run, pipe_of: Callable[[str], Any], settle: Settle, name: str
) -> None:
    async def main() -> list[tuple[int, int]]:
        pipe = pipe_of(name)
        served: list[tuple[int, int]] = []

        async def take(place: int) -> None:
            served.append((place, await pipe.take()))

        async with anyio.create_task_group() as group:
            for place in range(WAITERS):
                group.start_soon(take, place)
                await anyio.lowlevel.checkpoint()
            await settle()
            for number in range(WAITERS):
                await pipe.put(number)
        return served

    served = run(main)
    assert sorted(served) == [(place, place) for place in range(WAITERS)]
    assert [place for place, _ in served] == list(range(WAITERS))


def test_two_faces_of_one_handle_stand_in_one_line(run: Run, ns: Namespace, settle: Settle) -> None:
    async def main() -> list[int]:
        served: list[int] = []
        with PosixMessageQueue.create(ns.name(), max_size=8) as queue:

            async def take(place: int) -> None:
                await aio.wrap(queue).receive()
                served.append(place)

            async with anyio.create_task_group() as group:
                for place in range(10):
                    group.start_soon(take, place)
                    await anyio.lowlevel.checkpoint()
                await settle()
                for _ in range(10):
                    queue.send(b"")
        return served

    assert run(main) == list(range(10))


def test_each_message_wakes_one(
    run: Run, ns: Namespace, settle: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    receive: Any = PosixMessageQueue.receive

    def counted(self: Any, **options: Any) -> Any:
        nonlocal looks
        looks += 1
        return receive(self, **options)

    monkeypatch.setattr(PosixMessageQueue, "receive", counted)

    async def main() -> None:
        with PosixMessageQueue.create(ns.name(), max_size=8) as queue:
            face = aio.wrap(queue)
            async with anyio.create_task_group() as group:
                for _ in range(WAITERS):
                    group.start_soon(face.receive)
                await settle()
                for _ in range(WAITERS):
                    while True:
                        try:
                            queue.send(b"", timeout=0)
                            break
                        except WouldBlock:
                            await anyio.lowlevel.checkpoint()

    run(main)
    # One look when it comes, one when it is the first, one that finds its message.
    assert looks <= 3 * WAITERS


# -- the loop goes on ------------------------------------------------------------------------------


class Ticks:
    """Counts the loop's turns."""

    def __init__(self, group: Any) -> None:
        self.count = 0
        self._group = group
        group.start_soon(self._tick)

    async def _tick(self) -> None:
        while True:
            self.count += 1
            await anyio.lowlevel.checkpoint()

    async def more(self, count: int) -> None:
        """Wait for so many turns."""
        wanted = self.count + count
        while self.count < wanted:
            await anyio.lowlevel.checkpoint()


def test_the_loop_goes_on_while_calls_wait(run: Run, pipe: Any) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            ticks = Ticks(group)
            for _ in range(3):
                group.start_soon(pipe.take)  # empty
            await ticks.more(100)
            group.cancel_scope.cancel()
        if not pipe.fifo:
            return
        with suppress(WouldBlock):
            while True:
                await pipe.send(b"   1", timeout=0)
        async with anyio.create_task_group() as group:
            ticks = Ticks(group)
            for number in range(3):
                group.start_soon(pipe.put, number)  # full
            await ticks.more(100)
            group.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize("name", ["sysv", "posix", "seqpacket", "frames", "topic"])
def test_the_loop_has_turns_while_there_is_always_a_message(
    run: Run, pipe_of: Callable[[str], Any], name: str
) -> None:
    async def main() -> int:
        pipe = pipe_of(name)
        async with anyio.create_task_group() as group:
            ticks = Ticks(group)
            await ticks.more(1)
            before = ticks.count
            for number in range(1000):  # each can be done at once
                await pipe.put(number)
                await pipe.take()
            turns = ticks.count - before
            group.cancel_scope.cancel()
        return turns

    # One for each 32 calls, or for each 32 messages, of 2000 in all.
    assert run(main) >= 2000 // 2 // 33


def test_a_task_that_never_has_to_wait_can_be_cancelled(run: Run, ns: Namespace) -> None:
    async def main() -> int:
        turns = 0
        with PosixMessageQueue.create(ns.name(), max_size=8) as queue:
            face = aio.wrap(queue)
            with anyio.move_on_after(0.02):
                while True:
                    await face.send(b"")
                    await face.receive()
                    turns += 1
        return turns

    assert run(main) > 32


def test_polling_without_waiting_lets_others_run(run: Run, ns: Namespace) -> None:
    async def main() -> int:
        with PosixMessageQueue.create(ns.name(), max_size=8) as queue:
            face = aio.wrap(queue)
            async with anyio.create_task_group() as group:

                async def later() -> None:
                    queue.send(b"")

                group.start_soon(later)
                looks = 1
                while True:
                    try:
                        await face.receive(timeout=0)
                    except WouldBlock:
                        looks += 1
                    else:
                        return looks

    assert 1 < run(main) <= 100


def test_large_frames_and_sends_go_in_pieces(run: Run) -> None:
    size = 2**26

    async def main() -> int:
        first, second = pair()
        left, right = (
            aio.wrap(Framed(each, LengthPrefixed(">I", max_size=size))) for each in (first, second)
        )
        async with left, right, anyio.create_task_group() as group:
            ticks = Ticks(group)

            async def send() -> None:
                await left.send(bytes(size))

            group.start_soon(send)
            assert len(await right.receive()) == size
            group.cancel_scope.cancel()
        return ticks.count

    assert run(main) >= size // 2**20


class Endless(socket.socket):
    """A stream whose other side always has room, and always has sent more."""

    def send(self, data: Any, *_: int) -> int:
        return min(len(data), 2**17)

    def recv_into(self, view: Any, *_: int) -> int:
        view[:] = b"\0" * len(view)
        return len(view)


def test_a_peer_that_keeps_up_does_not_keep_the_loop(run: Run) -> None:
    size = 2**26

    async def main() -> None:
        framed = Framed(Endless(), FixedFrames(size))
        async with aio.wrap(framed) as frames, anyio.create_task_group() as group:
            ticks = Ticks(group)
            await frames.send(bytes(size))
            assert ticks.count >= size // 2**21
            before = ticks.count
            await frames.receive()
            assert ticks.count - before >= size // 2**21
            group.cancel_scope.cancel()

    run(main)


# -- loops, threads, handles -----------------------------------------------------------------------


def test_who_waits_learns_that_the_handle_was_closed(run: Run, pipe: Any, settle: Settle) -> None:
    async def main() -> int:
        told = 0

        async def take() -> None:
            nonlocal told
            with pytest.raises(ClosedHandle):
                await pipe.take()
            told += 1

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(take)
            await settle()
            assert told == 0
            pipe.receiver.close()
        return told

    assert run(main) == 3


def test_another_thread_closes_the_handle(run: Run, pipe: Any, settle: Settle) -> None:
    async def main() -> None:
        async def take() -> None:
            with pytest.raises(ClosedHandle):
                await pipe.take()

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(take)
            await settle()
            thread = threading.Thread(target=pipe.receiver.close)
            thread.start()
            thread.join()

    run(main)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_is_closed_leaves_the_handle_to_the_next(
    pipe: Any, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    for number in range(3):
        loop = factory()
        loop.set_exception_handler(lambda *_: None)  # a task that waits for ever is no news here
        tasks = [loop.create_task(pipe.take()) for _ in range(3)]
        loop.run_until_complete(asyncio.sleep(0.005))
        loop.close()
        if number == 1:
            tasks.clear()
            gc.collect()
        asyncio.run(pipe.put(number))
        assert asyncio.run(asyncio.wait_for(pipe.take(), 30)) == (number if pipe.fifo else 0)
        del tasks
    gc.collect()


def test_two_loops_in_two_threads_share_a_queue(run: Run, pipe: Any) -> None:
    each, threads = 200, 2
    got: list[int] = []
    failed: list[BaseException] = []

    async def take() -> None:
        for _ in range(each):
            got.append(await pipe.take())  # noqa: PERF401 - each is counted when it comes

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(take)
            group.start_soon(take)

    def go() -> None:
        try:
            run(both)
        except BaseException as exc:
            failed.append(exc)

    async def put() -> None:
        for number in range(each * threads * 2):
            await pipe.put(number)

    if pipe.name == "frames":
        threads = 1  # one stream is read in one loop
    takers = [threading.Thread(target=go) for _ in range(threads)]
    for taker in takers:
        taker.start()
    run(put)
    for taker in takers:
        taker.join()
    assert failed == []
    assert len(got) == each * threads * 2
    if pipe.fifo:
        assert sorted(got) == list(range(each * threads * 2))


FORK = """
import asyncio, os
from ipckit import aio
from ipckit.testing import step
import ipckit

async def main(handle):
    face = aio.wrap(handle)
    waiting = asyncio.ensure_future(face.receive())
    await asyncio.sleep(0.01)
    pid = os.fork()
    if not pid:
        # In the child: closing, and ending the waiting coroutine, must not touch the parent's
        # epoll; and a loop of its own can wait for the same handle.
        try:
            waiting.get_coro().close()
            handle.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    other.send(b"to the parent")
    got = await asyncio.wait_for(waiting, 30)
    return (got.data if hasattr(got, "data") else got.value).decode()

result = []
for make in args:
    if make == "pair":
        handle, other = ipckit.pair("seqpacket")
        own = [handle, other]
    else:
        handle = other = getattr(ipckit, make[0]).create(make[1])
        own = [handle]
    result.append(asyncio.run(main(handle)))
    for each in own:
        with each:
            pass
"""


def test_a_forked_child_leaves_its_parent_waiting(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    kinds = [("SysVMessageQueue", ns.key()), ("PosixMessageQueue", ns.name()), "pair"]
    child = spawn(FORK, *kinds)
    assert child.result == ["to the parent"] * 3


SEES_THE_END = """
import asyncio, os
from ipckit import aio, pair

async def main():
    left, right = pair("seqpacket")
    face = aio.wrap(left)
    waiting = asyncio.ensure_future(face.receive())
    await asyncio.sleep(0.01)
    go, gone = os.pipe()
    pid = os.fork()
    if not pid:
        left.close()
        right.close()
        os.close(gone)
        os.read(go, 1)  # until the parent is done
        os._exit(0)
    left.close()
    try:
        await waiting
    except ValueError:
        pass
    # The child lives, and holds no duplicate of the socket that its parent waited on.
    end = (await asyncio.wait_for(aio.wrap(right).receive(), 30)).eof
    right.close()
    os.close(go), os.close(gone)
    os.waitpid(pid, 0)
    return end

result = asyncio.run(main())
"""


def test_a_forked_child_does_not_keep_a_socket_open(spawn: Callable[..., Child]) -> None:
    assert spawn(SEES_THE_END).result is True


INTERRUPTED = """
import asyncio, os, signal, threading
from ipckit import SysVMessageQueue, PosixMessageQueue, aio
from ipckit.testing import step

async def main(queue):
    asyncio.get_running_loop().call_later(0.02, os.kill, os.getpid(), signal.SIGINT)
    await aio.wrap(queue).receive()

result = []
for cls, where in args:
    with (SysVMessageQueue if cls == "sysv" else PosixMessageQueue).create(where) as queue:
        try:
            asyncio.run(main(queue))
        except KeyboardInterrupt:
            queue.send(b"still there")
            result.append(asyncio.run(aio.wrap(queue).receive()).value.decode())
"""


def test_ctrl_c_ends_a_wait_and_nothing_is_lost(ns: Namespace, spawn: Callable[..., Child]) -> None:
    child = spawn(INTERRUPTED, ("sysv", ns.key()), ("posix", ns.name()))
    assert child.result == ["still there"] * 2


def test_no_descriptor_stays_with_a_line_that_is_gone(run: Run, ns: Namespace) -> None:
    async def main() -> None:
        with PosixMessageQueue.create(ns.name(), max_size=8) as queue:
            face = aio.wrap(queue)
            before = sorted(Path("/proc/self/fd").iterdir())
            for _ in range(20):
                with anyio.move_on_after(0.001):
                    await face.receive()
            assert sorted(Path("/proc/self/fd").iterdir()) == before

    run(main)


def test_a_handle_that_is_dropped_says_so_at_once(ns: Namespace) -> None:
    queue = SysVMessageQueue.create(ns.key())
    asyncio.run(aio.wrap(queue).send(b""))
    queue.unlink()
    gc.disable()
    try:
        with pytest.warns(ResourceWarning, match="unclosed"):
            del queue
    finally:
        gc.enable()


def test_a_signal_that_raises_is_not_taken_for_the_calls_own_error(ns: Namespace) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    def handler(*_: object) -> None:
        raise Stop

    async def main() -> None:
        with SysVMessageQueue.create(ns.key()) as queue:
            await aio.wrap(queue).receive()

    old = signal.signal(signal.SIGUSR1, handler)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        timer.start()
        with pytest.raises(Stop):
            asyncio.run(main())
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, old)
