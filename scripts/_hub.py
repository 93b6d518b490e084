"""Print the messages of many sources in one event loop, for `aio_hub.py`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from _common import say

from ipckit import DelimitedFrames, Framed, PeerGone, aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine


class Hub:
    """Prints the messages of all sources, and ends the readers after a number of messages."""

    def __init__(self, count: int | None) -> None:
        self.left = count
        self.readers: set[asyncio.Task[None]] = set()
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def start(self, reader: Coroutine[Any, Any, None], *, essential: bool = True) -> None:
        """Run a reader. The hub ends when a reader fails, or an essential one ends."""
        task = asyncio.create_task(reader)
        self.readers.add(task)
        task.add_done_callback(lambda task: self.ended(task, essential=essential))

    def ended(self, task: asyncio.Task[None], *, essential: bool) -> None:
        """Handle the end of a reader."""
        self.readers.discard(task)
        problem = None if task.cancelled() else task.exception()
        if problem is not None and not self.status.done():
            self.status.set_exception(problem)
        if problem is not None or essential:
            self.end(0)

    def end(self, status: int) -> None:
        """Stop all readers, so that none takes another message."""
        for task in self.readers:
            task.cancel()
        if not self.status.done():
            self.status.set_result(status)

    async def show(self, source: str, messages: AsyncIterator[Any]) -> None:
        """Print each message, until enough are printed."""
        async for message in messages:
            line = message if isinstance(message, bytes) else message.value
            say(f"{source}\t{line.decode(errors='surrogateescape')}")
            self.left = None if self.left is None else self.left - 1
            if self.left == 0:
                self.end(0)

    async def serve(self, listener: aio.Listener) -> None:
        """Print the lines of every client."""
        async for client in listener:
            self.start(self.show_lines(client), essential=False)

    async def show_lines(self, client: aio.Socket) -> None:
        """Print a client's lines."""
        async with aio.wrap(Framed(client.handle, DelimitedFrames(b"\n"))) as lines:
            try:
                await self.show("socket", lines)
            except PeerGone as exc:
                say(f"socket\t({exc.strerror})")
