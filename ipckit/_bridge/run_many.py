"""`run` and Route: run several bridges in one event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

from ipckit._bridge.bridge import say
from ipckit._bridge.link import LINGER
from ipckit._bridge.links import check_ends, receiver_of, sender_of
from ipckit._bridge.options import BridgeOptions
from ipckit._core.public import public

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipckit._bridge.link import Link
    from ipckit._core.bridge_file import Direction

# Seconds in which a bridge must stop. A bridge that is not connected waits for no acknowledgements,
# but it may be connecting.
_STOP_CONNECTED: Final = LINGER + 5.0
_STOP_OTHERS: Final = 1.0


@public("ipckit.bridge")
@final
@dataclass(frozen=True, slots=True)
class Route:
    """A bridge that `run` runs.

    Attributes:
        direction: "send" to carry messages from `address` to `url`; "receive" for the other
            direction.
        address: address of the channel or topic on this machine, such as ``"channel:jobs"``.
        url: the other end; see `forward`.
        options: files with credentials, limits, and so on.

    Raises:
        InvalidArgument: the address or the URL is invalid, or the URL of a channel is zenoh's.

    Example:
        >>> from ipckit.bridge import Route
        >>> Route("send", "channel:jobs", "nats://127.0.0.1:4222/jobs").options.storage
        'file'
    """

    direction: Direction
    address: str
    url: str
    options: BridgeOptions = field(default_factory=BridgeOptions)

    def __post_init__(self) -> None:
        check_ends(self.address, self.url)


@public("ipckit.bridge")
async def run(
    routes: Iterable[Route],
    *,
    stop: asyncio.Event | None = None,
    report: Callable[[str], None] = say,
) -> list[Exception | None]:
    """Run bridges in this event loop, until all have ended.

    If one bridge ends with an error, the others continue.

    Args:
        routes: the bridges.
        stop: an event that stops the bridges. When it is set, they take no more messages, wait
            some seconds for the acknowledgements of those that they have sent, and end. None
            (default) runs them until this call is cancelled.
        report: called with a line of text when a bridge begins to wait, when it continues, and when
            it ends with an error. By default the lines are written to standard error.

    Returns:
        For each route the exception that ended its bridge, or None.

    Example:
        >>> import asyncio
        >>> from ipckit.bridge import Route, run
        >>> route = Route("send", "channel:no-such-channel", "nats://127.0.0.1:4222/jobs")
        >>> [error] = asyncio.run(run([route], report=lambda line: None))
        >>> type(error).__name__
        'NotFound'
    """
    stopping = asyncio.Event() if stop is None else stop
    return list(await asyncio.gather(*(_run_one(each, stopping, report) for each in routes)))


def _link_of(route: Route, report: Callable[[str], None]) -> Link:
    if route.direction == "send":
        return sender_of(route.address, route.url, route.options, report)
    return receiver_of(route.url, route.address, route.options, report)


async def _run_one(
    route: Route, stop: asyncio.Event, report: Callable[[str], None]
) -> Exception | None:
    """Run a bridge; return the exception that ended it, or None."""
    # Catch every exception, because one bridge must not end the others.
    try:
        link = _link_of(route, report)
        running = asyncio.create_task(link.run())
        try:
            await _until_stopped(link, running, stop)
        finally:
            running.cancel()
            # A call of the engine's library may ignore the cancellation until it has waited enough.
            await asyncio.wait({running}, timeout=_STOP_OTHERS)
        if running.done() and not running.cancelled():
            running.result()
    except Exception as exc:
        report(f"{route.address} {route.url}: {str(exc) or type(exc).__name__}")
        return exc
    return None


async def _until_stopped(link: Link, running: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Wait until the bridge ends, or some seconds after `stop` is set."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    link.stop()
    seconds = _STOP_CONNECTED if link.state == "connected" else _STOP_OTHERS
    await asyncio.wait({running}, timeout=seconds)
