"""Await messages: ipckit beside asyncio's streams, and beside the blocking call in an executor."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

from harness import Row, compare_slow

from ipckit import Channel, PosixMessageQueue, PosixSemaphore, SysVMessageQueue, aio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

BURST = 10  # what a POSIX queue holds with the default fs.mqueue.msg_max
BURSTS = 50
DATA = bytes(64)


def _bursts(
    loop: asyncio.AbstractEventLoop,
    send: Callable[[bytes], object],
    receive: Callable[[], Awaitable[object]],
) -> Callable[[], None]:
    """Return a function that sends bursts without waiting, and awaits each message."""

    async def main() -> None:
        for _ in range(BURSTS):
            for _ in range(BURST):
                send(DATA)
            for _ in range(BURST):
                await receive()

    return lambda: loop.run_until_complete(main())


def rows() -> Iterator[Row]:
    """Yield the comparisons: bursts of 64-byte messages."""
    loop = asyncio.new_event_loop()
    first, second = socket.socketpair()
    reader, writer = loop.run_until_complete(asyncio.open_unix_connection(sock=second))
    with first, PosixMessageQueue.create(max_messages=BURST, max_size=len(DATA)) as queue:
        ours = _bursts(loop, queue.send, aio.wrap(queue).receive)
        streams = _bursts(loop, first.send, lambda: reader.readexactly(len(DATA)))
        executor = _bursts(loop, queue.send, lambda: loop.run_in_executor(None, queue.receive))
        what = f"await {BURST * BURSTS} POSIX messages, 64 B"
        yield compare_slow(what, "asyncio streams", streams, ours, 0.5)
        yield compare_slow(what, "run_in_executor", executor, ours, 0.5)
        with Channel.create(spin=0) as channel:
            ours = _bursts(loop, channel.send, aio.wrap(channel).receive)
            executor = _bursts(
                loop, channel.send, lambda: loop.run_in_executor(None, channel.receive)
            )
            what = f"await {BURST * BURSTS} channel messages, 64 B"
            yield compare_slow(what, "asyncio streams", streams, ours, 0.5)
            yield compare_slow(what, "run_in_executor", executor, ours, 0.5)
        writer.close()
        loop.run_until_complete(writer.wait_closed())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def waiting_costs() -> Iterator[tuple[str, float]]:
    """Yield the share of one core that an idle task uses."""

    async def share(call: Awaitable[Any], seconds: float) -> float:
        task = asyncio.ensure_future(call)
        start, cpu = time.monotonic(), time.process_time()
        await asyncio.sleep(seconds)
        used = (time.process_time() - cpu) / (time.monotonic() - start)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return used

    with SysVMessageQueue.create() as queue, PosixMessageQueue.create() as posix:
        yield "await System V receive()", asyncio.run(share(aio.wrap(queue).receive(), 3.0))
        yield "await POSIX receive()", asyncio.run(share(aio.wrap(posix).receive(), 3.0))
    with Channel.create() as channel:
        yield "await channel receive()", asyncio.run(share(aio.wrap(channel).receive(), 3.0))
    with PosixSemaphore.create(value=0).lifetime() as semaphore:
        face = aio.wrap(semaphore)
        yield "await POSIX semaphore acquire()", asyncio.run(share(face.acquire(), 3.0))
