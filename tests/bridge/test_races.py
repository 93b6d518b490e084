"""Threads, forks and packets that come at the worst moment, which each test forces."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Channel, ClosedHandle
from ipckit._bridge import channel_receive
from ipckit._bridge.channel_receive import ChannelReceiver
from ipckit._bridge.payload_type import type_of_object
from ipckit._bridge.url import parse_url
from ipckit._bridge.wire import pack
from ipckit._core.bridge_file import BridgeFile, bridges
from ipckit.bridge import BridgeOptions, forward, receive
from ipckit.codec import RawCodec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

URL = "nats://127.0.0.1:1/races"  # nothing listens there


def _no_thread(_: threading.Thread) -> None:
    message = "can't start new thread"
    raise RuntimeError(message)


def _no_loop() -> asyncio.AbstractEventLoop:
    raise OSError(24, os.strerror(24))


@pytest.mark.parametrize("start", [forward, lambda source, url: receive(url, source)])
def test_a_bridge_whose_thread_can_not_be_started(
    near: Channel[str], start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file stayed locked, so that it could not be started again."""
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _no_thread)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            start(near, URL)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", _no_loop)
        with pytest.raises(OSError, match="Too many open files"):
            start(near, URL)
    assert not [each for each in bridges() if each.runs]
    start(near, URL).close()


def test_a_fork_while_a_bridge_opens_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child kept the lock."""
    mapped = BridgeFile._mapped
    found: list[int] = []

    def forked(self: BridgeFile, size: int) -> Any:
        """Map the file, while another thread forks."""
        fd = self._fd
        child = os.fork()
        if child == 0:
            try:
                os.fstat(fd)
            except OSError:
                os._exit(0)
            os._exit(1)
        found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return mapped(self, size)

    monkeypatch.setattr(BridgeFile, "_mapped", forked)
    BridgeFile("channel:races", (1, 2, 3), URL, "send", 0).close(remove=True)
    assert found == [0]


class _Msg:
    """A packet of a server that goes away."""

    headers = None
    reply = "reply"

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def ack(self) -> None:
        raise ConnectionError


class _Client:
    """A connection that brings one packet when it is closed."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[_Msg], Any]] = []

    def new_inbox(self) -> str:
        return "inbox"

    async def subscribe(self, _: str, cb: Callable[[_Msg], Any]) -> None:
        self.callbacks.append(cb)

    async def publish(self, *_: object, **__: object) -> None:
        pass

    async def flush(self, _: float) -> None:
        pass


def test_a_packet_that_comes_when_a_receiver_leaves(
    far: Channel[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was delivered, and then the journal was removed: the next bridge delivered it again."""
    payload = type_of_object(far.memory_fd, topic=False)

    class Session:
        client = _Client()
        last_error = ""

        def __init__(self) -> None:
            self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def stream_type(self) -> Any:
            return payload

        async def make_consumer(self, window: int) -> None:
            del window

        async def unacknowledged(self) -> int:
            return 0

    @asynccontextmanager
    async def session(*_: object) -> AsyncIterator[Session]:
        yield Session()
        for each in Session.client.callbacks:
            await each(_Msg(pack(b"s" * 16, 0, [memoryview(b"late")])))
        for _ in range(10):
            await asyncio.sleep(0)

    monkeypatch.setattr(channel_receive, "nats_session", session)

    async def main() -> None:
        receiver = ChannelReceiver(
            lambda _: Channel.open(str(far.name), RawCodec(), peer_gone="wait"),
            f"channel:{str(far.name).strip('/')}",
            parse_url(URL),
            BridgeOptions(),
            lambda _: None,
        )
        running = asyncio.create_task(receiver.run())
        await receiver.ready.wait()
        while not Session.client.callbacks:
            await asyncio.sleep(0)
        receiver.stop()
        await running

    asyncio.run(main())
    # Either it was not delivered, or the next bridge knows that it was.
    assert not len(far) or bridges()


def test_a_bridge_that_is_closed_before_it_is_connected() -> None:
    with Channel.anonymous(peer_gone="wait") as near:
        bridge = forward(near, URL)
        bridge.close()
        with pytest.raises(ClosedHandle, match="closed before it was connected"):
            bridge.wait_connected()
