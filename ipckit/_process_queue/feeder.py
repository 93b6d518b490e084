"""What a process has put into a ProcessQueue and the channel has no room for yet."""

from __future__ import annotations

import errno
import os
import threading
import time
import warnings
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from ipckit._core.descriptors import Descriptor, descriptor_error
from ipckit._native import Piece
from ipckit.errors import IpcError, Timeout, WouldBlock

if TYPE_CHECKING:
    from ipckit._channel.channel import Channel

_LOOK: float = 0.1  # seconds between two looks whether anybody is left to take anything
_PAUSE: float = 0.01  # before a message is tried again that a stopped process held up


class Holders:
    """Whether another process has the queue, also one that was forked and has not used it yet.

    Every process that has the queue holds a pipe open for writing, so that its end tells a process
    which lets go of its own copy that no other has one.

    Args:
        ends: descriptors of the pipe to read and to write, which this takes over; by default those
            of a new one.
    """

    def __init__(self, ends: tuple[int, int] | None = None) -> None:
        try:
            read, write = os.pipe() if ends is None else ends
        except OSError as exc:
            code = exc.errno or errno.EIO
            raise descriptor_error(code, op="pipe", target="ProcessQueue") from None
        self._read, self._write = Descriptor(read), Descriptor(write)
        os.set_blocking(read, False)

    def ends(self) -> tuple[int, int]:
        """The descriptors, for a child that multiprocessing starts."""
        return self._read.number, self._write.number

    def leave(self) -> None:
        """Let go of this process's copy; idempotent."""
        self._write.close()

    def close(self) -> None:
        """Let go of both ends; idempotent."""
        self._write.close()
        self._read.close()

    def others(self) -> bool:
        """Whether another process has one, once `leave` was called."""
        if self._read.closed:
            return False
        try:
            return os.read(self._read.number, 1) != b""
        except BlockingIOError:
            return True


class Feeder:
    """Messages in this process's memory, and the thread that sends them when there is room.

    A signal's handler or a finalizer can interrupt `add` and call it: no lock is held while Python
    code runs that could be interrupted so. Only the threads that send take one.

    Args:
        channel: where they go; the feeder closes it.
        holders: the processes that have the queue; this process leaves them when it closes.

    Attributes:
        waiting: the messages.
        error: why the thread gave up, or None.
        lost: how many messages it had then.
    """

    def __init__(self, channel: Channel[bytes], holders: Holders) -> None:
        self.waiting: deque[bytes | Piece] = deque()
        self.error: IpcError | None = None
        self.lost = 0
        self._told = self._joining = self._closing = self._finalized = False
        self._channel, self._holders = channel, holders
        self._sending = threading.Lock()
        self._thread: threading.Thread | None = None
        self._join = True

    def add(self, message: bytes | Piece) -> None:
        """Send a message once there is room, after all that wait.

        Raises:
            RuntimeError: the interpreter is ending, and starts no thread.
        """
        self.waiting.append(message)
        try:
            self._start()
        except RuntimeError:
            self.waiting.pop()
            raise
        if not self._finalized and self._join:
            self._finalized = True
            # Here, because importing it costs time, and few come here.
            from multiprocessing.util import Finalize  # noqa: PLC0415

            # As early as multiprocessing.Queue: when children were joined.
            Finalize(None, _join, [weakref.ref(self)], exitpriority=-5)

    def _start(self) -> None:
        """Have a thread send what waits, unless one will look at it anyway.

        A signal's handler can start a second one. They take turns, and the second finds nothing.
        """
        thread = self._thread
        if not self.waiting or (thread is not None and thread.is_alive()):
            return
        try:
            thread = threading.Thread(target=self._feed, name="ipckit-queue", daemon=True)
            self._thread = thread
            thread.start()
        except BaseException:
            self._thread = None
            raise

    def _feed(self) -> None:
        while self.waiting:
            try:
                with self._sending:
                    self._send_all()
            except Exception as exc:  # whatever it is, what waits is lost
                self._give_up(exc)
            # First it says that it ends, then it looks again; `add` does it the other way round.
            if self._thread is threading.current_thread():
                self._thread = None
        if self._closing:
            self._end()

    def _end(self) -> None:
        self._channel.close()
        self._holders.close()

    def _send_all(self) -> None:
        while self.waiting:
            message = self.waiting[0]
            try:
                if isinstance(message, Piece):
                    message.send(None)
                else:
                    self._channel.send(message)
            except (WouldBlock, Timeout):
                time.sleep(_PAUSE)  # a stopped process holds up the channel
            else:
                self.waiting.popleft()

    def _give_up(self, error: Exception) -> None:
        """Nothing of what waits will ever be sent."""
        while self.waiting:
            self.waiting.popleft()
            self.lost += 1
        if not isinstance(error, IpcError):
            error = IpcError(f"{type(error).__name__}: {error}", op="send", target="ProcessQueue")
        error.strerror = f"{error.strerror}; lost: {self.lost:,} of the objects that were put"
        self.error, self._told = error, False
        if self._closing and not self._joining:
            self.warn()

    def check(self) -> None:
        """Raise what ended the thread.

        Raises:
            IpcError: objects that were put are lost.
        """
        if self.error is not None:
            self._told = True
            raise self.error.with_traceback(None)

    def warn(self) -> None:
        """Warn of what ended the thread, if no call has raised it."""
        if self.error is not None and self._join and not self._told:
            self._told = True
            warnings.warn(f"ProcessQueue: {self.error}", RuntimeWarning, stacklevel=3)

    def close(self) -> None:
        """Close the channel once what waits was sent; warn if some of it is lost."""
        self._closing = True
        self._holders.leave()
        if self.waiting or self._sending.locked():
            self._start()  # the thread closes the channel
        else:
            self._end()
        self.warn()

    def join(self) -> None:
        """Wait until what waits was sent, as long as another process has the queue.

        Raises:
            IpcError: objects that were put are lost.
        """
        self._joining = True
        self._holders.leave()
        while self._join and (self.waiting or self._sending.locked()):
            self._start()
            thread = self._thread
            if thread is not None:
                thread.join(_LOOK)
            try:
                alone = len(self._channel.peers()) <= 1 and not self._holders.others()
            except IpcError:
                break  # closed: all was sent
            if alone and self.waiting:
                if self._closing:
                    self.waiting.clear()
                    self._end()  # which ends the thread's wait
                return
        if self._join:
            self.check()

    def cancel_join(self) -> None:
        """Let the process end without waiting for what was not sent."""
        self._join = False

    def forked(self) -> None:
        """In a forked child: what the parent put is the parent's to send."""
        self.waiting.clear()
        self._sending = threading.Lock()
        self._thread, self._join, self._finalized = None, True, False
        self.error, self.lost = None, 0


def _join(reference: weakref.ref[Feeder]) -> None:
    feeder = reference()
    if feeder is not None:
        with suppress(IpcError):
            feeder.join()
            return
        feeder._told = False  # noqa: SLF001 - its own module
        feeder.warn()
