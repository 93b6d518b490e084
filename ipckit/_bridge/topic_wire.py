"""The protocol between the sending and the receiving bridges of a topic.

A receiving bridge sends a `Hello` regularly to all sending bridges of the name in its URL. Each
sending bridge answers with a `Status`. If the type of the messages is the right one, the next hello
contains the topic in its positions. Then the sending bridge sends packets of messages. Hello and
status are JSON, because there are few of them, and because JSON is easy to read in a trace. A
packet of a topic begins with `start`, and is 8 bytes longer than a packet of a channel.

The messages of a topic are numbered from 0. A packet covers the messages from `start` up to, but
not including, `end`. If it contains fewer messages, the first ones are missing, because the sending
bridge has lost them. So the receiving bridge can count every message that it does not get.
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
# The most bytes that a packet with one message has besides the message.
OVERHEAD: Final = _START.size + HEAD.size + _LENGTH_SIZE
BODY_AT: Final = _START.size  # the rest of the packet has the format of a channel's packet
ID_SIZE: Final = 16

# In seconds. Sending and receiving bridges use the same values.
HELLO_EVERY: Final = 0.5
GONE_AFTER: Final = 4.0  # a bridge that has sent nothing for so long is treated as gone


class Position(NamedTuple):
    """The position of a receiving bridge in a topic of a sending bridge.

    Attributes:
        have: the messages before this number are published on the receiving side, or lost.
        seen: the messages before this number have arrived there.
    """

    have: int
    seen: int


@dataclass(slots=True)
class Hello:
    """A message from a receiving bridge to all sending bridges of the same name.

    Attributes:
        receiver: the id of the receiving bridge: 16 random bytes.
        packets: how many packets may be sent and not published yet.
        room: how many bytes may be sent and not published yet. A single packet may be longer.
        positions: the topics whose messages the bridge wants, by their ids. The value is its
            position in the topic, or None if it has received nothing yet.
        ask: the sending bridge must answer with a `Status`.
        again: the sending bridge must send again the packets that have not arrived.
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
        """Return this hello as JSON."""
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
        """Return the hello in JSON data.

        Raises:
            Corrupt: the data are not a hello of this version.
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
    """The answer of a sending bridge to a `Hello`.

    Attributes:
        topic: the id of the topic: 16 bytes that no other topic has.
        type: the type of the topic's messages.
        sends: whether the bridge sends packets to this receiver.
        first: the number of the first message for this receiver; 0 if the bridge sends none.
        sent: the messages before this number have been sent.
        capacity: the capacity of the topic.
        history: the length of the topic's history.
        size: the size of the topic's memory for messages, in bytes.
        problem: why the receiver gets no messages; "" if it gets them.
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
        """Return this status as JSON."""
        names = ("sends", "first", "sent", "capacity", "history", "size", "problem")
        found = {"format": _FORMAT, "topic": self.topic.hex(), "type": self.type.metadata()}
        return json.dumps(found | {name: getattr(self, name) for name in names}).encode()

    @classmethod
    def decode(cls, data: bytes, target: str) -> Self:
        """Return the status in JSON data.

        Args:
            data: the JSON data.
            target: the URL, for the message of an exception.

        Raises:
            Corrupt: the data are not a status of this version.
            LayoutMismatch: the type has the format of another version.
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
        start: the number of the first message that the packet covers.
        end: the number after the last message that it covers.
        messages: how many messages the packet contains.
    """

    topic: bytes
    start: int
    end: int
    messages: int


def packet_of(
    topic: bytes, start: int, end: int, messages: Sequence[memoryview | bytes]
) -> list[memoryview | bytes]:
    """Return a packet that contains `messages`, as parts to be joined.

    Args:
        topic: the id of the topic.
        start: the number of the first message that the packet covers.
        end: the number after the last message that it covers.
        messages: the messages.
    """
    head, *rest = parts(topic, end, messages)
    return [b"".join((_START.pack(start), head)), *rest]


def packet_of_records(
    topic: bytes, start: int, end: int, count: int, records: memoryview
) -> list[memoryview | bytes]:
    """Return a packet that contains `count` messages of the same size, as parts to be joined.

    Args:
        topic: the id of the topic.
        start: the number of the first message that the packet covers.
        end: the number after the last message that it covers.
        count: how many messages are in `records`.
        records: the messages, one after another.
    """
    head = HEAD.pack(MARK, count, len(records) // count, end, topic)
    return [_START.pack(start) + head, records]


def is_packet(data: bytes) -> bool:
    """Return whether bytes are a packet, and not a status."""
    return data[BODY_AT : BODY_AT + len(MARK)] == MARK


def head_of(data: bytes) -> Head:
    """Return the beginning of a packet.

    Raises:
        Corrupt: the data are not a packet of a topic.
    """
    if len(data) < BODY_AT + HEAD.size:
        raise corrupt("it is shorter than a header")
    (start,) = _START.unpack_from(data)
    mark, count, _, end, topic = HEAD.unpack_from(data, _START.size)
    if mark != MARK:
        raise corrupt(f"it has no IPB1 at offset {BODY_AT}")
    if end >= NUMBER_END:
        raise corrupt(f"its number is {end:,}")
    if not start <= end - count:
        raise corrupt(f"it has {count} messages, but covers only {max(0, end - start)}")
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
