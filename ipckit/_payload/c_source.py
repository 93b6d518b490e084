"""C source before it is compiled: the options, and checks for what would hang or crash libclang."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from ipckit._payload import c_includes
from ipckit._payload.c_problems import invalid

if TYPE_CHECKING:
    from collections.abc import Iterable


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

    @classmethod
    def of(
        cls,
        include_dirs: Iterable[str | os.PathLike[str]],
        defines: Mapping[str, str | int] | None,
        target: str | None,
    ) -> Options:
        """Return the options for the arguments of `Struct.from_c`.

        Raises:
            TypeError: an argument is of the wrong type.
        """
        given: Any = defines or {}
        if not isinstance(given, Mapping):
            message = f"defines takes a mapping of names to values, not {type(given).__name__}"
            raise TypeError(message)
        if isinstance(include_dirs, (str, bytes)):
            message = "include_dirs takes a list of directories, not one directory"
            raise TypeError(message)
        # Absolute, so that an earlier result is not used for another working directory's headers.
        directories = tuple(os.path.abspath(path) for path in include_dirs)  # noqa: PTH100 - of text
        macros = cast("Mapping[str, str | int]", given).items()
        return cls(directories, tuple((str(name), str(value)) for name, value in macros), target)


PRELUDE_FILE: Final = "/<ipckit>/prelude.h"  # it exists for the compiler only
_ARGUMENTS: Final = (
    "-xc",
    "-std=gnu17",
    "-nostdinc",
    "-fno-spell-checking",
    "-ferror-limit=100",
    "-Wno-everything",
    # These two are errors in gcc.
    "-Werror=enum-too-large",
    "-Wunknown-attributes",  # for scalar_storage_order; see c_unit
    # gcc's preprocessed output has this attribute with arguments, which clang refuses.
    "-D__malloc__(...)=__malloc__",
)
_MACRO: Final = re.compile(r"[A-Za-z_]\w*(?:\([\w\s,.]*\))?")
_TRIPLE: Final = re.compile(r"[A-Za-z0-9_.-]+")
_INCLUDE: Final = re.compile(
    rb"""^[ \t]*(?:\#|%:)[ \t]*include(?:_next)?[ \t]*["<]([^">\n]+)[">]""", re.MULTILINE
)
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
_DEEPEST_MACROS: Final = 100  # that use each other


def checked_bytes(text: str, filename: str) -> bytes:
    """Return a text in UTF-8.

    Raises:
        InvalidSource: it is not text, or it would use up the compiler's stack or memory.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise invalid([f"{filename}:{line}: the text has a character that is no text"]) from None
    if _is_too_deep(data):
        raise invalid([f"{filename}: its brackets or expressions are too deep for a compiler"])
    if _macros_explode(data):
        raise invalid([f"{filename}: its macros expand to too much text"])
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise invalid([f"{filename}:{line}: the text has a NUL"])
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
            if depth < _DEEPEST_MACROS:
                tokens[name] = sum(count(each, depth + 1) for each in uses[name]) or 1
        return tokens[name]

    return any(count(name, 0) > _MOST_TOKENS for name in uses)


def compiler_arguments(options: Options, *, headers: bool) -> tuple[list[bytes], list[str]]:
    """Return the compiler's arguments, and the directories of headers in the order of search.

    Args:
        options: how to compile.
        headers: whether the text needs the system's headers. To find them takes some milliseconds.
    """
    found: list[str] = list(_ARGUMENTS)
    if options.target is not None:
        if not _TRIPLE.fullmatch(options.target):
            raise invalid([no_target(options.target)])
        found.append(f"--target={options.target}")
    for macro, value in options.defines:
        if not _MACRO.fullmatch(macro):
            raise invalid([f"defines: {macro!r} is no name of a macro"])
        if "\n" in value or "\0" in value:
            raise invalid([f"defines: the value of {macro} is not one line"])
        found.append(f"-D{macro}={value}")
    system = c_includes.directories(options.target) if headers else ()
    for directory in options.include_dirs:
        if not directory or "\0" in directory:
            raise invalid([f"include_dirs: {directory!r} is no directory"])
        found.append(f"-I{directory}")
    for directory in system:
        found += ("-isystem", directory)
    found += ("-include", PRELUDE_FILE)
    return [os.fsencode(each) for each in found], [*options.include_dirs, *system]


def no_target(target: str) -> str:
    """Return the problem of a target that libclang does not know."""
    return f"target: libclang has no target {target!r}; one is for example aarch64-linux-gnu"


def check_directives(data: bytes, filename: str, directories: list[str]) -> None:
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
                raise invalid([f"{filename}:{line}: {what}"])
            break
