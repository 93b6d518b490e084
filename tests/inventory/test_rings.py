"""Channels and topics in the inventory, which looks at them without opening them."""

from __future__ import annotations

import os
import random
import signal
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ipckit._native as native
from ipckit import AccessDenied, Channel, Corrupt, InvalidArgument, NotFound, Topic, inventory
from ipckit._core.files import SHM
from ipckit._core.processes import token
from ipckit._inventory import rings

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.inventory import IpcObject, Kind
    from ipckit.testing import Child, Namespace


def found(kind: Kind, name: str) -> IpcObject:
    [item] = [each for each in inventory.survey([kind]).objects if each.name == name]
    return item


def test_the_state_of_a_channel(ns: Namespace) -> None:
    name = ns.name()[1:]
    with Channel.create(name, capacity=10) as channel:
        channel.send_many([b"one", b"two", b"x" * 100_000])
        with channel.take():
            item = found("channel", name)
            [peer] = item.peers
            assert item.payload == "bytes"
            assert item.used.messages == 2
            assert item.used.bytes == channel.stats().bytes_used
            assert {key: item.details[key] for key in ("capacity", "taken", "tail", "head")} == {
                "capacity": 10,
                "taken": 1,
                "tail": 3,
                "head": 1,
            }
            assert (peer.pid, peer.sent, peer.received) == (os.getpid(), 3, 1)
            assert (peer.taken, peer.blocks) == (1, 1)
            assert peer.roles == ("creator", "sender", "receiver")
        assert not peer.locks
        assert not peer.stopped


def test_a_peer_that_names_a_process_without_the_file_is_left_out(ns: Namespace) -> None:
    name = ns.name()[1:]
    ours = token()
    other = os.getppid() << 42 | ours & ((1 << 42) - 1)
    with Channel.create(name, capacity=2):
        file = os.open(f"{SHM}/ipckit.{name}", os.O_RDWR)
        try:
            at = os.pread(file, 1 << 15, 0).index(ours.to_bytes(8, sys.byteorder))
            os.pwrite(file, other.to_bytes(8, sys.byteorder), at)
            assert found("channel", name).peers == ()
            os.pwrite(file, ours.to_bytes(8, sys.byteorder), at)
            assert [each.pid for each in found("channel", name).peers] == [os.getpid()]
        finally:
            os.close(file)


def test_messages_stay_in_the_channel(ns: Namespace) -> None:
    name = ns.name()[1:]
    sent = [b"", b"short", b"y" * 5_000, b"z" * 70_000, b"last"]
    with Channel.create(name, capacity=10) as channel:
        channel.send_many([b"returned", *sent])
        delivery = channel.take()
        delivery.requeue()
        item = found("channel", name)
        stored = inventory.messages(item)
        assert [each.data for each in stored] == [b"returned", *sent]
        assert [each.returned for each in stored] == [1, 0, 0, 0, 0, 0]
        assert [each.data for each in inventory.messages(item, 2)] == [b"returned", b""]
        assert inventory.messages(item, 0) == []
        assert len(channel) == 6
        assert [channel.receive(timeout=0) for _ in range(6)] == [b"returned", *sent]
        assert inventory.messages(item) == []


def test_records_of_several_messages(ns: Namespace) -> None:
    name = ns.name()[1:]
    numbers = np.arange(40, dtype="i8")
    with Channel.create(name, np.dtype("i8"), capacity=64) as channel:
        for _ in range(5):  # so that the ring wraps
            channel.send_many(numbers)
            channel.receive_many(30)
            left = [
                np.frombuffer(each.data, "i8")[0]
                for each in inventory.messages(found("channel", name), 100)
            ]
            assert left == list(range(30, 40))
            channel.receive_many(10)


def test_a_peer_that_waits(ns: Namespace, begin: Callable[..., Any]) -> None:
    name = ns.name()[1:]
    with Channel.create(name) as channel:
        call = begin(channel.receive, timeout=60)
        deadline = time.monotonic() + 30
        while not (peer := found("channel", name).peers[0]).waits:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert peer.waits == "message"
        assert peer.waiting is not None
        assert 0 <= peer.waiting < 30
        channel.send(b"x")
        assert call.result() == b"x"
        assert found("channel", name).peers[0].waits == ""
        assert found("channel", name).peers[0].waiting is None


def test_a_wait_that_began_in_the_future_has_no_length() -> None:
    def noted(second: int) -> int:
        return native.POLL_ITEMS | (second << native.WAITS_BITS) & 0xFFFFFFFF

    assert rings._waiting(noted(100), 103) == 3
    assert rings._waiting(noted(103), 100) == 0  # of another time namespace
    assert rings._waiting(noted(2**30 - 2), 2**30 + 1) == 3


def test_the_state_of_a_topic(ns: Namespace) -> None:
    name = ns.name()[1:]
    with Topic.create(name, np.dtype("f8"), history=2, capacity=16) as topic:
        reader = topic.subscribe()
        lossy = topic.subscribe(depth=2, when_full="drop_oldest")
        for count in range(5):
            topic.publish(np.arange(count, dtype="f8"))
        topic.publish(np.zeros(10_000))
        reader.receive()
        item = found("topic", name)
        assert item.payload == "array of float64"
        assert item.used.messages == 6
        assert item.used.bytes == topic.stats().bytes_used
        assert item.details["published"] == 6
        assert item.details["subscribers"] == 2
        assert item.details["unread"] == 5
        assert item.details["lost"] == 4
        rows = {peer.policy: peer for peer in item.peers}
        assert (rows["wait"].unread, rows["wait"].lost, rows["wait"].received) == (5, 0, 1)
        assert (rows["drop_oldest"].unread, rows["drop_oldest"].lost) == (2, 4)
        assert (rows["wait"].depth, rows["drop_oldest"].depth, rows[""].depth) == (16, 2, None)
        assert rows[""].roles == ("creator", "publisher")
        sizes = [len(each.data) for each in inventory.messages(item, 3)]
        assert sizes == [24, 32, 80_000]
        assert len(inventory.messages(item, 100)) == 6
        lossy.close()
        reader.close()


def test_without_a_name() -> None:
    with Channel.anonymous(str) as channel, Topic.anonymous() as topic:
        channel.send("one")
        topic.publish(b"two")
        found = inventory.survey(["memfd"]).objects  # of every process of the machine
        seen = {x.name: x for x in found if os.getpid() in {each.pid for each in x.holders}}
        for name, payload, data in (
            ("ipckit-channel", "str", b"one"),
            ("ipckit-topic", "bytes", b"two"),
        ):
            item = seen[name]
            assert (item.payload, item.used.messages) == (payload, 1)
            assert [peer.pid for peer in item.peers] == [os.getpid()]
            assert [each.data for each in inventory.messages(item)] == [data]


def test_messages_while_others_send_and_receive(ns: Namespace) -> None:
    """Each list that is seen is a piece of what was sent, in order and whole."""
    name = ns.name()[1:]
    ended = threading.Event()

    def numbered(number: int) -> bytes:
        return struct.pack("<q", number) + bytes([number % 251]) * random.choice((1, 100, 9_000))

    with (
        Channel.create(name, capacity=50, size=1 << 20) as channel,
        Channel.open(name) as other,
    ):
        item = found("channel", name)

        def send() -> None:
            number = 0
            while not ended.is_set():
                channel.send(numbered(number), timeout=60)
                number += 1
            channel.send(b"end", timeout=60)

        def receive() -> None:
            while other.receive(timeout=60) != b"end":
                pass

        threads = [threading.Thread(target=each) for each in (send, receive)]
        for each in threads:
            each.start()
        seen = 0
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            data = [each.data for each in inventory.messages(item, 50)]
            numbers = [struct.unpack_from("<q", each)[0] for each in data]
            assert numbers == sorted(set(numbers))
            for number, each in zip(numbers, data, strict=True):
                assert each[8:] == bytes([number % 251]) * (len(each) - 8)
            seen += len(data)
        ended.set()
        for each in threads:
            each.join(60)
    assert seen


def test_dead_peers_are_left_out(ns: Namespace, spawn: Callable[..., Child]) -> None:
    name = ns.name()[1:]
    with Channel.create(name) as channel:
        channel.send(b"x")
        child = spawn(
            """
            from ipckit import Channel
            from ipckit.testing import step
            channel = Channel.open(args[0])
            channel.receive()
            step.tell("received")
            step.hear()
            """,
            name,
        )
        child.expect("received")
        assert [peer.pid for peer in found("channel", name).peers] == [os.getpid(), child.pid]
        os.kill(child.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 30
        while not found("channel", name).peers[1].stopped:
            assert time.monotonic() < deadline
        child.kill()
        assert [peer.pid for peer in found("channel", name).peers] == [os.getpid()]


def looked(fd: int, *, topic: bool) -> str:
    """Look at a file, and return how that ended."""
    try:
        native.ring_look(fd, topic)
        return f"{len(native.ring_messages(fd, topic, 1000))} messages"
    except OSError as exc:
        return os.strerror(exc.errno or 0)


@pytest.mark.parametrize("kind", ["channel", "topic"])
def test_a_damaged_file(ns: Namespace, kind: Kind) -> None:
    name = ns.name()[1:]
    make: Any = Channel if kind == "channel" else Topic
    generator = random.Random(5)
    with make.create(name, capacity=64, size=1 << 16) as handle:
        if kind == "channel":
            handle.send_many([b"x" * size for size in (1, 200, 9_000)])
        else:
            for size in (1, 200, 9_000):
                handle.publish(b"x" * size)
        item = found(kind, name)
        path = Path(SHM, item.file_name)
        whole = path.read_bytes()
        outcomes: set[str] = set()
        with path.open("r+b", buffering=0) as file:
            for turn in range(200):
                data = bytearray(whole)
                for _ in range(generator.randrange(1, 8)):
                    high = generator.choice((1024, 20480, len(data)))
                    data[generator.randrange(high)] = generator.randrange(256)
                os.pwrite(file.fileno(), data, 0)
                size = len(data) if turn % 10 else generator.randrange(len(data))
                os.truncate(file.fileno(), size)
                outcomes |= {looked(file.fileno(), topic=kind == "topic")}
        path.write_bytes(whole)
        assert "Invalid argument" in outcomes
        assert len(outcomes) > 1
        path.write_bytes(whole[:512])
        assert found(kind, name).unseen == (f"its messages and peers: the file is not a {kind}",)
        with pytest.raises(Corrupt):
            inventory.messages(item)
        path.write_bytes(whole)


def test_what_is_no_channel(ns: Namespace, tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    for topic in (False, True):
        with pytest.raises(OSError, match="Invalid argument"):
            native.ring_look(directory, topic)
        with pytest.raises(OSError, match="Bad file descriptor"):
            native.ring_messages(2**20, topic, 1)
    os.close(directory)
    name = ns.name()[1:]
    with Channel.create(name):
        item = found("channel", name)
        with pytest.raises(InvalidArgument, match="0 or more"):
            inventory.messages(item, -1)
    with pytest.raises(NotFound):
        inventory.messages(item)
    with pytest.raises(InvalidArgument, match="only the messages of channels and topics"):
        inventory.messages(inventory.IpcObject("memfd", "", None, 0, 0, 0, "", "", 0, 0))


@pytest.mark.usefixtures("root")
def test_another_user_without_permission(ns: Namespace, spawn: Callable[..., Child]) -> None:
    name = ns.name()[1:]
    with Channel.create(name) as channel:
        channel.send(b"secret")
        result = spawn(
            """
            import os
            from ipckit import inventory
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
            [item] = [x for x in inventory.survey(["channel"]).objects if x.name == args[0]]
            try:
                inventory.messages(item)
            except Exception as exc:
                error = type(exc).__name__
            result = [item.used.messages, item.payload, list(item.unseen), error]
            """,
            name,
        ).result
    assert result[:2] == [None, ""]
    assert "its messages and peers, because it belongs to another user" in result[2]
    assert result[3] == AccessDenied.__name__


def test_holes_that_a_header_calls_a_message(ns: Namespace, tmp_path: Path) -> None:
    name, copy, topic = ns.name()[1:], tmp_path / "sparse", False
    with Channel.create(name, capacity=1, size=1 << 25) as channel:
        with channel.loan(1 << 23) as loan:
            loan.send(1 << 23)
        assert len(inventory.messages(found("channel", name))[0].data) == 1 << 23
        data = Path(SHM, found("channel", name).file_name).read_bytes()
        with copy.open("w+b", buffering=0) as file:
            file.truncate(len(data))
            for at in range(0, len(data), 4096):
                if any(data[at : at + 4096]):
                    os.pwrite(file.fileno(), data[at : at + 4096], at)
            with pytest.raises(OSError, match="Invalid argument"):
                native.ring_messages(file.fileno(), topic, 1)
