"""What the processes of a repetition do in their tight loops, each message checked.

A message carries its number, modulo some, in its first and last byte. Each receiver checks the
first, in place also the last; a message lost makes it wait for ever, which the bench's limit ends.
Times are of the clock that all processes share, in nanoseconds.
"""

from __future__ import annotations

from itertools import cycle, islice
from statistics import median
from time import monotonic_ns, perf_counter_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Send = Callable[[Any], object]
    Receive = Callable[[], Any]
    Span = tuple[int, int]

# A process imports numpy only where its part needs it: there are many processes.
# ruff: noqa: PLC0415

_BATCH = 64
_BATCH_BYTES = 2**20  # a batch goes into the queue with room for more
STOP = 255  # the first byte of the message that ends a receiver; no number is so large
_MOST_PREBUILT = 250
_PREBUILT_BYTES = 4 * 2**20
_GROUP = 8


class Garbled(Exception):  # noqa: N818 - it says what a message is
    """A message came that was not the next one, or was torn."""


def _garbled(got: object, expected: object) -> Garbled:
    return Garbled(f"message {expected} should have come, and {got} came")


def numbers(size: int) -> int:
    """How many different messages of a size are prebuilt."""
    return max(2, min(_MOST_PREBUILT, _PREBUILT_BYTES // size))


def messages(size: int) -> list[bytes]:
    """The prebuilt messages of a size, of 8 bytes or more."""
    edges = [bytes([number]) for number in range(numbers(size))]
    return [edge + bytes(size - 2) + edge for edge in edges]


def send_all(send: Send, prebuilt: list[Any], count: int) -> Span:
    """Send so many messages."""
    start = monotonic_ns()
    for message in islice(cycle(prebuilt), count):
        send(message)
    return start, monotonic_ns()


def send_batches(send: Send, prebuilt: list[Any], count: int) -> Span:
    """Send so many messages in batches."""
    endless = islice(cycle(prebuilt), count)
    size = max(1, min(_BATCH, _BATCH_BYTES // len(prebuilt[0])))
    batches: list[list[Any]] = []
    while batch := list(islice(endless, size)):
        batches.append(batch)
    start = monotonic_ns()
    for batch in batches:
        send(batch)
    return start, monotonic_ns()


def receive_bytes(receive: Receive, kinds: int, count: int) -> Span:
    """Receive so many messages as bytes, and check the number of each."""
    start = monotonic_ns()
    for expected in islice(cycle(range(kinds)), count):
        data = receive()
        if data[0] != expected:
            raise _garbled(data[0], expected)
    return start, monotonic_ns()


def receive_batches(receive: Receive, kinds: int, count: int) -> Span:
    """Receive so many messages as they come in batches, and check the number of each."""
    expecting = islice(cycle(range(kinds)), count)
    start = monotonic_ns()
    left = count
    while left > 0:
        batch = receive()
        left -= len(batch)
        for data in batch:
            expected = next(expecting)
            if data[0] != expected:
                raise _garbled(data[0], expected)
    return start, monotonic_ns()


def receive_views(receive: Receive, kinds: int, count: int) -> Span:
    """Receive so many messages in place, and check the number at both ends of each."""
    start = monotonic_ns()
    for expected in islice(cycle(range(kinds)), count):
        view = receive()
        if view[0] != expected or view[-1] != expected:
            raise _garbled((view[0], view[-1]), expected)
        del view  # before the next is asked for: its slot may be wanted
    return start, monotonic_ns()


def receive_arrays(receive: Receive, kinds: int, count: int) -> Span:
    """Receive so many messages as arrays, check the ends, and read every byte."""
    import numpy as np

    start = monotonic_ns()
    for expected in islice(cycle(range(kinds)), count):
        array = np.frombuffer(receive(), np.uint8)
        if array[0] != expected or array[-1] != expected:
            raise _garbled((array[0], array[-1]), expected)
        array.view(np.uint64).max()
        del array  # before the next is asked for: its slot may be wanted
    return start, monotonic_ns()


def receive_records(receive: Receive, dtype: np.dtype[Any], batch: int, count: int) -> Span:
    """Receive so many batches of records, whole or in parts, and check the first of each part."""
    import numpy as np

    left = count * batch
    position = 0
    start = monotonic_ns()
    while left > 0:
        got = receive()
        records = got if isinstance(got, np.ndarray) else np.frombuffer(got, dtype)
        if records["number"][0] != position:
            raise _garbled(records["number"][0], position)
        left -= len(records)
        position = (position + len(records)) % batch
    return start, monotonic_ns()


def receive_objects(receive: Receive, kinds: int, count: int) -> Span:
    """Receive so many dicts, and check the number in each."""
    start = monotonic_ns()
    for expected in islice(cycle(range(kinds)), count):
        got = receive()["number"]
        if got != expected:
            raise _garbled(got, expected)
    return start, monotonic_ns()


def ask(send: Send, receive: Receive, prebuilt: list[Any], count: int) -> float:
    """Send and wait for the answer, so many times; the median, in nanoseconds."""
    took: list[int] = []
    endless = cycle(enumerate(prebuilt))
    last = perf_counter_ns()
    for _ in range(_groups(count)):
        for number, message in islice(endless, _GROUP):
            send(message)
            if (got := receive()[-1]) != number:
                raise _garbled(got, number)
        now = perf_counter_ns()
        took.append(now - last)
        last = now
    return median(took) / _GROUP


def answer(send: Send, receive: Receive, count: int) -> None:
    """Send back what comes, as often as `ask` asks."""
    for _ in range(_groups(count) * _GROUP):
        send(receive())


def _groups(count: int) -> int:
    return max(4, count // _GROUP)


def receive_until_stopped(receive: Receive) -> tuple[int, int, dict[int, int]]:
    """Receive until a stop comes; how many there were of each sender, whose number is first."""
    served = [0] * 256
    start = monotonic_ns()
    while (who := receive()[0]) != STOP:
        served[who] += 1
    end = monotonic_ns()
    return start, end, {who: count for who, count in enumerate(served) if count}
