"""Read struct declarations in C with libclang.

The compiler decides everything: the preprocessor's work, sizes, offsets, alignment, the positions
of bit-fields and the types of enums. `read` only describes what it says; see `c_declarations`. The
steps are `c_source` (checks and options), `c_unit` (compile) and `c_description` (describe).

libclang runs in this process. Text that is only wrong raises an error, but a text that was made for
it can use up memory and time, or crash the process. So the text should come from a trusted source,
like the source of a program.
"""

# clang.cindex ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
from __future__ import annotations

import difflib
from typing import Any, Final

from ipckit._payload.c_declarations import Declarations
from ipckit._payload.c_description import Describer
from ipckit._payload.c_problems import Unreadable, invalid
from ipckit._payload.c_source import Options, check_directives, checked_bytes, compiler_arguments
from ipckit._payload.c_unit import parse, pragma_problems
from ipckit._payload.libclang import (
    ENUM,
    STRUCT,
    TYPEDEF,
    UNION,
    VARIABLE,
    clang_library,
    fields_of,
    tag_of,
)

_MOST_NAMES: Final = 5  # of the text, in the error for a name that it does not declare


def read(
    text: str,
    name: str | None,
    *,
    options: Options,
    filename: str = "<text>",
    every: bool = False,
) -> Declarations:
    """Describe a struct or a union of a C text, with everything that it contains.

    The text is a C source or header, or what ``gcc -E`` makes of one. Names such as `uint32_t`,
    `size_t` or `pid_t` are known without an include, unless the text declares them.

    Args:
        text: the C text, from a trusted source: see the module.
        name: a typedef name or a tag, also of an included header, or ``struct TAG`` or ``union
            TAG``. None for the last struct or union with members that the text itself declares. In
            the output of ``gcc -E``, the text itself is all that is not from a system header.
        options: how to compile the text.
        filename: the name of the text in messages. Its directory is searched for
            ``#include "FILE"``.
        every: return all structs and unions with members that the text itself declares outside of
            others, and ignore `name`.

    Returns:
        The description. If the text has problems, sizes and places mean nothing, but the members'
        types can be looked at for further problems.

    Raises:
        InvalidSource: the text declares no such struct, or problems keep it from being described.
            The message has one line for each problem: ``FILE:LINE: PROBLEM``.
        ImportError: the library libclang can't be loaded.
    """
    data = checked_bytes(text, filename)
    arguments, directories = compiler_arguments(options, headers=b"include" in data)
    check_directives(data, filename, directories)
    unit = parse(data, filename, arguments, options)
    problems = unit.problems + pragma_problems(unit, arguments)
    describer = Describer(unit)
    try:
        if every or name is None:
            found = _find_own(describer.cursors, filename, every=every)
        else:
            found = [_find(describer.cursors, filename, name)]
        records = [describer.requested(cursor) for cursor in found]
    except Unreadable as caught:
        # The compiler's errors explain why something is missing.
        problems = problems or caught.problems
        records = []
    problems += describer.problems
    if problems and not records:
        raise invalid(problems)
    return Declarations(tuple(records), describer.byte_order, unit.files(), tuple(problems))


def _find_own(cursors: list[Any], filename: str, *, every: bool) -> list[Any]:
    """Return the structs and unions of the text itself: all of them, or the last one."""
    found: list[Any] = []
    for cursor in reversed(cursors):
        if cursor._kind_id not in (STRUCT, UNION) or not cursor.is_definition():
            continue
        location = cursor.location
        is_own = clang_library().is_from_main_file(location)
        if is_own and not location.is_in_system_header and _has_members(cursor):
            found.append(cursor)
            if not every:
                break
    if not found:
        problem = f"{filename}: the text declares no struct with members"
        includes = any(not clang_library().is_from_main_file(each.location) for each in cursors[2:])
        hint = "; name a struct of a file that it includes" if includes else ""
        raise Unreadable(problem + hint)
    return found[::-1]


def _has_members(cursor: Any) -> bool:
    """Return whether a struct or union has more than unnamed bit-fields."""
    library = clang_library()
    return any(library.spelling(field) or not field.is_bitfield() for field in fields_of(cursor))


def _find(cursors: list[Any], filename: str, name: str) -> Any:
    """Return the declaration of a typedef, a struct or a union by its name."""
    words = name.split()
    kinds = {"struct": {STRUCT}, "union": {UNION}}.get(words[0] if words else "", set())
    wanted = words[-1] if len(words) == 1 + bool(kinds) else "?"
    found: Any = None
    names: set[str] = set()
    own: set[str] = set()
    for cursor in cursors:
        kind = cursor._kind_id
        if kind in (ENUM, VARIABLE):
            continue
        spelling = clang_library().spelling(cursor)
        names.add(spelling)
        if clang_library().is_from_main_file(cursor.location) and spelling.isidentifier():
            own.add(spelling)
        if spelling != wanted or (kinds and (kind not in kinds or not tag_of(cursor))):
            continue
        if kind == TYPEDEF:  # before a tag of the same name
            return cursor
        found = found if found is not None and not cursor.is_definition() else cursor
    found = found if found is not None else _find_inside(cursors, wanted, kinds)
    if found is None:
        near = difflib.get_close_matches(wanted, names, 3) or sorted(own)[:_MOST_NAMES]
        hint = f"; it declares {' and '.join(near)}" if near else ""
        what = name if kinds else f"struct {name}"
        raise Unreadable(f"{filename}: the text declares no {what}{hint}")
    return found


def _find_inside(cursors: list[Any], tag: str, kinds: set[int]) -> Any:
    """Return a struct or union that is declared inside of another one, or None."""
    waiting = [each for each in cursors if each._kind_id in (STRUCT, UNION)]
    while waiting:
        for inner in waiting.pop().get_children():
            if inner._kind_id not in (STRUCT, UNION):
                continue
            if inner._kind_id in (kinds or (STRUCT, UNION)) and tag_of(inner) == tag:
                return inner
            waiting.append(inner)
    return None
