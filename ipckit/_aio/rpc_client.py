"""Clients of services in an event loop."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, final

from ipckit._aio.channel import ChannelFace
from ipckit._aio.face import Face, waiters_of
from ipckit._aio.loop import WaitingCall, running
from ipckit._aio.wait_queue import WaitQueue, Wakeup
from ipckit._core.public import public
from ipckit._rpc.client import Client, deadline_of, signatures
from ipckit._rpc.link import CHECK_SECONDS
from ipckit._rpc.names import target_of
from ipckit._rpc.replies import StaleMethods
from ipckit._rpc.stream import Begin, RemoteStream
from ipckit.errors import ClosedHandle, Corrupt, PeerGone, RemoteError, Timeout, WouldBlock

if TYPE_CHECKING:
    from types import TracebackType

    from ipckit._aio.loop import Loop
    from ipckit._rpc.link import Link
    from ipckit._rpc.link import WaitingCall as Call
    from ipckit._rpc.remote_method import RemoteMethod

# Pauses before the next attempt if the service has too many calls, or a thread receives replies.
_SHORTEST_PAUSE: Final = 0.0005
_LONGEST_PAUSE: Final = 0.02


@public("ipckit.aio")
@final
class ClientFace(Face[Client]):
    """An `ipckit.rpc.Client` in an event loop.

    Attributes that it does not have are methods of the service: ``await face.norm(x)``.

    Example:
        >>> import asyncio
        >>> from ipckit import aio
        >>> from ipckit.rpc import Client, Service
        >>> async def main():
        ...     with Service.create("doc-face") as service:
        ...         @service.method
        ...         async def double(x: int) -> int:
        ...             return 2 * x
        ...         serving = asyncio.create_task(aio.serve(service))
        ...         async with aio.wrap(Client.open("doc-face")) as client:
        ...             result = await client.double(21, timeout=10)
        ...         service.close()
        ...         await serving
        ...         return result
        >>> asyncio.run(main())
        42
    """

    __slots__ = ()

    def __init__(self, handle: Client) -> None:
        super().__init__(handle, waiters_of(handle))

    async def call(
        self, method: str, /, *args: Any, timeout: float | None = None, **named: Any
    ) -> Any:
        """Call a method of the service, as `Client.call`.

        A call that is cancelled cancels the method, which can see that by `ipckit.rpc.current`.

        Args:
            method: the name of the method.
            *args: the arguments of the method, by position.
            timeout: seconds to wait for the result; None (the default) waits without limit.
            **named: the arguments of the method, by name.

        Returns:
            The result. An asynchronous iterator of the items if the method is a generator function.

        Raises:
            IpcError: as for `Client.call`.
        """
        client = self._handle
        deadline = deadline_of(timeout, target_of(client.name))
        while True:
            remote = client.known(method)
            if remote is None:
                remote = await self._find(method, deadline)
            call = await self._begin(remote, args, named, deadline)
            try:
                if not await _reply(call, deadline):
                    raise client.too_late(method, timeout)  # noqa: TRY301 - it ends the call too
                result = client.finish(remote, call.reply, call, timeout)
                return StreamFace(result) if isinstance(result, RemoteStream) else result
            except StaleMethods:
                call.close_stream()
                client.forget_methods()
            except BaseException:
                call.close_stream()
                raise
            finally:
                if call.stream is None:
                    call.link.end(call)

    async def methods(self, *, timeout: float | None = None) -> dict[str, str]:
        """Return the methods that the service has now, as `Client.methods`.

        Args:
            timeout: seconds to wait for the service; None (the default) waits without limit.

        Raises:
            IpcError: as for `Client.methods`.
        """
        deadline = deadline_of(timeout, target_of(self._handle.name))
        return signatures(await self._ask("methods", deadline))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(message)
        return partial(self.call, name)

    async def _find(self, method: str, deadline: float | None) -> RemoteMethod:
        """Return a method, asking the service for its methods."""
        # Not `Client.find`: for an unknown method it would ask again, and block the loop.
        return self._handle.one_of(await self._ask(method, deadline), method)

    async def _ask(self, method: str, deadline: float | None) -> dict[str, RemoteMethod]:
        """Ask the service for its methods, to call that of a name; return all of them."""
        client = self._handle
        call = await self._begin(method, (), {}, deadline)
        try:
            if not await _reply(call, deadline):
                raise client.too_late(method, None)
            return client.learn(call.reply)
        finally:
            call.link.end(call)

    async def _begin(
        self,
        remote: RemoteMethod | str,
        args: tuple[Any, ...],
        named: dict[str, Any],
        deadline: float | None,
    ) -> Call:
        """Send a call, or ask for the methods to find that of a name.

        It waits while the service has too many calls.
        """
        pause = _SHORTEST_PAUSE
        while True:
            try:
                if isinstance(remote, str):
                    return self._handle.ask_for_methods(remote, 0.0)
                return self._handle.begin(remote, args, named, 0.0)
            except Timeout:
                if deadline is not None and time.monotonic() >= deadline:
                    raise
            await running().sleep(WaitingCall(), pause, -1, writing=False)
            pause = min(2 * pause, _LONGEST_PAUSE)


async def _reply(call: Call, deadline: float | None) -> bool:
    """Wait for the reply of a call. Return whether it came before the deadline.

    Of the tasks of a loop that wait, the first one watches the descriptor of the channel.
    """
    link, loop = call.link, running()
    queue = _queue_of(link, loop)
    waiting = WaitingCall()
    call.wake = lambda: loop.soon(lambda: waiting.wake())  # noqa: PLW0108 - `wake` changes
    queue.calls.append(waiting)
    try:
        while True:
            busy = not link.drain()
            if call.reply is not None:
                return True
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            watches = queue.calls[0] is waiting
            pause = _SHORTEST_PAUSE if busy else CHECK_SECONDS
            limits = [each for each in (left, pause if watches else None) if each is not None]
            fd = queue.descriptor(Wakeup(link.replies.fileno)) if watches and not busy else -1
            await loop.sleep(waiting, min(limits, default=None), fd, writing=False)
    finally:
        call.wake = None
        first = queue.calls[0] is waiting
        queue.calls.remove(waiting)
        if not queue.calls:
            link.queues.pop(loop.key, None)
            queue.close()
        elif first:
            queue.wake()


def _queue_of(link: Link, loop: Loop) -> WaitQueue:
    for key, queue in list(link.queues.items()):
        if queue.loop.ended:
            link.queues.pop(key, None)
            queue.close()
    found: WaitQueue | None = link.queues.get(loop.key)
    if found is None:
        found = link.queues[loop.key] = WaitQueue(loop)
    return found


@public("ipckit.aio")
@final
class StreamFace:
    """The items of a generator method, in an event loop: an asynchronous iterator.

    `ClientFace.call` returns it. The end of the iteration, of an ``async with`` block, and `close`
    stop the method.

    Example:
        >>> import asyncio
        >>> from collections.abc import Iterator
        >>> from ipckit import aio
        >>> from ipckit.rpc import Client, Service
        >>> async def main():
        ...     with Service.create("doc-stream") as service:
        ...         @service.method
        ...         def count(n: int) -> Iterator[int]:
        ...             yield from range(n)
        ...         serving = asyncio.create_task(aio.serve(service))
        ...         async with aio.wrap(Client.open("doc-stream")) as client:
        ...             result = [item async for item in await client.count(3)]
        ...         service.close()
        ...         await serving
        ...         return result
        >>> asyncio.run(main())
        [0, 1, 2]
    """

    __slots__ = ("_face", "_stream")

    def __init__(self, stream: RemoteStream) -> None:
        self._stream = stream
        self._face = ChannelFace(stream.channel)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """Return the next item, waiting until there is one.

        Raises:
            RemoteError: the generator raised an exception.
            Timeout: there was no item within the timeout of the call.
            PeerGone: the server died.
        """
        stream = self._stream
        while not stream.closed:
            try:
                return stream.item_in(await self._face.receive_view(timeout=stream.timeout))
            except Begin:
                continue
            except PeerGone:
                stream.close()
                raise stream.gone() from None
            except (Timeout, WouldBlock):
                raise stream.too_late() from None
            except ClosedHandle:
                if not stream.closed:  # by another task
                    raise
            except (RemoteError, Corrupt):
                stream.close()
                raise
            except StopIteration:
                stream.close()
        raise StopAsyncIteration

    def close(self) -> None:
        """Stop the method; idempotent, never raises."""
        self._stream.close()

    async def aclose(self) -> None:
        """Stop the method, as `close`."""
        self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()
