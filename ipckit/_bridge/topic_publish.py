"""TopicPublisher: publish the messages of arriving packets to the topic on this machine."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipckit._native as native
from ipckit import aio
from ipckit._bridge.topic_wire import BODY_AT
from ipckit._bridge.wire import corrupt, unpack
from ipckit.errors import Corrupt, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._bridge.topic_journal import TopicJournal
    from ipckit._bridge.topic_wire import Head
    from ipckit._core.bridge_file import Counts
    from ipckit.topic import Topic


@dataclass(slots=True)
class SourceTopic:
    """The position of the bridge in a topic on the other side.

    Attributes:
        id: the id of that topic.
        have: see `Position`.
        seen: see `Position`.
    """

    id: bytes
    have: int
    seen: int


@dataclass(slots=True)
class _Packet:
    """A packet that is being published.

    Attributes:
        source: the topic on the other side, from which the packet comes.
        head: the beginning of the packet.
        bytes: the size of the packet; 0 if it is skipped because it is invalid.
        size: the size of each message in `records`.
        records: short messages of one size, one after another; empty if they are in `messages`.
        messages: the messages, if they are not in `records`.
        skipped: how many messages are longer than the topic accepts.
        done: how many messages are published, in a list that the native calls update.
    """

    source: SourceTopic
    head: Head
    bytes: int
    size: int
    records: memoryview
    messages: list[memoryview]
    skipped: int
    done: list[int]

    @property
    def count(self) -> int:
        """How many messages of the packet will be published."""
        return len(self.records) // self.size if self.records else len(self.messages)

    def next(self) -> memoryview:
        """Return the message that is published next."""
        at = self.done[0]
        return self.records[at * self.size :][: self.size] if self.records else self.messages[at]


class TopicPublisher:
    """Publishes packets in their order: at once if the topic has room, otherwise in `run`.

    Args:
        topic: the topic.
        size: the size of each message in bytes; 0 if messages differ in size.
        journal: the journal, in which the publisher records each packet.
        tail: how many messages the topic has.
        counts: the counts of the bridge.
        report: called with a line of text when messages are skipped.
        done: called with the size of each packet after it is published.
    """

    def __init__(
        self,
        topic: Topic[bytes],
        *,
        size: int,
        journal: TopicJournal,
        tail: int,
        counts: Counts,
        report: Callable[[str], None],
        done: Callable[[int], None],
    ) -> None:
        self._topic, self._size, self._journal = topic, size, journal
        self._tail = tail  # the topic has more messages if other processes publish too
        self._counts, self._report, self._done = counts, report, done
        self._face: Any = aio.wrap(topic)
        self._waiting: deque[_Packet] = deque()
        self._arrived = asyncio.Event()

    @property
    def is_idle(self) -> bool:
        """Whether all packets are published."""
        return not self._waiting

    def put(self, source: SourceTopic, head: Head, data: bytes) -> None:
        """Publish a packet now, or in `run` if the topic has no room.

        Raises:
            IpcError: the topic can't be used any more.
        """
        try:
            packet = self._packet(source, head, data)
        except Corrupt as exc:
            self._report(f"{exc}; skipped")
            packet = _Packet(source, head, 0, 1, memoryview(b""), [], head.messages, [0])
        self._waiting.append(packet)
        if len(self._waiting) == 1 and not self._publish(packet):
            self._arrived.set()

    async def run(self) -> None:
        """Publish the packets for which there was no room, also while the connection is lost.

        Raises:
            IpcError: the topic can't be used any more.
        """
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                packet = self._waiting[0]
                try:
                    await self._face.publish(packet.next())  # waits for room
                except asyncio.CancelledError:
                    self._count(packet, packet.count - packet.done[0])
                    raise
                packet.done[0] += 1
                while self._waiting and self._publish(self._waiting[0]):
                    pass

    def _packet(self, source: SourceTopic, head: Head, data: bytes) -> _Packet:
        """Return the packet with the messages that are new and that the topic accepts.

        Raises:
            Corrupt: the data are not a packet, or its messages have the wrong size.
        """
        found = unpack(data, BODY_AT)
        if self._size and found.size != self._size:
            raise corrupt("it has messages of the wrong size")
        # After a restart, the sending bridge may send messages that have arrived already.
        known = max(0, head.messages - (head.end - self._expected(source)))
        records, messages, skipped = memoryview(b""), [], 0
        if 0 < found.size <= native.INLINE_MAX:
            records = found.body[known * found.size :]
        else:
            given, longest = found.messages(known), self._topic.longest
            messages = [each for each in given if len(each) <= longest]
            if skipped := len(given) - len(messages):
                self._report(
                    f"{skipped} messages are longer than {longest:,} bytes, the limit of the "
                    "topic; skipped"
                )
        return _Packet(source, head, len(data), found.size, records, messages, skipped, [0])

    def _expected(self, source: SourceTopic) -> int:
        """Return the number after the last message of all packets that wait."""
        ends = [each.head.end for each in self._waiting if each.source is source]
        return ends[-1] if ends else source.have

    def _publish(self, packet: _Packet) -> bool:
        """Publish messages of the first packet while there is room. Return whether all are done."""
        done, topic = packet.done, self._topic
        if not done[0]:
            self._journal.begin(packet.source.id, packet.head.end, packet.count, self._tail)
        self._counts.unacknowledged = packet.count - done[0]
        try:
            while done[0] < packet.count:
                if not packet.records:
                    topic._send_one(packet.messages[done[0]], 0, done)
                    continue
                rest = packet.records[done[0] * packet.size :]
                if (result := topic._send_batch(rest, packet.size, 0, done)) != native.RING_OK:
                    raise topic._explain_ring(result, "publish", 0)
        except WouldBlock:
            return False
        self._waiting.popleft()
        self._count(packet)
        if packet.bytes:
            self._counts.bytes += packet.bytes
            self._counts.batches += 1
        self._done(packet.bytes)
        return True

    def _count(self, packet: _Packet, left: int = 0) -> None:
        """Count the published and the lost messages of a packet, and record its end in the journal.

        Args:
            packet: the packet.
            left: how many of its messages could not be published yet.
        """
        source, done = packet.source, packet.done[0]
        have = packet.head.end - left
        self._counts.lost += have - source.have - done
        self._counts.messages += done
        self._counts.unacknowledged = 0
        self._tail += done
        source.have = have
        self._journal.end(source.id, have)
