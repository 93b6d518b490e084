"""Tests of bridges whose connection to the NATS server is lost at any moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bridge_commands import until

from ipckit import Channel, Int, Removed, Struct
from ipckit._bridge.nats_pull import Pull
from ipckit._bridge.nats_session import NatsSession
from ipckit.bridge import BridgeOptions, forward, receive

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats_server import NatsServer

    from ipckit.testing import Namespace

LONG = 30.0
STEPS: tuple[tuple[type, str], ...] = (
    (NatsSession, "stream_type"),
    (NatsSession, "make_stream"),
    (NatsSession, "listen"),
    (NatsSession, "make_consumer"),
    (NatsSession, "unacknowledged"),
    (Pull, "start"),
)


class Job(Struct):
    number: Int


def closes_once(call: Callable[..., Any], closed: list[str], *, before: bool) -> Callable[..., Any]:
    """Return a method that closes the connection at its first call, before or after `call`."""

    async def replaced(self: NatsSession | Pull, *args: Any) -> Any:
        first = not closed
        closed.append(call.__name__)
        if first and before:
            await self.client.close()
        result = await call(self, *args)
        if first and not before:
            await self.client.close()
        return result

    return replaced


def test_a_connection_may_be_lost_before_or_after_each_call(
    server: NatsServer, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, step in STEPS:
        for before in (True, False):
            closed: list[str] = []
            with monkeypatch.context() as patch, Channel.create(ns.name(), Job) as near:
                call = getattr(owner, step)
                patch.setattr(owner, step, closes_once(call, closed, before=before))
                url = f"{server.url}/{step}-{before}"
                with Channel.create(ns.name(), Job) as far, forward(near, url), receive(url, far):
                    near.send(Job(1))
                    assert far.receive(timeout=LONG) == Job(1), (step, before)
            assert len(closed) > 1, (step, before)


def test_a_lost_connection_is_seen_when_nats_py_does_not_report_it(
    server: NatsServer, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def says_nothing(self: NatsSession) -> None:
        """Do nothing, like nats-py if it fails while it closes."""

    monkeypatch.setattr(NatsSession, "note_closed", says_nothing)
    monkeypatch.setattr("ipckit._bridge.channel_send._ANSWER_SECONDS", 3600.0)
    with Channel.create(ns.name(), Job) as near, forward(near, f"{server.url}/jobs") as bridge:
        bridge.wait_connected(LONG)
        server.freeze()
        near.send(Job(1))
        until(lambda: bridge.stats().unacknowledged)
        server.kill()
        server.start()
        until(lambda: bridge.stats().messages)


def test_a_server_that_freezes_while_much_is_on_the_way(
    server: NatsServer, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The messages do not fit into the socket's buffer, so calls of nats-py wait for room."""
    monkeypatch.setattr("ipckit._bridge.nats_session._PING_SECONDS", 0.2)
    message, count = bytes(500_000), 40
    size = 2 * count * len(message)
    options = BridgeOptions(storage="memory", max_bytes=1 << 30)
    with (
        Channel.create(ns.name(), bytes, size=size, peer_gone="wait") as near,
        Channel.create(ns.name(), bytes, size=size, peer_gone="wait") as far,
        forward(near, f"{server.url}/frozen", options) as there,
    ):
        there.wait_connected(LONG)
        server.freeze()
        for _ in range(count):
            near.send(message, timeout=LONG)
        until(lambda: there.stats().state == "waiting")
        server.kill()
        server.start()
        with receive(f"{server.url}/frozen", far):
            assert [far.receive(timeout=LONG) for _ in range(count)] == [message] * count


def test_a_bridge_that_ends_says_why(
    server: NatsServer, ns: Namespace, capfd: pytest.CaptureFixture[str]
) -> None:
    with Channel.create(ns.name(), Job) as near, forward(near, f"{server.url}/jobs") as bridge:
        bridge.wait_connected(LONG)
        near.unlink()
        with pytest.raises(Removed):
            bridge.wait(LONG)
    assert "removed; ended" in capfd.readouterr().err
