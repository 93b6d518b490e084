"""The table on the screen of ``ipckit top``: a widget that draws only the visible rows."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ipckit._cli.top.columns import COLUMNS, ORDERS, cells
from ipckit._cli.top.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events
    from textual.binding import BindingType

    from ipckit._cli.top.model import Row

_WIDTH: Final = 80  # until the terminal has told its width
_WANTED: Final = 6  # up to this `Column.drop`, columns matter more than a long name
_FULL: Final = 0.8  # the share of a channel's capacity from which it is nearly full
_HEADER: Final = Style(bold=True, color="cyan")
_SORTED: Final = Style(bold=True, color="cyan", underline=True)
_CURSOR: Final = Style(reverse=True)
_WARNING: Final = Style(color="yellow", bold=True)
_ALARM: Final = Style(color="red", bold=True)
_PLAIN: Final = Style()
_STATES: Final = {
    "held": Style(color="green"),
    "orphaned": Style(color="yellow"),
    "unknown": Style(color="magenta"),
}


def _style(title: str, row: Row) -> Style:
    """Return the style of a cell: what needs attention stands out."""
    if title == "WAITERS":
        return _WARNING if row.waiters else _PLAIN
    if title == "DROP/s":
        return _ALARM
    if title == "STATE":
        return _STATES.get(row.state, _PLAIN)
    if title == "MESSAGES" and row.capacity and row.messages:
        share = row.messages / row.capacity
        return _ALARM if share >= 1 else _WARNING if share >= _FULL else _PLAIN
    return _PLAIN


def layout_of(rows: Sequence[Row], room: int) -> Layout:
    """Lay out rows in a width."""
    return Layout(COLUMNS, (cells(row, full=False) for row in rows), room, wanted=_WANTED)


class ObjectTable(ScrollView, can_focus=True):
    """The rows, with a cursor. The cursor stays on its object while the order changes.

    Attributes:
        rows: the rows, in their order.
        text: the rows, laid out in the width of the widget.
        cursor: the index of the row with the cursor.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "end(-1)", show=False),
        Binding("end", "end(1)", show=False),
        Binding("left", "sort(-1)", show=False),
        Binding("right", "sort(1)", show=False),
        Binding("enter", "choose", show=False),
    ]

    class Chosen(Message):
        """Enter was pressed on a row, or a click chose it."""

        def __init__(self, row: Row) -> None:
            super().__init__()
            self.row = row

    class Sorted(Message):
        """Another order was chosen in the table."""

        def __init__(self, order: str) -> None:
            super().__init__()
            self.order = order

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.rows: Sequence[Row] = []
        self.text = layout_of([], _WIDTH)
        self.cursor = 0
        self._order = "name"

    def show(self, rows: Sequence[Row], order: str) -> None:
        """Show rows.

        Args:
            rows: the rows, in their order.
            order: the order, of `ORDERS`.
        """
        at, visible = self.current, self._shows(self.cursor)
        self._order = order
        self.rows = rows
        self.text = layout_of(rows, self.scrollable_content_region.width or _WIDTH)
        self.virtual_size = Size(self.text.room, self.text.starts[-1] + 1)
        # A cursor on the first row has not been moved: then the row that is first now is of
        # interest.
        if at is not None and self.cursor:
            found = [index for index, row in enumerate(rows) if same(row, at)]
            self.cursor = found[0] if found else self.cursor
        self.cursor = min(self.cursor, max(0, len(rows) - 1))
        if visible:
            self._move_to(self.cursor)
        self.refresh()

    def _shows(self, row: int) -> bool:
        """Return whether a row is in view; false if the mouse has scrolled it away."""
        top = round(self.scroll_offset.y)
        return row < len(self.rows) and top <= self.text.starts[row] < top + self.size.height - 1

    @property
    def current(self) -> Row | None:
        """The row with the cursor."""
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    def on_resize(self) -> None:
        """Choose the columns again."""
        self.show(self.rows, self._order)

    def render_line(self, y: int) -> Strip:
        """Return a line of the widget: the titles, then the rows from where it is scrolled to."""
        width, base = self.size.width, self.rich_style
        if y == 0:
            by = ORDERS[self._order].title
            titles = [
                Segment(text, _SORTED if text == by else _HEADER) for text, _ in self.text.titles()
            ]
            return Strip(titles).adjust_cell_length(width).apply_style(base)
        row, part = self._row_at(y)
        if row is None:
            return Strip.blank(width, base)
        segments = [
            Segment(text, _PLAIN if index is None else _style(COLUMNS[index].title, self.rows[row]))
            for text, index in self.text.line(row, part)
        ]
        strip = Strip(segments).adjust_cell_length(width)
        if row == self.cursor:
            strip = strip.apply_style(_CURSOR)
        return strip.apply_style(base)

    def _row_at(self, y: int) -> tuple[int | None, int]:
        """Return the row at a line of the widget, and which of its lines it is."""
        line = y - 1 + round(self.scroll_offset.y)
        if not 0 <= line < self.text.starts[-1]:
            return None, 0
        row = bisect_right(self.text.starts, line) - 1
        return row, line - self.text.starts[row]

    def _move_to(self, row: int) -> None:
        self.cursor = max(0, min(row, len(self.rows) - 1))
        if self.rows:
            top, bottom = self.text.starts[self.cursor], self.text.starts[self.cursor + 1]
            seen = round(self.scroll_offset.y)
            height = max(1, self.scrollable_content_region.height - 1)
            if top < seen:
                self.scroll_to(y=top, animate=False)
            elif bottom > seen + height:
                self.scroll_to(y=bottom - height, animate=False)
        self.refresh()

    def action_move(self, rows: int) -> None:
        """Move the cursor by some rows."""
        self._move_to(self.cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by some pages."""
        self._move_to(self.cursor + pages * max(1, self.size.height - 2))

    def action_end(self, way: int) -> None:
        """Move the cursor to the first or the last row."""
        self._move_to(0 if way < 0 else len(self.rows))

    def action_sort(self, columns: int) -> None:
        """Sort by the next column to the left or right that has an order."""
        titles = [COLUMNS[index].title for index in self.text.widths]
        orders = {each.title: name for name, each in ORDERS.items()}
        choices = [orders[title] for title in titles if title in orders]
        if self._order in choices:
            at = choices.index(self._order) + columns
            self.post_message(self.Sorted(choices[at % len(choices)]))
        elif choices:
            self.post_message(self.Sorted(choices[0]))

    def action_choose(self) -> None:
        """Choose the row with the cursor."""
        if self.current is not None:
            self.post_message(self.Chosen(self.current))

    def on_click(self, event: events.Click) -> None:
        """Sort by the clicked title; move the cursor to a row, and choose it by a second click."""
        if event.y == 0:
            title = self.text.title_at(event.x)
            for name, order in ORDERS.items():
                if order.title == title:
                    self.post_message(self.Sorted(name))
            return
        row, _ = self._row_at(event.y)
        if row is not None and row == self.cursor:
            self.action_choose()
        elif row is not None:
            self._move_to(row)


def same(one: Row, other: Row) -> bool:
    """Return whether two rows are of the same object."""
    return one.address == other.address and (
        one.item is None or other.item is None or one.item.identity == other.item.identity
    )
