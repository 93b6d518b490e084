"""The layout of a message, for code that reads or writes messages in place."""

from __future__ import annotations

import errno
import math
import sys
from operator import index
from typing import TYPE_CHECKING, Any

from ipckit._channel.results import undecodable
from ipckit._core.arguments import int_argument
from ipckit._core.cached import cached_property
from ipckit._core.lazy_numpy import np
from ipckit._payload.array_codecs import ArrayCodec
from ipckit._payload.codecs import StructCodec
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy.typing as npt

    from ipckit._channel.kind import Kind
    from ipckit._payload.codec import Codec
    from ipckit._payload.structs import Struct

    Shape = int | tuple[int, ...]


class Layout:
    """The layout of the messages of a channel or topic.

    Args:
        kind: whether they are those of a channel or a topic.
        codec: the codec.

    Attributes:
        kind: see above.
        struct: the Struct class of the messages, or None.
        has_dtype: whether messages are arrays, or Structs of one size.
        size: the bytes of each message; 0 if messages differ in size.
        text: the name of the payload type, for error messages.
    """

    def __init__(self, kind: Kind, codec: Codec[Any]) -> None:
        self.kind = kind
        accepts: Any = codec.accepts
        self.struct: type[Struct] | None = accepts if isinstance(codec, StructCodec) else None
        self._codec = codec
        self._array = codec.dtype if isinstance(codec, ArrayCodec) else None
        fixed = self.struct is not None and not self.struct.flexible
        self.has_dtype = fixed or self._array is not None
        self.size = codec.size or 0
        self.text = codec.name

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of an array over messages; bytes (uint8) if the payload type has no dtype."""
        if self.struct is not None and self.has_dtype:
            return self.struct.dtype
        return np.dtype(np.uint8) if self._array is None else self._array

    def record(self, row: npt.NDArray[Any]) -> Any:
        """Return one element of an array of messages as a value for `send`."""
        if self.struct is None:
            return row
        return self.struct.from_bytes(row.tobytes())

    def decode(self, memory: Any, target: str) -> Any:
        """Return the value of a message: a Struct over the memory itself, or a copy.

        Raises:
            LayoutMismatch: the codec can't decode the message; ``.raw`` has its bytes.
        """
        if self.struct is not None:
            return self.struct.from_buffer(memory, 0)
        raw = bytes(memory)
        del memory  # the traceback of an exception would keep the message from being freed
        try:
            return self._codec.decode(raw)
        except BaseException as exc:
            error = undecodable(exc, raw, self.kind, target, in_place=True)
            if error is exc:
                raise
            raise error from exc

    @property
    def plain_unit(self) -> int:
        """The same as `unit`, but 0 if numpy must be imported to know it."""
        if self.struct is not None:
            return 0
        return 1 if self._array is None else self.unit

    @cached_property
    def unit(self) -> int:
        """The bytes of one element of an array."""
        return self.dtype.base.itemsize

    def dimensions(self, shape: Shape) -> tuple[int, ...]:
        """Return the dimensions of the array for a loan.

        Raises:
            InvalidArgument: a dimension is negative.
        """
        found = tuple(map(index, shape if isinstance(shape, tuple) else (shape,)))
        if any(each < 0 for each in found):
            message = f"shape must have 0 or more in each dimension, not {shape}"
            raise InvalidArgument(message, errno=errno.EINVAL, op="loan")
        return found

    def bytes_for(self, shape: Shape | None) -> int:
        """Return the bytes of the array for a loan.

        Raises:
            InvalidArgument: the shape is missing although messages differ in size, or its size is
                not the size of each message, or a dimension is negative.
        """
        if shape is None and self.size:
            return self.size
        if shape is None:
            message = (
                "messages of this type differ in size: pass the number of elements, or a shape"
            )
            raise InvalidArgument(message, errno=errno.EINVAL, op="loan")
        nbytes = min(math.prod(self.dimensions(shape)) * self.unit, sys.maxsize)
        if self.size and nbytes != self.size:
            message = f"the shape {shape} has {nbytes} bytes, but each message has {self.size}"
            raise InvalidArgument(message, errno=errno.EINVAL, op="loan")
        return nbytes

    def bytes_to_send(self, nbytes: int, most: int) -> int:
        """Check the bytes of a message that is sent in a loan of `most` bytes, and return them.

        Raises:
            TypeError: `nbytes` is not an integer.
            InvalidArgument: `nbytes` is out of range, not a multiple of an element, or not the size
                of each message.
        """
        nbytes = int_argument("nbytes", nbytes)
        if not 0 <= nbytes <= most:
            message = f"nbytes must be 0 to {most}, the bytes of the loan, not {nbytes}"
        elif self.size and nbytes != self.size:
            message = f"nbytes must be {self.size}, the bytes of each message, not {nbytes}"
        elif self._array is not None and nbytes % self.unit:
            message = (
                f"nbytes must be a multiple of {self.unit}, the bytes of {self.dtype}, not {nbytes}"
            )
        else:
            return nbytes
        raise InvalidArgument(message, errno=errno.EINVAL, op="send")

    def shape_of(self, nbytes: int) -> tuple[int, ...]:
        """Return the shape of the array over a message of `nbytes` bytes."""
        return self.dtype.shape or (nbytes // self.unit,)
