"""The screen of ``ipckit top``, with textual."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.widgets import DataTable, Footer, Input, Static

from ipckit._cli.top.model import NUMBERS, ORDERS, SAMPLES, TITLES, Sampler, arranged, cells
from ipckit.errors import one_line

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from ipckit._cli.top.model import Row

_RIGHT = frozenset(NUMBERS.split())


class TopApp(App[None]):
    """A table that is refreshed each interval.

    Args:
        interval: seconds between two refreshes.
        order: the sort order, of `ORDERS`.
        wanted: show only rows that contain this text.
        sampler: the source of the rows; by default a new `Sampler`.
    """

    CSS = """
    #status { height: 1; }
    #objects { height: 1fr; }
    #filter { display: none; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("escape", "clear", "all", show=False),
        Binding("space", "pause", "pause"),
        *(Binding(key, f"order('{name}')", name) for name, (key, _) in ORDERS.items()),
    ]

    def __init__(
        self, *, interval: float, order: str, wanted: str, sampler: Sampler | None = None
    ) -> None:
        super().__init__()
        self._interval = interval
        self._wanted = wanted
        self._paused = False
        self._rows: list[Row] = []
        self._sampler = Sampler() if sampler is None else sampler
        self.order = order

    def compose(self) -> ComposeResult:
        """Create the status line, the table, the filter input and the list of keys."""
        yield Static(id="status", markup=False)
        yield DataTable[Text](id="objects", cursor_type="row")
        yield Input(value=self._wanted, placeholder="text to filter by", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        """Show the first rows, and start the timers."""
        objects = self._objects
        for title in TITLES:
            objects.add_column(title, key=title)
        objects.focus()
        self.refresh_rows()
        self.set_interval(self._interval / SAMPLES, self._sample)
        self.set_interval(self._interval, self._tick)

    def on_unmount(self) -> None:
        """Close the queues."""
        self._sampler.close()

    @property
    def _objects(self) -> DataTable[Text]:
        return self.query_one("#objects", DataTable)  # pyright: ignore[reportUnknownVariableType]

    def _sample(self) -> None:
        if not self._paused:
            self._sampler.sample()

    def _tick(self) -> None:
        if not self._paused:
            self.refresh_rows()

    def refresh_rows(self) -> None:
        """Survey the objects again, and show them."""
        self._rows = self._sampler.rows()
        self._show()

    def _show(self) -> None:
        objects = self._objects
        at = objects.cursor_row
        shown = arranged(self._rows, self.order, self._wanted)
        objects.clear()
        for row in shown:
            objects.add_row(
                *(
                    Text(one_line(cell), justify="right" if title in _RIGHT else "left")
                    for title, cell in zip(TITLES, cells(row), strict=True)
                ),
                key=row.address,
            )
        objects.move_cursor(row=min(at, max(0, len(shown) - 1)))
        parts = [f"{len(shown)} of {len(self._rows)} objects", f"by {self.order}"]
        parts += [f"filter {self._wanted!r}"] if self._wanted else []
        parts += ["paused"] if self._paused else []
        self.query_one("#status", Static).update("  ".join(parts))

    def action_order(self, name: str) -> None:
        """Sort by another column."""
        self.order = name
        self._show()

    def action_pause(self) -> None:
        """Pause, or continue."""
        self._paused = not self._paused
        self._show()

    def action_filter(self) -> None:
        """Show the filter input."""
        line = self.query_one("#filter", Input)
        line.display = True
        # Set the focus now, not with the next message, because the next key belongs to the filter.
        self.screen.set_focus(line)

    def action_clear(self) -> None:
        """Clear the filter."""
        self.query_one("#filter", Input).value = ""
        self._close_filter()

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).display = False
        self.screen.set_focus(self._objects)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Apply the filter while it is typed."""
        self._wanted = event.value
        self._show()

    def on_input_submitted(self) -> None:
        """Return to the table."""
        self._close_filter()
