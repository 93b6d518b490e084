"""The header of an array in shared memory: its dtype, shape and order; see docs/layout.md.

A process that maps the memory can have written anything, so a header is checked before it is used.
"""

from __future__ import annotations

import errno
import json
import math
import struct
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

import ipckit._native as native
from ipckit._payload.dtype_json import (
    MAX_DIMENSIONS,
    PACKAGE,
    BadDescriptionError,
    dtype_from_json,
    dtype_to_json,
    shape_from_json,
)
from ipckit.errors import Corrupt, InvalidArgument, LayoutMismatch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ipckit._shm.memory import Memory

Order = Literal["C", "F"]

_MAGIC: Final = int.from_bytes(b"ipckitND", "little")
_VERSION: Final = 1
# Magic number, version, bytes of text, data offset, data size, waiting pickles.
_PREFIX: Final = struct.Struct("=QIIQQq")
_WAITING: Final = 32
_ALIGNMENT: Final = 64  # of the data: a cache line, and the widest vectors
_MAX_TEXT: Final = 1 << 20
_SIZE_END: Final = 2**62


class ArrayHeader(NamedTuple):
    """The description of an array in shared memory.

    Attributes:
        dtype: the type of its items, which is no subarray.
        shape: the number of items along each dimension.
        order: "C" if the last index varies fastest, "F" if the first one does.
        text: the description as JSON.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Order
    text: bytes

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def offset(self) -> int:
        """Where the data begin."""
        end = _PREFIX.size + len(self.text)
        return (end + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT

    @property
    def total(self) -> int:
        """Bytes of the header and the data."""
        return self.offset + self.nbytes

    def describe(self) -> str:
        """Return the shape and the type for messages."""
        return f"{self.shape} {self.dtype}"


def header_for(dtype: np.dtype[Any], shape: tuple[int, ...], order: Order) -> ArrayHeader:
    """Return the header of a new array.

    Raises:
        TypeError: another process could not read the dtype.
        InvalidArgument: the shape or the order is out of range, or the dtype is too complicated.
    """
    if order not in ("C", "F"):
        raise _invalid(f'order must be "C" or "F", not {order!r}')
    refuse_objects(dtype)
    if dtype.subdtype is not None:
        dtype, inner = dtype.subdtype
        shape = (*shape, *inner)
    if not dtype.itemsize:
        raise TypeError(f"{dtype!r} has no size; for text, give one, such as 'U20'")
    if len(shape) > MAX_DIMENSIONS:
        raise _invalid(f"an array can have up to {MAX_DIMENSIONS} dimensions, not {len(shape)}")
    facts = {"dtype": dtype_to_json(dtype), "shape": list(shape), "order": order}
    header = ArrayHeader(dtype, shape, order, json.dumps(facts, separators=(",", ":")).encode())
    if any(each < 0 for each in shape) or header.nbytes >= _SIZE_END:
        raise _invalid(f"shape {shape} of {dtype}: an array has 0 to 2**62 - 1 bytes")
    try:
        if len(header.text) > _MAX_TEXT:
            raise BadDescriptionError(f"{len(header.text):,} bytes of description")  # noqa: TRY301
        dtype_from_json(facts["dtype"])  # as `read_header` will
    except BadDescriptionError as exc:
        raise _invalid(f"the dtype is too complicated: {exc}") from None
    return header


def refuse_objects(dtype: np.dtype[Any]) -> None:
    """Refuse a dtype with references to Python objects.

    Raises:
        TypeError: it has some.
    """
    if dtype.hasobject:
        message = (
            f"{dtype!r} contains references to Python objects, which mean nothing in another "
            'process; convert the array, for example with a.astype(float) or a.astype("U")'
        )
        raise TypeError(message)


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(message, errno=errno.EINVAL)


def array_over(memory: Memory, header: ArrayHeader) -> npt.NDArray[Any]:
    """Return the array in the memory, without a copy."""
    dtype, shape, order, _ = header
    if order == "C":
        return memory.array(dtype, shape, offset=header.offset)
    return memory.array(dtype, shape[::-1], offset=header.offset).T


def write_header(memory: Memory, header: ArrayHeader) -> None:
    """Write the header of an array; its data must be complete.

    The magic number is stored last, so a process that opens the memory sees all or nothing.
    """
    prefix = _PREFIX.pack(0, _VERSION, len(header.text), header.offset, header.nbytes, 0)
    memory.write(prefix + header.text)
    native.Counter(memory.buf, 0).value = _MAGIC


def waiting_pickles(memory: Memory) -> native.Counter:
    """Return the number of pickles of anonymous memory that no process has opened yet."""
    return native.Counter(memory.buf, _WAITING)


def has_header(memory: Memory) -> bool:
    """Return whether the memory has a magic number. It has none while its creator fills it."""
    return memory.size < _PREFIX.size or native.Counter(memory.buf, 0).value != 0


def read_header(memory: Memory, target: str) -> ArrayHeader:
    """Read and check the header of an array.

    Args:
        memory: the memory.
        target: the object, for messages.

    Raises:
        Corrupt: the memory does not contain an array, or the header contradicts it.
        LayoutMismatch: the array's type is of ml_dtypes, which this process does not have.
    """
    missing: list[str] = []
    try:
        header = _read(memory, missing)
    except BadDescriptionError as exc:
        message = f"expected the header of a shared array, but the memory contains {exc}"
        raise Corrupt(message, errno=errno.EUCLEAN, op="open", target=target) from None
    if missing:
        message = f"the array is of {missing[0]}, which this process does not have"
        hint = f"install {PACKAGE}, in the creator's version or a later one"
        raise LayoutMismatch(message, errno=errno.EBADMSG, op="open", target=target, hint=hint)
    return header


def _read(memory: Memory, missing: list[str]) -> ArrayHeader:
    size = memory.size
    if size < _PREFIX.size:
        raise BadDescriptionError(f"only {size} bytes")
    if native.Counter(memory.buf, 0).value != _MAGIC:
        raise BadDescriptionError("something else")
    _, version, length, offset, nbytes, _ = _PREFIX.unpack(memory.read(_PREFIX.size))
    if version != _VERSION:
        raise BadDescriptionError(f"version {version} of the header, not {_VERSION}")
    if length > min(_MAX_TEXT, size - _PREFIX.size):
        raise BadDescriptionError(f"a description of {length:,} bytes")
    text = memory.read(length, _PREFIX.size)
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise BadDescriptionError("a description that is not a JSON object")
    known = cast("dict[str, Any]", facts)
    dtype = dtype_from_json(known.get("dtype"), missing=missing)
    shape, order = shape_from_json(known.get("shape")), known.get("order")
    if order not in ("C", "F") or dtype.subdtype is not None or not dtype.itemsize:
        raise BadDescriptionError("an array without a valid order or type")
    header = ArrayHeader(dtype, shape, order, text)
    if header.offset != offset or header.nbytes != nbytes or header.total > size:
        what = f"{nbytes:,} bytes from {offset:,} on, in memory of {size:,} bytes"
        raise BadDescriptionError(f"{what}, for an array of shape {shape} and type {dtype}")
    return header
