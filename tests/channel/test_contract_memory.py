"""How much memory a channel takes, and that all of it can be used."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ipckit import Channel, LimitReached, WouldBlock
from ipckit._channel.shape import shape_for
from ipckit.codec import codec_for

if TYPE_CHECKING:
    from ipckit.testing import Namespace


@pytest.mark.parametrize("seed", range(4))
def test_a_channel_has_room_for_its_capacity_at_any_position(seed: int) -> None:
    dice = random.Random(seed)
    frame = np.dtype((np.uint8, (90_000,)))
    capacity = 16
    with Channel.anonymous(frame, capacity=capacity) as channel:
        sent = received = 0
        for _ in range(60):
            for _ in range(dice.randrange(30)):
                if dice.random() < 0.6 and sent - received < capacity:
                    channel.send(np.full(90_000, sent % 256, np.uint8))
                    sent += 1
                elif sent > received:
                    assert channel.receive()[0] == received % 256
                    received += 1
            if dice.random() < 0.5:
                while received < sent:
                    assert channel.receive()[-1] == received % 256
                    received += 1
            while sent - received < capacity:
                channel.send(np.full(90_000, sent % 256, np.uint8), timeout=0)
                sent += 1
            with pytest.raises(WouldBlock):
                channel.send(np.zeros(90_000, np.uint8), timeout=0)
            while received < sent:
                assert channel.receive()[5] == received % 256
                received += 1


def test_a_long_message_fits_after_short_ones() -> None:
    with Channel.anonymous(size=4 << 20) as channel:
        for size in (100, 300_000, 600_000, 900_000, 2_000_000, 1_000):
            for _ in range(20):
                channel.send(b"x" * size, timeout=0)
                assert len(channel.receive()) == size


@pytest.mark.parametrize(
    ("item", "capacity"), [(1, 1024), (65_000, 1024), (65_536, 1021), (1080 * 1920 * 3, 9)]
)
def test_a_channel_takes_at_most_64_mib_by_default(ns: Namespace, item: int, capacity: int) -> None:
    kind = np.dtype((np.uint8, (item,)))
    with Channel.create(ns.name(), kind) as channel:
        assert channel.capacity == capacity
        assert shape_for(codec_for(kind), None, None).total <= 64 << 20
        for number in range(capacity):
            channel.send(np.full(item, number % 256, np.uint8), timeout=0)
        with pytest.raises(WouldBlock):
            channel.send(np.zeros(item, np.uint8), timeout=0)
        assert channel.receive()[-1] == 0
    with Channel.open_or_create(ns.name(), kind, owner_uid=None) as channel:
        assert channel.capacity == capacity
    with Channel.anonymous(kind) as channel:
        assert channel.capacity == capacity


def test_a_capacity_that_was_given_is_honoured_whatever_it_takes(ns: Namespace) -> None:
    kind = np.dtype((np.uint8, (1 << 20,)))
    with Channel.create(ns.name(), kind, capacity=100) as channel:
        assert channel.capacity == 100
    huge = np.dtype((np.uint8, (1 << 30,)))
    with pytest.raises(LimitReached, match=r"no room for [\d,]{16,} bytes"):
        Channel.create(ns.name(), huge, capacity=1 << 20)
    # A message larger than half of 64 MiB needs more; there is room for one.
    assert shape_for(codec_for(np.dtype((np.uint8, (1 << 26,)))), None, None).capacity == 1


def test_a_size_keeps_the_usual_capacity_for_short_messages(ns: Namespace) -> None:
    with Channel.create(ns.name(), np.dtype((np.uint8, (1000,))), size=1 << 20) as channel:
        assert channel.capacity == 1024


def test_a_size_limits_the_capacity_for_long_messages(ns: Namespace) -> None:
    kind = np.dtype((np.uint8, (65_536,)))
    with Channel.create(ns.name(), kind, size=1 << 20) as channel:
        assert channel.capacity == 16
    with Channel.create(ns.name(), kind, size=1 << 20, capacity=4) as channel:
        assert channel.capacity == 4
        assert channel.stats().size < 1 << 21
