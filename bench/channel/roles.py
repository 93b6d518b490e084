"""The roles of a process in a repetition: one class each, with `open` and `run`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from channel import loops, memory
from channel.ours import BATCH_OF_RECORDS, RECORD_BYTES, record

if TYPE_CHECKING:
    from channel.lane import Lane

Payload = Literal["bytes", "array", "records", "objects"]
RECORDS_BYTES = RECORD_BYTES * BATCH_OF_RECORDS
SMALL_OBJECT = 64  # a nominal size for a dict without an array


class Role(ABC):
    """The role of a process, which has one lane for each message size."""

    @abstractmethod
    def open(self, size: int) -> None:
        """Prepare for messages of a size."""

    @abstractmethod
    def run(self, count: int) -> Any:
        """Run one repetition of `count` messages."""

    @abstractmethod
    def leave(self) -> None:
        """Release the lanes."""

    def forget_touched(self) -> None:
        """Start to record which shared memory this process touches."""
        memory.forget_touched()

    def touched(self) -> int:
        """Return the bytes of shared memory touched since `forget_touched`."""
        return memory.touched()


def _records() -> bytes:
    import numpy as np  # noqa: PLC0415 - most processes do not need it

    records = np.zeros(BATCH_OF_RECORDS, record())
    records["name"] = b"amy"
    records["number"] = np.arange(BATCH_OF_RECORDS)
    return records.tobytes()


def _objects(size: int) -> list[dict[str, Any]]:
    import numpy as np  # noqa: PLC0415 - most processes do not need it

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
        """Open the lane, and build the messages."""
        self._lane = self._lanes[size]
        self._send = self._lane.sender()
        if self._payload == "objects":
            self._prebuilt = _objects(size)
            return
        made = [_records()] if self._payload == "records" else loops.messages(size)
        self._prebuilt = [self._lane.prebuilt(message) for message in made]

    def run(self, count: int) -> loops.Span:
        """Return the start and end times."""
        each = loops.send_batches if self._lane.batched else loops.send_all
        return each(self._send, self._prebuilt, count)

    def leave(self) -> None:
        """Release the lanes."""
        self._send = None
        for lane in self._lanes.values():
            lane.leave()


class Receiver(Role):
    """Receives and checks messages."""

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
        """Return the start and end times."""
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
        """Release the lanes."""
        self._receive = None
        for lane in self._lanes.values():
            lane.leave()


class _Both(Role):
    """Has an outgoing and an incoming lane for each size."""

    def __init__(self, out: dict[int, Lane], back: dict[int, Lane]) -> None:
        self._out, self._back = out, back
        self._send: Any = None
        self._receive: Any = None

    def open(self, size: int) -> None:
        """Open both lanes; the incoming one first, because the other side may need it."""
        self._receive = self._back[size].receiver()
        self._send = self._out[size].sender()

    def leave(self) -> None:
        """Release the lanes."""
        self._send = self._receive = None
        for lane in (*self._out.values(), *self._back.values()):
            lane.leave()


class Asker(_Both):
    """Sends, and waits for the answer."""

    def open(self, size: int) -> None:
        """Open both lanes, and build the messages."""
        super().open(size)
        self._prebuilt = [self._out[size].prebuilt(message) for message in loops.messages(size)]

    def run(self, count: int) -> float:
        """Return the median of the round trips, in nanoseconds."""
        return loops.ask(self._send, self._receive, self._prebuilt, count)


class ReadingAsker(Asker):
    """Sends, waits for the answer, and reads every byte of it."""

    def open(self, size: int) -> None:
        """Open both lanes, and build the messages."""
        super().open(size)
        receive = self._receive
        self._receive = lambda: loops.read_all(receive())


class Answerer(_Both):
    """Sends back each message."""

    def run(self, count: int) -> None:
        """Answer `count` messages."""
        loops.answer(self._send, self._receive, count)


class OneOfManySenders(Sender):
    """Sends messages that contain its number."""

    def __init__(self, lanes: dict[int, Lane], who: int) -> None:
        super().__init__(lanes, "bytes")
        self._who = who

    def open(self, size: int) -> None:
        """Open the lane, and build the message."""
        self._lane = self._lanes[size]
        self._send = self._lane.sender()
        self._size = size
        self._prebuilt = [bytes([self._who]) * size]

    def run(self, count: int) -> loops.Span:
        """Return the start and end times. Afterwards, send the message that ends one receiver."""
        span = super().run(count)
        self._send(bytes([loops.STOP]) * self._size)
        return span


class OneOfManyReceivers(Receiver):
    """Receives messages until it gets a stop message. Each sender sends one.

    There are as many receivers as senders. If each sender's messages arrive in order, all messages
    are received before the last receiver ends.
    """

    def __init__(self, lanes: dict[int, Lane]) -> None:
        super().__init__(lanes, "bytes")

    def run(self, count: int) -> Any:
        """Return the start, the end, and the number of messages from each sender."""
        del count  # the number of messages is not known in advance
        return loops.receive_until_stopped(self._receive)
