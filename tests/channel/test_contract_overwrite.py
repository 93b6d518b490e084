"""`overwrite=True`: a full channel drops its oldest message, but no loan and no view."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import Channel, WouldBlock
from ipckit._native import INLINE_MAX

if TYPE_CHECKING:
    from ipckit.testing import Namespace

LONG = (INLINE_MAX // 1024 + 1) * 1024  # bytes of a message in a block


def numbered(number: int, size: int) -> bytes:
    return number.to_bytes(4, "little") * (size // 4)


def number_of(found: bytes) -> int:
    number = int.from_bytes(found[:4], "little")
    assert found == numbered(number, len(found))
    return number


def test_overwrite_counts_the_dropped_messages(ns: Namespace) -> None:
    with Channel.create(ns.name(), capacity=3, overwrite=True) as channel:
        for number in range(10):
            channel.send(b"%d" % number, timeout=0)
        assert channel.stats().dropped == 7
        # `overwrite` is an option of the channel, not of a handle.
        with Channel.open(channel.name or "") as other:
            other.send(b"last")
        assert [channel.receive() for _ in range(3)] == [b"8", b"9", b"last"]
        assert channel.stats().dropped == 8
    with Channel.anonymous(size=100_000, capacity=100, overwrite=True) as channel:
        for number in range(20):
            channel.send(bytes([number]) * 30_000)
        assert channel.receive()[0] > 15


@pytest.mark.parametrize("size", [8, LONG])
def test_a_loan_takes_the_place_of_the_oldest_when_it_is_sent(size: int) -> None:
    with Channel.anonymous(capacity=3, overwrite=True) as channel:
        for number in range(3):
            channel.send(numbered(number, size))
        with channel.loan(size, timeout=0) as slot:
            assert channel.stats().dropped == 0
            slot.write(numbered(3, size))
            slot.send(timeout=0)
        assert [number_of(channel.receive()) for _ in range(3)] == [1, 2, 3]
        assert channel.stats().dropped == 1


@pytest.mark.parametrize("size", [8, LONG])
def test_a_cancelled_loan_drops_nothing(size: int) -> None:
    with Channel.anonymous(capacity=3, overwrite=True) as channel:
        for number in range(3):
            channel.send(numbered(number, size))
        with channel.loan(size, timeout=0):
            pass
        assert channel.stats().dropped == 0
        assert [number_of(channel.receive()) for _ in range(3)] == [0, 1, 2]


def test_a_loan_drops_the_oldest_if_it_needs_their_memory() -> None:
    frame = np.dtype((np.uint8, (LONG,)))
    with Channel.anonymous(frame, size=3 * LONG, overwrite=True) as channel:
        for number in range(3):
            channel.send(np.full(LONG, number, np.uint8), timeout=0)
        with channel.loan(timeout=0), channel.loan(timeout=0):
            assert channel.stats().dropped == 2
            assert channel.receive()[0] == 2
        assert channel.stats().bytes_used == 0


@pytest.mark.parametrize("size", [2000, LONG])
def test_loans_are_not_dropped(size: int) -> None:
    with Channel.anonymous(capacity=4, overwrite=True) as channel:
        slot = channel.loan(size)
        slot.write(numbered(77, size))
        for number in range(30):
            channel.send(numbered(number, 400))
            channel.send(numbered(number, LONG))
        slot.send()
        found = [number_of(channel.receive(timeout=0)) for _ in range(len(channel))]
        assert found == [28, 29, 29, 77]
        assert channel.stats().dropped == 57


def test_loans_do_not_count_as_messages() -> None:
    with Channel.anonymous(capacity=2, overwrite=True) as channel:
        slots = [channel.loan(size) for size in (8, LONG, LONG)]
        for number in range(5):
            channel.send(numbered(number, 8), timeout=0)
        assert channel.stats().dropped == 3
        for number, slot in enumerate(slots):
            slot.write(numbered(70 + number, slot.nbytes))
            slot.send(timeout=0)
        assert [number_of(channel.receive(timeout=0)) for _ in range(len(channel))] == [71, 72]


def test_a_pool_full_of_loans_and_views_is_full() -> None:
    frame = np.dtype((np.uint8, (LONG,)))
    with Channel.anonymous(frame, capacity=3, overwrite=True) as channel:
        channel.send(np.full(LONG, 9, np.uint8))
        view = channel.receive_view()
        slots = [channel.loan(timeout=0) for _ in range(3)]
        with pytest.raises(WouldBlock):
            channel.send(np.zeros(LONG, np.uint8), timeout=0)
        with pytest.raises(WouldBlock):
            channel.loan(timeout=0)
        slots[0].array[:] = 1
        slots[0].send(timeout=0)
        channel.send(np.full(LONG, 2, np.uint8), timeout=0)
        assert channel.stats().dropped == 1  # nothing but the message could be dropped
        assert channel.receive()[0] == 2
        assert view.array.min() == view.array.max() == 9
        view.release()
        channel.loan(timeout=0).cancel()


def test_views_are_not_overwritten() -> None:
    longs = LONG // 4
    with Channel.anonymous(np.dtype("u4"), capacity=4, size=8 * LONG, overwrite=True) as channel:
        for number in range(4):
            channel.send(np.full(longs, number, "u4"))
        with channel.receive_view() as view:
            for number in range(4, 100):
                channel.send(np.full(longs, number, "u4"), timeout=0)
            assert view.array.min() == view.array.max() == 0
            assert channel.stats().dropped == 99 - 4
        assert [channel.receive()[0] for _ in range(len(channel))] == [96, 97, 98, 99]


def test_nothing_is_dropped_if_that_would_give_no_memory() -> None:
    with Channel.anonymous(capacity=8, size=1 << 18, overwrite=True) as channel:
        longest = channel.longest  # half of the pool
        with channel.loan(longest), channel.loan(LONG) as slot:
            channel.send(b"first")
            channel.send(numbered(1, LONG))
            for _ in range(5):
                with pytest.raises(WouldBlock):
                    channel.send(bytes(longest), timeout=0)
                with pytest.raises(WouldBlock):
                    channel.loan(longest, timeout=0)
            assert (len(channel), channel.stats().dropped) == (2, 0)
            slot.cancel()
            channel.send(bytes(longest), timeout=0)
            assert (len(channel), channel.stats().dropped) == (1, 2)


def test_nothing_is_dropped_beside_a_view_if_that_would_give_no_memory() -> None:
    with Channel.anonymous(capacity=4, size=1 << 18, overwrite=True) as channel:
        longest = channel.longest
        channel.send(bytes(longest))
        channel.send(bytes(LONG))
        with channel.receive_view(), channel.receive_view():
            for number in range(4):
                channel.send(numbered(number, 2000))
            for _ in range(5):
                with pytest.raises(WouldBlock):
                    channel.send(bytes(longest), timeout=0)
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
