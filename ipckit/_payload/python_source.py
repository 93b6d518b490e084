"""Write Python source that declares Struct classes, such as those of a C header."""

from __future__ import annotations

import enum
import errno
import keyword
import re
from typing import TYPE_CHECKING, Final

from ipckit._core.public import public
from ipckit._payload import fields
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
from ipckit._payload.fields import enum_integer
from ipckit._payload.nesting import enums_of, innermost
from ipckit._payload.structs import made_by_layout
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ipckit._payload.plan import Plan
    from ipckit._payload.structs import StructType

# If ipckit has two names for one C type, the first of them: Float, not Float32.
_PYTHON_NAMES: Final[dict[Scalar, str]] = {
    scalar: name
    for name, scalar in reversed(list(vars(fields).items()))
    if isinstance(scalar, Scalar)
}
_LONGEST_LINE: Final = 99


class _Source:
    """The source of some classes: their names, and the names that they need.

    Raises:
        InvalidArgument: two classes have the same name.
    """

    def __init__(self, structs: Sequence[StructType]) -> None:
        self.plans = tuple(_inner_first([struct.__plan__ for struct in structs]))
        self.enums = tuple(dict.fromkeys(enums_of(_members(self.plans))))
        self.used: set[str] = set()  # from ipckit
        self._names = self._name_classes()
        self._taken = set(self._names.values())
        self._annotates = False

    def _name_classes(self) -> dict[int, str]:
        """Name the classes. That of an anonymous member has no name in C, so it can be changed."""
        found = {id(each): each.__name__ for each in self.enums}
        free = _anonymous_only(self.plans)
        found |= {id(plan): plan.name for plan in self.plans if id(plan) not in free}
        names = list(found.values())
        for name in names:
            if names.count(name) > 1:
                message = f"two types are named {name!r}; a Python module can have one of them"
                raise InvalidArgument(message, errno=errno.EINVAL)
        for key, name in found.items():
            if keyword.iskeyword(name):
                found[key] = _unused(f"{name}_", names)
        for plan in self.plans:
            if id(plan) in free:
                found[id(plan)] = _unused(re.sub(r"\W", "_", f"{plan.name}"), found.values())
        return found

    # -- annotations -------------------------------------------------------------------------------

    def imported(self, name: str) -> str:
        """Return the name of a type of ipckit, which another one has if a class takes it."""
        self.used.add(name)
        return _unused(name, self._taken)

    def annotation(self, ctype: CType) -> str:  # noqa: PLR0911 - one for each kind of type
        """Return the annotation of a member."""
        match ctype:
            case Text() | Raw():
                return f"{self._text(ctype)}[{ctype.size}]"
            case FlexibleArray() if ctype.is_bytes:
                return f"{self._text(ctype.item)}[...]"
            case FlexibleArray():
                return f"{self.imported('Array')}[{self.annotation(ctype.item)}, ...]"
            case ArrayOf():
                return f"{self.imported('Array')}[{self.annotation(ctype.item)}, {ctype.count}]"
            case Nested():
                name = self._names[id(ctype.struct.__plan__)]
                return f"{self.imported('Anonymous')}[{name}]" if ctype.anonymous else name
            case Scalar():
                return self.imported(_scalar_name(ctype))
            case Enumeration():
                return self._enumeration(ctype)
            case BitField():
                return f"{self.imported('Bits')}[{self.annotation(ctype.unit)}, {ctype.width}]"
            case Aligned():
                return f"{self.imported('Aligned')}[{self.annotation(ctype.item)}, {ctype.least}]"
            case At():
                byte, bit = divmod(ctype.bit, 8)
                place = f"{byte}, {bit}" if bit else f"{byte}"
                return f"{self.imported('At')}[{self.annotation(ctype.item)}, {place}]"
            case Opaque():
                return self._opaque(ctype)
            case _:
                message = f"{type(ctype).__name__} has no annotation"
                raise TypeError(message)

    def _text(self, ctype: CType) -> str:
        return self.imported("Char" if isinstance(ctype, Text) else "Bytes")

    def _enumeration(self, ctype: Enumeration) -> str:
        name = self._names[id(ctype.members)]
        usual = enum_integer(ctype.members)
        if (usual.code, usual.size) == (ctype.integer.code, ctype.integer.size):
            return name
        return self._annotated(name, self.imported(_scalar_name(ctype.integer)))

    def _annotated(self, hint: str, part: str) -> str:
        self._annotates = True
        return f"{_unused('Annotated', self._taken)}[{hint}, {part}]"

    def _opaque(self, ctype: Opaque) -> str:
        parts = [str(ctype.size)]
        if ctype.alignment > 1 or ctype.spelling:
            parts.append(str(ctype.alignment))
        if ctype.spelling:
            text = ctype.spelling.replace("\\", "\\\\").replace('"', '\\"')
            parts.append(f'"{text}"')
        opaque = f"{self.imported('Opaque')}[{', '.join(parts)}]"
        # Elsewhere type checkers would take the text for a type.
        return self._annotated("bytes", opaque) if ctype.spelling else opaque

    # -- classes -----------------------------------------------------------------------------------

    def struct(self, plan: Plan) -> str:
        """Write the class of a struct."""
        rules = plan.rules
        words = [self.imported("Union" if rules.union else "Struct")]
        words += [f"packed={rules.packed if rules.packed > 1 else True}"] * bool(rules.packed)
        words += [f"align={rules.align}"] * (rules.align > 1)
        words += [f"size={rules.size}"] * bool(rules.size)
        words += [f'endian="{plan.endian}"'] * (plan.endian != "native")
        lines = [f"class {self._names[id(plan)]}({', '.join(words)}):  # {plan.size} bytes"]
        fields = {entry.name for entry in plan.entries}
        for name, ctype, name_in_c in _declared(plan):
            text = self.annotation(ctype)
            # In a class body, Python changes the name __x to _Class__x, but not in a text.
            if any(map(_is_private, re.findall(r"\w+", re.sub('".*"', "", text)))):
                text = repr(text) if '"' in text else f'"{text}"'
            note = "" if name == name_in_c or name_in_c not in fields else f"  # {name_in_c} in C"
            lines.append(f"    {name}: {text}{note}")
        return "\n".join(lines) + "\n"

    def enumeration(self, members: type[enum.IntEnum | enum.IntFlag]) -> str:
        """Write the class of an enum."""
        base = _unused(_base(members), self._taken)
        name = self._names[id(members)]
        values = {key: int(value) for key, value in members.__members__.items()}
        if any(keyword.iskeyword(key) or key.startswith("__") for key in values):
            items = ", ".join(f'"{key}": {value}' for key, value in values.items())
            return f'{name} = {base}("{name}", {{{items}}})\n'
        rows = [f"    {key} = {value}" for key, value in values.items()] or ["    pass"]
        return "\n".join([f"class {name}({base}):", *rows]) + "\n"

    def imports(self) -> str:
        """Write the import statements that the classes need."""
        lines: list[str] = []
        if bases := sorted({_base(each) for each in self.enums}):
            lines.append(f"from enum import {self._listed(bases)}\n")
        if self._annotates:
            lines.append(f"from typing import {self._listed(['Annotated'])}\n")
        line = f"from ipckit import {self._listed(sorted(self.used))}"
        if len(line) > _LONGEST_LINE:
            rows = "".join(f"    {self._listed([name])},\n" for name in sorted(self.used))
            line = f"from ipckit import (\n{rows})"
        return "".join(lines) + "\n" * bool(lines) + line + "\n"

    def _listed(self, names: Iterable[str]) -> str:
        """Write imported names, each with the other name that it has if a class takes it."""
        given = {name: _unused(name, self._taken) for name in names}
        return ", ".join(n if n == own else f"{n} as {own}" for n, own in given.items())


def _base(members: type[enum.IntEnum | enum.IntFlag]) -> str:
    return "IntFlag" if issubclass(members, enum.IntFlag) else "IntEnum"


def _scalar_name(scalar: Scalar) -> str:
    """Return the name of a number's type in ipckit."""
    for known, name in _PYTHON_NAMES.items():
        if known == scalar:
            return name
    same = (scalar.code, scalar.size, scalar.alignment)
    return next(
        name
        for known, name in reversed(_PYTHON_NAMES.items())
        if (known.code, known.size, known.alignment) == same
    )


def _unused(name: str, taken: Iterable[str]) -> str:
    """Return the name, with as many trailing underscores as it needs to be none of the others."""
    names = set(taken)
    while name in names:
        name += "_"
    return name


def _members(plans: Iterable[Plan]) -> Iterator[CType]:
    """Yield the types of all members, and of the items of arrays."""
    for plan in plans:
        for ctype in plan.types.values():
            yield innermost(ctype)


def _inner_first(plans: Iterable[Plan]) -> Iterator[Plan]:
    """Yield each struct once, after those that are nested in it."""
    seen: set[int] = set()

    def walk(plan: Plan) -> Iterator[Plan]:
        if id(plan) in seen:
            return
        seen.add(id(plan))
        for ctype in _members([plan]):
            if isinstance(ctype, Nested):
                yield from walk(ctype.struct.__plan__)
        yield plan

    for plan in plans:
        yield from walk(plan)


def _anonymous_only(plans: Sequence[Plan]) -> set[int]:
    """Return the ids of the structs that are only anonymous members of others."""
    nested = [each for each in _members(plans) if isinstance(each, Nested)]
    named = {id(each.struct.__plan__) for each in nested if not each.anonymous}
    return {id(each.struct.__plan__) for each in nested if each.anonymous} - named


def _is_private(name: str) -> bool:
    """Return whether Python changes the name in a class body."""
    return name.startswith("__") and not name.endswith("__")


def _declared(plan: Plan) -> Iterator[tuple[str, CType, str]]:
    """Yield the name and the type of each member as a class body declares it, and its name in C.

    A class body can't declare a keyword of Python, and it changes a name that begins with ``__``:
    ``class`` becomes ``class_``, and ``__pad`` becomes ``_pad``.
    """
    names = {entry.name for entry in plan.entries} | set(plan.types)
    members = {member.name: member for member in plan.members}
    for name, ctype in plan.types.items():
        own = name
        if not name.isidentifier() or keyword.iskeyword(name) or _is_private(name):
            is_field = name in members and members[name].inner is None
            own = (
                "_" if not is_field else name if keyword.iskeyword(name) else f"_{name.lstrip('_')}"
            )
            own = _unused(f"{own}_" if keyword.iskeyword(own) else own, names)
            names.add(own)
        yield own, ctype, name


def python_text(structs: Sequence[StructType], origin: str = "") -> str:
    """Write Python source that declares Struct classes, with those that are nested in them.

    Args:
        structs: the classes.
        origin: the place where they were declared, such as ``stu.h``, for the docstring.

    Returns:
        The Python source.

    Raises:
        InvalidArgument: two classes have the same name.
    """
    source = _Source(structs)
    classes = [source.enumeration(each) for each in source.enums]
    classes += [source.struct(plan) for plan in source.plans]
    title = f"The structs of {origin}" if origin else "Structs of C"
    head = f'"""{title}; written by ``ipckit header``."""\n'
    return "\n\n".join([f"{head}\n{source.imports()}", *classes])


@public("ipckit.structs")
def python_source(
    source: str,
    name: str | None = None,
    origin: str = "",
    *,
    include_dirs: Iterable[str | os.PathLike[str]] = (),
    defines: Mapping[str, str | int] | None = None,
    target: str | None = None,
    opaque: bool = False,
) -> str:
    """Write Python source that declares the structs of C text as Struct classes.

    A class body can't declare every name of C: ``class`` becomes ``class_`` and ``__pad`` becomes
    ``_pad``, with a comment.

    Args:
        source: C text, as for `Struct.from_c`.
        name: the struct to declare, with its nested structs; by default all structs that the text
            itself declares, but not those of the files that it includes.
        origin: the place of the text, for errors and for the docstring of the source, such as
            ``stu.h``.
        include_dirs: as for `Struct.from_c`.
        defines: as for `Struct.from_c`.
        target: as for `Struct.from_c`.
        opaque: as for `Struct.from_c`.

    Returns:
        The Python source.

    Raises:
        ImportError: libclang is not installed; ``pip install libclang``.
        InvalidSource: as for `Struct.from_c`.
        InvalidArgument: two structs have the same name.

    Example:
        >>> from ipckit.structs import python_source
        >>> print(python_source("typedef struct { int age; } Stu;").splitlines()[-1])
            age: Int
    """
    from ipckit._payload import c_structs  # noqa: PLC0415 - it needs libclang
    from ipckit._payload.c_source import Options  # noqa: PLC0415 - it is slow to import

    options = Options.of(include_dirs, defines, target)
    request = c_structs.Request(source, name, "native", options, opaque, origin or "<text>")
    structs = c_structs.read_structs(request, made_by_layout)
    return python_text(structs, origin)
