"""TopicSender: send the messages of a topic to receiving bridges, with a `Feed` for each."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._bridge.link import LINGER, Link, identity_of
from ipckit._bridge.nats_session import EngineUnavailableError
from ipckit._bridge.payload_type import type_of_object
from ipckit._bridge.topic_engine import topic_engine
from ipckit._bridge.topic_feed import Feed
from ipckit._bridge.topic_wire import ID_SIZE, OVERHEAD, Hello, Status
from ipckit.errors import Corrupt, IpcError, MessageTooLong

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.topic_engine import TopicEngine
    from ipckit._bridge.url import BridgeUrl
    from ipckit.topic import Topic

_SUBSCRIBE_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.25
_NO_LIMIT: Final = 1 << 40


class TopicSender(Link):
    """Subscribes to a topic for each receiving bridge, and sends the messages to that bridge.

    Args:
        topic: the topic, opened with `RawCodec`. The sender closes it.
        address: the topic's address.
        url: the engine and the name to which the messages go.
        options: the options.
        report: see `Link`.

    Attributes:
        type: the type of the messages.
        id: the id of the topic: 16 bytes, different for each topic.
        engine: the connection to the engine; None while it is not connected.

    Raises:
        InUse: another process bridges the topic to this URL.
    """

    def __init__(
        self,
        topic: Topic[bytes],
        address: str,
        url: BridgeUrl,
        options: BridgeOptions,
        report: Callable[[str], None],
    ) -> None:
        super().__init__(address, url, "send", options, report)
        self._topic = topic
        fd = topic.memory_fd
        self.type = type_of_object(fd, topic=True)
        self._bytes = int(native.ring_look(fd, True)["bytes"])  # noqa: FBT003 - a native function
        self.id = _id_of(fd)
        self.engine: TopicEngine | None = None
        self._feeds: dict[bytes, Feed] = {}
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._said = ""  # the last report about an invalid hello
        self._opened_file(fd, 0, topic=True)

    async def _run(self) -> None:
        looking = asyncio.create_task(self._drop_silent_feeds())
        try:
            await super()._run()
        finally:
            looking.cancel()
            tasks = list(self._tasks.values())
            for receiver in list(self._feeds):
                self._drop(receiver)
            await asyncio.gather(looking, *tasks, return_exceptions=True)

    async def _drop_silent_feeds(self) -> None:
        """Drop the feeds of silent receiving bridges, because publishers may wait for a feed."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for receiver, feed in list(self._feeds.items()):
                if feed.silent:
                    self._drop(receiver)
            self.counts.unacknowledged = sum(each.unacknowledged for each in self._feeds.values())

    def _drop(self, receiver: bytes) -> None:
        """End the feed of a receiving bridge."""
        del self._feeds[receiver]
        self._tasks.pop(receiver).cancel()
        self._change.set()

    # -- one connection ----------------------------------------------------------------------------

    async def _session(self) -> None:
        name = f"ipckit bridge {self.address}"
        async with topic_engine(self.url, self.options, name, sends=True) as engine:
            self.engine = engine
            self.check_length(self.type.size)
            try:
                await engine.listen("up", self._heard)
                for feed in self._feeds.values():
                    feed.wake()
                await self._serve(engine)
            finally:
                self.engine = None

    async def _serve(self, engine: TopicEngine) -> None:
        """Check the feeds and update the state until `stop` is called. Then finish the feeds."""
        while not self._stop.is_set():
            self._check(engine)
            if all(feed.is_done for feed in self._feeds.values()):
                self._check_removed()
            if self._feeds:
                self._set_state("connected")
            else:
                self._set_state("waiting", "no receiving bridge is connected")
            await self._changed()
        for feed in self._feeds.values():
            feed.finish()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while not all(feed.is_done for feed in self._feeds.values()):
                    self._check(engine)
                    await asyncio.sleep(_LOOK_SECONDS / 10)

    def _check(self, engine: TopicEngine) -> None:
        """Check that the connection and the feeds still work.

        Raises:
            EngineUnavailableError: the connection is lost.
            IpcError: a feed ended with this error.
        """
        if engine.broken.done():
            raise EngineUnavailableError(engine.last_error or "the connection was lost")
        for task in self._tasks.values():
            if task.done():
                task.result()

    def _heard(self, data: bytes) -> None:
        """Process a hello of a receiving bridge."""
        try:
            hello = Hello.decode(data)
        except Corrupt as exc:
            if str(exc) != self._said:  # report each problem only once in a row
                self._report(f"{self.address} {self.url.text}: {exc}; skipped")
            self._said = str(exc)
            return
        feed = self._feeds.get(hello.receiver)
        if hello.bye:
            if feed is not None:
                self._drop(hello.receiver)
        elif feed is not None:
            feed.hear(hello)
        elif hello.ask and self.id not in hello.positions:
            self._answer(hello.receiver, self.status(None, 0))
        elif hello.ask and not self._stop.is_set():
            self._start(hello)

    def _start(self, hello: Hello) -> None:
        """Start the feed of a new receiving bridge."""
        try:
            subscription = self._topic.subscribe(
                when_full=self.options.when_full, peer_gone="wait", timeout=_SUBSCRIBE_SECONDS
            )
        except IpcError as exc:
            self._answer(hello.receiver, self.status(None, 0, str(exc)))
            return
        self._feeds[hello.receiver] = feed = Feed(self, subscription, hello)
        self._tasks[hello.receiver] = task = asyncio.create_task(feed.run())

        def ended(_: asyncio.Task[None]) -> None:
            feed.close()  # not in `Feed.run`, because a task that is cancelled may never have run
            self._change.set()

        task.add_done_callback(ended)
        self._change.set()

    def _answer(self, receiver: bytes, status: Status) -> None:
        """Answer a receiving bridge that has no feed."""

        async def send() -> None:
            with suppress(EngineUnavailableError):
                await self.send(f"down/{receiver.hex()}", status.encode())

        task = asyncio.ensure_future(send())
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    # -- for the feeds -----------------------------------------------------------------------------

    async def send(self, path: str, data: Any) -> None:
        """Send a packet.

        Raises:
            EngineUnavailableError: there is no connection.
        """
        if self.engine is None:
            message = "there is no connection"
            raise EngineUnavailableError(message)
        await self.engine.send(path, data)

    def status(self, first: int | None, sent: int, problem: str = "") -> Status:
        """Return the status for a receiving bridge.

        Args:
            first: the number of its first message; None if it has no feed.
            sent: the number after the last message that was sent to it.
            problem: why it can't have a feed; "" if it can.
        """
        shape = (self._topic.capacity, self._topic.history, self._bytes)
        return Status(self.id, self.type, first is not None, first or 0, sent, *shape, problem)

    @property
    def published(self) -> int:
        """The number of messages that were published to the topic."""
        return self._topic._counts()[3]

    @property
    def longest(self) -> int:
        """The most bytes of messages in a packet."""
        return _NO_LIMIT if self.engine is None else self.engine.longest - OVERHEAD

    def check_length(self, length: int) -> None:
        """Check that messages of `length` bytes fit into a packet.

        Raises:
            MessageTooLong: the messages do not fit.
        """
        if length > self.longest:
            message = f"a message has {length:,} bytes, and the server accepts {self.longest:,}"
            hint = "raise max_payload in the configuration of the NATS server"
            raise MessageTooLong(
                message, errno=errno.EMSGSIZE, op="bridge", target=self.address, hint=hint
            )

    def _finish(self) -> None:
        if self._file is None:
            return
        self._file.store_counts(self.counts)
        self._topic.close()
        self._file.close(remove=True)
        self._file, self._fd = None, -1


def _id_of(fd: int) -> bytes:
    """Return the id of a topic: 16 bytes that no other topic has, on this or another machine."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    key = f"{boot!r} {identity_of(fd, topic=True)}"
    return hashlib.blake2b(key.encode(), digest_size=ID_SIZE).digest()
