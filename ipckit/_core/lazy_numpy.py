"""numpy, imported at its first use, because its import takes longer than that of ipckit.

A script that only sends bytes does not wait for it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ipckit._core.lazy_names import LazyModule

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import TypeIs

    __all__ = ["is_array", "is_dtype", "is_scalar_type", "np"]
else:
    np = LazyModule("numpy")


def _loaded(name: str) -> Any:
    """Return a class of numpy; None if numpy is not loaded, or another thread still imports it."""
    return getattr(sys.modules.get("numpy"), name, None)


def is_array(value: object) -> bool:
    """Whether a value is a numpy array; does not import numpy."""
    cls = _loaded("ndarray")
    return cls is not None and isinstance(value, cls)


def is_dtype(value: object) -> TypeIs[np.dtype[Any]]:
    """Whether a value is a numpy dtype."""
    cls = _loaded("dtype")
    return cls is not None and isinstance(value, cls)


def is_scalar_type(cls: type[Any]) -> bool:
    """Whether a class is one of numpy's scalar types."""
    base = _loaded("generic")
    return base is not None and issubclass(cls, base)
