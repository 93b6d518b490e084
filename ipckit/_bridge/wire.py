"""Packets: the format in which a bridge sends several messages as one.

A packet consists of a header, the lengths of the messages unless all are equal, and the messages.
All numbers are little-endian. docs/bridge.md describes each byte.
"""

from __future__ import annotations

import errno
import struct
from array import array
from dataclasses import dataclass
from itertools import accumulate, pairwise
from sys import byteorder
from typing import TYPE_CHECKING, Final

from ipckit.errors import Corrupt

if TYPE_CHECKING:
    from collections.abc import Sequence

# The mark, which contains the version; the count of messages; the size of each message, or 0 if a
# table of lengths follows; the number of the packet; the id of the sender that has numbered it.
HEAD: Final = struct.Struct("<4sIQQ16s")
MARK: Final = b"IPB1"
_LENGTH_SIZE: Final = 4
MESSAGE_MAX: Final = 2**32 - 1
# The numbers of packets and messages must be less than this. So a packet that another client has
# made up can't make a 64-bit number in a journal overflow.
NUMBER_END: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet that arrived.

    Attributes:
        sender: the id of the sender: the 16 random bytes in its journal.
        number: the number of the packet among those of the sender.
        count: how many messages the packet contains.
        size: the size of each message in bytes; 0 if the sizes differ, or all messages are empty.
        body: all messages, one after another.
        ends: where each message ends in `body`; empty if all have one size.
    """

    sender: bytes
    number: int
    count: int
    size: int
    body: memoryview
    ends: list[int]

    @property
    def longest(self) -> int:
        """The length of the longest message, in bytes."""
        return self.size or max((j - i for i, j in pairwise((0, *self.ends))), default=0)

    def messages(self, first: int = 0) -> list[memoryview]:
        """Return the messages from number `first` on."""
        body, size = self.body, self.size
        if size:
            return [body[i : i + size] for i in range(first * size, len(body), size)]
        return [body[i:j] for i, j in pairwise((0, *self.ends))][first:]


def parts(
    sender: bytes, number: int, messages: Sequence[memoryview | bytes]
) -> list[memoryview | bytes]:
    """Return the parts of a packet, to be joined; see `pack`."""
    lengths = [len(message) for message in messages]
    first = lengths[0] if lengths else 0
    if first and lengths.count(first) == len(lengths):
        return [HEAD.pack(MARK, len(lengths), first, number, sender), *messages]
    table = array("I", lengths)
    if byteorder == "big":
        table.byteswap()
    head = HEAD.pack(MARK, len(lengths), 0, number, sender)
    return [head, table.tobytes(), *messages]


def pack(sender: bytes, number: int, messages: Sequence[memoryview | bytes]) -> bytes:
    """Return a packet that contains some messages, each of at most `MESSAGE_MAX` bytes."""
    return b"".join(parts(sender, number, messages))


def unpack(data: bytes, at: int = 0) -> Packet:
    """Return the messages of a packet.

    Args:
        data: bytes that end with the packet.
        at: the offset at which the packet begins.

    Raises:
        Corrupt: the bytes are not a packet.
    """
    if len(data) < at + HEAD.size:
        raise corrupt("it is shorter than a header")
    mark, count, each, number, sender = HEAD.unpack_from(data, at)
    if mark != MARK:
        raise corrupt("it does not begin with IPB1")
    if number >= NUMBER_END:
        raise corrupt(f"its number is {number:,}")
    at += HEAD.size
    body = memoryview(data)
    if each:
        if at + count * each != len(data):
            raise corrupt(f"{count} messages of {each} bytes do not fill it")
        return Packet(sender, number, count, each, body[at:], [])
    start = at + count * _LENGTH_SIZE
    if start > len(data):
        raise corrupt(f"the lengths of {count} messages do not fit")
    table = array("I", data[at:start])
    if byteorder == "big":
        table.byteswap()
    ends = list(accumulate(table))
    if (ends[-1] if ends else 0) != len(data) - start:
        raise corrupt("its messages do not fill it")
    return Packet(sender, number, count, 0, body[start:], ends)


def corrupt(why: str) -> Corrupt:
    """Return the exception for received bytes that are not a packet."""
    message = f"received bytes that are not a packet of a bridge: {why}"
    return Corrupt(message, errno=errno.EBADMSG, op="bridge")
