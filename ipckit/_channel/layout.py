"""What the bytes of a channel's messages mean for code that reads and writes them in place."""

from __future__ import annotations

import errno
import math
from functools import cached_property
from operator import index
from typing import TYPE_CHECKING, Any

from ipckit._channel.results import undecodable
from ipckit._core.lazy_numpy import np
from ipckit._payload.codecs import ArrayCodec, StructCodec
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy.typing as npt

    from ipckit._payload.codecs import Codec
    from ipckit._payload.structs import Struct

    Shape = int | tuple[int, ...]


class Layout:
    """What the bytes of a message are, for who reads and writes them in place.

    Args:
        codec: the channel's.

    Attributes:
        struct: the Struct that each message is, or None.
        has_dtype: whether messages are structs or arrays.
        size: bytes of every message, or 0 where they differ.
        text: the payload type, for messages.
    """

    def __init__(self, codec: Codec[Any]) -> None:
        accepts: Any = codec.accepts
        self.struct: type[Struct] | None = accepts if isinstance(codec, StructCodec) else None
        self._codec = codec
        self._array = codec.dtype if isinstance(codec, ArrayCodec) else None
        self.has_dtype = self.struct is not None or self._array is not None
        self.size = codec.size or 0
        self.text = codec.name

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The elements of the arrays over a message: bytes where the type has no other."""
        if self.struct is not None:
            return self.struct.dtype
        return np.dtype(np.uint8) if self._array is None else self._array

    def record(self, row: npt.NDArray[Any]) -> Any:
        """One element of an array of messages, as `send` takes it."""
        if self.struct is None:
            return row
        return self.struct.from_bytes(row.tobytes())

    def decode(self, memory: Any, target: str) -> Any:
        """The message in some memory: a Struct in place, else a value of its own."""
        if self.struct is not None:
            return self.struct.from_buffer(memory, 0)
        raw = bytes(memory)
        try:
            return self._codec.decode(raw)
        except BaseException as exc:
            error = undecodable(exc, raw, target)
            if error is exc:
                raise
            raise error from exc

    @property
    def plain_unit(self) -> int:
        """`unit` where that is known without numpy, else 0."""
        if self.struct is not None:
            return 0
        return 1 if self._array is None else self.unit

    @cached_property
    def unit(self) -> int:
        """Bytes of one element of an array."""
        return self.dtype.base.itemsize

    def dimensions(self, shape: Shape) -> tuple[int, ...]:
        """The dimensions of an array to be lent.

        Raises:
            InvalidArgument: one is below 0.
        """
        found = tuple(map(index, shape if isinstance(shape, tuple) else (shape,)))
        if any(each < 0 for each in found):
            message = f"shape is {shape}; it takes 0 or more in each dimension"
            raise InvalidArgument(message, errno=errno.EINVAL, op="loan")
        return found

    def bytes_for(self, shape: Shape | None) -> int:
        """The bytes of an array to be lent.

        Raises:
            InvalidArgument: none was given where messages differ, or another than they all have, or
                a dimension is below 0.
        """
        if shape is None and self.size:
            return self.size
        if shape is None:
            message = "the type has no fixed size; say how many bytes, or which shape"
            raise InvalidArgument(message, errno=errno.EINVAL, op="loan")
        nbytes = math.prod(self.dimensions(shape)) * self.unit
        if self.size and nbytes != self.size:
            message = f"every message has {self.size} bytes, and the shape {shape} {nbytes}"
            raise InvalidArgument(message, errno=errno.EINVAL, op="loan")
        return nbytes

    def shape_of(self, nbytes: int) -> tuple[int, ...]:
        """The shape of the array over a message of so many bytes."""
        return self.dtype.shape or (nbytes // self.unit,)
