"""Topics over zenoh: one bridge listens and the other connects, or both connect to a router."""

from __future__ import annotations

import asyncio
import errno
import json
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from ipckit._bridge.missing import needs
from ipckit._bridge.nats_session import EngineAwayError
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.url import BridgeUrl

_FEW: Final = 4
_LONGEST: Final = 1 << 30  # zenoh's own limit of what it puts together from fragments


class ZenohEngine:
    """A `TopicEngine` over a session of zenoh.

    A session connects again by itself when a connection is lost, so it does not break. The bridges
    notice by their hellos that the other side is away.

    Args:
        zenoh: the module.
        session: the session.
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
        """Why the connection was lost; it is not."""
        return ""

    @property
    def longest(self) -> int:
        """The bytes of the longest packet."""
        return _LONGEST

    def prepared(self, parts: Sequence[memoryview | bytes]) -> Any:
        """See `TopicEngine.prepared`.

        zenoh copies bytes, and takes no view. Long parts come together in memory that is used
        again, because new memory costs more than the copy: its pages must be cleared.
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

        The credits keep zenoh's queues from filling. So a call blocks no longer than the network
        needs for a packet, and zenoh never drops the other side.
        """
        try:
            if (publisher := self._publishers.get(path)) is None:
                publisher = self._publishers[path] = self._session.declare_publisher(
                    self._root + path, congestion_control=self._zenoh.CongestionControl.BLOCK
                )
            publisher.put(data)
        except self._zenoh.ZError as exc:
            raise EngineAwayError(_first_words(exc)) from None

    async def listen(self, path: str, got: Callable[[bytes], None]) -> None:
        """See `TopicEngine.listen`."""

        def arrived(sample: Any) -> None:  # in a thread of zenoh's
            self._arrived.append((got, sample.payload))
            if not self._awake:
                self._awake = True
                with suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._hand_over)

        try:
            self._session.declare_subscriber(self._root + path, arrived)
        except self._zenoh.ZError as exc:
            raise EngineAwayError(_first_words(exc)) from None

    def _hand_over(self) -> None:
        """Pass on what has arrived. One call takes all, because waking the loop costs more."""
        self._awake = False  # first: what arrives from now on wakes the loop again
        arrived = self._arrived
        while arrived:
            got, payload = arrived.popleft()
            got(payload.to_bytes())


@asynccontextmanager
async def zenoh_engine(
    url: BridgeUrl, options: BridgeOptions, *, sends: bool
) -> AsyncGenerator[ZenohEngine]:
    """Open a session, for an ``async with`` block.

    The sending side listens on the host and port of the URL, and the receiving side connects to
    it. If the sending side can't listen there, because the address is that of a zenoh router, or
    another bridge listens there, then it connects too. Endpoints in the file with zenoh's
    configuration replace those of the URL. A URL without a host finds the other side by multicast.

    Args:
        url: the URL of the bridge.
        options: its options.
        sends: whether this is the sending side.

    Raises:
        EngineAwayError: the session can't be opened.
        InvalidArgument: the file with the configuration can't be read.
        NotFound: zenoh is not installed.
    """
    zenoh = needs("zenoh", "eclipse-zenoh", "zenoh")
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
        raise EngineAwayError(_first_words(exc)) from None


def _configuration(zenoh: Any, url: BridgeUrl, path: str | None, *, listens: bool) -> Any:
    """Return the configuration of a session.

    Raises:
        InvalidArgument: the file can't be read.
    """
    try:
        config = zenoh.Config() if path is None else zenoh.Config.from_file(path)
    except zenoh.ZError as exc:
        message = f"the configuration of zenoh in {path} is invalid: {_first_words(exc)}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="bridge") from None
    if not url.host or (path is not None and _has_endpoints(zenoh, config)):
        return config
    host = f"[{url.host}]" if ":" in url.host else url.host
    endpoint = [f"tcp/{host}:{url.port}"]
    config.insert_json5("listen/endpoints", json.dumps(endpoint if listens else []))
    config.insert_json5("connect/endpoints", json.dumps([] if listens else endpoint))
    if not listens and config.get_json("mode") == "null":
        # Routers, and peers that listen, pass on what a client sends to their other clients.
        config.insert_json5("mode", '"client"')
    if path is None:  # nothing but what the URL says
        config.insert_json5("scouting/multicast/enabled", "false")
        # Between machines it is of no use, and a process that is killed leaves its files.
        config.insert_json5("transport/shared_memory/enabled", "false")
        # A call that sends waits less often for zenoh's thread: with 2, the default, 1 MiB messages
        # take 20 to 40 % longer.
        config.insert_json5("transport/link/tx/queue/size/data", "16")
    return config


def _has_endpoints(zenoh: Any, config: Any) -> bool:
    """Return whether the user has configured where to listen or to connect."""
    default = zenoh.Config()
    names = ("listen/endpoints", "connect/endpoints")
    return any(config.get_json(name) != default.get_json(name) for name in names)


def _first_words(exc: Exception) -> str:
    """Return an exception of zenoh without the place in its source."""
    return str(exc).split(" at /", 1)[0].rstrip(".! ")
