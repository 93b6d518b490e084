"""Topics and subscriptions in an event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from ipckit import PeerGone, Timeout, Topic, WouldBlock, aio
from ipckit.structs import Int, Struct

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

    Run = Callable[..., Any]


class Number(Struct):
    n: Int


def test_two_subscribers_in_one_loop_each_get_all(run: Run, ns: Namespace) -> None:
    """One of them is slower, and the publisher waits for it."""

    async def main() -> tuple[list[str], list[str]]:
        quick: list[str] = []
        slow: list[str] = []
        with Topic.create(ns.name(), str, capacity=4) as topic:
            publisher = Topic.open(str(topic.name), str)

            async def publish() -> None:
                async with aio.wrap(publisher) as wrapped:
                    for number in range(100):
                        await wrapped.publish(str(number))

            async def receive(subscription: Any, found: list[str], pause: float) -> None:
                async with aio.wrap(subscription) as words:
                    async for word in words:
                        found.append(word)
                        await anyio.sleep(pause)

            async with anyio.create_task_group() as group:
                group.start_soon(receive, topic.subscribe(), quick, 0)
                group.start_soon(receive, topic.subscribe(), slow, 0.001)
                group.start_soon(publish)
        return quick, slow

    assert run(main) == ([str(number) for number in range(100)],) * 2


def test_each_call_of_a_subscription(run: Run) -> None:
    async def main() -> None:
        with Topic.anonymous() as topic, topic.subscribe() as subscription:
            messages, wrapped = aio.wrap(subscription), aio.wrap(topic)
            assert messages.handle is subscription
            for call in (messages.receive, messages.receive_many, messages.receive_view):
                with pytest.raises(WouldBlock, match="no message waits"):
                    await call(timeout=0)
                with pytest.raises(Timeout, match="no message waits"):
                    await call(timeout=0.01)
            buffer = bytearray(10)

            async def loan() -> None:
                await anyio.sleep(0.005)
                with await wrapped.loan(4) as slot:
                    slot.buf[:] = b"loan"
                    slot.send()

            async with anyio.create_task_group() as group:
                group.start_soon(loan)
                assert await messages.receive(timeout=30) == b"loan"
                group.start_soon(loan)
                assert await messages.receive_many(timeout=30) == [b"loan"]
                group.start_soon(loan)
                with await messages.receive_view(timeout=30) as view:
                    assert bytes(view) == b"loan"
                group.start_soon(loan)
                assert await messages.receive_into(buffer, timeout=30) == 4
                assert buffer[:4] == b"loan"
                await wrapped.publish_many([b"1", b"2", b"3"])
                assert await messages.receive_many(2) == [b"1", b"2"]

    run(main)


def test_a_publisher_that_waits_says_for_whom(run: Run) -> None:
    async def main() -> None:
        with Topic.anonymous(capacity=2) as topic, topic.subscribe() as subscription:
            wrapped = aio.wrap(topic)
            await wrapped.publish_many([b"1", b"2"])
            with pytest.raises(WouldBlock, match=r"subscriber pid \d+ \(.+\) has 2 unread"):
                await wrapped.publish(b"3", timeout=0)
            before = time.thread_time()
            with pytest.raises(Timeout, match=r"subscriber pid \d+ \(.+\) has 2 unread"):
                await wrapped.publish(b"3", timeout=0.1)
            with pytest.raises(Timeout) as many:
                await wrapped.publish_many([b"3"], timeout=0.1)
            assert many.value.sent == 0  # type: ignore[attr-defined]
            assert time.thread_time() - before < 0.1  # the loop slept
            async with anyio.create_task_group() as group:
                group.start_soon(wrapped.publish, b"3")
                await anyio.sleep(0.01)
                assert subscription.receive() == b"1"
            assert subscription.receive_many() == [b"2", b"3"]

    run(main)


@pytest.mark.parametrize("rows", [False, True])
def test_a_cancelled_publish_many_says_how_many(rows: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        with Topic.anonymous(Number, capacity=10) as topic, topic.subscribe() as numbers:
            wrapped = aio.wrap(topic)
            values: Any = [Number(i) for i in range(45)]
            if rows:
                values = np.zeros(45, Number.dtype)
                values["n"] = range(45)
            sending = asyncio.create_task(wrapped.publish_many(values))
            while len(numbers) < 10:
                await asyncio.sleep(0)
            found = [int(each["n"]) for each in numbers.receive_many(4)]
            while len(numbers) < 10:
                await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError) as cancelled:
                await sending
            found += [int(each["n"]) for each in numbers.receive_many()]
            assert found == list(range(14))
            assert cancelled.value.sent == 14  # type: ignore[attr-defined]

    asyncio.run(main())


def test_a_cancelled_receive_loses_nothing(run: Run) -> None:
    """One message for two tasks of a subscription, one of them cancelled, at every two moments."""

    async def once(publish_at: int, cancel_at: int) -> None:
        with Topic.anonymous() as topic, topic.subscribe() as subscription:
            messages, wrapped, got = aio.wrap(subscription), aio.wrap(topic), list[bytes]()
            scopes = [anyio.CancelScope() for _ in range(2)]

            async def receive(scope: anyio.CancelScope) -> None:
                with scope:
                    got.append(await messages.receive())

            async with anyio.create_task_group() as group:
                for scope in scopes:
                    group.start_soon(receive, scope)
                for step in range(6):
                    if step == publish_at:
                        await wrapped.publish(b"job" * (1 + 2000 * (cancel_at % 2)))
                    if step == cancel_at:
                        scopes[0].cancel()
                    await anyio.lowlevel.checkpoint()
                while not got:
                    await anyio.sleep(0.001)
                scopes[1].cancel()
            assert len(got) == 1
            assert (len(subscription), subscription.lost) == (0, 0)

    async def main() -> None:
        for publish_at in range(6):
            for cancel_at in range(6):
                await once(publish_at, cancel_at)

    run(main)


def test_a_killed_publisher_ends_the_iteration(
    run: Run, ns: Namespace, spawn: Callable[..., Child]
) -> None:
    code = """
        from ipckit import Topic
        from ipckit.testing import step
        topic = Topic.open(args[0])
        topic.publish(b"last words")
        step.tell("published")
        step.expect("never")
    """

    async def main() -> None:
        with Topic.create(ns.name()) as topic, topic.subscribe() as subscription:
            child = spawn(code, topic.name)
            child.expect("published")
            messages = aio.wrap(subscription)
            async with anyio.create_task_group() as group:
                found: list[bytes] = []

                async def receive() -> None:
                    found.extend([message async for message in messages])

                group.start_soon(receive)
                while not found and len(subscription):
                    await anyio.sleep(0.001)
                child.kill()
            assert found == [b"last words"]
            with pytest.raises(PeerGone):
                await messages.receive(timeout=60)

    run(main)


def test_a_killed_subscriber_frees_a_publisher(
    run: Run, ns: Namespace, spawn: Callable[..., Child]
) -> None:
    code = """
        from ipckit import Topic
        from ipckit.testing import step
        topic = Topic.open(args[0])
        messages = topic.subscribe()
        step.tell("subscribed")
        step.expect("never")
    """

    async def main() -> None:
        with Topic.create(ns.name(), capacity=1) as topic:
            child = spawn(code, topic.name)
            child.expect("subscribed")
            wrapped = aio.wrap(topic)
            await wrapped.publish(b"1")
            async with anyio.create_task_group() as group:
                group.start_soon(wrapped.publish, b"2")
                await anyio.sleep(0.02)
                assert topic.stats().published == 1
                child.kill()
            assert topic.stats().published == 2

    run(main)
