"""Write a C header from a Struct class, and Python source from a C header."""

from __future__ import annotations

import errno
import keyword
import re
from typing import TYPE_CHECKING, Any, Final

from ipckit._core.public import public
from ipckit._payload import fields
from ipckit._payload.arrays import ArrayOf, FlexibleArray
from ipckit._payload.c_declaration import Declaration
from ipckit._payload.c_types import CType, Nested, Raw, Scalar, Text
from ipckit._payload.structs import Struct, StructType
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipckit._payload.plan import Plan

# If ipckit has two names for one C type, the first of them: Float, not Float32.
_PYTHON_NAMES: Final[dict[Scalar, str]] = {
    scalar: name
    for name, scalar in reversed(list(vars(fields).items()))
    if isinstance(scalar, Scalar)
}
_LONGEST_LINE: Final = 99
# C99 has no assertions; __extension__ lets gcc and clang take them without a warning.
_CHECK: Final = """\
#ifdef __cplusplus
#define {0}(what, text) static_assert(what, text)
#else
#define {0}(what, text) __extension__ _Static_assert(what, text)
#endif
"""
# gcc warns if a packed struct has a member of a type that asks for an alignment.
_QUIET: Final = """\
#if defined(__GNUC__) && __GNUC__ >= 8 && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpacked-not-aligned"
#endif

{0}
#if defined(__GNUC__) && __GNUC__ >= 8 && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
"""


# -- to C ------------------------------------------------------------------------------------------


def _asserts(declaration: Declaration, plan: Plan, check: str) -> str:
    """Write the assertions of one struct; bit-fields and flexible arrays have no size in C."""
    name = declaration.type_name(plan)
    aligned = f"__alignof__({name}) == {plan.alignment}"
    lines = [
        f'{check}(sizeof({name}) == {plan.size}, "{name} has {plan.size} bytes");',
        f'{check}({aligned}, "{name} is aligned to {plan.alignment}");',
    ]
    for field, entry in zip(plan.fields, plan.entries, strict=True):
        if field.bits is not None:
            continue
        own = declaration.member_name(plan, field.name)
        place = f"offsetof({name}, {own}) == {field.offset}"
        lines.append(f'{check}({place}, "{name}.{own} is at {field.offset}");')
        if not isinstance(entry.ctype, FlexibleArray):
            size = f"sizeof((({name} *)0)->{own}) == {field.size}"
            lines.append(f'{check}({size}, "{name}.{own} has {field.size} bytes");')
    return "\n".join(lines) + "\n"


@public("ipckit.structs")
def c_header(struct: StructType, origin: str = "") -> str:
    """Write a header for C99, C++11 and later that declares a struct and its nested structs.

    The header has static assertions. They fail if the compiler chooses another size or offset than
    ipckit for a field.

    Args:
        struct: a Struct class with fields.
        origin: the place of the class, for the first comment, such as ``records:Stu``; by default
            the name of the struct.

    Returns:
        The text of the header.

    Raises:
        InvalidArgument: a name is not valid in C, two types have the same name, or C can't place
            the fields there.

    Example:
        >>> from ipckit.structs import Int, Struct, c_header
        >>> class Stu(Struct):
        ...     age: Int
        >>> print(c_header(Stu).splitlines()[0])
        /* Stu, 4 bytes: the layout of Stu. */
    """
    plan = struct.__plan__
    declaration = Declaration(plan)
    guard = re.sub(r"\W", "_", plan.name).upper() + "_H"
    check = f"{guard}_ASSERT"
    includes = sorted({*declaration.headers, "stddef.h"})
    parts = [
        f"/* {plan.name}, {plan.size} bytes: the layout of {origin or plan.name}. */",
        f"/* Fingerprint {plan.fingerprint}; written by `ipckit header`. */\n",
        f"#ifndef {guard}\n#define {guard}\n",
        "".join(f"#include <{header}>\n" for header in includes),
        _QUIET.format(declaration.types) if declaration.misaligns else declaration.types,
        _CHECK.format(check),
        *(_asserts(declaration, each, check) for each in declaration.plans),
        f"#undef {check}\n#endif /* {guard} */\n",
    ]
    return "\n".join(parts)


# -- to Python -------------------------------------------------------------------------------------


def _annotation(ctype: CType, used: set[str]) -> str:
    """Return the annotation of a field, and add the names that it needs from ipckit to `used`."""
    if isinstance(ctype, Text | Raw):
        name = "Char" if isinstance(ctype, Text) else "Bytes"
        used.add(name)
        return f"{name}[{ctype.size}]"
    if isinstance(ctype, ArrayOf):
        used.add("Array")
        return f"Array[{_annotation(ctype.item, used)}, {ctype.count}]"
    if isinstance(ctype, Nested):
        return ctype.struct.__name__
    assert isinstance(ctype, Scalar)  # noqa: S101 - the last kind of C type
    name = _PYTHON_NAMES[ctype]
    used.add(name)
    return name


def _class(plan: Plan, used: set[str]) -> str:
    packed = ", packed=True" if plan.rules.packed else ""
    lines = [f"class {plan.name}(Struct{packed}):  # {plan.size} bytes"]
    for name, ctype, _ in plan.members:
        # In a class body, Python changes the name __x to _Class__x.
        if keyword.iskeyword(name) or (name.startswith("__") and not name.endswith("__")):
            message = f"{plan.name}.{name}: a class in Python can't declare a field of that name"
            hint = "Struct.from_c accepts the name; use getattr and setattr for the field"
            raise InvalidArgument(message, errno=errno.EINVAL, hint=hint)
        lines.append(f"    {name}: {_annotation(ctype, used)}")
    return "\n".join(lines) + "\n"


def _import(names: set[str]) -> str:
    line = f"from ipckit import {', '.join(sorted(names))}"
    if len(line) <= _LONGEST_LINE:
        return line + "\n"
    return "from ipckit import (\n" + "".join(f"    {name},\n" for name in sorted(names)) + ")\n"


def _all_structs(source: str, name: str | None) -> list[Plan]:
    """Return the plans of all structs of C text, or of one struct and its nested structs."""
    try:
        from ipckit._payload import c_parser  # noqa: PLC0415
    except ImportError as exc:
        raise InvalidArgument(str(exc), errno=errno.EINVAL) from None
    made: list[Plan] = []

    def make(class_name: str, types: Mapping[str, CType], packed: bool) -> StructType:  # noqa: FBT001
        namespace: dict[str, Any] = {"__annotations__": dict(types), "__module__": __name__}
        struct = StructType(class_name, (Struct,), namespace, packed=packed)
        made.append(struct.__plan__)
        return struct

    last = c_parser.parse(source, name, make)
    return made if name is None else list(dict.fromkeys(last.__plan__.inner_first()))


@public("ipckit.structs")
def python_source(source: str, name: str | None = None, origin: str = "") -> str:
    """Write Python source that declares the structs of C text as Struct classes.

    Args:
        source: C text, as for `Struct.from_c`.
        name: the struct to declare, with its nested structs; by default all structs.
        origin: the place of the text, for the docstring of the source, such as ``stu.h``.

    Returns:
        The Python source.

    Raises:
        InvalidArgument: the text is not C, it does not declare the struct, it has a part that is
            not supported, or pycparser is not installed.

    Example:
        >>> from ipckit.structs import python_source
        >>> print(python_source("typedef struct { int age; } Stu;").splitlines()[-1])
            age: Int
    """
    used = {"Struct"}
    classes = [_class(plan, used) for plan in _all_structs(source, name)]
    title = f"The structs of {origin}" if origin else "Structs of C"
    head = f'"""{title}; written by ``ipckit header``."""\n'
    return "\n\n".join(["\n".join([head, _import(used)]), *classes])
