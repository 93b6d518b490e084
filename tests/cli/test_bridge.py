"""``ipckit bridge``: how it carries, waits, stops, and what the other commands show of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from bridge_commands import Command, until

from ipckit import Channel, inventory
from ipckit._core.bridge_file import BRIDGE_PREFIX, BridgeFile, bridges
from ipckit._core.files import SHM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nats_server import NatsServer

    from ipckit.inventory import PeerBridge
    from ipckit.testing import Namespace

    Run = Callable[..., Any]

LONG = 30.0


@pytest.fixture
def near(ns: Namespace) -> Iterator[Channel[bytes]]:
    with Channel.create(ns.name(), capacity=64, peer_gone="wait") as channel:
        yield channel


@pytest.fixture
def far(ns: Namespace) -> Iterator[Channel[bytes]]:
    with Channel.create(ns.name(), capacity=64, peer_gone="wait") as channel:
        yield channel


def address(channel: Channel[Any]) -> str:
    return f"channel:{str(channel.name).removeprefix('/')}"


def bridge_of(channel: Channel[Any]) -> PeerBridge | None:
    """The bridge that is a peer of a channel."""
    items = inventory.survey(["channel"]).objects
    (item,) = [each for each in items if each.address == address(channel)]
    return next((peer.bridge for peer in item.peers if peer.bridge), None)


def is_connected(channel: Channel[Any]) -> PeerBridge | None:
    found = bridge_of(channel)
    return found if found and found.state == "connected" else None


def findings(run: Run, check: str) -> list[dict[str, Any]]:
    done = run("doctor", "--json")
    return [each for each in json.loads(done.out) if each["check"] == check]


def test_a_channel_continues_and_the_commands_show_it(
    run: Run,
    bridge: Callable[..., Command],
    server: NatsServer,
    near: Channel[bytes],
    far: Channel[bytes],
) -> None:
    url = f"{server.url}/jobs"
    there = bridge(address(near), url, "--send", "--max-bytes", "16M", "--storage", "memory")
    here = bridge(url, address(far), "--receive")
    near.send_many([b"a", b"b", b"c"])
    assert [far.receive(timeout=LONG) for _ in range(3)] == [b"a", b"b", b"c"]

    until(lambda: (found := bridge_of(near)) and found.messages == 3)
    listed = run("ls").out.decode()
    assert f"2 peers, to {url}" in listed
    assert f"2 peers, from {url}" in listed
    assert BRIDGE_PREFIX not in listed
    shown = run("stat", address(near)).out.decode()
    assert f"bridge:          to {url}, pid {there.pid}\n" in shown
    assert "bridge state:    connected for " in shown
    assert "carried:         3 messages, " in shown
    assert " in 1 packet, 0 unacknowledged\n" in shown or " in 2 packets, " in shown
    (peer,) = (
        each
        for each in json.loads(run("stat", address(far), "--json").out)["peers"]
        if each["bridge"]
    )
    assert (peer["pid"], peer["bridge"]["url"]) == (here.pid, url)
    assert (peer["bridge"]["direction"], peer["bridge"]["state"]) == ("receive", "connected")
    assert f"bridges it to {url}" in run("ps", there.pid).out.decode()
    near.send(b"d")
    last = run("top", "--count", "3", "--json", "--interval", "0.5").out.splitlines()[-1]
    rows = json.loads(last)
    (row,) = (each for each in rows if each["address"] == address(near))
    assert (row["bridge"], row["unacknowledged"]) == (f"to {url}", 0)
    assert row["bridge_rate"] is not None
    assert findings(run, "bridge-waits") == findings(run, "bridge-killed") == []

    assert there.end(signal.SIGTERM) == 0
    assert here.end(signal.SIGINT) == 130
    assert there.lines() == []
    assert here.lines()[-1] == "ipckit: interrupted"
    assert bridge_of(near) is None
    assert findings(run, "bridge-killed") == []  # they were stopped
    assert far.receive(timeout=LONG) == b"d"


def test_it_waits_for_the_server_and_says_so_once(
    run: Run,
    bridge: Callable[..., Command],
    stopped_server: NatsServer,
    near: Channel[bytes],
    ns: Namespace,
) -> None:
    url, new = f"{stopped_server.url}/jobs", f"channel:{ns.name().removeprefix('/')}"
    near.send(b"early")
    there, here = bridge(address(near), url), bridge(url, new)
    assert there.wait_for_line("waiting").startswith(f"ipckit bridge: {address(near)} {url}: ")
    assert here.wait_for_line("waiting").startswith(f"ipckit bridge: {new} {url}: ")
    assert f"to {url} (waiting)" in run("ls").out.decode()
    assert BRIDGE_PREFIX not in run("ls").out.decode()  # also while the channel does not exist
    found = findings(run, "bridge-waits")
    assert {each["what"].partition(" has waited for ")[0] for each in found} == {
        f"the bridge from {address(near)} to {url}",
        f"the bridge from {url} to {new}",
    }
    assert {each["severity"] for each in found} == {"warning"}
    time.sleep(1)
    assert [len(each.lines()) for each in (there, here)] == [1, 1]
    stopped_server.start()
    assert there.wait_for_line(": connected")
    assert here.wait_for_line(": connected")
    with Channel.open(new.partition(":")[2], peer_gone="wait") as far:
        assert far.receive(timeout=LONG) == b"early"
        stopped_server.kill()
        until(lambda: len(there.lines()) == 3)
        near.send(b"late")
        stopped_server.start()
        assert far.receive(timeout=LONG) == b"late"
        assert there.end(signal.SIGTERM) == here.end(signal.SIGTERM) == 0
        far.unlink()
    assert len(there.lines()) == 4


def test_a_killed_bridge_is_reported_and_goes_on(
    run: Run,
    bridge: Callable[..., Command],
    server: NatsServer,
    near: Channel[bytes],
    far: Channel[bytes],
) -> None:
    url = f"{server.url}/jobs"
    there, here = bridge(address(near), url), bridge(url, address(far))
    near.send(b"1")
    assert far.receive(timeout=LONG) == b"1"
    there.end(signal.SIGKILL)
    here.end(signal.SIGKILL)
    near.send(b"2")
    found = {each["subjects"][0]: each for each in findings(run, "bridge-killed")}
    assert set(found) == {address(near), address(far)}
    assert found[address(near)]["what"].endswith("was killed, and 1 message waits for it")
    assert found[address(near)]["cure"] == f"ipckit bridge {address(near)} {url}"
    assert found[address(far)]["cure"] == f"ipckit bridge {url} {address(far)}"
    # The journals are no leftovers while the channels exist.
    assert BRIDGE_PREFIX not in run("ls", "--wide").out.decode()
    assert BRIDGE_PREFIX not in run("gc", "--delete", "--yes").out.decode()
    assert len(bridges()) == 2
    there, here = bridge(address(near), url), bridge(url, address(far))
    assert far.receive(timeout=LONG) == b"2"
    assert findings(run, "bridge-killed") == []
    there.end(signal.SIGKILL)
    here.end(signal.SIGKILL)
    near.unlink()
    far.unlink()
    files = {each["address"] for each in json.loads(run("ls", "--json").out)["objects"]}
    assert {each.path.replace(SHM, "shm:") for each in bridges()} <= files
    assert run("gc", "--delete", "--yes", "--kind", "shm").status == 0
    assert bridges() == []


def test_a_second_ctrl_c_does_not_wait(
    bridge: Callable[..., Command], server: NatsServer, near: Channel[bytes]
) -> None:
    there = bridge(address(near), f"{server.url}/jobs")
    until(lambda: is_connected(near))
    server.freeze()
    near.send(b"on the way")
    until(lambda: (found := bridge_of(near)) and found.unacknowledged)
    there.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        there.process.wait(0.5)  # it waits for the message
    began = time.monotonic()
    there.process.send_signal(signal.SIGINT)
    assert there.process.wait(LONG) == 130
    assert time.monotonic() - began < 4
    assert near.receive(timeout=LONG) == b"on the way"


def test_several_bridges_in_one_process(
    bridge: Callable[..., Command],
    server: NatsServer,
    near: Channel[bytes],
    far: Channel[bytes],
    tmp_path: Path,
) -> None:
    file = tmp_path / "bridges.toml"
    file.write_text(
        f"""
        [[bridge]]
        from = "{address(near)}"
        to = "{server.url}/jobs"
        storage = "memory"
        max_bytes = "8M"
        packet_bytes = 4096

        [[bridge]]
        from = "channel:no-such-channel"
        to = "{server.url}/others"

        [[bridge]]
        from = "{server.url}/jobs"
        to = "{address(far)}"
        """
    )
    both = bridge("--config", file)
    near.send(b"x")
    assert far.receive(timeout=LONG) == b"x"
    line = both.wait_for_line("no-such-channel")
    assert line.startswith("ipckit bridge: channel:no-such-channel")
    assert {(found.direction if (found := is_connected(each)) else "") for each in (near, far)} == {
        "send",
        "receive",
    }
    assert both.end(signal.SIGTERM) == 1


def test_messages_of_another_type_end_it(
    bridge: Callable[..., Command], server: NatsServer, near: Channel[bytes], ns: Namespace
) -> None:
    url = f"{server.url}/jobs"
    bridge(address(near), url)
    until(lambda: is_connected(near))
    with Channel.create(ns.name(), str, peer_gone="wait") as texts:
        here = bridge(url, address(texts))
        assert here.process.wait(LONG) == 1
        line = here.lines()[-1]
        assert "messages are str" in line
        assert "bytes" in line


def test_without_nats_py_it_names_the_package(
    bridge: Callable[..., Command], near: Channel[bytes], tmp_path: Path
) -> None:
    package = tmp_path / "missing"
    package.mkdir()
    (package / "nats.py").write_text("raise ModuleNotFoundError('No nats', name='nats')\n")
    path = os.pathsep.join([str(package), *sys.path])
    there = bridge(address(near), "nats://127.0.0.1:4/x", env={**os.environ, "PYTHONPATH": path})
    assert there.process.wait(LONG) == 1
    assert "the package nats-py is not installed; pip install nats-py" in there.lines()[0]


def test_a_background_job_ignores_ctrl_c(
    bridge: Callable[..., Command], server: NatsServer, near: Channel[bytes]
) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    there = bridge(address(near), f"{server.url}/jobs", preexec_fn=ignore)
    until(lambda: is_connected(near))
    there.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        there.process.wait(0.5)
    assert there.end(signal.SIGTERM) == 0


def test_a_file_that_another_process_wrote_makes_no_bridge(
    run: Run, near: Channel[bytes], spawn: Callable[..., Any]
) -> None:
    """It names a process that has the channel open, but not the file."""
    child = spawn(
        """
        from ipckit import Channel
        from ipckit._core import processes
        from ipckit.testing import step
        with Channel.open(args[0], peer_gone="wait") as channel:
            step.tell(processes.token())
            step.expect("end")
        """,
        near.name,
    )
    token = child.hear()
    status = os.fstat(near.memory_fd)
    (item,) = [
        each for each in inventory.survey(["channel"]).objects if each.address == address(near)
    ]
    identity = (status.st_dev, status.st_ino, int(item.details["created"]))
    file = BridgeFile(address(near), identity, "nats://evil/x\x1b[2J y", "send", 64)
    own = bridge_of(near)
    assert own is not None
    shown = run("stat", address(near)).out.decode()
    assert r"nats://evil/x\x1b[2J\x20y" in shown
    file.memory[16:24] = token.to_bytes(8, "little")
    assert bridge_of(near) is None
    child.tell("end")
    child.wait()
    with suppress(OSError):
        file.close(remove=True)
