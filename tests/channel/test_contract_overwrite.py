"""`overwrite=True`: a full channel drops its oldest message, but no loan and no view."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from ipckit import Channel, WouldBlock


def numbered(number: int, size: int) -> bytes:
    return number.to_bytes(4, "little") * (size // 4)


def number_of(found: bytes) -> int:
    number = int.from_bytes(found[:4], "little")
    assert found == numbered(number, len(found))
    return number


def test_a_loan_takes_the_place_of_the_oldest() -> None:
    with Channel.anonymous(capacity=3, overwrite=True) as channel:
        for number in range(3):
            channel.send(numbered(number, 8))
        with channel.loan(8, timeout=0) as slot:
            assert channel.stats().dropped == 1
            slot.write(numbered(3, 8))
            slot.send()
        assert [number_of(channel.receive()) for _ in range(3)] == [1, 2, 3]
        assert channel.stats().dropped == 1


def test_a_cancelled_loan_leaves_the_other_messages() -> None:
    with Channel.anonymous(capacity=3, overwrite=True) as channel:
        for number in range(3):
            channel.send(numbered(number, 8))
        with channel.loan(8):
            pass
        channel.send(numbered(3, 8))
        assert channel.stats().dropped == 1
        assert [number_of(channel.receive()) for _ in range(3)] == [1, 2, 3]


def test_loans_are_not_dropped() -> None:
    with Channel.anonymous(capacity=4, overwrite=True) as channel:
        slot = channel.loan(2000)
        slot.write(numbered(77, 2000))
        for number in range(30):
            channel.send(numbered(number, 400))
        slot.send()
        found = [number_of(channel.receive(timeout=0)) for _ in range(len(channel))]
        assert found == [27, 28, 29, 77]
        assert channel.stats().dropped == 27


def test_a_channel_full_of_loans_is_full() -> None:
    with Channel.anonymous(capacity=2, overwrite=True) as channel:
        slots = [channel.loan(8), channel.loan(8)]
        with pytest.raises(WouldBlock):
            channel.send(b"more", timeout=0)
        slots[1].write(numbered(1, 8))
        slots[1].send()
        channel.send(numbered(2, 8), timeout=0)
        assert channel.stats().dropped == 1
        slots[0].write(numbered(0, 8))
        slots[0].send()
        assert [number_of(channel.receive(timeout=0)) for _ in range(len(channel))] == [2, 0]


def test_views_are_not_overwritten() -> None:
    with Channel.anonymous(np.dtype("u4"), capacity=20, size=40_000, overwrite=True) as channel:
        for number in range(4):
            channel.send(np.full(1000, number, "u4"))
        with channel.receive_view() as view:
            sent = 4
            with suppress(WouldBlock):
                while sent < 40:
                    channel.send(np.full(1000, sent, "u4"), timeout=0)
                    sent += 1
            assert sent < 12
            assert view.array.min() == view.array.max() == 0
            assert channel.stats().dropped == 0  # dropping would not help: the view stays
            assert len(channel) == sent - 1
        channel.send(np.full(1000, sent, "u4"), timeout=0)
        channel.send(np.full(1000, sent + 1, "u4"), timeout=0)
        found = [channel.receive()[0] for _ in range(len(channel))]
        assert found == list(range(sent + 2 - len(found), sent + 2))
        assert channel.stats().dropped == sent + 1 - len(found)


def test_nothing_is_dropped_if_a_loan_is_in_the_way() -> None:
    with Channel.anonymous(capacity=8, size=10_000, overwrite=True) as channel:
        channel.send(b"first")
        with channel.loan(4500):
            channel.send(b"second")
            with channel.loan(4500), pytest.raises(WouldBlock):
                channel.loan(4500, timeout=0)
            assert len(channel) == 2
        assert channel.stats().dropped == 0


def test_nothing_is_dropped_if_there_is_no_room_anyway() -> None:
    with Channel.anonymous(capacity=4, size=40_000, overwrite=True) as channel:
        channel.send(bytes(15_000))
        with channel.receive_view():
            for number in range(4):
                channel.send(numbered(number, 2000))
            for _ in range(5):
                with pytest.raises(WouldBlock):
                    channel.send(bytes(20_000), timeout=0)
            assert channel.stats().dropped == 0
            channel.send(numbered(4, 2000), timeout=0)  # drops the oldest message
        assert [number_of(channel.receive()) for _ in range(4)] == [1, 2, 3, 4]


@pytest.mark.timeout(20)
def test_many_messages_beside_a_loan_take_no_time() -> None:
    with Channel.anonymous(capacity=300_000, size=20_000_000, overwrite=True) as channel:
        while channel.stats().dropped == 0:
            for _ in range(1000):
                channel.send(bytes(100))
        channel.receive()
        with channel.loan(8):
            channel.send(bytes(3_000_000), timeout=0)
            for _ in range(1000):
                channel.send(bytes(100), timeout=0)
        assert channel.receive() == bytes(100)


@pytest.mark.parametrize("seed", range(6))
def test_each_is_received_or_counted(seed: int) -> None:
    dice = random.Random(seed)
    size = 3_000_000 if seed % 2 else 30_000  # with and without a wrap around
    most = 200_000 if seed % 2 else 4_000
    loans: list[tuple[int, Any]] = []
    sent: list[int] = []
    received: list[int] = []
    numbers = iter(range(1_000_000))
    with Channel.anonymous(capacity=5, size=size, overwrite=True) as channel:
        for _ in range(600):
            length = dice.randrange(1, most // 4) * 4
            match dice.randrange(6):
                case 0 | 1:
                    number = next(numbers)
                    try:
                        channel.send(numbered(number, length), timeout=0)
                        sent.append(number)
                    except WouldBlock:
                        assert loans  # nothing but loans was in the way
                case 2 if len(loans) < 3:
                    number = next(numbers)
                    try:
                        slot = channel.loan(length, timeout=0)
                        slot.write(numbered(number, length))
                        loans.append((number, slot))
                    except WouldBlock:
                        assert loans
                case 3 if loans:
                    number, slot = loans.pop(dice.randrange(len(loans)))
                    if dice.random() < 0.8:
                        slot.send()
                        sent.append(number)
                    else:
                        slot.cancel()
                case _ if len(channel):
                    received.append(number_of(channel.receive(timeout=0)))
        for _, slot in loans:
            slot.cancel()
        received += [number_of(channel.receive(timeout=0)) for _ in range(len(channel))]
        order = {number: place for place, number in enumerate(sent)}
        places = [order[number] for number in received]
        assert places == sorted(set(places))
        assert channel.stats().dropped == len(sent) - len(received)
        assert channel.stats().dropped > 0
