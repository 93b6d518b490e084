"""What the two bridges of a topic say to each other.

The receiving bridge says `Hello` to all sending bridges of the name, again and again. Each answers
with `Status`. If the type of the messages is the right one, the next hello has the topic in its
positions, and then the sending bridge sends packets of messages. Hello and status are JSON, because
they are few, and easy to read in a trace. A packet has 8 bytes more than that of a channel: it
begins with `start`.

The messages of a topic are numbered from 0. A packet stands for the messages from `start` to `end`.
It can have fewer than that: the first ones are missing then, because the sending bridge has lost
them. So the other side can count all that it does not get.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, cast

from ipckit._bridge.payload_type import PayloadType, is_type, type_of_metadata
from ipckit._bridge.wire import HEAD, MARK, NUMBER_END, corrupt, parts

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORMAT: Final = 1
_START: Final = struct.Struct("<Q")
_LENGTH_SIZE: Final = 4
OVERHEAD: Final = _START.size + HEAD.size + _LENGTH_SIZE  # of a packet with one message, at most
BODY_AT: Final = _START.size  # where the part begins that is like a packet of a channel
ID_SIZE: Final = 16

# The rules of both sides, in seconds.
HELLO_EVERY: Final = 0.5
GONE_AFTER: Final = 4.0  # a bridge that was not heard for so long is gone


class Position(NamedTuple):
    """How far a receiving bridge is in a topic.

    Attributes:
        have: the messages before this number are published on its side, or lost.
        seen: the messages before this number have arrived.
    """

    have: int
    seen: int


@dataclass(slots=True)
class Hello:
    """What a receiving bridge says.

    Attributes:
        receiver: 16 random bytes.
        packets: how many packets may be on the way, sent and not published.
        room: how many bytes may be on the way, unless a single packet has more.
        positions: the topics whose messages it wants, by their ids, and how far it is in each; None
            if it has received nothing yet.
        ask: the sending bridge shall answer.
        again: the sending bridge shall send the packets again that have not arrived.
        bye: the receiving bridge ends.
    """

    receiver: bytes
    packets: int
    room: int
    positions: dict[bytes, Position | None]
    ask: bool = False
    again: bool = False
    bye: bool = False

    def encode(self) -> bytes:
        """Return it as JSON."""
        found: dict[str, Any] = {
            "format": _FORMAT,
            "receiver": self.receiver.hex(),
            "packets": self.packets,
            "room": self.room,
            "positions": {topic.hex(): each for topic, each in self.positions.items()},
        }
        found |= {name: True for name in ("ask", "again", "bye") if getattr(self, name)}
        return json.dumps(found).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return what was encoded.

        Raises:
            Corrupt: it is not a hello of this version.
        """
        found = _loaded(data)
        try:
            return cls(
                _id(found["receiver"]),
                max(1, _number(found["packets"])),
                max(1, _number(found["room"])),
                {
                    _id(topic): None if each is None else Position(*map(_number, each))
                    for topic, each in found["positions"].items()
                },
                *(bool(found.get(name)) for name in ("ask", "again", "bye")),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise corrupt("a hello lacks a value, or has an invalid one") from None


@dataclass(slots=True)
class Status:
    """What a sending bridge answers.

    Attributes:
        topic: the id of the topic: 16 bytes that no other topic has.
        type: the type of its messages.
        sends: whether it sends packets to this receiver.
        first: the number of the first message for this receiver; 0 if it sends none.
        sent: the packets before this number have been sent.
        capacity: of the topic.
        history: of the topic.
        size: the bytes of the topic's memory for messages.
        problem: why the receiver gets no messages; "" if it does.
    """

    topic: bytes
    type: PayloadType
    sends: bool
    first: int
    sent: int
    capacity: int
    history: int
    size: int
    problem: str = ""

    def encode(self) -> bytes:
        """Return it as JSON."""
        names = ("sends", "first", "sent", "capacity", "history", "size", "problem")
        found = {"format": _FORMAT, "topic": self.topic.hex(), "type": self.type.metadata()}
        return json.dumps(found | {name: getattr(self, name) for name in names}).encode()

    @classmethod
    def decode(cls, data: bytes, target: str) -> Self:
        """Return what was encoded.

        Raises:
            Corrupt: it is not a status of this version.
            LayoutMismatch: the type is described in another version.
        """
        found = _loaded(data)
        names = ("first", "sent", "capacity", "history", "size")
        try:
            numbers = {name: _number(found[name]) for name in names}
            if not is_type(found["type"]):
                raise corrupt("a status has no type")
            kind = type_of_metadata(found["type"], target)
            problem = str(found["problem"])
            sends = bool(found["sends"])
            return cls(_id(found["topic"]), kind, sends, **numbers, problem=problem)
        except (KeyError, TypeError, ValueError):
            raise corrupt("a status lacks a value, or has an invalid one") from None


class Head(NamedTuple):
    """The beginning of a packet.

    Attributes:
        topic: the id of the topic.
        start: the number of the first message for which the packet stands.
        end: the number after the last one.
        messages: how many messages the packet has.
    """

    topic: bytes
    start: int
    end: int
    messages: int


def packet_of(
    topic: bytes, start: int, end: int, messages: Sequence[memoryview | bytes]
) -> list[memoryview | bytes]:
    """Return the packet of some messages, as parts to be joined."""
    head, *rest = parts(topic, end, messages)
    return [b"".join((_START.pack(start), head)), *rest]


def packet_of_records(
    topic: bytes, start: int, end: int, count: int, records: memoryview
) -> list[memoryview | bytes]:
    """Return the packet of messages of the same size, which lie one after the other; as parts."""
    head = HEAD.pack(MARK, count, len(records) // count, end, topic)
    return [_START.pack(start) + head, records]


def is_packet(data: bytes) -> bool:
    """Return whether bytes are a packet, and not a status."""
    return data[BODY_AT : BODY_AT + len(MARK)] == MARK


def head_of(data: bytes) -> Head:
    """Return the beginning of a packet.

    Raises:
        Corrupt: it is not a packet.
    """
    if len(data) < BODY_AT + HEAD.size:
        raise corrupt("it is shorter than a header")
    (start,) = _START.unpack_from(data)
    mark, count, _, end, topic = HEAD.unpack_from(data, _START.size)
    if mark != MARK:
        raise corrupt("it has no IPB1 in it")
    if end >= NUMBER_END:
        raise corrupt(f"its number is {end:,}")
    if not start <= end - count:
        raise corrupt("it has more messages than it stands for")
    return Head(topic, start, end, count)


def _loaded(data: bytes) -> dict[str, Any]:
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        raise corrupt("it is not JSON") from None
    if isinstance(found, dict):
        names = cast("dict[str, Any]", found)
        if names.get("format") == _FORMAT:
            return names
    raise corrupt("it is from another version of ipckit")


def _number(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < NUMBER_END:
        raise ValueError(value)
    return value


def _id(text: str) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != ID_SIZE:
        raise ValueError(text)
    return found
