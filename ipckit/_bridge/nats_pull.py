"""Pull: request packets from the consumer of a JetStream stream."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from ipckit._bridge.nats_session import REMOVED, EngineUnavailableError, message_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.msg import Msg

_PULL_SECONDS: Final = 5.0


class Pull:
    """Requests packets from a pull consumer of JetStream.

    nats-py's own `fetch` needs several turns of the event loop for each message. It also sends the
    next request only after all messages of the last one have arrived.

    Args:
        client: the connection.
        name: the name of the stream, which is also the name of the consumer.
        got: called with each packet that arrives.

    Attributes:
        client: the connection.
        asked: number of packets that were requested, and that have not arrived yet.
        problem: why no more packets can arrive; "" if they can.
    """

    def __init__(self, client: Any, name: str, got: Callable[[Msg], None]) -> None:
        self.client, self._got = client, got
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{name}.{name}"
        self._inbox: str = client.new_inbox()
        self._heard_at = 0.0
        self.asked = 0
        self.problem = ""

    async def start(self) -> None:
        """Subscribe to the inbox in which the requested packets arrive."""
        await self.client.subscribe(self._inbox, cb=self._arrived)

    async def ask(self, count: int) -> None:
        """Request `count` packets.

        Raises:
            EngineUnavailableError: the connection is lost.
        """
        import nats.errors  # noqa: PLC0415

        self.asked += count
        self._heard_at = time.monotonic()
        request = json.dumps({"batch": count, "expires": int(_PULL_SECONDS * 1e9)})
        try:
            await self.client.publish(self._subject, request.encode(), reply=self._inbox)
        except (nats.errors.Error, OSError) as exc:
            raise EngineUnavailableError(message_of(exc)) from None

    def check(self) -> None:
        """Forget the requests if the server has been silent for longer than they last.

        Raises:
            EngineUnavailableError: the stream or the consumer was removed.
        """
        if self.problem:
            raise EngineUnavailableError(self.problem)
        if time.monotonic() - self._heard_at > 2 * _PULL_SECONDS:
            self.asked = 0

    async def _arrived(self, msg: Msg) -> None:
        self._heard_at = time.monotonic()
        status = msg.headers.get("Status") if msg.headers else None
        if status is None:
            self.asked = max(0, self.asked - 1)
            self._got(msg)
        elif status in {"408", "409"}:  # the server ended a request: it expired, or was refused
            left = msg.headers.get("Nats-Pending-Messages", "") if msg.headers else ""
            self.asked = max(0, self.asked - int(left)) if left.isdecimal() else 0
            words = msg.headers.get("Description", "") if msg.headers else ""
            if "deleted" in words.lower():
                self.problem = REMOVED
        elif status == "503":
            self.problem = REMOVED
