"""The tight loops of the topic's processes. Messages have numbers, as in channel/loops.py.

Some peers lose messages, so a subscriber counts those that arrive. After the last message the
publisher repeats a stop message until all subscribers have seen it.
"""

from __future__ import annotations

from itertools import cycle, islice
from statistics import median
from time import monotonic_ns, perf_counter_ns, sleep
from typing import TYPE_CHECKING, Any

from channel.loops import STOP, Garbled

if TYPE_CHECKING:
    from channel.loops import Receive, Send

LINE = 1024  # bytes of one line of a frame
REST = 0.02  # seconds after which all subscribers sleep again


def stop_message(turn: int, size: int) -> bytes:
    """Return the message that ends a repetition."""
    return bytes([STOP, turn]) + bytes(size - 2)


def count_all(receive: Receive, kinds: int, count: int, turn: int) -> tuple[int, int]:
    """Receive up to `count` messages until a stop message, and check the number of each.

    Args:
        receive: returns the next message.
        kinds: the number of different messages.
        count: how many were published.
        turn: the number in this repetition's stop message. Older ones may come first.

    Returns:
        The end time, and how many messages arrived.
    """
    while (data := receive())[0] == STOP:
        if data[1] == turn:
            return monotonic_ns(), 0
    numbers = islice(cycle(range(kinds)), count)
    if data[0] == next(numbers):
        for expected in numbers:
            data = receive()
            if data[0] != expected:
                break
        else:
            return monotonic_ns(), count
    missed = 1 + sum(1 for _ in numbers)
    arrived = count - missed  # before the first loss
    while data[0] != STOP:
        arrived += 1
        data = receive()
    if arrived > count:
        raise Garbled(f"{arrived} of {count} messages arrived")
    return monotonic_ns(), arrived


def line_of_frame(receive: Receive) -> bytes:
    """Receive a frame in place, and look at its first line only."""
    return bytes(memoryview(receive())[:LINE])


def publish_after_rests(send: Send, prebuilt: list[Any], count: int) -> float:
    """Publish `count` messages, each when all subscribers sleep. Return the median nanoseconds."""
    took: list[int] = []
    for message in islice(cycle(prebuilt), count):
        sleep(REST)
        start = perf_counter_ns()
        send(message)
        took.append(perf_counter_ns() - start)
    return median(took)
