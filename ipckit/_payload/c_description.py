"""Describe the structs, enums and other types of a compiled C text; see `c_declarations`."""

# clang.cindex ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

import ipckit._native as native
from ipckit._payload import c_pragmas
from ipckit._payload.c_declarations import (
    ArrayType,
    EnumType,
    Member,
    OpaqueType,
    RecordType,
    ScalarType,
    Type,
)
from ipckit._payload.c_problems import (
    MACRO_LIKE,
    Differs,
    Unreadable,
    looks_like_macro,
    undefined_macro,
)
from ipckit._payload.libclang import (
    ALIGNED,
    ENUM,
    ENUMERATOR,
    STRUCT,
    TYPE_ATOMIC,
    TYPE_CONSTANT_ARRAY,
    TYPE_ELABORATED,
    TYPE_ENUM,
    TYPE_EXT_VECTOR,
    TYPE_INCOMPLETE_ARRAY,
    TYPE_RECORD,
    TYPE_SIGNED_CHAR,
    TYPE_TYPEDEF,
    TYPE_VECTOR,
    TYPEDEF,
    UNION,
    UNKNOWN_ATTRIBUTE,
    VARIABLE,
    clang_library,
    encloses,
    fields_of,
    tag_of,
    without_typedefs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit._payload.c_unit import Unit


_DECLARATIONS: Final = frozenset({STRUCT, UNION, ENUM, VARIABLE, TYPEDEF})
_Kind = Literal["int", "uint", "float", "bool", "char"]
_SCALARS: Final[dict[int, tuple[_Kind, str]]] = {
    3: ("bool", "bool"),
    4: ("char", "char"),  # where char is unsigned
    5: ("uint", "unsigned char"),
    8: ("uint", "unsigned short"),
    9: ("uint", "unsigned int"),
    10: ("uint", "unsigned long"),
    11: ("uint", "unsigned long long"),
    13: ("char", "char"),
    14: ("int", "signed char"),
    16: ("int", "short"),
    17: ("int", "int"),
    18: ("int", "long"),
    19: ("int", "long long"),
    21: ("float", "float"),
    22: ("float", "double"),
}
_POINTER: Final = "a pointer is an address, which is invalid in another process"
_OPAQUE: Final = {
    12: "Python has no integer type of 128 bits",
    20: "Python has no integer type of 128 bits",
    23: "no Python type has the format of a long double",
    30: "no Python type has the format of a 128-bit float",
    32: "no field type reads a 16-bit float",
    39: "no field type reads a bfloat16",
    100: "no field type reads a complex number",
    101: _POINTER,
    102: _POINTER,
    113: "no field type reads a vector of the compiler",
    176: "no field type reads a vector of the compiler",
    TYPE_ATOMIC: "the compiler chooses the layout of this _Atomic type",
}
# Typedefs of the standard that keep their names, if they are what the standard says.
_EXACT: Final = re.compile(r"(u?)int(8|16|32|64)_t")
_POINTER_SIZED: Final = {
    "size_t": "uint",
    "ssize_t": "int",
    "ptrdiff_t": "int",
    "intptr_t": "int",
    "uintptr_t": "uint",
}
# Typedefs of POSIX that keep their names, if they are what this machine's C library says.
_OF_THIS_MACHINE: Final = {
    name: ("int" if code == "i" else "uint", size)
    for name, (code, size, _) in native.TYPEDEFS.items()
}
# What gcc and clang do differently. The tests compare a text with gcc that each of these refuses.
_ALIGNED_TWICE: Final = (
    "compilers disagree about two attributes aligned of one type; leave one of them out"
)
_ALIGNED_ENUM: Final = (
    "compilers disagree about an enum with the attribute aligned; align the member instead"
)
_MODE: Final = re.compile(rb"\bmode\s*\(|\b__mode__\b")
_MODE_OF_ENUM: Final = "compilers disagree about an enum with the attribute mode; leave it out"
_ATOMIC: Final = (
    "compilers disagree about the size or the alignment of this _Atomic type; "
    "give the member the type without _Atomic"
)
_WIDEST_VECTOR: Final = 16  # bytes; the alignment of a wider one depends on -march
_VECTOR: Final = "compilers disagree about this vector type; use an array"
_MS_STRUCT: Final = "compilers disagree about a struct with the attribute ms_struct; leave it out"
_PACK_INSIDE: Final = (
    "compilers disagree about a #pragma inside the braces of a struct; write it before the struct"
)
# gcc and clang differ if `#pragma pack` allows less, if the type then has a smaller alignment, or
# if it has a larger alignment than size.
_ALIGNED_BITS: Final = (
    "compilers disagree about the place of a bit-field with the attribute aligned; "
    "write padding instead"
)
_DEEPEST: Final = 100  # arrays and structs inside each other
_MOST_MEMBERS: Final = 10_000  # libclang's search for an offset is linear: a second for all of them


def _is_aligned(bit_field: Any) -> bool:
    """Return whether a bit-field or its type has the attribute aligned."""
    kind = bit_field.type
    alignment = kind.get_align()
    if alignment > kind.get_size() or alignment != kind.get_canonical().get_align():
        return True
    return any(each._kind_id == ALIGNED for each in bit_field.get_children())


class Describer:
    """Describes declarations of one text; each record and enum once.

    Args:
        unit: the compiled text.

    Attributes:
        problems: the problems that were found, each with file and line.
        cursors: the declarations of the text and of its included files, in order.
        byte_order: the byte order of the target.
    """

    def __init__(self, unit: Unit) -> None:
        self.problems: list[str] = []
        self._unit = unit
        self._library = clang_library()
        self.cursors: list[Any] = [
            cursor for cursor in unit.unit.cursor.get_children() if cursor._kind_id in _DECLARATIONS
        ]
        self._position = {
            int(cursor.data[0] or 0): position for position, cursor in enumerate(self.cursors)
        }
        self._records: dict[int, RecordType] = {}
        self._enums: dict[int, EnumType] = {}
        self._checked: set[int] = set()  # typedefs
        prelude = next(each for each in self.cursors if each._kind_id == ENUM)
        facts = {self._library.spelling(each): each.enum_value for each in prelude.get_children()}
        self.byte_order: Literal["little", "big"] = (
            "big" if facts["__ipckit_big_endian"] else "little"
        )
        self._pointer_size: int = facts["__ipckit_pointer"]

    # -- structs and unions ------------------------------------------------------------------------

    def requested(self, cursor: Any) -> RecordType:
        """Describe a struct or union that was asked for, by its declaration or its typedef's.

        Raises:
            Unreadable: it is neither a struct nor a union, or it has no definition.
        """
        location = self._library.location(cursor.location)
        kind = cursor.type
        if cursor._kind_id == TYPEDEF:
            plain, _ = without_typedefs(kind)
            if plain._kind_id != TYPE_RECORD:
                name, written = self._library.spelling(cursor), self._library.type_spelling(plain)
                what = f"{name} is {written}, and neither a struct nor a union"
                raise Unreadable(f"{location}: {what}")
            cursor = plain.get_declaration()
        definition = cursor.get_definition()
        if definition is None:
            written = self._library.type_spelling(cursor.type)
            what = f"{written} is declared without its members"
            raise Unreadable(f"{location}: {what}")
        found = self._record(definition, "", 0)
        if not (found.members or self.problems or self._unit.problems):
            self.problems.append(f"{found.location}: {found.kind} {found.name} has no members")
        return replace(found, alignment=kind.get_align())  # a typedef can have its own alignment

    def _record(self, cursor: Any, outer_name: str, depth: int) -> RecordType:
        key = int(cursor.data[0] or 0)
        if key in self._records:
            return self._records[key]
        kind: Literal["struct", "union"] = "union" if cursor._kind_id == UNION else "struct"
        tag = tag_of(cursor)
        name = self._name(cursor, tag, outer_name)
        location = self._library.location(cursor.location)
        own = cursor.type
        if depth > _DEEPEST:
            raise Unreadable(f"{location}: {kind} {name} is nested too deeply")
        for problem in self._differences(cursor):
            self._note(cursor, f"{kind} {name}: {problem}")
        fields = fields_of(cursor)
        if len(fields) > _MOST_MEMBERS:
            raise Unreadable(f"{location}: {kind} {name} has more than {_MOST_MEMBERS} members")
        members = self._members(fields, f"{kind} {name}", depth, is_union=kind == "union")
        made = RecordType(name, tag, kind, own.get_size(), own.get_align(), members, location)
        self._records[key] = made
        return made

    def _members(
        self, fields: list[Any], record: str, depth: int, *, is_union: bool
    ) -> tuple[Member, ...]:
        """Describe the members of a record.

        Args:
            fields: their declarations.
            record: the kind and the name of the record, such as ``struct stu``.
            depth: how many records and arrays contain the record.
            is_union: whether it is a union.
        """
        members: list[Member] = []
        unnamed = 0
        for position, field in enumerate(fields):
            name = self._library.spelling(field)
            is_bits = field.is_bitfield()
            if is_bits and _is_aligned(field):
                self._note(field, f"{record}, member {name}: {_ALIGNED_BITS}")
            if is_bits and not name:
                continue  # it only moves the members after it
            anonymous = self._is_anonymous(field)
            if anonymous:
                unnamed += 1
                name = ""
            inner_name = f"{record.partition(' ')[2]}_{name or unnamed}"
            is_last = is_union or position == len(fields) - 1
            try:
                found = self._type(field.type, inner_name, depth + 1, is_last=is_last)
            except Differs as caught:
                self._note(field, f"{record}, member {name}: {caught}")
                continue
            self._check_member(field, name)
            members.append(self._member(field, name, found, anonymous=anonymous))
        return tuple(members)

    def _member(self, field: Any, name: str, found: Type, *, anonymous: bool) -> Member:
        width = field.get_bitfield_width() if field.is_bitfield() else None
        if width is not None and isinstance(found, ScalarType) and found.kind == "char":
            is_signed = field.type.get_canonical()._kind_id == TYPE_SIGNED_CHAR
            found = replace(found, kind="int" if is_signed else "uint")
        offset = int(field.get_field_offsetof())
        if offset < 0 and not self._unit.problems:
            self._note(field, f"{name} has no offset")
        location = self._library.location(field.location)
        return Member(name, found, offset, width, anonymous, location)

    def _note(self, cursor: Any, problem: str) -> None:
        self.problems.append(f"{self._library.location(cursor.location)}: {problem}")

    def _differences(self, cursor: Any) -> Iterator[str]:
        """Yield what gcc and clang do differently with the attributes and pragmas of a record."""
        attributes = [each._kind_id for each in cursor.get_children()]
        if attributes.count(ALIGNED) > 1:
            yield _ALIGNED_TWICE
        own = self._unit.own_files.values()
        if UNKNOWN_ATTRIBUTE in attributes and any(b"ms_struct" in each for each in own):
            yield _MS_STRUCT
        if self._unit.pragmas:
            start, end = cursor.extent.start, cursor.extent.end
            pragmas = self._unit.pragmas.get(self._library.file_name(start.file), ())
            inside = (each for each in pragmas if start.offset < each.start < end.offset)
            if not c_pragmas.keep_packing(inside):
                yield _PACK_INSIDE

    def _check_typedefs(self, written: Any) -> None:
        """Raise Differs for a typedef with two attributes aligned."""
        kind = written
        while kind._kind_id in (TYPE_TYPEDEF, TYPE_ELABORATED):
            if kind._kind_id == TYPE_ELABORATED:
                kind = kind.get_named_type()
                continue
            declaration = kind.get_declaration()
            key = int(declaration.data[0] or 0)
            if key in self._checked:
                return
            attributes = [each._kind_id for each in declaration.get_children()]
            if attributes.count(ALIGNED) > 1:
                raise Differs(_ALIGNED_TWICE)
            self._checked.add(key)
            kind = declaration.underlying_typedef_type

    def _is_anonymous(self, field: Any) -> bool:
        if field.type.get_canonical()._kind_id != TYPE_RECORD or not field.is_anonymous():
            return False
        declaration = field.type.get_declaration()
        return bool(self._library.is_anonymous_record(declaration))

    def _name(self, cursor: Any, tag: str, outer_name: str) -> str:
        """Return the name of a struct, a union or an enum, and refuse one that a macro spoils."""
        typedef = variable = ""
        position = self._position.get(int(cursor.data[0] or 0))
        if position is not None:
            for each in self.cursors[position + 1 :]:
                if not encloses(each, cursor):
                    break
                kind, spelling = each._kind_id, self._library.spelling(each)
                if kind == VARIABLE:
                    variable = variable or spelling
                    if looks_like_macro(spelling):
                        self._refuse_macro(each, spelling)
                elif kind == TYPEDEF and not typedef:
                    plain, names = without_typedefs(each.type)
                    if plain._kind_id in (TYPE_RECORD, TYPE_ENUM) and len(names) == 1:
                        typedef = spelling
        return typedef or tag or outer_name or variable

    def _check_member(self, field: Any, name: str) -> None:
        """Refuse a member whose name is an attribute's macro after the brace of its struct."""
        if not MACRO_LIKE.fullmatch(name) or not (name.isupper() or name.startswith("__")):
            return
        declaration = field.type.get_declaration()
        if declaration._kind_id in (STRUCT, UNION, ENUM) and encloses(field, declaration):
            self._refuse_macro(field, name)

    def _refuse_macro(self, cursor: Any, name: str) -> None:
        self.problems.append(f"{self._library.location(cursor.location)}: {undefined_macro(name)}")

    # -- types ------------------------------------------------------------------------------------

    def _type(self, written: Any, inner_name: str, depth: int, *, is_last: bool = False) -> Type:
        self._check_typedefs(written)
        plain, names = without_typedefs(written)
        kind = plain._kind_id
        if kind == TYPE_RECORD:
            return self._record(plain.get_declaration(), inner_name, depth)
        if kind == TYPE_ENUM:
            return self._enum(plain.get_declaration(), inner_name)
        if kind in (TYPE_CONSTANT_ARRAY, TYPE_INCOMPLETE_ARRAY):
            if depth > _DEEPEST:
                raise Unreadable(f"{inner_name} is an array of too many dimensions")
            count = int(plain.get_array_size()) if kind == TYPE_CONSTANT_ARRAY else None
            of = plain.get_array_element_type()
            item = self._type(of, inner_name, depth + 1)
            if of.get_canonical()._kind_id == TYPE_ATOMIC and isinstance(item, OpaqueType):
                raise Differs(_ATOMIC)
            return ArrayType(item, None if count == 0 and is_last else count)
        size, alignment = int(written.get_size()), int(written.get_align())
        if kind == TYPE_ATOMIC:
            value = self._library.value_type(plain)
            inner = value.get_canonical()._kind_id
            alike = (value.get_size(), value.get_align()) == (size, alignment)
            if value.get_size() != size or value.get_align() > value.get_canonical().get_align():
                raise Differs(_ATOMIC)
            if alike and (inner in _SCALARS or inner == TYPE_ENUM):
                return self._type(value, inner_name, depth + 1)
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind], names, size, alignment)
        if kind == TYPE_EXT_VECTOR or (kind == TYPE_VECTOR and size > _WIDEST_VECTOR):
            raise Differs(_VECTOR)
        why = _OPAQUE.get(kind, "no field type reads this type")
        return OpaqueType(self._library.type_spelling(written), size, alignment, why)

    def _scalar(
        self, found: tuple[_Kind, str], typedefs: list[str], size: int, alignment: int
    ) -> ScalarType:
        """Describe a number; the first typedef that the standard or POSIX defines names it."""
        kind, name = found
        for each in typedefs:
            exact = _EXACT.fullmatch(each)
            is_exact = exact and (exact[1] + "int", int(exact[2])) == (kind, 8 * size)
            is_known = (kind, size) in (
                (_POINTER_SIZED.get(each), self._pointer_size),
                _OF_THIS_MACHINE.get(each),
            )
            if is_exact or is_known:
                name = each
                break
        return ScalarType(name, kind, size, alignment)

    def _check_enum(self, cursor: Any, integer: Any) -> None:
        """Raise Differs for an enum with an attribute that changes its integer type."""
        if cursor.type.get_align() != integer.get_align():
            raise Differs(_ALIGNED_ENUM)
        attributes = [each._kind_id for each in cursor.get_children()]
        own = self._unit.own_files.values()
        if UNKNOWN_ATTRIBUTE in attributes and any(map(_MODE.search, own)):
            raise Differs(_MODE_OF_ENUM)

    def _enum(self, cursor: Any, outer_name: str) -> EnumType:
        key = int(cursor.data[0] or 0)
        if key not in self._enums:
            name = self._name(cursor, tag_of(cursor), outer_name)
            integer, _ = without_typedefs(cursor.enum_type)
            self._check_enum(cursor, integer)
            scalar = self._scalar(
                _SCALARS[integer._kind_id], [], integer.get_size(), integer.get_align()
            )
            members = tuple(
                (self._library.spelling(each), int(each.enum_value))
                for each in cursor.get_children()
                if each._kind_id == ENUMERATOR
            )
            self._enums[key] = EnumType(name, scalar, members)
        return self._enums[key]
