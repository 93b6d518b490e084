"""Create Struct classes from what a C compiler says about structs.

`c_reader` describes the structs of a text with the compiler's sizes and places. Here a description
becomes field types and the rules that place them. A class that was made from C has the same places
as the compiler chose, or it is not made.
"""

from __future__ import annotations

import copyreg
import errno
import os
import sys
import weakref
from dataclasses import dataclass
from enum import EnumMeta, IntEnum
from typing import TYPE_CHECKING, Any, Final

from ipckit._payload import c_reader, fields
from ipckit._payload.arrays import ArrayOf, FlexibleArray
from ipckit._payload.c_declarations import (
    ArrayType,
    EnumType,
    Member,
    OpaqueType,
    RecordType,
    ScalarType,
    Type,
)
from ipckit._payload.c_types import BitField, CType, Enumeration, Nested, Opaque, Raw, Scalar, Text
from ipckit._payload.placement import Places, explained
from ipckit._payload.structs import StructType, made_by_layout
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipckit._payload.plan import Endian

_CODES: Final = {"int": "i", "uint": "u", "float": "f", "bool": "?"}
_BY_NAME: Final[dict[str, Scalar]] = {
    scalar.c_name: scalar for scalar in vars(fields).values() if isinstance(scalar, Scalar)
}
_BY_SIZE: Final[dict[tuple[str, int], Scalar]] = {
    (scalar.code, scalar.size): scalar
    for name, scalar in vars(fields).items()
    if isinstance(scalar, Scalar) and name.rstrip("0123456789") in ("Int", "UInt", "Float", "Bool")
}
_READABLE: Final = (1, 2, 4, 8)  # bytes of the numbers that a field can have


@dataclass(frozen=True)
class Request:
    """The arguments of `Struct.from_c`.

    Attributes:
        text: the C text.
        name: the struct's typedef name or tag; None for the last struct of the text.
        endian: the byte order of the numbers; ``"native"`` for that of the target.
        options: how to compile the text.
        opaque: whether to keep types that Python can't read as bytes.
        filename: the name of the text in errors.
    """

    text: str
    name: str | None = None
    endian: Endian = "native"
    options: c_reader.Options = c_reader.Options()
    opaque: bool = False
    filename: str = "<text>"


# -- enums -----------------------------------------------------------------------------------------


class _CEnumType(EnumMeta):
    """The class of enums of C, which are pickled by their members."""


class CEnum(IntEnum, metaclass=_CEnumType):
    """The base of enums that were read from C."""


_ENUMS: Final[weakref.WeakValueDictionary[tuple[Any, ...], type[CEnum]]] = (
    weakref.WeakValueDictionary()
)


def _enum(name: str, members: tuple[tuple[str, int], ...]) -> type[CEnum]:
    """Return the class of an enum: the same one for the same name and members.

    A member whose name an enum of Python can't have is left out; its value is read as an int.
    """
    found = _ENUMS.get((name, members))
    if found is None:
        usable = [(each, value) for each, value in members if _is_usable(each)]
        made: Any = CEnum(name, usable, module="ipckit.structs")
        found = _ENUMS[name, members] = made
        made.__c_members__ = members
    return found


def _is_usable(name: str) -> bool:
    try:
        IntEnum("_Trial", [(name, 0)])
    except (ValueError, TypeError):
        return False
    return True


def _reduce_enum(cls: type[Any]) -> str | tuple[Any, ...]:
    members = vars(cls).get("__c_members__")
    return cls.__qualname__ if members is None else (_enum, (cls.__name__, members))


copyreg.pickle(_CEnumType, _reduce_enum)


# -- structs ---------------------------------------------------------------------------------------


class Translator:
    """Creates the classes for the descriptions of one text.

    Args:
        request: the arguments of `Struct.from_c`.
        byte_order: the byte order of the target.
    """

    def __init__(self, request: Request, byte_order: str) -> None:
        self._opaque = request.opaque
        self._endian: Any = request.endian
        if request.endian == "native" and byte_order != sys.byteorder:
            self._endian = byte_order
        self._made: dict[tuple[int, bool], StructType] = {}
        self.problems: list[str] = []

    def struct(self, record: RecordType, *, whole: bool = True) -> StructType | None:
        """Return the class of a struct or union; None if it has a problem, which is noted.

        Args:
            record: the description.
            whole: whether to keep its flexible array member.
        """
        key = (id(record), whole)
        if key not in self._made:
            before = len(self.problems)
            parts = self._parts(record, whole=whole)
            if not parts and len(self.problems) == before:
                self._note(record.place, f"{record.kind} {record.name} has no fields")
            if len(self.problems) > before:
                return None
            self._made[key] = self._make(record, parts)
        return self._made[key]

    def _make(self, record: RecordType, parts: list[tuple[str, CType, int]]) -> StructType:
        bits = tuple(bit for _, _, bit in parts)
        wanted = Places(bits, record.size, record.alignment)
        union = record.kind == "union"
        types, rules = explained([ctype for _, ctype, _ in parts], wanted, union=union)
        named = dict(zip((name for name, _, _ in parts), types, strict=True))
        return made_by_layout(record.name, named, rules, self._endian)

    def _parts(self, record: RecordType, *, whole: bool) -> list[tuple[str, CType, int]]:
        """Return the name, the type and the first bit of each member that has bytes."""
        parts: list[tuple[str, CType, int]] = []
        for index, member in enumerate(record.members):
            last = index == len(record.members) - 1 or record.kind == "union"
            ctype = self._member(member, whole=whole and last)
            if isinstance(ctype, str):
                name = member.name or "without a name"
                where = f"{record.kind} {record.name}, member {name}"
                self._note(member.place, f"{where}: {ctype}")
            elif ctype is not None:
                parts.append((member.name or f"_{index}", ctype, member.bit_offset))
        return parts

    def _note(self, place: object, problem: str) -> None:
        line = f"{place}: {problem}"
        if line not in self.problems:
            self.problems.append(line)

    def _member(self, member: Member, *, whole: bool) -> CType | str | None:
        """Return the type of a member, the problem that it has, or None if it has no bytes."""
        if member.name.startswith("__") and member.name.endswith("__"):
            return "Python reserves names that start and end with __; rename the member"
        if member.width is not None:
            unit = self._ctype(member.type, whole=False)
            if isinstance(unit, (Scalar, Enumeration)):
                return BitField(unit, member.width)
            return unit or "the bit-field has no integer type"
        ctype = self._ctype(member.type, whole=whole)
        if member.anonymous and isinstance(ctype, Nested):
            return Nested(ctype.struct, anonymous=True)
        return ctype

    def _ctype(self, kind: Type, *, whole: bool) -> CType | str | None:
        """As `_member`. With `whole`, the type can have a flexible array member."""
        if isinstance(kind, ScalarType):
            return self._scalar(kind)
        if isinstance(kind, EnumType):
            integer = self._scalar(kind.integer)
            usable = isinstance(integer, Scalar) and integer.code in "iu"
            return Enumeration(integer, _enum(kind.name, kind.members)) if usable else integer
        if isinstance(kind, ArrayType):
            return self._array(kind, whole=whole)
        if isinstance(kind, RecordType):
            return self._nested(kind, whole=whole)
        return self._bytes(kind.spelling, kind.size, kind.alignment, kind.why)

    def _bytes(self, spelling: str, size: int, alignment: int, why: str) -> CType | str | None:
        """Return a type that Python can't read as bytes, or say why it can't be read."""
        if not size:
            return None
        if self._opaque:
            return Opaque(size, alignment, spelling)
        return f"{why}; opaque=True keeps the {size} bytes of {spelling}"

    def _scalar(self, kind: ScalarType) -> CType | str | None:
        if kind.kind == "char":
            return Text(1)
        code = _CODES[kind.kind]
        named = _BY_NAME.get(kind.name)
        if named is not None and (named.code, named.size) == (code, kind.size):
            return named
        same = _BY_SIZE.get((code, kind.size))
        if same is None:
            why = f"Python has no field of {kind.size} bytes for {kind.name}"
            return self._bytes(kind.name, kind.size, kind.alignment, why)
        return same

    def _array(self, kind: ArrayType, *, whole: bool) -> CType | str | None:
        item = self._ctype(kind.item, whole=False)
        if not isinstance(item, CType):
            return item
        if isinstance(kind.item, ScalarType) and kind.item.name == "unsigned char":
            item = Raw(1)
        if kind.count is None:
            return FlexibleArray(item) if whole else None
        if not kind.count:
            return None
        is_bytes = isinstance(kind.item, ScalarType) and isinstance(item, (Text, Raw))
        return type(item)(kind.count) if is_bytes else ArrayOf(item, kind.count)

    def _nested(self, kind: RecordType, *, whole: bool) -> CType | str | None:
        if not kind.size and not whole:
            return None
        if not kind.members:
            spelling = f"{kind.kind} {kind.name}"
            return self._bytes(spelling, kind.size, kind.alignment, f"{spelling} has no fields")
        before = len(self.problems)
        made = self.struct(kind, whole=whole)
        if made is not None:
            return Nested(made)
        # The problems are those of its members, which are noted already.
        return None if len(self.problems) > before else ""


def _stamps(files: Iterable[str]) -> tuple[tuple[str, int, int], ...]:
    """Return path, time and size of files, which tell whether one has changed since."""
    found: list[tuple[str, int, int]] = []
    for path in files:
        try:
            state = os.stat(path)  # noqa: PTH116 - its speed is that of a cached from_c
        except OSError:
            found.append((path, -1, -1))
        else:
            found.append((path, state.st_mtime_ns, state.st_size))
    return tuple(found)


@dataclass(frozen=True)
class _Cached:
    struct: weakref.ref[StructType]
    stamps: tuple[tuple[str, int, int], ...]


_READ: Final[dict[Request, _Cached]] = {}


def read_struct(request: Request) -> StructType:
    """Return the class for the arguments of `Struct.from_c`, which documents the errors.

    The class of an earlier call is returned while it is in use and no included file has changed.
    """
    cached = _READ.get(request)
    found = None if cached is None else cached.struct()
    if cached is not None and found is not None:
        if cached.stamps == _stamps(path for path, _, _ in cached.stamps):
            return found
    structs, files = _read(request, every=False)
    struct = structs[0]
    reference = weakref.ref(struct, lambda _: _READ.pop(request, None))
    _READ[request] = _Cached(reference, _stamps(files))
    return struct


def read_structs(request: Request) -> list[StructType]:
    """Return the classes of all structs of a text, or of one struct if the request names it."""
    return _read(request, every=request.name is None)[0]


def _read(request: Request, *, every: bool) -> tuple[list[StructType], tuple[str, ...]]:
    found = c_reader.read(
        request.text, request.name, options=request.options, filename=request.filename, every=every
    )
    translator = Translator(request, found.byte_order)
    structs = [translator.struct(record) for record in found.records]
    if translator.problems:
        raise InvalidArgument("\n".join(translator.problems), errno=errno.EINVAL)
    return [struct for struct in structs if struct is not None], found.files
