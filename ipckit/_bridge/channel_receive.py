"""ChannelReceiver: fetch packets from a JetStream stream, and send the messages into a channel."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit import aio
from ipckit._bridge.journal import RECEIVE_SIZE, ReceiveJournal
from ipckit._bridge.link import Link
from ipckit._bridge.nats_pull import Pull
from ipckit._bridge.nats_session import ACK_WAIT, EngineUnavailableError, nats_session
from ipckit._bridge.payload_type import type_of_object
from ipckit._bridge.wire import unpack
from ipckit._core import processes
from ipckit.errors import Corrupt, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.msg import Msg

    from ipckit._bridge.nats_session import NatsSession
    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.payload_type import PayloadType
    from ipckit._bridge.url import BridgeUrl
    from ipckit._bridge.wire import Packet
    from ipckit.channel import Channel

_COUNT_MASK: Final = (1 << 24) - 1
_FLUSH_SECONDS: Final = 3
_LOOK_SECONDS: Final = 0.2


class ChannelReceiver(Link):
    """Sends the messages of a stream into a channel, and then acknowledges them to the server.

    Args:
        open_channel: opens or creates the channel for a type of messages.
        address: the channel's address.
        url: the server and the stream from which the messages come.
        options: the options.
        report: see `Link`.

    Raises:
        InUse: another process runs this bridge.
    """

    def __init__(
        self,
        open_channel: Callable[[PayloadType], Channel[bytes]],
        address: str,
        url: BridgeUrl,
        options: BridgeOptions,
        report: Callable[[str], None],
    ) -> None:
        super().__init__(address, url, "receive", options, report)
        self._open_channel = open_channel
        self._channel: Any = None  # the channel, once its type is known
        self._face: Any = None
        self._journal: ReceiveJournal
        self._type: PayloadType
        self._tail = 0
        self._leaving = False  # no more packets are delivered
        self._done = False  # the server has all acknowledgements
        self._unacked: dict[str, Msg] = {}  # unacknowledged packets, by their ack subjects
        self._waiting: asyncio.Queue[Msg] = asyncio.Queue()
        self._deliverer: asyncio.Task[None] | None = None
        self._open_file_early(RECEIVE_SIZE)

    def _open(self, payload: PayloadType) -> None:
        """Open the channel, and find out which packets were delivered before."""
        if self._channel is None:
            payload.check_byteorder(self.address)  # first, because `_open_channel` may create it
            self._channel = channel = self._open_channel(payload)
            fd = channel.memory_fd
            self._type = type_of_object(fd, topic=False)
            self._type.check_same(payload, self.address)
            self._journal = ReceiveJournal(self._opened_file(fd, RECEIVE_SIZE, topic=False).memory)
            facts = native.ring_look(fd, False)  # noqa: FBT003 - a native function
            self._tail, seen = facts["tail"], facts["senders_seen"]
            self.counts.uncertain += self._journal.recover(self._tail, seen)
            self._journal.note_senders(alone=_is_alone(facts), senders_seen=seen)
            self._face = aio.wrap(channel)
        self._type.check_same(payload, self.address)

    async def _run(self) -> None:
        try:
            await super()._run()
        finally:
            if self._deliverer is not None:
                self._deliverer.cancel()
                with suppress(asyncio.CancelledError):
                    await self._deliverer

    # -- one connection ----------------------------------------------------------------------------

    async def _session(self) -> None:
        async with nats_session(self.url, self.options, f"ipckit bridge {self.address}") as session:
            payload = await session.stream_type()
            if payload is None:
                message = f"there is no stream {self.url.name} yet"
                raise EngineUnavailableError(message)
            self._open(payload)
            if self._deliverer is None:
                self._deliverer = asyncio.create_task(self._deliver_all())
            await session.make_consumer(self.options.window)
            self._set_state("connected")
            extending = asyncio.create_task(self._extend_ack_wait())
            try:
                await self._wait_for_others(session)
                await self._fetch(session)
            finally:
                extending.cancel()
            # A packet that arrives from now on could be delivered, but no longer acknowledged.
            self._leaving = True
            await self._nak_waiting()
            # If this fails, the server may not have all acknowledgements. Then it delivers packets
            # again, and the next bridge needs the journal.
            with suppress(Exception):
                await session.client.flush(_FLUSH_SECONDS)
                self._done = not self._unacked

    async def _wait_for_others(self, session: NatsSession) -> None:
        """Wait until the server delivers the packets again that it sent to a lost connection.

        If this bridge fetched packets now, the server would deliver newer ones first, and the order
        would change. `_deliver_all` delivers and acknowledges the packets that are here meanwhile.
        """
        end = time.monotonic() + ACK_WAIT
        while time.monotonic() < end and not self._stop.is_set():
            self._check(session)
            if not (await session.unacknowledged()):
                return
            await self._pause(_LOOK_SECONDS)

    def _check(self, session: NatsSession) -> None:
        """Check that the session can continue.

        Raises:
            EngineUnavailableError: the connection is lost.
            IpcError: the delivery of packets ended with an error.
            Removed: the channel was removed.
        """
        if self._deliverer is not None and self._deliverer.done():
            self._deliverer.result()  # raises the exception that ended the task
        if session.broken.done():
            raise EngineUnavailableError(session.last_error or "the connection was lost")
        self._check_removed()

    async def _fetch(self, session: NatsSession) -> None:
        """Fetch packets for `_deliver_all` until `stop` is called."""
        pull = Pull(session.client, self.url.name, self._arrived)
        await pull.start()
        window = self.options.window
        while not self._stop.is_set():
            self._check(session)
            pull.check()
            if 2 * (pull.asked + self._waiting.qsize()) <= window:
                await pull.ask(window - pull.asked - self._waiting.qsize())
            await self._changed()

    def _arrived(self, msg: Msg) -> None:
        if self._leaving:  # the server delivers it again
            return
        self._unacked[msg.reply] = msg
        self._waiting.put_nowait(msg)

    async def _extend_ack_wait(self) -> None:
        """Extend the server's ack wait of the packets for which the channel has no room yet."""
        while True:
            await asyncio.sleep(ACK_WAIT / 3)
            with suppress(Exception):
                for msg in list(self._unacked.values()):
                    await msg.in_progress()

    async def _nak_waiting(self) -> None:
        """Send a nak for each packet that waits, so that the server delivers it again at once."""
        while not self._waiting.empty():
            msg = self._waiting.get_nowait()
            self._unacked.pop(msg.reply, None)
            with suppress(Exception):  # the connection is lost: the server delivers it again anyway
                await msg.nak()

    # -- packets -----------------------------------------------------------------------------------

    async def _deliver_all(self) -> None:
        """Deliver one packet after another. A lost connection does not interrupt this task."""
        while True:
            msg = await self._waiting.get()
            try:
                await self._deliver(msg)
            except Corrupt as exc:
                self._report(f"{self.address} {self.url.text}: {exc}; skipped")
                with suppress(Exception):
                    await msg.term()
            finally:
                self._unacked.pop(msg.reply, None)
                self._change.set()

    async def _deliver(self, msg: Msg) -> None:
        """Send the messages of a packet into the channel.

        Raises:
            Corrupt: the data are not a packet, or its messages have the wrong size.
        """
        packet = unpack(msg.data)
        self._check_sizes(packet)
        sender, number = packet.sender, packet.number
        counts, count = self.counts, packet.count
        known = self._journal.has(sender, number)
        if known:
            counts.repeated += count
        else:
            counts.uncertain += count if known is None else 0
            done = min(self._journal.delivered(sender, number), count)
            counts.unacknowledged = count - done
            self._journal.begin(sender, number, count - done, self._tail)
            await self._send(packet, done)
            self._tail = self._tail + count - done & _COUNT_MASK
            self._journal.end(sender, number)
            counts.unacknowledged = 0
            counts.messages += count
            counts.bytes += len(msg.data)
            counts.batches += 1
        with suppress(Exception):  # the connection is lost: the server delivers the packet again
            await msg.ack()

    async def _send(self, packet: Packet, first: int) -> None:
        """Send the messages of a packet into the channel, from number `first` on."""
        size = packet.size
        if not size or size > native.INLINE_MAX:
            await self._face.send_many(packet.messages(first))
            return
        records = packet.body[first * size :]
        while records:
            progress = [0]
            result = self._channel._send_batch(records, size, 0, progress)
            records = records[progress[0] * size :]
            if result != native.RING_OK:
                error = self._channel._explain_ring(result, "send", 0)
                if not isinstance(error, WouldBlock):
                    raise error
                await self._face.send(records[:size])  # waits for room
                records = records[size:]

    def _check_sizes(self, packet: Packet) -> None:
        size = self._type.size
        if (size and packet.size != size) or packet.longest > self._channel.longest:
            message = "a packet has messages of a size that the channel does not accept"
            raise Corrupt(message, errno=errno.EBADMSG, op="bridge", target=self.address)

    def _finish(self) -> None:
        if self._file is not None:
            self._file.store_counts(self.counts)
            # Keep the journal if the server may deliver packets again. A journal without entries
            # and the journal of a removed channel are useless.
            useless = self._file.fresh if self._fd < 0 else os.fstat(self._fd).st_nlink == 0
            self._file.close(remove=self._done or useless)
        if self._channel is not None:
            self._channel.close()
        self._file, self._channel, self._fd = None, None, -1


def _is_alone(facts: dict[str, Any]) -> bool:
    """Return whether no live sender has the channel open."""
    return not any(
        row["roles"] & native.ROLE_SENDER and not processes.is_dead(row["token"])
        for row in facts["peers"]
    )
