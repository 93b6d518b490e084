"""A cancelled call takes nothing with it: at whatever moment it is cancelled."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipckit import Framed, LengthPrefixed, Timeout, WouldBlock, aio, pair

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., Any]

STEPS = 7


class Takers:
    """Tasks that take, each with a scope of its own, and what they took."""

    def __init__(self, pipe: Any, group: Any, count: int) -> None:
        self.pipe = pipe
        self.got: list[int] = []
        self.scopes = [anyio.CancelScope() for _ in range(count)]
        for scope in self.scopes:
            group.start_soon(self.take, scope)

    async def take(self, scope: anyio.CancelScope) -> None:
        with scope:
            self.got.append(await self.pipe.take())


def test_what_a_cancelled_call_waited_for_goes_to_the_next(run: Run, pipe: Any) -> None:
    """Two messages, and one or two of three takers cancelled, at every pair of moments."""

    async def once(put_at: int, cancel_at: int, cancelled: tuple[int, ...]) -> None:
        async with anyio.create_task_group() as group:
            takers = Takers(pipe, group, 3)
            for step in range(STEPS):
                if step == put_at:
                    await pipe.put(1)
                if step == put_at + 1:
                    await pipe.put(2)
                if step == cancel_at:
                    for each in cancelled:
                        takers.scopes[each].cancel()
                await anyio.lowlevel.checkpoint()
            # Whoever was not cancelled and is next gets them, if nobody has them yet.
            while len(takers.got) < min(2, 3 - len(cancelled)):
                await anyio.sleep(0.001)
            for scope in takers.scopes:
                scope.cancel()
        left = await pipe.rest()
        assert len(takers.got) + len(left) == 2, (put_at, cancel_at, cancelled)
        if pipe.fifo:
            assert sorted(takers.got + left) == [1, 2]

    async def main() -> None:
        choices = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)]
        moments = itertools.product(range(STEPS - 1), range(STEPS), choices)
        for put_at, cancel_at, cancelled in moments:
            await once(put_at, cancel_at, cancelled)

    run(main)


@pytest.mark.parametrize("backend", ["asyncio", "uvloop"])
@pytest.mark.parametrize("how", ["cancel", "timeout", "wait_for"])
def test_each_way_that_asyncio_has_of_cancelling(pipe: Any, backend: str, how: str) -> None:
    async def taken(seconds: float) -> int | None:
        if how == "wait_for":
            with suppress(TimeoutError):
                return int(await asyncio.wait_for(pipe.take(), seconds))
        elif how == "timeout":
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    return int(await pipe.take())
        else:
            task = asyncio.ensure_future(pipe.take())
            await asyncio.sleep(seconds)
            task.cancel()
            with suppress(asyncio.CancelledError):
                return int(await task)
        return None

    async def main() -> None:
        got = 0
        for turn in range(60):
            first = asyncio.ensure_future(taken(turn % 4 * 0.0005))
            second = asyncio.ensure_future(taken(turn % 3 * 0.0005))
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            await pipe.put(turn)
            got += sum(each is not None for each in await asyncio.gather(first, second))
            got += len(await pipe.rest())
            assert got == turn + 1

    options = {"use_uvloop": backend == "uvloop"}
    anyio.run(main, backend="asyncio", backend_options=options)


@pytest.mark.parametrize("name", ["sysv", "posix", "seqpacket", "frames", "channel", "topic"])
def test_a_cancelled_send_has_sent_nothing_or_all(
    run: Run, pipe_of: Callable[[str], Any], name: str
) -> None:
    """Three senders wait for room, one is cancelled at every moment."""
    pipe = pipe_of(name)
    sent: set[int] = set()

    async def send(scope: anyio.CancelScope, number: int) -> None:
        with scope:
            await pipe.put(number)
            sent.add(number)

    async def once(make_room_at: int, cancel_at: int, cancelled: int) -> None:
        before = 0
        with suppress(WouldBlock):
            while True:
                await pipe.send(b"%4d" % 9999, timeout=0)
                before += 1
        sent.clear()
        got: list[int] = []
        async with anyio.create_task_group() as group:
            scopes = [anyio.CancelScope() for _ in range(3)]
            for number, scope in enumerate(scopes):
                group.start_soon(send, scope, number)
            for step in range(STEPS):
                if step == make_room_at:
                    got = await pipe.rest()
                if step == cancel_at:
                    scopes[cancelled].cancel()
                await anyio.lowlevel.checkpoint()
        got += await pipe.rest()
        # A stream's frame that was begun when its sender was cancelled comes with the next.
        whole = [number for number in got if number != 9999]
        assert set(whole) >= sent
        assert sorted(whole) == sorted(set(whole))
        assert len(got) - len(whole) == before
        if name != "frames":
            assert set(whole) == sent
        assert sent >= {0, 1, 2} - {cancelled}

    async def main() -> None:
        for make_room_at, cancel_at in itertools.product(range(STEPS), repeat=2):
            for cancelled in range(3):
                await once(make_room_at, cancel_at, cancelled)

    # A socket takes thousands of small messages: fewer moments are enough.
    if name in {"seqpacket", "frames"}:
        sock = pipe.sender.handle.socket if name == "seqpacket" else pipe.sender.handle._socket
        sock.setsockopt(1, 7, 4608)  # SOL_SOCKET, SO_SNDBUF: the least there is
    run(main)


def test_a_frame_is_never_torn(run: Run) -> None:
    """Frames larger than the buffer, whose senders are cancelled in the middle."""

    async def main() -> None:
        first, second = pair()
        left, right = (
            aio.wrap(Framed(each, LengthPrefixed(">I", max_size=10**7))) for each in (first, second)
        )
        got: list[bytes] = []

        async def receive() -> None:
            async for frame in right:
                got.append(frame)
                await anyio.lowlevel.checkpoint()

        done: list[int] = []
        async with right, anyio.create_task_group() as group:
            group.start_soon(receive)
            async with left:
                for number in range(60):
                    with anyio.CancelScope() as scope:
                        async with anyio.create_task_group() as inner:

                            async def send(number: int = number) -> None:
                                await left.send(bytes([number]) * 300_000)
                                done.append(number)

                            inner.start_soon(send)
                            for _ in range(number % 6):
                                await anyio.lowlevel.checkpoint()
                            scope.cancel()
                await left.send(b"end")
        assert got[-1] == b"end"
        whole = [frame[0] for frame in got[:-1]]
        assert all(frame == frame[:1] * 300_000 for frame in got[:-1])
        assert set(done) <= set(whole)
        assert sorted(set(whole)) == whole

    run(main)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_frames_of_several_senders_do_not_mix(run: Run, turns: int) -> None:
    """Whenever the loop's turn is due: a send that has begun has its place in the line."""

    async def main() -> None:
        first, second = pair()
        left, right = (
            aio.wrap(Framed(each, LengthPrefixed(">I", max_size=10**6))) for each in (first, second)
        )
        async with left, right, anyio.create_task_group() as group:
            left._waiters.budget = turns
            for number in range(5):
                group.start_soon(left.send, bytes([number]) * 500_000)
            got = [await right.receive() for _ in range(5)]
            assert all(frame == frame[:1] * 500_000 for frame in got)
            assert sorted(frame[0] for frame in got) == list(range(5))

    run(main)


def test_a_frame_cut_by_a_deadline_is_ended_by_the_next_send(run: Run) -> None:
    async def main() -> None:
        first, second = pair()
        async with aio.wrap(first) as left, aio.wrap(second) as right:
            data = bytes(range(256)) * 4000
            with pytest.raises(Timeout, match=r"after [\d,]+ of 1,024,000 bytes; the next send"):
                await left.send(data, timeout=0.01)
            got = b""
            async with anyio.create_task_group() as group:
                group.start_soon(left.send, b"end")
                while len(got) < len(data) + 3:
                    got += (await right.receive()).data
            assert got == data + b"end"

    run(main)


OPERATIONS = st.lists(
    st.one_of(
        st.just(("take", 0)),
        st.just(("put", 0)),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("step"), st.integers(1, 3)),
    ),
    max_size=25,
)


@pytest.mark.parametrize(
    "name", ["sysv", "posix", "sysv-semaphore", "posix-semaphore", "frames", "topic"]
)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(operations=OPERATIONS)
def test_whatever_happens_all_that_was_put_is_taken_once(
    pipe_of: Callable[[str], Any], name: str, operations: list[tuple[str, int]]
) -> None:
    pipe = PIPES.get(name) or PIPES.setdefault(name, pipe_of(name))

    async def main() -> None:
        tasks: list[asyncio.Task[int]] = []
        put = 0
        for what, number in operations:
            if what == "take":
                tasks.append(asyncio.ensure_future(pipe.take()))
            elif what == "put" and put < 10:
                await pipe.put(put)
                put += 1
            elif what == "cancel" and number < len(tasks):
                tasks[-1 - number].cancel()
            elif what == "step":
                for _ in range(number):
                    await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        got = [each for each in ended if isinstance(each, int)]
        got += await pipe.rest()
        assert len(got) == put
        if pipe.fifo:
            assert sorted(got) == list(range(put))

    asyncio.run(main())


PIPES: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _no_pipes_are_kept() -> Any:
    yield
    PIPES.clear()
