"""Rules where one frame ends and the next begins, without I/O of their own."""

from __future__ import annotations

import errno
import re
import struct
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from ipckit._core.arguments import int_argument
from ipckit._core.public import public
from ipckit._payload.dtypes import check_array
from ipckit.errors import InvalidArgument, MessageTooLong, PeerGone

if TYPE_CHECKING:
    from typing_extensions import Buffer

DEFAULT_MAX: Final = 2**20
_INTEGER: Final = re.compile(r"[@=<>!]?[bBhHiIlLqQnN]")


@public("ipckit.framing")
class Framing(ABC):
    """A rule where one frame ends and the next begins, and the bytes of a frame not yet whole.

    One object serves one direction of one stream. `feed` takes time in proportion to the bytes,
    however they are cut.
    """

    def __init__(self, max_size: int) -> None:
        max_size = int_argument("a size", max_size)
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
        check_array(frame)
        data = frame if isinstance(frame, bytes) else bytes(memoryview(frame))
        if len(data) > self._max_size:
            message = f"a frame of {len(data):,} bytes exceeds max_size ({self._max_size:,})"
            raise MessageTooLong(message, errno=errno.EMSGSIZE, op="encode")
        return data


@public("ipckit.framing")
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


@public("ipckit.framing")
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


@public("ipckit.framing")
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
