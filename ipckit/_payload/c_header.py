"""Write a C header from a Struct class, and Python source from a C header."""

from __future__ import annotations

import errno
import keyword
import re
from typing import TYPE_CHECKING, Final

from ipckit._core.public import public
from ipckit._payload import fields
from ipckit._payload.arrays import ArrayOf
from ipckit._payload.c_types import CType, Nested, Raw, Scalar, Text
from ipckit._payload.structs import StructType, c_reader_options, made_by_layout
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from ipckit._payload.plan import Plan

# If ipckit has two names for one C type, the first of them: Float, not Float32.
_PYTHON_NAMES: Final[dict[Scalar, str]] = {
    scalar: name
    for name, scalar in reversed(list(vars(fields).items()))
    if isinstance(scalar, Scalar)
}
_LONGEST_LINE: Final = 99


# -- to C ------------------------------------------------------------------------------------------


def _asserts(plan: Plan) -> str:
    name = plan.name
    lines = [f'_Static_assert(sizeof({name}) == {plan.size}, "{name} has {plan.size} bytes");']
    for field in plan.fields:
        place = f"offsetof({name}, {field.name}) == {field.offset}"
        size = f"sizeof((({name} *)0)->{field.name}) == {field.size}"
        lines.append(f'_Static_assert({place}, "{name}.{field.name} is at {field.offset}");')
        lines.append(f'_Static_assert({size}, "{name}.{field.name} has {field.size} bytes");')
    return "\n".join(lines) + "\n"


@public("ipckit.structs")
def c_header(struct: StructType, origin: str = "") -> str:
    """Write a header for C11, C++11 and later that declares a struct and its nested structs.

    The header has static assertions. They fail if the compiler chooses another size or offset than
    ipckit for a field.

    Args:
        struct: a Struct class with fields.
        origin: the place of the class, for the first comment, such as ``records:Stu``; by default
            the name of the struct.

    Returns:
        The text of the header.

    Raises:
        InvalidArgument: a name is not valid in C, or two structs have the same name.

    Example:
        >>> from ipckit.structs import Int, Struct, c_header
        >>> class Stu(Struct):
        ...     age: Int
        >>> print(c_header(Stu).splitlines()[0])
        /* Stu, 4 bytes: the layout of Stu. */
    """
    plan = struct.__plan__
    guard = re.sub(r"\W", "_", plan.name).upper() + "_H"
    includes: list[str] = []
    declarations: list[str] = []
    for line in struct.c_declaration().splitlines():
        (includes if line.startswith("#include") else declarations).append(line)
    includes = sorted({*includes, "#include <stddef.h>"})
    parts = [
        f"/* {plan.name}, {plan.size} bytes: the layout of {origin or plan.name}. */",
        f"/* Fingerprint {plan.fingerprint}; written by `ipckit header`. */\n",
        f"#ifndef {guard}\n#define {guard}\n",
        "\n".join(includes) + "\n",
        "#ifdef __cplusplus\n#define _Static_assert static_assert\n#endif\n",
        "\n".join(declarations).strip() + "\n",
    ]
    seen: dict[str, Plan] = {each.name: each for each in plan.inner_first()}
    parts.extend(_asserts(each) for each in seen.values())
    return "\n".join([*parts, f"#endif /* {guard} */\n"])


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


@public("ipckit.structs")
def python_source(
    source: str,
    name: str | None = None,
    origin: str = "",
    *,
    include_dirs: Iterable[str | os.PathLike[str]] = (),
    defines: Mapping[str, str] | None = None,
    target: str | None = None,
    opaque: bool = False,
) -> str:
    """Write Python source that declares the structs of C text as Struct classes.

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
        InvalidArgument: a class in Python can't declare a field of that name.

    Example:
        >>> from ipckit.structs import python_source
        >>> print(python_source("typedef struct { int age; } Stu;").splitlines()[-1])
            age: Int
    """
    from ipckit._payload import c_structs  # noqa: PLC0415 - it needs libclang

    options = c_reader_options(include_dirs, defines, target)
    request = c_structs.Request(source, name, "native", options, opaque, origin or "<text>")
    structs = c_structs.read_structs(request, made_by_layout)
    plans = list(dict.fromkeys(each for s in structs for each in s.__plan__.inner_first()))
    used = {"Struct"}
    classes = [_class(plan, used) for plan in plans]
    title = f"The structs of {origin}" if origin else "Structs of C"
    head = f'"""{title}; written by ``ipckit header``."""\n'
    return "\n\n".join(["\n".join([head, _import(used)]), *classes])
