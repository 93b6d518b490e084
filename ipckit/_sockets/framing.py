"""Framings: rules for message boundaries on a byte stream, without I/O."""

from __future__ import annotations

import errno
import re
import struct
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from ipckit._core.arguments import int_argument
from ipckit._core.public import public
from ipckit._payload.dtypes import byte_view
from ipckit.errors import InvalidArgument, MessageTooLong, PeerGone

if TYPE_CHECKING:
    from typing_extensions import Buffer

DEFAULT_MAX: Final = 2**20
_INTEGER: Final = re.compile(r"[@=<>!]?[bBhHiIlLqQnN]")


@public("ipckit.framing")
class Framing(ABC):
    """A rule for message boundaries on a byte stream; it stores the bytes of an incomplete frame.

    One object serves one direction of one stream. The time that `feed` takes is proportional to the
    number of bytes, whatever pieces they arrive in.

    Example:
        >>> from ipckit import DelimitedFrames, LengthPrefixed
        >>> for framing in (DelimitedFrames(), LengthPrefixed()):
        ...     framing.feed(framing.encode(b"a frame"))
        [b'a frame']
        [b'a frame']
    """

    def __init__(self, max_size: int) -> None:
        max_size = int_argument("the size of a frame", max_size)
        if max_size < 1:
            message = f"the size of a frame must be 1 byte or more, not {max_size}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        self._max_size = max_size
        self._buffer = bytearray()
        self._too_long = ""

    @property
    def max_size(self) -> int:
        """The maximum size of a frame in bytes."""
        return self._max_size

    @property
    def pending(self) -> int:
        """How many bytes of an incomplete frame have come."""
        return len(self._buffer)

    @abstractmethod
    def encode(self, frame: Buffer) -> bytes:
        """Return a frame as the bytes to send.

        Args:
            frame: its bytes.

        Raises:
            MessageTooLong: the frame is longer than `max_size`.
            InvalidArgument: this framing cannot carry the frame.
        """

    @abstractmethod
    def _cut(self, buffer: bytearray, frames: list[bytes]) -> int:
        """Append the complete frames to `frames`, and return how many bytes they took."""

    @abstractmethod
    def _missing(self) -> str:
        """Return which bytes the frame in the buffer lacks, for messages."""

    def feed(self, data: Buffer) -> list[bytes]:
        """Add bytes of the stream, and return the frames that are complete now.

        Args:
            data: the next bytes, cut anywhere; may be empty.

        Returns:
            The frames, without prefix or delimiter. If a frame is too long, this call still returns
            the frames before it, and the next call raises.

        Raises:
            MessageTooLong: a frame is longer than `max_size`, or its length is negative. The
                boundaries after it are unknown, so each further call raises until `reset`.
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
        """Report the end of the stream.

        Raises:
            PeerGone: the stream ended inside a frame; the message says how much was missing.
            MessageTooLong: as `feed`.
        """
        if self._too_long:
            raise MessageTooLong(self._too_long, errno=errno.EMSGSIZE, op="end")
        if self._buffer:
            message = f"the stream ended inside a frame: {self._missing()}"
            raise PeerGone(message, errno=errno.ECONNRESET, op="end")

    def reset(self) -> None:
        """Discard the bytes of an incomplete frame, to begin a new stream."""
        self._buffer = bytearray()
        self._too_long = ""

    def _refuse(self, size: str) -> None:
        self._too_long = f"a frame of {size} bytes exceeds max_size ({self._max_size:,})"

    def _checked(self, frame: Buffer) -> bytes:
        data = frame if isinstance(frame, bytes) else bytes(byte_view(frame))
        if len(data) > self._max_size:
            message = f"a frame of {len(data):,} bytes exceeds max_size ({self._max_size:,})"
            raise MessageTooLong(message, errno=errno.EMSGSIZE, op="encode")
        return data


@public("ipckit.framing")
class FixedFrames(Framing):
    """Frames of a fixed size, such as one struct each.

    Args:
        size: bytes of each frame, 1 or more.

    Raises:
        TypeError: `size` is not an int.
        InvalidArgument: `size` is out of range.

    Example:
        >>> from ipckit.framing import FixedFrames
        >>> FixedFrames(2).feed(b"abcde")
        [b'ab', b'cd']
    """

    def encode(self, frame: Buffer) -> bytes:
        """Return the frame unchanged, after a check of its size."""
        data = self._checked(frame)
        if len(data) < self._max_size:
            message = f"the frame must have {self._max_size:,} bytes, not {len(data):,}"
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


@public("ipckit.framing")
class DelimitedFrames(Framing):
    r"""Frames that end with a delimiter, such as lines; a frame may be empty.

    Args:
        delimiter: the bytes that end a frame, and that no frame contains; by default a newline.
        max_size: the maximum size of a frame in bytes, without the delimiter; by default 1 MiB.

    Raises:
        TypeError: an argument is of the wrong type.
        InvalidArgument: `delimiter` is empty, or `max_size` is out of range.

    Example:
        >>> from ipckit.framing import DelimitedFrames
        >>> lines = DelimitedFrames()
        >>> lines.feed(b"one\ntw"), lines.feed(b"o\n")
        ([b'one'], [b'two'])
    """

    def __init__(self, delimiter: bytes = b"\n", *, max_size: int = DEFAULT_MAX) -> None:
        super().__init__(max_size)
        if not isinstance(delimiter, bytes):
            message = f"delimiter must be bytes, not {type(delimiter).__name__}"
            raise TypeError(message)
        if not delimiter:
            message = "delimiter must not be empty"
            raise InvalidArgument(message, errno=errno.EINVAL)
        self._delimiter = delimiter
        self._seen = 0

    def encode(self, frame: Buffer) -> bytes:
        """Return the frame and the delimiter, which the frame must not contain."""
        data = self._checked(frame)
        if (data + self._delimiter).find(self._delimiter) != len(data):
            message = f"the frame would end early: it contains the delimiter {self._delimiter!r}"
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
        # The next search starts at the end, less the part of a delimiter that may be there.
        self._seen = max(0, len(buffer) - width + 1 - start)
        return start

    def _missing(self) -> str:
        have = len(self._buffer)
        return f"{have:,} bytes had come, and the delimiter {self._delimiter!r} was missing"

    def reset(self) -> None:
        """Discard the bytes of an incomplete frame, to begin a new stream."""
        super().reset()
        self._seen = 0


@public("ipckit.framing")
class LengthPrefixed(Framing):
    r"""Frames that begin with their length.

    Args:
        prefix: the format of the length in the syntax of the module struct: one integer, by default
            ``">I"``, which is 4 bytes in network byte order.
        max_size: the maximum size of a frame in bytes, without the prefix; by default 1 MiB. A
            longer length is refused before any byte of the frame is stored.

    Raises:
        TypeError: an argument is of the wrong type.
        InvalidArgument: `prefix` is not one integer, or `max_size` is out of range.

    Example:
        >>> from ipckit.framing import LengthPrefixed
        >>> framing = LengthPrefixed(">H")
        >>> framing.encode(b"hello")
        b'\x00\x05hello'
        >>> framing.feed(b"\x00\x05hello\x00")
        [b'hello']
    """

    def __init__(self, prefix: str = ">I", *, max_size: int = DEFAULT_MAX) -> None:
        if not isinstance(prefix, str):
            message = f"prefix must be a str, not {type(prefix).__name__}"
            raise TypeError(message)
        if not _INTEGER.fullmatch(prefix):
            message = f'prefix must be the format of one integer, such as ">I", not {prefix!r}'
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
        """Return the length and the frame."""
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
        """Discard the bytes of an incomplete frame, to begin a new stream."""
        super().reset()
        self._wanted = -1
