"""Publishing the packets that arrive, in the receiving bridge of a topic."""

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
class Stream:
    """How far the bridge is in a topic on the other side; see `Position`."""

    id: bytes
    have: int
    seen: int


@dataclass(slots=True)
class _Packet:
    """A packet that is being published.

    Attributes:
        stream: where it belongs.
        head: its beginning.
        bytes: its bytes.
        size: the bytes of each message in `records`.
        records: short messages of one size, one after another; empty if `messages` has them.
        messages: the messages, if they are not records.
        left_out: how many messages the topic does not take.
        done: how many are published; a list, because the native calls count.
    """

    stream: Stream
    head: Head
    bytes: int
    size: int
    records: memoryview
    messages: list[memoryview]
    left_out: int
    done: list[int]

    @property
    def count(self) -> int:
        """How many messages are to be published."""
        return len(self.records) // self.size if self.records else len(self.messages)

    def next(self) -> memoryview:
        """Return the message that is published next."""
        at = self.done[0]
        return self.records[at * self.size :][: self.size] if self.records else self.messages[at]


class TopicPublisher:
    """Publishes packets in their order: at once if the topic has room, else in `run`.

    Args:
        topic: the topic.
        size: the bytes of each message; 0 if messages differ in size.
        journal: where it records what it does.
        tail: how many messages the topic has.
        counts: the counts of the bridge.
        report: called with a line of text about messages that are left out.
        done: called with the bytes of each packet that is published.
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
        self._tail = tail  # it is more if others publish too
        self._counts, self._report, self._done = counts, report, done
        self._face: Any = aio.wrap(topic)
        self._waiting: deque[_Packet] = deque()
        self._arrived = asyncio.Event()

    @property
    def is_idle(self) -> bool:
        """Whether all packets are published."""
        return not self._waiting

    def put(self, stream: Stream, head: Head, data: bytes) -> None:
        """Publish a packet now, or in `run` if the topic has no room.

        Raises:
            IpcError: the topic can't be used any more.
        """
        try:
            packet = self._packet(stream, head, data)
        except Corrupt as exc:
            self._report(f"{exc}; left out")
            packet = _Packet(stream, head, 0, 1, memoryview(b""), [], head.messages, [0])
        self._waiting.append(packet)
        if len(self._waiting) == 1 and not self._publish(packet):
            self._arrived.set()

    async def run(self) -> None:
        """Publish the packets for which there was no room. A lost connection does not matter.

        Raises:
            IpcError: the topic can't be used any more.
        """
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                packet = self._waiting[0]
                try:
                    await self._face.publish(packet.next())  # it waits for room
                except asyncio.CancelledError:
                    self._count(packet, packet.count - packet.done[0])
                    raise
                packet.done[0] += 1
                while self._waiting and self._publish(self._waiting[0]):
                    pass

    def _packet(self, stream: Stream, head: Head, data: bytes) -> _Packet:
        """Return the packet with the messages that the topic takes, and record it in the journal.

        Raises:
            Corrupt: it is not a packet, or its messages have the wrong size.
        """
        found = unpack(data, BODY_AT)
        if self._size and found.size != self._size:
            raise corrupt("it has messages of the wrong size")
        # It has messages that have arrived already if the sending bridge was started again.
        known = max(0, head.messages - (head.end - self._expected(stream)))
        records, messages, left_out = memoryview(b""), [], 0
        if 0 < found.size <= native.INLINE_MAX:
            records = found.body[known * found.size :]
        else:
            given, longest = found.messages(known), self._topic.longest
            messages = [each for each in given if len(each) <= longest]
            if left_out := len(given) - len(messages):
                self._report(
                    f"{left_out} messages are longer than {longest:,} bytes, the limit of the "
                    "topic; left out"
                )
        return _Packet(stream, head, len(data), found.size, records, messages, left_out, [0])

    def _expected(self, stream: Stream) -> int:
        """Return the number of the message that follows all packets that wait."""
        ends = [each.head.end for each in self._waiting if each.stream is stream]
        return ends[-1] if ends else stream.have

    def _publish(self, packet: _Packet) -> bool:
        """Publish messages of the first packet while there is room. Return whether it is done."""
        done, topic = packet.done, self._topic
        if not done[0]:
            self._journal.begin(packet.stream.id, packet.head.end, packet.count, self._tail)
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
        """Count the messages of a packet that were published, and those that are lost.

        Args:
            packet: the packet.
            left: how many of its messages could not be published yet.
        """
        stream, done = packet.stream, packet.done[0]
        have = packet.head.end - left
        self._counts.lost += have - stream.have - done
        self._counts.messages += done
        self._counts.unacknowledged = 0
        self._tail += done
        stream.have = have
        self._journal.end(stream.id, have)
