"""Compile a C text with libclang, and read what the compiler says about it."""

# clang.cindex ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any, Final

from ipckit._core.cached import cached_property
from ipckit._payload import c_includes, c_pragmas
from ipckit._payload.c_known_names import DECLARED_BY, declaration_of
from ipckit._payload.c_problems import invalid, looks_like_macro, undefined_macro
from ipckit._payload.c_source import PRELUDE_FILE, Options, compiler_arguments, no_target
from ipckit._payload.libclang import (
    ParseError,
    clang_library,
    is_union,
    tag_of,
    thread_index,
)

# It declares an enum, which is the first declaration: the byte order, and the size of a pointer.
_PRELUDE: Final = (
    "enum { __ipckit_big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__,"
    " __ipckit_pointer = sizeof(void *) };\n"
)
_ROUNDS: Final = 10  # a name that is declared can show that another one is unknown
_PARSE_OPTIONS: Final = 0x40 | 0x200  # skip the bodies of functions; go on after a missing file
_ERROR: Final = 3
_LIMIT_REACHED: Final = "too many errors emitted, stopping now"
_UNKNOWN_NAME: Final = re.compile(r"unknown type name '(\w+)'")
# What clang says of an unnamed bit-field of an unknown type: `uint32_t : 0;`.
_NO_TYPE: Final = "type name requires a specifier or qualifier"
_DECLARE_IT: Final = "; declare it, or include the header that does"
_NAME: Final = re.compile(rb"\w+")
_INCOMPLETE: Final = re.compile(
    r"(?:tentative definition has|variable has incomplete) type '\w+ (\w+)'"
)
_NO_FILE: Final = re.compile(r"'(.*)' file not found")
# An attribute of gcc that changes the bytes. clang ignores it.
_STORAGE_ORDER: Final = "scalar_storage_order"


class Unit:
    """A text that was compiled, and what the compiler says about it.

    Args:
        unit: the translation unit of `clang.cindex`.
        filename: the name of the text.
        data: the text.
        target: the LLVM triple of the target; None for this machine.

    Attributes:
        unknown: the names of types that are not declared.
        problems: what the compiler refuses, each with file and line.
    """

    def __init__(self, unit: Any, filename: str, data: bytes, target: str | None) -> None:
        self.unit = unit
        self._target = target
        self.filename = filename
        self.data = data
        self.unknown: set[str] = set()
        self.problems: list[str] = []
        for diagnostic in unit.diagnostics:
            problem = self._problem(diagnostic)
            if problem:
                location = clang_library().location(diagnostic.location)
                where = f"{location}: {self._member_at(diagnostic.location)}"
                self.problems.append(f"{where}{problem}" if location.line else problem)

    def _member_at(self, location: Any) -> str:
        """Return the struct and the member at a location as text; "" if there is none."""
        library = clang_library()
        field = library.field_at(self.unit, location)
        if field is None:
            return ""
        outer = field.semantic_parent
        kind = "union" if is_union(outer) else "struct"
        return f"{kind} {tag_of(outer) or '(no name)'}, member {library.spelling(field)}: "

    def _problem(self, diagnostic: Any) -> str:
        """Return what to say of a diagnostic, or "" for one that does not matter.

        Adds the name of an unknown type to `unknown`.
        """
        spelling = clang_library().message(diagnostic)
        is_error = diagnostic.severity >= _ERROR
        if spelling == _LIMIT_REACHED or not (is_error or _STORAGE_ORDER in spelling):
            return ""
        if unknown := _UNKNOWN_NAME.search(spelling):
            self.unknown.add(unknown[1])
            spelling += _DECLARE_IT
        if missing := _NO_FILE.search(spelling):
            return (
                f"the included file {missing[1]} is not found; name its directory in include_dirs="
            )
        if not is_error:
            return c_pragmas.NO_STORAGE_ORDER
        is_own = clang_library().is_from_main_file(diagnostic.location)
        name = _NAME.match(self.data, diagnostic.location.offset) if is_own else None
        if spelling == _NO_TYPE and name is not None:
            self.unknown.add(os.fsdecode(name[0]))
            return f"unknown type name '{os.fsdecode(name[0])}'{_DECLARE_IT}"
        # `struct PACKED s { ... }` declares a variable s if PACKED is no macro.
        unfinished = _INCOMPLETE.search(spelling)
        if unfinished and looks_like_macro(unfinished[1]):
            return undefined_macro(unfinished[1])
        return spelling

    def _included(self) -> tuple[str, ...]:
        """Return the names of the included files, as the compiler writes them."""
        library = clang_library()
        own = {PRELUDE_FILE, self.filename}
        names = (library.file_name(each.include) for each in self.unit.get_includes())
        return tuple(each for each in dict.fromkeys(names) if each not in own)

    def files(self) -> tuple[str, ...]:
        """Return the absolute paths of the included files."""
        return tuple(dict.fromkeys(map(os.path.abspath, self._included())))

    @cached_property
    def pragmas(self) -> dict[str, list[c_pragmas.Pragma]]:
        """The pragmas of the own files that matter for the layout, by the name of the file."""
        found = {name: c_pragmas.pragmas(data) for name, data in self.own_files.items()}
        return {name: each for name, each in found.items() if each}

    @cached_property
    def own_files(self) -> dict[str, bytes]:
        """The text and the included files that are not the system's, by name."""
        found = {self.filename: self.data}
        included = self._included()
        if not included:
            return found
        system = tuple(f"{each}/" for each in c_includes.directories(self._target))
        for name in included:
            if not name.startswith(system):
                with contextlib.suppress(OSError):
                    found[name] = Path(name).read_bytes()
        return found


def parse(data: bytes, filename: str, arguments: list[bytes], options: Options) -> Unit:
    """Parse a text. If it uses a well-known type without declaring it, declare it and retry."""
    prelude = [_PRELUDE]
    declared: set[str] = set()
    while True:
        try:
            unit = thread_index().parse(
                os.fsencode(filename),
                args=arguments,
                unsaved_files=[(os.fsencode(filename), data), (PRELUDE_FILE, "".join(prelude))],
                options=_PARSE_OPTIONS,
            )
        except ParseError:
            if options.target is not None:
                raise invalid([no_target(options.target)]) from None
            raise invalid([f"{filename}: libclang can't parse the text"]) from None
        parsed = Unit(unit, filename, data, options.target)
        missing = sorted((parsed.unknown & DECLARED_BY.keys()) - declared)
        if not missing or len(prelude) > _ROUNDS:
            return parsed
        declared.update(missing)
        lines = dict.fromkeys(declaration_of(name, options.target) for name in missing)
        prelude.append("".join(f"{line}\n" for line in lines))
        if "#include" in prelude[-1]:
            arguments, _ = compiler_arguments(options, headers=True)


def pragma_problems(unit: Unit, arguments: list[bytes]) -> list[str]:
    """Return the problems of the pragmas that gcc and clang treat differently.

    Many texts have such a pragma for another compiler between ``#ifdef`` and ``#endif``. So the
    text is compiled again with ``#error`` in its place, which shows whether it is in effect.
    """
    files = {
        name: [each for each in pragmas if each.problem] for name, pragmas in unit.pragmas.items()
    }
    if not any(files.values()):
        return []
    changed = dict(unit.own_files) | {PRELUDE_FILE: _PRELUDE.encode()}
    found: list[str] = []
    marks: dict[str, str] = {}
    for name, pragmas in files.items():
        for each in reversed(pragmas):
            data = changed[name]
            line = unit.own_files[name].count(b"\n", 0, each.start) + 1
            problem = f"{name}:{line}: {each.problem}"
            if not each.is_directive:
                found.append(problem)
                continue
            mark = f"{PRELUDE_FILE} {len(marks)};"
            marks[mark] = problem
            changed[name] = data[: each.start] + f"#error {mark}".encode() + data[each.end :]
    if marks:
        again = thread_index().parse(
            os.fsencode(unit.filename),
            args=[*arguments, b"-ferror-limit=0"],
            unsaved_files=[(os.fsencode(name), data) for name, data in changed.items()],
            options=_PARSE_OPTIONS,
        )
        said = "\n".join(clang_library().message(each) for each in again.diagnostics)
        found += [problem for mark, problem in marks.items() if mark in said]
    return found
