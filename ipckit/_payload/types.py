"""The payload types of queues and channels, for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from typing_extensions import TypeVar

    from ipckit._payload.codec import Codec

    T = TypeVar("T", default=bytes)
    V = TypeVar("V", default=bytes)
    ObjectT = TypeVar("ObjectT", default=Any)

    PayloadType: TypeAlias = type[V] | Codec[V]
    TypeMap: TypeAlias = Mapping[int, type[V]]
    AnyPayload: TypeAlias = PayloadType[Any] | np.dtype[Any] | TypeMap[Any]
else:
    # The default of a type variable is for type checkers; it comes to Python itself with 3.13.
    from typing import TypeVar

    T = TypeVar("T")
    V = TypeVar("V")
    ObjectT = TypeVar("ObjectT")

BYTES: Final[Any] = bytes
