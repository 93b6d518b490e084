"""The numpy dtype that the command line names."""

from __future__ import annotations

import errno
import importlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np


def dtype_named(text: str) -> np.dtype[Any]:
    """Return the dtype that a text names, such as ``u1``, ``<f8`` or ``(480,640)u1``.

    Raises:
        InvalidArgument: numpy does not know it, or memory can't hold it.
    """
    import numpy as np  # noqa: PLC0415 - only for arrays

    # numpy knows the names of ml_dtypes, such as bfloat16, once that is imported.
    with suppress(ImportError):
        importlib.import_module("ml_dtypes")
    try:
        found = np.dtype(text)
    except (TypeError, ValueError, SyntaxError):
        message = f"{text!r} is not a numpy dtype such as u1, <f8 or 'i4,f8'"
        raise InvalidArgument(message, errno=errno.EINVAL) from None
    if found.hasobject or not found.itemsize:
        message = f"dtype {text!r} has Python objects or no bytes, which memory can't hold"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return found
