"""Bridges as the inventory sees them: the peers that they are, and their files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Channel, inventory
from ipckit._cli.doctor import bridges as doctor
from ipckit._core import processes
from ipckit._core.bridge_file import BRIDGE_PREFIX, NO_IDENTITY, BridgeFile, Counts, bridges
from ipckit._core.files import SHM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.inventory import IpcObject
    from ipckit.testing import Child, Namespace

URL = "nats://127.0.0.1:4222/jobs"


@pytest.fixture(autouse=True)
def _no_journals() -> Iterator[None]:
    yield
    for path in Path(SHM).glob(f"{BRIDGE_PREFIX}*"):
        path.unlink()


@pytest.fixture
def channel(ns: Namespace) -> Iterator[Channel[bytes]]:
    with Channel.create(ns.name(), peer_gone="wait") as found:
        yield found


@pytest.fixture
def dead(spawn: Callable[..., Child]) -> int:
    """The token of a process that has exited."""
    with spawn("from ipckit._core import processes; result = processes.token()") as child:
        return int(child.result)


def address(channel: Channel[Any]) -> str:
    return f"channel:{str(channel.name).removeprefix('/')}"


def item_of(channel: Channel[Any]) -> IpcObject:
    found = inventory.survey(["channel"]).objects
    return next(each for each in found if each.address == address(channel))


def identity_of(channel: Channel[Any]) -> tuple[int, int, int]:
    item = item_of(channel)
    return (item.identity[0], item.identity[1], int(item.details["created"]))


def segments() -> list[IpcObject]:
    """The files of bridges that are listed."""
    found = inventory.survey(["posix-segment"]).objects
    return [each for each in found if BRIDGE_PREFIX in each.name]


def new_file(channel: Channel[Any], direction: Any = "send", url: str = URL) -> BridgeFile:
    return BridgeFile(address(channel), identity_of(channel), url, direction, 64)


def store_token(file: BridgeFile, token: int) -> None:
    file.memory[16:24] = token.to_bytes(8, "little")


def test_each_bridge_is_the_peer_with_its_role(channel: Channel[bytes]) -> None:
    with Channel.open(channel.name, peer_gone="wait") as taker:
        channel.send(b"x")
        taker.receive()
        files = [new_file(channel, "send"), new_file(channel, "receive")]
        files[0].store_counts(Counts(messages=3, unacknowledged=2))
        files[1].store_state("waiting", "no answer")
        peers = {peer.roles[-1]: peer.bridge for peer in item_of(channel).peers}
        assert set(peers) == {"sender", "receiver"}
        assert peers["receiver"] is not None
        assert peers["sender"] is not None
        assert (peers["receiver"].direction, peers["sender"].direction) == ("send", "receive")
        assert (peers["receiver"].messages, peers["receiver"].unacknowledged) == (3, 2)
        assert (peers["sender"].state, peers["sender"].reason) == ("waiting", "no answer")
        for file in files:
            file.close(remove=True)
    assert [peer.bridge for peer in item_of(channel).peers] == [None]


def test_two_bridges_of_one_direction_are_two_peers(channel: Channel[bytes]) -> None:
    with Channel.open(channel.name, peer_gone="wait"):
        files = [new_file(channel, "send", f"{URL}-{number}") for number in range(3)]
        found = [peer.bridge.url for peer in item_of(channel).peers if peer.bridge]
        assert len(set(found)) == 2  # there is no peer for the third
        for file in files:
            file.close(remove=True)


def test_the_file_is_listed_only_after_the_channel_was_removed(channel: Channel[bytes]) -> None:
    file = new_file(channel)
    assert segments() == []
    file.close(remove=False)
    assert segments() == []  # the next bridge needs it
    assert len(bridges()) == 1
    channel.unlink()
    (found,) = segments()
    assert (found.state, found.recognized) == ("orphaned", True)
    with Channel.create(channel.name, peer_gone="wait") as later:
        assert [each.address for each in segments()] == [found.address]  # it is of another channel
        later.unlink()
    assert [error for _, error in inventory.collect([found])] == [None]
    assert bridges() == []


def test_the_file_of_a_bridge_that_begins_is_not_listed(channel: Channel[bytes]) -> None:
    file = BridgeFile("channel:not-yet", None, URL, "receive", 64)
    (facts,) = bridges()
    assert (facts.identity, file.fresh, facts.runs) == (NO_IDENTITY, True, True)
    assert segments() == []
    file.memory[4096:4100] = b"mine"
    file.attach(identity_of(channel))
    assert bytes(file.memory[4096:4100]) == bytes(4)
    file.memory[4096:4100] = b"mine"
    file.close(remove=False)
    again = BridgeFile("channel:not-yet", None, URL, "receive", 64)
    again.attach(identity_of(channel))
    assert (bytes(again.memory[4096:4100]), again.fresh) == (b"mine", False)
    again.close(remove=True)


@pytest.mark.parametrize("name", ["../shm/x", "a\0b", "", "no-such-channel"])
def test_a_file_with_another_name_in_it_is_a_leftover(name: str, dead: int) -> None:
    file = BridgeFile(f"channel:{name}", (1, 2, 3), URL, "send", 64)
    store_token(file, dead)
    file.memory.close()
    os.close(file._fd)
    assert [each.state for each in segments()] == ["orphaned"]


def test_a_file_without_the_content_is_not_recognized() -> None:
    path = Path(SHM, f"{BRIDGE_PREFIX}0123456789abcdef")
    path.write_bytes(b"my data")
    (found,) = segments()
    assert (found.state, found.recognized) == ("unknown", False)


def test_doctor_tells_stopped_from_killed(channel: Channel[bytes], dead: int) -> None:
    channel.send(b"x")
    file = new_file(channel)
    store_token(file, dead)
    assert [each.check for each in doctor.check([item_of(channel)])] == ["bridge-killed"]
    assert channel.receive() == b"x"
    assert list(doctor.check([item_of(channel)])) == []  # no message waits for it
    channel.send(b"x")
    file.close(remove=False)
    assert [each.killed for each in bridges()] == [False]
    assert list(doctor.check([item_of(channel)])) == []


@pytest.mark.usefixtures("root")
def test_doctor_gives_no_command_that_another_user_chose(
    channel: Channel[bytes], dead: int
) -> None:
    channel.send(b"x")
    file = new_file(channel, url="nats://evil/x")
    store_token(file, dead)
    os.chown(file.path, 65534, 65534)
    assert list(doctor.check([item_of(channel)])) == []
    file.close(remove=True)


def test_the_state_has_its_time(channel: Channel[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    file = new_file(channel)
    monkeypatch.setattr("time.time", lambda: 1000.0)
    file.store_state("waiting", "one")
    monkeypatch.setattr("time.time", lambda: 2000.0)
    file.store_state("waiting", "two")
    (facts,) = bridges()
    assert (facts.changed, facts.reason) == (1000, "two")
    assert facts.token == processes.token()
    file.close(remove=True)
