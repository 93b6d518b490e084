"""TopicEngine: the interface through which bridges of topics use NATS or zenoh."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Sequence

    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.url import BridgeUrl


class TopicEngine(Protocol):
    """A connection to an engine, which sends and receives packets of bytes.

    A packet is sent to a path, such as ``"up"``, below the name in the URL. Packets that one side
    sends to one path arrive in order, but some can be missing. All methods are called in the event
    loop.

    Attributes:
        broken: done when the connection is lost.
        last_error: why the connection was lost; "" if the reason is not known.
        longest: the size of the longest packet that can be sent, in bytes.
    """

    broken: asyncio.Future[None]

    @property
    def last_error(self) -> str: ...
    @property
    def longest(self) -> int: ...

    def prepared(self, parts: Sequence[memoryview | bytes]) -> Any:
        """Join parts of a packet, in the form that `send` sends fastest, also more than once."""

    async def send(self, path: str, data: Any) -> None:
        """Send bytes, or a result of `prepared`, to a path.

        Raises:
            EngineUnavailableError: the connection is lost.
        """

    async def listen(self, path: str, got: Callable[[bytes], None]) -> None:
        """Call `got`, in the event loop, with each packet that is sent to a path.

        Raises:
            EngineUnavailableError: the connection is lost.
        """


@asynccontextmanager
async def topic_engine(
    url: BridgeUrl, options: BridgeOptions, name: str, *, sends: bool
) -> AsyncGenerator[TopicEngine]:
    """Connect to an engine, for an ``async with`` block.

    Args:
        url: the URL of the bridge.
        options: the options of the bridge.
        name: the name of the connection, which a NATS server shows in its monitoring.
        sends: whether this is the sending bridge, which listens at the address of the URL over
            zenoh.

    Raises:
        EngineUnavailableError: the engine can't be reached.
        NotFound: the library of the engine is not installed.
        InvalidArgument: the zenoh configuration or a PEM file is invalid.
    """
    if url.scheme == "zenoh":
        from ipckit._bridge.zenoh_engine import zenoh_engine as opened  # noqa: PLC0415

        async with opened(url, options, sends=sends) as zenoh:
            yield zenoh
    else:
        from ipckit._bridge.nats_core import nats_core  # noqa: PLC0415

        async with nats_core(url, options, name) as nats:
            yield nats
