"""Bridge, `forward` and `receive`: run a bridge in a thread of this process."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import errno
import sys
import threading
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, final

from ipckit._bridge.links import receiver_of, sender_of
from ipckit._bridge.options import BridgeOptions
from ipckit._core.deadline import checked_timeout
from ipckit._core.public import public
from ipckit.errors import ClosedHandle, Timeout

if TYPE_CHECKING:
    from types import TracebackType

    from ipckit._bridge.link import Link
    from ipckit._bridge.links import Object
    from ipckit._core.bridge_file import Direction, State

_Done = concurrent.futures.Future[None]


@public("ipckit.bridge")
@final
@dataclass(frozen=True, slots=True)
class BridgeStats:
    """The state and the counts of a bridge since its start; `Bridge.stats` returns them.

    Attributes:
        state: "starting", "connected", or "waiting" for the engine or the other side.
        reason: why the bridge waits; "" if it does not wait.
        messages: number of messages that the bridge has carried, and that are acknowledged.
        bytes: size of the packets that contained these messages.
        batches: number of these packets.
        unacknowledged: number of messages that are sent, and not acknowledged yet.
        repeated: number of messages that the engine delivered again, and that the bridge skipped.
        uncertain: number of messages that may have been delivered twice.
        lost: number of messages of a topic that the other side did not get.
        reconnects: how often the connection was lost.

    Example:
        >>> from ipckit.bridge import BridgeStats
        >>> BridgeStats("connected", "", messages=3, bytes=120, batches=1).lost
        0
    """

    state: State
    reason: str
    messages: int = 0
    bytes: int = 0
    batches: int = 0
    unacknowledged: int = 0
    repeated: int = 0
    uncertain: int = 0
    lost: int = 0
    reconnects: int = 0


@public("ipckit.bridge")
@final
class Bridge:
    """A bridge that runs in a thread of this process; `forward` and `receive` start it.

    A ``with`` statement closes the bridge at the end of its block.

    Attributes:
        address: address of the channel or topic on this machine, such as ``"channel:jobs"``.
        url: the URL of the other end, as it was given.
        direction: "send" or "receive".

    Example:
        >>> from ipckit.bridge import Bridge, forward
        >>> def state_of(bridge: Bridge) -> str:
        ...     return f"{bridge.address}: {bridge.stats().state}"
    """

    def __init__(self, link: Link) -> None:
        self.address: str = link.address
        self.url: str = link.url.text
        self.direction: Direction = link.direction
        self._link = link
        try:
            self._loop = asyncio.new_event_loop()
        except BaseException:  # such as OSError: RLIMIT_NOFILE is reached
            link.abandon()
            raise
        self._connected: _Done = concurrent.futures.Future()
        self._ended: _Done = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=_run,
            args=(link, self._loop, self._connected, self._ended),
            name="ipckit-bridge",
            daemon=True,
        )
        try:
            self._thread.start()
        except BaseException:  # such as RuntimeError: no thread can be started
            self._loop.close()
            link.abandon()
            raise
        _open.add(self)
        self._stopper = weakref.finalize(self, _stop, self._loop, link)

    def stats(self) -> BridgeStats:
        """Return the current state of the bridge, and its counts since it started."""
        counts = replace(self._link.counts)
        numbers = {name: getattr(counts, name) for name in counts.__slots__}
        return BridgeStats(self._link.state, self._link.reason, **numbers)

    def wait_connected(self, timeout: float | None = None) -> None:
        """Wait until the bridge is connected for the first time.

        Args:
            timeout: seconds to wait; None (default) waits without limit.

        Raises:
            Timeout: the timeout ended before the bridge was connected.
            LayoutMismatch: the messages on the other side are of another type.
            NotFound: the library of the engine is not installed.
            ClosedHandle: the bridge was closed before it was connected.
            IpcError: the bridge ended with another error.
        """
        first = concurrent.futures.FIRST_COMPLETED
        either = (self._connected, self._ended)
        done, _ = concurrent.futures.wait(either, checked_timeout(timeout), first)
        if self._ended in done:
            self._ended.result()  # raises the exception that ended the bridge
        if self._connected.done():
            return
        if self._ended in done:
            message = "the bridge was closed before it was connected"
            raise ClosedHandle(message, errno=errno.EBADF, op="bridge", target=self.address)
        message = f"the bridge is not connected: {self._link.reason or 'no answer'}"
        raise Timeout(message, errno=errno.ETIMEDOUT, op="bridge", target=self.address)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the bridge ends.

        Args:
            timeout: seconds to wait; None (default) waits without limit.

        Raises:
            Timeout: the bridge still ran when the timeout ended.
            Removed: the channel or topic was removed.
            IpcError: the bridge ended with another error.
        """
        try:
            self._ended.result(checked_timeout(timeout))
        except concurrent.futures.TimeoutError:
            if self._ended.done():
                raise
            message = "the bridge still runs"
            raise Timeout(message, errno=errno.ETIMEDOUT, op="wait", target=self.address) from None

    def close(self) -> None:
        """Stop the bridge.

        The bridge takes no more messages, and waits up to 5 s for the acknowledgements of the
        messages that it has sent. A message of a channel that is not acknowledged by then stays in
        the channel or on the server.
        """
        _open.discard(self)
        self._stopper()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        way = "to" if self.direction == "send" else "from"
        return f"<Bridge of {self.address} {way} {self.url}, {self._link.state}>"


def _run(link: Link, loop: asyncio.AbstractEventLoop, connected: _Done, ended: _Done) -> None:
    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(_run_and_note(link, connected))
    except BaseException as exc:  # `wait` and `wait_connected` raise it in another thread
        say(f"{link.address} {link.url.text}: {str(exc) or type(exc).__name__}; ended")
        ended.set_exception(exc)
    else:
        ended.set_result(None)


async def _run_and_note(link: Link, connected: _Done) -> None:
    """Run the link, and complete `connected` when it is connected for the first time."""

    async def note() -> None:
        await link.ready.wait()
        connected.set_result(None)

    noting = asyncio.create_task(note())
    try:
        await link.run()
    finally:
        noting.cancel()


_open: weakref.WeakSet[Bridge] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Close the bridges that the program has left open.

    While the interpreter shuts down, a thread of zenoh that still calls into Python ends the
    process with an error.
    """
    for bridge in list(_open):
        bridge.close()


def _stop(loop: asyncio.AbstractEventLoop, link: Link) -> None:
    try:
        loop.call_soon_threadsafe(link.stop)
    except RuntimeError:  # the event loop is closed: the bridge has ended
        return


def say(line: str) -> None:
    """Write a line about a bridge to standard error."""
    sys.stderr.write(f"ipckit bridge: {line}\n")


@public("ipckit.bridge")
def forward(source: Object, url: str, options: BridgeOptions | None = None) -> Bridge:
    """Carry the messages of a channel or topic to another machine.

    The bridge acknowledges a message of a channel after the server has stored it. So no message is
    lost if this process, the server or the other side dies. While the server can't be reached, the
    bridge waits. When the channel is full, its senders wait too.

    Args:
        source: an open `Channel` or `Topic`, or its address, such as ``"channel:jobs"``.
        url: ``nats://HOST:PORT/STREAM``, or for a topic also ``zenoh://HOST:PORT/KEY``.
        options: files with credentials, limits, and so on.

    Returns:
        The bridge, which runs in a thread. It connects in the background; `Bridge.wait_connected`
        raises the error if it can't.

    Raises:
        NotFound: the channel or topic does not exist, or a file of the options does not.
        InUse: another process bridges the channel or topic to this URL.
        InvalidArgument: the URL or the address is invalid, or the URL of a channel is zenoh's.
        IpcError: the channel or topic can't be opened; see `Channel.open` and `Topic.open`.
    """
    return Bridge(sender_of(source, url, options or BridgeOptions(), say))


@public("ipckit.bridge")
def receive(url: str, target: Object, options: BridgeOptions | None = None) -> Bridge:
    """Send the messages that arrive from another machine into a channel or topic.

    Args:
        url: see `forward`.
        target: an open `Channel` or `Topic`, or its address. If it is an address and the channel
            or topic does not exist, the bridge creates it, for the type of the messages that
            arrive.
        options: see `forward`.

    Returns:
        The bridge, which runs in a thread. It connects in the background; `Bridge.wait_connected`
        raises the error if it can't.

    Raises:
        NotFound: a file of the options does not exist.
        InUse: another process runs a bridge from this URL into this channel or topic.
        InvalidArgument: the URL or the address is invalid, or the URL of a channel is zenoh's.
    """
    return Bridge(receiver_of(url, target, options or BridgeOptions(), say))
