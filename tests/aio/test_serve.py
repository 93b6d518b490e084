"""aio.serve(address, handler): a server of connections in an event loop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import pytest

from ipckit import ClosedHandle, InvalidArgument, aio, connect, listen, pair

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ipckit.testing import Namespace


async def echo(socket: aio.Socket) -> None:
    async for packet in socket:
        await socket.send(packet.data)


async def connected(path: object, kind: Any = "stream") -> aio.Socket:
    """Connect as soon as the server listens."""
    while True:
        try:
            return aio.wrap(connect(str(path), kind))
        except (FileNotFoundError, ConnectionRefusedError):
            await anyio.sleep(0.001)


async def asked(socket: aio.Socket, data: bytes) -> bytes:
    await socket.send(data)
    return (await socket.receive(timeout=30)).data


def test_each_connection_has_a_handler(run: Callable[..., Any], ns: Namespace) -> None:
    path = ns.path(".sock")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(aio.serve, path, echo)
            async with await connected(path) as first, await connected(path) as second:
                assert path.stat().st_mode & 0o777 == 0o600
                assert await asked(first, b"one") == b"one"
                assert await asked(second, b"two") == b"two"
                tasks.cancel_scope.cancel()
        assert not path.exists()

    run(main)


def test_cancelling_it_cancels_the_handlers_and_closes_the_connections(
    run: Callable[..., Any], ns: Namespace
) -> None:
    path = ns.path(".sock")
    ended: list[str] = []

    async def wait_for_ever(socket: aio.Socket) -> None:
        try:
            await socket.send(b"ready")
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(aio.serve, path, wait_for_ever)
            client = await connected(path)
            assert (await client.receive(timeout=30)).data == b"ready"
            tasks.cancel_scope.cancel()
        with client.handle as sock:
            assert sock.receive(timeout=30).eof

    run(main)
    assert ended == ["cancelled"]


def test_an_exception_ends_its_connection_only(
    run: Callable[..., Any], ns: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    path = ns.path(".sock")

    async def handler(socket: aio.Socket) -> None:
        data = (await socket.receive()).data
        if data == b"fail":
            message = "it failed"
            raise RuntimeError(message)
        while True:  # until the client has left: PeerGone, which is not logged
            await socket.send(data)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(aio.serve, path, handler)
            async with await connected(path) as failing:
                await failing.send(b"fail")
                assert (await failing.receive(timeout=30)).eof
            async with await connected(path) as fine:
                assert (await asked(fine, b"fine"))[:4] == b"fine"
            async with await connected(path) as again:
                assert (await asked(again, b"more"))[:4] == b"more"
                tasks.cancel_scope.cancel()

    with caplog.at_level(logging.ERROR, "ipckit.aio"):
        run(main)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "it failed"


def test_the_limit_leaves_connections_in_the_backlog(
    run: Callable[..., Any], ns: Namespace, settle: Callable[[], Awaitable[None]]
) -> None:
    path = ns.path(".sock")
    served: list[bytes] = []

    async def handler(socket: aio.Socket) -> None:
        async for packet in socket:
            served.append(packet.data)
            await socket.send(packet.data)

    async def serve_one_at_a_time() -> None:
        await aio.serve(path, handler, limit=1, seqpacket=True, allow_uids=None)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_one_at_a_time)
            first = await connected(path, "seqpacket")
            assert await asked(first, b"first") == b"first"
            async with await connected(path, "seqpacket") as second:
                await second.send(b"second")
                await settle()
                assert served == [b"first"]
                first.close()
                assert (await second.receive(timeout=30)).data == b"second"
                tasks.cancel_scope.cancel()

    run(main)


def test_a_listener_is_the_callers(run: Callable[..., Any], ns: Namespace) -> None:
    async def main() -> None:
        with listen(ns.path(".sock")) as listener:

            async def handler(socket: aio.Socket) -> None:
                await socket.send((await socket.receive()).data)
                listener.close()  # ends `serve`, after this handler

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(aio.serve, listener, handler)
                async with await connected(listener.address) as client:
                    assert await asked(client, b"hello") == b"hello"
            with pytest.raises(ClosedHandle):
                await aio.serve(listener, handler)

    run(main)


def test_arguments_that_do_not_fit(run: Callable[..., Any], ns: Namespace) -> None:
    path, loose = ns.path(".sock"), aio.serve

    async def main() -> None:
        with pytest.raises(TypeError, match="handler must be"):
            await loose(path)  # type: ignore[call-overload]
        with pytest.raises(InvalidArgument, match="limit"):
            await aio.serve(path, echo, limit=0)
        with listen(path) as listener, pytest.raises(TypeError, match="its own mode"):
            await aio.serve(listener, echo, mode=0o666)

    run(main)


def test_packets_that_are_iterated_keep_their_descriptors(run: Callable[..., Any]) -> None:
    async def main() -> None:
        a, b = pair("seqpacket")
        with a, b:
            a.send(b"hello", fds=[0, 1])
            a.send(b"again")
            a.shutdown("write")
            counts = [len(packet.fds) async for packet in aio.wrap(b)]
        assert counts == [2, 0]

    run(main)
    a, b = pair("stream")
    with a, b:
        a.send(b"hello", fds=[0])
        a.shutdown("write")
        (packet,) = b
        assert repr(packet) == "<Packet 5 bytes, 1 descriptor>"
        packet.close()
