"""How C spells the type of a member: the words before its name, and what follows the name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ipckit._payload.arrays import ArrayOf, FlexibleArray
from ipckit._payload.c_types import (
    BitField,
    CType,
    Enumeration,
    Nested,
    Opaque,
    Raw,
    Scalar,
    Text,
    unwrapped,
)
from ipckit._payload.fields import enum_integer
from ipckit._payload.nesting import innermost

if TYPE_CHECKING:
    from collections.abc import Callable

    # Returns the name that the plan of a struct, or an enum, has in C.
    TypeName: TypeAlias = Callable[[Any], str]

# <sys/types.h> of glibc hides these if the compiler is called with a standard, as -std=c99.
_HIDDEN: Final = frozenset({"blksize_t", "clock_t", "id_t", "key_t", "suseconds_t"})


def scalar_type(scalar: Scalar) -> tuple[str, list[str]]:
    """Return the name of a number's type, and what a comment says about it."""
    if scalar.c_name not in _HIDDEN:
        return scalar.c_name, []
    return f"{'u' * (scalar.code == 'u')}int{8 * scalar.size}_t", [scalar.c_name]


def has_default_integer(kind: CType) -> bool:
    """Return whether a field has the integer type that C gives the enum."""
    if not isinstance(kind, Enumeration) or not len(kind.members.__members__):
        return False
    integer, wanted = enum_integer(kind.members), kind.integer
    return (integer.code, integer.size) == (wanted.code, wanted.size)


def member_type(type_name: TypeName, ctype: CType) -> tuple[str, list[str]]:
    """Return the type that stands before a member's name, and what a comment says about it."""
    kind = innermost(ctype)
    if isinstance(kind, BitField):
        return bit_field_type(type_name, kind)
    if isinstance(kind, Nested):
        return (
            kind.struct.__plan__.name if kind.anonymous else type_name(kind.struct.__plan__)
        ), []
    if isinstance(kind, Enumeration):
        name = type_name(kind.members)
        return (name, []) if has_default_integer(kind) else (scalar_type(kind.integer)[0], [name])
    if isinstance(kind, Scalar):
        return scalar_type(kind)
    if isinstance(kind, Opaque):
        spelling = " ".join(kind.spelling.replace("*/", "* /").replace("/*", "/ *").split())
        return "unsigned char", [spelling] * bool(spelling)
    return ("char" if isinstance(kind, Text) else "unsigned char"), []


def bit_field_type(type_name: TypeName, kind: BitField) -> tuple[str, list[str]]:
    """Return the type of a bit-field: its enum, unless the values need more bits than it has."""
    unit = kind.unit
    if not isinstance(unit, Enumeration):
        return scalar_type(unit)
    name, notes = member_type(type_name, unit)
    values = [int(member) for member in unit.members.__members__.values()]
    width = kind.width - (unit.integer.code == "i")
    fits = width >= 0 and all(-1 << width <= value < 1 << width for value in values)
    if not notes and not fits:
        return scalar_type(unit.integer)[0], [name]
    return name, notes


def declarator(kind: CType, name: str, flexible: str) -> str:
    """Return a member's name with the lengths of its arrays."""
    kind = unwrapped(kind)
    if isinstance(kind, FlexibleArray):
        if kind.is_bytes:
            return name + flexible
        return declarator(kind.item, name + flexible, flexible)
    if isinstance(kind, ArrayOf):
        return declarator(kind.item, f"{name}[{kind.count}]", flexible)
    return f"{name}[{kind.size}]" if isinstance(kind, (Text, Raw, Opaque)) else name


def alignment_in_c(kind: CType) -> int:
    """Return the alignment of a type in C, without the attributes that a member can have."""
    kind = innermost(kind)
    return 1 if isinstance(kind, Opaque) else kind.alignment


def has_byte_order(kind: CType) -> bool:
    """Return whether the byte order matters to a type."""
    kind = innermost(kind)
    return isinstance(kind, (Scalar, Enumeration)) and kind.size > 1
