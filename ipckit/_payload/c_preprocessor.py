"""Prepare C text for a parser: remove comments and directives, and expand macros.

This is the part of a preprocessor that headers of structs need. It never guesses: it refuses a
condition that it cannot decide, and a macro with arguments.
"""

from __future__ import annotations

import errno
import re
from typing import Any, Final, NamedTuple, NoReturn

from ipckit.errors import InvalidArgument

_TOKEN: Final = re.compile(
    r"""(?P<text>(?:u8|[uUL])?"(?:\\.|[^"\\\n])*"|[uUL]?'(?:\\.|[^'\\\n])+')
    |(?P<comment>//[^\n]*|/\*.*?\*/)
    |(?P<unclosed>/\*)
    |(?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
_SPLICE: Final = re.compile(r"\\[ \t]*\n")
_DIRECTIVE: Final = re.compile(r"\s*#\s*(\w*)(.*)")
_DEFINE: Final = re.compile(r"\s*([A-Za-z_]\w*)(\()?(.*)")
_NAME: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*")
_DEFINED: Final = re.compile(r"\s*(!?)\s*defined\s*(?:\(\s*(\w+)\s*\)|\s(\w+))\s*")
_HARMLESS: Final = re.compile(r"\s*(?:once|GCC\s+(?:diagnostic|system_header)\b.*)\s*")
_PASSED_OVER: Final = frozenset({"", "line", "warning", "ident"})
# The headers of C, POSIX and Linux. Their types are known, or refused if a field uses them. Any
# other header may define macros and types that change a layout.
_KNOWN_HEADER: Final = re.compile(
    r"""\s*<(?:(?:sys|linux|asm|arpa|netinet|net)/[\w/.-]+
    |(?:aio|assert|complex|ctype|errno|fcntl|fenv|float|inttypes|iso646|limits|locale|math|mqueue
    |netdb|poll|pthread|sched|semaphore|setjmp|signal|spawn|stdalign|stdarg|stdatomic|stdbool|stddef
    |stdint|stdio|stdlib|stdnoreturn|string|strings|tgmath|threads|time|uchar|unistd|utime|wchar
    |wctype)\.h)>\s*""",
    re.VERBOSE,
)
_CONDITIONS: Final = frozenset({"if", "ifdef", "ifndef"})
_NEEDS: Final = "needs a preprocessor: pass the text through gcc -E first"
_LONGEST: Final = (
    1 << 22
)  # characters of a line, because macros that use each other twice grow exponentially


def refuse(what: str, line: object) -> NoReturn:
    """Raise InvalidArgument for a line.

    Args:
        what: what is wrong.
        line: the line's number.
    """
    message = f"line {line}: {what}"
    raise InvalidArgument(message, errno=errno.EINVAL)


def expanded(text: str) -> str:
    """Remove comments and directives from C text, and expand macros; line numbers stay the same.

    Raises:
        InvalidArgument: a directive or a macro is not supported.
    """
    text = text.replace("\r\n", "\n")
    if (at := text.find("\r")) >= 0:
        refuse(
            "a carriage return without a line feed is not supported", text.count("\n", 0, at) + 1
        )
    lines = _without_comments(_joined(text)).split("\n")
    return "\n".join(_Preprocessor(lines).run())


def _joined(text: str) -> str:
    """Join continued lines, and add empty lines so that line numbers stay the same."""
    found: list[str] = []
    owed = 0
    for part in _SPLICE.sub("\\\n", text).split("\n"):
        if part.endswith("\\"):
            found.append(part[:-1])
            owed += 1
        else:
            found.append(part + "\n" * (owed + 1))
            owed = 0
    return "".join(found)


def _without_comments(text: str) -> str:
    def blank(match: re.Match[str]) -> str:
        if match["unclosed"]:
            refuse("a comment is not closed", text.count("\n", 0, match.start()) + 1)
        return " " + "\n" * match[0].count("\n") if match["comment"] else match[0]

    return _TOKEN.sub(blank, text)


class _Condition(NamedTuple):
    """An open #if, #ifdef or #ifndef.

    Attributes:
        active: the following lines are part of the result.
        outer: the condition itself is among lines that are part of the result.
        was_else: it had its #else.
    """

    active: bool
    outer: bool
    was_else: bool


class _Preprocessor:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._macros: dict[str, str | None] = {}  # None for a macro with arguments
        self._conditions: list[_Condition] = []
        self._line = 0

    def run(self) -> list[str]:
        """Return the lines. Directives and the lines that they exclude become empty lines."""
        found: list[str] = []
        for number, line in enumerate(self._lines, 1):
            self._line = number
            directive = _DIRECTIVE.fullmatch(line)
            if directive is not None:
                self._direct(directive[1], directive[2])
            taken = self._active and directive is None
            found.append(self._expand(line, frozenset()) if taken else "")
        if self._conditions:
            self._refuse("a condition has no #endif")
        return found

    @property
    def _active(self) -> bool:
        return not self._conditions or self._conditions[-1].active

    def _refuse(self, what: str) -> NoReturn:
        refuse(what, self._line)

    def _direct(self, name: str, rest: str) -> None:
        if name in _CONDITIONS:
            active = self._active
            chosen = active and self._holds(name, rest)
            self._conditions.append(_Condition(chosen, active, was_else=False))
        elif name in ("else", "endif") and self._conditions:
            last = self._conditions.pop()
            if name == "else":
                if last.was_else:
                    self._refuse("a second #else")
                now = last.outer and not last.active
                self._conditions.append(_Condition(now, last.outer, was_else=True))
        elif not self._active:
            return  # excluded lines are not checked
        elif name == "define":
            self._define(rest)
        elif name == "undef":
            self._macros.pop(rest.strip(), None)
        elif name == "pragma":
            if not _HARMLESS.fullmatch(rest):
                self._refuse("#pragma is not supported; use __attribute__((packed))")
        elif name == "include":
            if not _KNOWN_HEADER.fullmatch(rest):
                self._refuse(f"#include {rest.strip()} is not a standard header, and {_NEEDS}")
        elif name not in _PASSED_OVER and not name.isdigit():
            self._refuse(f"#{name} {_NEEDS}")

    def _define(self, rest: str) -> None:
        macro = _DEFINE.fullmatch(rest)
        if macro is None:
            self._refuse("#define without a valid name")
        self._macros[macro[1]] = None if macro[2] else macro[3].strip()

    def _holds(self, name: str, rest: str) -> bool:
        asked = rest if name != "if" else None
        positive = name == "ifdef"
        if asked is None and (found := _DEFINED.fullmatch(rest)):
            asked, positive = found[2] or found[3], not found[1]
        known = _NAME.fullmatch(asked) if asked is not None else None
        if known is None:
            self._refuse(f"#{name} {_NEEDS}")
        return self._is_defined(known[1], name, positive=positive) == positive

    def _is_defined(self, macro: str, name: str, *, positive: bool) -> bool:
        if macro in self._macros:
            return True
        if macro == "__cplusplus":
            return False
        # `#ifndef X` before `#define X` is an include guard or a default. A compiler or an included
        # file may define any other macro.
        if positive or (macro.startswith("_") and not self._defines_next(macro)):
            self._refuse(
                f"#{name} {macro} needs a preprocessor: pass the text through gcc -E first"
            )
        return False

    def _defines_next(self, macro: str) -> bool:
        for line in self._lines[self._line :]:
            directive = _DIRECTIVE.fullmatch(line)
            if directive is not None:
                found = _DEFINE.fullmatch(directive[2])
                return directive[1] == "define" and found is not None and found[1] == macro
        return False

    def _expand(self, text: str, hidden: frozenset[str]) -> str:
        """Expand macros, except those in `hidden`, which are being expanded already."""
        if not self._macros:
            return text
        parts: list[str] = []
        length = 0
        for token in _TOKEN.finditer(text):
            name: Any = token["name"]
            part = token[0]
            if name is not None and name in self._macros and name not in hidden:
                part = self._replaced(name, text[token.end() :], hidden)
            parts.append(part)
            length += len(part)
            if length > _LONGEST:
                self._refuse("its macros expand to too much text")
        return "".join(parts)

    def _replaced(self, name: str, after: str, hidden: frozenset[str]) -> str:
        body = self._macros[name]
        if body is None:
            if after.strip() and not after.lstrip().startswith("("):
                return name  # C expands such a macro only before a parenthesis
            self._refuse(f"macro {name} takes arguments: pass the text through gcc -E first")
        return f" {self._expand(body, hidden | {name})} "
