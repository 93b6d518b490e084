"""Check whether another process can read a numpy array, and compare and describe dtypes."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from ipckit._core.lazy_numpy import is_array, np
from ipckit._native import check_array

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Buffer, TypeIs

__all__ = [
    "byte_view",
    "check_array",
    "check_arrays",
    "check_dtype",
    "copy_array",
    "describe_dtype",
    "dtype_text",
    "is_own_dtype",
    "same_dtype",
]


def byte_view(data: Buffer) -> memoryview:
    """Return a memoryview of a bytes-like object; of single bytes if it is C-contiguous.

    numpy creates no memoryview of an array of datetime64 or bfloat16, whose items have no format in
    the buffer protocol. `memoryview.cast` refuses structs and foreign byte orders.

    Raises:
        TypeError: the object is not bytes-like, or `check_array` refuses it.
    """
    check_array(data)
    try:
        view = memoryview(data)
    except ValueError:
        if not is_array(data):
            raise
        return _bytes_of(cast("npt.NDArray[Any]", data))
    if "O" in view.format:  # perhaps Python objects
        check_array(view)
    if view.c_contiguous and (view.format != "B" or view.ndim != 1):
        from pickle import PickleBuffer  # noqa: PLC0415 - most data are bytes already

        return PickleBuffer(data).raw()
    return view


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    if array.flags.c_contiguous:
        return np.asarray(array).reshape(-1).view(np.uint8).data
    return array.view(np.dtype((np.void, array.itemsize))).data


def check_arrays(value: object) -> None:
    """Refuse an array that `numpy.asarray` would strip of its mask or its unit.

    Raises:
        TypeError: as `check_array`; for an array in a list, tuple or deque too.
    """
    if _is_sequence(value):
        if "numpy" in sys.modules:
            for item in value:
                check_arrays(item)
        return
    check_array(value)


def _is_sequence(value: object) -> TypeIs[list[Any] | tuple[Any, ...] | deque[Any]]:
    return isinstance(value, (list, tuple, deque))


def is_own_dtype(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype without fields belongs to numpy, so that its `str` describes it fully.

    The dtypes of other packages, such as ml_dtypes' bfloat16 and float8 types, have the `str` of
    raw bytes: ``<V2`` or ``<V1``.
    """
    kind: Any = dtype.type
    return kind is np.record or getattr(np, kind.__name__, None) is kind


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Refuse a dtype whose bytes are meaningless in another process.

    Raises:
        TypeError: it holds Python objects or pointers, or has no size.
    """
    if dtype.hasobject or not dtype.itemsize:
        message = f"{dtype!r} has no bytes that another process could read"
        raise TypeError(message)


def copy_array(target: npt.NDArray[Any], source: npt.NDArray[Any]) -> None:
    """Copy an array to one of the same dtype and shape, which is contiguous.

    If both have the same order, all bytes are copied: those between fields too, and overlapping
    fields do no harm.
    """
    if target.flags.c_contiguous and source.flags.c_contiguous:
        _flat(target)[:] = _flat(source)
    elif target.flags.f_contiguous and source.flags.f_contiguous:
        _flat(target.T)[:] = _flat(source.T)
    else:
        np.copyto(target, source, casting="no")


def _flat(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


def same_dtype(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Return whether two dtypes are equal, and also describe the same types.

    numpy compares the 3 bytes of a class ``Colour(numpy.void)`` as equal to any 3 bytes.
    """
    if one is other:
        return True
    if one != other:
        return False
    if one.kind != "V":
        return True
    if one.names is not None:
        return all(same_dtype(one[name], other[name]) for name in one.names)
    if one.subdtype is not None:
        return same_dtype(one.base, other.base)
    # A class that was defined again is the same type.
    return one.type is other.type or describe_dtype(one) == describe_dtype(other)


def dtype_text(dtype: np.dtype[Any]) -> str:
    """Return the name of a dtype for messages; that of its class if numpy would say ``|V3``."""
    if dtype.kind == "V" and dtype.names is None and dtype.subdtype is None:
        kind: Any = dtype.type
        if kind is not np.void and "V" in str(dtype):
            return f"{kind.__module__}.{kind.__qualname__} of {dtype.itemsize} bytes"
    return str(dtype)


def describe_dtype(dtype: np.dtype[Any]) -> object:
    """Describe a dtype; equal for two dtypes whose bytes have the same meaning.

    The `repr` of the result is part of fingerprints. Metadata is ignored, because numpy ignores it
    when it compares dtypes.
    """
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return (shape, describe_dtype(base))
    if dtype.names is not None:
        return _describe_fields(dtype, dtype.names)
    if is_own_dtype(dtype):
        return dtype.str
    kind: Any = dtype.type
    return (f"{kind.__module__}.{kind.__qualname__}", dtype.str, repr(dtype))


def _describe_fields(dtype: np.dtype[Any], names: tuple[str, ...]) -> object:
    known: Any = dtype.fields
    fields: list[tuple[object, ...]] = []
    for name in names:
        kind, offset, *title = known[name]
        fields.append((name, offset, describe_dtype(kind), *title))
    by_offset = sorted(fields, key=_offset)
    # A record converts to a tuple, so an order of fields that is not that of the bytes matters.
    order = () if by_offset == fields else (names,)
    return (dtype.itemsize, by_offset, *order)


def _offset(field: tuple[Any, ...]) -> int:
    offset: int = field[1]
    return offset
