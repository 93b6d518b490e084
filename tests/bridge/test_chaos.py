"""Tests that kill bridges and the server at random moments. No message is lost or repeated."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Channel, Int, Struct, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

    Spawn = Callable[..., Child]

LONG = 60.0

RUNS = """
from ipckit.bridge import BridgeOptions, forward, receive
from ipckit.testing import step
options = BridgeOptions(**args[3])
if args[0] == "send":
    bridge = forward(args[1], args[2], options)
else:
    bridge = receive(args[2], args[1], options)
step.tell("started")
bridge.wait()
"""


class Job(Struct):
    number: Int


class Producer(threading.Thread):
    """A thread that sends consecutive numbers until `stop` is called."""

    def __init__(self, channel: Channel[Job]) -> None:
        super().__init__(name="ipckit-producer")
        self._channel = channel
        self._stop_now = threading.Event()
        self.sent = 0

    def run(self) -> None:
        while not self._stop_now.wait(0.001):
            count = random.randrange(1, 20)
            try:
                self._channel.send_many(map(Job, range(self.sent, self.sent + count)), timeout=1)
            except Timeout as exc:
                count = exc.sent  # type: ignore[attr-defined]
            self.sent += count

    def stop(self) -> None:
        self._stop_now.set()
        self.join()


class Consumer(threading.Thread):
    """A thread that receives numbers until `stop` is called."""

    def __init__(self, channel: Channel[Job]) -> None:
        super().__init__(name="ipckit-consumer")
        self._channel = channel
        self._stop_now = threading.Event()
        self.found: list[int] = []

    def run(self) -> None:
        while not self._stop_now.is_set():
            try:
                self.found += self._channel.receive_many(timeout=0.2)["number"].tolist()
            except Timeout:
                continue

    def wait_for(self, count: int) -> None:
        """Wait until `count` messages have arrived, or none arrives for a minute."""
        while (before := len(self.found)) < count:
            for _ in range(600):
                if len(self.found) != before or self._stop_now.wait(0.1):
                    break
            else:
                return

    def stop(self) -> None:
        self._stop_now.set()
        self.join()


def kill_and_restart(kills: int, victims: str, server: Any, ns: Namespace, spawn: Spawn) -> None:
    """Kill a random victim `kills` times. Check that each message arrives once and in order."""
    chance = random.Random(len(victims))
    url, options = f"{server.url}/chaos", {"packet_messages": 16, "window": 32}
    with (
        Channel.create(ns.name(), Job, capacity=1024, peer_gone="wait") as near,
        Channel.create(ns.name(), Job, capacity=1024, peer_gone="wait") as far,
    ):
        places = {"send": near, "receive": far}

        def start(way: str) -> Child:
            address = f"channel:{str(places[way].name).removeprefix('/')}"
            child = spawn(RUNS, way, address, url, options)
            assert child.hear(timeout=LONG) == "started"
            return child

        children = {way: start(way) for way in places}
        producer, consumer = Producer(near), Consumer(far)
        producer.start()
        consumer.start()
        try:
            for _ in range(kills):
                chance.seed(chance.random())
                # Sometimes wait until the server delivers a killed receiver's packets again.
                threading.Event().wait(chance.random() * 0.3 + 4 * (chance.random() < 0.03))
                victim = chance.choice(victims.split())
                if victim == "server":
                    server.kill()
                    server.start()
                else:
                    children[victim].kill()
                    children[victim].close()
                    children[victim] = start(victim)
        finally:
            producer.stop()
            consumer.wait_for(producer.sent)
            threading.Event().wait(0.5)
            consumer.stop()
            for child in children.values():
                child.kill()
        found = consumer.found
        assert sorted(set(found)) == list(range(producer.sent)), "lost"
        assert len(found) == len(set(found)), "repeated"
        assert found == sorted(found), "reordered"
        assert producer.sent > 0


def test_kills_lose_and_repeat_nothing(server: Any, ns: Namespace, spawn: Spawn) -> None:
    kill_and_restart(9, "send receive server", server, ns, spawn)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("victims", ["send", "receive", "server", "send receive server"])
def test_a_thousand_kills(victims: str, server: Any, ns: Namespace, spawn: Spawn) -> None:
    kill_and_restart(250, victims, server, ns, spawn)
