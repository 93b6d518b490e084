"""The journal of a topic's receiving bridge: how far it is in each topic that it receives from.

A bridge that starts again tells the other side, so that no message comes twice, and that those
that it missed are counted. Before a packet is published, the journal gets its numbers, and how many
messages the topic here had. So the next bridge finds out how many of them
were published when it was killed.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from ipckit._core.bridge_file import JOURNAL_START

if TYPE_CHECKING:
    import mmap

# The id of the topic; the number of the next message; of the packet that is being published, the
# number after it and how many messages it has, or 0; the messages that the topic here had before.
_ROW: Final = struct.Struct("<16sQQQQ")
ROWS: Final = 16
TOPIC_SIZE: Final = ROWS * _ROW.size
_NOTHING: Final = bytes(16)


class TopicJournal:
    """The journal, in the file of the bridge.

    Args:
        memory: the file, mapped.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._rows: dict[bytes, int] = {}
        self._next = 0

    def recover(self, tail: int, *, alone: bool) -> tuple[dict[bytes, int], int]:
        """Read the journal of a bridge that ran before.

        Args:
            tail: how many messages the topic here has.
            alone: whether no other process publishes to it.

        Returns:
            The number of the next message, by the id of the topic; and how many messages may have
            been published or not, because others have published too.
        """
        found: dict[bytes, int] = {}
        uncertain = 0
        for row in range(ROWS):
            topic, have, end, count, before = _ROW.unpack_from(self._memory, self._at(row))
            if topic == _NOTHING:
                continue
            if count:
                done = min(count, max(0, tail - before))
                if done and not alone:
                    uncertain += count
                have = have if not done else end - (count - done)
            self._rows[topic] = row
            found[topic] = have
            self.end(topic, have)
        self._next = len(found) % ROWS
        return found, uncertain

    def _at(self, row: int) -> int:
        return JOURNAL_START + row * _ROW.size

    def add(self, topic: bytes, have: int) -> None:
        """Add a topic from which the bridge has not received before."""
        row, self._next = self._next, (self._next + 1) % ROWS
        self._rows = {key: value for key, value in self._rows.items() if value != row}
        self._rows[topic] = row
        _ROW.pack_into(self._memory, self._at(row), topic, have, 0, 0, 0)

    def begin(self, topic: bytes, end: int, count: int, tail: int) -> None:
        """Record that a packet is being published."""
        if (row := self._rows.get(topic)) is not None:
            struct.pack_into("<QQQ", self._memory, self._at(row) + 24, end, count, tail)

    def end(self, topic: bytes, have: int) -> None:
        """Record that all messages before a number have been published."""
        if (row := self._rows.get(topic)) is not None:
            struct.pack_into("<QQQ", self._memory, self._at(row) + 16, have, 0, 0)
