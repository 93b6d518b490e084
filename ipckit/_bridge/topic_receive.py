"""TopicReceiver: receive packets from sending bridges, and publish their messages to a topic."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._bridge.link import LINGER, Link
from ipckit._bridge.nats_session import EngineUnavailableError
from ipckit._bridge.payload_type import type_of_object
from ipckit._bridge.topic_engine import topic_engine
from ipckit._bridge.topic_journal import ROWS, TOPIC_SIZE, TopicJournal
from ipckit._bridge.topic_publish import SourceTopic, TopicPublisher
from ipckit._bridge.topic_wire import (
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
from ipckit.errors import Corrupt, IpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.payload_type import PayloadType
    from ipckit._bridge.topic_engine import TopicEngine
    from ipckit._bridge.url import BridgeUrl
    from ipckit.topic import Topic


# The bridge acknowledges packets when a half (1 / _PARTS) of the window is published, or _PAUSE
# seconds after the first unacknowledged packet.
_PARTS: Final = 2
_PAUSE: Final = 0.02


class TopicReceiver(Link):
    """Publishes the messages that arrive from the engine to a topic on this machine.

    Args:
        open_topic: opens the topic, or creates it from the sending bridge's description of its own.
        address: the topic's address.
        url: the engine and the name from which the messages come.
        options: the options.
        report: see `Link`.

    Raises:
        InUse: another process runs this bridge.
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
        self._type: PayloadType
        self._journal: TopicJournal
        self._publisher: TopicPublisher | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._id = os.urandom(ID_SIZE)
        self._sources: dict[bytes, SourceTopic] = {}
        self._known: dict[bytes, int] = {}  # the number of the next message, from the journal
        self._wanted: set[bytes] = set()  # topics that have no source yet
        self._hurry = False  # send a hello at once
        self._history = False  # a topic on the other side has a history
        self._engine: TopicEngine | None = None
        self._problem: Exception | None = None
        self._heard_at = 0.0
        self._gap = False  # packets are missing
        self._said = ""  # the last report about an invalid packet
        self._unsaid = 0.0  # packets published since the last hello; a long one counts as several
        self._acknowledging = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None  # sets `_acknowledging`
        self._open_file_early(TOPIC_SIZE)

    async def _run(self) -> None:
        self._start(self._acknowledge())
        try:
            await super()._run()
            await self._wait_for_publisher()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that runs as long as the bridge. If it fails, the bridge ends."""
        task = asyncio.create_task(work)
        self._tasks.append(task)

        def ended(_: asyncio.Task[None]) -> None:
            if not task.cancelled() and isinstance(exc := task.exception(), Exception):
                self._fail(exc)

        task.add_done_callback(ended)

    def _fail(self, problem: Exception) -> None:
        """End the bridge with an exception."""
        self._problem = problem
        self._change.set()

    async def _wait_for_publisher(self) -> None:
        """Wait until the packets that have arrived are published, for at most `LINGER` seconds."""
        end = time.monotonic() + LINGER
        while self._publisher is not None and not self._publisher.is_idle:
            if self._problem is not None or time.monotonic() > end:
                return
            await asyncio.sleep(HELLO_EVERY / 10)

    def _open(self, status: Status) -> None:
        """Open the topic and read the journal, the first time. Check the type of the messages.

        Raises:
            LayoutMismatch: the messages are of another type.
            IpcError: the topic can't be opened or created.
        """
        if self._topic is None:
            status.type.check_byteorder(self.address)  # first, because `_open_topic` may create it
            self._topic = topic = self._open_topic(status)
            fd = topic.memory_fd
            self._type = type_of_object(fd, topic=True)
            self._type.check_same(status.type, self.address)
            self._journal = TopicJournal(self._opened_file(fd, TOPIC_SIZE, topic=True).memory)
            tail = int(native.ring_look(fd, True)["tail"])  # noqa: FBT003 - a native function
            alone = not topic.publishers()
            self._known, uncertain = self._journal.recover(tail, alone=alone)
            self.counts.uncertain += uncertain
            self._publisher = TopicPublisher(
                topic,
                size=self._type.size,
                journal=self._journal,
                tail=tail,
                counts=self.counts,
                report=lambda text: self._report(f"{self.address} {self.url.text}: {text}"),
                done=self._published,
            )
            self._start(self._publisher.run())
        self._type.check_same(status.type, self.address)

    # -- one connection ----------------------------------------------------------------------------

    async def _session(self) -> None:
        name = f"ipckit bridge {self.address}"
        async with topic_engine(self.url, self.options, name, sends=False) as engine:
            self._engine = engine
            self._heard_at = time.monotonic()
            self._gap = True  # packets that were sent before may not arrive any more
            try:
                await engine.listen(f"down/{self._id.hex()}", self._got)
                while not self._stop.is_set():
                    await self._say()
                    await self._watch(engine, HELLO_EVERY)
                await self._wait_for_publisher()
            finally:
                self._engine = None
                with suppress(EngineUnavailableError):
                    if self._stop.is_set():
                        await engine.send("up", self._hello(bye=True))

    async def _watch(self, engine: TopicEngine, seconds: float) -> None:
        """Wait for some seconds, or until a hello must be sent at once.

        Raises:
            EngineUnavailableError: the connection is lost.
            IpcError: the bridge can't continue.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._stop.is_set() and not self._hurry:
            if engine.broken.done():
                raise EngineUnavailableError(engine.last_error or "the connection was lost")
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
        """Return a hello, which also acknowledges all published packets."""
        positions: dict[bytes, Position | None] = dict.fromkeys(self._wanted)
        for each in self._sources.values():
            positions[each.id] = Position(each.have, each.seen)
        options = self.options
        self._unsaid = 0.0
        self._acknowledging.clear()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        size = options.window * options.packet_bytes
        return Hello(self._id, options.window, size, positions, **more).encode()

    async def _say(self) -> None:
        """Send a hello, so that the sending bridges know that this bridge is alive."""
        if self._engine is not None:
            await self._engine.send("up", self._hello(ask=True, again=self._gap))
            self._gap = self._hurry = False

    # -- arriving packets --------------------------------------------------------------------------

    def _got(self, data: bytes) -> None:
        try:
            if is_packet(data):
                self._got_packet(head_of(data), data)
            else:
                self._got_status(Status.decode(data, self.url.text))
        except Corrupt as exc:
            if str(exc) != self._said:  # report each problem only once in a row
                self._report(f"{self.address} {self.url.text}: {exc}; skipped")
            self._said = str(exc)
        except IpcError as exc:
            self._fail(exc)

    def _got_status(self, status: Status) -> None:
        self._heard_at = time.monotonic()
        if status.problem:
            self._set_state("waiting", status.problem)
            return
        self._open(status)
        self._history = self._history or status.history > 0
        source = self._sources.get(status.topic)
        if not status.sends:
            if source is None and status.topic not in self._wanted:
                self._want(status.topic)
            return
        if source is None:
            self._wanted.discard(status.topic)
            self._journal.add(status.topic, status.first)
            source = self._add_source(status.topic, status.first)
        if status.sent > source.seen:
            self._gap = True  # the next hello asks for the missing packets
        self._set_state("connected")

    def _want(self, topic: bytes) -> None:
        """Ask for the messages of a topic, from the position at which the last bridge ended."""
        have = self._known.pop(topic, None)
        if have is None:
            # A live sending bridge sends its status again, so a removed entry comes back.
            while len(self._wanted) >= ROWS:
                self._wanted.pop()
            self._wanted.add(topic)
        else:
            self._add_source(topic, have)
        self._hurry = True
        self._change.set()

    def _add_source(self, topic: bytes, have: int) -> SourceTopic:
        # The oldest sources are probably those of topics that were removed.
        while len(self._sources) >= ROWS:
            del self._sources[next(iter(self._sources))]
        self._sources[topic] = source = SourceTopic(topic, have, have)
        return source

    def _got_packet(self, head: Head, data: bytes) -> None:
        self._heard_at = time.monotonic()
        source = self._sources.get(head.topic)
        if source is None or head.end <= source.seen:
            self.counts.repeated += 0 if source is None else head.messages
            return
        if head.start > source.seen:  # the packet before it is missing
            self._gap = True
            return
        if self._stop.is_set() or self._publisher is None:
            return  # the next bridge gets this packet, or counts its messages as lost
        self._gap = False
        source.seen = head.end
        self._publisher.put(source, head, data)

    # -- acknowledgements --------------------------------------------------------------------------

    def _published(self, size: int) -> None:
        """Count a published packet. Acknowledge after half a window, or else after `_PAUSE`."""
        options = self.options
        self._unsaid += max(size / options.packet_bytes, 1)
        if self._unsaid * _PARTS >= options.window:
            self._acknowledging.set()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(_PAUSE, self._acknowledging.set)

    async def _acknowledge(self) -> None:
        """Send acknowledgements, so that the sending bridges send more packets."""
        while True:
            await self._acknowledging.wait()
            if self._engine is not None:
                with suppress(EngineUnavailableError):
                    await self._engine.send("up", self._hello())
            else:
                self._acknowledging.clear()

    def _finish(self) -> None:
        if self._file is not None:
            self._file.store_counts(self.counts)
            # Keep the journal if the next bridge would get messages again, from the history.
            done = not self._history and (self._publisher is None or self._publisher.is_idle)
            useless = self._file.fresh if self._fd < 0 else os.fstat(self._fd).st_nlink == 0
            self._file.close(remove=done or useless)
        if self._topic is not None:
            self._topic.close()
        self._file, self._topic, self._fd = None, None, -1
