"""Tests of bridges that get invalid packets, and whose stream, consumer or file is changed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bridge_commands import LONG, until

from ipckit import AccessDenied, Channel, Corrupt, Topic
from ipckit._bridge.topic_journal import ROWS
from ipckit._bridge.topic_wire import Hello, Position, Status
from ipckit._bridge.wire import HEAD, MARK
from ipckit._core.bridge_file import bridges
from ipckit.bridge import forward, receive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats_server import NatsServer

    from ipckit.testing import Child, Namespace

    Spawn = Callable[..., Child]

ID = "ab" * 16
HELLO = Hello(b"a" * 16, 64, 1 << 23, {b"b" * 16: Position(1, 2)})


def on_server(server: NatsServer, work: Callable[[Any], Awaitable[Any]]) -> None:
    """Run `work` with a client that is connected to the server."""

    async def run() -> None:
        import nats  # noqa: PLC0415

        client = await nats.connect(server.url)
        await work(client)
        await client.close()

    asyncio.run(run())


def test_a_packet_with_any_number_does_not_end_the_receiving_bridge(
    server: NatsServer, near: Channel[str], far: Channel[str]
) -> None:
    url = f"{server.url}/foreign"
    highest = [2**64 - 1, 2**64 - 2, 2**63, 2**62]
    packets = [HEAD.pack(MARK, 1, 1, number, os.urandom(16)) + b"x" for number in highest]
    packets.append(HEAD.pack(MARK, 0, 2**64 - 1, 0, os.urandom(16)))

    async def publish(client: Any) -> None:
        for data in packets:
            await client.jetstream().publish("ipckit.foreign", data)

    with forward(near, url) as there, receive(url, far) as here:
        there.wait_connected(LONG)
        on_server(server, publish)
        near.send("mine")
        assert far.receive(timeout=LONG) == "mine"
        assert here.stats().state == "connected"


@pytest.mark.parametrize(
    "wrong",
    [
        {"packets": float("inf")},
        {"packets": "many"},
        {"room": 2**64},
        {"positions": {ID: [2**64, 2**64]}},
        {"positions": {ID: [-1, -1]}},
        {"positions": {ID: [0.5, 1]}},
        {"positions": {ID: [1]}},
        {"positions": [ID]},
    ],
)
def test_a_hello_with_an_invalid_number_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Corrupt, match="invalid"):
        Hello.decode(json.dumps(json.loads(HELLO.encode()) | wrong).encode())


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": float("inf")},
        {"first": -1},
        {"sent": 2**64},
        {"capacity": 2**64},
        {"type": None},
        {"type": {}},
        {"type": {"ipckit.format": 1}},
    ],
)
def test_a_status_with_an_invalid_value_is_refused(wrong: dict[str, Any], ns: Namespace) -> None:
    with Topic.create(ns.name(), str) as topic:
        status = status_of(topic)
    data = json.dumps(json.loads(status.encode()) | wrong).encode()
    with pytest.raises(Corrupt):
        Status.decode(data, "here")


def status_of(topic: Topic[Any]) -> Status:
    from ipckit._bridge.payload_type import type_of_object  # noqa: PLC0415

    kind = type_of_object(topic.memory_fd, topic=True)
    return Status(b"a" * 16, kind, sends=True, first=0, sent=0, capacity=8, history=0, size=64)


def test_json_that_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(Corrupt):
        Hello.decode(b"[" * 200_000)


def test_a_packet_of_a_topic_with_an_invalid_number_is_refused() -> None:
    from ipckit._bridge.topic_wire import head_of  # noqa: PLC0415

    head = HEAD.pack(MARK, 1, 1, 2**64 - 1, b"a" * 16)
    with pytest.raises(Corrupt):
        head_of(struct.pack("<Q", 0) + head + b"x")


def test_a_receiving_bridge_wants_a_limited_number_of_topics(
    server: NatsServer, ns: Namespace
) -> None:
    name = "ipckit.topic.forged"
    hellos: list[Hello] = []

    async def forge(client: Any) -> None:
        said = await client.subscribe(f"{name}.up")
        receiver = Hello.decode((await said.next_msg(LONG)).data).receiver.hex()
        for number in range(1000):
            data = replace(status_of(near), topic=number.to_bytes(16, "little"), sends=False)
            await client.publish(f"{name}.down.{receiver}", data.encode())
        while not hellos or not hellos[-1].positions:
            hellos.append(Hello.decode((await said.next_msg(LONG)).data))

    with (
        Topic.create(ns.name(), str, peer_gone="wait") as near,
        Topic.create(ns.name(), str, peer_gone="wait") as far,
        receive(f"{server.url}/forged", far) as here,
        far.subscribe() as prices,
    ):
        on_server(server, forge)
        assert len(hellos[-1].positions) <= ROWS
        with forward(near, f"{server.url}/forged"):
            here.wait_connected(LONG)
            near.publish("price", timeout=LONG)
            assert prices.receive(timeout=LONG) == "price"


@pytest.mark.soak
def test_a_position_beyond_the_end_of_the_topic_does_not_end_the_sending_bridge(
    server: NatsServer, ns: Namespace
) -> None:
    url = f"{server.url}/positions"
    with (
        Topic.create(ns.name(), str, peer_gone="wait") as near,
        Topic.create(ns.name(), str, peer_gone="wait") as far,
        forward(near, url) as there,
        receive(url, far) as here,
        far.subscribe() as prices,
    ):
        here.wait_connected(LONG)
        topic = there._link.id  # type: ignore[attr-defined]
        hello = Hello(b"r" * 16, 64, 1 << 23, {topic: Position(2**61, 2**61)}, ask=True)

        async def publish(client: Any) -> None:
            await client.publish("ipckit.topic.positions.up", hello.encode())

        on_server(server, publish)
        for number in range(3):
            near.publish(f"price {number}", timeout=LONG)
            assert prices.receive(timeout=LONG) == f"price {number}"
        assert there.stats().lost == 0


def test_a_stream_that_is_removed_by_hand_is_created_again(
    server: NatsServer, near: Channel[str], far: Channel[str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{server.url}/removed"
    with forward(near, url) as there, receive(url, far):
        near.send("before")
        assert far.receive(timeout=LONG) == "before"
        on_server(server, lambda client: client.jsm().delete_stream("removed"))
        near.send("after")
        assert far.receive(timeout=LONG) == "after"
        assert there.stats().state == "connected"
    assert "the stream was removed; waiting" in capsys.readouterr().err


def test_a_consumer_that_is_removed_by_hand_is_created_again(
    server: NatsServer, near: Channel[str], far: Channel[str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{server.url}/consumer"
    with forward(near, url), receive(url, far) as here:
        here.wait_connected(LONG)
        on_server(server, lambda client: client.jsm().delete_consumer("consumer", "consumer"))
        near.send("after")
        assert far.receive(timeout=LONG) == "after"
    lines = capsys.readouterr().err
    assert "Error" not in lines
    assert "consumer was removed; waiting" in lines


def test_a_host_that_is_not_found_is_named_in_words(near: Channel[str]) -> None:
    with forward(near, "nats://no-such-host.invalid/jobs") as bridge:
        assert "Unknown error" not in until(lambda: bridge.stats().reason)


FORKS = """
import os, time
from ipckit.bridge import forward
from ipckit.testing import step
bridge = forward(args[0], args[1])
bridge.wait_connected(30)
reader, writer = os.pipe()
if (child := os.fork()) == 0:
    os.setsid()
    bridge.close()
    os.write(writer, b"x")  # the fork handlers have run
    time.sleep(60)
    os._exit(0)
os.read(reader, 1)
step.tell(child)
bridge.wait()
"""


def test_a_child_process_does_not_keep_the_bridge_of_a_parent_that_was_killed(
    server: NatsServer, near: Channel[str], far: Channel[str], spawn: Spawn
) -> None:
    url = f"{server.url}/forks"
    near.send("1")
    parent = spawn(FORKS, f"channel:{str(near.name).removeprefix('/')}", url)
    child = parent.hear()
    parent.kill()
    try:
        near.send("2")
        with forward(near, url), receive(url, far):
            assert [far.receive(timeout=LONG) for _ in range(2)] == ["1", "2"]
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("what", [Channel, Topic])
def test_the_handle_that_was_given_may_be_closed_before_the_bridge_is_connected(
    what: Any, server: NatsServer, ns: Namespace
) -> None:
    url = f"{server.url}/closed"
    with what.create(ns.name(), str, peer_gone="wait") as near:
        far = what.create(ns.name(), str, peer_gone="wait")
        address = f"{what.__name__.lower()}:{str(far.name).removeprefix('/')}"
        with receive(url, far) as here:
            far.close()
            with forward(near, url):
                here.wait_connected(LONG)
                assert here.address == address
        what.remove(far.name)


def file_of(channel: Channel[str], url: str) -> Path:
    """Return the path of the file of a sending bridge, after the bridge has ended."""
    with forward(channel, url):
        (facts,) = bridges()
    return Path(facts.path)


def test_a_file_that_is_not_the_file_of_a_bridge_is_named(near: Channel[str]) -> None:
    url = "nats://127.0.0.1:1/file"
    path = file_of(near, url)
    for make in (
        lambda: path.write_bytes(b"IPCBRDG1"),
        lambda: path.symlink_to("/etc/passwd"),
        path.mkdir,
        lambda: os.mkfifo(path),
    ):
        path.unlink(missing_ok=True)
        make()
        with pytest.raises(Corrupt, match=f"{path} is not the file of a bridge.*remove"):
            forward(near, url)
        if path.is_dir():
            path.rmdir()
    path.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_a_file_of_another_user_is_refused(near: Channel[str]) -> None:
    url = "nats://127.0.0.1:1/file"
    path = file_of(near, url)
    path.touch()
    os.chown(path, 65534, 65534)
    with pytest.raises(AccessDenied, match=f"{path} belongs to nobody") as refused:
        forward(near, url)
    assert "owner_uid" not in str(refused.value)
