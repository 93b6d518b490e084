"""``ipckit bridge`` with topics, over zenoh and NATS."""

from __future__ import annotations

import json
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest
from bridge_commands import Command, until

from ipckit import Timeout, Topic
from ipckit._core.bridge_file import bridges

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats_server import NatsServer

    from ipckit.testing import Namespace

    Run = Callable[..., Any]

LONG = 30.0


@pytest.fixture(params=["nats", "zenoh"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "nats":
        server: NatsServer = request.getfixturevalue("server")
        return f"{server.url}/prices"
    pytest.importorskip("zenoh")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"zenoh://127.0.0.1:{probe.getsockname()[1]}/prices"


def address(topic: Topic[Any]) -> str:
    return f"topic:{str(topic.name).removeprefix('/')}"


def receive_one(topic: Topic[str], far: Any) -> str:
    """Publish until something arrives, because the other side subscribes later."""

    def arrived() -> str | None:
        topic.publish("ACME")
        try:
            return str(far.receive(timeout=0.2))
        except Timeout:
            return None

    return until(arrived)


def test_a_topic_continues_and_the_commands_show_it(
    run: Run, bridge: Callable[..., Command], url: str, ns: Namespace
) -> None:
    with (
        Topic.create(ns.name(), str) as near,
        Topic.create(ns.name(), str) as far,
        far.subscribe() as subscriber,
    ):
        here = bridge(url, address(far))
        there = bridge(address(near), url, "--when-full", "drop_oldest")
        assert receive_one(near, subscriber) == "ACME"
        listed = run("ls").out.decode()
        assert f"to {url}" in listed
        assert f"from {url}" in listed
        peers = json.loads(run("stat", address(near), "--json").out)["peers"]
        (found,) = (each["bridge"] for each in peers if each["bridge"])
        assert (found["direction"], found["state"]) == ("send", "connected")
        assert "carried: " in run("stat", address(far)).out.decode()
        assert [each.end(signal.SIGTERM) for each in (there, here)] == [0, 0]


@pytest.mark.soak
def test_a_bridge_without_the_other_side_waits(
    run: Run, bridge: Callable[..., Command], url: str, ns: Namespace
) -> None:
    new = f"topic:{ns.name().removeprefix('/')}"
    here = bridge(url, new)
    until(lambda: any(each.state == "waiting" for each in bridges()))
    findings = json.loads(run("doctor", "--json").out)
    (found,) = (each for each in findings if each["check"] == "bridge-waits")
    assert found["what"].startswith(f"the bridge from {url} to {new} has waited for ")
    assert here.end(signal.SIGINT) == 130
    assert bridges() == []
