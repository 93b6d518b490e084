"""Check arguments that must be integers."""

from __future__ import annotations

from operator import index
from typing import Any


def int_argument(what: str, value: Any, wanted: str = "an int") -> int:
    """Check an integer: an int, a numpy integer, or another class with ``__index__``.

    Args:
        what: the argument's name, for the message.
        value: the argument.
        wanted: what the argument must be, for the message.

    Returns:
        The value as an int.

    Raises:
        TypeError: it is a bool, or not an integer.
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
    message = f"{what} must be {wanted}, not {name}"
    raise TypeError(message)
