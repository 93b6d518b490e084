"""Framed, and functions that read and write exact parts of a stream socket."""

from __future__ import annotations

import errno
import socket
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, final

from ipckit._core.public import public
from ipckit._sockets.errors import CUT_MESSAGE, deadline_passed, interrupted, stream_ended
from ipckit._sockets.framing import Framing
from ipckit._sockets.transfer import (
    READABLE,
    deadline_of,
    describe_socket,
    receive_into,
    receive_now,
    retry,
    send_all,
    socket_inside,
    with_ipc_errors,
)
from ipckit.errors import InvalidArgument, IpcError, MessageTooLong, Timeout, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Buffer

    from ipckit._core.deadline import Deadline
    from ipckit._core.handle import Waiting
    from ipckit._sockets.transfer import HasSocket

_CHUNK: Final = 65536


@public("ipckit.framing")
@final
class Framed:
    """Frames over a blocking stream socket, UNIX or TCP.

    It owns the socket: `close` and the end of a ``with`` block close it. It also closes the socket
    after a frame that is too long, because the boundaries after it are unknown.

    Args:
        sock: a `UnixSocket`, or a `socket.socket` of type SOCK_STREAM.
        framing: the framing, which must not serve another stream at the same time.

    Raises:
        TypeError: an argument is of the wrong type.
        InvalidArgument: the socket is not a stream socket.

    Example:
        >>> import socket
        >>> from ipckit.framing import DelimitedFrames, Framed
        >>> a, b = socket.socketpair()
        >>> with Framed(a, DelimitedFrames()) as left, Framed(b, DelimitedFrames()) as right:
        ...     left.send(b"hello")
        ...     right.receive()
        b'hello'
    """

    _awaiting: Waiting | None = None

    def __init__(self, sock: socket.socket | HasSocket, framing: Framing) -> None:
        if not isinstance(framing, Framing):
            message = f"framing must be a Framing, not {type(framing).__name__}"
            raise TypeError(message)
        self._given: Any = sock
        self._socket = _checked_stream(sock)
        self._framing = framing
        self._frames: deque[bytes] = deque()
        self._chunk = memoryview(bytearray(_CHUNK))

    @property
    def framing(self) -> Framing:
        """The framing."""
        return self._framing

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 if it is closed.

        poll does not report frames that `Framed` has received already: before you poll, call
        ``receive(timeout=0)`` until it raises WouldBlock.
        """
        return self._socket.fileno()

    def send(self, frame: Buffer, *, timeout: float | None = None) -> None:
        """Send one frame.

        Args:
            frame: its bytes.
            timeout: seconds to wait for room; None (the default) means the socket's own timeout, 0
                does not wait.

        Raises:
            PeerGone: the peer closed its end.
            Timeout: there was no room until the deadline; the message says how much was sent.
            WouldBlock: there is no room, with a timeout of 0.
            MessageTooLong: the frame is longer than the framing's `max_size`; nothing was sent.
            InvalidArgument: the framing cannot carry the frame.
            ClosedHandle: the socket is closed.
        """
        write_all(self._given, self._framing.encode(frame), timeout=timeout)

    def receive(self, *, timeout: float | None = None) -> bytes:
        """Receive the next frame.

        Args:
            timeout: seconds to wait for the whole frame; None (the default) means the socket's own
                timeout, 0 does not wait. The next call continues with the bytes that came.

        Returns:
            The frame.

        Raises:
            PeerGone: the stream ended; the message says how much of a frame was missing, if any.
            Timeout: the frame was not complete before the deadline.
            WouldBlock: the frame is not complete, with a timeout of 0.
            MessageTooLong: the frame is longer than the framing's `max_size`; the socket is closed.
            ClosedHandle: the socket is closed.
        """
        frame = self._next(timeout)
        if frame is None:
            raise self._end_error()
        return frame

    @property
    def _target(self) -> str:
        return describe_socket(self._socket)

    def _end_error(self) -> IpcError:
        message = "the stream ended between two frames"
        return stream_ended(message, op="receive", target=self._target)

    def _next(self, timeout: float | None) -> bytes | None:
        if not self._frames:
            deadline = deadline_of(self._socket, timeout)
            # This raises if the frame behind the last good one was too long.
            self._feed(b"")
            while not self._frames:
                if not self._fill(deadline):
                    return None
        return self._frames.popleft()

    def _fill(self, deadline: Deadline) -> bool:
        """Receive once; return False at the end of the stream."""
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
        """Receive frames until the stream ends; raise PeerGone if it ends inside a frame."""
        while (frame := self._next(None)) is not None:
            yield frame

    def close(self) -> None:
        """Close the socket; idempotent; never raises."""
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


def _checked_stream(sock: socket.socket | HasSocket) -> socket.socket:
    found = socket_inside(sock)
    if found.type != socket.SOCK_STREAM:
        message = f"sock must be a stream socket, not one of type {found.type!r}"
        raise InvalidArgument(message, errno=errno.EPROTOTYPE)
    return found


@public("ipckit.framing")
def read_exactly(sock: socket.socket | HasSocket, n: int, *, timeout: float | None = None) -> bytes:
    """Read exactly `n` bytes from a stream.

    Args:
        sock: a stream socket, blocking or not.
        n: how many bytes.
        timeout: seconds to wait for all of them; None (the default) means the socket's own timeout,
            0 does not wait.

    Returns:
        The bytes.

    Raises:
        PeerGone: the stream ended first; the message says how many bytes were missing.
        Timeout: they had not all come before the deadline. The bytes that came are lost; the
            message says how many.
        WouldBlock: no byte is there, with a timeout of 0.
        InvalidArgument: `n` is negative.
        ClosedHandle: the socket is closed.

    Example:
        >>> from ipckit import unixsock
        >>> from ipckit.framing import read_exactly
        >>> a, b = unixsock.pair()
        >>> with a, b:
        ...     a.send(b"headbody")
        ...     read_exactly(b, 4)
        b'head'

    See recv(2).
    """
    found = socket_inside(sock)
    if n < 0:
        message = f"n must be 0 bytes or more, not {n}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="recv")
    deadline = deadline_of(found, timeout)
    waited = deadline.waits
    buffer = bytearray(min(n, _CHUNK))
    got = 0
    while got < n:
        if got == len(buffer):
            # The buffer grows as bytes come, so that a peer that announces more than it sends costs
            # no memory.
            buffer.extend(bytes(min(n - got, got)))
        try:
            with memoryview(buffer) as view, view[got:] as rest:
                count = receive_into(found, rest, deadline)
        except (Timeout, WouldBlock) as exc:
            if got:
                raise interrupted(got, n, exc, waited=waited) from None
            raise
        if count == 0:
            message = f"the stream ended with {n - got:,} of {n:,} bytes missing"
            raise stream_ended(message, op="recv", target=describe_socket(found))
        got += count
    return bytes(buffer)


@public("ipckit.framing")
def write_all(
    sock: socket.socket | HasSocket, data: Buffer, *, timeout: float | None = None
) -> None:
    r"""Write all the bytes to a stream, with as many calls as that takes.

    Args:
        sock: a stream socket, blocking or not.
        data: the bytes.
        timeout: seconds for all of them; None (the default) means the socket's own timeout, 0 does
            not wait.

    Raises:
        PeerGone: the peer closed its end. SIGPIPE is never sent.
        Timeout: they were not all written before the deadline; the message says how many were.
        WouldBlock: there is no room, with a timeout of 0.
        ClosedHandle: the socket is closed.

    Example:
        >>> from ipckit import unixsock
        >>> from ipckit.framing import read_line, write_all
        >>> a, b = unixsock.pair()
        >>> with a, b:
        ...     write_all(a, b"first\nsecond\n")
        ...     read_line(b)
        b'first\n'

    See send(2), MSG_NOSIGNAL.
    """
    found = socket_inside(sock)
    send_all(found, data, deadline_of(found, timeout))


@public("ipckit.framing")
def read_line(
    sock: socket.socket | HasSocket,
    *,
    max_size: int = _CHUNK,
    timeout: float | None = None,
    delimiter: bytes = b"\n",
) -> bytes:
    r"""Read a line from a stream, and no byte behind it, so that another reader can continue.

    Args:
        sock: a stream socket, blocking or not.
        max_size: the maximum size of the line in bytes, with its delimiter; by default 64 KiB.
        timeout: seconds to wait for the whole line; None (the default) means the socket's own
            timeout, 0 does not wait.
        delimiter: the byte that ends the line; by default a newline.

    Returns:
        The line with its delimiter; ``b""`` if the stream ended before the line.

    Raises:
        PeerGone: the stream ended inside the line; the message says how many bytes had come.
        MessageTooLong: the line is longer than `max_size`; the socket is closed.
        Timeout: the line was not complete before the deadline; the bytes that came are lost.
        WouldBlock: no byte is there, with a timeout of 0.
        InvalidArgument: `max_size` or `delimiter` is out of range.
        ClosedHandle: the socket is closed.

    Example:
        >>> from ipckit import unixsock
        >>> from ipckit.framing import read_line
        >>> a, b = unixsock.pair()
        >>> with a, b:
        ...     a.send(b"user alice\nrest")
        ...     read_line(b), b.receive().data
        (b'user alice\n', b'rest')

    See recv(2), MSG_PEEK.
    """
    found = _checked_stream(sock)
    if max_size < 1 or len(delimiter) != 1:
        message = "max_size must be 1 byte or more, and delimiter exactly 1 byte, "
        message += f"not {max_size} and {delimiter!r}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="recv")
    deadline = deadline_of(found, timeout)
    waited = deadline.waits
    line = bytearray()
    room = memoryview(bytearray(min(_CHUNK, max_size)))
    while True:
        try:
            seen = _peek(found, room[: max_size - len(line)], deadline)
        except (Timeout, WouldBlock) as exc:
            if line:
                message = f"the deadline passed after {len(line):,} bytes of a line"
                raise deadline_passed(
                    op=exc.op, target=exc.target, waited=waited, message=message, hint=CUT_MESSAGE
                ) from None
            raise
        if not seen:
            if not line:
                return b""
            message = f"the stream ended inside a line: {len(line):,} bytes had come, "
            raise stream_ended(
                f"{message}and its delimiter was missing", op="recv", target=describe_socket(found)
            )
        end = seen.find(delimiter) + 1
        # The bytes were peeked at, so this does not wait.
        line += room[: receive_now(found, room[: end or len(seen)])]
        if end:
            return bytes(line)
        if len(line) >= max_size:
            _too_long(sock, max_size)


def _peek(sock: socket.socket, room: memoryview, deadline: Deadline) -> bytes:
    def peek() -> bytes:
        return bytes(room[: receive_now(sock, room, socket.MSG_PEEK)])

    return with_ipc_errors("recv", sock, lambda: retry(sock, READABLE, deadline, peek, op="recv"))


def _too_long(sock: Any, max_size: int) -> NoReturn:
    with suppress(OSError):
        sock.close()
    message = f"the line is longer than max_size ({max_size:,} bytes); the socket is closed"
    raise MessageTooLong(message, errno=errno.EMSGSIZE, op="recv")
