"""Message boundaries on byte streams: without I/O of their own, and over blocking sockets."""

from __future__ import annotations

import errno
import re
import socket
import struct
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from ipckit._sock_io import (
    deadline_of,
    describe,
    gone,
    partly,
    plain,
    receive_into,
    repeat,
    send_all,
)
from ipckit._sock_io import (
    failing_as as _failing_as,
)
from ipckit.errors import InvalidArgument, IpcError, MessageTooLong, PeerGone, Timeout, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Buffer

    from ipckit._deadline import Deadline
    from ipckit._sock_io import HasSocket

__all__ = [
    "DelimitedFrames",
    "FixedFrames",
    "Framed",
    "Framing",
    "LengthPrefixed",
    "read_exactly",
    "read_line",
    "write_all",
]

DEFAULT_MAX: Final = 2**20
_CHUNK: Final = 65536
_INTEGER: Final = re.compile(r"[@=<>!]?[bBhHiIlLqQnN]")


class Framing(ABC):
    """A rule where one frame ends and the next begins, and the bytes of a frame not yet whole.

    One object serves one direction of one stream. `feed` takes time in proportion to the bytes,
    however they are cut.
    """

    def __init__(self, max_size: int) -> None:
        if isinstance(max_size, bool) or not isinstance(max_size, int):
            message = f"a size is an int, not {type(max_size).__name__}"
            raise TypeError(message)
        if max_size < 1:
            message = f"a size is {max_size}; it takes 1 byte or more"
            raise InvalidArgument(message, errno=errno.EINVAL)
        self._max_size = max_size
        self._buffer = bytearray()
        self._too_long = ""

    @property
    def max_size(self) -> int:
        """The most bytes of a frame."""
        return self._max_size

    @property
    def pending(self) -> int:
        """Bytes that came and belong to a frame not yet whole."""
        return len(self._buffer)

    @abstractmethod
    def encode(self, frame: Buffer) -> bytes:
        """The bytes that carry a frame.

        Raises:
            MessageTooLong: it is longer than the most.
            InvalidArgument: it can't be a frame of this kind.
        """

    @abstractmethod
    def _cut(self, buffer: bytearray, frames: list[bytes]) -> int:
        """Append the frames that are whole; how many bytes they took."""

    @abstractmethod
    def _missing(self) -> str:
        """What the frame in the buffer lacks."""

    def feed(self, data: Buffer) -> list[bytes]:
        """Take bytes off the stream; the frames that are whole by now.

        Args:
            data: what came, cut anywhere; may be empty.

        Returns:
            The frames, without what bounds them. Those before one that is too long still come;
            the call after that raises.

        Raises:
            MessageTooLong: a frame is longer than `max_size`; nothing more can be told apart, and
                each further call raises until `reset`.
            Corrupt: a length that is negative.
        """
        frames: list[bytes] = []
        if not self._too_long:
            self._buffer += data
            taken = self._cut(self._buffer, frames)
            if taken:
                del self._buffer[:taken]
        if self._too_long and not frames:
            raise MessageTooLong(self._too_long, errno=errno.EMSGSIZE, op="feed")
        return frames

    def end(self) -> None:
        """Say that the stream ended.

        Raises:
            PeerGone: it ended inside a frame; the message says how much was missing.
            MessageTooLong: as `feed`.
        """
        if self._too_long:
            raise MessageTooLong(self._too_long, errno=errno.EMSGSIZE, op="end")
        if self._buffer:
            message = f"the stream ended inside a frame: {self._missing()}"
            raise PeerGone(message, errno=errno.ECONNRESET, op="end")

    def reset(self) -> None:
        """Forget what came, for a new stream."""
        self._buffer = bytearray()
        self._too_long = ""

    def _refuse(self, size: str) -> None:
        self._too_long = f"a frame of {size} bytes exceeds max_size ({self._max_size:,})"

    def _checked(self, frame: Buffer) -> bytes:
        data = frame if isinstance(frame, bytes) else bytes(memoryview(frame))
        if len(data) > self._max_size:
            message = f"a frame of {len(data):,} bytes exceeds max_size ({self._max_size:,})"
            raise MessageTooLong(message, errno=errno.EMSGSIZE, op="encode")
        return data


class FixedFrames(Framing):
    """Frames of one size, such as a struct each.

    Args:
        size: bytes of each frame, 1 or more.

    Raises:
        InvalidArgument: `size` is out of range.
    """

    def encode(self, frame: Buffer) -> bytes:
        """The frame itself, which must have the one size."""
        data = self._checked(frame)
        if len(data) < self._max_size:
            message = f"a frame has {self._max_size:,} bytes, and this one {len(data):,}"
            raise InvalidArgument(message, errno=errno.EINVAL, op="encode")
        return data

    def __init__(self, size: int) -> None:
        super().__init__(size)

    def _cut(self, buffer: bytearray, frames: list[bytes]) -> int:
        size = self._max_size
        taken = len(buffer) - len(buffer) % size
        frames.extend(bytes(buffer[start : start + size]) for start in range(0, taken, size))
        return taken

    def _missing(self) -> str:
        have = len(self._buffer)
        return f"{self._max_size - have:,} of {self._max_size:,} bytes were missing"


class DelimitedFrames(Framing):
    """Frames that end with some bytes, such as lines; an empty frame is one too.

    Args:
        delimiter: what ends a frame, and is in none.
        max_size: the most bytes of a frame, without the delimiter.

    Raises:
        InvalidArgument: `delimiter` is empty, or `max_size` out of range.
    """

    def __init__(self, delimiter: bytes = b"\n", *, max_size: int = DEFAULT_MAX) -> None:
        super().__init__(max_size)
        if not isinstance(delimiter, bytes):
            message = f"delimiter is bytes, not {type(delimiter).__name__}"
            raise TypeError(message)
        if not delimiter:
            message = "delimiter has 1 byte or more"
            raise InvalidArgument(message, errno=errno.EINVAL)
        self._delimiter = delimiter
        self._seen = 0

    def encode(self, frame: Buffer) -> bytes:
        """The frame and the delimiter, which must not be in the frame."""
        data = self._checked(frame)
        if (data + self._delimiter).find(self._delimiter) != len(data):
            message = f"the frame would end early: it has the delimiter {self._delimiter!r} in it"
            raise InvalidArgument(message, errno=errno.EINVAL, op="encode")
        return data + self._delimiter

    def _cut(self, buffer: bytearray, frames: list[bytes]) -> int:
        delimiter, width = self._delimiter, len(self._delimiter)
        start, seen = 0, self._seen
        while True:
            found = buffer.find(delimiter, seen)
            size = (len(buffer) - width + 1 if found < 0 else found) - start
            if size > self._max_size:
                self._refuse(f"{size:,}" if found >= 0 else f"{size:,} or more")
                break
            if found < 0:
                break
            frames.append(bytes(buffer[start:found]))
            start = seen = found + width
        # What was searched is not searched again, but for a delimiter that has only begun.
        self._seen = max(0, len(buffer) - width + 1 - start)
        return start

    def _missing(self) -> str:
        return f"{len(self._buffer):,} bytes had come, and the {self._delimiter!r} was missing"

    def reset(self) -> None:
        """Forget what came, for a new stream."""
        super().reset()
        self._seen = 0


class LengthPrefixed(Framing):
    """Frames that begin with their length.

    Args:
        prefix: the length's format, as struct has it: one integer, such as ``">I"`` for 4 bytes
            in network order.
        max_size: the most bytes of a frame, without its prefix. A peer that announces more is
            refused before anything is stored.

    Raises:
        InvalidArgument: `prefix` is no single integer, or `max_size` out of range.
    """

    def __init__(self, prefix: str = ">I", *, max_size: int = DEFAULT_MAX) -> None:
        if not isinstance(prefix, str):
            message = f"prefix is a str, not {type(prefix).__name__}"
            raise TypeError(message)
        if not _INTEGER.fullmatch(prefix):
            message = f'prefix is {prefix!r}; it takes one integer of struct, such as ">I"'
            raise InvalidArgument(message, errno=errno.EINVAL)
        try:
            self._prefix = struct.Struct(prefix)
        except struct.error as exc:
            message = f"prefix is {prefix!r}: {exc}"
            raise InvalidArgument(message, errno=errno.EINVAL) from None
        signed = prefix[-1].islower()
        largest = 2 ** (8 * self._prefix.size - signed) - 1
        super().__init__(max_size)
        self._max_size = min(max_size, largest)
        self._wanted = -1

    def encode(self, frame: Buffer) -> bytes:
        """The length and the frame."""
        data = self._checked(frame)
        return self._prefix.pack(len(data)) + data

    def _cut(self, buffer: bytearray, frames: list[bytes]) -> int:
        start, width = 0, self._prefix.size
        while True:
            if self._wanted < 0:
                if len(buffer) - start < width:
                    break
                (size,) = self._prefix.unpack_from(buffer, start)
                if not 0 <= size <= self._max_size:
                    self._refuse(f"{size:,}")
                    break
                self._wanted = size
            stop = start + width + self._wanted
            if len(buffer) < stop:
                break
            frames.append(bytes(buffer[start + width : stop]))
            start, self._wanted = stop, -1
        return start

    def _missing(self) -> str:
        width, have = self._prefix.size, len(self._buffer)
        if self._wanted < 0:
            return f"{width - have} of the {width} bytes of its length were missing"
        missing = width + self._wanted - have
        return f"{missing:,} of {self._wanted:,} bytes were missing"

    def reset(self) -> None:
        """Forget what came, for a new stream."""
        super().reset()
        self._wanted = -1


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
            message = "the stream ended between two frames"
            raise gone(message, op="receive", target=describe(self._socket))
        return frame

    def _next(self, timeout: float | None) -> bytes | None:
        if self._frames:
            return self._frames.popleft()
        deadline = deadline_of(self._socket, timeout)
        data: Buffer = b""
        while True:
            try:
                # The first turn tells of a frame that came too long behind the last good one.
                self._frames.extend(self._framing.feed(data))
            except IpcError:
                self.close()
                raise
            if self._frames:
                return self._frames.popleft()
            count = receive_into(self._socket, self._chunk, deadline)
            if count == 0:
                self._framing.end()
                return None
            data = self._chunk[:count]

    def __iter__(self) -> Iterator[bytes]:
        """The frames until the stream ends; PeerGone where it ends inside one."""
        while (frame := self._next(None)) is not None:
            yield frame

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._given.close()

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
    buffer = bytearray(n)
    view = memoryview(buffer)
    got = 0
    while got < n:
        try:
            count = receive_into(found, view[got:], deadline)
        except (Timeout, WouldBlock) as exc:
            if got:
                raise partly(got, n, exc, waited=waited) from None
            raise
        if count == 0:
            message = f"the stream ended with {n - got:,} of {n:,} bytes missing"
            raise gone(message, op="recv", target=describe(found))
        got += count
    return bytes(buffer)


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
    while True:
        try:
            seen = _peek(found, min(_CHUNK, max_size - len(line)), deadline)
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
        line += found.recv(end or len(seen))
        if end:
            return bytes(line)
        if len(line) >= max_size:
            _too_long(sock, max_size)


def _peek(sock: socket.socket, size: int, deadline: Deadline) -> bytes:
    flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
    return _failing_as(
        "recv",
        sock,
        lambda: repeat(sock, 1, deadline, lambda: sock.recv(size, flags), op="recv"),
    )


def _too_long(sock: Any, max_size: int) -> NoReturn:
    with suppress(OSError):
        sock.close()
    message = f"a line of more than max_size ({max_size:,}) bytes; the stream is closed"
    raise MessageTooLong(message, errno=errno.EMSGSIZE, op="recv")
