"""The parts that a process can have in a repetition: one class each, with `open` and `run`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from channel import loops
from channel.ours import BATCH_OF_RECORDS, RECORD_BYTES, record

if TYPE_CHECKING:
    from channel.lane import Lane

Payload = Literal["bytes", "array", "records", "objects"]
RECORDS_BYTES = RECORD_BYTES * BATCH_OF_RECORDS
SMALL_OBJECT = 64  # stands for the size of a dict without an array


class Role(ABC):
    """A part, of a process that has some lanes, by the size of their messages."""

    @abstractmethod
    def open(self, size: int) -> None:
        """Get ready for messages of a size."""

    @abstractmethod
    def run(self, count: int) -> Any:
        """Do one repetition of so many messages."""

    @abstractmethod
    def leave(self) -> None:
        """Let go of the lanes."""


def _records() -> bytes:
    import numpy as np  # noqa: PLC0415 - most processes do without

    records = np.zeros(BATCH_OF_RECORDS, record())
    records["name"] = b"amy"
    records["number"] = np.arange(BATCH_OF_RECORDS)
    return records.tobytes()


def _objects(size: int) -> list[dict[str, Any]]:
    import numpy as np  # noqa: PLC0415 - most processes do without

    made: list[dict[str, Any]] = []
    for number in range(loops.numbers(size)):
        one: dict[str, Any] = {"number": number, "name": "amy", "ratio": 0.5}
        if size != SMALL_OBJECT:
            one["array"] = np.full(size, number, np.uint8)
        made.append(one)
    return made


class Sender(Role):
    """Sends prebuilt messages."""

    def __init__(self, lanes: dict[int, Lane], payload: Payload) -> None:
        self._lanes = lanes
        self._payload = payload
        self._send: Any = None
        self._prebuilt: list[Any] = []

    def open(self, size: int) -> None:
        """Open the lane, and make the messages."""
        self._lane = self._lanes[size]
        self._send = self._lane.sender()
        if self._payload == "objects":
            self._prebuilt = _objects(size)
            return
        made = [_records()] if self._payload == "records" else loops.messages(size)
        self._prebuilt = [self._lane.prebuilt(message) for message in made]

    def run(self, count: int) -> loops.Span:
        """When it began, and when it ended."""
        each = loops.send_batches if self._lane.batched else loops.send_all
        return each(self._send, self._prebuilt, count)

    def leave(self) -> None:
        """Let go of the lanes."""
        self._send = None
        for lane in self._lanes.values():
            lane.leave()


class Receiver(Role):
    """Receives and checks them."""

    def __init__(self, lanes: dict[int, Lane], payload: Payload) -> None:
        self._lanes = lanes
        self._payload = payload
        self._receive: Any = None

    def open(self, size: int) -> None:
        """Open the lane."""
        self._lane = self._lanes[size]
        self._receive = self._lane.receiver()
        self._kinds = loops.numbers(size)

    def run(self, count: int) -> loops.Span:
        """When it began, and when it ended."""
        receive, kinds = self._receive, self._kinds
        match self._payload:
            case "records":
                return loops.receive_records(receive, record(), BATCH_OF_RECORDS, count)
            case "objects":
                return loops.receive_objects(receive, kinds, count)
            case "array":
                return loops.receive_arrays(receive, kinds, count)
            case "bytes" if self._lane.batched:
                return loops.receive_batches(receive, kinds, count)
            case "bytes" if self._lane.in_place:
                return loops.receive_views(receive, kinds, count)
            case "bytes":
                return loops.receive_bytes(receive, kinds, count)

    def leave(self) -> None:
        """Let go of the lanes."""
        self._receive = None
        for lane in self._lanes.values():
            lane.leave()


class _Both(Role):
    """Has a lane out and a lane in, of each size."""

    def __init__(self, out: dict[int, Lane], back: dict[int, Lane]) -> None:
        self._out, self._back = out, back
        self._send: Any = None
        self._receive: Any = None

    def open(self, size: int) -> None:
        """Open both lanes; the one in first, since the other side may want it."""
        self._receive = self._back[size].receiver()
        self._send = self._out[size].sender()

    def leave(self) -> None:
        """Let go of the lanes."""
        self._send = self._receive = None
        for lane in (*self._out.values(), *self._back.values()):
            lane.leave()


class Asker(_Both):
    """Sends, and waits for the answer."""

    def open(self, size: int) -> None:
        """Open both lanes, and make the messages."""
        super().open(size)
        self._prebuilt = [self._out[size].prebuilt(message) for message in loops.messages(size)]

    def run(self, count: int) -> float:
        """The median of the round trips, in nanoseconds."""
        return loops.ask(self._send, self._receive, self._prebuilt, count)


class Answerer(_Both):
    """Sends back what comes."""

    def run(self, count: int) -> None:
        """Answer them all."""
        loops.answer(self._send, self._receive, count)


class OneOfManySenders(Sender):
    """Sends messages that carry its number."""

    def __init__(self, lanes: dict[int, Lane], who: int) -> None:
        super().__init__(lanes, "bytes")
        self._who = who

    def open(self, size: int) -> None:
        """Open the lane, and make the message."""
        self._lane = self._lanes[size]
        self._send = self._lane.sender()
        self._size = size
        self._prebuilt = [bytes([self._who]) * size]

    def run(self, count: int) -> loops.Span:
        """When it began, and when it ended; the message that ends a receiver comes on top."""
        span = super().run(count)
        self._send(bytes([loops.STOP]) * self._size)
        return span


class OneOfManyReceivers(Receiver):
    """Receives whatever comes, until one of as many senders says that it was its last.

    So all that was sent is received before the last receiver ends, if each sender's messages come
    in their order.
    """

    def __init__(self, lanes: dict[int, Lane]) -> None:
        super().__init__(lanes, "bytes")

    def run(self, count: int) -> Any:
        """Begin, end, and how many came of each sender."""
        del count  # what it gets is not known before
        return loops.receive_until_stopped(self._receive)
