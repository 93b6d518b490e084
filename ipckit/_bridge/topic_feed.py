"""Feed: send the messages of a topic to one receiving bridge."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import ipckit._native as native
from ipckit._bridge.nats_session import EngineUnavailableError
from ipckit._bridge.topic_wire import GONE_AFTER, packet_of, packet_of_records
from ipckit.errors import WouldBlock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.payload_type import PayloadType
    from ipckit._bridge.topic_engine import TopicEngine
    from ipckit._bridge.topic_wire import Hello, Status
    from ipckit._core.bridge_file import Counts
    from ipckit.topic import Subscription

# From this length on, each message has a packet of its own. It is copied only once, from the
# topic's memory to the packet.
_LONG: Final = 1 << 15
_FIRST_GUESS: Final = 1024  # the assumed length of a message before the first one
_LENGTH_SIZE: Final = 4


class Sender(Protocol):
    """The part of the sending bridge that a feed uses; see `TopicSender`."""

    options: BridgeOptions
    counts: Counts
    type: PayloadType
    id: bytes
    engine: TopicEngine | None

    @property
    def published(self) -> int:
        """The number of messages that were published to the topic."""
        ...

    @property
    def longest(self) -> int:
        """The most bytes of messages in a packet."""
        ...

    def check_length(self, length: int) -> None:
        """Check that messages of `length` bytes fit into a packet."""

    def status(self, first: int | None, sent: int) -> Status:
        """Return the status for a receiving bridge."""
        ...

    async def send(self, path: str, data: Any) -> None:
        """Send a packet."""


class _Sent(NamedTuple):
    """A packet that was sent, and is not acknowledged yet.

    Attributes:
        end: the number after its last message.
        messages: how many messages it contains.
        size: its size in bytes.
        data: the packet, from `TopicEngine.prepared`.
    """

    end: int
    messages: int
    size: int
    data: Any


class Feed:
    """A subscription to the topic for one receiving bridge, and the packets sent to that bridge.

    The receiving bridge limits how many packets and bytes may be unacknowledged. While the limit is
    reached, the feed receives no more messages from its subscription. Then publishers wait, or the
    subscription loses messages, as with any slow subscriber.

    Args:
        sender: the sending bridge.
        subscription: the subscription, with the history. The feed closes it.
        hello: the first hello of the receiving bridge.

    Attributes:
        unacknowledged: number of messages that are sent, and not acknowledged yet.
        first: the number of the first message for the receiving bridge.
    """

    def __init__(self, sender: Sender, subscription: Subscription[bytes], hello: Hello) -> None:
        self._sender, self._subscription = sender, subscription
        self._path = f"down/{hello.receiver.hex()}"
        self._size = sender.type.size
        self._average = float(self._size or _FIRST_GUESS)
        self._in_flight: deque[_Sent] = deque()
        self._in_flight_bytes = 0
        self.unacknowledged = 0
        self._answer = False
        self._again: int | None = None  # send unacknowledged packets again, from this number on
        self._wake = asyncio.Event()
        self._until: int | None = None  # take no messages from this number on
        self.first = self._start(hello)
        self._sent = self.first  # the packets before this number have been sent
        self.hear(hello)

    def _start(self, hello: Hello) -> int:
        """Skip the messages that the receiver has. Return the number of the first one it gets."""
        first = self._subscription._position
        position = hello.positions.get(self._sender.id)
        if position is None or position.seen > self._sender.published:
            return first  # the receiver is new, or its position is not one of this topic
        with suppress(WouldBlock):
            while self._subscription._position < position.seen:
                self._subscription.receive_view(timeout=0).release()
        return position.seen

    def hear(self, hello: Hello) -> None:
        """Process a hello of the receiving bridge."""
        self._heard_at = time.monotonic()
        self._packets, self._bytes = hello.packets, hello.room
        position = hello.positions.get(self._sender.id)
        have, seen = (0, self.first) if position is None else position
        in_flight, counts = self._in_flight, self._sender.counts
        while in_flight and in_flight[0].end <= have:
            sent = in_flight.popleft()
            self._in_flight_bytes -= sent.size
            self.unacknowledged -= sent.messages
            counts.messages += sent.messages
            counts.bytes += sent.size
            counts.batches += 1
        self._answer |= hello.ask
        if hello.again:
            self._again = seen
        self._wake.set()

    @property
    def silent(self) -> bool:
        """Whether the receiving bridge has sent no hello for `GONE_AFTER` seconds."""
        return time.monotonic() - self._heard_at > GONE_AFTER

    @property
    def is_done(self) -> bool:
        """Whether the receiving bridge has acknowledged all messages."""
        if self._until is not None:
            return not self._in_flight and self._sent >= self._until
        return not self._in_flight and not len(self._subscription)

    def wake(self) -> None:
        """Wake `run`, because the engine is connected again."""
        self._wake.set()

    def finish(self) -> None:
        """Send only the messages that are unread now, and no later ones."""
        unread = len(self._subscription)
        self._until = self._sent if not unread else self._sender.published

    def close(self) -> None:
        """Close the subscription, so that publishers do not wait for it."""
        self._subscription.close()

    # -- packets -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send packets until the task is cancelled."""
        while True:
            engine = self._sender.engine
            try:
                if engine is None or not await self._step():
                    await self._waited()
            except EngineUnavailableError:
                # The receiving bridge asks for the packets that it did not get.
                await asyncio.sleep(0.1)

    async def _step(self) -> bool:
        """Send a status or packets. Return False if there is nothing to send now."""
        send = self._sender.send
        if self._answer:
            self._answer = False
            await send(self._path, self._status().encode())
        elif self._again is not None:
            seen, self._again = self._again, None
            for sent in list(self._in_flight):
                if sent.end > seen:
                    await send(self._path, sent.data)
        elif self._is_full() or not (found := self._take()):
            return False
        else:
            # Record all packets before the first is sent. If the connection is lost now, the
            # receiving bridge asks for all of them.
            for sent in found:
                self._in_flight.append(sent)
                self._in_flight_bytes += sent.size
                self.unacknowledged += sent.messages
                self._sent = sent.end
            for sent in found:
                await send(self._path, sent.data)
            if len(self._in_flight) * 2 > self._packets or self._in_flight_bytes * 2 > self._bytes:
                await asyncio.sleep(0)  # the event loop reads acknowledgements
        return True

    def _is_full(self) -> bool:
        """Return whether the feed must not take messages now."""
        if self._until is not None and self._sent >= self._until:
            return True
        return len(self._in_flight) >= self._packets or self._in_flight_bytes >= self._bytes

    def _status(self) -> Status:
        return self._sender.status(self.first, self._sent)

    async def _waited(self) -> None:
        """Wait for a message if there is room for it, or until `_wake` is set."""
        self._wake.clear()
        loop = asyncio.get_running_loop()
        fd = -1
        if self._sender.engine is not None and not self._is_full():
            fd = self._subscription.fileno()
            loop.add_reader(fd, self._wake.set)
        try:
            with suppress(TimeoutError):
                # Not `asyncio.wait_for`: in Python 3.11 it can miss a cancellation.
                async with asyncio.timeout(1):
                    await self._wake.wait()
        finally:
            if fd >= 0:
                loop.remove_reader(fd)

    def _take(self) -> list[_Sent]:
        """Take messages from the subscription, and return them in packets; [] if there are none."""
        try:
            if 0 < self._size <= native.INLINE_MAX:
                return self._take_records()
            if self._average >= _LONG:
                return self._take_long()
            return self._take_some()
        except WouldBlock:
            return []

    def _room(self, size: float) -> int:
        """Return how many messages of `size` bytes fit into a packet."""
        options = self._sender.options
        return max(1, min(options.packet_messages, int(options.packet_bytes / max(size, 1))))

    def _take_records(self) -> list[_Sent]:
        """Take short messages that all have the same size, with one copy."""
        size, progress = self._size, [0]
        # Ask for at least one message: if there is none, the call makes the descriptor unreadable.
        most = min(self._room(size), max(1, len(self._subscription)))
        buffer = memoryview(bytearray(most * size))
        self._subscription._receive_batch(buffer, size, 0, progress)
        if not (count := progress[0]):
            return []
        start, end = self._advance(count)
        topic = self._sender.id
        return [
            self._prepared(
                end, count, packet_of_records(topic, start, end, count, buffer[: count * size])
            )
        ]

    def _take_long(self) -> list[_Sent]:
        """Take one message, and copy it from the topic's memory to the packet."""
        with self._subscription.receive_view(timeout=0) as view:
            start, end = self._advance(1)
            with view.buf as message:
                self._average = float(len(message))
                self._sender.check_length(len(message))
                packet = packet_of(self._sender.id, start, end, [message])
                return [self._prepared(end, 1, packet)]

    def _take_some(self) -> list[_Sent]:
        """Take about as many messages as fit into a packet, judged by the average length."""
        messages: list[bytes] = self._subscription.receive_many(
            self._room(self._average), timeout=0
        )
        size = sum(map(len, messages))
        self._average = size / len(messages)
        start, end = self._advance(len(messages))
        first = end - len(messages)
        found: list[_Sent] = []
        for some in self._divided(messages, size):
            first += len(some)
            packet = packet_of(self._sender.id, start, first, some)
            found.append(self._prepared(first, len(some), packet))
            start = first
        return found

    def _prepared(self, end: int, messages: int, parts: Sequence[memoryview | bytes]) -> _Sent:
        engine = self._sender.engine
        assert engine is not None  # noqa: S101 - _step is called only then
        return _Sent(end, messages, sum(map(len, parts)), engine.prepared(parts))

    def _divided(self, messages: Sequence[bytes], size: int) -> list[Sequence[bytes]]:
        """Divide messages among several packets if they are too long for one."""
        limit = min(self._sender.options.packet_bytes * 2, self._sender.longest)
        size += _LENGTH_SIZE * len(messages)
        if len(messages) == 1:
            self._sender.check_length(len(messages[0]))
        if size <= limit or len(messages) == 1:
            return [messages]
        middle = len(messages) // 2
        left, right = messages[:middle], messages[middle:]
        return [
            *self._divided(left, sum(map(len, left))),
            *self._divided(right, sum(map(len, right))),
        ]

    def _advance(self, count: int) -> tuple[int, int]:
        """Return the range of numbers of the next packet, and count the messages lost in it.

        Args:
            count: how many messages were taken.
        """
        end = self._subscription._position
        self._sender.counts.lost += end - self._sent - count
        return self._sent, end
