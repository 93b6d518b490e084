"""numpy, imported when it is first used: it takes longer to import than all of ipckit.

A script that only sends bytes should not wait for it.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    __all__ = ["is_array", "is_dtype", "is_scalar_type", "np"]


class _Numpy:
    """A substitute for the module, which imports numpy at the first use of an attribute."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module("numpy"), name)
        setattr(self, name, value)  # the next use finds the attribute here
        return value


if not TYPE_CHECKING:
    np = _Numpy()


def is_array(value: object) -> bool:
    """Whether a value is a numpy array; false as long as numpy is not imported."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_dtype(value: object) -> bool:
    """Whether a value is a numpy dtype."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.dtype)


def is_scalar_type(cls: type[Any]) -> bool:
    """Whether a class is one of numpy's scalar types."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(cls, numpy.generic)
