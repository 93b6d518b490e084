"""The tight loops of the processes, which check each message.

The first and last byte of a message have its number, modulo the number of prebuilt messages. Each
receiver checks the first byte, and in place also the last. After a lost message it waits for ever,
until the bench's time limit ends it. Times are in nanoseconds, on a clock that all processes share.
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

# A process imports numpy only if its role needs it, because there are many processes.
# ruff: noqa: PLC0415

_BATCH = 64
_BATCH_BYTES = 2**20  # the queue has room for more than one batch
STOP = 255  # first byte of the message that ends a receiver; above any number
_MOST_PREBUILT = 250
_PREBUILT_BYTES = 4 * 2**20
_GROUP = 8


class Garbled(Exception):  # noqa: N818 - the name says what is wrong
    """A message was not the expected one, or was torn."""


def _garbled(got: object, expected: object) -> Garbled:
    return Garbled(f"expected message {expected}, got {got}")


def numbers(size: int) -> int:
    """Return the number of different prebuilt messages of a size."""
    return max(2, min(_MOST_PREBUILT, _PREBUILT_BYTES // size))


def messages(size: int) -> list[bytes]:
    """Return the prebuilt messages of a size, which is 8 bytes or more."""
    edges = [bytes([number]) for number in range(numbers(size))]
    return [edge + bytes(size - 2) + edge for edge in edges]


def send_all(send: Send, prebuilt: list[Any], count: int) -> Span:
    """Send `count` messages."""
    start = monotonic_ns()
    for message in islice(cycle(prebuilt), count):
        send(message)
    return start, monotonic_ns()


def send_batches(send: Send, prebuilt: list[Any], count: int) -> Span:
    """Send `count` messages in batches."""
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
    """Receive `count` messages as bytes, and check the number of each."""
    start = monotonic_ns()
    for expected in islice(cycle(range(kinds)), count):
        data = receive()
        if data[0] != expected:
            raise _garbled(data[0], expected)
    return start, monotonic_ns()


def receive_batches(receive: Receive, kinds: int, count: int) -> Span:
    """Receive `count` messages in batches, and check the number of each."""
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
    """Receive `count` messages in place, and check the number at both ends of each."""
    start = monotonic_ns()
    for expected in islice(cycle(range(kinds)), count):
        view = receive()
        if view[0] != expected or view[-1] != expected:
            raise _garbled((view[0], view[-1]), expected)
        del view  # before the next is asked for: its slot may be wanted
    return start, monotonic_ns()


def read_all(message: Any) -> np.ndarray[Any, Any]:
    """Read every byte of a message, and return the message as an array."""
    import numpy as np

    array = np.frombuffer(message, np.uint8)
    array.view(np.uint64).max()
    return array


def receive_arrays(receive: Receive, kinds: int, count: int) -> Span:
    """Receive `count` messages as arrays, check the ends, and read every byte."""
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
    """Receive `count` batches of records, whole or in parts; check the first of each part."""
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
    """Receive `count` dicts, and check the number in each."""
    start = monotonic_ns()
    for expected in islice(cycle(range(kinds)), count):
        got = receive()["number"]
        if got != expected:
            raise _garbled(got, expected)
    return start, monotonic_ns()


def ask(send: Send, receive: Receive, prebuilt: list[Any], count: int) -> float:
    """Send and wait for the answer `count` times. Return the median in nanoseconds."""
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
    """Send back each message, as often as `ask` asks."""
    for _ in range(_groups(count) * _GROUP):
        send(receive())


def _groups(count: int) -> int:
    return max(4, count // _GROUP)


def receive_until_stopped(receive: Receive) -> tuple[int, int, dict[int, int]]:
    """Receive until a stop comes. Return the times, and the messages by sender (the first byte)."""
    served = [0] * 256
    start = monotonic_ns()
    while (who := receive()[0]) != STOP:
        served[who] += 1
    end = monotonic_ns()
    return start, end, {who: count for who, count in enumerate(served) if count}
