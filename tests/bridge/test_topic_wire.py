"""Tests of the protocol between bridges of topics, and of the receiving bridge's journal."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import pytest

from ipckit import Corrupt
from ipckit._bridge.payload_type import PayloadType
from ipckit._bridge.topic_journal import ROWS, TOPIC_SIZE, TopicJournal
from ipckit._bridge.topic_wire import (
    BODY_AT,
    Head,
    Hello,
    Position,
    Status,
    head_of,
    is_packet,
    packet_of,
    packet_of_records,
)
from ipckit._bridge.wire import unpack
from ipckit._core.bridge_file import JOURNAL_START

if TYPE_CHECKING:
    from collections.abc import Iterator

A, B = b"a" * 16, b"b" * 16


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, JOURNAL_START + TOPIC_SIZE) as memory:
        yield memory


def test_a_hello_is_decoded_as_it_was() -> None:
    for hello in (
        Hello(A, 64, 1 << 23, {}),
        Hello(A, 1, 1, {A: Position(5, 2**60), B: None}, ask=True, again=True),
        Hello(B, 1, 1, {}, bye=True),
    ):
        assert Hello.decode(hello.encode()) == hello


def test_a_status_is_decoded_as_it_was() -> None:
    kind = PayloadType(0x8000_0000_0000_0001, "struct Price { int cents; }", 4, "big")
    shape = {"capacity": 64, "history": 16, "size": 4096}
    for status in (
        Status(A, kind, sends=True, first=2**60, sent=2**60 + 1, **shape),
        Status(A, kind, sends=False, first=0, sent=0, **shape, problem="it has 64 subscribers"),
    ):
        data = status.encode()
        assert not is_packet(data)
        assert Status.decode(data, "here") == status


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"format": 1}', b'{"format": 2}'])
def test_what_is_neither_a_hello_nor_a_status_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        Hello.decode(data)
    with pytest.raises(Corrupt):
        Status.decode(data, "here")


def test_a_packet_has_its_range_and_its_messages() -> None:
    messages = [b"one", b"", b"three"]
    data = b"".join(packet_of(A, 123, 130, messages))  # a status begins with {, which is 123
    assert is_packet(data)
    assert head_of(data) == Head(A, 123, 130, 3)
    assert unpack(data, BODY_AT).messages() == messages
    data = b"".join(packet_of_records(B, 5, 8, 3, memoryview(b"aabbcc")))
    assert head_of(data) == Head(B, 5, 8, 3)
    assert unpack(data, BODY_AT).messages() == [b"aa", b"bb", b"cc"]


def test_what_is_not_a_packet_is_refused() -> None:
    data = b"".join(packet_of(A, 7, 8, [b"one"]))
    for wrong in (data[:20], bytes(100), b"".join(packet_of(A, 7, 8, [b"one", b"two"]))):
        with pytest.raises(Corrupt):
            head_of(wrong)
    with pytest.raises(Corrupt):
        unpack(data[:-1], BODY_AT)


def test_the_journal_knows_how_far_the_bridge_was(memory: mmap.mmap) -> None:
    journal = TopicJournal(memory)
    assert journal.recover(0, alone=True) == ({}, 0)
    journal.add(A, 10)
    journal.add(B, 0)
    journal.begin(A, 15, 5, 100)
    journal.end(A, 15)
    assert TopicJournal(memory).recover(105, alone=True) == ({A: 15, B: 0}, 0)


@pytest.mark.parametrize(("tail", "have"), [(100, 10), (101, 14), (103, 16), (104, 17)])
def test_a_bridge_that_was_killed_while_it_published(
    memory: mmap.mmap, tail: int, have: int
) -> None:
    journal = TopicJournal(memory)
    journal.add(A, 10)
    journal.begin(A, 17, 4, 100)  # the messages 13 to 16; 10 to 12 are lost
    assert TopicJournal(memory).recover(tail, alone=True) == ({A: have}, 0)
    assert TopicJournal(memory).recover(200, alone=True) == ({A: have}, 0)


def test_others_that_publish_make_it_uncertain(memory: mmap.mmap) -> None:
    journal = TopicJournal(memory)
    journal.add(A, 10)
    journal.begin(A, 14, 4, 100)
    assert TopicJournal(memory).recover(102, alone=False) == ({A: 12}, 4)


def test_the_oldest_row_of_the_journal_is_used_again(memory: mmap.mmap) -> None:
    journal = TopicJournal(memory)
    topics = [bytes([number]) * 16 for number in range(1, ROWS + 3)]
    for number, topic in enumerate(topics):
        journal.add(topic, number)
    journal.end(topics[0], 99)  # it has no row any more
    found, _ = TopicJournal(memory).recover(0, alone=True)
    assert found == {topic: number for number, topic in enumerate(topics) if number >= 2}
