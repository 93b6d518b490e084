"""A thin layer over libclang: its numbers, and the functions that its Python package lacks.

`clang.cindex` is the Python package of libclang. It ships no types, takes all names for UTF-8, and
raises an error for kinds of declarations that are newer than it is.
"""

# clang.cindex ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
from __future__ import annotations

import ctypes
import os
import threading
from functools import cache
from typing import Any, Final

from ipckit._payload.c_declarations import Location

try:
    from clang import cindex
except ImportError as error:
    message = "Struct.from_c needs libclang: pip install libclang"
    raise ImportError(message, name="clang") from error

ParseError: Any = cindex.TranslationUnitLoadError

# Numbers of clang-c/Index.h, which are the same in all versions. cindex has classes for them, which
# raise an error for a number that is newer than cindex.
STRUCT: Final = 2
UNION: Final = 3
ENUM: Final = 5
FIELD: Final = 6
ENUMERATOR: Final = 7
VARIABLE: Final = 9
TYPEDEF: Final = 20
UNKNOWN_ATTRIBUTE: Final = 400  # one of those that libclang does not name
ALIGNED: Final = 441

TYPE_SIGNED_CHAR: Final = 13  # a plain char that is signed
TYPE_RECORD: Final = 105
TYPE_ENUM: Final = 106
TYPE_TYPEDEF: Final = 107
TYPE_CONSTANT_ARRAY: Final = 112
TYPE_INCOMPLETE_ARRAY: Final = 114
TYPE_ELABORATED: Final = 119
TYPE_VECTOR: Final = 113
TYPE_EXT_VECTOR: Final = 176
TYPE_ATOMIC: Final = 177


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

    def field_at(self, unit: Any, location: Any) -> Any:
        """Return the member that is declared at a location; None if there is none."""
        found = cindex.Cursor.from_location(unit, location)
        return found if found is not None and found._kind_id == FIELD else None

    def value_type(self, atomic: Any) -> Any:
        """Return the type T of `_Atomic(T)`."""
        found = self._value_type(atomic)
        found._tu = atomic._tu  # which keeps the unit in memory
        return found

    def location(self, location: Any) -> Location:
        """Return the file and line of a location, as `#line` and line markers have them."""
        file, line, column = _String(), ctypes.c_uint(), ctypes.c_uint()
        self._presumed(location, ctypes.byref(file), ctypes.byref(line), ctypes.byref(column))
        return Location(self._text(file), line.value)


@cache
def clang_library() -> _Library:
    """Return the library, which is loaded once; raise ImportError if it can't be."""
    return _Library()


_threads = threading.local()  # each thread has an index of its own, and never waits for another


def thread_index() -> Any:
    """Return this thread's index of libclang, which parses texts."""
    if not hasattr(_threads, "index"):
        clang_library()  # raises ImportError if it can't be loaded
        _threads.index = cindex.Index.create()
    return _threads.index


def encloses(outer: Any, inner: Any) -> bool:
    """Return whether one declaration is a part of the other, as a struct is of its typedef."""
    a, b = outer.extent, inner.extent
    files = [each.start.file for each in (a, b)]
    if None in files or len({clang_library().file_name(each) for each in files}) > 1:
        return False
    return bool(a.start.offset <= b.start.offset and b.end.offset <= a.end.offset)


def tag_of(cursor: Any) -> str:
    """Return the tag of a struct, a union or an enum; "" if it has none."""
    # An unnamed one is spelled like its typedef, but its type then has no "struct" before the name.
    words = clang_library().type_spelling(cursor.type).split()
    has_tag = len(words) == 2 and words[0] in ("struct", "union", "enum")  # noqa: PLR2004
    return words[1] if has_tag else ""


def without_typedefs(kind: Any) -> tuple[Any, list[str]]:
    """Return the type that a type as written stands for, and the names of its typedefs."""
    names: list[str] = []
    while kind._kind_id in (TYPE_TYPEDEF, TYPE_ELABORATED):
        if kind._kind_id == TYPE_TYPEDEF:
            declaration = kind.get_declaration()
            names.append(clang_library().spelling(declaration))
            kind = declaration.underlying_typedef_type
        else:
            kind = kind.get_named_type()
    canonical = kind.get_canonical()
    # `typeof` and types with attributes have kinds of their own.
    return (kind if kind._kind_id == canonical._kind_id else canonical), names


def is_union(record: Any) -> bool:
    """Return whether a struct or union is a union."""
    return bool(record._kind_id == UNION)


def fields_of(record: Any) -> list[Any]:
    """Return the members of a struct or union, also of one that has errors."""
    fields = list(record.type.get_fields())
    return fields or [each for each in record.get_children() if each._kind_id == FIELD]
