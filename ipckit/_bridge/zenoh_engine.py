"""ZenohEngine: send and receive the packets of topics over zenoh.

One bridge listens and the other connects to it, or both connect to a zenoh router.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from ipckit._bridge.missing import import_library
from ipckit._bridge.nats_session import EngineUnavailableError
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.url import BridgeUrl

_FEW: Final = 4
_LONGEST: Final = 1 << 30  # zenoh's own limit for a message that it reassembles from fragments


class ZenohEngine:
    """A `TopicEngine` over a session of zenoh.

    When a connection is lost, the session connects again by itself, so `broken` is never done. The
    bridges notice a lost connection because they hear nothing from the other side.

    Args:
        zenoh: the module zenoh.
        session: the open session.
        name: the name in the URL.
    """

    def __init__(self, zenoh: Any, session: Any, name: str) -> None:
        self._zenoh, self._session = zenoh, session
        self._root = f"ipckit/topic/{name}/"
        self._loop = asyncio.get_running_loop()
        self._publishers: dict[str, Any] = {}
        self._arrived: deque[tuple[Callable[[bytes], None], Any]] = deque()
        self._joined = bytearray()
        self._awake = False  # `_hand_over` will run
        self.broken: asyncio.Future[None] = self._loop.create_future()

    @property
    def last_error(self) -> str:
        """Always "", because the session never breaks."""
        return ""

    @property
    def longest(self) -> int:
        """The size of the longest packet that can be sent, in bytes."""
        return _LONGEST

    def prepared(self, parts: Sequence[memoryview | bytes]) -> Any:
        """See `TopicEngine.prepared`.

        zenoh copies the bytes, and accepts no memoryview. A few parts, which may be long, are
        joined in a buffer that is used again. The kernel must clear the pages of a new buffer, and
        that costs more than the copy.
        """
        if len(parts) > _FEW:
            return self._zenoh.ZBytes(b"".join(parts))
        size = sum(map(len, parts))
        if len(self._joined) != size:
            self._joined = bytearray(size)
        start = 0
        for part in parts:
            end = start + len(part)
            self._joined[start:end] = part
            start = end
        return self._zenoh.ZBytes(self._joined)

    async def send(self, path: str, data: Any) -> None:
        """See `TopicEngine.send`.

        The credits keep zenoh's queues from filling. So `put` blocks no longer than the network
        needs for a packet, and zenoh never disconnects a slow receiver.
        """
        try:
            if (publisher := self._publishers.get(path)) is None:
                publisher = self._publishers[path] = self._session.declare_publisher(
                    self._root + path, congestion_control=self._zenoh.CongestionControl.BLOCK
                )
            publisher.put(data)
        except self._zenoh.ZError as exc:
            raise EngineUnavailableError(_message_of(exc)) from None

    async def listen(self, path: str, got: Callable[[bytes], None]) -> None:
        """See `TopicEngine.listen`."""

        def arrived(sample: Any) -> None:  # runs in a thread of zenoh
            self._arrived.append((got, sample.payload))
            if not self._awake:
                self._awake = True
                with suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._hand_over)

        try:
            self._session.declare_subscriber(self._root + path, arrived)
        except self._zenoh.ZError as exc:
            raise EngineUnavailableError(_message_of(exc)) from None

    def _hand_over(self) -> None:
        """Pass all arrived packets to their callbacks, because waking the loop for each is slow."""
        self._awake = False  # before the loop: a packet that arrives now must wake it again
        arrived = self._arrived
        while arrived:
            got, payload = arrived.popleft()
            got(payload.to_bytes())


@asynccontextmanager
async def zenoh_engine(
    url: BridgeUrl, options: BridgeOptions, *, sends: bool
) -> AsyncGenerator[ZenohEngine]:
    """Open a session, for an ``async with`` block.

    The sending bridge listens on the host and port of the URL, and the receiving bridge connects to
    it. If the sending bridge can't listen there, it connects too. This happens if the address
    belongs to a zenoh router, or if another bridge already listens there. Endpoints in the user's
    zenoh configuration replace the address in the URL. With a URL without a host, zenoh finds the
    other side by multicast.

    Args:
        url: the URL of the bridge.
        options: the options of the bridge.
        sends: whether this is the sending bridge.

    Raises:
        EngineUnavailableError: the session can't be opened.
        InvalidArgument: the zenoh configuration is invalid.
        NotFound: the package eclipse-zenoh is not installed.
    """
    zenoh = import_library("zenoh", "eclipse-zenoh", "zenoh")
    session = await asyncio.to_thread(_opened, zenoh, url, options.zenoh_config, sends=sends)
    try:
        yield ZenohEngine(zenoh, session, url.name)
    finally:
        with suppress(zenoh.ZError):
            await asyncio.to_thread(session.close)


def _opened(zenoh: Any, url: BridgeUrl, path: str | None, *, sends: bool) -> Any:
    try:
        if sends:
            with suppress(zenoh.ZError):
                return zenoh.open(_configuration(zenoh, url, path, listens=True))
        return zenoh.open(_configuration(zenoh, url, path, listens=False))
    except zenoh.ZError as exc:
        raise EngineUnavailableError(_message_of(exc)) from None


def _configuration(zenoh: Any, url: BridgeUrl, path: str | None, *, listens: bool) -> Any:
    """Return the zenoh configuration of a session.

    Args:
        zenoh: the module zenoh.
        url: the URL of the bridge.
        path: the file with the user's configuration, or None.
        listens: whether to listen at the address in the URL; otherwise the session connects to it.

    Raises:
        InvalidArgument: the file is not a valid configuration.
    """
    try:
        config = zenoh.Config() if path is None else zenoh.Config.from_file(path)
    except zenoh.ZError as exc:
        message = f"the configuration of zenoh in {path} is invalid: {_message_of(exc)}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="bridge") from None
    if not url.host or (path is not None and _has_endpoints(zenoh, config)):
        return config
    host = f"[{url.host}]" if ":" in url.host else url.host
    endpoint = [f"tcp/{host}:{url.port}"]
    config.insert_json5("listen/endpoints", json.dumps(endpoint if listens else []))
    config.insert_json5("connect/endpoints", json.dumps([] if listens else endpoint))
    if not listens and config.get_json("mode") == "null":
        # Routers, and peers that listen, forward the messages of a client to their other clients.
        config.insert_json5("mode", '"client"')
    if path is None:  # connect only to the address in the URL
        config.insert_json5("scouting/multicast/enabled", "false")
        # Shared memory is useless between machines, and a killed process leaves its files behind.
        config.insert_json5("transport/shared_memory/enabled", "false")
        # With a longer queue, `put` waits less often for zenoh's thread. With the default of 2,
        # 1 MiB messages take 20 to 40 % longer.
        config.insert_json5("transport/link/tx/queue/size/data", "16")
    return config


def _has_endpoints(zenoh: Any, config: Any) -> bool:
    """Return whether the user has configured where to listen or to connect."""
    default = zenoh.Config()
    names = ("listen/endpoints", "connect/endpoints")
    return any(config.get_json(name) != default.get_json(name) for name in names)


def _message_of(exc: Exception) -> str:
    """Return the message of an exception of zenoh, without the position in zenoh's source."""
    return str(exc).split(" at /", 1)[0].rstrip(".! ")
