"""What the commands share: how an object is named, what is printed where, how they end."""

from __future__ import annotations

import codecs
import sys
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ipckit.errors import is_plain, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


DONE: Final = 0
ERROR: Final = 1
USAGE: Final = 2
REFUSED: Final = 3

_STYLES: Final = {"orphaned": "yellow", "held": "green", "unknown": "magenta"}


class Refused(click.ClickException):
    """A command did not do what was asked, because it would do harm: exit status 3."""

    exit_code = REFUSED


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal before something is removed.

    Args:
        question: what is asked.
        yes: it was answered on the command line.

    Raises:
        Refused: the answer is no, or there is no terminal to ask on.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        message = "nothing was removed: there is no terminal to ask on; --yes says it beforehand"
        raise Refused(message)
    if not click.confirm(one_line(question), err=True):
        message = "nothing was removed"
        raise Refused(message)


def console() -> Console:
    """Where what was asked for goes: with colours on a terminal only, and not with NO_COLOR."""
    return Console(highlight=False)


# What a command prints goes through one of the next four functions, or as a `rich.text.Text` of
# `one_line`: much of it was written by other users.


def say(line: str, *, error: bool = False) -> None:
    """Print one line to standard output or error, with everything escaped that is no plain text."""
    click.echo(one_line(line), err=error)


def say_lines(text: str, *, error: bool = False) -> None:
    """Print a text of several lines, each as `say` does."""
    click.echo("\n".join(map(one_line, text.split("\n"))), err=error)


def write(data: bytes) -> None:
    """Write bytes as they are to standard output, at once.

    A message that was taken from a queue is nowhere else.
    """
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def json_of(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """A value as JSON that a terminal shows as it is, and that is UTF-8 whatever is in it.

    A lone surrogate, which is what Python has for a byte that is not UTF-8, becomes its escape.
    """
    import json  # noqa: PLC0415 - few commands need it

    return in_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only))


def ascii_output() -> bool:
    """Whether standard output has an encoding in which JSON may only be ASCII: not UTF-8."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return codecs.lookup(encoding).name != "utf-8"


def print_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    click.echo(json_of(value, indent=2, ascii_only=ascii_output()))


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, right: str = "") -> None:
    """Print rows in columns: to the terminal's width on one, else each in full, for awk and cut.

    Args:
        titles: the columns' names, in capitals; the last column's text may be long.
        rows: the cells, as many as titles each.
        right: the titles of numbers, which stand to the right, with blanks between.
    """
    cells = [[one_line(cell) or "-" for cell in row] for row in rows]
    rights = [title in right.split() for title in titles]
    if sys.stdout.isatty():
        table = Table(box=None, pad_edge=False, header_style="bold cyan")
        for title, is_right in zip(titles, rights, strict=True):
            last = title == titles[-1]
            # Text that is cut would say the wrong thing: it goes on below instead.
            table.add_column(
                title,
                justify="right" if is_right else "left",
                no_wrap=False,
                overflow="fold",
                ratio=1 if last else None,
            )
        for row in cells:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        console().print(table)
        return
    lines = [list(titles), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, rights, strict=True)
        ]
        say("  ".join(padded).rstrip())


def tell_unseen(unseen: Iterable[str]) -> None:
    """Say on standard error what could not be seen."""
    for line in unseen:
        say(f"ipckit: not seen: {line}", error=True)


_BASIC: Final = 0x10000  # the first code point that JSON writes as two escapes


def _json_escaped(char: str) -> str:
    code = ord(char)
    if code < _BASIC:
        return f"\\u{code:04x}"
    code -= _BASIC
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def in_json(text: str) -> str:
    r"""JSON that does nothing to a terminal, with the same value.

    `json.dumps` leaves C1 control characters, bidirectional controls and lone surrogates as they
    are when it is told to leave letters; here they become ``\uXXXX``. What is left is UTF-8.

    Args:
        text: as `json.dumps` made it, with line ends only between its tokens.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if is_plain(char) or char == "\n" else _json_escaped(char) for char in text)
