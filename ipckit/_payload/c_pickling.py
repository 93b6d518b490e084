"""Field types as plain tuples, so that pickles of classes that were read from C name only pages."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from ipckit._payload.arrays import ArrayOf, FlexibleArray
from ipckit._payload.c_types import (
    Aligned,
    At,
    BitField,
    CType,
    Enumeration,
    Nested,
    Opaque,
    Raw,
    Scalar,
    Text,
)

_KINDS: Final[dict[str, Any]] = {
    kind.__name__: kind
    for kind in (
        *(Aligned, ArrayOf, At, BitField, Enumeration, FlexibleArray),
        *(Nested, Opaque, Raw, Scalar, Text),
    )
}


def plain(ctype: CType) -> tuple[Any, ...]:
    """Return the name of the type's class, and the values of its attributes."""
    given: Any = ctype
    values = (getattr(ctype, each.name) for each in dataclasses.fields(given))
    return (
        type(ctype).__name__,
        *(plain(value) if isinstance(value, CType) else value for value in values),
    )


def restored(parts: tuple[Any, ...]) -> CType:
    """Return the type that `plain` was called with."""
    values: list[Any] = [
        restored(value) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownArgumentType]
        for value in parts[1:]
    ]
    made: CType = _KINDS[parts[0]](*values)
    return made
