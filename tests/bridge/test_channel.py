"""Tests of bridges between channels, over NATS JetStream."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import (
    Channel,
    Int,
    InUse,
    InvalidArgument,
    LayoutMismatch,
    MessageTooLong,
    NotFound,
    Struct,
    Timeout,
)
from ipckit._core.bridge_file import bridges
from ipckit.bridge import BridgeOptions, forward, receive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nats_server import NatsServer

    from ipckit.testing import Child, Namespace

    Spawn = Callable[..., Child]

LONG = 30.0

FORWARDS = """
from ipckit.bridge import BridgeOptions, forward
from ipckit.testing import step
bridge = forward(args[0], args[1], BridgeOptions(**args[2]))
bridge.wait_connected(30)
step.tell("connected")
bridge.wait()
"""
RECEIVES = """
from ipckit.bridge import BridgeOptions, receive
from ipckit.testing import step
bridge = receive(args[1], args[0], BridgeOptions(**args[2]))
bridge.wait_connected(30)
step.tell("connected")
bridge.wait()
"""


class Job(Struct):
    number: Int


@pytest.fixture
def near(ns: Namespace) -> Iterator[Channel[Job]]:
    with Channel.create(ns.name(), Job, capacity=256, peer_gone="wait") as channel:
        yield channel


@pytest.fixture
def far(ns: Namespace) -> Iterator[Channel[Job]]:
    with Channel.create(ns.name(), Job, capacity=4096, peer_gone="wait") as channel:
        yield channel


def address(channel: Channel[Any]) -> str:
    return f"channel:{str(channel.name).removeprefix('/')}"


def numbers(channel: Channel[Job], count: int) -> list[int]:
    """Return the numbers of the next `count` jobs."""
    found: list[int] = []
    while len(found) < count:
        found += channel.receive_many(timeout=LONG)["number"].tolist()
    return found


def nothing_waits(channel: Channel[Any]) -> bool:
    with suppress(Timeout):
        channel.receive(timeout=0.3)
        return False
    return True


def test_messages_arrive_in_order(
    server: NatsServer, near: Channel[Job], far: Channel[Job]
) -> None:
    url = f"{server.url}/jobs"
    with forward(near, url) as there, receive(url, far) as here:
        near.send_many(map(Job, range(2000)), timeout=LONG)
        assert numbers(far, 2000) == list(range(2000))
        assert nothing_waits(far)
        near.send(Job(7))
        assert far.receive(timeout=LONG) == Job(7)
    assert there.stats().messages == here.stats().messages == 2001
    assert there.stats().unacknowledged == here.stats().unacknowledged == 0
    assert near.stats().taken == 0


def test_messages_of_all_lengths_arrive(server: NatsServer, ns: Namespace) -> None:
    messages = [os.urandom(length) for length in (0, 1, 40, 41, 4096, 4097, 70_000, 900_000, 3)]
    url = f"{server.url}/bytes"
    with (
        Channel.create(ns.name(), peer_gone="wait") as near,
        Channel.create(ns.name(), peer_gone="wait") as far,
        forward(near, url),
        receive(url, far),
    ):
        near.send_many(messages, timeout=LONG)
        assert [far.receive(timeout=LONG) for _ in messages] == messages


def test_anonymous_channels_are_bridged_too(server: NatsServer) -> None:
    url = f"{server.url}/anonymous"
    with (
        Channel.anonymous(str, peer_gone="wait") as near,
        Channel.anonymous(str, peer_gone="wait") as far,
        forward(near, url),
        receive(url, far),
    ):
        near.send("hello")
        assert far.receive(timeout=LONG) == "hello"


def test_the_receiving_side_creates_the_channel(
    server: NatsServer, near: Channel[Job], ns: Namespace
) -> None:
    url, name = f"{server.url}/made", ns.name()
    near.send(Job(5))
    options = BridgeOptions(capacity=10)
    with forward(near, url), receive(url, f"channel:{name}", options) as bridge:
        bridge.wait_connected(LONG)
        with Channel.open(name, Job, peer_gone="wait") as far:
            assert far.receive(timeout=LONG) == Job(5)
            assert far.capacity == 10
            with pytest.raises(LayoutMismatch):
                Channel.open(name, str)
        Channel.remove(name)


@pytest.mark.parametrize("direction", ["send", "receive"])
def test_another_type_is_refused_before_any_message(
    direction: str, server: NatsServer, near: Channel[Job]
) -> None:
    url = f"{server.url}/types"
    near.send(Job(1))
    with forward(near, url) as bridge:
        bridge.wait_connected(LONG)
    with Channel.anonymous(str) as other:
        other.send("hello")
        wrong = forward(other, url) if direction == "send" else receive(url, other)
        with wrong, pytest.raises(LayoutMismatch, match=r"number.*str|str.*number"):
            wrong.wait_connected(LONG)
        assert other.receive(timeout=LONG) == "hello"
        assert nothing_waits_at_all(other)


@pytest.mark.parametrize("side", ["send", "receive", "receive and create"])
def test_a_stream_of_a_machine_with_another_order_of_bytes_is_refused(
    side: str, server: NatsServer, near: Channel[Job], far: Channel[Job], ns: Namespace
) -> None:
    url = f"{server.url}/order"
    with forward(near, url) as bridge:
        bridge.wait_connected(LONG)
    near.send(Job(1))

    async def change() -> None:
        import nats  # noqa: PLC0415

        client = await nats.connect(server.url)
        stream = client.jetstream()
        config = (await stream.stream_info("order")).config
        config.metadata = dict(config.metadata or {}) | {"ipckit.byteorder": "big"}
        await stream.update_stream(config)
        await client.close()

    asyncio.run(change())
    if side == "send":
        wrong = forward(near, url)
    else:
        wrong = receive(url, far if side == "receive" else f"channel:{ns.name()[1:]}")
    with wrong, pytest.raises(LayoutMismatch, match="written on a big-endian machine"):
        wrong.wait_connected(LONG)
    assert near.receive(timeout=LONG) == Job(1)
    assert nothing_waits_at_all(far)


def nothing_waits_at_all(channel: Channel[Any]) -> bool:
    return len(channel) == 0


def test_a_stream_of_another_program_is_refused(server: NatsServer, near: Channel[Job]) -> None:
    async def make() -> None:
        import nats  # noqa: PLC0415

        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="theirs", subjects=["theirs"])
        await client.close()

    asyncio.run(make())
    with (
        forward(near, f"{server.url}/theirs") as bridge,
        pytest.raises(LayoutMismatch, match="not a work queue"),
    ):
        bridge.wait_connected(LONG)


@pytest.mark.soak  # tests/cli has a short test of the same
def test_the_server_may_come_later(
    stopped_server: NatsServer,
    near: Channel[Job],
    far: Channel[Job],
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = f"{stopped_server.url}/later"
    with forward(near, url) as there, receive(url, far) as here:
        near.send(Job(3))
        with pytest.raises(Timeout, match="not connected"):
            there.wait_connected(1)
        assert there.stats().state == "waiting"
        stopped_server.start()
        assert far.receive(timeout=LONG) == Job(3)
        here.wait_connected(LONG)
    said = capsys.readouterr().err.splitlines()
    about = [line for line in said if address(near) in line]
    assert len(about) == 2, said
    assert "waiting" in about[0]
    assert about[1].endswith("connected")


def test_nothing_is_lost_when_the_server_is_killed(
    server: NatsServer, near: Channel[Job], far: Channel[Job]
) -> None:
    url = f"{server.url}/killed"
    with forward(near, url) as there, receive(url, far) as here:
        there.wait_connected(LONG)
        found: list[int] = []
        for start in range(0, 3000, 1000):
            near.send_many(map(Job, range(start, start + 1000)), timeout=LONG)
            server.kill()
            server.start()
            found += numbers(far, 1000)
        assert found == list(range(3000))
        assert nothing_waits(far)
        assert there.stats().reconnects + here.stats().reconnects > 0


def test_a_full_stream_makes_senders_wait(
    server: NatsServer, near: Channel[Job], far: Channel[Job]
) -> None:
    url = f"{server.url}/full"
    options = BridgeOptions(max_bytes=20_000, packet_messages=16, window=16)
    with forward(near, url, options) as there:
        with pytest.raises(Timeout) as stopped:
            near.send_many(map(Job, range(100_000)), timeout=1)
        sent: int = stopped.value.sent
        assert there.stats().state == "waiting"
        assert "maximum bytes exceeded" in there.stats().reason
        with receive(url, far):
            found: list[int] = []
            while len(found) < sent:
                found += numbers(far, 1)
            assert found == list(range(sent))
        assert there.stats().state == "connected"


def test_two_bridges_of_one_channel_and_url_exclude_each_other(
    server: NatsServer, near: Channel[Job]
) -> None:
    url = f"{server.url}/once"
    with forward(near, url), pytest.raises(InUse, match="bridges it already"):
        forward(near, url)
    with forward(near, url) as again:
        again.wait_connected(LONG)


def test_a_message_longer_than_the_server_takes_ends_the_bridge(
    server: NatsServer, ns: Namespace
) -> None:
    with (
        Channel.create(ns.name(), peer_gone="wait") as near,
        forward(near, f"{server.url}/long") as bridge,
    ):
        near.send(b"short")
        near.send(bytes(2_000_000))
        with pytest.raises(MessageTooLong, match="2,000,000"):
            bridge.wait(LONG)
        bridge.close()
        assert len(near.receive(timeout=LONG)) in {5, 2_000_000}


def test_garbage_in_the_stream_is_skipped(
    server: NatsServer, near: Channel[Job], far: Channel[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{server.url}/garbage"

    async def publish() -> None:
        import nats  # noqa: PLC0415

        client = await nats.connect(server.url)
        for data in (b"", b"garbage", b"IPB1" + bytes(36), b"IPB1\xff\xff\xff\xff" + bytes(32)):
            await client.jetstream().publish("ipckit.garbage", data)
        await client.close()

    with forward(near, url) as there:
        there.wait_connected(LONG)
        asyncio.run(publish())
        near.send(Job(1))
        with receive(url, far):
            assert far.receive(timeout=LONG) == Job(1)
            assert nothing_waits(far)
    assert capsys.readouterr().err.count("skipped") >= 3


def test_the_end_of_the_channel_ends_the_bridge(server: NatsServer, ns: Namespace) -> None:
    with (
        Channel.create(ns.name(), peer_gone="wait") as near,
        forward(near, f"{server.url}/removed") as bridge,
    ):
        bridge.wait_connected(LONG)
        near.unlink()
        with pytest.raises(OSError, match="removed"):
            bridge.wait(LONG)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://host/jobs", "begin with nats://"),
        ("nats://amy:secret@host/jobs", "password"),
        ("nats://host", "end with a name"),
        ("nats://host/a/b", "end with a name"),
        ("nats://host:port/jobs", "invalid"),
        ("nats:///jobs", "no host"),
        ("nats://host/jobs?x=1", "end after the name"),
        ("zenoh://host/jobs", "zenoh keeps no messages"),
    ],
)
def test_a_wrong_url_is_refused(url: str, words: str, near: Channel[Job]) -> None:
    with pytest.raises(InvalidArgument, match=words) as refused:
        forward(near, url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["credentials", "tls_ca", "tls_cert"])
def test_a_file_that_does_not_exist_is_not_found(name: str, near: Channel[Job]) -> None:
    options = BridgeOptions(**{name: "/no/such/file"})
    with pytest.raises(NotFound, match="/no/such/file"):
        forward(near, "nats://127.0.0.1/jobs", options)
    with pytest.raises(NotFound, match="/no/such/file"):
        receive("nats://127.0.0.1/jobs", near, options)


def test_a_channel_that_does_not_exist_is_not_found(ns: Namespace) -> None:
    with pytest.raises(NotFound):
        forward(f"channel:{ns.name()}", "nats://127.0.0.1/jobs")


def test_the_file_shows_what_the_bridge_does(server: NatsServer, near: Channel[Job]) -> None:
    url = f"{server.url}/shown"
    with forward(near, url) as bridge:
        bridge.wait_connected(LONG)
        near.send(Job(1))
        wait_for(lambda: any(facts.counts.messages == 1 for facts in bridges()))
        (facts,) = bridges()
        assert (facts.object, facts.url, facts.direction) == (address(near), url, "send")
        assert (facts.state, facts.reason, facts.runs) == ("connected", "", True)
    assert bridges() == []


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    import time  # noqa: PLC0415

    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.soak  # test_chaos.py has a short test of the same
@pytest.mark.parametrize("victim", ["sender", "receiver"])
def test_nothing_is_lost_or_repeated_when_a_bridge_is_killed(
    victim: str, server: NatsServer, near: Channel[Job], far: Channel[Job], spawn: Spawn
) -> None:
    url = f"{server.url}/kills"
    options: dict[str, Any] = {"packet_messages": 8, "window": 16}

    def start(code: str, channel: Channel[Job]) -> Child:
        child = spawn(code, address(channel), url, options)
        assert child.hear() == "connected"
        return child

    sender, receiver = start(FORWARDS, near), start(RECEIVES, far)
    found: list[int] = []
    for turn in range(4):
        near.send_many(map(Job, range(turn * 500, turn * 500 + 500)), timeout=LONG)
        if victim == "sender":
            sender.kill()
            sender = start(FORWARDS, near)
        else:
            receiver.kill()
            receiver = start(RECEIVES, far)
        found += numbers(far, 500 * (turn + 1) - len(found))
    assert sorted(found) == list(range(2000))
    assert nothing_waits(far)
    for child in (sender, receiver):
        child.kill()
