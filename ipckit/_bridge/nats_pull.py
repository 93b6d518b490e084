"""Requests for packets to the consumer of a JetStream stream."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from ipckit._bridge.nats_session import REMOVED, EngineAwayError, words_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.msg import Msg

_PULL_SECONDS: Final = 5.0


class Pull:
    """Requests for packets to the consumer of a stream.

    `fetch` of nats-py takes several turns of the event loop for each message, and does not ask
    before it has got what it asked for.

    Args:
        client: the connection.
        name: the name of the stream and of the consumer.
        got: called for each packet.

    Attributes:
        client: the connection.
        asked: packets that were asked for, and that have not arrived.
        problem: why no more arrive; "" if they do.
    """

    def __init__(self, client: Any, name: str, got: Callable[[Msg], None]) -> None:
        self.client, self._got = client, got
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{name}.{name}"
        self._inbox: str = client.new_inbox()
        self._heard_at = 0.0
        self.asked = 0
        self.problem = ""

    async def start(self) -> None:
        """Subscribe to the answers."""
        await self.client.subscribe(self._inbox, cb=self._arrived)

    async def ask(self, count: int) -> None:
        """Ask for packets.

        Raises:
            EngineAwayError: the connection is lost.
        """
        import nats.errors  # noqa: PLC0415

        self.asked += count
        self._heard_at = time.monotonic()
        request = json.dumps({"batch": count, "expires": int(_PULL_SECONDS * 1e9)})
        try:
            await self.client.publish(self._subject, request.encode(), reply=self._inbox)
        except (nats.errors.Error, OSError) as exc:
            raise EngineAwayError(words_of(exc)) from None

    def check(self) -> None:
        """Forget requests that the server seems to have forgotten.

        Raises:
            EngineAwayError: the stream or the consumer was removed.
        """
        if self.problem:
            raise EngineAwayError(self.problem)
        if time.monotonic() - self._heard_at > 2 * _PULL_SECONDS:
            self.asked = 0

    async def _arrived(self, msg: Msg) -> None:
        self._heard_at = time.monotonic()
        status = msg.headers.get("Status") if msg.headers else None
        if status is None:
            self.asked = max(0, self.asked - 1)
            self._got(msg)
        elif status in {"408", "409"}:  # a request has ended: its time is over, or it is refused
            left = msg.headers.get("Nats-Pending-Messages", "") if msg.headers else ""
            self.asked = max(0, self.asked - int(left)) if left.isdecimal() else 0
            words = msg.headers.get("Description", "") if msg.headers else ""
            if "deleted" in words.lower():
                self.problem = REMOVED
        elif status == "503":
            self.problem = REMOVED
