"""`serve`: serve a service, or the connections to a socket, in an event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, overload

from ipckit._aio.loop import TrioLoop, WaitingCall, running
from ipckit._aio.rpc_serve import serve_service
from ipckit._aio.sockets import Listener, Socket
from ipckit._core.arguments import int_argument
from ipckit._core.public import public
from ipckit._rpc.service import Service
from ipckit._sockets.listener import UnixListener, listen
from ipckit.errors import ClosedHandle, InvalidArgument, LimitReached, PeerGone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine

    from ipckit._sockets.address import Address

    Handler: TypeAlias = Callable[[Socket], Awaitable[object]]

_LOG: Final = logging.getLogger("ipckit.aio")
_PAUSE: Final = 0.1  # seconds until it tries again to accept, if no descriptor is free


@overload
async def serve(service: Service, /, *, limit: int = 100) -> None: ...
@overload
async def serve(
    address: Address | UnixListener,
    handler: Handler,
    /,
    *,
    limit: int = 100,
    seqpacket: bool = False,
    mode: int = 0o600,
    allow_uids: Collection[int] | None = None,
) -> None: ...
@public("ipckit.aio")
async def serve(
    served: Service | Address | UnixListener,
    handler: Handler | None = None,
    /,
    *,
    limit: int = 100,
    **options: Any,
) -> None:
    """Serve a service, or the connections to a UNIX socket, in an event loop of asyncio or trio.

    ``serve(service)`` runs until the service is closed. Coroutine functions run as tasks,
    asynchronous generator functions are streams, and other methods run in threads. If the client
    no longer waits for a call, its task is cancelled.

    ``serve(address, handler)`` runs until it is cancelled. It listens, and calls
    ``handler(socket)`` in a task for each connection; `Socket` is the connection's face. The
    connection is closed when the handler returns. An exception of a handler ends its connection
    only, and is logged (``ipckit.aio``), unless it is `PeerGone`: the client has left. When `serve`
    is cancelled, it cancels the handlers, closes their connections, and removes the socket file.

    Args:
        served: an `ipckit.rpc.Service`; or an address as for `ipckit.listen`; or a `UnixListener`,
            which `serve` does not close, and whose `close` ends `serve` when the handlers have
            returned.
        handler: a coroutine function that takes the connection.
        limit: how many calls or connections run at the same time, 1 or more. Further connections
            wait in the backlog.
        options: for an address: ``seqpacket=True`` for messages instead of a stream, and ``mode``
            and ``allow_uids`` as for `ipckit.listen`.

    Raises:
        ClosedHandle: the service or the listener is closed already.
        InvalidArgument: `limit` is less than 1.
        TypeError: `handler` is missing, or given beside a service.
        IpcError: as for `Service.serve`, or as for `ipckit.listen`.

    >>> import asyncio
    >>> from ipckit import aio, connect
    >>> from ipckit.rpc import Client, Service
    >>> async def main():
    ...     with Service.create("doc-async") as service:
    ...         @service.method
    ...         async def double(x: int) -> int:
    ...             await asyncio.sleep(0.01)
    ...             return 2 * x
    ...         serving = asyncio.create_task(aio.serve(service))
    ...         async with aio.wrap(Client.open("doc-async")) as client:
    ...             result = await client.double(21, timeout=10)
    ...         service.close()
    ...         await serving
    ...         return result
    >>> asyncio.run(main())
    42
    >>> async def echo(socket):
    ...     async for packet in socket:
    ...         await socket.send(packet.data)
    >>> async def main():
    ...     serving = asyncio.create_task(aio.serve("echo.sock", echo))
    ...     await asyncio.sleep(0)  # it listens before it first waits
    ...     async with aio.wrap(connect("echo.sock")) as client:
    ...         await client.send(b"hello")
    ...         print((await client.receive(timeout=10)).data)
    ...     serving.cancel()
    >>> asyncio.run(main())
    b'hello'
    """
    if int_argument("limit", limit) < 1:
        message = f"limit must be 1 or more, not {limit}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="serve")
    if isinstance(served, Service):
        if handler is not None or options:
            message = "a service has its methods, and takes no handler: aio.serve(service)"
            raise TypeError(message)
        await serve_service(served, limit)
        return
    if not callable(handler):
        message = "handler must be a coroutine function: aio.serve(address, handler)"
        raise TypeError(message)
    if isinstance(served, UnixListener):
        if options:
            message = f"a listener has its own {', '.join(options)}"
            raise TypeError(message)
        served._check_open("serve")
        await _Connections(served, handler, limit).serve()
        return
    kind: Literal["stream", "seqpacket"] = "seqpacket" if options.pop("seqpacket", 0) else "stream"
    with listen(served, kind, **options) as listener:
        await _Connections(listener, handler, limit).serve()


def _start(
    tasks: asyncio.TaskGroup, run: Callable[[Socket], Coroutine[Any, Any, None]], socket: Socket
) -> None:
    tasks.create_task(run(socket))


class _Connections:
    """The connections that one `serve` has."""

    def __init__(self, listener: UnixListener, handler: Handler, limit: int) -> None:
        self._listener, self._handler, self._limit = listener, handler, limit
        self._count = 0
        self._room = WaitingCall()

    async def serve(self) -> None:
        try:
            if isinstance(running(), TrioLoop):
                import trio  # noqa: PLC0415 - it is there, because it runs this

                async with trio.open_nursery() as nursery:
                    await self._accept(nursery.start_soon)
            else:
                async with asyncio.TaskGroup() as tasks:
                    await self._accept(partial(_start, tasks))
        except BaseExceptionGroup as group:
            # The tasks are a detail: the caller gets the exception that ended `serve` itself.
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise

    async def _accept(self, start: Callable[..., object]) -> None:
        listener = Listener(self._listener)
        while True:
            while self._count >= self._limit:
                await running().sleep(self._room, None, -1, writing=False)
            try:
                socket = await listener.accept()
            except LimitReached:  # until a connection is closed, here or elsewhere
                await running().sleep(self._room, _PAUSE, -1, writing=False)
                continue
            except ClosedHandle:
                return
            self._count += 1
            start(self._run, socket)

    async def _run(self, socket: Socket) -> None:
        try:
            await self._handler(socket)
        except PeerGone:
            pass
        except Exception:
            _LOG.exception("the handler of %r raised an exception", socket.handle)
        finally:
            socket.close()
            self._count -= 1
            self._room.wake()
