"""NatsCore: send and receive the packets of topics over core NATS, which stores no messages."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ipckit._bridge.nats_session import EngineUnavailableError, message_of, nats_session

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Sequence

    from nats.aio.msg import Msg

    from ipckit._bridge.nats_session import NatsSession
    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.url import BridgeUrl


class NatsCore:
    """A `TopicEngine` over a connection to a NATS server."""

    def __init__(self, session: NatsSession, name: str) -> None:
        self._session = session
        self._root = f"ipckit.topic.{name}."
        self.broken: asyncio.Future[None] = session.broken

    @property
    def last_error(self) -> str:
        """Why the connection was lost; "" if the reason is not known."""
        return self._session.last_error

    @property
    def longest(self) -> int:
        """The size of the longest message that the server accepts, in bytes."""
        return self._session.max_payload

    def _subject(self, path: str) -> str:
        return self._root + path.replace("/", ".")

    @staticmethod
    def prepared(parts: Sequence[memoryview | bytes]) -> bytes:
        """See `TopicEngine.prepared`."""
        return b"".join(parts)

    async def send(self, path: str, data: bytes) -> None:
        """See `TopicEngine.send`."""
        import nats.errors  # noqa: PLC0415

        try:
            await self._session.client.publish(self._subject(path), data)
        except (nats.errors.Error, OSError) as exc:
            raise EngineUnavailableError(message_of(exc)) from None

    async def listen(self, path: str, got: Callable[[bytes], None]) -> None:
        """See `TopicEngine.listen`."""
        import nats.errors  # noqa: PLC0415

        async def received(msg: Msg) -> None:
            got(msg.data)

        client = self._session.client
        try:
            # The credits limit how many packets can wait. nats-py would drop packets above limits
            # of its own; 0 means no limit.
            await client.subscribe(
                self._subject(path), cb=received, pending_msgs_limit=0, pending_bytes_limit=0
            )
            await client.flush(5)
        except (nats.errors.Error, OSError, TimeoutError) as exc:
            raise EngineUnavailableError(message_of(exc)) from None


@asynccontextmanager
async def nats_core(url: BridgeUrl, options: BridgeOptions, name: str) -> AsyncGenerator[NatsCore]:
    """Connect to a NATS server for an ``async with`` block; see `nats_session`."""
    async with nats_session(url, options, name) as session:
        yield NatsCore(session, url.name)
