"""Tests of the journals of bridges between channels."""

from __future__ import annotations

import mmap
import random
from typing import TYPE_CHECKING

import pytest

from ipckit import InvalidArgument
from ipckit._bridge.journal import (
    PACKETS_MAX,
    RECEIVE_SIZE,
    SEND_SIZE,
    WINDOW,
    ReceiveJournal,
    SendJournal,
    Sent,
)
from ipckit._core.bridge_file import JOURNAL_START
from ipckit.bridge import BridgeOptions

if TYPE_CHECKING:
    from pathlib import Path

SENDER, OTHER = b"s" * 16, b"o" * 16


@pytest.fixture
def memory() -> mmap.mmap:
    return mmap.mmap(-1, JOURNAL_START + max(SEND_SIZE, RECEIVE_SIZE))


def test_a_sender_finds_what_was_on_the_way(memory: mmap.mmap) -> None:
    journal = SendJournal(memory)
    first, second = journal.start(10, 5), journal.start(15, 2)
    third = journal.start(17, 1)
    journal.end(second)
    again = SendJournal(memory)
    assert again.sender == journal.sender
    assert again.packets() == [Sent(first, 10, 5), Sent(third, 17, 1)]
    again.end(first)
    again.end(third)
    assert SendJournal(memory).packets() == []
    assert SendJournal(memory).start(20, 1) > third


def test_a_sender_has_room_for_all_packets(memory: mmap.mmap) -> None:
    journal = SendJournal(memory)
    numbers = [journal.start(each, 1) for each in range(PACKETS_MAX)]
    assert [each.number for each in SendJournal(memory).packets()] == numbers


def test_a_sender_does_not_continue_with_garbage(memory: mmap.mmap) -> None:
    memory[JOURNAL_START:] = b"\xff" * (len(memory) - JOURNAL_START)
    journal = SendJournal(memory)
    assert journal.packets() == []
    assert journal.start(1, 1) == 0


def test_a_receiver_remembers_a_window_of_packets(memory: mmap.mmap) -> None:
    journal, model = ReceiveJournal(memory), set[int]()
    chance, highest = random.Random(1), 0
    for _ in range(3000):
        number = max(0, highest + chance.choice((1, 1, 1, 2, -1, -50, 70, WINDOW // 3)))
        highest = max(highest, number)
        expected = None if number <= highest - WINDOW else number in model
        assert journal.has(SENDER, number) == expected
        journal.begin(SENDER, number, 1, 0)
        journal.end(SENDER, number)
        model.add(number)
    again = ReceiveJournal(memory)
    for number in range(highest - 300, highest + 3):
        assert again.has(SENDER, number) == (number in model)
    assert again.has(OTHER, highest) is False


def test_a_receiver_forgets_the_sender_that_was_silent_the_longest(memory: mmap.mmap) -> None:
    journal = ReceiveJournal(memory)
    senders = [bytes([each]) * 16 for each in range(1, 34)]
    for sender in senders:
        journal.begin(sender, 3, 1, 0)
        journal.end(sender, 3)
    assert [journal.has(sender, 3) for sender in senders] == [False] + 32 * [True]


@pytest.mark.parametrize("tail", [100, (1 << 24) - 2])
@pytest.mark.parametrize("done", [0, 3, 5])
def test_a_receiver_knows_how_much_of_a_packet_was_delivered(
    tail: int, done: int, memory: mmap.mmap
) -> None:
    journal = ReceiveJournal(memory)
    journal.note_senders(alone=True, senders_seen=4)
    journal.begin(SENDER, 7, 5, tail)
    again = ReceiveJournal(memory)
    assert again.recover((tail + done) % (1 << 24), 5) == 0
    assert (again.has(SENDER, 7), again.delivered(SENDER, 7)) == (done == 5, done % 5)
    assert ReceiveJournal(memory).delivered(SENDER, 7) == done % 5
    again.begin(SENDER, 7, 5 - done, tail)
    again.end(SENDER, 7)
    assert ReceiveJournal(memory).delivered(SENDER, 7) == 0


@pytest.mark.parametrize(("alone", "seen"), [(0, 5), (1, 6), (1, 3)])
def test_a_packet_comes_again_if_others_have_sent_too(
    alone: int, seen: int, memory: mmap.mmap
) -> None:
    journal = ReceiveJournal(memory)
    journal.note_senders(alone=bool(alone), senders_seen=4)
    journal.begin(SENDER, 7, 5, 100)
    again = ReceiveJournal(memory)
    assert again.recover(103, seen) == 3
    assert (again.has(SENDER, 7), again.delivered(SENDER, 7)) == (False, 0)
    assert ReceiveJournal(memory).recover(103, seen) == 0


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    path = tmp_path / "garbage.pem"
    path.write_text("garbage")
    for options in (BridgeOptions(tls_ca=str(path)), BridgeOptions(tls_cert=str(path))):
        with pytest.raises(InvalidArgument, match=r"garbage\.pem"):
            options.tls(wanted=True)
