"""The bytes objects that a channel returns: they never change."""

from __future__ import annotations

import ctypes
import random
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE = 1024


@pytest.fixture
def channel() -> Iterator[Channel[bytes]]:
    with Channel.anonymous(bytes, capacity=16) as made:
        yield made


def message(number: int, size: int = SIZE) -> bytes:
    return number.to_bytes(4, "little") * (size // 4)


def follow(channel: Channel[bytes], count: int = 6) -> None:
    """Send and receive other messages of the same size."""
    for number in range(1000, 1000 + count):
        channel.send(message(number))
        assert channel.receive() == message(number)


@pytest.mark.parametrize("size", [4, 476, 480, 512, 1024, 16384, 16388, 70000])
def test_a_kept_message_does_not_change(channel: Channel[bytes], size: int) -> None:
    kept = []
    for number in range(51):
        channel.send(message(number, size))
        kept.append(channel.receive())
        if number % 3 == 2:
            del kept[-2]
    numbers = [number for number in range(51) if number % 3 != 1]
    assert kept == [message(number, size) for number in numbers]


KEEPERS: dict[str, Callable[[bytes], Any]] = {
    "memoryview": memoryview,
    "array": lambda found: np.frombuffer(found, np.uint8),
    "slice of a view": lambda found: memoryview(found)[8:],
    "pointer": ctypes.c_char_p,
    "tuple": lambda found: (found,),
    "key": lambda found: {found: 1},
    "iterator": iter,
}


@pytest.mark.parametrize("keeper", KEEPERS)
def test_any_reference_keeps_a_message(channel: Channel[bytes], keeper: str) -> None:
    channel.send(message(7))
    kept = KEEPERS[keeper](channel.receive())
    follow(channel)
    if isinstance(kept, ctypes.c_char_p):
        kept = [ctypes.string_at(kept, SIZE)]
    elif isinstance(kept, dict):
        assert kept[message(7)] == 1
    found = next(iter(kept)) if isinstance(kept, (tuple, dict, list)) else bytes(kept)
    assert found == message(7)[-len(found) :]
    assert len(found) >= SIZE - 8


def test_a_hash_is_that_of_the_message(channel: Channel[bytes]) -> None:
    seen = set()
    for number in range(20):
        channel.send(message(number))
        found = channel.receive()
        assert hash(found) == hash(message(number))
        seen.add(number)
        assert {found: number}[message(number)] == number
    assert len(seen) == 20


def test_lengths_may_change(channel: Channel[bytes]) -> None:
    dice = random.Random(5)
    kept: list[tuple[int, int, bytes]] = []
    for number in range(500):
        size = dice.choice([480, 484, 512, 1000, 1024, 4096, 5000])
        channel.send(message(number, size))
        kept.append((number, size, channel.receive()))
        if dice.random() < 0.7:
            kept.pop(dice.randrange(len(kept)))
    for number, size, found in kept:
        assert found == message(number, size)


def test_decoders_may_keep_what_they_were_given() -> None:
    with Channel.anonymous(str, capacity=4) as channel:
        kept = []
        for number in range(20):
            channel.send(f"{number:01024}")
            kept.append(channel.receive())
        assert kept == [f"{number:01024}" for number in range(20)]


def test_threads_that_share_a_handle_get_their_own(channel: Channel[bytes]) -> None:
    total = 4000
    wrong: list[object] = []
    counts = [0, 0, 0]

    def receive(who: int) -> None:
        last: list[bytes] = []
        while True:
            found = channel.receive()
            number = int.from_bytes(found[:4], "little")
            if number == 0xFFFFFFFF:
                break
            last = [*last[-3:], found]
            wrong.extend(kept[:16] for kept in last if kept != kept[:4] * (SIZE // 4))
            counts[who] += 1

    threads = [threading.Thread(target=receive, args=(who,)) for who in range(len(counts))]
    for thread in threads:
        thread.start()
    for number in range(total):
        channel.send(message(number))
    for _ in threads:
        channel.send(message(0xFFFFFFFF))
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(counts) == total
