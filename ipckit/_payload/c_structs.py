"""Create Struct classes from what a C compiler says about structs.

`c_reader` describes the structs of a text with the compiler's sizes and places. Here a description
becomes field types and the rules that place them. A class that was made from C has the same places
as the compiler chose, or it is not made.
"""

from __future__ import annotations

import math
import os
import re
import sys
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from ipckit._payload import c_reader, fields
from ipckit._payload.arrays import ArrayOf, FlexibleArray
from ipckit._payload.c_declarations import (
    ArrayType,
    EnumType,
    Member,
    RecordType,
    ScalarType,
    Type,
)
from ipckit._payload.c_enums import enum_from_c
from ipckit._payload.c_problems import invalid
from ipckit._payload.c_source import Options
from ipckit._payload.c_types import (
    BitField,
    CType,
    Enumeration,
    Nested,
    Opaque,
    Raw,
    Scalar,
    StructClass,
    Text,
)
from ipckit._payload.placement import Places, Rules, explained

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ipckit._payload.plan import Endian

S = TypeVar("S", bound=StructClass)
S_co = TypeVar("S_co", bound=StructClass, covariant=True)


class Make(Protocol[S_co]):
    """Creates the class of a struct from its layout."""

    def __call__(
        self, name: str, types: Mapping[str, CType], rules: Rules, endian: Endian, /
    ) -> S_co: ...


_CODES: Final = {"int": "i", "uint": "u", "float": "f", "bool": "?"}
_BY_NAME: Final[dict[str, Scalar]] = {
    scalar.c_name: scalar for scalar in vars(fields).values() if isinstance(scalar, Scalar)
}
_BY_SIZE: Final[dict[tuple[str, int], Scalar]] = {
    (scalar.code, scalar.size): scalar
    for name, scalar in vars(fields).items()
    if isinstance(scalar, Scalar) and name.rstrip("0123456789") in ("Int", "UInt", "Float", "Bool")
}


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
        directory: where quoted includes are searched, if the text has any.
    """

    text: str
    name: str | None = None
    endian: Endian = "native"
    options: Options = field(default_factory=Options)
    opaque: bool = False
    filename: str = "<text>"
    directory: str = ""


class Translator(Generic[S]):
    """Creates the classes for the descriptions of one text.

    Args:
        request: the arguments of `Struct.from_c`.
        byte_order: the byte order of the target.
        make: creates a class from its name, its members' types, the rules and the byte order; None
            to look for problems only.
    """

    def __init__(self, request: Request, byte_order: str, make: Make[S] | None) -> None:
        self._make_class = make
        self._opaque = request.opaque
        self._endian: Any = request.endian
        if request.endian == "native" and byte_order != sys.byteorder:
            self._endian = byte_order
        self._made: dict[tuple[int, bool], S | None] = {}
        self.problems: list[str] = []

    def struct(self, record: RecordType, *, whole: bool = True) -> S | None:
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
                self._note(record.location, f"{record.kind} {record.name} has no fields")
            if len(self.problems) > before:
                return None
            # C has one type for both, but a class with the array and one without it are two.
            fixed = not whole and _is_flexible(record)
            name = (record.name or "Unnamed") + ("_fixed" if fixed else "")
            self._made[key] = self._make(record, name, parts)
        return self._made[key]

    def _make(self, record: RecordType, name: str, parts: list[tuple[str, CType, int]]) -> S | None:
        if self._make_class is None:
            return None
        bits = tuple(bit for _, _, bit in parts)
        # A typedef can have an alignment that does not divide its size. No struct has.
        wanted = Places(bits, record.size, math.gcd(record.size, record.alignment))
        union = record.kind == "union"
        types, rules = explained([ctype for _, ctype, _ in parts], wanted, union=union)
        named = dict(zip((name for name, _, _ in parts), types, strict=True))
        return self._make_class(name, named, rules, self._endian)

    def _parts(self, record: RecordType, *, whole: bool) -> list[tuple[str, CType, int]]:
        """Return the name, the type and the first bit of each member that has bytes.

        An anonymous member gets a name that no field has: ``_`` and its index.
        """
        parts: list[tuple[str, CType, int]] = []
        taken = set(_field_names(record))
        for index, member in enumerate(record.members):
            last = index == len(record.members) - 1 or record.kind == "union"
            ctype = self._member(member, whole=whole and last)
            if isinstance(ctype, str):
                name = member.name or "without a name"
                where = f"{record.kind} {record.name}, member {name}"
                self._note(member.location, f"{where}: {ctype}")
            elif ctype is not None:
                name = member.name or f"_{index}"
                while not member.name and name in taken:
                    name = f"_{name}"
                parts.append((name, ctype, member.bit_offset))
        return parts

    def _note(self, location: object, problem: str) -> None:
        line = f"{location}: {problem}"
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
            return "no field type reads this bit-field"
        if member.anonymous and isinstance(member.type, RecordType):
            ctype = self._nested(member.type, whole=whole, anonymous=True)
        else:
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
            if not isinstance(integer, Scalar) or integer.code not in "iu":
                return integer
            return Enumeration(integer, enum_from_c(kind.name, kind.members))
        if isinstance(kind, ArrayType):
            return self._array(kind, whole=whole)
        if isinstance(kind, RecordType):
            return self._nested(kind, whole=whole, anonymous=False)
        return self._bytes(kind.spelling, kind.size, kind.alignment, kind.why)

    def _bytes(self, spelling: str, size: int, alignment: int, why: str) -> CType | str | None:
        """Return a type that Python can't read as bytes, or say why it can't be read."""
        if size <= 0:
            return None  # negative for a type that the text does not define
        if self._opaque:
            return Opaque(size, alignment, spelling)
        return f"{why}; opaque=True (--opaque) keeps the {size} bytes of {spelling}"

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
        if isinstance(kind.item, ScalarType) and isinstance(item, (Text, Raw)):
            return type(item)(kind.count)
        return ArrayOf(item, kind.count)

    def _nested(self, kind: RecordType, *, whole: bool, anonymous: bool) -> CType | str | None:
        if not kind.size and not whole:
            return None
        if not kind.members and anonymous:
            return None  # it is only padding
        if not kind.members:
            spelling = f"{kind.kind} {kind.name}"
            return self._bytes(spelling, kind.size, kind.alignment, f"{spelling} has no fields")
        made = self.struct(kind, whole=whole)
        if made is not None:
            return Nested(made)
        return None  # the problems are those of its members, which are noted already


def _is_flexible(record: RecordType) -> bool:
    """Return whether a struct or union ends with a flexible array member."""
    last = record.members if record.kind == "union" else record.members[-1:]
    for member in last:
        kind = member.type
        if isinstance(kind, ArrayType) and kind.count is None:
            return True
        if isinstance(kind, RecordType) and _is_flexible(kind):
            return True
    return False


def _field_names(record: RecordType) -> Iterator[str]:
    """Yield the names of the members, and of the members of anonymous members."""
    for member in record.members:
        yield member.name
        if member.anonymous and isinstance(member.type, RecordType):
            yield from _field_names(member.type)


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
    struct: weakref.ref[Any]
    stamps: tuple[tuple[str, int, int], ...]

    def is_stale(self) -> bool:
        """Return whether an included file has changed since."""
        return self.stamps != _stamps(path for path, _, _ in self.stamps)


_READ: Final[dict[Request, _Cached]] = {}


def read_struct(request: Request, make: Make[S]) -> S:
    """Return the class for the arguments of `Struct.from_c`, which documents the errors.

    The class of an earlier call is returned while it is in use and no included file has changed.
    """
    cached = _READ.get(request)
    found: S | None = None if cached is None else cached.struct()
    if cached is not None and found is not None and not cached.is_stale():
        return found
    structs, files = _read(request, make, every=False)
    struct = structs[0]
    _READ[request] = _Cached(
        weakref.ref(struct, lambda dead: _forget(request, dead)), _stamps(files)
    )
    return struct


def _forget(request: Request, dead: weakref.ref[Any]) -> None:
    """Drop a class that is no longer in use, unless a newer one has taken its place."""
    cached = _READ.get(request)
    if cached is not None and cached.struct is dead:
        del _READ[request]


def read_structs(request: Request, make: Make[S]) -> list[S]:
    """Return the classes of all structs of a text, or of one struct if the request names it."""
    return _read(request, make, every=request.name is None)[0]


def _line_of(problem: str) -> tuple[str, int]:
    """Return the file and the line of a problem, to sort by."""
    found = re.match(r"(.*?):(\d+):", problem)
    return (found[1], int(found[2])) if found else ("", 0)


def _read(request: Request, make: Make[S], *, every: bool) -> tuple[list[S], tuple[str, ...]]:
    found = c_reader.read(
        request.text,
        request.name,
        options=request.options,
        filename=request.filename,
        every=every,
    )
    # The layout of a text with errors means nothing, but its members can have further problems.
    translator = Translator(request, found.byte_order, None if found.problems else make)
    structs = [translator.struct(record) for record in found.records]
    if problems := [*found.problems, *translator.problems]:
        raise invalid(sorted(problems, key=_line_of))
    return [struct for struct in structs if struct is not None], found.files
