"""Describe a dtype and a shape as JSON, and read such descriptions, which are not trusted."""

from __future__ import annotations

import importlib
import math
import re
from typing import Any, Final, cast

from ipckit._core.lazy_numpy import is_scalar_type, np
from ipckit._payload.dtypes import is_own_dtype

PACKAGE: Final = "ml_dtypes"  # the only package whose dtypes have a description
MAX_DIMENSIONS: Final = 32  # of numpy 1
_PLAIN_DTYPE: Final = re.compile(r"[<>|=](?:[?bBiufcSUV]\d{1,10}|[mM]8(?:\[\d*[A-Za-z]{1,7}\])?)")
_PACKAGE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PACKAGE_ITEM_MAX: Final = 64
_DTYPE_KINDS: Final = frozenset("biufcSUVmM")
_MAX_NESTING: Final = 32
_MAX_SIZE: Final = 2**62
_MAX_DTYPE: Final = 2**31


class BadDescriptionError(ValueError):
    """A description is invalid; the message is the words for what it contains instead."""


def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """Return a dtype as JSON, with the offset of each field.

    Raises:
        TypeError: the dtype contains Python objects, or another process could not read its bytes.
    """
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": dtype_to_json(base), "shape": list(shape)}
    if dtype.names is not None:
        return _fields_to_json(dtype, dtype.names)
    kind: Any = dtype.type
    if kind.__module__ == PACKAGE and _package_dtype(kind.__name__) == dtype:
        return {"package": PACKAGE, "name": kind.__name__, "itemsize": dtype.itemsize}
    if dtype.hasobject or dtype.kind not in _DTYPE_KINDS or not is_own_dtype(dtype):
        message = f"{dtype!r} cannot be sent: another process could not read its bytes"
        raise TypeError(message)
    return dtype.str


def _fields_to_json(dtype: np.dtype[Any], names: tuple[str, ...]) -> Any:
    known: Any = dtype.fields
    fields = [known[name] for name in names]
    facts = {
        "names": list(names),
        "formats": [dtype_to_json(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
    }
    titles: list[Any] = [field[2] if len(field) > 2 else None for field in fields]  # noqa: PLR2004
    if any(title is not None for title in titles):
        if not all(title is None or type(title) is str for title in titles):
            message = f"another process could not read {dtype!r}: a title is not a str"
            raise TypeError(message)
        facts["titles"] = titles
    return facts


def _package_dtype(name: str) -> np.dtype[Any] | None:
    """Return a dtype of ml_dtypes; None if it is not installed, or has no type of that name."""
    try:
        package = importlib.import_module(PACKAGE)
    except ImportError:
        return None
    kind = getattr(package, name, None)
    if not (isinstance(kind, type) and is_scalar_type(kind)):
        return None
    made: np.dtype[Any] = np.dtype(kind)
    return made


def dtype_from_json(value: Any, depth: int = 0, missing: list[str] | None = None) -> np.dtype[Any]:
    """Return the dtype that `dtype_to_json` described.

    Args:
        value: the description.
        depth: how many dtypes contain this one.
        missing: takes the names of types that this process does not have. Items of such a type are
            raw bytes in the result.

    Raises:
        BadDescriptionError: the description is invalid.
    """
    if depth > _MAX_NESTING:
        raise BadDescriptionError("a dtype that is nested too deep")
    try:
        made = _dtype_from(value, depth + 1, [] if missing is None else missing)
    except BadDescriptionError:
        raise
    except Exception as exc:
        # numpy refuses descriptions with exceptions of many classes.
        raise BadDescriptionError(f"a dtype that numpy refuses ({type(exc).__name__})") from None
    if made.hasobject:
        raise BadDescriptionError("a dtype of Python objects")
    return made


def _dtype_from(value: Any, depth: int, missing: list[str]) -> np.dtype[Any]:
    numpy_dtype: Any = np.dtype
    made: np.dtype[Any]
    if isinstance(value, str):
        if not _PLAIN_DTYPE.fullmatch(value):
            raise BadDescriptionError(f"an unknown dtype: {value[:40]!r}")
        made = numpy_dtype(value)
        return made
    facts: dict[str, Any] = value  # the next line fails for anything else
    if "package" in facts:
        return _package_dtype_from(facts, missing)
    if "base" in facts:
        base = dtype_from_json(facts["base"], depth, missing)
        shape = shape_from_json(facts["shape"])
        if math.prod(shape) * max(1, base.itemsize) >= _MAX_DTYPE:
            raise BadDescriptionError("a dtype that is too large")
        made = numpy_dtype((base, shape))
        return made
    names, offsets, itemsize = facts["names"], facts["offsets"], facts["itemsize"]
    if not all(isinstance(name, str) for name in names):
        raise BadDescriptionError("a field without a name")
    if not all(type(each) is int for each in (*offsets, itemsize)):
        raise BadDescriptionError("a field without an offset")
    formats = [dtype_from_json(each, depth, missing) for each in facts["formats"]]
    spec = {"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize}
    if "titles" in facts:
        if not all(title is None or isinstance(title, str) for title in facts["titles"]):
            raise BadDescriptionError("a title that is not text")
        spec["titles"] = facts["titles"]
    made = numpy_dtype(spec)
    return made


def _package_dtype_from(facts: dict[str, Any], missing: list[str]) -> np.dtype[Any]:
    package, name, itemsize = facts["package"], facts["name"], facts["itemsize"]
    if package != PACKAGE or not _PACKAGE_NAME.fullmatch(name):
        raise BadDescriptionError(f"an unknown dtype: {str(package)[:40]!r}, {str(name)[:40]!r}")
    if type(itemsize) is not int or not 0 < itemsize <= _PACKAGE_ITEM_MAX:
        raise BadDescriptionError("a dtype of an invalid size")
    made = _package_dtype(name)
    if made is None:
        missing.append(f"{package}.{name}")
        return np.dtype((np.void, itemsize))
    if made.itemsize != itemsize:
        raise BadDescriptionError(f"{package}.{name} of {itemsize} bytes")
    return made


def shape_from_json(value: Any) -> tuple[int, ...]:
    """Return the shape that a list of JSON describes.

    Raises:
        BadDescriptionError: the shape is invalid.
    """
    if type(value) is not list:
        raise BadDescriptionError("an invalid shape: expected a list of non-negative integers")
    shape: tuple[Any, ...] = tuple(cast("Any", value))
    if len(shape) > MAX_DIMENSIONS or not all(
        type(each) is int and 0 <= each < _MAX_SIZE for each in shape
    ):
        raise BadDescriptionError("an invalid shape: expected a list of non-negative integers")
    return shape
