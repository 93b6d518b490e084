"""TopicJournal: how many messages a receiving bridge has published, for each topic it receives.

The next bridge tells the sending bridge these numbers. So no message arrives twice, and the
messages that were missed are counted. Before the bridge publishes a packet, it stores the packet's
numbers in the journal, and how many messages the topic on this machine had. If the bridge is
killed, the next one calculates how many messages of the packet were published.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from ipckit._core.bridge_file import JOURNAL_START

if TYPE_CHECKING:
    import mmap

# The id of the topic on the other side, and the number of its next message. Then, for the packet
# that is being published: the number after its last message, how many messages it has (0 if no
# packet is being published), and how many messages the topic on this machine had before.
_ROW: Final = struct.Struct("<16sQQQQ")
ROWS: Final = 16
TOPIC_SIZE: Final = ROWS * _ROW.size
_NOTHING: Final = bytes(16)


class TopicJournal:
    """The journal of a receiving bridge, in the file of the bridge.

    Args:
        memory: the mapped file.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._rows: dict[bytes, int] = {}
        self._next = 0

    def recover(self, tail: int, *, alone: bool) -> tuple[dict[bytes, int], int]:
        """Read the journal of the bridge that ran before.

        Args:
            tail: how many messages the topic on this machine has.
            alone: whether no other process publishes to that topic.

        Returns:
            A dict and a count. The dict has the number of the next message for each topic id. The
            count is the number of messages that may or may not have been published. It is 0 unless
            other processes publish too.
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
