"""Convert numpy arrays from and to JSON, and show them on a line."""

from __future__ import annotations

import errno
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from ipckit._cli.output import json_of
from ipckit._core.lazy_numpy import np
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy.typing as npt

_SHOWN: Final = 100  # items of an array that is shown in full on a terminal
_EDGE: Final = 3  # items at each end of a longer one, as numpy shows it
_DOUBLE: Final = 8  # bytes
_REPR: Final = 40


# -- out -------------------------------------------------------------------------------------------


def plain_array(array: npt.NDArray[Any]) -> Any:
    """Convert an array for JSON: to lists, from which `array_from` makes the same array.

    A record becomes an object of its fields, and a complex number a list of two numbers. Bytes
    become hexadecimal digits, a date its text, and a span of time a number of its unit.
    """
    dtype = array.dtype
    if dtype.names is not None:
        return _nested(_plain_records(array, dtype.names), array.shape)
    if dtype.kind == "c":
        numbers: Any = array
        return plain_array(np.stack([numbers.real, numbers.imag], axis=-1))
    if dtype.kind in "SV":
        return _nested([bytes(each).hex() for each in array.reshape(-1)], array.shape)
    if dtype.kind == "f" and dtype.itemsize != _DOUBLE:
        # The shortest text of the number in its own type: 0.1, not 0.10000000149011612. JSON has
        # no number for a long double, so that stays a text.
        texts = array.reshape(-1).astype("U").tolist()
        small = dtype.itemsize < _DOUBLE
        return _nested([float(each) for each in texts] if small else texts, array.shape)
    return array.astype({"m": "i8", "M": "U"}.get(dtype.kind, dtype)).tolist()


def _plain_records(array: npt.NDArray[Any], names: tuple[str, ...]) -> list[dict[str, Any]]:
    columns = {
        name: plain_array(array[name].reshape(array.size, *array.dtype[name].shape))
        for name in names
    }
    return [{name: columns[name][at] for name in names} for at in range(array.size)]


def _nested(items: list[Any], shape: tuple[int, ...]) -> Any:
    """Return a flat list as lists in lists; without dimensions, its only item."""
    if not shape:
        return items[0]
    if len(shape) == 1:
        return items
    step = len(items) // max(shape[0], 1)
    return [_nested(items[at * step : (at + 1) * step], shape[1:]) for at in range(shape[0])]


def array_text(array: npt.NDArray[Any], *, short: bool) -> str:
    """Return an array as JSON on one line; if `short`, only the ends of a long one, as numpy."""
    if not short or array.size <= _SHOWN:
        return json_of(plain_array(array))
    return f"{array.dtype} of shape {array.shape}: {_ends(array)}"


def _ends(array: npt.NDArray[Any]) -> str:
    if not array.ndim:
        return json_of(plain_array(array))
    count = len(array)
    first = range(count if count <= 2 * _EDGE else _EDGE)
    last = range(max(len(first), count - _EDGE), count)
    parts = [_ends(array[at, ...]) for at in first]
    if last:
        parts += ["...", *(_ends(array[at, ...]) for at in last)]
    return f"[{', '.join(parts)}]"


# -- in --------------------------------------------------------------------------------------------


def array_from(value: object, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Create an array of the lists that `plain_array` returns. A number is never wrapped.

    Args:
        value: the lists. A record may also be a list of its fields in order.
        dtype: the dtype. If it has a shape, that of the array; otherwise the array has one
            dimension.

    Raises:
        InvalidArgument: the lists do not fit the dtype.
    """
    shape = dtype.shape or (None,)
    items: list[Any] = []
    _collect(value, shape, dtype.base, items)
    try:
        return np.array(items, dtype.base).reshape(dtype.shape or -1)
    except (TypeError, ValueError, OverflowError) as exc:
        message = f"the values do not fit {dtype.base}: {exc}"
        raise _invalid(message) from None


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(message, errno=errno.EINVAL)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _REPR else f"{text[: _REPR - 3]}..."


def _collect(
    value: object, shape: tuple[int | None, ...], dtype: np.dtype[Any], items: list[Any]
) -> None:
    """Append the items of nested lists, which must have the shape; None is any length."""
    if not shape:
        items.append(_item(value, dtype))
        return
    wanted = shape[0]
    if not isinstance(value, list):
        what = "" if wanted is None else f" of {wanted}"
        message = f"expected a list{what} of {_name(dtype, shape[1:])}, not {_shown(value)}"
        raise _invalid(message)
    given = cast("list[object]", value)
    if wanted is not None and len(given) != wanted:
        message = f"expected {wanted} of {_name(dtype, shape[1:])}, not {len(given)}"
        raise _invalid(message)
    for each in given:
        _collect(each, shape[1:], dtype, items)


def _name(dtype: np.dtype[Any], shape: tuple[int | None, ...]) -> str:
    return f"{dtype} of shape {shape}" if shape else str(dtype)


def _item(value: object, dtype: np.dtype[Any]) -> Any:  # noqa: PLR0911 - one a kind
    """Return what numpy takes for one item of a dtype."""
    if dtype.subdtype is not None:
        inner: list[Any] = []
        _collect(value, dtype.shape, dtype.base, inner)
        return _nested(inner, dtype.shape)
    if dtype.names is not None:
        return _record(value, dtype, dtype.names)
    kind: Any = type(value)
    if dtype.kind == "b" and kind is bool:
        return value
    if dtype.kind in "iu" and kind is int:
        number = cast("int", value)
        limits = np.iinfo(dtype)
        if limits.min <= number <= limits.max:
            return number
        message = f"{number} is out of range for {dtype}: {limits.min} to {limits.max}"
        raise _invalid(message)
    if dtype.kind in "fc":
        return _number(value, dtype)
    if (dtype.kind == "m" and kind is int) or (dtype.kind in "MU" and kind is str):
        text: Any = value
        if dtype.kind != "U" or len(text) * np.dtype("U1").itemsize <= dtype.itemsize:
            return text
    if dtype.kind in "SV" and kind is str:
        return _bytes(cast("str", value), dtype)
    message = f"{_shown(value)} is not a value of {dtype}"
    raise _invalid(message)


def _record(value: object, dtype: np.dtype[Any], names: tuple[str, ...]) -> tuple[Any, ...]:
    shown = _shown(value)
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        given = [fields.get(name) for name in names]
        wrong = sorted(fields.keys() ^ set(names))
        if wrong:
            what = "has no" if wrong[0] in fields else "needs a"
            message = f"a record of {', '.join(names)} {what} field {wrong[0]!r}"
            raise _invalid(message)
    elif isinstance(value, list) and len(cast("list[object]", value)) == len(names):
        given = cast("list[object]", value)
    else:
        message = f"expected an object of {', '.join(names)}, not {shown}"
        raise _invalid(message)
    return tuple(_item(each, dtype[name]) for name, each in zip(names, given, strict=True))


def _number(value: object, dtype: np.dtype[Any]) -> Any:
    """Return a floating-point or complex number of a dtype."""
    given: Any = value
    found: Any = np.zeros((), dtype)
    kind: Any = type(value)
    if dtype.kind == "c" and kind is list and len(given) == 2:  # noqa: PLR2004 - the parts
        found.real, found.imag = (_number(each, found.real.dtype) for each in given)
        return found[()]
    if kind in {int, float, str}:  # a long double is a text
        with suppress(ValueError, OverflowError), np.errstate(over="ignore"):
            found[()] = dtype.type(given)
            if np.isfinite(found) or not math.isfinite(float(given)):
                return found[()]
    message = f"{_shown(given)} is not a value of {dtype}, or is out of its range"
    raise _invalid(message)


def _bytes(value: str, dtype: np.dtype[Any]) -> bytes:
    try:
        data = bytes.fromhex(value)
    except ValueError:
        message = f"bytes are written as hexadecimal digits, not {_shown(value)}"
        raise _invalid(message) from None
    if len(data) > dtype.itemsize or (dtype.kind == "V" and len(data) != dtype.itemsize):
        message = f"expected {dtype.itemsize} bytes for {dtype}, not {len(data)}"
        raise _invalid(message)
    return data
