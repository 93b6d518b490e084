"""The other screens of ``ipckit top``: the details of an object, and the help."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from ipckit._cli import facts
from ipckit._cli.output import wrapped
from ipckit._cli.top.columns import number
from ipckit._cli.top.layout import Layout
from ipckit.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from ipckit._cli.top.model import Row

KEYS: Final = (
    ("Enter, click", "show all about an object; Escape leads back"),
    ("n m b r d w a", "sort by name, messages, bytes, rate, drops, waiters, peers"),
    ("left right S", "sort by the next column; S reverses; or click on a title"),
    ("/", "show only rows with a text: address, key, owner, or command"),
    ("k K", "show only one kind of objects: the next, the previous"),
    ("W", "show only objects on which something waits"),
    ("Escape", "clear the filters"),
    ("space", "pause or continue"),
    ("q, Ctrl-Z", "quit; suspend"),
)
TITLES: Final = (
    ("OBJECT", "its address: ipckit stat OBJECT shows the same details"),
    ("MESSAGES", "waiting, and how many fit; topic: unread by the slowest"),
    ("BYTES", "of waiting messages, or of memory"),
    ("IN/s OUT/s", "messages sent and received a second; of a queue, at least"),
    ("DROP/s", "messages lost a second: overwritten, or by slow subscribers"),
    ("WAITERS", "threads (semaphore), processes (queue) or peers that wait"),
    ("PEERS", "peers, attaches, connections, or processes that hold it"),
    ("TAKEN", "messages taken from a channel and not acknowledged"),
    ("VALUES", "of semaphores"),
    ("BRIDGE", "where a bridge leads, messages carried a second, on the way"),
    ("STATE", "held, used, orphaned or unknown: see ipckit ls --help"),
    ("WHO, LAST", "processes that hold it or used it last; the last user"),
)
_FIELD: Final = 17  # cells of the name of a field
_LEFT: Final = max(len(name) for name, _ in (*KEYS, *TITLES)) + 2


def help_lines() -> list[str]:
    """Return the lines of the help, which fits a terminal of 80 columns and 24 lines."""
    rows = (*KEYS, ("", ""), *TITLES)
    return [f"{name:<{_LEFT}}{meaning}".rstrip() for name, meaning in rows]


def rates(row: Row) -> str:
    """Return the rates of an object in words; "" if none are known."""
    parts = [
        f"{number(value, full=True)} {what}"
        for value, what in (
            (row.rate_in, "messages in"),
            (row.rate_out, "out"),
            (row.dropped or None, "dropped"),
            (row.bytes_in, "bytes in"),
            (row.bytes_out, "bytes out"),
        )
        if value is not None
    ]
    return ", ".join(parts)


def detail_lines(row: Row, width: int) -> list[str]:
    """Return what `ipckit stat` shows about an object, and its rates.

    Args:
        row: the object.
        width: the cells of a line.
    """
    lines: list[str] = []

    def add(name: str, text: str) -> None:
        if text:
            first, *more = wrapped(one_line(text), max(_FIELD, width - _FIELD))
            lines.append(f"{name + ':':<{_FIELD}}{first}")
            lines.extend(" " * _FIELD + line for line in more)

    add("rates a second", rates(row))
    if row.item is None:
        return lines
    lines += [""] if lines else []
    # First what matters most: which processes use it, and what they wait for.
    for columns, rows in (facts.peers(row.item), facts.processes(row.item, grouped=True)):
        if rows:
            lines += [*Layout(columns, rows, width).lines(), ""]
    for name, text in facts.fields(row.item):
        add(name, text)
    return lines


class _Page(Screen[None]):
    """A page of text over the table. Escape leaves it."""

    CSS = """
    .title { height: 1; text-style: bold; color: cyan; }
    .keys { height: 1; text-style: dim; }
    VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", show=False),
        Binding("enter", "dismiss", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._title = Static(classes="title", markup=False)
        self._text = Static(markup=False)

    def compose(self) -> ComposeResult:
        """Create the title, the text and the list of keys."""
        yield self._title
        with VerticalScroll():
            yield self._text
        yield Static("Escape back  up down scroll  ? help  q quit", classes="keys", markup=False)

    def on_mount(self) -> None:
        """Let the arrows scroll."""
        self.query_one(VerticalScroll).focus()

    def _show(self, title: str, lines: Iterable[str]) -> None:
        # Text, because a name must not be read as markup.
        self._title.update(Text(one_line(title), no_wrap=True))
        self._text.update(Text("\n".join(map(one_line, lines))))


class HelpPage(_Page):
    """The keys and the columns.

    Args:
        hidden: the titles of the columns that the table has no room for.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "dismiss", show=False)]

    def __init__(self, hidden: Sequence[str]) -> None:
        super().__init__()
        title = "Keys and columns"
        self._show(f"{title}. No room for {' '.join(hidden)}" if hidden else title, help_lines())


class DetailPage(_Page):
    """Everything that is known about one object.

    Args:
        row: the object.

    Attributes:
        row: the object as it was last seen.
    """

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.row = row
        self._gone = False

    def show(self, row: Row | None) -> None:
        """Show the object as it is now; None: it no longer exists, and the text stays."""
        self._gone = row is None
        self.row = row or self.row
        self._refresh_text()

    def on_resize(self) -> None:
        """Fit the text to the terminal."""
        self._refresh_text()

    def _refresh_text(self) -> None:
        gone = ": it no longer exists" if self._gone else ""
        try:
            # The scroll bar takes the last cell when it is needed.
            lines = detail_lines(self.row, max(1, self.size.width - 1))
        except Exception as exc:
            # Another user may have written anything into the memory of a channel.
            lines = [f"could not show its details: {exc!r}"]
        self._show(f"{self.row.address}{gone}", lines)
