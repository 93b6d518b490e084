"""What a process has put into a ProcessQueue and the channel has no room for yet."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING

from ipckit.errors import IpcError, PeerGone

if TYPE_CHECKING:
    from ipckit._channel import Channel

_LOOK: float = 0.1  # seconds between two looks whether anybody is left to take anything


class Feeder:
    """Messages in this process's memory, and the thread that sends them when there is room.

    Args:
        channel: where they go; the feeder closes it.

    Attributes:
        waiting: the messages.
        gone: what ended the thread, or None.
    """

    def __init__(self, channel: Channel[bytes]) -> None:
        self.waiting: deque[bytes] = deque()
        self.gone: PeerGone | None = None
        self._channel = channel
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._join = True

    def add(self, message: bytes) -> None:
        """Send a message once there is room, after all that wait."""
        with self._lock:
            self.waiting.append(message)
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._feed, name="ipckit-queue", daemon=True)
            self._thread.start()
        if self._join:
            # Here, because importing it costs time, and few come here.
            from multiprocessing.util import Finalize  # noqa: PLC0415

            # As early as multiprocessing.Queue: when children were joined.
            Finalize(None, _join, [weakref.ref(self)], exitpriority=-5)

    def _feed(self) -> None:
        try:
            while True:
                self._channel.send(self.waiting[0])
                with self._lock:
                    self.waiting.popleft()
                    if not self.waiting:
                        self._thread = None
                        break
        except IpcError as exc:
            # Nobody will ever take it, or the handle was closed at the exit.
            with self._lock:
                self.gone = exc if isinstance(exc, PeerGone) else None
                self.waiting.clear()
                self._thread = None
        if self._closing:
            self._channel.close()

    def close(self) -> None:
        """Close the channel, once what waits was sent."""
        with self._lock:
            self._closing = True
            busy = self._thread is not None
        if not busy:
            self._channel.close()

    def join(self) -> None:
        """Wait until what waits was sent, as long as anybody else has the channel open."""
        thread = self._thread
        while self._join and thread is not None and thread.is_alive():
            thread.join(_LOOK)
            try:
                alone = len(self._channel.peers()) <= 1
            except IpcError:
                return  # closed: all was sent
            if alone and thread.is_alive():
                return

    def cancel_join(self) -> None:
        """Let the process end without waiting for what was not sent."""
        self._join = False

    def forked(self) -> None:
        """In a forked child: what the parent put is the parent's to send."""
        self.waiting.clear()
        self._lock = threading.Lock()
        self._thread, self._join = None, True


def _join(reference: weakref.ref[Feeder]) -> None:
    feeder = reference()
    if feeder is not None:
        feeder.join()
