"""The messages of a ProcessQueue that have no room in the channel yet, and their sending thread."""

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
    from collections.abc import Callable, Sized

    from ipckit._channel.channel import Channel

_CHECK_SECONDS: float = 0.1  # how often `join` checks whether another process has the queue
_RETRY_SECONDS: float = 0.01  # before the next try if a stopped process holds the channel's lock


class Holders:
    """A pipe that tells whether another process has the queue.

    The channel's table of peers does not list a forked child that has not used the queue yet. So
    every process that has the queue keeps a pipe open for writing. A process that closes its own
    copy can then read the end of file if no other process has one. See pipe(7).

    Args:
        ends: the descriptors of the pipe's read end and write end, which this object takes over; by
            default a new pipe.
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
        """Return the descriptors, for a child that multiprocessing starts."""
        return self._read.number, self._write.number

    def leave(self) -> None:
        """Close this process's write end; idempotent."""
        self._write.close()

    def close(self) -> None:
        """Close both ends; idempotent."""
        self._write.close()
        self._read.close()

    def others(self) -> bool:
        """Return whether another process has a write end. Call `leave` first."""
        if self._read.closed:
            return False
        try:
            return os.read(self._read.number, 1) != b""
        except BlockingIOError:
            return True


class Feeder:
    """Messages in this process's memory, and the thread that sends them when there is room.

    A signal handler or a finalizer can interrupt `add` and call it again. So `add` takes no lock;
    only the sending threads do.

    Args:
        channel: the channel for the messages, which the feeder closes.
        holders: the processes that have the queue.
        note: called with `waiting` when its length has changed, for `join` of the queue.

    Attributes:
        waiting: the messages that are not sent yet.
        error: the error that ended the thread, or None.
        lost: the number of messages that this error lost.
    """

    def __init__(
        self, channel: Channel[bytes], holders: Holders, note: Callable[[Sized], object] = len
    ) -> None:
        self.waiting: deque[bytes | Piece] = deque()
        self.error: IpcError | None = None
        self.lost = 0
        self._reported = False  # whether a call has raised `error`, or warned of it
        self._joining = self._closing = self._finalized = False
        self._channel, self._holders, self._note = channel, holders, note
        self._sending = threading.Lock()
        self._thread: threading.Thread | None = None
        self._join = True

    def add(self, message: bytes | Piece) -> None:
        """Send a message after those that wait, when there is room.

        Raises:
            RuntimeError: the interpreter is shutting down and can't start a thread.
        """
        self.waiting.append(message)
        self._note(self.waiting)
        try:
            self._start()
        except RuntimeError:
            try:
                self.waiting.remove(message)  # not `pop`: another thread may have added one since
            except ValueError:  # the thread of another call has sent it
                return
            self._note(self.waiting)
            raise
        if not self._finalized and self._join:
            self._finalized = True
            # Imported here because few queues need it, and the import takes long.
            from multiprocessing.util import Finalize  # noqa: PLC0415

            # With the priority of multiprocessing.Queue: after children were joined.
            Finalize(None, _join_at_exit, [weakref.ref(self)], exitpriority=-5)

    def _start(self) -> None:
        """Start a thread that sends the waiting messages, unless one is running.

        A signal handler can start a second thread here. That is harmless: the threads take turns by
        a lock, and the second one finds nothing to send.
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
            except Exception as exc:  # after any error, the waiting messages are lost
                self._fail(exc)
            # This thread first clears `_thread` and then checks `waiting` again; `add` first
            # appends to `waiting` and then checks `_thread`. So one of them sees the message.
            if self._thread is threading.current_thread():
                self._thread = None
        if self._closing:
            self._close_channel()

    def _close_channel(self) -> None:
        self._channel.close()
        self._holders.close()
        self._note = len  # drops the queue's file

    def _send_all(self) -> None:
        while self.waiting:
            message = self.waiting[0]
            try:
                if isinstance(message, Piece):
                    message.send(None)
                else:
                    self._channel.send(message)
            except (WouldBlock, Timeout):
                time.sleep(_RETRY_SECONDS)  # a stopped process holds the channel's lock
            else:
                if self.waiting and self.waiting[0] is message:  # `join` may have dropped it
                    self.waiting.popleft()
                self._note(self.waiting)

    def _fail(self, error: Exception) -> None:
        """Drop the waiting messages, which can't be sent, and keep the error."""
        while self.waiting:
            self.waiting.popleft()
            self.lost += 1
        self._note(self.waiting)
        if self._closing and not self.lost:
            return  # `join` dropped the messages, and closed the channel
        if not isinstance(error, IpcError):
            error = IpcError(f"{type(error).__name__}: {error}", op="send", target="ProcessQueue")
        error.strerror = f"{error.strerror}; lost objects: {self.lost:,}"
        self.error, self._reported = error, False
        if self._closing and not self._joining:
            self.warn()

    def check(self) -> None:
        """Raise the error that ended the thread, if any.

        Raises:
            IpcError: objects that were put are lost.
        """
        if self.error is not None:
            self._reported = True
            raise self.error.with_traceback(None)

    def warn(self) -> None:
        """Warn of the error that ended the thread, if no call has raised it."""
        if self.error is not None and self._join and not self._reported:
            self._reported = True
            warnings.warn(f"ProcessQueue: {self.error}", RuntimeWarning, stacklevel=3)

    def close(self) -> None:
        """Close the channel after the waiting messages are sent; warn if messages are lost."""
        self._closing = True
        self._holders.leave()
        try:
            sending = bool(self.waiting) or self._sending.locked()
            self._start()  # the thread closes the channel
        except RuntimeError:  # at the end of the interpreter, which has called `_join_at_exit`
            sending = False
        if not sending:
            self._close_channel()
        self.warn()

    def join(self) -> None:
        """Wait until the waiting messages are sent, or no other process has the queue.

        Raises:
            IpcError: objects that were put are lost.
        """
        self._joining = True
        self._holders.leave()
        while self._join and (self.waiting or self._sending.locked()):
            self._start()
            thread = self._thread
            if thread is not None:
                thread.join(_CHECK_SECONDS)
            try:
                alone = len(self._channel.peers()) <= 1 and not self._holders.others()
            except IpcError:
                break  # the thread closed the channel: all messages are sent
            if alone and self.waiting:
                if self._closing:
                    self.waiting.clear()
                    self._close_channel()  # ends the thread's wait
                return
        if self._join:
            self.check()

    def cancel_join(self) -> None:
        """Let the process exit without waiting for the messages to be sent."""
        self._join = False

    def after_fork(self) -> None:
        """In a forked child: forget the messages, which the parent sends."""
        self.waiting.clear()
        self._sending = threading.Lock()
        self._thread, self._join, self._finalized = None, True, False
        self.error, self.lost = None, 0


def _join_at_exit(reference: weakref.ref[Feeder]) -> None:
    feeder = reference()
    if feeder is not None:
        with suppress(IpcError):
            feeder.join()
            return
        feeder._reported = False  # noqa: SLF001 - the class of this module
        feeder.warn()
