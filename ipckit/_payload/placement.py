"""The rules by which gcc places the members of a struct.

They are those of the System V ABI. A bit-field begins at the next bit, unless it would then lie in
more than one unit of its type. The tests compare them with gcc, for generated structs. A struct
that was read from C has the places that the compiler chose; `explained` finds the rules for them.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from ipckit._payload.c_types import Aligned, At, BitField, CType
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What `packed` can be: no packing, the attribute packed, ``#pragma pack(n)``.
PACKINGS: Final = (0, 1, 2, 4, 8, 16)
_ATTRIBUTE: Final = 1
# On these machines the unnamed bit-field of width 0 raises the alignment of its struct.
_UNNAMED_BITS_ALIGN: Final = os.uname().machine.startswith(("aarch64", "arm"))


class Rules(NamedTuple):
    """How the members of a struct are placed.

    Attributes:
        union: whether all members begin at 0.
        packed: 0; 1 for the attribute packed; 2, 4, 8 or 16 for ``#pragma pack(n)``.
        align: the least alignment of the struct in bytes.
        size: the least size of the struct in bytes.
    """

    union: bool = False
    packed: int = 0
    align: int = 1
    size: int = 0


class Places(NamedTuple):
    """Where the members of a struct lie.

    Attributes:
        bits: the first bit of each member, counted from the start of the struct.
        size: the size of the struct in bytes.
        alignment: the alignment of the struct in bytes.
    """

    bits: tuple[int, ...]
    size: int
    alignment: int


class MemberPlace(NamedTuple):
    """A member's first bit, and the alignment in bytes that it gives the struct."""

    bit: int
    alignment: int


def round_up(value: int, multiple: int) -> int:
    """Return the least multiple that is not less than the value."""
    return -(-value // multiple) * multiple


def bits_of(ctype: CType) -> int:
    """Return the bits that a member takes."""
    inner = ctype.item if isinstance(ctype, At) else ctype
    return inner.width if isinstance(inner, BitField) else 8 * inner.size


def _limited(alignment: int, packed: int) -> int:
    """Return an alignment as packing limits it."""
    return min(alignment, packed) if packed else alignment


def place_member(ctype: CType, cursor: int, packed: int) -> MemberPlace:
    """Return the place of a member that follows the bit `cursor`."""
    if isinstance(ctype, At):
        return _place_at(ctype, packed)
    if isinstance(ctype, BitField):
        return _place_bits(ctype, cursor, packed)
    alignment = _limited(ctype.alignment, packed)
    if packed == _ATTRIBUTE and isinstance(ctype, Aligned):
        alignment = ctype.least
    return MemberPlace(round_up(cursor, 8 * alignment), alignment)


def _place_bits(ctype: BitField, cursor: int, packed: int) -> MemberPlace:
    alignment = _limited(ctype.alignment, packed)
    if not ctype.width:
        # Packing has no effect on the unnamed bit-field of width 0.
        bit = round_up(cursor, 8 * ctype.alignment)
        return MemberPlace(bit, alignment if _UNNAMED_BITS_ALIGN else 1)
    if not packed and _crosses_units(ctype, cursor):
        cursor = round_up(cursor, 8 * ctype.alignment)
    return MemberPlace(cursor, alignment)


def _crosses_units(ctype: BitField, bit: int) -> bool:
    """Return whether a bit-field would lie in more units of alignment than its type has."""
    unit = 8 * ctype.alignment
    return -(-(bit % unit + ctype.width) // unit) > 8 * ctype.size // unit


def _place_at(ctype: At, packed: int) -> MemberPlace:
    """Return the given place. A member that is not aligned there does not align the struct."""
    inner = ctype.item
    if isinstance(inner, BitField):
        aligned = packed > 0 or not _crosses_units(inner, ctype.bit)
    else:
        aligned = ctype.bit % (8 * inner.alignment) == 0
    return MemberPlace(ctype.bit, _limited(inner.alignment, packed) if aligned else 1)


def lay_out(ctypes: Iterable[CType], rules: Rules) -> Places:
    """Place the members of a struct.

    Raises:
        InvalidArgument: a member is placed before the end of the previous one.
    """
    cursor = end = 0
    alignment = rules.align
    bits: list[int] = []
    for ctype in ctypes:
        found = place_member(ctype, cursor, rules.packed)
        if found.bit < cursor:
            message = f"byte {found.bit // 8} is before the end of the previous member"
            raise InvalidArgument(message, errno=errno.EINVAL)
        bits.append(found.bit)
        alignment = max(alignment, found.alignment)
        end = max(end, found.bit + bits_of(ctype))
        cursor = 0 if rules.union else end
    size = max(-(-end // 8), rules.size)
    return Places(tuple(bits), round_up(size, alignment), alignment)


def explained(ctypes: Sequence[CType], wanted: Places, *, union: bool) -> tuple[list[CType], Rules]:
    """Find the types and the rules that place the members where a compiler placed them.

    A member that its own type does not place there becomes `Aligned` or `At`. Of the packings, the
    one that needs the fewest of these is chosen, and the first one of those.
    """
    found: list[tuple[int, list[CType], Rules]] = []
    for packed in PACKINGS:
        rules = Rules(union, packed)
        types = _placed(ctypes, wanted, rules)
        places = lay_out(types, rules)
        if places.alignment < wanted.alignment:
            rules = rules._replace(align=wanted.alignment)
            places = lay_out(types, rules)
        if places.size < wanted.size:
            rules = rules._replace(size=wanted.size)
            places = lay_out(types, rules)
        if places == wanted:
            changed = sum(new is not old for new, old in zip(types, ctypes, strict=True))
            cost = 2 * changed + (rules.align > 1) + 2 * (rules.size > 0)
            found.append((cost, types, rules))
    _, types, rules = min(found, key=lambda each: each[0])
    return types, rules


def _placed(ctypes: Sequence[CType], wanted: Places, rules: Rules) -> list[CType]:
    """Return the types, and `Aligned` or `At` where they need it to be in their place."""
    types: list[CType] = []
    cursor = 0
    for ctype, bit in zip(ctypes, wanted.bits, strict=True):
        types.append(_placed_one(ctype, cursor, bit, rules.packed, wanted.alignment))
        cursor = 0 if rules.union else bit + bits_of(ctype)
    return types


def _placed_one(ctype: CType, cursor: int, bit: int, packed: int, most: int) -> CType:
    if place_member(ctype, cursor, packed).bit == bit:
        return ctype
    alignment = 2
    while alignment <= most and packed <= _ATTRIBUTE and not isinstance(ctype, BitField):
        aligned = Aligned(ctype, alignment)
        if place_member(aligned, cursor, packed).bit == bit:
            return aligned
        alignment *= 2
    return At(ctype, bit)
