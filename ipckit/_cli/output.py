"""What every command prints, and where; the exit statuses; and questions before a removal."""

from __future__ import annotations

import codecs
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from ipckit.errors import is_plain, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

DONE: Final = 0
ERROR: Final = 1
USAGE: Final = 2
REFUSED: Final = 3

_STYLES: Final = {"orphaned": "yellow", "held": "green", "unknown": "magenta"}


class Refused(click.ClickException):
    """A command refused, because what was asked could do harm: exit status 3."""

    exit_code = REFUSED


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal before something is removed.

    Args:
        question: the question.
        yes: the option --yes already answered it.

    Raises:
        Refused: the answer is no, or there is no terminal to ask on.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        message = "nothing was removed: no terminal to ask on; to remove without asking, use --yes"
        raise Refused(message)
    if not click.confirm(one_line(question), err=True):
        message = "nothing was removed"
        raise Refused(message)


def console() -> Console:
    """Return the console for standard output: colours only on a terminal and without NO_COLOR."""
    from rich.console import Console  # noqa: PLC0415 - output into a pipe does not need it

    return Console(highlight=False)


class UnreadableSource(click.UsageError):
    """C source that can't be read. Each line of the message is a problem."""


# A command prints by one of the next functions, or as a `rich.text.Text` of `one_line`, because
# other users chose many of the texts.


def say(line: str, *, error: bool = False) -> None:
    """Print one line to standard output or error, with all but plain characters escaped."""
    click.echo(one_line(line), err=error)


def say_lines(text: str, *, error: bool = False) -> None:
    """Print a text of several lines, each as `say` does."""
    click.echo("\n".join(map(one_line, text.split("\n"))), err=error)


def write(data: bytes) -> None:
    """Write bytes unchanged to standard output, and flush.

    A message that was received from a queue exists nowhere else.
    """
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def json_of(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """Return a value as JSON that is valid UTF-8 and does not control a terminal.

    A lone surrogate, by which Python represents a byte that is not UTF-8, becomes an escape.
    """
    import json  # noqa: PLC0415 - few commands need it

    return in_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only))


def ascii_output() -> bool:
    """Return whether JSON must be ASCII, because standard output is not UTF-8."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return codecs.lookup(encoding).name != "utf-8"


def print_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    click.echo(json_of(value, indent=2, ascii_only=ascii_output()))


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, right: str = "") -> None:
    """Print rows in columns.

    On a terminal, cells are wrapped to its width. In a pipe, each row is one line, for awk and cut.

    Args:
        titles: the names of the columns, in capitals; the last column may have long text.
        rows: the cells, as many in each row as there are titles.
        right: the titles of the columns that are aligned right, separated by blanks.
    """
    cells = [[one_line(cell) or "-" for cell in row] for row in rows]
    rights = [title in right.split() for title in titles]
    if sys.stdout.isatty():
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, pad_edge=False, header_style="bold cyan")
        for title, is_right in zip(titles, rights, strict=True):
            last = title == titles[-1]
            # Wrap long text; shortened text could be misread.
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


def print_unseen(unseen: Iterable[str]) -> None:
    """Print to standard error what could not be seen."""
    for line in unseen:
        say(f"ipckit: could not see {line}", error=True)


_BASIC: Final = 0x10000  # the first code point that JSON writes as two escapes


def _json_escaped(char: str) -> str:
    code = ord(char)
    if code < _BASIC:
        return f"\\u{code:04x}"
    code -= _BASIC
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def in_json(text: str) -> str:
    r"""Escape what could control a terminal in JSON; the value stays the same.

    With ``ensure_ascii=False``, `json.dumps` does not escape C1 control characters, bidirectional
    controls and lone surrogates. Here they become ``\uXXXX``, so the result is valid UTF-8.

    Args:
        text: the result of `json.dumps`, with line ends only between tokens.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if is_plain(char) or char == "\n" else _json_escaped(char) for char in text)
