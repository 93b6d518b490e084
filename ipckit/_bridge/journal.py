"""The journals of bridges: what must be known after a bridge was killed.

A journal lies in the file of its bridge (`ipckit._core.bridge_file`), which is mapped memory: what
a bridge stored is there after SIGKILL. Each entry has one word that makes it valid, and that word
is stored last.
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

# -- the sender's ----------------------------------------------------------------------------------

PACKETS_MAX: Final = 256  # packets on the way
_ENTRY: Final = struct.Struct("<QQQ")  # the packet's number + 1 (0: free), its first message, count
_NEXT_AT: Final = JOURNAL_START + _ID_SIZE
_ENTRIES_AT: Final = JOURNAL_START + 64
SEND_SIZE: Final = 64 + PACKETS_MAX * _ENTRY.size
_NUMBER_BITS: Final = 62  # more than all packets that a bridge can send


@dataclass(frozen=True, slots=True, order=True)
class Sent:
    """A packet that was sent, or may have been.

    Attributes:
        number: the packet's number.
        first: the number of its first message (`Delivery.number`).
        count: its messages, whose numbers follow each other.
    """

    number: int
    first: int
    count: int


class SendJournal:
    """The packets on the way: which messages each has.

    If the bridge is killed, the channel delivers these messages again. The next bridge puts the
    same ones in a packet of the same number, so the engine finds out that it has the packet.

    Args:
        memory: the file of the bridge.

    Attributes:
        sender: random bytes, which tell the packets of this journal from those of others.
    """

    def __init__(self, memory: mmap) -> None:
        self._memory = memory
        if _WORD.unpack_from(memory, _NEXT_AT)[0] >> _NUMBER_BITS:  # no bridge has written it
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
        """Return the packets on the way, in the order of their numbers."""
        entries = (_ENTRY.unpack_from(self._memory, place) for place in self._places.values())
        return sorted(Sent(mark - 1, first, count) for mark, first, count in entries)

    def start(self, first: int, count: int) -> int:
        """Record a packet before it is sent, and return its number.

        At most `PACKETS_MAX` packets may be on the way.
        """
        number, self._next = self._next, self._next + 1
        _WORD.pack_into(self._memory, _NEXT_AT, self._next)  # a number is never used twice
        place = self._free.pop()
        _ENTRY.pack_into(self._memory, place, 0, first, count)
        _WORD.pack_into(self._memory, place, number + 1)
        self._places[number] = place
        return number

    def end(self, number: int) -> None:
        """Forget a packet whose messages are acknowledged."""
        place = self._places.pop(number)
        _WORD.pack_into(self._memory, place, 0)
        self._free.append(place)


# -- the receiver's --------------------------------------------------------------------------------

# The packet that is being delivered: whether there is one, its number, its messages, and how many
# messages were ever sent into the channel before.
_INTENT: Final = struct.Struct("<QQQQ16s")
_INTENT_AT: Final = JOURNAL_START
# What the channel showed when the bridge started: whether it was the only sender, and
# `senders_seen`.
_ALONE: Final = struct.Struct("<QQ")
_ALONE_AT: Final = JOURNAL_START + 64
# Packets of which only the first messages were delivered: whether there is one, its number, how
# many messages.
_PART: Final = struct.Struct("<QQQ16s")
_PARTS_AT: Final = JOURNAL_START + 128
_PARTS_MAX: Final = 64
# The senders: the sender, the number after the highest packet, when it was used, and a bit for each
# of the last packets.
_SENDER: Final = struct.Struct("<QQ16s")
_SENDERS_AT: Final = _PARTS_AT + 4096
_SENDERS_MAX: Final = 32
WINDOW: Final = 1 << 16  # packets of each sender that are remembered
_SENDER_SIZE: Final = 64 + WINDOW // 8
RECEIVE_SIZE: Final = _SENDERS_AT - JOURNAL_START + _SENDERS_MAX * _SENDER_SIZE


class _Sender:
    """The packets of a sender that were delivered."""

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
        """Record that a packet was delivered. Doing it twice changes nothing."""
        if number < self.end - WINDOW:
            return
        # A bit of a packet from here on may still be that of a packet WINDOW before.
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
    """The packets that were delivered to the channel, so that none is delivered twice.

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
            count: the messages that are sent.
            tail: how many messages were ever sent into the channel before, modulo 2**24.
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
        """Record what the channel shows before this bridge sends into it.

        Args:
            alone: whether no other process that sends has the channel open.
            senders_seen: how many peers have ever become senders.
        """
        _ALONE.pack_into(self._memory, _ALONE_AT, int(alone), senders_seen)

    def recover(self, tail: int, senders_seen: int) -> int:
        """Find out how much of the packet was delivered that a bridge delivered when it was killed.

        If this bridge was the only sender, the channel's count of messages tells. Otherwise the
        packet is delivered again from its beginning.

        Args:
            tail: how many messages were ever sent into the channel, modulo 2**24.
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
