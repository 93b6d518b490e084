"""`take` in an event loop: waiting, cancelling, and what a dead or idle taker has."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from ipckit import Channel, Delivery, PeerGone, Timeout, WouldBlock, aio

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace

    Run = Callable[..., Any]

LONG = b"." * 6000


def test_it_waits_for_a_message(run: Run) -> None:
    async def main() -> None:
        with Channel.anonymous() as channel:
            wrapped = aio.wrap(channel)
            with pytest.raises(WouldBlock, match="no message waits"):
                await wrapped.take(0)
            with pytest.raises(Timeout):
                await wrapped.take(0.01)
            got: list[bytes] = []

            async def take() -> None:
                with await wrapped.take(timeout=30) as delivery:
                    got.append(delivery.value)

            async with anyio.create_task_group() as group:
                for text in (b"short", LONG):
                    group.start_soon(take)
                    await anyio.lowlevel.checkpoint()
                    await wrapped.send(text)
            assert got == [b"short", LONG]
            assert channel.stats().taken == channel.stats().bytes_used == 0

    run(main)


def test_a_returned_message_wakes_a_receiver(run: Run, ns: Namespace) -> None:
    """The receiver gets it by `receive`, by `take` or by iteration."""

    async def main() -> None:
        with Channel.create(ns.name()) as channel, Channel.open(str(channel.name)) as other:
            wrapped = aio.wrap(other)
            got: list[bytes] = []

            async def receive(way: str) -> None:
                if way == "receive":
                    got.append(await wrapped.receive())
                elif way == "take":
                    with await wrapped.take() as delivery:
                        got.append(delivery.value)
                else:
                    async for value in wrapped:
                        got.append(value)
                        return

            for way in ("receive", "take", "iterate"):
                channel.send(way.encode())
                delivery = channel.take()
                async with anyio.create_task_group() as group:
                    group.start_soon(receive, way)
                    for _ in range(5):
                        await anyio.lowlevel.checkpoint()
                    await anyio.sleep(0.01)
                    assert way.encode() not in got
                    delivery.requeue()
            assert got == [b"receive", b"take", b"iterate"]
            channel.unlink()

    run(main)


def test_a_cancelled_take_takes_nothing_and_loses_nothing(run: Run) -> None:
    """One message for two tasks, of which one is cancelled, at every pair of moments."""

    async def once(send_at: int, cancel_at: int) -> None:
        with Channel.anonymous() as channel:
            wrapped, got = aio.wrap(channel), list[Delivery]()
            scopes = [anyio.CancelScope() for _ in range(2)]

            async def take(scope: anyio.CancelScope) -> None:
                with scope:
                    got.append(await wrapped.take())

            async with anyio.create_task_group() as group:
                for scope in scopes:
                    group.start_soon(take, scope)
                for step in range(6):
                    if step == send_at:
                        await wrapped.send(b"job" + LONG * (cancel_at % 2))
                    if step == cancel_at:
                        scopes[0].cancel()
                    await anyio.lowlevel.checkpoint()
                while not got:
                    await anyio.sleep(0.001)
                scopes[1].cancel()
            assert len(got) == channel.stats().taken == 1
            assert got[0].redelivered == len(channel) == 0
            got.pop().ack()
            assert channel.stats().bytes_used == 0

    async def main() -> None:
        for send_at in range(6):
            for cancel_at in range(6):
                await once(send_at, cancel_at)

    run(main)


def test_a_take_that_waits_for_memory_keeps_the_loop_idle(run: Run) -> None:
    """The descriptor is readable all the time, because a message waits."""

    async def main() -> None:
        with Channel.anonymous(size=1 << 16) as channel:
            for _ in range(40):
                channel.send(b"x")
            taken: list[Delivery] = []
            with suppress(WouldBlock):
                while True:
                    taken.append(channel.take(0))
            wrapped = aio.wrap(channel)
            before = time.thread_time()
            with pytest.raises(Timeout, match="no memory to take the next message"):
                await wrapped.take(0.2)
            assert time.thread_time() - before < 0.1
            with pytest.raises(WouldBlock, match="no memory"):
                await wrapped.take(0)

            async def free_one() -> None:
                await anyio.sleep(0.02)
                taken[0].ack()

            async with anyio.create_task_group() as group:
                group.start_soon(free_one)
                with await wrapped.take(timeout=30) as delivery:
                    assert delivery.value == b"x"

    run(main)


def test_an_acknowledgement_ends_iteration(ns: Namespace) -> None:
    """Another handle had the last message, so that it could come back, and stays open."""

    async def main() -> None:
        with Channel.create(ns.name()) as channel, Channel.open(str(channel.name)) as worker:
            with Channel.open(str(channel.name)) as sender:
                sender.send(b"job")
            delivery = worker.take()

            async def iterate() -> list[bytes]:
                return [each async for each in aio.wrap(channel)]

            task = asyncio.create_task(iterate())
            await asyncio.sleep(0.02)
            assert not task.done()
            delivery.ack()
            assert await asyncio.wait_for(task, 30) == []
            with pytest.raises(PeerGone):
                await aio.wrap(worker).take(timeout=30)
            channel.unlink()

    asyncio.run(main())


def test_messages_that_wait_for_memory_are_no_end(ns: Namespace) -> None:
    async def main() -> None:
        with Channel.create(ns.name(), size=1 << 16) as channel:
            with Channel.open(str(channel.name)) as sender:
                for _ in range(40):
                    sender.send(b"x")
            wrapped = aio.wrap(channel)
            taken: list[Delivery] = []
            with suppress(Timeout):
                while True:
                    taken.append(await wrapped.take(0.05))
            count = len(taken)
            assert 0 < count < 40
            taken.clear()
            assert len([each async for each in wrapped]) == 40
            channel.unlink()

    asyncio.run(main())
