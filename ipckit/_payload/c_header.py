"""Write a C header from a Struct class: its declaration, and assertions of its layout."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ipckit._core.public import public
from ipckit._payload.arrays import FlexibleArray

if TYPE_CHECKING:
    from ipckit._payload.c_declaration import Declaration
    from ipckit._payload.plan import Plan
    from ipckit._payload.structs import StructType

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
    # Few programs need it, and it takes long to import.
    from ipckit._payload.c_declaration import Declaration  # noqa: PLC0415

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
