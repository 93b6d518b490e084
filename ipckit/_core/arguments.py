"""One check for arguments that are whole numbers."""

from __future__ import annotations

from operator import index
from typing import Any


def int_argument(what: str, value: Any, wanted: str = "an int") -> int:
    """A whole number as an int: Python's, numpy's, or of any other class with ``__index__``.

    Args:
        what: the argument, for the message.
        value: what the caller gave.
        wanted: what it takes, for the message.

    Raises:
        TypeError: it is a bool, or no whole number.
    """
    if type(value) is int:
        return value
    if not isinstance(value, bool):
        try:
            return index(value)
        except TypeError:
            pass
    given: object = value
    cls = type(given)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"
    message = f"{what} is {wanted}, not {name}"
    raise TypeError(message)
