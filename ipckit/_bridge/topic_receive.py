"""The receiving side of a topic."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit import aio
from ipckit._bridge.link import LINGER, Link
from ipckit._bridge.nats_session import EngineAwayError
from ipckit._bridge.payload_type import type_of_object
from ipckit._bridge.topic_engine import topic_engine
from ipckit._bridge.topic_journal import ROWS, TOPIC_SIZE, TopicJournal
from ipckit._bridge.topic_wire import (
    BODY_AT,
    GONE_AFTER,
    HELLO_EVERY,
    ID_SIZE,
    Head,
    Hello,
    Position,
    Status,
    head_of,
    is_packet,
)
from ipckit._bridge.wire import corrupt, unpack
from ipckit.errors import Corrupt, IpcError, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.payload_type import PayloadType
    from ipckit._bridge.topic_engine import TopicEngine
    from ipckit._bridge.url import BridgeUrl
    from ipckit.topic import Topic


_PARTS: Final = 4  # acknowledge when this part of the window is published
_PAUSE: Final = 0.002  # or when no packet has come for this many seconds


@dataclass(slots=True)
class _Unsaid:
    """What was published since the last hello."""

    packets: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Stream:
    """How far the bridge is in a topic; see `Position`."""

    id: bytes
    have: int
    seen: int


class TopicReceiver(Link):
    """Publishes what arrives in a topic here.

    Args:
        open_topic: opens or creates the topic, from what the sending bridge says about its own.
        address: the topic's address.
        url: where the messages come from.
        options: the options.
        report: see `Link`.
    """

    def __init__(
        self,
        open_topic: Callable[[Status], Topic[bytes]],
        address: str,
        url: BridgeUrl,
        options: BridgeOptions,
        report: Callable[[str], None],
    ) -> None:
        super().__init__(address, url, "receive", options, report)
        self._open_topic = open_topic
        self._topic: Topic[bytes] | None = None
        self._face: Any = None
        self._type: PayloadType
        self._journal: TopicJournal
        self._tail = 0  # how many messages the topic here has, if nobody else publishes
        self._id = os.urandom(ID_SIZE)
        self._streams: dict[bytes, _Stream] = {}
        self._known: dict[bytes, int] = {}  # from the journal
        self._wanted: set[bytes] = set()  # topics that have no stream yet
        self._hurry = False  # say hello at once
        self._waiting: deque[tuple[_Stream, Head, bytes]] = deque()
        self._arrived = asyncio.Event()
        self._engine: TopicEngine | None = None
        self._problem: IpcError | None = None
        self._heard_at = 0.0
        self._gap = False  # packets are missing
        self._said = ""  # what was reported last
        self._unsaid = _Unsaid()

    async def _run(self) -> None:
        publishing = asyncio.create_task(self._publish_all())
        publishing.add_done_callback(self._note_end)
        try:
            await super()._run()
            await self._wait_for_waiting()
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)

    async def _wait_for_waiting(self) -> None:
        """Wait until the packets that have arrived are published, `LINGER` at most."""
        end = time.monotonic() + LINGER
        while self._waiting and self._problem is None and time.monotonic() < end:
            await asyncio.sleep(HELLO_EVERY / 10)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(exc := task.exception(), IpcError):
            self._problem = exc
            self._change.set()

    def _open(self, status: Status) -> None:
        """Open the topic, or check the type, and find out what was published before.

        Raises:
            LayoutMismatch: the messages are of another type.
            IpcError: the topic can't be opened or created.
        """
        if self._topic is None:
            self._topic = topic = self._open_topic(status)
            fd = topic.memory_fd
            self._type = type_of_object(fd, topic=True)
            self._type.check_same(status.type, self.address)
            self._journal = TopicJournal(self._opened_file(fd, TOPIC_SIZE, topic=True).memory)
            self._tail = int(native.ring_look(fd, True)["tail"])  # noqa: FBT003 - a native function
            alone = not topic.publishers()
            self._known, uncertain = self._journal.recover(self._tail, alone=alone)
            self.counts.uncertain += uncertain
            self._face = aio.wrap(topic)
        self._type.check_same(status.type, self.address)

    # -- one connection ----------------------------------------------------------------------------

    async def _session(self) -> None:
        name = f"ipckit bridge {self.address}"
        async with topic_engine(self.url, self.options, name, sends=False) as engine:
            self._engine = engine
            self._heard_at = time.monotonic()
            self._gap = True  # what was sent before may not arrive any more
            try:
                await engine.listen(f"down/{self._id.hex()}", self._got)
                while not self._stop.is_set():
                    await self._say()
                    await self._watch(engine, HELLO_EVERY)
                await self._wait_for_waiting()
            finally:
                self._engine = None
                with suppress(EngineAwayError):
                    if self._stop.is_set():
                        await engine.send("up", self._hello(bye=True))

    async def _watch(self, engine: TopicEngine, seconds: float) -> None:
        """Wait for some time, or until there is something to say."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._stop.is_set() and not self._hurry:
            if engine.broken.done():
                raise EngineAwayError(engine.last_error or "the connection was lost")
            if self._problem is not None:
                raise self._problem
            self._check_removed()
            if time.monotonic() - self._heard_at > GONE_AFTER:
                self._set_state("waiting", "no sending bridge answers")
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._change.wait()
            self._change.clear()

    def _hello(self, **more: bool) -> bytes:
        positions: dict[bytes, Position | None] = dict.fromkeys(self._wanted)
        for each in self._streams.values():
            positions[each.id] = Position(each.have, each.seen)
        options = self.options
        self._unsaid = _Unsaid()
        size = options.window * options.packet_bytes
        return Hello(self._id, options.window, size, positions, **more).encode()

    async def _say(self) -> None:
        """Say hello, so that the sending bridges know that this one is alive."""
        if self._engine is not None:
            await self._engine.send("up", self._hello(ask=True, again=self._gap))
            self._gap = self._hurry = False

    async def _acknowledge(self) -> None:
        """Say what has been published, so that the sending bridge sends more."""
        if self._engine is not None:
            with suppress(EngineAwayError):
                await self._engine.send("up", self._hello())

    # -- what arrives ------------------------------------------------------------------------------

    def _got(self, data: bytes) -> None:
        try:
            if is_packet(data):
                self._got_packet(head_of(data), data)
            else:
                self._got_status(Status.decode(data, self.url.text))
        except Corrupt as exc:
            if str(exc) != self._said:  # not again and again
                self._report(f"{self.address} {self.url.text}: {exc}; left out")
            self._said = str(exc)
        except IpcError as exc:
            self._problem = exc
            self._change.set()

    def _got_status(self, status: Status) -> None:
        self._heard_at = time.monotonic()
        if status.problem:
            self._set_state("waiting", status.problem)
            return
        self._open(status)
        stream = self._streams.get(status.topic)
        if not status.sends:
            if stream is None and status.topic not in self._wanted:
                self._want(status.topic)
            return
        if stream is None:
            self._wanted.discard(status.topic)
            self._journal.add(status.topic, status.first)
            stream = self._add_stream(status.topic, status.first)
        if status.sent > stream.seen:
            self._gap = True  # with the next hello
        self._set_state("connected")

    def _want(self, topic: bytes) -> None:
        """Ask for the messages of a topic, from where the last bridge has ended."""
        have = self._known.pop(topic, None)
        if have is None:
            self._wanted.add(topic)
        else:
            self._add_stream(topic, have)
        self._hurry = True
        self._change.set()

    def _add_stream(self, topic: bytes, have: int) -> _Stream:
        while len(self._streams) >= ROWS:  # of topics that were removed
            del self._streams[next(iter(self._streams))]
        self._streams[topic] = stream = _Stream(topic, have, have)
        return stream

    def _got_packet(self, head: Head, data: bytes) -> None:
        self._heard_at = time.monotonic()
        stream = self._streams.get(head.topic)
        if stream is None or head.end <= stream.seen:
            self.counts.repeated += 0 if stream is None else head.messages
            return
        if head.start > stream.seen:  # the packet before it is missing
            self._gap = True
            return
        if self._stop.is_set():
            return  # the next bridge gets it, or counts it as lost
        self._gap = False
        stream.seen = head.end
        self._waiting.append((stream, head, data))
        self._arrived.set()

    # -- publishing --------------------------------------------------------------------------------

    async def _publish_all(self) -> None:
        """Publish packet after packet. A lost connection does not interrupt it."""
        options = self.options
        packets = max(1, options.window // _PARTS)
        size = options.window * options.packet_bytes // _PARTS
        while True:
            while not self._waiting:
                await self._wait_for_packet()
            stream, head, data = self._waiting[0]
            try:
                await self._publish(stream, head, data)
            except Corrupt as exc:
                self._report(f"{self.address} {self.url.text}: {exc}; left out")
                self._count(stream, head, 0)
            self._waiting.popleft()
            self._unsaid.bytes += len(data)
            self._unsaid.packets += 1
            if self._unsaid.packets >= packets or self._unsaid.bytes >= size:
                await self._acknowledge()

    async def _wait_for_packet(self) -> None:
        """Wait for a packet. If none comes at once, acknowledge those that were published."""
        self._arrived.clear()
        try:
            async with asyncio.timeout(_PAUSE if self._unsaid.packets else None):
                await self._arrived.wait()
        except TimeoutError:
            await self._acknowledge()

    async def _publish(self, stream: _Stream, head: Head, data: bytes) -> None:
        """Publish the messages of a packet.

        Raises:
            Corrupt: it is not a packet, or its messages have the wrong size.
        """
        packet = unpack(data, BODY_AT)
        if self._type.size and packet.size != self._type.size:
            raise corrupt("it has messages of the wrong size")
        # It has messages that have arrived already if the sending bridge was started again.
        known = max(0, min(head.messages, head.messages - (head.end - stream.have)))
        count = head.messages - known
        self.counts.unacknowledged = count
        self._journal.begin(stream.id, head.end, count, self._tail)
        progress = [0]
        try:
            if 0 < packet.size <= native.INLINE_MAX:
                await self._publish_records(
                    packet.body[known * packet.size :], packet.size, progress
                )
            else:
                messages = self._of_good_length(packet.messages(known))
                await self._face.publish_many(messages)
                progress[0] = len(messages)
        except asyncio.CancelledError as exc:
            done = progress[0] + getattr(exc, "sent", 0)
            self._count(stream, head, done, left=count - done)
            raise
        self._count(stream, head, progress[0])
        self.counts.bytes += len(data)
        self.counts.batches += 1

    async def _publish_records(self, records: memoryview, size: int, progress: list[int]) -> None:
        """Publish short messages of one size with one copy; `progress` counts them."""
        assert self._topic is not None  # noqa: S101 - _open has set it
        total = len(records) // size
        while progress[0] < total:
            rest = records[progress[0] * size :]
            result = self._topic._send_batch(rest, size, 0, progress)
            if result != native.RING_OK:
                error = self._topic._explain_ring(result, "publish", 0)
                if not isinstance(error, WouldBlock):
                    raise error
                await self._face.publish(records[progress[0] * size :][:size])  # it waits for room
                progress[0] += 1

    def _of_good_length(self, messages: list[memoryview]) -> list[memoryview]:
        """Return the messages that the topic takes."""
        assert self._topic is not None  # noqa: S101 - _open has set it
        longest = self._topic.longest
        found = [each for each in messages if len(each) <= longest]
        if dropped := len(messages) - len(found):
            text = f"{dropped} messages are longer than {longest:,} bytes, the limit of this topic"
            self._report(f"{self.address} {self.url.text}: {text}; left out")
        return found

    def _count(self, stream: _Stream, head: Head, done: int, left: int = 0) -> None:
        """Count the messages of a packet that were published, and those that are lost.

        Args:
            stream: where the packet belongs.
            head: its beginning.
            done: how many of its messages were published.
            left: how many of its messages could not be published yet.
        """
        have = head.end - left
        self.counts.lost += have - stream.have - done
        self.counts.messages += done
        self.counts.unacknowledged = 0
        self._tail += done
        stream.have = have
        self._journal.end(stream.id, have)

    def _finish(self) -> None:
        if self._file is not None:
            self._file.store_counts(self.counts)
            # The journal stays: the next bridge tells the other side how far this one was.
            self._file.close(remove=os.fstat(self._fd).st_nlink == 0)
        if self._topic is not None:
            self._topic.close()
        self._file, self._topic, self._fd = None, None, -1
