"""The types inside other types: the items of arrays, and the enums of members and bit-fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipckit._payload.arrays import ArrayOf, FlexibleArray
from ipckit._payload.c_types import BitField, CType, Enumeration, Wrapper

if TYPE_CHECKING:
    import enum
    from collections.abc import Iterable, Iterator


def innermost(ctype: CType) -> CType:
    """Return the type of the items of an array, or the type itself without `At` and `Aligned`."""
    while isinstance(ctype, (Wrapper, ArrayOf, FlexibleArray)):
        ctype = ctype.item
    return ctype


def enums_of(ctypes: Iterable[CType]) -> Iterator[type[enum.IntEnum | enum.IntFlag]]:
    """Yield the enum of each type that is one, or that is a bit-field of one."""
    for ctype in ctypes:
        unit = ctype.unit if isinstance(ctype, BitField) else ctype
        if isinstance(unit, Enumeration):
            yield unit.members
