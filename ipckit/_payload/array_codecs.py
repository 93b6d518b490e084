"""Codecs of numpy arrays: of one dimension, of a fixed shape, and of any shape."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, cast, final

from ipckit._core.lazy_numpy import np
from ipckit._core.public import public
from ipckit._native import Record
from ipckit._payload.codec import TypeCodec, digest
from ipckit._payload.dtypes import (
    check_array,
    check_dtype,
    describe_dtype,
    dtype_text,
    same_dtype,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

_WORD: Final = 8  # bytes of a number in the head of an array of any shape
_MOST_DIMENSIONS: Final = 64  # of a numpy array


@public("ipckit.codec")
@final
class ArrayCodec(TypeCodec["NDArray[Any]"]):
    """Sends one-dimensional numpy arrays of one dtype and any length.

    If the dtype has a shape, such as ``np.dtype((np.uint8, (1080, 1920, 3)))``, it sends arrays of
    that shape only. `AnyShape` sends arrays of any shape, with their shape.

    `encode` also takes a single record (a numpy scalar), and what numpy can read without a copy or
    a conversion: a buffer of numbers such as an `array.array` or a memoryview, a pandas Series (its
    values, without the index), or an Arrow array. It never casts: an array of another dtype raises
    TypeError.

    Attributes:
        dtype: the dtype from which the codec was created.

    Raises:
        TypeError: the dtype holds Python objects, or has no size.

    Example:
        >>> import numpy as np
        >>> from ipckit import codec
        >>> floats = codec.ArrayCodec(np.dtype(float))
        >>> floats.decode(bytes(floats.encode(np.array([1.5, 2.5]))))
        array([1.5, 2.5])
    """

    def __init__(self, payload: np.dtype[Any]) -> None:
        super().__init__(payload)
        self.dtype = payload
        check_dtype(payload)
        self.size = payload.itemsize if payload.shape else None
        self.accepts = np.ndarray
        self.name = f"array of {dtype_text(payload)}"
        self.fingerprint = digest(describe_dtype(payload))

    def encode(self, value: Any) -> Buffer:
        """Return the array's bytes. It copies only an array that is not C-contiguous.

        Raises:
            TypeError: the value is not an array of this dtype and shape, or it is of a subclass,
                such as a masked array.
        """
        value = self.array_of(value)
        shape, dtype = self._payload.shape, self._payload.base
        wrong = value.shape != shape if shape else value.ndim > 1
        if wrong or not same_dtype(value.dtype, dtype):
            wanted = self.name if shape else f"one-dimensional {self.name}"
            given = f"{dtype_text(value.dtype)} of shape {value.shape}"
            message = f"the payload must be {wanted}, not {given}"
            if not shape and value.ndim > 1 and same_dtype(value.dtype, dtype):
                message += (
                    "; codec.AnyShape sends the shape too, a dtype with a shape fixes it, and "
                    "array.ravel() leaves it out"
                )
            raise TypeError(message)
        return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data

    def array_of(self, value: Any) -> NDArray[Any]:
        """Return a value as an array; not a copy of it, if it is a buffer.

        Raises:
            TypeError: it has no numbers, or its class means more than them, such as a mask.
        """
        if not isinstance(value, (np.ndarray, np.generic)):
            if isinstance(value, Record):
                self._refuse(value)
            if getattr(value, "null_count", 0):  # of an Arrow array
                message = "the payload has nulls, which an array can't have; fill them first"
                raise TypeError(message)
            known = hasattr(value, "__array__") or hasattr(value, "__array_interface__")
            try:
                value = np.asarray(value if known else memoryview(value))
            except (TypeError, ValueError):
                self._refuse(value)
        array = cast("NDArray[Any]", value)
        check_array(array)
        return array

    def decode(self, data: bytes) -> NDArray[Any]:
        """Create a writable array that owns a copy of the bytes.

        Raises:
            LayoutMismatch: the number of bytes does not fit the dtype.
        """
        dtype = self._payload
        if self.size not in {None, len(data)}:
            raise self._mismatch(data, f"the payload has {len(data)} bytes, not {self.size}")
        if len(data) % dtype.itemsize:
            why = f"{len(data)} bytes are not a multiple of {dtype.itemsize}"
            raise self._mismatch(data, why)
        found = np.frombuffer(data, dtype.base).copy()
        return found.reshape(dtype.shape) if dtype.shape else found


@public("ipckit.codec")
@final
class AnyShape(TypeCodec["NDArray[Any]"]):
    """Sends numpy arrays of one dtype and any shape, with their shape.

    The bytes of the array follow the number of its dimensions and the length of each, as 64-bit
    integers of this machine. A C program must know that; `ArrayCodec` sends only the numbers.

    Args:
        dtype: the dtype of the arrays.

    Raises:
        TypeError: the dtype holds Python objects, or has no size.

    >>> import numpy as np
    >>> from ipckit import Channel, codec
    >>> with Channel.create(type=codec.AnyShape(np.dtype(float))) as channel:
    ...     channel.send(np.ones((2, 3)))
    ...     channel.receive().shape
    (2, 3)
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        dtype = np.dtype(dtype)
        super().__init__(dtype)
        self._numbers = ArrayCodec(dtype.base)
        self.dtype = dtype.base
        self.size = None
        self.accepts = np.ndarray
        self.name = f"array of {dtype_text(dtype.base)} of any shape"
        self.fingerprint = digest("any shape", describe_dtype(dtype.base))

    def encode(self, value: Any) -> bytes:
        """Return the array's shape and bytes.

        Raises:
            TypeError: the value is not an array of this dtype, or it is of a subclass, such as a
                masked array.
        """
        array = self._numbers.array_of(value)
        head = struct.pack(f"={array.ndim + 1}q", array.ndim, *array.shape)
        return b"".join((head, self._numbers.encode(np.ascontiguousarray(array).reshape(-1))))

    def decode(self, data: bytes) -> NDArray[Any]:
        """Create a writable array that owns a copy of the bytes.

        Raises:
            LayoutMismatch: the bytes are not a shape and as many numbers.
        """
        view = memoryview(data)
        try:
            (count,) = struct.unpack_from("=q", view)
            if not 0 <= count <= _MOST_DIMENSIONS:
                raise ValueError(count)  # noqa: TRY301
            shape = struct.unpack_from(f"={count}q", view, _WORD)
            numbers = np.frombuffer(view[_WORD * (count + 1) :], self.dtype)
            if min(shape, default=0) < 0:
                raise ValueError(shape)  # noqa: TRY301
            return numbers.reshape(shape).copy()
        except (struct.error, ValueError):
            raise self._mismatch(data, f"{len(data)} bytes are not a shape and its items") from None
