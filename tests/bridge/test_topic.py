"""Tests of bridges between topics, over zenoh and over core NATS."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import (
    Int,
    InvalidArgument,
    LayoutMismatch,
    MessageTooLong,
    Removed,
    Struct,
    Timeout,
    Topic,
)
from ipckit._core.bridge_file import bridges
from ipckit.bridge import BridgeOptions, forward, receive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import NatsServer

    from ipckit.bridge import Bridge
    from ipckit.testing import Child, Namespace
    from ipckit.topic import Subscription

    Spawn = Callable[..., Child]

LONG = 30.0
# The options of a receiving bridge that accepts two unacknowledged packets of 8 messages each.
NARROW = {"window": 2, "packet_messages": 8}

RECEIVES = """
from ipckit._core.bridge_file import bridges
from ipckit.bridge import BridgeOptions, receive
from ipckit.testing import step
bridge = receive(args[0], args[1], BridgeOptions(**args[2]))
bridge.wait_connected(30)
step.tell("connected")
bridge.wait()
"""


class Price(Struct):
    cents: Int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="session", autouse=True)
def _zenoh_runs() -> None:
    """Start the threads of zenoh once. zenoh starts them with its first session, and keeps them."""
    try:
        import zenoh  # noqa: PLC0415
    except ModuleNotFoundError:
        return
    port = free_port()
    sessions = []
    for listens in (True, False):
        config = zenoh.Config()
        config.insert_json5("scouting/multicast/enabled", "false")
        config.insert_json5("transport/shared_memory/enabled", "false")
        config.insert_json5("listen/endpoints", f'["tcp/127.0.0.1:{port}"]' if listens else "[]")
        config.insert_json5("connect/endpoints", "[]" if listens else f'["tcp/127.0.0.1:{port}"]')
        sessions.append(zenoh.open(config))
    arrived = threading.Event()
    sessions[1].declare_subscriber("warm", lambda _: arrived.set())
    while not arrived.wait(0.05):
        sessions[0].put("warm", b"")
    for session in sessions:
        session.close()


@pytest.fixture(params=["zenoh", "nats"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a topic over each engine."""
    if request.param == "nats":
        server: NatsServer = request.getfixturevalue("server")
        return f"{server.url}/prices"
    pytest.importorskip("zenoh")
    return f"zenoh://127.0.0.1:{free_port()}/prices"


@pytest.fixture
def near(ns: Namespace) -> Iterator[Topic[Price]]:
    with Topic.create(ns.name(), Price, capacity=64, history=16, peer_gone="wait") as topic:
        yield topic


@pytest.fixture
def far(ns: Namespace) -> Iterator[Topic[Price]]:
    with Topic.create(ns.name(), Price, capacity=64, history=16, peer_gone="wait") as topic:
        yield topic


def address(topic: Topic[Any]) -> str:
    return f"topic:{str(topic.name).removeprefix('/')}"


@contextmanager
def bridged(
    near: Topic[Any], far: Topic[Any], url: str, **options: Any
) -> Iterator[tuple[Bridge, Bridge]]:
    """Run bridges from one topic to another, and wait until they are connected."""
    given = BridgeOptions(**options)
    with forward(near, url, given) as there, receive(url, far, given) as here:
        here.wait_connected(LONG)
        yield there, here


def cents(subscription: Subscription[Price], count: int) -> list[int]:
    """Return the numbers of the next `count` messages."""
    found: list[int] = []
    while len(found) < count:
        found += subscription.receive_many(timeout=LONG)["cents"].tolist()
    return found


def rest_of(subscription: Subscription[Price], seconds: float = 1.0) -> list[int]:
    """Return the numbers of all messages until none arrives for some seconds."""
    found: list[int] = []
    try:
        while True:
            found += subscription.receive_many(timeout=seconds)["cents"].tolist()
    except Timeout:
        return found


def publish(topic: Topic[Price], numbers: range) -> None:
    topic.publish_many([Price(number) for number in numbers], timeout=LONG)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def publish_until_full(topic: Topic[Price], start: int) -> int:
    """Publish until the topic is full. Return the next number."""
    number = start
    try:
        while True:
            topic.publish(Price(number), timeout=1.5)
            number += 1
    except Timeout:
        return number


# -- messages --------------------------------------------------------------------------------------


def test_messages_arrive_in_order(url: str, near: Topic[Price], far: Topic[Price]) -> None:
    with bridged(near, far, url) as (there, here), far.subscribe() as prices:
        # The messages are more than the capacity, so publishers must wait.
        for start in range(0, 2000, 50):
            publish(near, range(start, start + 50))
            assert cents(prices, 50) == list(range(start, start + 50))
        wait_until(lambda: there.stats().messages == 2000)
        assert here.stats().messages == 2000
        assert (here.stats().lost, there.stats().lost) == (0, 0)
        assert (here.stats().repeated, here.stats().reconnects) == (0, 0)


def test_messages_of_all_lengths_arrive(url: str, ns: Namespace) -> None:
    messages = [os.urandom(length) for length in (0, 1, 40, 4096, 4097, 0, 70_000, 900_000, 3)]
    with (
        Topic.create(ns.name(), peer_gone="wait") as near,
        Topic.create(ns.name(), peer_gone="wait") as far,
        bridged(near, far, url),
        far.subscribe() as found,
    ):
        for _ in range(3):
            near.publish_many(messages, timeout=LONG)
            assert [found.receive(timeout=LONG) for _ in messages] == messages


def test_messages_that_become_longer_are_divided_among_packets(url: str, ns: Namespace) -> None:
    with (
        Topic.create(ns.name(), peer_gone="wait") as near,
        Topic.create(ns.name(), peer_gone="wait") as far,
        far.subscribe() as found,
        ExitStack() as stack,
    ):
        messages = [bytes(5)] * 500 + [os.urandom(20_000) for _ in range(100)]
        with near.subscribe() as first:
            near.publish_many(messages[:1])
            assert first.receive() == messages[0]
        stack.enter_context(bridged(near, far, url))
        near.publish_many(messages, timeout=LONG)
        assert [found.receive(timeout=LONG) for _ in messages] == messages


def test_the_receiving_side_creates_a_topic_like_the_other(url: str, ns: Namespace) -> None:
    name = ns.name()
    with Topic.create(ns.name(), str, capacity=30, history=5) as near:
        near.publish_many(map(str, range(8)))
        with forward(address(near), url), receive(url, f"topic:{name}") as here:
            here.wait_connected(LONG)
            with Topic.open(name, str) as far:
                assert (far.capacity, far.history) == (30, 5)
                # The history arrives after the topic was created.
                wait_until(lambda: far.stats().published == 5)
                with far.subscribe() as late:
                    assert late.receive_many() == ["3", "4", "5", "6", "7"]
    Topic.remove(name)


def test_a_late_joiner_gets_the_history(url: str, near: Topic[Price], far: Topic[Price]) -> None:
    with forward(near, url) as there:
        publish(near, range(100))
        with far.subscribe() as prices, receive(url, far) as here:
            assert cents(prices, 16) == list(range(84, 100))
            near.publish(Price(100))
            assert cents(prices, 1) == [100]
            assert here.stats().lost == there.stats().lost == 0


def test_several_receive(url: str, near: Topic[Price], far: Topic[Price], ns: Namespace) -> None:
    with (
        Topic.create(ns.name(), Price, capacity=64) as other,
        far.subscribe() as one,
        other.subscribe() as two,
        bridged(near, far, url),
        receive(url, other) as here,
    ):
        here.wait_connected(LONG)
        publish(near, range(40))
        assert cents(one, 40) == cents(two, 40) == list(range(40))


def test_several_send(url: str, far: Topic[Price], ns: Namespace) -> None:
    with (
        Topic.create(ns.name(), Price, capacity=64) as one,
        Topic.create(ns.name(), Price, capacity=64) as two,
        far.subscribe() as prices,
        bridged(one, far, url),
        forward(two, url) as there,
    ):
        there.wait_connected(LONG)
        publish(one, range(30))
        publish(two, range(100, 130))
        found = cents(prices, 60)
        assert [each for each in found if each < 100] == list(range(30))
        assert [each for each in found if each >= 100] == list(range(100, 130))


# -- a slow side -----------------------------------------------------------------------------------


def test_publishers_wait_for_the_other_side(
    url: str, near: Topic[Price], far: Topic[Price]
) -> None:
    with bridged(near, far, url, **NARROW) as (there, here), far.subscribe() as prices:
        end = publish_until_full(near, 0)
        # Both topics are full, and some messages are in packets.
        assert 128 <= end < 128 + 64
        assert there.stats().unacknowledged > 0
        assert rest_of(prices) == list(range(end))
        publish(near, range(end, end + 10))
        assert cents(prices, 10) == list(range(end, end + 10))
        assert here.stats().lost == there.stats().lost == 0


def test_what_the_other_side_loses_is_exact(
    url: str, near: Topic[Price], far: Topic[Price]
) -> None:
    with (
        bridged(near, far, url, when_full="drop_oldest", **NARROW) as (there, here),
        far.subscribe() as prices,
    ):
        for start in range(0, 5000, 50):
            publish(near, range(start, start + 50))
            time.sleep(0.001)
        found = rest_of(prices)
        assert found[-1] == 4999
        assert found == sorted(set(found))
        assert 0 < here.stats().lost == there.stats().lost == 5000 - len(found)
        wait_until(lambda: there.stats().messages == len(found))


@pytest.mark.soak
def test_a_receiving_bridge_that_is_killed_does_not_stop_publishers(
    url: str, near: Topic[Price], far: Topic[Price], spawn: Spawn
) -> None:
    with forward(near, url, BridgeOptions(**NARROW)) as there, far.subscribe() as prices:
        child = spawn(RECEIVES, url, address(far), NARROW)
        child.expect("connected")
        publish(near, range(50))
        assert cents(prices, 50) == list(range(50))
        end = publish_until_full(near, 50)
        child.kill()
        start = time.monotonic()
        publish(near, range(end, end + 200))
        assert time.monotonic() - start < 10
        # The next bridge continues after the last message that this one has published. Messages
        # that are not in the history any more are counted as lost.
        before = rest_of(prices)
        with receive(url, far) as here:
            here.wait_connected(LONG)
            found = cents(prices, 16)
            assert before == list(range(50, 50 + len(before)))
            assert found == list(range(end + 184, end + 200))
            assert here.stats().lost == end + 184 - (50 + len(before))
            assert here.stats().uncertain == here.stats().repeated == 0
        assert there.stats().reconnects == 0


def test_a_receiving_bridge_continues_after_close(
    url: str, near: Topic[Price], far: Topic[Price]
) -> None:
    with forward(near, url) as there, far.subscribe() as prices:
        with receive(url, far) as here:
            here.wait_connected(LONG)
            publish(near, range(10))
            assert cents(prices, 10) == list(range(10))
        wait_until(lambda: not near.subscribers())
        publish(near, range(10, 20))
        with receive(url, far) as here:
            # It does not get all 16 messages of the history, because it knows the first 10.
            assert cents(prices, 10) == list(range(10, 20))
            publish(near, range(20, 30))
            assert cents(prices, 10) == list(range(20, 30))
            assert here.stats().lost == there.stats().lost == 0


@pytest.mark.soak
def test_a_receiving_bridge_that_is_stopped_does_not_stop_publishers(
    url: str, ns: Namespace, spawn: Spawn
) -> None:
    message = bytes(300_000)
    with (
        Topic.create(ns.name(), capacity=40, peer_gone="wait") as near,
        Topic.create(ns.name(), capacity=40, peer_gone="wait") as far,
        far.subscribe(when_full="drop_oldest") as found,
        forward(near, url) as there,
    ):
        child = spawn(RECEIVES, url, address(far), {})
        child.expect("connected")
        near.publish(message, timeout=LONG)
        assert found.receive(timeout=LONG) == message
        os.kill(child.pid, signal.SIGSTOP)
        for _ in range(200):
            near.publish(message, timeout=LONG)
        wait_until(lambda: not near.subscribers())
        os.kill(child.pid, signal.SIGCONT)
        there.wait_connected(LONG)
        wait_until(lambda: len(near.subscribers()) == 1)
        near.publish(message[:5], timeout=LONG)
        while found.receive(timeout=LONG) != message[:5]:
            pass

        def lost() -> int:
            (facts,) = (each for each in bridges() if each.direction == "receive")
            return facts.counts.lost

        wait_until(lambda: lost() + far.stats().published == near.stats().published)
        child.kill()


# -- the other side, or the engine, is away --------------------------------------------------------


@pytest.mark.soak
def test_the_receiving_side_may_start_first(
    url: str, near: Topic[Price], far: Topic[Price], capfd: pytest.CaptureFixture[str]
) -> None:
    publish(near, range(10))
    with receive(url, far) as here, far.subscribe() as prices:
        with pytest.raises(Timeout, match="not connected"):
            here.wait_connected(5)
        assert here.stats().state == "waiting"
        with forward(near, url):
            here.wait_connected(LONG)
            assert cents(prices, 10) == list(range(10))
    said = [line for line in capfd.readouterr().err.splitlines() if address(far) in line]
    assert [line.endswith(("; waiting", ": connected")) for line in said] == [True, True]


def test_the_sending_side_may_start_again(url: str, near: Topic[Price], far: Topic[Price]) -> None:
    with far.subscribe() as prices, ExitStack() as stack:
        with forward(near, url):
            here = stack.enter_context(receive(url, far))
            publish(near, range(10))
            assert cents(prices, 10) == list(range(10))
        publish(near, range(10, 40))
        with forward(near, url):
            # The history has the messages 24 to 39. The messages 10 to 23 are lost.
            assert cents(prices, 16) == list(range(24, 40))
            assert here.stats().lost == 14
            publish(near, range(40, 50))
            assert cents(prices, 10) == list(range(40, 50))


def test_another_topic_of_the_name_starts_anew(url: str, ns: Namespace, far: Topic[Price]) -> None:
    name = ns.name()
    with far.subscribe() as prices, ExitStack() as stack:
        with Topic.create(name, Price, capacity=64) as near, forward(near, url):
            here = stack.enter_context(receive(url, far))
            here.wait_connected(LONG)
            publish(near, range(10))
            assert cents(prices, 10) == list(range(10))
        with Topic.create(name, Price, capacity=64, history=8) as near, forward(near, url) as there:
            there.wait_connected(LONG)
            publish(near, range(5))
            assert cents(prices, 5) == list(range(5))
            assert here.stats().lost == 0


def test_nats_may_be_away(
    stopped_server: NatsServer,
    near: Topic[Price],
    far: Topic[Price],
    capfd: pytest.CaptureFixture[str],
) -> None:
    url = f"{stopped_server.url}/prices"
    with forward(near, url) as there, receive(url, far) as here, far.subscribe() as prices:
        with pytest.raises(Timeout, match="not connected"):
            there.wait_connected(1)
        assert (there.stats().state, here.stats().state) == ("waiting", "waiting")
        publish(near, range(10))
        stopped_server.start()
        assert cents(prices, 10) == list(range(10))
        stopped_server.kill()
        wait_until(lambda: here.stats().state == there.stats().state == "waiting")
        publish(near, range(10, 20))  # the sending bridge keeps the subscription for 4 s
        stopped_server.start()
        assert cents(prices, 10) == list(range(10, 20))
        assert (here.stats().lost, here.stats().reconnects) == (0, 1)
    said = capfd.readouterr().err.splitlines()
    assert next(line for line in said if address(far) in line).endswith("; waiting")
    assert len(said) <= 10


def test_nothing_is_lost_when_nats_is_killed(
    server: NatsServer, near: Topic[Price], far: Topic[Price]
) -> None:
    with bridged(near, far, f"{server.url}/prices") as (there, here), far.subscribe() as prices:
        found: list[int] = []
        for start in range(0, 600, 20):
            publish(near, range(start, start + 20))
            if start in {200, 400}:
                server.kill()
                server.start()
            found += prices.receive_many(timeout=LONG)["cents"].tolist()
        found += cents(prices, 600 - len(found))
        assert found == list(range(600))
        assert here.stats().lost == there.stats().lost == 0
        assert here.stats().reconnects == 2


@pytest.mark.soak
def test_nats_may_be_away_for_long(
    server: NatsServer, near: Topic[Price], far: Topic[Price]
) -> None:
    with bridged(near, far, f"{server.url}/prices") as (_, here), far.subscribe() as prices:
        publish(near, range(10))
        assert cents(prices, 10) == list(range(10))
        server.kill()
        publish(near, range(10, 300))  # publishers wait for some seconds, and continue
        server.start()
        assert cents(prices, 16)[-1] == 299
        assert here.stats().lost + here.stats().messages == 300


# -- types -----------------------------------------------------------------------------------------


def test_another_type_is_refused(url: str, near: Topic[Price], ns: Namespace) -> None:
    near.publish(Price(1))
    with Topic.create(ns.name(), str) as far, forward(near, url) as there:
        for target in (far, address(far)):
            with receive(url, target) as here:
                with pytest.raises(LayoutMismatch, match="Price"):
                    here.wait_connected(LONG)
                with pytest.raises(LayoutMismatch):
                    here.wait(LONG)
        assert far.stats().published == 0
        assert not there.stats().messages


def test_another_order_of_bytes_is_refused(
    url: str, near: Topic[Price], far: Topic[Price], ns: Namespace
) -> None:
    with forward(near, url) as there:
        link: Any = there._link
        link.type = replace(link.type, byteorder="big")
        for target in (far, f"topic:{ns.name()[1:]}"):  # the second one is not created
            with receive(url, target) as here, pytest.raises(LayoutMismatch, match="big-endian"):
                here.wait_connected(LONG)
    assert far.stats().published == 0


def test_a_message_that_the_server_does_not_take(server: NatsServer, ns: Namespace) -> None:
    url = f"{server.url}/bytes"
    with (
        Topic.create(ns.name(), peer_gone="wait") as near,
        Topic.create(ns.name(), peer_gone="wait") as far,
        bridged(near, far, url) as (there, _),
    ):
        near.publish(bytes(2_000_000))
        with pytest.raises(MessageTooLong, match="2,000,000"):
            there.wait(LONG)


def test_messages_that_the_topic_does_not_take_are_lost(url: str, ns: Namespace) -> None:
    with (
        Topic.create(ns.name(), peer_gone="wait") as near,
        Topic.create(ns.name(), capacity=8, size=65536, peer_gone="wait") as far,
        bridged(near, far, url) as (_, here),
        far.subscribe() as found,
    ):
        near.publish_many([b"a", bytes(100_000), b"b"])
        assert [found.receive(timeout=LONG) for _ in range(2)] == [b"a", b"b"]
        wait_until(lambda: here.stats().lost == 1)


# -- removal, subscribers, and the configuration of zenoh ------------------------------------------


def test_a_topic_that_is_removed_ends_the_bridge(url: str, ns: Namespace) -> None:
    name = ns.name()
    with Topic.create(name, Price) as near, forward(near, url) as there:
        Topic.remove(name)
        with pytest.raises(Removed):
            there.wait(LONG)


def test_a_topic_with_all_its_subscribers(url: str, near: Topic[Price], far: Topic[Price]) -> None:
    with ExitStack() as stack:
        subscriptions = [stack.enter_context(near.subscribe()) for _ in range(64)]
        with forward(near, url), receive(url, far) as here:
            wait_until(lambda: "64 subscribers" in here.stats().reason)
            subscriptions[0].close()
            here.wait_connected(LONG)


def test_the_file_with_the_configuration_of_zenoh(
    near: Topic[Price], far: Topic[Price], tmp_path: Path
) -> None:
    pytest.importorskip("zenoh")
    port = free_port()
    for side, other in (("listen", "connect"), ("connect", "listen")):
        text = f'{{{side}: {{endpoints: ["tcp/127.0.0.1:{port}"]}}, {other}: {{endpoints: []}},'
        text += "scouting: {multicast: {enabled: false}},"
        text += "transport: {shared_memory: {enabled: false}}}"
        (tmp_path / f"{side}.json5").write_text(text)
    url = "zenoh://192.0.2.1:1/prices"  # an unreachable address; the files name another one
    listens = BridgeOptions(zenoh_config=str(tmp_path / "listen.json5"))
    connects = BridgeOptions(zenoh_config=str(tmp_path / "connect.json5"))
    with (
        forward(near, url, connects),
        receive(url, far, listens) as here,
        far.subscribe() as prices,
    ):
        here.wait_connected(LONG)
        publish(near, range(10))
        assert cents(prices, 10) == list(range(10))


def test_a_router_of_zenoh_may_listen_there(near: Topic[Price], far: Topic[Price]) -> None:
    zenoh = pytest.importorskip("zenoh")
    url = f"zenoh://127.0.0.1:{(port := free_port())}/prices"
    config = zenoh.Config()
    config.insert_json5("mode", '"router"')
    config.insert_json5("listen/endpoints", f'["tcp/127.0.0.1:{port}"]')
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5("transport/shared_memory/enabled", "false")
    with zenoh.open(config), bridged(near, far, url), far.subscribe() as prices:
        publish(near, range(10))
        assert cents(prices, 10) == list(range(10))


def test_a_wrong_file_with_the_configuration_of_zenoh(near: Topic[Price], tmp_path: Path) -> None:
    pytest.importorskip("zenoh")
    path = tmp_path / "zenoh.json5"
    path.write_text("{mode: 5")
    options = BridgeOptions(zenoh_config=str(path))
    with (
        forward(near, "zenoh://127.0.0.1/prices", options) as there,
        pytest.raises(InvalidArgument, match="configuration of zenoh"),
    ):
        there.wait(LONG)
