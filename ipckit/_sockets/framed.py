"""Message boundaries on byte streams: without I/O of their own, and over blocking sockets."""

from __future__ import annotations

import errno
import socket
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from ipckit._core.public import public
from ipckit._sockets.framing import Framing
from ipckit._sockets.waiting import (
    READABLE,
    deadline_of,
    describe,
    gone,
    partly,
    plain,
    receive_into,
    receive_now,
    repeat,
    send_all,
)
from ipckit._sockets.waiting import (
    failing_as as _failing_as,
)
from ipckit.errors import InvalidArgument, IpcError, MessageTooLong, Timeout, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Buffer

    from ipckit._core.deadline import Deadline
    from ipckit._core.handle import Waiting
    from ipckit._sockets.waiting import HasSocket

_CHUNK: Final = 65536


@public("ipckit.framing")
class Framed:
    """Frames over a blocking stream socket, of UNIX or TCP.

    It takes the socket over: leaving a ``with`` block closes it. Where a frame is too long, the
    stream is closed, because nothing after it can be told apart.

    Args:
        sock: a `UnixSocket`, or a `socket.socket` of type SOCK_STREAM.
        framing: the rule; this object must not serve another stream meanwhile.

    Raises:
        TypeError: `sock` or `framing` is something else.
        InvalidArgument: the socket is no stream.
    """

    _awaiting: Waiting | None = None

    def __init__(self, sock: socket.socket | HasSocket, framing: Framing) -> None:
        if not isinstance(framing, Framing):
            message = f"framing is a Framing, not {type(framing).__name__}"
            raise TypeError(message)
        self._given: Any = sock
        self._socket = _stream(sock)
        self._framing = framing
        self._frames: deque[bytes] = deque()
        self._chunk = memoryview(bytearray(_CHUNK))

    @property
    def framing(self) -> Framing:
        """The rule."""
        return self._framing

    def fileno(self) -> int:
        """The socket's descriptor; -1 where it is closed.

        Poll tells nothing of frames that were received already: take them first, with
        ``receive(timeout=0)`` until it raises WouldBlock.
        """
        return self._socket.fileno()

    def send(self, frame: Buffer, *, timeout: float | None = None) -> None:
        """Send one frame.

        Args:
            frame: its bytes.
            timeout: seconds to wait for room.

        Raises:
            PeerGone: the other side is closed.
            Timeout: there was no room until the deadline; the message says how much was sent.
            MessageTooLong: the frame is longer than the most; nothing was sent.
            InvalidArgument: it can't be a frame of this kind.
            ClosedHandle: the socket is closed.
        """
        write_all(self._given, self._framing.encode(frame), timeout=timeout)

    def receive(self, *, timeout: float | None = None) -> bytes:
        """The next frame.

        Args:
            timeout: seconds to wait for all of it. What came of it by then is kept for the next
                call.

        Raises:
            PeerGone: the stream ended; the message says how much of a frame was missing, if any.
            Timeout: it was not whole until the deadline.
            WouldBlock: it is not whole, with a timeout of 0.
            MessageTooLong: it is longer than the most; the stream is closed.
            ClosedHandle: the socket is closed.
        """
        frame = self._next(timeout)
        if frame is None:
            raise self._ended()
        return frame

    @property
    def _target(self) -> str:
        return describe(self._socket)

    def _ended(self) -> IpcError:
        message = "the stream ended between two frames"
        return gone(message, op="receive", target=self._target)

    def _next(self, timeout: float | None) -> bytes | None:
        if not self._frames:
            deadline = deadline_of(self._socket, timeout)
            # This tells of a frame that came too long behind the last good one.
            self._feed(b"")
            while not self._frames:
                if not self._fill(deadline):
                    return None
        return self._frames.popleft()

    def _fill(self, deadline: Deadline) -> bool:
        """Receive what is there, once; false at the end of the stream."""
        count = receive_into(self._socket, self._chunk, deadline)
        if count == 0:
            self._framing.end()
            return False
        self._feed(self._chunk[:count])
        return True

    def _feed(self, data: Buffer) -> None:
        try:
            self._frames.extend(self._framing.feed(data))
        except IpcError:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        """The frames until the stream ends; PeerGone where it ends inside one."""
        while (frame := self._next(None)) is not None:
            yield frame

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._given.close()
        if self._awaiting is not None:
            self._awaiting.wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _stream(sock: socket.socket | HasSocket) -> socket.socket:
    found = plain(sock)
    if found.type != socket.SOCK_STREAM:
        message = f"a stream is wanted, and this is {found.type!r}, which keeps messages apart"
        raise InvalidArgument(message, errno=errno.EPROTOTYPE)
    return found


@public("ipckit.framing")
def read_exactly(sock: socket.socket | HasSocket, n: int, *, timeout: float | None = None) -> bytes:
    """Read so many bytes off a stream, neither more nor fewer.

    Args:
        sock: a stream socket, blocking or not.
        n: how many bytes.
        timeout: seconds to wait for all of them; by default the socket's own.

    Raises:
        PeerGone: the stream ended first; the message says how many were missing.
        Timeout: they had not all come until the deadline; what had come is lost, and the message
            says how many.
        WouldBlock: none is there, with a timeout of 0.
        InvalidArgument: `n` is negative.
        ClosedHandle: the socket is closed.

    See recv(2).
    """
    found = plain(sock)
    if n < 0:
        message = f"n is {n}; it takes 0 bytes or more"
        raise InvalidArgument(message, errno=errno.EINVAL, op="recv")
    deadline = deadline_of(found, timeout)
    waited = not deadline.expired
    buffer = bytearray(min(n, _CHUNK))
    got = 0
    while got < n:
        if got == len(buffer):
            # A peer that announces more than it sends costs no memory: room grows as bytes come.
            buffer.extend(bytes(min(n - got, got)))
        try:
            with memoryview(buffer) as view, view[got:] as rest:
                count = receive_into(found, rest, deadline)
        except (Timeout, WouldBlock) as exc:
            if got:
                raise partly(got, n, exc, waited=waited) from None
            raise
        if count == 0:
            message = f"the stream ended with {n - got:,} of {n:,} bytes missing"
            raise gone(message, op="recv", target=describe(found))
        got += count
    return bytes(buffer)


@public("ipckit.framing")
def write_all(
    sock: socket.socket | HasSocket, data: Buffer, *, timeout: float | None = None
) -> None:
    """Write all the bytes to a stream, in as many parts as it takes.

    Args:
        sock: a stream socket, blocking or not.
        data: what to write.
        timeout: seconds for all of it; by default the socket's own.

    Raises:
        PeerGone: the other side is closed. SIGPIPE is never sent.
        Timeout: they were not all written until the deadline; the message says how many were.
        WouldBlock: there is no room, with a timeout of 0.
        ClosedHandle: the socket is closed.

    See send(2), MSG_NOSIGNAL.
    """
    found = plain(sock)
    send_all(found, data, deadline_of(found, timeout))


@public("ipckit.framing")
def read_line(
    sock: socket.socket | HasSocket,
    *,
    max_size: int = _CHUNK,
    timeout: float | None = None,
    delimiter: bytes = b"\n",
) -> bytes:
    """Read a line off a stream, and nothing behind it: the next reader finds the rest there.

    Args:
        sock: a stream socket, blocking or not.
        max_size: the most bytes of the line, its end included.
        timeout: seconds to wait for all of it; by default the socket's own.
        delimiter: what ends the line, one byte.

    Returns:
        The line with its end; ``b""`` where the stream ended before it.

    Raises:
        PeerGone: the stream ended inside the line; the message says what had come.
        MessageTooLong: the line is longer than the most; the socket is closed.
        Timeout: it was not whole until the deadline; what had come is lost.
        WouldBlock: nothing is there, with a timeout of 0.
        InvalidArgument: `max_size` or `delimiter` is out of range.
        ClosedHandle: the socket is closed.

    See recv(2), MSG_PEEK.
    """
    found = _stream(sock)
    if max_size < 1 or len(delimiter) != 1:
        message = f"max_size is {max_size} and delimiter {delimiter!r}; each takes 1 byte or more, "
        message += "the delimiter one"
        raise InvalidArgument(message, errno=errno.EINVAL, op="recv")
    deadline = deadline_of(found, timeout)
    line = bytearray()
    room = memoryview(bytearray(min(_CHUNK, max_size)))
    while True:
        try:
            seen = _peek(found, room[: max_size - len(line)], deadline)
        except (Timeout, WouldBlock) as exc:
            if line:
                exc.strerror = f"the deadline passed after {len(line):,} bytes of a line"
                exc.hint = "the two sides are out of step now: close the stream"
            raise
        if not seen:
            if not line:
                return b""
            message = f"the stream ended inside a line: {len(line):,} bytes had come, "
            raise gone(f"{message}and its end was missing", op="recv", target=describe(found))
        end = seen.find(delimiter) + 1
        # What was seen is there, so this does not wait.
        line += room[: receive_now(found, room[: end or len(seen)])]
        if end:
            return bytes(line)
        if len(line) >= max_size:
            _too_long(sock, max_size)


def _peek(sock: socket.socket, room: memoryview, deadline: Deadline) -> bytes:
    def peek() -> bytes:
        return bytes(room[: receive_now(sock, room, socket.MSG_PEEK)])

    return _failing_as("recv", sock, lambda: repeat(sock, READABLE, deadline, peek, op="recv"))


def _too_long(sock: Any, max_size: int) -> NoReturn:
    with suppress(OSError):
        sock.close()
    message = f"a line of more than max_size ({max_size:,}) bytes; the stream is closed"
    raise MessageTooLong(message, errno=errno.EMSGSIZE, op="recv")
