"""docs/layout.md describes a channel's memory: this reader knows only what the page says."""

from __future__ import annotations

import os
import re
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import layout_page
import numpy as np
import pytest
from layout_checks import INVALID_SIZES, check_held, check_invalid
from layout_page import Section, up

from ipckit import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANNEL = Section("Channel")
HEADER, PEER = CHANNEL.fields("Header"), CHANNEL.fields("Peers")
RECORD, DELIVERY = CHANNEL.fields("Records"), CHANNEL.fields("Blocks")
RECORD_KINDS, BLOCK_KINDS = CHANNEL.kinds("Records"), CHANNEL.kinds("Blocks")
SHORT, LONG = b"short", bytes(range(256)) * 20
ITEM = np.dtype(("u1", (5000,)))


class Mark(NamedTuple):
    """`head` or `tail`: a position and a count."""

    position: int
    count: int


class Record(NamedTuple):
    kind: str
    first: int
    length: int
    items: int
    payload: bytes
    units: int


class Memory(layout_page.Memory):
    """The memory of a channel, read as the page says."""

    def __init__(self, channel: Channel[Any]) -> None:
        super().__init__(channel.memory_fd, HEADER, PEER, BLOCK_KINDS)
        self.words = up(20480 + 32 * self.units, 64)
        self.deliveries = up(self.words + 8 * self.granules, 64)
        self.pool = up(self.deliveries + 32 * self.granules, 4096)

    def mark(self, name: str) -> Mark:
        return Mark(self.field(name) >> 24, self.field(name) % 2**24)

    def record(self, position: int) -> Record:
        at = 20480 + 32 * (position % self.units)
        kind = RECORD_KINDS[self.number(at, RECORD["kind"])]
        shape = self.number(at, RECORD["shape"])
        length, items = shape % 2**40, shape >> 40
        payload = self.bytes[at + 16 : at + 16 + length] if kind == "DATA" else b""
        units = {"PAD": shape, "DATA": up(16 + length, 32) // 32, "BLOCK": 1}[kind]
        first = self.number(at, RECORD["first"])
        return Record(kind, first, length, items, payload, units)

    def records(self) -> Iterator[tuple[int, Record]]:
        """The records that wait, with their positions."""
        position = self.mark("head").position
        while position != self.mark("tail").position:
            record = self.record(position)
            yield position, record
            position = (position + record.units) % (2 * self.units)

    def delivery(self, index: int) -> dict[str, int]:
        return self.numbers(self.deliveries + 32 * index, DELIVERY)


def test_the_header_and_the_peers() -> None:
    with (
        Channel.anonymous(str, capacity=3, size=1 << 20) as channel,
        Channel.from_fd(os.dup(channel.memory_fd), str) as other,
        closing(Memory(channel)) as memory,
    ):
        assert memory.raw("magic") == b"\0IPCHNL1"
        assert memory.field("version") == CHANNEL.version
        assert memory.field("file_size") == len(memory.bytes)
        assert memory.pool + memory.granule * memory.granules == len(memory.bytes)
        assert (memory.field("capacity"), memory.field("item_size")) == (3, 0)
        assert memory.field("longest") == channel.longest
        assert memory.raw("type").rstrip(b"\0") == b"str"
        channel.send("amy")
        other.receive()
        assert memory.field("roles_seen") == 3
        assert memory.field("peers_high") == 1
        assert [memory.peer(index)["joined"] for index in range(3)] == [1, 1, 0]
        mine, others = memory.peer(0), memory.peer(1)
        assert (mine["roles"], mine["creator"], mine["sent"]) == (1, 1, 1)
        assert (others["roles"], others["creator"], others["received"]) == (2, 0, 1)
        assert mine["pid"] == others["pid"] == os.getpid()
        assert mine["since"] >= memory.field("created")
        locks = ("send_lock", "receive_lock", "pool_lock")
        assert [memory.field(name) for name in locks] == [0, 0, 0]
        assert memory.mark("head") == memory.mark("tail")
        assert memory.mark("tail").count == 1


def test_short_messages_lie_in_records_and_long_ones_in_blocks() -> None:
    with Channel.anonymous() as channel, closing(Memory(channel)) as memory:
        channel.send(SHORT)
        assert memory.field("small_number") == 0
        assert memory.raw("small")[: memory.field("small_length")] == SHORT
        channel.send(LONG)
        assert memory.field("small_number") == 2**32 - 1
        (_, short), (position, long) = memory.records()
        assert short == ("DATA", 0, len(SHORT), 1, SHORT, 1)
        assert (long.kind, long.length, long.items) == ("BLOCK", len(LONG), 1)
        assert memory.blocks() == {long.first: ("QUEUED", 2, position)}
        assert memory.block(long.first, len(LONG)) == LONG
        assert memory.field("next_granule") == long.first + 2
        assert memory.field("senders_tail") == memory.field("tail")
        assert len(channel) == memory.mark("tail").count - memory.mark("head").count == 2

        assert channel.receive() == SHORT
        assert [found for found, _ in memory.records()] == [position]
        assert channel.receive() == LONG
        assert memory.blocks() == {}
        assert memory.field("freed") == 1

        limit = re.search(r"A message of at most (\d+) bytes is in its record", CHANNEL.text)
        assert limit
        for length in (int(limit[1]), int(limit[1]) + 1):
            channel.send(bytes(length))
        assert [record.kind for _, record in memory.records()] == ["DATA", "BLOCK"]


def test_a_batch_is_one_record() -> None:
    numbers = np.arange(6, dtype="u4")
    with Channel.anonymous(np.dtype("u4")) as channel, closing(Memory(channel)) as memory:
        channel.send_many(numbers)
        channel.receive_many(2)
        ((_, record),) = memory.records()
        assert record == ("DATA", 0, 24, 6, numbers.tobytes(), 2)
        assert memory.mark("head").count - record.first == 2


def test_a_pad_ends_the_arena() -> None:
    with Channel.anonymous(size=8192, capacity=50) as channel, closing(Memory(channel)) as memory:
        found: set[str] = set()
        for _ in range(20):
            channel.send(bytes(3000))
            found |= {record.kind for _, record in memory.records()}
            channel.receive()
        assert found == {"PAD", "DATA"}
        assert memory.mark("head").count == 20


def test_the_kinds_of_blocks() -> None:
    frame = np.zeros(ITEM.shape, ITEM.base)
    with Channel.anonymous(ITEM, capacity=9) as channel, closing(Memory(channel)) as memory:
        assert (memory.granule, memory.field("item_size")) == (5056, 5000)
        holder = memory.name(0)
        for _ in range(3):
            channel.send(frame)
        view, taken, again, loan = (
            channel.receive_view(),
            channel.take(),
            channel.take(),
            channel.loan(),
        )
        channel.send(frame)
        ((position, record),) = memory.records()
        assert memory.blocks() == {
            0: ("READ", 1, holder),
            1: ("TAKEN", 1, holder),
            2: ("TAKEN", 1, holder),
            3: ("LENT", 1, holder),
            4: ("QUEUED", 1, position),
        }
        assert record.first == 4
        assert memory.peer(0)["taken"] == channel.stats().taken == memory.field("takes") == 2

        again.requeue()
        assert memory.blocks()[2] == ("RETURNED", 1, 0)
        assert memory.field("returned") == 1
        assert memory.field("returned_seen") == 0
        delivery = memory.delivery(2)
        assert (delivery["length"], delivery["number"], delivery["redelivered"]) == (5000, 1, 1)
        assert channel.take().redelivered == 1

        loan.cancel()
        view.release()
        taken.ack()
        assert set(memory.blocks()) == {2, 4}
        assert memory.peer(0)["taken"] == 0


def test_a_short_message_that_is_taken_moves_to_a_block() -> None:
    with Channel.anonymous() as channel, closing(Memory(channel)) as memory:
        channel.send(SHORT)
        head = memory.field("head")
        with channel.take() as delivery:
            ((index, word),) = memory.blocks().items()
            assert word == ("TAKEN", 1, memory.name(0))
            assert memory.block(index, len(SHORT)) == SHORT == bytes(delivery)
            assert memory.delivery(index) == {
                "length": len(SHORT),
                "number": 0,
                "redelivered": 0,
                "head": head,
            }


def test_a_dropped_message_is_counted() -> None:
    with (
        Channel.anonymous(capacity=1, overwrite=True) as channel,
        closing(Memory(channel)) as memory,
    ):
        channel.send(LONG)
        channel.send(SHORT)
        assert memory.field("flags") == 1
        assert memory.field("dropped") == channel.stats().dropped == 1
        assert memory.blocks() == {}


@pytest.mark.parametrize("lock", ["send_lock", "receive_lock", "pool_lock"])
def test_the_holder_of_each_lock_is_known(lock: str) -> None:
    with (
        Channel.anonymous(ITEM) as channel,
        Channel.from_fd(os.dup(channel.memory_fd), ITEM),
        closing(Memory(channel)) as memory,
    ):
        frame = np.zeros(ITEM.shape, ITEM.base)
        channel.send(frame)
        ready = channel.fileno() if lock == "receive_lock" else channel.space_fileno()
        call = channel.receive if lock == "receive_lock" else partial(channel.send, frame)
        check_held(channel, memory, lock, call, ready)


@pytest.mark.parametrize(("name", "value"), INVALID_SIZES)
def test_an_invalid_size_is_not_a_channel(name: str, value: int) -> None:
    with Channel.anonymous() as channel, closing(Memory(channel)) as memory:
        check_invalid(channel, memory, name, value)
