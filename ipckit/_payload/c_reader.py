"""Read struct declarations in C with libclang.

The compiler decides everything: the preprocessor's work, sizes, offsets, alignment, the positions
of bit-fields and the types of enums. `read` only describes what it says, see `c_declarations`.

libclang runs in this process. Text that is only wrong raises an error, but a text that was made for
it can use up memory and time, or crash the process. So the text should come from a trusted source,
like the source of a program.
"""

# clang.cindex ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
from __future__ import annotations

import contextlib
import ctypes
import difflib
import os
import re
import stat
import threading
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import ipckit._native as native
from ipckit._payload import c_includes, c_pragmas
from ipckit._payload.c_declarations import (
    ArrayType,
    Declarations,
    EnumType,
    Member,
    OpaqueType,
    Place,
    RecordType,
    ScalarType,
    Type,
)
from ipckit._payload.c_known_names import DECLARED_BY
from ipckit.errors import InvalidSource

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    from clang import cindex
except ImportError as error:
    message = "Struct.from_c needs libclang: pip install libclang"
    raise ImportError(message, name="clang") from error


@dataclass(frozen=True)
class Options:
    """How to compile a text.

    Attributes:
        include_dirs: directories of headers, searched before the system's.
        defines: names and values of macros.
        target: an LLVM triple, such as `aarch64-linux-gnu`; None for this machine.
    """

    include_dirs: tuple[str, ...] = ()
    defines: tuple[tuple[str, str], ...] = ()
    target: str | None = None


# Numbers of clang-c/Index.h, which are the same in all versions. cindex has classes for them, which
# raise an error for a number that is newer than cindex.
_STRUCT: Final = 2
_UNION: Final = 3
_ENUM: Final = 5
_ENUMERATOR: Final = 7
_VARIABLE: Final = 9
_TYPEDEF: Final = 20
_UNKNOWN_ATTRIBUTE: Final = 400  # one of those that libclang does not name
_ALIGNED: Final = 441
_DECLARATIONS: Final = frozenset({_STRUCT, _UNION, _ENUM, _VARIABLE, _TYPEDEF})

_T_SIGNED_CHAR: Final = 13  # a plain char that is signed
_T_RECORD: Final = 105
_T_ENUM: Final = 106
_T_TYPEDEF: Final = 107
_T_CONSTANT_ARRAY: Final = 112
_T_INCOMPLETE_ARRAY: Final = 114
_T_ELABORATED: Final = 119
_T_VECTOR: Final = 113
_T_EXT_VECTOR: Final = 176
_T_ATOMIC: Final = 177
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
    _T_ATOMIC: "the compiler chooses the layout of this _Atomic type",
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

_PRELUDE_FILE: Final = "/<ipckit>/prelude.h"  # it exists for the compiler only
# It declares an enum, which is the first declaration: the byte order, and the size of a pointer.
_PRELUDE: Final = (
    "enum { __ipckit_big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__,"
    " __ipckit_pointer = sizeof(void *) };\n"
)
_ROUNDS: Final = 10  # a name that is declared can show that another one is unknown
_ARGUMENTS: Final = (
    "-xc",
    "-std=gnu17",
    "-nostdinc",
    "-fno-spell-checking",
    "-ferror-limit=100",
    "-Wno-everything",
    # These two are errors in gcc.
    "-Werror=enum-too-large",
    "-Wunknown-attributes",  # see _STORAGE_ORDER
    # gcc's preprocessed output has this attribute with arguments, which clang refuses.
    "-D__malloc__(...)=__malloc__",
)
_PARSE_OPTIONS: Final = 0x40 | 0x200  # skip the bodies of functions; go on after a missing file
_ERROR: Final = 3
_LIMIT_REACHED: Final = "too many errors emitted, stopping now"
_UNKNOWN_NAME: Final = re.compile(r"unknown type name '(\w+)'")
# What clang says of an unnamed bit-field of an unknown type: `uint32_t : 0;`.
_NO_TYPE: Final = "type name requires a specifier or qualifier"
_NAME: Final = re.compile(rb"\w+")
_INCOMPLETE: Final = re.compile(
    r"(?:tentative definition has|variable has incomplete) type '\w+ (\w+)'"
)
_NO_FILE: Final = re.compile(r"'(.*)' file not found")
# An attribute of gcc that changes the bytes. clang ignores it.
_STORAGE_ORDER: Final = "scalar_storage_order"
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
# A macro that is not defined looks like a variable after a struct's brace.
_MACRO_LIKE: Final = re.compile(r"\w*(?i:packed|align|attribute)\w*|[A-Z0-9_]*PACK(?!ET)\w*")
_MACRO: Final = re.compile(r"[A-Za-z_]\w*(?:\([\w\s,.]*\))?")
_TRIPLE: Final = re.compile(r"[A-Za-z0-9_.-]+")
_INCLUDE: Final = re.compile(
    rb"""^[ \t]*(?:\#|%:)[ \t]*include(?:_next)?[ \t]*["<]([^">\n]+)[">]""", re.MULTILINE
)
_MOST_LINES: Final = 20
# See _is_too_deep.
_MOST_OPERATORS: Final = 1000  # between separators; an opening parenthesis counts, as in a cast
_DEEPEST_BRACKETS: Final = 10_000
_COMMENT: Final = re.compile(rb"/\*.*?\*/|//[^\n]*", re.DOTALL)
_OPENING: Final = b"([{"
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"()[]{}"))
_SEPARATORS: Final = b",;{}#"
_SEPARATORS_TO_LINES: Final = bytes.maketrans(_SEPARATORS, b"\n" * len(_SEPARATORS))
_NOT_OPERATORS: Final = bytes(set(range(256)) - set(_SEPARATORS + b"(-+~!*&?:/%<>|^="))
_MOST_TOKENS: Final = 1 << 22  # of a macro
_DEFINE: Final = re.compile(rb"^[ \t]*#[ \t]*define[ \t]+(\w+)((?:\\\r?\n|[^\n])*)", re.MULTILINE)
_WORD: Final = re.compile(rb"[A-Za-z_]\w*")
_MOST_MEMBERS: Final = 10_000  # libclang's search for an offset is linear: a second for all of them
_DEEPEST: Final = 100  # arrays and structs inside each other


def _invalid(problems: list[str]) -> InvalidSource:
    """Return the error that names all problems, one on each line."""
    lines = list(dict.fromkeys(problems))
    if len(lines) > _MOST_LINES:
        rest = len(lines) - _MOST_LINES
        lines[_MOST_LINES:] = [f"and {rest} more"]
    return InvalidSource(lines)


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

    Raises:
        InvalidSource: the text is no valid C, or declares no such struct. The message has one
            line for each problem: ``FILE:LINE: PROBLEM``.
        ImportError: the library libclang can't be loaded.
    """
    data = _encoded(text, filename)
    arguments, directories = _arguments(options)
    _check_directives(data, filename, directories)
    unit = _parse(data, filename, arguments, options)
    problems = unit.problems + _pragma_problems(unit, arguments)
    reader = _Reader(unit)
    try:
        cursors = reader.find_own(every=every) if every or name is None else [reader.find(name)]
        records = [reader.requested(cursor) for cursor in cursors]
    except _Unreadable as caught:
        # The compiler's errors explain why something is missing.
        problems = problems or caught.problems
        records = []
    if problems := problems + reader.problems:
        raise _invalid(problems)
    return Declarations(tuple(records), reader.byte_order, unit.files())


class _Differs(Exception):  # noqa: N818 - it never leaves this module
    """gcc and clang disagree about a type."""


class _Unreadable(Exception):  # noqa: N818 - it never leaves this module
    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = list(problems)


# -- the compiler ----------------------------------------------------------------------------------


class _String(ctypes.Structure):
    """CXString."""

    _fields_ = (("data", ctypes.c_void_p), ("flags", ctypes.c_uint))


class _Library:
    """Functions of libclang that cindex does not declare, or whose strings it takes for UTF-8.

    Names of types and messages contain the paths of files, which can be any bytes.
    """

    def __init__(self) -> None:
        try:
            self._lib: Any = cindex.conf.lib
        except cindex.LibclangError as error:
            reason = str(error).partition(". To provide")[0]  # a path, which is no setting here
            message = f"Struct.from_c needs libclang: pip install libclang ({reason})"
            raise ImportError(message, name="clang") from error
        self._c_string = self._function("clang_getCString", ctypes.c_char_p, _String)
        self._dispose = self._function("clang_disposeString", None, _String)
        location, cursor = cindex.SourceLocation, cindex.Cursor
        self._spelling = self._function("clang_getCursorSpelling", _String, cursor)
        self._type_spelling = self._function("clang_getTypeSpelling", _String, cindex.Type)
        self._file_name = self._function("clang_getFileName", _String, cindex.File)
        self._message = self._function("clang_getDiagnosticSpelling", _String, cindex.Diagnostic)
        self._presumed = self._function(
            "clang_getPresumedLocation",
            None,
            location,
            ctypes.POINTER(_String),
            *[ctypes.POINTER(ctypes.c_uint)] * 2,
        )
        self.is_from_main_file = self._function(
            "clang_Location_isFromMainFile", ctypes.c_uint, location
        )
        self.is_anonymous_record = self._function(
            "clang_Cursor_isAnonymousRecordDecl", ctypes.c_uint, cursor
        )
        self._value_type = self._function("clang_Type_getValueType", cindex.Type, cindex.Type)

    def _function(self, name: str, returns: Any, *takes: Any) -> Any:
        function = self._lib[name]  # an object of its own, so cindex keeps its declarations
        function.restype, function.argtypes = returns, takes
        return function

    def _text(self, string: _String) -> str:
        found = self._c_string(string)
        self._dispose(string)
        return os.fsdecode(found or b"")

    def spelling(self, cursor: Any) -> str:
        """Return the name of a declaration."""
        return self._text(self._spelling(cursor))

    def type_spelling(self, kind: Any) -> str:
        """Return a type in C."""
        return self._text(self._type_spelling(kind))

    def message(self, diagnostic: Any) -> str:
        """Return what the compiler says."""
        return self._text(self._message(diagnostic))

    def file_name(self, file: Any) -> str:
        """Return the name of a file."""
        return self._text(self._file_name(file))

    def value_type(self, atomic: Any) -> Any:
        """Return the type T of `_Atomic(T)`."""
        found = self._value_type(atomic)
        found._tu = atomic._tu  # which keeps the unit in memory
        return found

    def place(self, location: Any) -> Place:
        """Return the file and line of a location, as `#line` and line markers have them."""
        file, line, column = _String(), ctypes.c_uint(), ctypes.c_uint()
        self._presumed(location, ctypes.byref(file), ctypes.byref(line), ctypes.byref(column))
        return Place(self._text(file), line.value)


@cache
def _library() -> _Library:
    return _Library()


_threads = threading.local()  # each thread has an index of its own, and never waits for another


def _index() -> Any:
    if not hasattr(_threads, "index"):
        _library()  # raises ImportError if it can't be loaded
        _threads.index = cindex.Index.create()
    return _threads.index


def _encoded(text: str, filename: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise _invalid([f"{filename}:{line}: the text has a character that is no text"]) from None
    if _is_too_deep(data):
        raise _invalid([f"{filename}: its brackets or expressions are too deep for a compiler"])
    if _macros_explode(data):
        raise _invalid([f"{filename}: its macros expand to too much text"])
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise _invalid([f"{filename}:{line}: the text has a NUL"])
    return data


def _is_too_deep(data: bytes) -> bool:
    """Return whether the compiler's recursion could overflow its stack of 8 MB.

    It does at 1400 casts of one another, 2700 unary operators or 60,000 open brackets. Macros and
    included files are not considered.
    """
    code = _COMMENT.sub(b" ", data)
    operators = code.translate(_SEPARATORS_TO_LINES, _NOT_OPERATORS)
    if max(map(len, operators.split(b"\n"))) > _MOST_OPERATORS:
        return True
    brackets = code.translate(None, _NOT_BRACKETS)
    if len(brackets) <= _DEEPEST_BRACKETS:
        return False
    depth = 0
    for each in brackets:
        depth = max(depth + (1 if each in _OPENING else -1), 0)
        if depth > _DEEPEST_BRACKETS:
            return True
    return False


def _macros_explode(data: bytes) -> bool:
    """Return whether macros that use each other several times expand to too much text."""
    uses: dict[bytes, list[bytes]] = {}
    for name, body in _DEFINE.findall(data):
        uses.setdefault(name, []).extend(_WORD.findall(body))
    tokens: dict[bytes, int] = {}

    def count(name: bytes, depth: int) -> int:
        if name not in uses:
            return 1
        if name not in tokens:
            tokens[name] = 1  # a macro is not expanded inside of itself
            if depth < _DEEPEST:
                tokens[name] = sum(count(each, depth + 1) for each in uses[name]) or 1
        return tokens[name]

    return any(count(name, 0) > _MOST_TOKENS for name in uses)


def _arguments(options: Options) -> tuple[list[bytes], list[str]]:
    """Return the compiler's arguments, and the directories of headers in the order of search."""
    found: list[str] = list(_ARGUMENTS)
    if options.target is not None:
        if not _TRIPLE.fullmatch(options.target):
            raise _invalid([_no_target(options.target)])
        found.append(f"--target={options.target}")
    for macro, value in options.defines:
        if not _MACRO.fullmatch(macro):
            raise _invalid([f"defines: {macro!r} is no name of a macro"])
        if "\n" in value or "\0" in value:
            raise _invalid([f"defines: the value of {macro} is not one line"])
        found.append(f"-D{macro}={value}")
    system = c_includes.directories(options.target)
    for directory in options.include_dirs:
        if not directory or "\0" in directory:
            raise _invalid([f"include_dirs: {directory!r} is no directory"])
        found.append(f"-I{directory}")
    for directory in system:
        found += ("-isystem", directory)
    found += ("-include", _PRELUDE_FILE)
    return [os.fsencode(each) for each in found], [*options.include_dirs, *system]


def _no_target(target: str) -> str:
    return f"target: libclang has no target {target!r}; one is for example aarch64-linux-gnu"


def _check_directives(data: bytes, filename: str, directories: list[str]) -> None:
    """Refuse to include a pipe or a device.

    The compiler would wait for the pipe, and read the device without an end.
    """
    searched = [os.fsencode(each) for each in (str(Path(filename).parent), *directories)]
    for found in _INCLUDE.finditer(data):
        for directory in searched:
            try:
                mode = os.stat(os.path.join(directory, found[1])).st_mode  # noqa: PTH116, PTH118
            except (OSError, ValueError):
                continue
            if not stat.S_ISREG(mode):
                line = data.count(b"\n", 0, found.start()) + 1
                what = f"{os.fsdecode(found[1])} is not a regular file"
                raise _invalid([f"{filename}:{line}: {what}"])
            break


class _Unit:
    """A text that was parsed, and what the compiler says about it."""

    def __init__(self, unit: Any, filename: str, data: bytes, target: str | None) -> None:
        self.unit = unit
        self._target = target
        self.filename = filename
        self.data = data
        self.unknown: set[str] = set()
        self.problems: list[str] = []
        library = _library()
        for diagnostic in unit.diagnostics:
            spelling = library.message(diagnostic)
            if spelling == _LIMIT_REACHED:
                continue
            is_error = diagnostic.severity >= _ERROR
            if not is_error and _STORAGE_ORDER not in spelling:
                continue
            if unknown := _UNKNOWN_NAME.search(spelling):
                self.unknown.add(unknown[1])
            is_own = library.is_from_main_file(diagnostic.location)
            name = _NAME.match(data, diagnostic.location.offset) if is_own else None
            if spelling == _NO_TYPE and name is not None:
                self.unknown.add(os.fsdecode(name[0]))
                spelling = f"unknown type name '{os.fsdecode(name[0])}'"
            if missing := _NO_FILE.search(spelling):
                spelling = (
                    f"the included file {missing[1]} is not found; "
                    "name its directory in include_dirs="
                )
            elif not is_error:
                spelling = c_pragmas.NO_STORAGE_ORDER
            # `struct PACKED s { ... }` declares a variable s if PACKED is no macro.
            unfinished = _INCOMPLETE.search(spelling)
            if unfinished and _looks_like_macro(unfinished[1]):
                spelling = _undefined_macro(unfinished[1])
            place = library.place(diagnostic.location)
            self.problems.append(f"{place}: {spelling}" if place.line else spelling)

    def _included(self) -> tuple[str, ...]:
        """Return the names of the included files, as the compiler writes them."""
        library = _library()
        own = {_PRELUDE_FILE, self.filename}
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
        system = tuple(f"{each}/" for each in c_includes.directories(self._target))
        found = {self.filename: self.data}
        for name in self._included():
            if not name.startswith(system):
                with contextlib.suppress(OSError):
                    found[name] = Path(name).read_bytes()
        return found


def _looks_like_macro(name: str) -> bool:
    return name.startswith("__") or _MACRO_LIKE.fullmatch(name) is not None


def _undefined_macro(name: str) -> str:
    define = f'defines={{"{name}": "__attribute__((packed))"}}'
    return f"{name} looks like a macro that is not defined here; define it, as in {define}"


def _parse(data: bytes, filename: str, arguments: list[bytes], options: Options) -> _Unit:
    """Parse a text. If it uses a well-known type without declaring it, declare it and retry."""
    prelude = [_PRELUDE]
    declared: set[str] = set()
    while True:
        try:
            unit = _index().parse(
                os.fsencode(filename),
                args=arguments,
                unsaved_files=[(os.fsencode(filename), data), (_PRELUDE_FILE, "".join(prelude))],
                options=_PARSE_OPTIONS,
            )
        except cindex.TranslationUnitLoadError:
            if options.target is not None:
                raise _invalid([_no_target(options.target)]) from None
            raise _invalid([f"{filename}: libclang can't parse the text"]) from None
        parsed = _Unit(unit, filename, data, options.target)
        missing = sorted((parsed.unknown & DECLARED_BY.keys()) - declared)
        if not missing or len(prelude) > _ROUNDS:
            return parsed
        declared.update(missing)
        lines = dict.fromkeys(DECLARED_BY[name] for name in missing)
        prelude.append("".join(f"{line}\n" for line in lines))


def _pragma_problems(unit: _Unit, arguments: list[bytes]) -> list[str]:
    """Return the problems of the pragmas that gcc and clang treat differently.

    Many texts have such a pragma for another compiler between ``#ifdef`` and ``#endif``. So the
    text is compiled again with ``#error`` in its place, which shows whether it is in effect.
    """
    files = {
        name: [each for each in pragmas if each.problem] for name, pragmas in unit.pragmas.items()
    }
    if not any(files.values()):
        return []
    changed = dict(unit.own_files) | {_PRELUDE_FILE: _PRELUDE.encode()}
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
            mark = f"{_PRELUDE_FILE} {len(marks)};"
            marks[mark] = problem
            changed[name] = data[: each.start] + f"#error {mark}".encode() + data[each.end :]
    if marks:
        again = _index().parse(
            os.fsencode(unit.filename),
            args=[*arguments, b"-ferror-limit=0"],
            unsaved_files=[(os.fsencode(name), data) for name, data in changed.items()],
            options=_PARSE_OPTIONS,
        )
        said = "\n".join(_library().message(each) for each in again.diagnostics)
        found += [problem for mark, problem in marks.items() if mark in said]
    return found


# -- what it declares ------------------------------------------------------------------------------


def _encloses(outer: Any, inner: Any) -> bool:
    """Return whether one declaration is a part of the other, as a struct is of its typedef."""
    a, b = outer.extent, inner.extent
    files = [each.start.file for each in (a, b)]
    if None in files or len({_library().file_name(each) for each in files}) > 1:
        return False
    return bool(a.start.offset <= b.start.offset and b.end.offset <= a.end.offset)


def _tag(cursor: Any) -> str:
    """Return the tag of a struct, a union or an enum; "" if it has none."""
    # An unnamed one is spelled like its typedef, but its type then has no "struct" before the name.
    words = _library().type_spelling(cursor.type).split()
    has_tag = len(words) == 2 and words[0] in ("struct", "union", "enum")  # noqa: PLR2004
    return words[1] if has_tag else ""


def _without_typedefs(kind: Any) -> tuple[Any, list[str]]:
    """Return the type that a type as written stands for, and the names of its typedefs."""
    names: list[str] = []
    while kind._kind_id in (_T_TYPEDEF, _T_ELABORATED):
        if kind._kind_id == _T_TYPEDEF:
            declaration = kind.get_declaration()
            names.append(_library().spelling(declaration))
            kind = declaration.underlying_typedef_type
        else:
            kind = kind.get_named_type()
    canonical = kind.get_canonical()
    # `typeof` and types with attributes have kinds of their own.
    return (kind if kind._kind_id == canonical._kind_id else canonical), names


def _is_aligned(bit_field: Any) -> bool:
    """Return whether a bit-field or its type has the attribute aligned."""
    kind = bit_field.type
    alignment = kind.get_align()
    if alignment > kind.get_size() or alignment != kind.get_canonical().get_align():
        return True
    return any(each._kind_id == _ALIGNED for each in bit_field.get_children())


class _Reader:
    """Walks the declarations of one text, once, and describes those that are asked for."""

    def __init__(self, unit: _Unit) -> None:
        self.problems: list[str] = []
        self._unit = unit
        self._library = _library()
        self._cursors: list[Any] = [
            cursor for cursor in unit.unit.cursor.get_children() if cursor._kind_id in _DECLARATIONS
        ]
        self._position = {
            int(cursor.data[0] or 0): position for position, cursor in enumerate(self._cursors)
        }
        self._records: dict[int, RecordType] = {}
        self._enums: dict[int, EnumType] = {}
        self._checked: set[int] = set()  # typedefs
        prelude = next(each for each in self._cursors if each._kind_id == _ENUM)
        facts = {self._library.spelling(each): each.enum_value for each in prelude.get_children()}
        self.byte_order: Literal["little", "big"] = (
            "big" if facts["__ipckit_big_endian"] else "little"
        )
        self._pointer_size: int = facts["__ipckit_pointer"]

    # -- which ------------------------------------------------------------------------------------

    def find_own(self, *, every: bool) -> list[Any]:
        """Return the structs and unions of the text itself: all of them, or the last one."""
        found: list[Any] = []
        for cursor in reversed(self._cursors):
            if cursor._kind_id not in (_STRUCT, _UNION) or not cursor.is_definition():
                continue
            location = cursor.location
            is_own = self._library.is_from_main_file(location)
            if is_own and not location.is_in_system_header and any(cursor.type.get_fields()):
                found.append(cursor)
                if not every:
                    break
        if not found:
            raise _Unreadable(f"{self._unit.filename}: the text declares no struct with members")
        return found[::-1]

    def find(self, name: str) -> Any:
        """Return the declaration of a typedef, a struct or a union by its name."""
        words = name.split()
        kinds = {"struct": {_STRUCT}, "union": {_UNION}}.get(words[0] if words else "", set())
        wanted = words[-1] if len(words) == 1 + bool(kinds) else "?"
        found: Any = None
        names: set[str] = set()
        for cursor in self._cursors:
            kind = cursor._kind_id
            if kind in (_ENUM, _VARIABLE):
                continue
            spelling = self._library.spelling(cursor)
            names.add(spelling)
            if spelling != wanted or (kinds and (kind not in kinds or not _tag(cursor))):
                continue
            if kind == _TYPEDEF:  # before a tag of the same name
                return cursor
            found = found if found is not None and not cursor.is_definition() else cursor
        found = found if found is not None else self._find_inside(wanted, kinds)
        if found is None:
            near = difflib.get_close_matches(wanted, names, 3)
            hint = f"; it declares {' and '.join(near)}" if near else ""
            what = name if kinds else f"struct {name}"
            raise _Unreadable(f"{self._unit.filename}: the text declares no {what}{hint}")
        return found

    def _find_inside(self, tag: str, kinds: set[int]) -> Any:
        """Return a struct or union that is declared inside of another one, or None."""
        waiting = [each for each in self._cursors if each._kind_id in (_STRUCT, _UNION)]
        while waiting:
            for inner in waiting.pop().get_children():
                if inner._kind_id not in (_STRUCT, _UNION):
                    continue
                if inner._kind_id in (kinds or (_STRUCT, _UNION)) and _tag(inner) == tag:
                    return inner
                waiting.append(inner)
        return None

    # -- records ----------------------------------------------------------------------------------

    def requested(self, cursor: Any) -> RecordType:
        """Describe a declaration that was asked for."""
        place = self._library.place(cursor.location)
        kind = cursor.type
        if cursor._kind_id == _TYPEDEF:
            plain, _ = _without_typedefs(kind)
            if plain._kind_id != _T_RECORD:
                name, written = self._library.spelling(cursor), self._library.type_spelling(plain)
                what = f"{name} is {written}, and neither a struct nor a union"
                raise _Unreadable(f"{place}: {what}")
            cursor = plain.get_declaration()
        definition = cursor.get_definition()
        if definition is None:
            written = self._library.type_spelling(cursor.type)
            what = f"{written} is declared without its members"
            raise _Unreadable(f"{place}: {what}")
        found = self._record(definition, "", 0)
        if not (found.members or self.problems or self._unit.problems):
            self.problems.append(f"{found.place}: {found.kind} {found.name} has no members")
        return replace(found, alignment=kind.get_align())  # a typedef can have its own alignment

    def _record(self, cursor: Any, outer_name: str, depth: int) -> RecordType:
        key = int(cursor.data[0] or 0)
        if key in self._records:
            return self._records[key]
        kind: Literal["struct", "union"] = "union" if cursor._kind_id == _UNION else "struct"
        tag = _tag(cursor)
        name = self._name(cursor, tag, outer_name)
        place = self._library.place(cursor.location)
        own = cursor.type
        if depth > _DEEPEST:
            raise _Unreadable(f"{place}: {kind} {name} is nested too deeply")
        for problem in self._differences(cursor):
            self._note(cursor, f"{kind} {name}: {problem}")
        fields = list(own.get_fields())
        if len(fields) > _MOST_MEMBERS:
            raise _Unreadable(f"{place}: {kind} {name} has more than {_MOST_MEMBERS} members")
        members: list[Member] = []
        unnamed = 0
        for position, each in enumerate(fields):
            width = each.get_bitfield_width() if each.is_bitfield() else None
            spelling = self._library.spelling(each)
            if width is not None and _is_aligned(each):
                self._note(each, f"{kind} {name}, member {spelling}: {_ALIGNED_BITS}")
            if width is not None and not spelling:
                continue  # it only moves the members after it
            anonymous = self._is_anonymous(each)
            if anonymous:
                unnamed += 1
                spelling = ""
            is_last = kind == "union" or position == len(fields) - 1
            inner_name = f"{name}_{spelling or unnamed}"
            try:
                found = self._type(each.type, inner_name, depth + 1, is_last=is_last)
            except _Differs as caught:
                self._note(each, f"{kind} {name}, member {spelling}: {caught}")
                continue
            if width is not None and isinstance(found, ScalarType) and found.kind == "char":
                is_signed = each.type.get_canonical()._kind_id == _T_SIGNED_CHAR
                found = replace(found, kind="int" if is_signed else "uint")
            self._check_member(each, spelling)
            offset = int(each.get_field_offsetof())
            if offset < 0:
                self.problems.append(
                    f"{self._library.place(each.location)}: {spelling} has no offset"
                )
            where = self._library.place(each.location)
            members.append(Member(spelling, found, offset, width, anonymous, where))
        made = RecordType(name, tag, kind, own.get_size(), own.get_align(), tuple(members), place)
        self._records[key] = made
        return made

    def _note(self, cursor: Any, problem: str) -> None:
        self.problems.append(f"{self._library.place(cursor.location)}: {problem}")

    def _differences(self, cursor: Any) -> Iterator[str]:
        """Yield what gcc and clang do differently with the attributes and pragmas of a record."""
        attributes = [each._kind_id for each in cursor.get_children()]
        if attributes.count(_ALIGNED) > 1:
            yield _ALIGNED_TWICE
        own = self._unit.own_files.values()
        if _UNKNOWN_ATTRIBUTE in attributes and any(b"ms_struct" in each for each in own):
            yield _MS_STRUCT
        if self._unit.pragmas:
            start, end = cursor.extent.start, cursor.extent.end
            pragmas = self._unit.pragmas.get(self._library.file_name(start.file), ())
            inside = (each for each in pragmas if start.offset < each.start < end.offset)
            if not c_pragmas.keep_packing(inside):
                yield _PACK_INSIDE

    def _check_typedefs(self, written: Any) -> None:
        """Raise _Differs for a typedef with two attributes aligned."""
        kind = written
        while kind._kind_id in (_T_TYPEDEF, _T_ELABORATED):
            if kind._kind_id == _T_ELABORATED:
                kind = kind.get_named_type()
                continue
            declaration = kind.get_declaration()
            key = int(declaration.data[0] or 0)
            if key in self._checked:
                return
            attributes = [each._kind_id for each in declaration.get_children()]
            if attributes.count(_ALIGNED) > 1:
                raise _Differs(_ALIGNED_TWICE)
            self._checked.add(key)
            kind = declaration.underlying_typedef_type

    def _is_anonymous(self, field: Any) -> bool:
        if field.type.get_canonical()._kind_id != _T_RECORD or not field.is_anonymous():
            return False
        declaration = field.type.get_declaration()
        return bool(self._library.is_anonymous_record(declaration))

    def _name(self, cursor: Any, tag: str, outer_name: str) -> str:
        """Return the name of a struct, a union or an enum, and refuse one that a macro spoils."""
        typedef = variable = ""
        position = self._position.get(int(cursor.data[0] or 0))
        if position is not None:
            for each in self._cursors[position + 1 :]:
                if not _encloses(each, cursor):
                    break
                kind, spelling = each._kind_id, self._library.spelling(each)
                if kind == _VARIABLE:
                    variable = variable or spelling
                    if _looks_like_macro(spelling):
                        self._refuse_macro(each, spelling)
                elif kind == _TYPEDEF and not typedef:
                    plain, names = _without_typedefs(each.type)
                    if plain._kind_id in (_T_RECORD, _T_ENUM) and len(names) == 1:
                        typedef = spelling
        return typedef or tag or outer_name or variable

    def _check_member(self, field: Any, name: str) -> None:
        """Refuse a member whose name is an attribute's macro after the brace of its struct."""
        if not _MACRO_LIKE.fullmatch(name) or not (name.isupper() or name.startswith("__")):
            return
        declaration = field.type.get_declaration()
        if declaration._kind_id in (_STRUCT, _UNION, _ENUM) and _encloses(field, declaration):
            self._refuse_macro(field, name)

    def _refuse_macro(self, cursor: Any, name: str) -> None:
        self.problems.append(f"{self._library.place(cursor.location)}: {_undefined_macro(name)}")

    # -- types ------------------------------------------------------------------------------------

    def _type(self, written: Any, inner_name: str, depth: int, *, is_last: bool = False) -> Type:
        self._check_typedefs(written)
        plain, names = _without_typedefs(written)
        kind = plain._kind_id
        if kind == _T_RECORD:
            return self._record(plain.get_declaration(), inner_name, depth)
        if kind == _T_ENUM:
            return self._enum(plain.get_declaration(), inner_name)
        if kind in (_T_CONSTANT_ARRAY, _T_INCOMPLETE_ARRAY):
            if depth > _DEEPEST:
                raise _Unreadable(f"{inner_name} is an array of too many dimensions")
            count = int(plain.get_array_size()) if kind == _T_CONSTANT_ARRAY else None
            of = plain.get_array_element_type()
            item = self._type(of, inner_name, depth + 1)
            if of.get_canonical()._kind_id == _T_ATOMIC and isinstance(item, OpaqueType):
                raise _Differs(_ATOMIC)
            return ArrayType(item, None if count == 0 and is_last else count)
        size, alignment = int(written.get_size()), int(written.get_align())
        if kind == _T_ATOMIC:
            value = self._library.value_type(plain)
            inner = value.get_canonical()._kind_id
            alike = (value.get_size(), value.get_align()) == (size, alignment)
            if value.get_size() != size or value.get_align() > value.get_canonical().get_align():
                raise _Differs(_ATOMIC)
            if alike and (inner in _SCALARS or inner == _T_ENUM):
                return self._type(value, inner_name, depth + 1)
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind], names, size, alignment)
        if kind == _T_EXT_VECTOR or (kind == _T_VECTOR and size > _WIDEST_VECTOR):
            raise _Differs(_VECTOR)
        why = _OPAQUE.get(kind, "no field type reads this type")
        return OpaqueType(self._library.type_spelling(written), size, alignment, why)

    def _scalar(
        self, found: tuple[_Kind, str], typedefs: list[str], size: int, alignment: int
    ) -> ScalarType:
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
        if cursor.type.get_align() != integer.get_align():
            raise _Differs(_ALIGNED_ENUM)
        attributes = [each._kind_id for each in cursor.get_children()]
        own = self._unit.own_files.values()
        if _UNKNOWN_ATTRIBUTE in attributes and any(map(_MODE.search, own)):
            raise _Differs(_MODE_OF_ENUM)

    def _enum(self, cursor: Any, outer_name: str) -> EnumType:
        key = int(cursor.data[0] or 0)
        if key not in self._enums:
            name = self._name(cursor, _tag(cursor), outer_name)
            integer, _ = _without_typedefs(cursor.enum_type)
            self._check_enum(cursor, integer)
            scalar = self._scalar(
                _SCALARS[integer._kind_id], [], integer.get_size(), integer.get_align()
            )
            members = tuple(
                (self._library.spelling(each), int(each.enum_value))
                for each in cursor.get_children()
                if each._kind_id == _ENUMERATOR
            )
            self._enums[key] = EnumType(name, scalar, members)
        return self._enums[key]
