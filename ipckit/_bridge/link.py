"""Link: the base class of all bridges, with the bridge's file, its counts, and reconnecting."""

from __future__ import annotations

import asyncio
import errno
import os
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._bridge.nats_session import EngineUnavailableError
from ipckit._core.bridge_file import BridgeFile, Counts
from ipckit.errors import Removed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ipckit._bridge.options import BridgeOptions
    from ipckit._bridge.url import BridgeUrl
    from ipckit._core.bridge_file import Direction, State
    from ipckit._core.descriptors import Descriptor

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
_TICK: Final = 0.25
LINGER: Final = 5.0  # seconds that a bridge waits for acknowledgements when it is closed


def identity_of(fd: int, *, topic: bool) -> tuple[int, int, int]:
    """Return the device, inode and creation time of the memory of a channel or topic.

    They distinguish it from an earlier channel or topic of the same name.
    """
    status = os.fstat(fd)
    return (status.st_dev, status.st_ino, int(native.ring_look(fd, topic)["created"]))


class Link(ABC):
    """A bridge, in one direction.

    Args:
        address: the channel or topic, such as ``"channel:jobs"``.
        url: the other end.
        direction: "send" or "receive".
        options: the options.
        report: called with a line of text when the bridge begins to wait, and when it continues.

    Raises:
        NotFound: a file of the options does not exist.
        AccessDenied: this process may not read a file of the options.

    Attributes:
        counts: the counts of messages, packets and lost connections.
        state: "starting", "connected" or "waiting".
        reason: why the bridge waits; "" if it does not wait.
        ready: set when the bridge is connected for the first time.
        memory: the memory of the channel or topic, if the user passed a receiving bridge an open
            one. The bridge opens it when it is connected. `run` closes the descriptor at its end.
    """

    def __init__(
        self,
        address: str,
        url: BridgeUrl,
        direction: Direction,
        options: BridgeOptions,
        report: Callable[[str], None],
    ) -> None:
        options.check_files()
        self.address, self.url, self.options = address, url, options
        self.direction: Direction = direction
        self.counts = Counts()
        self.state: State = "starting"
        self.reason = ""
        self.ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._change = asyncio.Event()
        self._report = report
        self._file: BridgeFile | None = None
        self._fd = -1  # of the memory of the channel or topic
        self.memory: Descriptor | None = None

    def stop(self) -> None:
        """End `run` after all sent messages are acknowledged, or after some seconds."""
        self._stop.set()
        self._change.set()

    async def run(self) -> None:
        """Carry messages until `stop` is called.

        Raises:
            IpcError: the bridge can't continue, for example because the messages on the other side
                are of another type, or because the channel or topic was removed.
        """
        ticker = asyncio.create_task(self._tick())
        try:
            await self._run()
        finally:
            ticker.cancel()
            with suppress(asyncio.CancelledError):
                await ticker
            self.abandon()

    def abandon(self) -> None:
        """Close what the bridge has opened, without `run` or at its end."""
        self._finish()
        if self.memory is not None:
            self.memory.close()

    async def _run(self) -> None:
        delay = _FIRST_DELAY
        while not self._stop.is_set():
            try:
                await self._until_stopped(self._session())
            except EngineUnavailableError as exc:
                if self.state == "connected":
                    self.counts.reconnects += 1
                    delay = _FIRST_DELAY
                self._set_state("waiting", str(exc))
                await self._pause(delay)
                delay = min(2 * delay, _LONGEST_DELAY)

    async def _pause(self, seconds: float) -> None:
        """Wait for some seconds, or until `stop` is called."""
        with suppress(TimeoutError):
            # Not `asyncio.wait_for`: in Python 3.11 it can miss a cancellation.
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _until_stopped(self, session: Coroutine[Any, Any, None]) -> None:
        """Run a session. After `stop`, cancel it if it does not end within some seconds."""
        running = asyncio.ensure_future(session)
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await asyncio.wait({running}, timeout=LINGER + 1)
        finally:
            stopping.cancel()
            running.cancel()
        # A call of the engine's library may ignore the cancellation until it has waited enough.
        await asyncio.wait({running}, timeout=1)
        if running.done() and not running.cancelled():
            running.result()

    @abstractmethod
    async def _session(self) -> None:
        """Connect to the engine, and carry messages until `stop` is called.

        Raises:
            EngineUnavailableError: the engine can't be reached, or the connection is lost.
        """

    @abstractmethod
    def _finish(self) -> None:
        """Close the channel or topic, and the bridge's file."""

    def _set_state(self, state: State, reason: str = "") -> None:
        """Record the state of the bridge, and report when it begins to wait or continues."""
        if state == "waiting" and self.state != "waiting":
            self._report(f"{self.address} {self.url.text}: {reason}; waiting")
        elif state == "connected" and self.state == "waiting":
            self._report(f"{self.address} {self.url.text}: connected")
        self.state, self.reason = state, reason
        if state == "connected":
            self.ready.set()
        if self._file is not None:
            self._file.store_state(state, reason)

    async def _tick(self) -> None:
        """Store the counts, and set `_change`, every `_TICK` seconds.

        `_change` wakes the loops that check conditions for which there is no event.
        """
        while True:
            if self._file is not None:
                self._file.store_counts(self.counts)
            self._change.set()
            await asyncio.sleep(_TICK)

    def _check_removed(self) -> None:
        """Check that the channel or topic still has its name.

        Raises:
            Removed: the channel or topic was removed.
        """
        if self._fd >= 0 and not self.address.endswith(":") and os.fstat(self._fd).st_nlink == 0:
            message = "it was removed"
            raise Removed(message, errno=errno.EIDRM, op="bridge", target=self.address)

    def _opened_file(self, fd: int, size: int, *, topic: bool) -> BridgeFile:
        """Open the file of this bridge, for the channel or topic whose memory is `fd`."""
        self._fd = fd
        identity = identity_of(fd, topic=topic)
        if self._file is None:
            self._file = BridgeFile(self.address, identity, self.url.text, self.direction, size)
            self._file.store_state(self.state, self.reason)
        else:
            self._file.attach(identity)
        return self._file

    def _open_file_early(self, size: int) -> None:
        """Open the bridge's file before the channel or topic, so that `ipckit doctor` shows a wait.

        Raises:
            InUse: another process runs this bridge.
        """
        # The file's name contains the identity of an anonymous object, which is not known yet.
        if not self.address.endswith(":"):
            self._file = BridgeFile(self.address, None, self.url.text, self.direction, size)

    async def _changed(self) -> None:
        """Wait until `_change` is set. `_tick` sets it regularly."""
        await self._change.wait()
        self._change.clear()
