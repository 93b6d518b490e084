"""ChannelSender: take messages from a channel, and publish them to a JetStream stream."""

from __future__ import annotations

import asyncio
import errno
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipckit._bridge.journal import SEND_SIZE, SendJournal
from ipckit._bridge.link import LINGER, Link
from ipckit._bridge.nats_session import EngineUnavailableError, Refusal, nats_session
from ipckit._bridge.payload_type import type_of_object
from ipckit._bridge.wire import HEAD, pack
from ipckit.channel import Delivery
from ipckit.errors import MessageTooLong, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._bridge.nats_session import NatsSession
    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.url import BridgeUrl
    from ipckit.channel import Channel

_ANSWER_SECONDS: Final = 10.0
_LONGEST_PAUSE: Final = 1.0
# `_step` lets the event loop run after every eighth packet, and after each one above 8 KiB.
_TURN, _SHORT = 8, 1 << 13
# Bytes of a packet besides its messages. The server counts the headers of NATS too.
_OVERHEAD: Final = HEAD.size + 1024


@dataclass(slots=True)
class _Packet:
    """A packet that the server has not acknowledged yet.

    Attributes:
        number: the number of the packet in the journal.
        data: the bytes that are sent.
        deliveries: the messages in the packet, which are acknowledged after the server's answer.
        refusal: the server's answer, if it did not store the packet.
    """

    number: int
    data: bytes
    deliveries: list[Delivery]
    refusal: Refusal | None = None


class ChannelSender(Link):
    """Takes messages from a channel, and acknowledges each after the server has stored it.

    Args:
        channel: the channel, opened with `RawCodec` and ``peer_gone="wait"``. The sender closes it.
        address: the channel's address.
        url: the server and the stream to which the messages go.
        options: the options.
        report: see `Link`.

    Raises:
        InUse: another process bridges the channel to this URL.
    """

    def __init__(
        self,
        channel: Channel[bytes],
        address: str,
        url: BridgeUrl,
        options: BridgeOptions,
        report: Callable[[str], None],
    ) -> None:
        super().__init__(address, url, "send", options, report)
        self._channel = channel
        self._type = type_of_object(channel.memory_fd, topic=False)
        memory = self._opened_file(channel.memory_fd, SEND_SIZE, topic=False).memory
        self._journal = SendJournal(memory)
        self._in_flight: dict[int, _Packet] = {}  # by number, in the order in which they were sent
        self._taken: deque[Delivery] = deque()  # taken, and not in a packet yet
        self._ordered = True  # the stream has no other sender
        self._last: int | None = None  # the packet that was sent last in this session
        self._refused = False  # a packet has a refusal
        self._answered_at = 0.0
        self._room = options.packet_bytes  # bytes of messages in a packet
        self._recover()

    def _recover(self) -> None:
        """Take the messages again that a bridge had taken when it was killed.

        The channel delivers these messages first, in their order. This bridge sends messages that
        were in a packet in a packet with the same number, so that the server recognises a copy.
        """
        sent = self._journal.packets()
        found: dict[int, list[Delivery]] = {packet.number: [] for packet in sent}
        end = max((packet.first + packet.count for packet in sent), default=0)
        while (delivery := self._take()) is not None:
            number = delivery.number
            for packet in sent:
                if packet.first <= number < packet.first + packet.count:
                    found[packet.number].append(delivery)
                    break
            else:
                self._taken.append(delivery)
            if number >= end or not delivery.redelivered:
                break
        for packet_number, deliveries in found.items():
            if deliveries:
                self._in_flight[packet_number] = self._packet(packet_number, deliveries)
            else:
                self._journal.end(packet_number)  # acknowledged before the bridge was killed
        self.counts.unacknowledged = sum(map(len, found.values()))

    def _take(self) -> Delivery | None:
        try:
            return self._channel.take(0)
        except WouldBlock:
            return None

    def _packet(self, number: int, deliveries: list[Delivery]) -> _Packet:
        data = pack(self._journal.sender, number, [each.buf for each in deliveries])
        return _Packet(number, data, deliveries)

    def _id(self, number: int) -> str:
        return f"{self._journal.sender.hex()}-{number}"

    # -- one connection ----------------------------------------------------------------------------

    async def _session(self) -> None:
        async with nats_session(self.url, self.options, f"ipckit bridge {self.address}") as session:
            await session.make_stream(self._type, self.options)
            self._check_length(self._type.size, session)
            lengths = 4 * self.options.packet_messages
            self._room = max(1, min(self._room, session.max_payload - _OVERHEAD - lengths))
            await session.listen(self._answered)
            session.broken.add_done_callback(lambda _: self._change.set())
            self._last = None
            self._answered_at = time.monotonic()
            self._set_state("connected")
            for packet in list(self._in_flight.values()):
                packet.refusal = None
                await self._publish(session, packet)
            while not self._stop.is_set():
                self._check(session)
                await self._step(session)
            await self._wait_for_answers(session, LINGER)

    def _check(self, session: NatsSession) -> None:
        """Check that the session can continue.

        Raises:
            EngineUnavailableError: the connection is lost, or the server does not answer.
            Removed: the channel was removed, and all its messages were sent.
        """
        if session.broken.done():
            raise EngineUnavailableError(session.last_error or "the connection was lost")
        silent = time.monotonic() - self._answered_at
        if self._in_flight and silent > _ANSWER_SECONDS:
            message = f"the server has not answered for {silent:.0f} s"
            raise EngineUnavailableError(message)
        if not self._in_flight and not len(self._channel):
            self._check_removed()

    async def _step(self, session: NatsSession) -> None:
        """Send a packet, or wait until a packet can be sent."""
        if self._refused:
            await self._send_again(session)
        elif len(self._in_flight) >= self.options.window:
            await self._changed()
        elif deliveries := await self._messages():
            if not self._type.size:
                self._check_length(max(each._nbytes for each in deliveries), session)
            if not self._in_flight:
                self._answered_at = time.monotonic()
            number = self._journal.start(deliveries[0].number, len(deliveries))
            self._in_flight[number] = packet = self._packet(number, deliveries)
            self.counts.unacknowledged += len(deliveries)
            await self._publish(session, packet)
            if number % _TURN == 0 or len(packet.data) > _SHORT:
                await asyncio.sleep(0)  # the event loop writes the packets and reads the answers

    async def _messages(self) -> list[Delivery]:
        """Take the messages for a packet. Wait for the first one if the channel is empty."""
        found: list[Delivery] = []
        most, room = self.options.packet_messages, self._room
        if each := self._type.size:
            most = max(1, min(most, room // each))
        taken, deliver = self._taken, self._channel._deliver  # faster than `take`
        size = 0
        try:
            while len(found) < most and size < room:
                delivery = taken.popleft() if taken else deliver(Delivery, 0)
                found.append(delivery)
                size += 0 if each else delivery._nbytes
        except WouldBlock:
            pass
        if not found and (first := await self._first()) is not None:
            found.append(first)
        if found and found[-1].number - found[0].number != len(found) - 1:
            found = self._in_a_row(found)
        if len(found) > 1 and size > room:  # the last message does not fit any more
            self._taken.appendleft(found.pop())
        return found

    def _in_a_row(self, found: list[Delivery]) -> list[Delivery]:
        """Return the first messages with consecutive numbers, and keep the others for later."""
        start = found[0].number
        end = next(i for i, each in enumerate(found) if each.number != start + i)
        self._taken.extendleft(reversed(found[end:]))
        return found[:end]

    async def _first(self) -> Delivery | None:
        """Wait for a message, or until something else changes."""
        if (delivery := self._take()) is not None:
            return delivery
        if len(self._channel):  # `take` failed because its memory for taken messages is full
            await self._changed()
            return None
        loop, fd = asyncio.get_running_loop(), self._channel.fileno()
        loop.add_reader(fd, self._change.set)
        try:
            await self._changed()
        finally:
            loop.remove_reader(fd)
        return self._take()

    def _check_length(self, length: int, session: NatsSession) -> None:
        """Check that a message fits into a packet.

        Raises:
            MessageTooLong: the message is too long.
        """
        if length + _OVERHEAD > session.max_payload:
            most = session.max_payload
            message = f"a message has {length:,} bytes, and the server accepts {most:,}"
            hint = "raise max_payload in the configuration of the NATS server"
            raise MessageTooLong(
                message, errno=errno.EMSGSIZE, op="bridge", target=self.address, hint=hint
            )

    # -- answers -----------------------------------------------------------------------------------

    async def _publish(self, session: NatsSession, packet: _Packet) -> None:
        after = None if self._last is None or not self._ordered else self._id(self._last)
        self._last = packet.number
        await session.publish(packet.number, packet.data, self._id(packet.number), after)

    def _answered(self, number: int, problem: Exception | None) -> None:
        """Process the server's answer to a packet."""
        self._answered_at = time.monotonic()
        self._change.set()
        if (packet := self._in_flight.get(number)) is None:
            return
        if isinstance(problem, Refusal):
            packet.refusal, self._refused = problem, True
            return
        del self._in_flight[number]
        for delivery in packet.deliveries:
            delivery._acknowledge()
        self._journal.end(number)
        counts = self.counts
        counts.messages += len(packet.deliveries)
        counts.unacknowledged = max(0, counts.unacknowledged - len(packet.deliveries))
        counts.bytes += len(packet.data)
        counts.batches += 1

    async def _wait_for_answers(self, session: NatsSession, seconds: float) -> None:
        """Wait until all packets have an answer, for at most `seconds`."""
        end = time.monotonic() + seconds
        while any(not packet.refusal for packet in self._in_flight.values()):
            self._check(session)
            if time.monotonic() > end:
                return
            await self._changed()

    async def _send_again(self, session: NatsSession) -> None:
        """Send the packets that the server has refused again, in their order.

        The server refuses a packet if the stream or the disk is full. It also refuses a packet if
        the one before it is not the last one in the stream. Then that packet was refused too, or
        another sender has sent a packet in between.
        """
        await self._wait_for_answers(session, _ANSWER_SECONDS)
        self._refused = False
        pause = 0.0
        while not self._stop.is_set() and self._in_flight:
            first = min(self._in_flight.values(), key=lambda each: each.number)
            if first.refusal is None:
                break
            if first.refusal.no_stream:  # the next session creates the stream again
                raise EngineUnavailableError(str(first.refusal))
            if first.refusal.wrong_last:
                self._ordered = self._last_was_refused(first)
            else:
                self._set_state("waiting", str(first.refusal))
                pause = min(2 * pause + 0.01, _LONGEST_PAUSE)
                await self._pause(pause)
            first.refusal, self._last = None, None
            await self._publish(session, first)
            await self._wait_for_answers(session, _ANSWER_SECONDS)
        for packet in sorted(self._in_flight.values(), key=lambda each: each.number):
            if packet.refusal is not None:
                packet.refusal = None
                await self._publish(session, packet)
        if not self._stop.is_set():
            self._set_state("connected")

    def _last_was_refused(self, packet: _Packet) -> bool:
        """Return whether a packet was refused only because the packet before it was refused.

        The server names the last packet in the stream. If this is another sender's packet, several
        senders send into the stream. Then the order is kept only while the server refuses none.
        """
        named = str(packet.refusal).rpartition(": ")[2]
        return self._ordered and (not named or named.startswith(self._journal.sender.hex()))

    def _finish(self) -> None:
        if self._file is None:
            return
        self.counts.unacknowledged = sum(len(each.deliveries) for each in self._in_flight.values())
        self._file.store_counts(self.counts)
        done = not self._in_flight
        self._in_flight.clear()
        self._taken.clear()  # a Delivery that is freed returns its message to the channel
        self._channel.close()
        self._file.close(remove=done)
        self._file = None
        self._fd = -1
