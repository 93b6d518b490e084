"""docs/layout.md describes a topic's memory: this reader knows only what the page says."""

from __future__ import annotations

import os
import re
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import layout_page
import numpy as np
import pytest
from layout_checks import INVALID_SIZES, check_held, check_invalid
from layout_page import Section, table, up

from ipckit import Channel, Corrupt, Topic

TOPIC, CHANNEL = Section("Topic"), Section("Channel")
HEADER = CHANNEL.fields("Header") | TOPIC.fields("Header")
PEER, SUBSCRIBER, ENTRY = (
    CHANNEL.fields("Peers"),
    TOPIC.fields("Subscribers"),
    TOPIC.fields("Entries"),
)
BLOCK_KINDS = TOPIC.kinds("Blocks")
SHORT, LONG = b"short", bytes(range(256)) * 20
ITEM = np.dtype(("u1", (5000,)))


class Entry(NamedTuple):
    position: int
    length: int
    block: int | None


class Memory(layout_page.Memory):
    """The memory of a topic, read as the page says."""

    def __init__(self, topic: Topic[Any]) -> None:
        super().__init__(topic.memory_fd, HEADER, PEER, BLOCK_KINDS)
        capacity = self.field("capacity")
        self.slots = capacity + max(16, capacity // 4)
        starts = {part: start for part, start, _ in table(TOPIC.parts, "part")}
        self.subscribers, self.entries = int(starts["subscribers"]), int(starts["entries"])
        self.words = up(self.entries + 16 * self.slots, 64)
        self.readers = up(self.words + 8 * self.granules, 64)
        self.arena = up(self.readers + 8 * self.granules, 64)
        self.pool = up(self.arena + 32 * self.units, 4096)

    def subscriber(self, place: int) -> dict[str, int]:
        return self.numbers(self.subscribers + 128 * place, SUBSCRIBER)

    def entry(self, number: int) -> Entry:
        found = self.numbers(self.entries + 16 * (number % self.slots), ENTRY)
        block = found["shape"] >> 40
        return Entry(found["position"], found["shape"] % 2**40, block - 1 if block else None)

    def message(self, number: int) -> bytes:
        """The bytes of a message."""
        entry = self.entry(number)
        if entry.block is not None:
            return self.block(entry.block, entry.length)
        at = self.arena + 32 * (entry.position % self.units)
        return self.bytes[at : at + entry.length]

    def kept(self) -> range:
        """The numbers of the messages that are kept."""
        return range(self.field("head"), self.field("tail"))

    def readers_of(self, block: int) -> int:
        return self.number(self.readers + 8 * block, (0, 8))


def test_the_header_the_peers_and_the_subscribers() -> None:
    with (
        Topic.anonymous(str, capacity=3, history=2, size=1 << 20) as topic,
        Topic.from_fd(os.dup(topic.memory_fd), str) as other,
        other.subscribe(when_full="drop_oldest", depth=2) as subscription,
        closing(Memory(topic)) as memory,
    ):
        assert memory.raw("magic") == b"\0IPTOPC1"
        assert memory.field("version") == TOPIC.version
        assert memory.field("file_size") == len(memory.bytes)
        assert memory.pool + memory.granule * memory.granules == len(memory.bytes)
        assert (memory.field("capacity"), memory.field("item_size")) == (3, 0)
        assert memory.field("history") == topic.history == 2
        assert memory.field("longest") == topic.longest
        assert memory.raw("type").rstrip(b"\0") == b"str"
        for number in range(4):
            topic.publish(f"message {number}")
        assert memory.field("tail") == memory.field("senders_tail") == topic.stats().published == 4
        assert memory.field("members") == 1
        found = memory.subscriber(0)
        assert (found["drops"], found["closed"], found["depth"]) == (1, 0, 2)
        assert (found["cursor"], found["first"], found["received"]) == (0, 0, 0)
        assert subscription.receive() == "message 2"
        found = memory.subscriber(0)
        assert (found["cursor"], found["first"], found["received"]) == (3, 0, 1)
        assert subscription.lost == 3 - 0 - 1
        assert found["since"] >= memory.field("created")
        (peer,) = (place for place in range(3) if memory.name(place) == found["owner"])
        assert memory.peer(0)["sent"] == 4
        assert (memory.peer(0)["creator"], memory.peer(peer)["creator"]) == (1, 0)
        assert memory.field("roles_seen") == 3
        locks = (memory.field("send_lock"), found["lock"])
        assert locks == (0, 0)
        (unused,) = re.findall(r"A topic does not use ([^.]*),\s+which are 0", TOPIC.text)
        names = re.findall(r"`(\w+)`", unused)
        assert len(names) == 9
        assert {memory.field(name) for name in names} == {0}


def test_short_messages_lie_in_the_arena_and_long_ones_in_blocks() -> None:
    limit = re.search(r"if\s+there are at most (\d+) of them", TOPIC.text)
    assert limit
    with Topic.anonymous(capacity=8, history=8) as topic, closing(Memory(topic)) as memory:
        sent = [SHORT, LONG, bytes(40), b"", bytes(int(limit[1])), bytes(int(limit[1]) + 1), SHORT]
        for message in sent:
            topic.publish(message)
        assert memory.kept() == range(7)
        assert [memory.message(number) for number in memory.kept()] == sent
        entries = [memory.entry(number) for number in memory.kept()]
        assert [entry.block is not None for entry in entries] == [0, 1, 0, 0, 0, 1, 0]
        units = [entry.position for entry in entries]
        assert units[:4] == [0, 1, 1, 3]
        assert units[-1] - units[4] == int(limit[1]) // 32
        queued = {
            number: entry.block for number, entry in enumerate(entries) if entry.block is not None
        }
        found = memory.blocks()
        assert {found[block].holder: block for block in queued.values()} == queued
        assert {word.kind for word in found.values()} == {"QUEUED"}
        assert memory.field("small_number") == 6
        assert memory.raw("small")[: memory.field("small_length")] == SHORT


def test_a_batch_has_one_entry_for_each_message() -> None:
    numbers = np.arange(6, dtype="u4")
    with Topic.anonymous(np.dtype("u4"), history=6) as topic, closing(Memory(topic)) as memory:
        topic.publish_many(numbers)
        assert memory.kept() == range(6)
        assert b"".join(map(memory.message, memory.kept())) == numbers.tobytes()
        assert [memory.entry(number).position for number in memory.kept()] == list(range(6))


def test_no_message_is_split_by_the_end_of_the_arena() -> None:
    with (
        Topic.anonymous(size=8192, capacity=8) as topic,
        topic.subscribe() as subscription,
        closing(Memory(topic)) as memory,
    ):
        turns = set()
        for number in range(60):
            topic.publish(bytes(3000))
            entry = memory.entry(number)
            assert entry.position % memory.units + up(3000, 32) // 32 <= memory.units
            turns.add(entry.position // memory.units)
            assert len(subscription.receive()) == 3000
        assert len(turns) > 1


def test_the_readers_of_a_block() -> None:
    frame = np.zeros(ITEM.shape, ITEM.base)
    with (
        Topic.anonymous(ITEM, capacity=4) as topic,
        topic.subscribe() as first,
        topic.subscribe(when_full="drop_oldest", depth=1) as second,
        closing(Memory(topic)) as memory,
    ):
        assert (memory.granule, memory.field("item_size")) == (5056, 5000)
        topic.publish(frame)
        block = memory.entry(0).block
        assert block is not None
        assert memory.readers_of(block) == 0
        view, other = first.receive_view(), second.receive_view()
        assert memory.readers_of(block) == 0b11
        assert memory.blocks()[block] == ("QUEUED", 1, 0)
        freed = memory.field("freed")
        for _ in range(5):  # so that message 0 is dropped
            topic.publish(frame)
            first.receive()
        assert memory.field("head") > 0
        assert memory.blocks()[block] == ("READ", 1, 0)
        view.release()
        assert memory.readers_of(block) == 0b10
        other.release()
        assert memory.readers_of(block) == 0
        assert memory.field("freed") > freed
        with topic.loan():
            lent = [index for index, word in memory.blocks().items() if word.kind == "LENT"]
            assert len(lent) == 1
            names = {memory.name(place) for place in range(3)}
            assert memory.blocks()[lent[0]].holder in names


def test_a_subscriber_that_leaves_frees_its_place() -> None:
    with Topic.anonymous(capacity=2) as topic, closing(Memory(topic)) as memory:
        with topic.subscribe(), topic.subscribe():
            assert memory.field("members") == 0b11
            owners = {memory.subscriber(place)["owner"] for place in range(2)}
            assert len(owners) == 2
            assert 0 not in owners
        assert [memory.subscriber(place)["owner"] for place in range(2)] == [0, 0]
        with topic.subscribe():
            assert memory.subscriber(0)["owner"] != 0


def test_the_holder_of_the_lock_is_known() -> None:
    with (
        Topic.anonymous(ITEM) as topic,
        Topic.from_fd(os.dup(topic.memory_fd), ITEM) as other,
        closing(Memory(topic)) as memory,
    ):
        frame = np.zeros(ITEM.shape, ITEM.base)
        other.publish(frame)
        ready = topic.space_fileno()
        check_held(topic, memory, "send_lock", partial(topic.publish, frame), ready)


@pytest.mark.parametrize(("name", "value"), [*INVALID_SIZES, ("history", 2000)])
def test_an_invalid_size_is_not_a_topic(name: str, value: int) -> None:
    with Topic.anonymous() as topic, closing(Memory(topic)) as memory:
        check_invalid(topic, memory, name, value)


@pytest.mark.parametrize(("made", "opened"), [(Channel, Topic), (Topic, Channel)])
def test_a_topic_is_not_a_channel(made: Any, opened: Any) -> None:
    with made.anonymous() as handle:
        fd = os.dup(handle.memory_fd)
        with pytest.raises(Corrupt, match=f"not a {opened.__name__.lower()}"):
            opened.from_fd(fd)
        os.close(fd)
