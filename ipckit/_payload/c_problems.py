"""Problems of a C text: the exceptions for them, and macros that are not defined."""

from __future__ import annotations

import re
from typing import Final

from ipckit.errors import InvalidSource

# A macro that is not defined looks like a variable after a struct's brace.
MACRO_LIKE: Final = re.compile(r"\w*(?i:packed|align|attribute)\w*|[A-Z0-9_]*PACK(?!ET)\w*")
_MOST_LINES: Final = 20


def invalid(problems: list[str]) -> InvalidSource:
    """Return the error that names all problems, one on each line."""
    lines = list(dict.fromkeys(problems))
    if len(lines) > _MOST_LINES:
        rest = len(lines) - _MOST_LINES
        lines[_MOST_LINES:] = [f"and {rest} more"]
    return InvalidSource(lines)


class Differs(Exception):  # noqa: N818 - it never leaves c_reader
    """gcc and clang disagree about a type."""


class Unreadable(Exception):  # noqa: N818 - it never leaves c_reader
    """The text has problems that leave nothing to describe."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = list(problems)


def looks_like_macro(name: str) -> bool:
    """Return whether a name is more likely that of a macro than that of a variable."""
    return name.startswith("__") or MACRO_LIKE.fullmatch(name) is not None


def undefined_macro(name: str) -> str:
    """Return the problem of a macro that the compiler took for a name."""
    define = f'defines={{"{name}": "__attribute__((packed))"}}'
    return f"{name} looks like a macro that is not defined here; define it, as in {define}"
