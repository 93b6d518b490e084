"""The journals of bridges between channels: which packets were in progress when a bridge died.

The next bridge reads the journal, so that it neither loses nor repeats a message. A journal is in
the file of its bridge (`ipckit._core.bridge_file`). The file is mapped memory, so its content
survives a SIGKILL. Each entry has one word that makes it valid, and the bridge stores that word
last.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipckit._core.bridge_file import JOURNAL_START

if TYPE_CHECKING:
    from mmap import mmap

_WORD: Final = struct.Struct("<Q")
_ID_SIZE: Final = 16

# -- the sender's journal --------------------------------------------------------------------------

PACKETS_MAX: Final = 256  # unacknowledged packets
_ENTRY: Final = struct.Struct("<QQQ")  # the packet's number + 1 (0: free), its first message, count
_NEXT_AT: Final = JOURNAL_START + _ID_SIZE
_ENTRIES_AT: Final = JOURNAL_START + 64
SEND_SIZE: Final = 64 + PACKETS_MAX * _ENTRY.size
_NUMBER_BITS: Final = 62  # a bridge never sends so many packets that a number needs more bits


@dataclass(frozen=True, slots=True, order=True)
class Sent:
    """A packet that was sent, or may have been sent.

    Attributes:
        number: the packet's number.
        first: the number of its first message (`Delivery.number`).
        count: how many messages it has. Their numbers are consecutive.
    """

    number: int
    first: int
    count: int


class SendJournal:
    """The unacknowledged packets of a sending bridge, and the messages in each.

    If the bridge is killed, the channel delivers these messages again. The next bridge puts the
    same messages into a packet with the same number, so the server recognises a packet that it has
    stored already.

    Args:
        memory: the file of the bridge.

    Attributes:
        sender: random bytes that distinguish the packets of this journal from other packets.
    """

    def __init__(self, memory: mmap) -> None:
        self._memory = memory
        # No bridge stores a number with more bits, so the file is damaged.
        if _WORD.unpack_from(memory, _NEXT_AT)[0] >> _NUMBER_BITS:
            memory[JOURNAL_START : JOURNAL_START + SEND_SIZE] = bytes(SEND_SIZE)
        if not any(memory[JOURNAL_START : JOURNAL_START + _ID_SIZE]):
            memory[JOURNAL_START : JOURNAL_START + _ID_SIZE] = os.urandom(_ID_SIZE)
        self.sender = bytes(memory[JOURNAL_START : JOURNAL_START + _ID_SIZE])
        self._places: dict[int, int] = {}
        self._free: list[int] = []
        self._next: int = _WORD.unpack_from(memory, _NEXT_AT)[0]
        for place in range(_ENTRIES_AT, _ENTRIES_AT + PACKETS_MAX * _ENTRY.size, _ENTRY.size):
            if (mark := _WORD.unpack_from(memory, place)[0]) == 0:
                self._free.append(place)
            else:
                self._places[mark - 1] = place

    def packets(self) -> list[Sent]:
        """Return the unacknowledged packets, in the order of their numbers."""
        entries = (_ENTRY.unpack_from(self._memory, place) for place in self._places.values())
        return sorted(Sent(mark - 1, first, count) for mark, first, count in entries)

    def start(self, first: int, count: int) -> int:
        """Record a packet before it is sent, and return its number.

        At most `PACKETS_MAX` packets may be unacknowledged.
        """
        number, self._next = self._next, self._next + 1
        _WORD.pack_into(self._memory, _NEXT_AT, self._next)  # a number is never used twice
        place = self._free.pop()
        _ENTRY.pack_into(self._memory, place, 0, first, count)
        _WORD.pack_into(self._memory, place, number + 1)
        self._places[number] = place
        return number

    def end(self, number: int) -> None:
        """Remove a packet whose messages are acknowledged."""
        place = self._places.pop(number)
        _WORD.pack_into(self._memory, place, 0)
        self._free.append(place)


# -- the receiver's journal ------------------------------------------------------------------------

# The packet that is being delivered: 1 if the entry is valid, its number, how many messages it has,
# how many messages were sent into the channel before (modulo 2**24), and the sender's id.
_INTENT: Final = struct.Struct("<QQQQ16s")
_INTENT_AT: Final = JOURNAL_START
# The channel's senders when the bridge started: 1 if there was no other sender, and how many peers
# had ever become senders.
_ALONE: Final = struct.Struct("<QQ")
_ALONE_AT: Final = JOURNAL_START + 64
# A packet of which only the first messages were delivered: 1 if the entry is valid, its number, how
# many messages were delivered, and the sender's id.
_PART: Final = struct.Struct("<QQQ16s")
_PARTS_AT: Final = JOURNAL_START + 128
_PARTS_MAX: Final = 64
# A sender: the number after its highest packet, when the entry was used last, and the sender's id.
# A bit for each of its last packets follows.
_SENDER: Final = struct.Struct("<QQ16s")
_SENDERS_AT: Final = _PARTS_AT + 4096
_SENDERS_MAX: Final = 32
WINDOW: Final = 1 << 16  # how many packets of each sender the journal remembers
_SENDER_SIZE: Final = 64 + WINDOW // 8
RECEIVE_SIZE: Final = _SENDERS_AT - JOURNAL_START + _SENDERS_MAX * _SENDER_SIZE


class _Sender:
    """The delivered packets of one sender."""

    def __init__(self, memory: mmap, place: int, sender: bytes) -> None:
        self._memory, self._place, self._bits = memory, place, place + 64
        self.end, self.used, self.id = _SENDER.unpack_from(memory, place)
        if self.id != sender:
            memory[place : place + _SENDER_SIZE] = bytes(_SENDER_SIZE)
            self.end = self.used = 0
            self.id = sender
            _SENDER.pack_into(memory, place, 0, 0, sender)

    def has(self, number: int) -> bool | None:
        """Return whether a packet was delivered; None if it is too old to be remembered."""
        if number >= self.end:
            return False
        if number < self.end - WINDOW:
            return None
        index = number % WINDOW
        return bool(self._memory[self._bits + index // 8] >> index % 8 & 1)

    def add(self, number: int, now: int) -> None:
        """Record that a packet was delivered. A second call for the same packet changes nothing."""
        if number < self.end - WINDOW:
            return
        # Two packets whose numbers differ by WINDOW share a bit. Clear the bits of older packets.
        for skipped in range(max(self.end, number - WINDOW + 1), number):
            self._set(skipped, on=False)
        self._set(number, on=True)
        self.end, self.used = max(self.end, number + 1), now
        _SENDER.pack_into(self._memory, self._place, self.end, self.used, self.id)

    def _set(self, number: int, *, on: bool) -> None:
        index = number % WINDOW
        at, bit = self._bits + index // 8, 1 << index % 8
        self._memory[at] = self._memory[at] | bit if on else self._memory[at] & ~bit


class ReceiveJournal:
    """The packets that a receiving bridge has delivered, so that it delivers none twice.

    Args:
        memory: the file of the bridge.
    """

    def __init__(self, memory: mmap) -> None:
        self._memory = memory
        self._clock = 0
        self._senders: dict[bytes, _Sender] = {}
        self._free: list[int] = []
        for index in range(_SENDERS_MAX):
            place = _SENDERS_AT + index * _SENDER_SIZE
            sender = bytes(_SENDER.unpack_from(memory, place)[2])
            if not any(sender):
                self._free.append(place)
                continue
            self._senders[sender] = found = _Sender(memory, place, sender)
            self._clock = max(self._clock, found.used)
        self._parts: dict[tuple[bytes, int], int] = {}
        for index in range(_PARTS_MAX):
            valid, number, _, sender = self._part(index)
            if valid:
                self._parts[bytes(sender), number] = index

    def _part(self, index: int) -> tuple[int, int, int, bytes]:
        found: tuple[int, int, int, bytes] = _PART.unpack_from(
            self._memory, _PARTS_AT + index * _PART.size
        )
        return found

    def has(self, sender: bytes, number: int) -> bool | None:
        """Return whether a packet was delivered; None if it is too old to be remembered."""
        return self._senders[sender].has(number) if sender in self._senders else False

    def delivered(self, sender: bytes, number: int) -> int:
        """Return how many messages of a packet were delivered before a bridge was killed."""
        index = self._parts.get((sender, number))
        return 0 if index is None else self._part(index)[2]

    def begin(self, sender: bytes, number: int, count: int, tail: int) -> None:
        """Record that the messages of a packet are being sent into the channel.

        Args:
            sender: the sender of the packet.
            number: the packet's number.
            count: how many messages are sent.
            tail: how many messages were sent into the channel before, modulo 2**24.
        """
        _INTENT.pack_into(self._memory, _INTENT_AT, 0, number, count, tail, sender)
        _WORD.pack_into(self._memory, _INTENT_AT, 1)

    def end(self, sender: bytes, number: int) -> None:
        """Record that the packet was delivered."""
        self._clock += 1
        self._sender(sender).add(number, self._clock)
        if (index := self._parts.pop((sender, number), None)) is not None:
            _WORD.pack_into(self._memory, _PARTS_AT + index * _PART.size, 0)
        _WORD.pack_into(self._memory, _INTENT_AT, 0)

    def _sender(self, sender: bytes) -> _Sender:
        if (found := self._senders.get(sender)) is not None:
            return found
        if self._free:
            place = self._free.pop()
        else:
            oldest = min(self._senders.values(), key=lambda each: each.used)
            place = self._senders.pop(oldest.id)._place
        self._senders[sender] = found = _Sender(self._memory, place, sender)
        return found

    def note_senders(self, *, alone: bool, senders_seen: int) -> None:
        """Record the other senders of the channel before this bridge sends into it.

        Args:
            alone: whether no other process that sends has the channel open.
            senders_seen: how many peers have ever become senders.
        """
        _ALONE.pack_into(self._memory, _ALONE_AT, int(alone), senders_seen)

    def recover(self, tail: int, senders_seen: int) -> int:
        """Complete the entry of the packet that a killed bridge was delivering.

        If that bridge was the only sender, the channel's message count tells how many messages of
        the packet it delivered. Otherwise the packet is delivered again from its beginning.

        Args:
            tail: how many messages were sent into the channel so far, modulo 2**24.
            senders_seen: how many peers have ever become senders.

        Returns:
            How many messages may be delivered twice.
        """
        valid, number, count, before, sender = _INTENT.unpack_from(self._memory, _INTENT_AT)
        if not valid:
            return 0
        done: int = min((tail - before) % (1 << 24), count)
        alone, seen_before = _ALONE.unpack_from(self._memory, _ALONE_AT)
        earlier = self.delivered(sender, number)
        if not alone or senders_seen not in {seen_before, seen_before + 1}:
            self._store_part(sender, number, 0)
            return done + earlier
        if done == count:
            self.end(sender, number)
            return 0
        if done:
            self._store_part(sender, number, earlier + done)
        _WORD.pack_into(self._memory, _INTENT_AT, 0)
        return 0

    def _store_part(self, sender: bytes, number: int, done: int) -> None:
        key = (sender, number)
        used = set(self._parts.values())
        free = (index for index in range(_PARTS_MAX) if index not in used)
        index = self._parts.get(key, next(free, 0))
        place = _PARTS_AT + index * _PART.size
        _PART.pack_into(self._memory, place, 0, number, done, sender)
        _WORD.pack_into(self._memory, place, 1)
        self._parts[key] = index
        _WORD.pack_into(self._memory, _INTENT_AT, 0)
