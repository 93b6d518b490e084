"""Declare a struct in C: its text, and the names that its types and fields have there."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

import ipckit._native as native
from ipckit._core.cached import cached_property
from ipckit._payload.c_names import Scope
from ipckit._payload.c_spelling import (
    alignment_in_c,
    bit_field_type,
    declarator,
    has_byte_order,
    has_default_integer,
    member_type,
    scalar_type,
)
from ipckit._payload.c_types import (
    At,
    BitField,
    CType,
    Enumeration,
    Nested,
    Opaque,
    Raw,
    Scalar,
    unwrapped,
)
from ipckit._payload.nesting import enums_of, innermost
from ipckit._payload.placement import Places, Rules, bits_of, lay_out, place_member, round_up
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    import enum
    from collections.abc import Iterator, Sequence

    from ipckit._payload.plan import Plan

_HEADERS: Final = {
    "bool": "stdbool.h",
    "size_t": "stddef.h",
    "ptrdiff_t": "stddef.h",
    "socklen_t": "sys/socket.h",
    **dict.fromkeys(set(native.TYPEDEFS) - {"ptrdiff_t", "socklen_t"}, "sys/types.h"),
    **dict.fromkeys(("intptr_t", "uintptr_t"), "stdint.h"),
    "ssize_t": "sys/types.h",
}
_INDENT: Final = "    "
_LONGEST_LINE: Final = 99
_BYTE: Final = 8
_UCHAR: Final = Scalar("u", 1, 1, "unsigned char")
_SWAPPED: Final = "little" if sys.byteorder == "big" else "big"


class Declaration:
    """The C text of a struct with the structs nested in it.

    Args:
        plan: the struct.

    Raises:
        InvalidArgument: a name is not valid in C, two types have the same name, or C can't say what
            the struct is.
    """

    def __init__(self, plan: Plan) -> None:
        self.plans = tuple(_named(plan))
        self.enums = tuple(dict.fromkeys(enums_of(_all_types(plan, nested=True))))
        self.headers = tuple(sorted(set(_headers(plan)) - {""}))
        self._types = self._name_types()
        self._members = {id(each): _MemberNames(self, each) for each in self.plans}

    def _name_types(self) -> dict[int, str]:
        """Name the types, and refuse two types of the same name."""
        types = {id(plan): plan.name for plan in self.plans}
        types |= {id(each): each.__name__ for each in self.enums}
        names = list(types.values())
        for name in names:
            if names.count(name) > 1:
                kinds = "structs" if not self.enums else "types"
                message = f"two {kinds} are named {name!r}, which C does not allow"
                raise InvalidArgument(message, errno=errno.EINVAL)
        wanted = {*names, *(key for each in self.enums for key in each.__members__)}
        scope = Scope(wanted, self.headers, members=False)
        found = {key: scope.add(name) for key, name in types.items()}
        self._enumerators = {
            id(each): {key: scope.add(key) for key in each.__members__} for each in self.enums
        }
        return found

    def type_name(self, kind: Plan | type[enum.IntEnum | enum.IntFlag]) -> str:
        """Return the name that a struct or an enum has in C."""
        return self._types[id(kind)]

    def member_name(self, plan: Plan, name: str) -> str:
        """Return the name that a field of a struct has in C."""
        return self._members[id(plan)].of[name]

    @cached_property
    def types(self) -> str:
        """The declarations of all types, without the headers."""
        enums = [self._enum(each) for each in self.enums if len(each.__members__)]
        return "\n".join([*enums, *(self._struct(plan) for plan in self.plans)])

    @property
    def text(self) -> str:
        """The headers, and the declarations of all types."""
        includes = "".join(f"#include <{header}>\n" for header in self.headers)
        return f"{includes}\n{self.types}" if includes else self.types

    @cached_property
    def misaligns(self) -> bool:
        """Whether a packed struct may have a member whose type asks for an alignment."""
        return "pack" in self.types and "aligned(" in self.types

    def _enum(self, members: type[enum.IntEnum | enum.IntFlag]) -> str:
        name = self.type_name(members)
        names = self._enumerators[id(members)]
        values = {key: _literal(int(member)) for key, member in members.__members__.items()}
        renamed = _renamed(name, members.__name__)
        head, tail = f"typedef enum {name} {{", f"}} {name};{_comment([renamed])}"
        line = f"{head} {', '.join(f'{names[key]} = {values[key]}' for key in values)} {tail}"
        if len(line) <= _LONGEST_LINE and all(key == names[key] for key in values):
            return line + "\n"
        rows = [
            f"{_INDENT}{names[key]} = {values[key]},{_comment([_renamed(names[key], key)])}"
            for key in values
        ]
        return "\n".join([head, *rows, tail]) + "\n"

    def _struct(self, plan: Plan) -> str:
        name = self.type_name(plan)
        rules = plan.rules._replace(align=1, size=0)
        body = _Body(self, self._members[id(plan)], rules, swap=plan.swap, flexible=True)
        body.fill(plan)
        lines = [
            f"typedef {body.head} {name} {{",
            *body.lines,
            f"}} {name};{_comment([_renamed(name, plan.name)])}",
        ]
        return "\n".join(_in_packing(lines, plan.rules.packed, 0)) + "\n"


class _MemberNames:
    """The names of the members of one struct; those of its anonymous members are among them."""

    def __init__(self, declaration: Declaration, plan: Plan) -> None:
        # C++ refuses a member with the name of a type that its class has used before.
        types = {
            member_type(declaration.type_name, ctype)[0] for ctype in _all_types(plan, nested=False)
        }
        wanted = [entry.name for entry in plan.entries]
        self.scope = Scope(wanted, declaration.headers, avoided=types)
        self.of = {name: self.scope.add(name) for name in wanted}


class _Item(NamedTuple):
    """One member, or one padding, of a C struct.

    Attributes:
        ctype: a type that is placed as this member is.
        lines: its declaration.
        named: whether it has a name, or members that have names.
    """

    ctype: CType
    lines: list[str]
    named: bool = True


class _Body:
    """What stands between the braces of a struct or union.

    Args:
        declaration: the text that it is a part of.
        names: the names of its members in C.
        rules: how C places its members.
        swap: whether its numbers are in the byte order that this machine does not use.
        flexible: whether a flexible array can be in it. If not, an array of 0 items is written, as
            GNU C has it.
    """

    def __init__(
        self,
        declaration: Declaration,
        names: _MemberNames,
        rules: Rules,
        *,
        swap: bool,
        flexible: bool,
    ) -> None:
        self._declaration = declaration
        self._names = names
        self._rules = rules
        self._swap = swap
        self._flexible = flexible and not rules.union
        self._items: list[_Item] = []
        self._cursor = 0
        self._align = 1

    @property
    def lines(self) -> list[str]:
        """The declarations of the members."""
        return [_INDENT + line for item in self._items for line in item.lines]

    @property
    def head(self) -> str:
        """The word ``struct`` or ``union``, with the attributes."""
        attributes = ["packed"] * (self._rules.packed == 1)
        attributes += [f"aligned({self._align})"] * (self._align > 1)
        return ("union" if self._rules.union else "struct") + _attribute(attributes)

    @property
    def places(self) -> Places:
        """Where C places the members."""
        return lay_out((item.ctype for item in self._items), self._rules)

    # -- the members -------------------------------------------------------------------------------

    def fill(self, plan: Plan) -> None:
        """Add the members of a struct, and what gives it its size and alignment.

        Raises:
            InvalidArgument: C can't place the members there.
        """
        bits = lay_out(plan.types.values(), plan.rules).bits
        group: list[tuple[str, BitField, int]] = []  # bit-fields that share bytes
        for (name, ctype), bit in zip(plan.types.items(), bits, strict=True):
            kind = unwrapped(ctype)
            swapped = kind if self._swap and isinstance(kind, BitField) else None
            if group and (swapped is None or self._rules.union or bit // _BYTE >= _end(group)):
                self._bytes_of(group)
                group = []
            if swapped is not None:
                group += [(name, swapped, bit)] * bool(swapped.width)
            elif self._rules.union and bit and isinstance(kind, BitField) and not kind.width:
                pass  # a struct of unnamed bits has no members; `_close` adds its size
            elif isinstance(kind, BitField) or not _is_empty(kind):
                self.member(name, ctype, bit)
        if group:
            self._bytes_of(group)
        self._close(plan)

    def member(self, name: str, ctype: CType, bit: int) -> None:
        """Add a member, after the padding that it needs to be at its place."""
        if self._rules.union and bit:
            self._wrapped(name, ctype, bit)
        elif isinstance(unwrapped(ctype), BitField):
            self._bit_field(name, ctype, bit)
        else:
            self._whole_bytes(name, ctype, bit)

    def _bit_field(self, name: str, ctype: CType, bit: int) -> None:
        kind = unwrapped(ctype)
        assert isinstance(kind, BitField)  # noqa: S101 - for the type checkers
        packed = self._rules.packed
        if place_member(kind, self._cursor, packed).bit != bit:
            self._gap(bit)
            if not kind.width:
                return  # the padding does what the unnamed bit-field was for
        item: CType = kind
        attributes = ""
        if place_member(kind, bit, packed).bit != bit:
            item, attributes = At(kind, bit), _attribute(["packed"])
        unit, notes = bit_field_type(self._declaration.type_name, kind)
        if attributes and kind.size == 1:  # clang warns of a packed bit-field of one byte
            notes = [unit, *notes]
            unit = "int" if kind.integer.code == "i" else "unsigned int"
        if not kind.width:
            self._add(item, bit, [f"{unit} : 0;"], named=False)
            return
        own = self._names.of[name]
        note = _comment([*notes, _renamed(own, name)])
        self._add(item, bit, [f"{unit} {own} : {kind.width}{attributes};{note}"])

    def _whole_bytes(self, name: str, ctype: CType, bit: int) -> None:
        wanted = place_member(ctype, self._cursor, self._rules.packed).alignment
        kind = unwrapped(ctype)
        own = alignment_in_c(kind)
        own = min(own, self._rules.packed or own)
        if round_up(self._cursor, _BYTE * wanted) != bit:
            self._gap(bit)
        attributes = [f"aligned({wanted})"] if wanted > own else ["packed"] * (wanted < own)
        self._add(ctype, bit, self._declared(name, kind, _attribute(attributes)))

    def _declared(self, name: str, kind: CType, attributes: str) -> list[str]:
        has_named = any(item.named and bits_of(item.ctype) for item in self._items)
        flexible = self._flexible and has_named  # C wants a named member before it
        if isinstance(kind, Nested) and kind.anonymous:
            return self._anonymous(kind, attributes, flexible=flexible)
        own = self._names.of[name]
        type_name, notes = member_type(self._declaration.type_name, kind)
        if self._swap and has_byte_order(kind):
            notes = [f"{_SWAPPED}-endian", *notes]
        named = declarator(kind, own, "[]" if flexible else "[0]")
        note = _comment([*notes, _renamed(own, name)])
        return [f"{type_name} {named}{attributes};{note}"]

    def _anonymous(self, kind: Nested, attributes: str, *, flexible: bool) -> list[str]:
        plan: Plan = kind.struct.__plan__
        rules = plan.rules._replace(align=1, size=0)
        names = self._names
        body = _Body(self._declaration, names, rules, swap=plan.swap, flexible=flexible)
        body.fill(plan)
        lines = [f"{body.head} {{", *body.lines, f"}}{attributes};"]
        return _in_packing(lines, rules.packed, self._rules.packed)

    def _wrapped(self, name: str, ctype: CType, bit: int) -> None:
        """Add a member of a union that does not begin at 0: it follows padding in a struct."""
        rules = Rules(packed=self._rules.packed)
        names = self._names
        body = _Body(self._declaration, names, rules, swap=self._swap, flexible=False)
        body.member(name, ctype, bit)
        places = body.places
        item = Opaque(places.size, places.alignment)
        self._add(item, 0, [f"{body.head} {{", *body.lines, "};"])

    def _bytes_of(self, group: Sequence[tuple[str, BitField, int]]) -> None:
        """Add swapped bit-fields, which C does not have, as the bytes that they use."""
        start = group[0][2] // _BYTE
        size = _end(group) - start
        bits = ", ".join(
            f"{kind.integer.c_name} {name} : {kind.width} at {bit - _BYTE * start}"
            for name, kind, bit in group
        )
        if self._rules.union and start:
            start, size = 0, size + start
        own = self._names.scope.fresh(f"bits_{start}")
        if round_up(self._cursor, _BYTE) != _BYTE * start:
            self._gap(_BYTE * start)
        first = "lowest" if sys.byteorder == "big" else "highest"
        note = _comment([f"{_SWAPPED}-endian bit-fields, from the {first} bit: {bits}"])
        self._add(Raw(size), _BYTE * start, [f"unsigned char {own}[{size}];{note}"])

    def _add(self, ctype: CType, bit: int, lines: list[str], *, named: bool = True) -> None:
        self._items.append(_Item(ctype, lines, named))
        self._cursor = 0 if self._rules.union else bit + bits_of(ctype)

    # -- padding -----------------------------------------------------------------------------------

    def _gap(self, bit: int) -> None:
        """Add padding up to a bit: bytes, and unnamed bit-fields for parts of bytes."""
        byte = bit // _BYTE * _BYTE
        following = round_up(self._cursor, _BYTE)
        if byte > following:
            self._padding(following // _BYTE, (byte - following) // _BYTE)
        elif byte == following:
            self._unnamed_bits(byte - self._cursor)
        self._unnamed_bits(bit - self._cursor)

    def _unnamed_bits(self, width: int) -> None:
        if width:
            item = BitField(_UCHAR, width)
            self._add(item, self._cursor, [f"unsigned char : {width};"], named=False)

    def _padding(self, start: int, size: int) -> None:
        name = self._names.scope.fresh(f"padding_{start}")
        self._add(Raw(size), _BYTE * start, [f"unsigned char {name}[{size}];"])

    def _close(self, plan: Plan) -> None:
        """Add the padding that `size` asks for, and ask for an alignment if the members do not."""
        if self.places.alignment < plan.alignment:
            self._align = plan.alignment
        self._rules = self._rules._replace(align=self._align)
        if self.places.size < plan.size:
            if plan.flexible and not self._rules.union:
                reason = "its size adds padding, and none can follow a flexible array"
                raise _cannot(plan, reason)
            start = -(-self._cursor // _BYTE)
            self._padding(start, plan.size - start)
        found = self.places
        if (found.size, found.alignment) != (plan.size, plan.alignment):
            raise _cannot(plan, "it has no rule that places the members there")


def _cannot(plan: Plan, reason: str) -> InvalidArgument:
    return InvalidArgument(f"C can't declare {plan.name}: {reason}", errno=errno.EINVAL)


def _end(group: Sequence[tuple[str, BitField, int]]) -> int:
    """Return the first byte after bit-fields."""
    return max(-(-(bit + kind.width) // _BYTE) for _, kind, bit in group)


# -- nested types ----------------------------------------------------------------------------------


def _is_empty(ctype: CType) -> bool:
    """Return whether a type has no bytes, so that no field has it; C++ has no such type."""
    return not ctype.size and not ctype.flexible


def _named(plan: Plan) -> Iterator[Plan]:
    """Yield the structs that need a name in C, each before those that contain it, and once."""
    seen: set[int] = set()

    def inner(each: Plan) -> Iterator[Plan]:
        for ctype in map(innermost, each.types.values()):
            if isinstance(ctype, Nested):
                nested: Plan = ctype.struct.__plan__
                yield from inner(nested)
                if not (ctype.anonymous or _is_empty(ctype) or id(nested) in seen):
                    seen.add(id(nested))
                    yield nested

    yield from inner(plan)
    yield plan


def _all_types(plan: Plan, *, nested: bool) -> Iterator[CType]:
    """Yield the types of the members, of anonymous members too, and of nested structs if asked."""
    for ctype in map(innermost, plan.types.values()):
        if _is_empty(ctype):
            continue
        yield ctype
        if isinstance(ctype, Nested) and (nested or ctype.anonymous):
            yield from _all_types(ctype.struct.__plan__, nested=nested)


def _headers(plan: Plan) -> Iterator[str]:
    """Yield the header of each type of the struct, and "" for a type that needs none."""
    for ctype in _all_types(plan, nested=True):
        unit = ctype.unit if isinstance(ctype, BitField) else ctype
        scalar = unit.integer if isinstance(unit, Enumeration) else unit
        if isinstance(scalar, Scalar) and not (scalar is not unit and has_default_integer(unit)):
            name, _ = scalar_type(scalar)
            yield _HEADERS.get(name, "stdint.h" if name.endswith("_t") else "")


# -- text ------------------------------------------------------------------------------------------


def _attribute(attributes: list[str]) -> str:
    return f" __attribute__(({', '.join(attributes)}))" if attributes else ""


def _comment(notes: list[str]) -> str:
    text = "; ".join(note for note in notes if note)
    return f" /* {text} */" if text else ""


def _renamed(name: str, python_name: str) -> str:
    return "" if name == python_name else f"{python_name} in Python"


def _literal(value: int) -> str:
    """Write an integer that is an int, or the smallest other type that has it, in C."""
    if value == -1 << 63:
        return f"{value + 1}L - 1"
    return f"{value}{'UL' if value >= 1 << 63 else ''}"


def _in_packing(lines: list[str], packed: int, around: int) -> list[str]:
    """Write the ``#pragma pack`` around a struct that another one is not around already."""
    own, outer = (each if each > 1 else 0 for each in (packed, around))
    if own == outer:
        return lines
    start = [f"#pragma pack(push, {own})"] if own else ["#pragma pack(push)", "#pragma pack()"]
    return [*start, *lines, "#pragma pack(pop)"]
