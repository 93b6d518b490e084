"""Check whether another process can read a numpy array, and compare and describe dtypes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ipckit._core.lazy_numpy import np
from ipckit._native import check_array

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = [
    "check_array",
    "check_arrays",
    "check_dtype",
    "describe_dtype",
    "is_own_dtype",
    "same_dtype",
]


def check_arrays(value: object) -> None:
    """Refuse an array that `numpy.asarray` would strip of its mask.

    Raises:
        TypeError: as `check_array`; for an array in a list or tuple too.
    """
    if _is_sequence(value):
        if "numpy" in sys.modules:
            for item in value:
                check_arrays(item)
        return
    check_array(value)


def _is_sequence(value: object) -> TypeIs[list[Any] | tuple[Any, ...]]:
    return isinstance(value, (list, tuple))


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


def same_dtype(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Return whether two dtypes are equal, and of the same class if they have no fields.

    numpy compares the 3 bytes of a class ``Colour(numpy.void)`` as equal to any 3 bytes.
    """
    if one != other:
        return False
    return one.kind != "V" or one.names is not None or one.type is other.type


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
