"""Run several bridges in one event loop, until they are to stop."""

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

# Seconds that a bridge gets to stop. One that is not connected has nothing to wait for, but it may
# be in the middle of a connect.
_STOP_CONNECTED: Final = LINGER + 5.0
_STOP_OTHERS: Final = 1.0


@public("ipckit.bridge")
@final
@dataclass(frozen=True, slots=True)
class Route:
    """A bridge that `run` runs.

    Attributes:
        direction: "send" to carry messages of the object to the URL, "receive" for the other way.
        address: the channel or topic here, such as ``"channel:jobs"``.
        url: the other end; see `forward`.
        options: files with credentials, limits, and so on.

    Raises:
        InvalidArgument: the address or the URL is invalid, or they do not fit each other.

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

    If one ends with an error, the others go on.

    Args:
        routes: the bridges.
        stop: when it is set, the bridges take no more messages, wait some seconds for those on
            the way, and end. None (default) runs them until this call is cancelled.
        report: called with a line of text when a bridge begins to wait, when it goes on, and when
            it ends with an error; by default it writes to standard error.

    Returns:
        For each route the error that ended it, or None.

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
    """Run a bridge; return the error that ended it, or None."""
    # Any error: one bridge must not end the others.
    try:
        link = _link_of(route, report)
        running = asyncio.create_task(link.run())
        try:
            await _until_stopped(link, running, stop)
        finally:
            running.cancel()  # it does nothing if the bridge has ended
            # The library of an engine may ignore the cancellation for as long as a call waits.
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
