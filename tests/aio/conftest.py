"""The same tests in each event loop, and for each handle that messages or units come out of."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from ipckit import (
    Channel,
    Framed,
    LengthPrefixed,
    PosixMessageQueue,
    PosixSemaphore,
    SysVMessageQueue,
    SysVSemaphoreSet,
    Topic,
    aio,
    pair,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from ipckit.testing import Namespace

BACKENDS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


async def nothing() -> None:
    pass


@pytest.fixture(scope="session", autouse=True)
def _the_pipe_of_uvloop_is_there() -> None:
    """Its first loop makes a pipe for signals that stays the process's; no test leaked it."""
    anyio.run(nothing, **BACKENDS["uvloop"])


@pytest.fixture(params=BACKENDS)
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs a coroutine function to its end, in one loop after the other."""

    def go(main: Callable[..., Awaitable[Any]], *args: object) -> Any:
        return anyio.run(main, *args, **BACKENDS[request.param])

    return go


class Pipe:
    """Something into which one side puts what the other takes: bytes, or units of a semaphore."""

    def __init__(self, name: str, ns: Namespace, stack: ExitStack) -> None:
        self.name = name
        self.fifo = not name.endswith("semaphore")
        self.sender: Any
        self.receiver: Any
        if name == "sysv":
            queue = stack.enter_context(SysVMessageQueue.create(ns.key(), max_bytes=40))
            self.sender = self.receiver = aio.wrap(queue)
        elif name == "posix":
            posix = stack.enter_context(
                PosixMessageQueue.create(ns.name(), max_messages=10, max_size=8)
            )
            self.sender = self.receiver = aio.wrap(posix)
        elif name == "sysv-semaphore":
            group = stack.enter_context(SysVSemaphoreSet.create(ns.key(), [0]))
            self.sender = self.receiver = aio.wrap(group[0])
        elif name == "posix-semaphore":
            posix_semaphore = PosixSemaphore.create(ns.name(), 0)
            stack.enter_context(posix_semaphore.lifetime())
            self.sender = self.receiver = aio.wrap(posix_semaphore)
        elif name == "channel":
            channel = stack.enter_context(Channel.create(ns.name(), capacity=10))
            other = stack.enter_context(Channel.open(str(channel.name)))
            self.sender, self.receiver = aio.wrap(channel), aio.wrap(other)
        elif name == "topic":
            topic = stack.enter_context(Topic.create(ns.name(), capacity=10))
            subscription = stack.enter_context(topic.subscribe())
            self.sender, self.receiver = aio.wrap(topic), aio.wrap(subscription)
        else:
            stream = name == "frames"
            left, right = (
                stack.enter_context(each) for each in pair("stream" if stream else "seqpacket")
            )
            if stream:
                ends = [Framed(each, LengthPrefixed(">I")) for each in (left, right)]
                self.sender, self.receiver = (aio.wrap(each) for each in ends)
            else:
                self.sender, self.receiver = aio.wrap(left), aio.wrap(right)

    async def put(self, number: int) -> None:
        if not self.fifo:
            self.sender.release()
        else:
            await self.send(b"%4d" % number)

    async def send(self, data: bytes, **options: Any) -> None:
        send = self.sender.publish if self.name == "topic" else self.sender.send
        await send(data, **options)

    async def take(self, **options: Any) -> int:
        if not self.fifo:
            await self.receiver.acquire(**options)
            return 0
        got = await self.receiver.receive(**options)
        return int(getattr(got, "data", None) or getattr(got, "value", None) or got)

    async def rest(self) -> list[int]:
        """All that is still in it."""
        found: list[int] = []
        while True:
            try:
                found.append(await self.take(timeout=0))
            except BlockingIOError:
                return found


PIPES = ["sysv", "posix", "sysv-semaphore", "posix-semaphore", "seqpacket", "frames", "channel"]
PIPES += ["topic"]


@pytest.fixture(params=PIPES)
def pipe(request: pytest.FixtureRequest, ns: Namespace) -> Iterator[Pipe]:
    with ExitStack() as stack:
        yield Pipe(request.param, ns, stack)


@pytest.fixture
def pipe_of(ns: Namespace) -> Iterator[Callable[[str], Pipe]]:
    """Makes a pipe of the kind that a test names."""
    with ExitStack() as stack:
        yield lambda name: Pipe(name, ns, stack)


async def settle() -> None:
    """Let every task get as far as it can."""
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


@pytest.fixture(name="settle")
def settle_fixture() -> Callable[[], Awaitable[None]]:
    return settle
