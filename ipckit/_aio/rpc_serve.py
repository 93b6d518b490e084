"""Serve a service in an event loop, with coroutine functions as methods."""

from __future__ import annotations

import asyncio
import errno
import inspect
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from ipckit._aio.channel import ChannelFace
from ipckit._aio.loop import TrioLoop, WaitingCall, running
from ipckit._rpc.current import CURRENT
from ipckit._rpc.method import error_body
from ipckit._rpc.server import Server
from ipckit._rpc.wire import END, ERROR, RESULT
from ipckit.errors import ClosedHandle, IpcError, PeerGone, Timeout, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ipckit._channel.in_place import Delivery
    from ipckit._rpc.server import IncomingCall, Items
    from ipckit._rpc.service import Service

_CHECK_SECONDS: Final = 0.05  # how often it looks for calls whose client has left
_SHORTEST_PAUSE: Final = 0.0005
_LONGEST_PAUSE: Final = 0.02


class _Tasks(Protocol):
    """What differs between asyncio and trio."""

    def start(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run a coroutine function as a task."""

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        """Run a function in a thread."""

    async def cancellable(
        self, running_call: _Running, work: Callable[[], Awaitable[None]]
    ) -> None:
        """Run a coroutine that `_Running.cancel` ends."""


class _Running:
    """A call that runs in a task."""

    __slots__ = ("call", "cancel", "left")

    def __init__(self, call: IncomingCall) -> None:
        self.call, self.left = call, False
        self.cancel: Callable[[], object] = bool


class _AsyncioTasks:
    def __init__(self, group: asyncio.TaskGroup, threads: ThreadPoolExecutor) -> None:
        self._group, self._threads = group, threads

    def start(self, function: Callable[..., Any], *args: Any) -> None:
        self._group.create_task(function(*args))

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        # Not asyncio's own threads: there are few, and a stream uses one as long as it lasts.
        run = partial(copy_context().run, function)
        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def cancellable(
        self, running_call: _Running, work: Callable[[], Awaitable[None]]
    ) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checkers
        running_call.cancel = task.cancel
        try:
            await work()
        except asyncio.CancelledError:
            if not running_call.left or task.uncancel():
                raise
        finally:
            running_call.cancel = bool


class _TrioTasks:
    def __init__(self, trio: Any, nursery: Any, limit: int) -> None:
        self._trio, self._nursery = trio, nursery
        self._limiter = trio.CapacityLimiter(limit)

    def start(self, function: Callable[..., Any], *args: Any) -> None:
        self._nursery.start_soon(function, *args)

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        return await self._trio.to_thread.run_sync(function, limiter=self._limiter)

    async def cancellable(
        self, running_call: _Running, work: Callable[[], Awaitable[None]]
    ) -> None:
        with self._trio.CancelScope() as scope:
            running_call.cancel = scope.cancel
            await work()


async def serve_service(service: Service, limit: int) -> None:
    """Serve a service until it is closed; see `serve`.

    Args:
        service: the service.
        limit: how many calls run at the same time, 1 or more.
    """
    loop = running()
    server = service.new_server()
    try:
        if isinstance(loop, TrioLoop):
            import trio  # noqa: PLC0415 - it is there, because it runs this

            async with trio.open_nursery() as nursery:
                await _Serving(server, _TrioTasks(trio, nursery, limit), limit).run()
        else:
            threads = ThreadPoolExecutor(limit, "ipckit-rpc")
            try:
                async with asyncio.TaskGroup() as group:
                    await _Serving(server, _AsyncioTasks(group, threads), limit).run()
            finally:
                threads.shutdown(wait=False)  # a cancelled call may still run in its thread
    except BaseExceptionGroup as group:
        # The tasks are a detail: the caller gets the exception that ended `serve` itself.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
    finally:
        server.requests.close()
        service.forget_servers([server])


class _Serving:
    """The calls that one `serve` runs."""

    def __init__(self, server: Server, tasks: _Tasks, limit: int) -> None:
        self._server, self._tasks, self._limit = server, tasks, limit
        self._running: set[_Running] = set()
        self._room = WaitingCall()

    async def run(self) -> None:
        server = self._server
        face = ChannelFace(server.requests)
        server.busy = 1  # `stop` leaves it to this task to close the handle
        self._tasks.start(self._watch)
        while not server.stopping:
            try:
                delivery = await face._receive(self._take, None, face._takeable)
            except ClosedHandle:
                break
            call = server.accept(delivery)
            if call is None:
                continue
            running_call = _Running(call)
            self._running.add(running_call)
            self._tasks.start(self._run_call, running_call)
            while len(self._running) >= self._limit and not server.stopping:
                await running().sleep(self._room, None, -1, writing=False)
        while self._running:
            await running().sleep(self._room, None, -1, writing=False)
        server.busy = 0

    def _take(self) -> Delivery:
        if self._server.stopping:
            message = "the service is closed"
            raise ClosedHandle(message, errno=errno.EBADF, op="serve")
        return self._server.requests.take(timeout=0)

    async def _watch(self) -> None:
        """Cancel the calls whose clients have left."""
        server = self._server
        while not server.stopping or self._running:
            for each in list(self._running):
                if not each.left and each.call.caller.has_left(*each.call.current[2:]):
                    each.left = True
                    each.cancel()
            await running().sleep(WaitingCall(), _CHECK_SECONDS, -1, writing=False)

    async def _run_call(self, running_call: _Running) -> None:
        call = running_call.call
        try:
            CURRENT.set(call.current)
            await self._tasks.cancellable(running_call, partial(self._work, call))
            if running_call.left:
                call.end()
        except (Exception, KeyboardInterrupt, SystemExit) as exc:
            call.fail(exc)
            if not isinstance(exc, Exception):
                raise
        except BaseException:  # `serve` was cancelled
            call.abandon()
            raise
        finally:
            self._running.discard(running_call)
            self._room.wake()

    async def _work(self, call: IncomingCall) -> None:
        method = call.method
        if method.streams and method.awaitable:
            await self._stream(call)
        elif method.streams:
            await self._tasks.in_thread(partial(Server.run_stream, call))
        elif method.awaitable:
            call.reply(await method.function(*call.args, **call.named))
        else:
            result = await self._tasks.in_thread(partial(method.function, *call.args, **call.named))
            call.reply(await result if inspect.isawaitable(result) else result)

    async def _stream(self, call: IncomingCall) -> None:
        """Send the items of an asynchronous generator."""
        method, args, named = call.method, call.args, call.named
        items = call.open_stream()
        if items is None:
            return
        generator = method.function(*args, **named)
        try:
            async for item in generator:
                if not await _send(items, RESULT, method.encode_result(item)):
                    return
            await _send(items, END, b"")
        except Exception as exc:
            with suppress(IpcError):
                await _send(items, ERROR, error_body(exc))
        finally:
            with suppress(Exception):
                await generator.aclose()
            items.close()


async def _send(items: Items, kind: int, value: Any) -> bool:
    """Send an item, waiting while the client has too many. Return False if it has left."""
    pause = _SHORTEST_PAUSE
    while not items.call.left:
        try:
            items.try_send(kind, value, 0)
        except PeerGone:
            return False
        except (WouldBlock, Timeout):
            await running().sleep(WaitingCall(), pause, -1, writing=False)
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            return True
    return False
