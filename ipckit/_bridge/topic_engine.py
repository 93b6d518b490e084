"""What the bridges of topics need of an engine: to send bytes by a path, and to receive them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Sequence

    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.url import BridgeUrl


class TopicEngine(Protocol):
    """A connection of an engine, until it breaks. All calls are from the event loop.

    What one side sends by one path arrives in order. Some of it can be missing.

    Attributes:
        broken: done when the connection is lost.
        last_error: why, if that is known.
        longest: the bytes of the longest packet.
    """

    broken: asyncio.Future[None]

    @property
    def last_error(self) -> str: ...
    @property
    def longest(self) -> int: ...

    def prepared(self, parts: Sequence[memoryview | bytes]) -> Any:
        """Return the bytes of some parts, as `send` takes them most quickly, also several times."""

    async def send(self, path: str, data: Any) -> None:
        """Send bytes, or what `prepared` has returned, by a path below the name in the URL.

        Raises:
            EngineAwayError: the connection is lost.
        """

    async def listen(self, path: str, got: Callable[[bytes], None]) -> None:
        """Call `got`, in the event loop, for each packet that is sent by a path.

        Raises:
            EngineAwayError: the connection is lost.
        """


@asynccontextmanager
async def topic_engine(
    url: BridgeUrl, options: BridgeOptions, name: str, *, sends: bool
) -> AsyncGenerator[TopicEngine]:
    """Connect to an engine, for an ``async with`` block.

    Args:
        url: the URL of the bridge.
        options: its options.
        name: the name of the connection, for people.
        sends: whether this is the sending side, on which zenoh listens.

    Raises:
        EngineAwayError: the engine can't be reached.
        NotFound: its library is not installed.
        InvalidArgument: the file with zenoh's configuration is invalid.
    """
    if url.scheme == "zenoh":
        from ipckit._bridge.zenoh_engine import zenoh_engine as opened  # noqa: PLC0415

        async with opened(url, options, sends=sends) as zenoh:
            yield zenoh
    else:
        from ipckit._bridge.nats_core import nats_core  # noqa: PLC0415

        async with nats_core(url, options, name) as nats:
            yield nats
