"""What every command prints, and where; the exit statuses; and questions before a removal."""

from __future__ import annotations

import codecs
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from ipckit.errors import is_plain, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console


DONE: Final = 0
ERROR: Final = 1
USAGE: Final = 2
REFUSED: Final = 3

# ANSI codes; see console_codes(4).
_HEADER: Final = "1;36"  # bold cyan
_DIM: Final = "2"
_STATES: Final = {"orphaned": "33", "held": "32", "unknown": "35"}  # yellow, green, magenta


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
    from rich.console import Console  # noqa: PLC0415 - it takes long to import

    return Console(highlight=False)


def coloured() -> bool:
    """Return whether standard output is a terminal that shows colours, without NO_COLOR."""
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") not in {"dumb", "unknown"}
    )


def terminal_size() -> os.terminal_size:
    """Return the size of the terminal: COLUMNS and LINES, or what the kernel says, or 80x24."""
    import shutil  # noqa: PLC0415 - a pipe needs no width, and it takes long to import

    return shutil.get_terminal_size()


def paint(text: str, code: str) -> str:
    """Return a text in a colour or style, by its ANSI code; the text itself if `code` is ""."""
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


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


def require_output(what: str) -> None:
    """Refuse a command whose output exists nowhere else, if the caller closed standard output.

    Args:
        what: what did not happen, such as ``"nothing was received"``.

    Raises:
        ClickException: standard output was closed when the program started (``>&-``).
    """
    # The replacement of ``python -m ipckit`` is a file on descriptor 1. A caller of `cli.run` may
    # have put another file into sys.stdout.
    if sys.__stdout__ is None and getattr(sys.stdout, "name", None) == 1:
        message = f"standard output is closed; {what}"
        raise click.ClickException(message)


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
    """Return whether standard output is not UTF-8, so that JSON must be ASCII."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return codecs.lookup(encoding).name != "utf-8"


def print_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    click.echo(json_of(value, indent=2, ascii_only=ascii_output()))


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: its name, in capitals.
        right: its cells are aligned right.
        drop: 0 if it is always shown. A terminal that is too narrow leaves out the columns with
            the highest number first.
        cuts: a terminal that is too narrow may shorten its cells. Never for names, keys and ids.
    """

    title: str
    right: bool = False
    drop: int = 0
    cuts: bool = False


_EMPTY: Final = "-"  # a cell without content
_GAP: Final = 2  # blanks between columns
# A column with `cuts` that is always shown keeps this width while there are others to leave out.
_KEPT_CUT: Final = 24
_LEAST_CUT: Final = 12  # no column is shortened below this
_LEAST_NAME: Final = 12  # no first column is narrower, if its names are not
_WIDE_NAME: Final = 40  # a name up to this width needs no line of its own on a wide terminal
_FIELD: Final = 16  # cells of the name of a field


def width_of(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width  # noqa: PLC0415 - few texts need it

    total = 0
    for char in text:
        # A mark is drawn over the character before it, and so are the vowels of Hangul.
        if category(char) in {"Mn", "Me"} or "\u1160" <= char <= "\u11ff":
            continue
        total += 2 if east_asian_width(char) in {"W", "F"} else 1
    return total


def shortened(text: str, width: int) -> str:
    """Return a text; its start and ``…`` if it takes more than `width` cells."""
    if width_of(text) <= width:
        return text
    mark = "..." if ascii_output() else "…"
    room, end = width - len(mark), 0
    for char in text:
        room -= width_of(char)
        if room < 0:
            break
        end += 1
    return text[:end].rstrip() + mark


def _printed(cell: str) -> str:
    """Return a cell as standard output shows it: on one line, with an escape for what it lacks.

    Of two blanks in a row, which would look like the end of the column, the second is escaped.
    """
    text = one_line(cell).replace("  ", r" \x20") or _EMPTY
    if text.isascii():
        return text
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def fit(columns: Sequence[Column], widths: Sequence[int], room: int) -> dict[int, int]:
    """Choose the columns that a terminal has room for.

    Columns are left out by `Column.drop`, of those with the same number the right one first. Then
    those with `Column.cuts` are shortened, and the last of them takes what is left.

    Args:
        columns: all columns; the first is always chosen.
        widths: the cells that the widest text of each column takes.
        room: the cells of a line.

    Returns:
        The width of each chosen column, by its index.
    """
    least, kept = list(widths), list(widths)
    for index, (title, _, drop, cuts) in enumerate(columns):
        if cuts:
            least[index] = min(widths[index], max(_LEAST_CUT, width_of(title)))
            kept[index] = least[index] if drop else min(widths[index], _KEPT_CUT)
    chosen = sorted(range(1, len(columns)), key=lambda index: columns[index].drop)

    def spare(taken: Sequence[int]) -> int:
        return room - taken[0] - sum(_GAP + taken[index] for index in chosen)

    while chosen and spare(kept if columns[chosen[-1]].drop else least) < 0:
        chosen.pop()
    found = {index: least[index] for index in (0, *sorted(chosen))}
    left = max(0, spare(least))
    for index in found:
        more = min(left, widths[index] - least[index])
        found[index] += more
        left -= more
    return found


def _longest_name(columns: Sequence[Column], widths: Sequence[int], room: int) -> int:
    """Return the cells that a name can take without a line of its own.

    The columns that are always shown must fit beside it, and most of a wide line is for the rest.
    """
    always = [
        _GAP + (min(width, _KEPT_CUT) if column.cuts else width)
        for column, width in zip(columns[1:], widths[1:], strict=True)
        if column.drop == 0
    ]
    return max(_LEAST_NAME, min(room - sum(always), max(_WIDE_NAME, room // 3)))


def _lines(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], widths: dict[int, int]
) -> Iterator[str]:
    """Yield the lines of a table: the titles and the rows, in columns of these widths."""
    last, colours = max(widths), coloured()

    def line(cells: Sequence[str], styles: dict[str, str], default: str = "") -> str:
        parts: list[str] = []
        for index, width in widths.items():
            text = cells[index]
            if width_of(text) > width:
                text = shortened(text, width)
            blanks = " " * (width - width_of(text))
            shown = paint(text, styles.get(text, default)) if colours else text
            if columns[index].right:
                parts.append(blanks + shown)
            else:
                parts.append(shown if index == last else shown + blanks)
        return (" " * _GAP).join(parts)

    yield line([column.title for column in columns], {}, _HEADER)
    for row in rows:
        name, *rest = row
        if width_of(name) <= widths[0]:
            yield line(row, _STATES)
            continue
        yield name
        if last > 0:
            yield line(["", *rest], _STATES)


def print_table(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], *, wide: bool | None = None
) -> list[str]:
    """Print rows in columns.

    In a pipe, each row is one line with all columns in full, for awk and cut. On a terminal, no row
    is wrapped: `fit` chooses the columns, and the last line names those that were left out. Columns
    without content are left out too. If a name in the first column is too long for that, it has a
    line of its own, in full.

    Args:
        columns: the columns; the first has the names of the rows, which are never shortened.
        rows: the cells, as many in each row as there are columns.
        wide: the command's option --wide, which prints everything on a terminal too; None if the
            command has none.

    Returns:
        The titles of the columns that were left out, because the terminal is too narrow.
    """
    cells = [[_printed(cell) for cell in row] for row in rows]
    by_column = list(zip(*cells, strict=True)) or [()] * len(columns)
    widths = [
        max(map(width_of, (column.title, *found)))
        for column, found in zip(columns, by_column, strict=True)
    ]
    if wide or not sys.stdout.isatty():
        click.echo("\n".join(_lines(columns, cells, dict(enumerate(widths)))))
        return []
    room = terminal_size().columns
    filled = [
        index
        for index, column in enumerate(columns)
        if column.drop == 0 or not cells or set(by_column[index]) != {_EMPTY}
    ]
    some = [columns[index] for index in filled]
    needed = [widths[index] for index in filled]
    if sum(needed) + _GAP * (len(needed) - 1) > room:
        longest = _longest_name(some, needed, room)
        names = (width_of(name) for name in by_column[0])
        needed[0] = max((width_of(some[0].title), *(width for width in names if width <= longest)))
    chosen = {filled[index]: width for index, width in fit(some, needed, room).items()}
    click.echo("\n".join(_lines(columns, cells, chosen)))
    hidden = [columns[index].title for index in filled if index not in chosen]
    if hidden:
        way = "a pipe" if wide is None else "--wide or a pipe"
        note = f"not shown at {room} columns: {' '.join(hidden)}; all columns: {way}"
        note = shortened(note, room)
        click.echo(paint(note, _DIM) if coloured() else note)
    return hidden


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text that is wrapped at blanks; a longer word has a line of its own."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if width_of(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and texts, a line each, without those that are empty; a terminal wraps them."""
    start = _FIELD + 1
    room = max(terminal_size().columns - start, _FIELD) if sys.stdout.isatty() else None
    for name, value in fields:
        text = _printed(value)
        if value:
            lines = [text] if room is None else wrapped(text, room)
            click.echo(f"{name + ':':<{_FIELD}} " + ("\n" + " " * start).join(lines))


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
