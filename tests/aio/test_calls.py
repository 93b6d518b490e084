"""What a face's calls give, in each event loop."""

from __future__ import annotations

import inspect
import os
import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from ipckit import (
    ClosedHandle,
    Framed,
    InvalidArgument,
    LengthPrefixed,
    MessageTooLong,
    PeerGone,
    PosixMessageQueue,
    PosixSemaphore,
    Removed,
    SemOp,
    SysVMessageQueue,
    SysVSemaphoreSet,
    Timeout,
    UnixListener,
    UnixSocket,
    WouldBlock,
    aio,
    connect,
    listen,
    pair,
)
from ipckit.sem import Semaphore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ipckit.testing import Child, Namespace

    Run = Callable[..., Any]
    Settle = Callable[[], Awaitable[None]]

FACES: list[tuple[type[Any], type[Any]]] = [
    (aio.SysVQueue, SysVMessageQueue),
    (aio.PosixQueue, PosixMessageQueue),
    (aio.SysVSemaphore, Semaphore),
    (aio.SemaphoreSet, SysVSemaphoreSet),
    (aio.NamedSemaphore, PosixSemaphore),
    (aio.Socket, UnixSocket),
    (aio.Listener, UnixListener),
    (aio.Frames, Framed),
]


@pytest.mark.parametrize(("face", "handle"), FACES, ids=lambda each: each.__name__)
def test_names_and_arguments_are_those_of_the_blocking_calls(
    face: type[Any], handle: type[Any]
) -> None:
    def arguments(function: Any) -> list[tuple[str, Any, Any]]:
        found = inspect.signature(function).parameters.values()
        return [(each.name, each.kind, each.default) for each in found if each.name != "self"]

    calls = [
        name
        for name, value in vars(face).items()
        if not name.startswith("_") and name != "close" and inspect.isfunction(value)
    ]
    assert calls
    for name in calls:
        assert arguments(getattr(face, name)) == arguments(getattr(handle, name)), name


@pytest.mark.parametrize(("face", "handle"), FACES, ids=lambda each: each.__name__)
def test_no_call_that_can_wait_is_missing(face: type[Any], handle: type[Any]) -> None:
    made = {"create", "open", "open_or_create", "from_id", "from_fd"}
    waits = {
        name
        for name in dir(handle)
        if not name.startswith("_") and callable(getattr(handle, name)) and name not in made
        if "timeout" in (getattr(getattr(handle, name), "__text_signature__", "") or "")
        or (
            inspect.isfunction(getattr(handle, name))
            and "timeout" in inspect.signature(getattr(handle, name)).parameters
        )
    }
    assert waits
    assert {name for name in waits if not inspect.iscoroutinefunction(getattr(face, name))} == set()


def test_what_has_no_calls_to_await_is_refused() -> None:
    with pytest.raises(TypeError, match=r"handle must be one of .*, not int"):
        aio.wrap(7)  # type: ignore[call-overload]


def test_what_was_put_is_taken(run: Run, pipe: Any) -> None:
    async def main() -> list[int]:
        for number in range(3):
            await pipe.put(number)
        return [await pipe.take(timeout=5) for _ in range(3)]

    assert run(main) == ([0, 1, 2] if pipe.fifo else [0, 0, 0])


def test_a_call_waits_for_what_comes_later(run: Run, pipe: Any, settle: Settle) -> None:
    async def main() -> int:
        got: list[int] = []

        async def take() -> None:
            got.append(await pipe.take())

        async with anyio.create_task_group() as group:
            group.start_soon(take)
            await settle()
            assert got == []
            await pipe.put(7)
        return len(got)

    assert run(main) == 1


def test_a_timeout_waits_at_least_so_long(run: Run, pipe: Any) -> None:
    async def main() -> None:
        began = time.monotonic()
        with pytest.raises(Timeout, match=r"for 0\.03 s"):
            await pipe.take(timeout=0.03)
        assert time.monotonic() - began >= 0.03

    run(main)


def test_a_timeout_of_zero_does_not_wait(run: Run, pipe: Any) -> None:
    async def main() -> None:
        for _ in range(100):  # with and without a turn of the loop
            with pytest.raises(WouldBlock):
                await pipe.take(timeout=0)
        await pipe.put(1)
        await pipe.take(timeout=0)

    run(main)


def test_who_waits_behind_others_times_out_too(run: Run, pipe: Any, settle: Settle) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(pipe.take)
            await settle()
            with pytest.raises(Timeout, match="other calls were ahead of it"):
                await pipe.take(timeout=0.01)
            await pipe.put(1)

    run(main)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_out_of_range_is_refused_though_it_need_not_wait(
    run: Run, pipe: Any, timeout: float
) -> None:
    async def main() -> None:
        await pipe.put(1)
        with pytest.raises(InvalidArgument):
            await pipe.take(timeout=timeout)
        with pytest.raises(TypeError):
            await pipe.take(timeout="1")
        assert len(await pipe.rest()) == 1

    run(main)


def test_with_closes_the_handle(run: Run, ns: Namespace) -> None:
    async def main() -> None:
        async with aio.wrap(SysVMessageQueue.create(ns.key())) as sysv:
            assert not sysv.closed
        async with aio.wrap(PosixMessageQueue.create(ns.name())) as posix:
            pass
        async with aio.wrap(SysVSemaphoreSet.create(ns.key(), [1])) as group:
            pass
        assert all(each.closed for each in (sysv, posix, group))
        with pytest.raises(ClosedHandle):
            await sysv.receive()
        with pytest.raises(ClosedHandle):
            await posix.send(b"", timeout=1)

    run(main)
    assert ns.leftovers() == []


def test_with_takes_a_semaphore_and_gives_it_back(run: Run, ns: Namespace) -> None:
    async def main() -> None:
        with SysVSemaphoreSet.create(ns.key(), [1]) as group:
            async with aio.wrap(group[0]) as one:
                assert group.values == [0]
                assert one.handle == group[0]
            assert group.values == [1]
        with PosixSemaphore.create(ns.name(), 1).lifetime() as named:
            async with aio.wrap(named):
                assert named.value == 0
            assert named.value == 1

    run(main)


def test_a_queue_is_iterated_until_it_is_removed(run: Run, ns: Namespace) -> None:
    async def main() -> list[bytes]:
        found: list[bytes] = []
        with SysVMessageQueue.create(ns.key()) as queue:
            queue.send(b"one")
            queue.send(b"two")
            async for message in aio.wrap(queue):
                found.append(message.value)
                if len(found) == 2:
                    queue.unlink()
        return found

    assert run(main) == [b"one", b"two"]


def test_who_waits_learns_that_the_object_was_removed(run: Run, ns: Namespace) -> None:
    async def main() -> None:
        with (
            SysVMessageQueue.create(ns.key()) as queue,
            SysVSemaphoreSet.create(ns.key(), [0]) as group,
        ):

            async def expect(call: Any) -> None:
                with pytest.raises(Removed):
                    await call

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expect, aio.wrap(queue).receive())
                tasks.start_soon(expect, aio.wrap(queue).receive(3))
                tasks.start_soon(expect, aio.wrap(group)[0].acquire())
                tasks.start_soon(expect, aio.wrap(group).op([SemOp(0, -1)]))
                await anyio.sleep(0.01)
                queue.unlink()
                group.unlink()

    run(main)


def test_a_receiver_of_one_type_does_not_keep_out_that_of_another(
    run: Run, ns: Namespace, settle: Settle
) -> None:
    async def main() -> list[bytes]:
        got: list[bytes] = []
        with SysVMessageQueue.create(ns.key()) as queue:
            face = aio.wrap(queue)

            async def take(select: int) -> None:
                got.append((await face.receive(select)).value)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take, 1)
                await settle()
                tasks.start_soon(take, 2)
                await settle()
                await face.send(b"two", 2)
                while not got:
                    await anyio.lowlevel.checkpoint()
                await face.send(b"one", 1)
        return got

    assert run(main) == [b"two", b"one"]


def test_a_small_message_passes_a_large_one_that_finds_no_room(
    run: Run, ns: Namespace, settle: Settle
) -> None:
    async def main() -> None:
        with SysVMessageQueue.create(ns.key(), max_bytes=100) as queue:
            face = aio.wrap(queue)
            await face.send(bytes(80), 1)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(face.send, bytes(90), 1)
                await settle()
                await face.send(b"small", 2)
                assert (await face.receive(2)).value == b"small"
                assert len((await face.receive(1)).value) == 80
                assert len((await face.receive(1)).value) == 90

    run(main)


def test_operations_on_a_set_are_all_or_none(run: Run, ns: Namespace, settle: Settle) -> None:
    async def main() -> None:
        with SysVSemaphoreSet.create(ns.key(), [1, 0]) as group:
            face = aio.wrap(group)
            assert len(face) == 2
            both = [SemOp(0, -1), SemOp(1, -1)]
            with pytest.raises(WouldBlock):
                await face.op(both, 0)
            with pytest.raises(Timeout):
                await face.op(iter(both), timeout=0.01)
            with pytest.raises(WouldBlock):
                await face.op([SemOp(0, -1), SemOp(1, -1, nowait=True)])
            async with anyio.create_task_group() as tasks:
                # What stands in the way has no nowait.
                tasks.start_soon(face.op, [SemOp(0, -1, nowait=True), SemOp(1, -1)])
                await settle()
                assert group.values == [1, 0]
                face[1].release()
            assert group.values == [0, 0]
            async with anyio.create_task_group() as tasks:
                face[0].release()
                tasks.start_soon(face[0].wait_zero)
                await settle()
                await face.op([SemOp(0, -1)])

    run(main)


UNREADABLE = """
import asyncio, os
from ipckit import SemOp, SysVSemaphoreSet, WouldBlock, aio
from ipckit.testing import drop_privileges

drop_privileges()
with SysVSemaphoreSet.open(args[0]) as group:
    try:
        asyncio.run(aio.wrap(group).op([SemOp(0, -1, nowait=True)]))
    except WouldBlock:
        result = "did not wait"
"""


@pytest.mark.usefixtures("root")
def test_what_must_not_wait_does_not_though_the_set_may_not_be_read(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    with SysVSemaphoreSet.create(ns.key(), [0], mode=0o622) as group:
        assert spawn(UNREADABLE, group.key).result == "did not wait"


def test_who_wants_little_passes_who_wants_much(run: Run, ns: Namespace, settle: Settle) -> None:
    async def main() -> None:
        with SysVSemaphoreSet.create(ns.key(), [1]) as group:
            one = aio.wrap(group[0])
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.acquire, 2)
                await settle()
                await one.acquire()  # another face, and the blocking call, could as well
                one.release(2)

    run(main)


def test_a_connection_is_accepted_and_talks(run: Run, ns: Namespace) -> None:
    async def main() -> None:
        address = str(ns.path("s"))
        with listen(address) as listener:

            async def serve() -> None:
                async for client in aio.wrap(listener):
                    async with client:
                        async for packet in client:
                            await client.send(packet.data.upper())
                    return

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serve)
                async with aio.wrap(connect(address)) as client:
                    await client.send(b"hello")
                    assert (await client.receive()).data == b"HELLO"
                    client.handle.shutdown("write")
                    assert (await client.receive()).eof
            with pytest.raises(Timeout):
                await aio.wrap(listener).accept(timeout=0.01)

    run(main)


@pytest.mark.usefixtures("root")
def test_users_who_are_not_allowed_do_not_block_the_loop(run: Run, ns: Namespace) -> None:
    async def main() -> None:
        address = str(ns.path("s"))
        with listen(address, allow_uids=[os.getuid() + 1]) as listener:
            turned_away = [connect(address) for _ in range(10)]
            waiting = select.poll()
            for each in turned_away:
                waiting.register(each.fileno(), 0)  # for the end of the connection only
            turns = 0
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(aio.wrap(listener).accept)
                while len(waiting.poll(0)) < len(turned_away):
                    turns += 1
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            assert turns > len(turned_away) // 2
            for each in turned_away:
                each.close()

    run(main)


def test_a_datagram_to_an_address_waits_until_its_receiver_has_room(
    run: Run, ns: Namespace
) -> None:
    async def main() -> int:
        one, two = str(ns.path("a")), str(ns.path("b"))
        with listen(one, "dgram") as sender, listen(two, "dgram") as receiver:
            out, into = aio.wrap(sender), aio.wrap(receiver)
            sent = 0
            with suppress(WouldBlock):
                while True:
                    await out.send(b"x", to=two, timeout=0)
                    sent += 1
            async with anyio.create_task_group() as tasks:

                async def last() -> None:
                    await out.send(b"last", to=two)

                tasks.start_soon(last)
                packet = await into.receive()
                assert packet.address == one
                got = 1
                while packet.data != b"last":
                    packet = await into.receive()
                    got += 1
            return got - sent

    assert run(main) == 1


@pytest.mark.parametrize("kind", ["stream", "seqpacket"])
def test_descriptors_arrays_and_handles_cross(run: Run, kind: Any) -> None:
    async def main() -> None:
        left, right = (aio.wrap(each) for each in pair(kind))
        async with left, right:
            read, write = os.pipe()
            await left.send(b"x", fds=[write])
            with await right.receive(max_fds=1) as packet:
                os.write(packet.fds[0], b"through")
            assert os.read(read, 100) == b"through"
            os.close(read)
            os.close(write)
            await left.send_array(np.arange(5))
            assert (await right.receive_array()).tolist() == [0, 1, 2, 3, 4]
            other, passed = pair()
            with other, passed:
                await left.send_handle(passed)
            (await right.receive_handle(UnixSocket)).close()
            with pytest.raises(Timeout):
                await right.receive_array(timeout=0.01)

    run(main)


def test_a_record_in_parts_is_kept_by_a_call_that_gives_up(run: Run) -> None:
    async def main() -> None:
        first, second = pair()
        with first, second:
            # What send_array sends, caught on the way.
            left, right = pair()
            with left, right:
                left.send_array(np.arange(3))
                packet = right.receive(max_fds=1)
            with packet:
                face = aio.wrap(second)
                first.send(packet.data[:5], fds=packet.fds)
                for cut in range(5, len(packet.data)):
                    with pytest.raises(Timeout):
                        await face.receive_array(timeout=0.0001)
                    first.send(packet.data[cut : cut + 1])
            assert (await face.receive_array()).tolist() == [0, 1, 2]

    run(main)


def test_frames_end_with_the_stream(run: Run) -> None:
    async def main() -> None:
        first, second = pair()
        left, right = (aio.wrap(Framed(each, LengthPrefixed(">I"))) for each in (first, second))
        async with left, right:
            await left.send(b"one")
            await left.send(b"two")
            first.shutdown("write")
            assert [frame async for frame in right] == [b"one", b"two"]
            with pytest.raises(PeerGone, match="between two frames"):
                await right.receive()
        assert left.closed
        assert right.closed

    run(main)


def test_a_stream_that_ends_inside_a_frame_says_so(run: Run) -> None:
    async def main() -> None:
        first, second = pair()
        async with aio.wrap(Framed(second, LengthPrefixed(">I"))) as frames:
            with first:
                first.send(b"\0\0\0\5he")
            with pytest.raises(PeerGone, match="inside a frame"):
                async for _ in frames:
                    pass

    run(main)


def test_a_frame_too_long_closes_the_stream(run: Run) -> None:
    async def main() -> None:
        first, second = pair()
        with first:
            frames = aio.wrap(Framed(second, LengthPrefixed(">I", max_size=4)))
            first.send(b"\0\0\0\5hello")
            with pytest.raises(MessageTooLong):
                await frames.receive()
            assert frames.closed

    run(main)


def test_the_repr_names_the_handle(ns: Namespace) -> None:
    with SysVMessageQueue.create(ns.key()) as queue:
        assert repr(aio.wrap(queue)) == f"aio.wrap({queue!r})"
