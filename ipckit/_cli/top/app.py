"""The screen of ``ipckit top``, with textual."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

from rich.table import Table
from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.message import Message
from textual.widgets import Input, Static

from ipckit._cli.top.columns import KIND_GROUPS, ORDERS, View, arranged
from ipckit._cli.top.feed import Feed
from ipckit._cli.top.model import Sampler, judged_socket
from ipckit._cli.top.screens import DetailPage, HelpPage
from ipckit._cli.top.status import FULL, NEARLY_FULL, status
from ipckit._cli.top.table import ObjectTable, same
from ipckit.errors import one_line

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from ipckit._cli.top.model import Row
    from ipckit.inventory import IpcObject, Kind

_KEYS: Final = "? help  q quit  Enter details  / filter  k kind  W waiting  space pause"
# Actions that work on the table only, not on the pages over it.
_ON_TABLE: Final = frozenset({"filter", "clear", "kind", "waiting", "reverse", "order"})
_ALL: Final = View()
_CHECK_TERMINAL: Final = 0.5  # seconds
_BY_SIGNAL: Final = 128  # plus the signal: the status of a program that a signal ended


class TopApp(App[None]):
    """A table that is refreshed each interval, and pages over it.

    Args:
        interval: seconds between two refreshes.
        view: which rows are shown, and in which order; by default all.
        sampler: the source of the rows; by default a new `Sampler`.
    """

    CSS = """
    #status { height: 1; }
    #objects { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    #filter { display: none; }
    #keys { height: 1; text-style: dim; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", show=False),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False, priority=True),
        Binding("question_mark", "help", show=False),
        Binding("slash", "filter", show=False),
        Binding("escape", "clear", show=False),
        Binding("space", "pause", show=False),
        Binding("k", "kind(1)", show=False),
        Binding("K", "kind(-1)", show=False),
        Binding("W", "waiting", show=False),
        Binding("S", "reverse", show=False),
        *(Binding(each.key, f"order('{name}')", show=False) for name, each in ORDERS.items()),
    ]

    class Arrived(Message):
        """The rows were computed again, or that failed."""

        def __init__(self, rows: list[Row] | None, error: str = "") -> None:
            super().__init__()
            self.rows = rows
            self.error = error

    def __init__(
        self, *, interval: float, view: View = _ALL, sampler: Sampler | None = None
    ) -> None:
        super().__init__()
        self.view = view
        self._rows: list[Row] = []
        self._error = ""
        self._sampler = Sampler() if sampler is None else sampler
        self._table = ObjectTable(id="objects")
        self._status = Static(id="status", markup=False)
        self._filter = Input(placeholder="text to filter by", id="filter")
        self._detail: DetailPage | None = None
        self._judged: IpcObject | None = None  # the socket whose details are shown
        self._feed = Feed(
            self._sampler,
            interval,
            lambda rows: self.post_message(self.Arrived(rows)),
            lambda exc: self.post_message(self.Arrived(None, _text_of(exc))),
        )

    def compose(self) -> ComposeResult:
        """Create the status line, the table, the filter input and the list of keys."""
        yield self._status
        yield self._table
        yield self._filter
        yield Static(_KEYS, id="keys", markup=False)

    def on_mount(self) -> None:
        """Show the first rows, and start the thread."""
        self._filter.value = self.view.wanted
        self._table.focus()
        self.refresh_rows()
        self._feed.start()
        if not self.is_headless:
            self.set_interval(_CHECK_TERMINAL, _end_without_terminal)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) != signal.SIG_IGN:  # nohup(1) ignores SIGHUP
                    loop.add_signal_handler(number, self._end_by, number)

    def on_unmount(self) -> None:
        """Stop the thread, and close the queues."""
        self._feed.stop()
        self._sampler.close()

    def on_resize(self) -> None:
        """Fit the status line."""
        self._show_status()

    def _end_by(self, number: int) -> None:
        if number == signal.SIGHUP:
            _end_without_terminal()
        self.exit(return_code=_BY_SIGNAL + number)

    # -- rows --------------------------------------------------------------------------------------

    def refresh_rows(self) -> None:
        """Survey the objects now, and show them."""
        try:
            rows = self._sampler.rows()
        except OSError as exc:
            self.on_top_app_arrived(self.Arrived(None, _text_of(exc)))
        else:
            self.on_top_app_arrived(self.Arrived(rows))

    def on_top_app_arrived(self, event: Arrived) -> None:
        """Show the rows that the thread computed, or why it could not."""
        self._error = event.error
        if event.rows is None:
            self._show_status()
            return
        self._rows = event.rows
        self._show()
        if self._detail is not None:
            page = self._detail
            found = next((row for row in self._rows if same(row, page.row)), None)
            page.show(found and self._judged_row(found))

    def _show(self) -> None:
        shown = arranged(self._rows, self.view)
        self._table.show(shown, self.view.order)
        self._show_status()

    def _show_status(self) -> None:
        width = self._status.size.width or self.size.width
        use = self._sampler.memory_use()
        left, right = status(
            width,
            self._table.rows,
            self._rows,
            self.view,
            use,
            paused=self._feed.paused,
            error=self._error,
        )
        share = 0.0 if use is None else use[0] / use[1]
        style = "bold red" if share >= FULL else "yellow" if share >= NEARLY_FULL else ""
        line = Table.grid(expand=True)
        line.add_column(ratio=1, no_wrap=True)
        line.add_column(justify="right", no_wrap=True)
        line.add_row(Text(left), Text(right, style=style))
        self._status.update(line)

    def _set(self, view: View) -> None:
        self.view = view
        self._show()

    # -- keys on the table -------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether an action is possible: some are only on the table."""
        del parameters
        return action not in _ON_TABLE or len(self.screen_stack) == 1

    def action_order(self, name: str) -> None:
        """Sort by another column; the same again does not change anything."""
        self._set(replace(self.view, order=name, reverse=False))

    def on_object_table_sorted(self, event: ObjectTable.Sorted) -> None:
        """Sort by the column that was chosen in the table; reverse if it is the same again."""
        reverse = event.order == self.view.order and not self.view.reverse
        self._set(replace(self.view, order=event.order, reverse=reverse))

    def action_reverse(self) -> None:
        """Reverse the order."""
        self._set(replace(self.view, reverse=not self.view.reverse))

    def action_kind(self, step: int) -> None:
        """Show only the next kind of objects, of those that exist, or all."""
        found = {row.kind for row in self._rows}
        choices: list[tuple[Kind, ...]] = [
            (),
            *(kinds for kinds in KIND_GROUPS.values() if found & {*kinds}),
        ]
        at = choices.index(self.view.kinds) if self.view.kinds in choices else 0
        self._set(replace(self.view, kinds=choices[(at + step) % len(choices)]))

    def action_waiting(self) -> None:
        """Show only objects on which something waits, or all."""
        self._set(replace(self.view, waiting=not self.view.waiting))

    def action_pause(self) -> None:
        """Pause, or continue."""
        self._feed.paused = not self._feed.paused
        self._show_status()

    def action_filter(self) -> None:
        """Show the filter input."""
        self._filter.display = True
        # Set the focus now, not with the next message, because the next key belongs to the filter.
        self.screen.set_focus(self._filter)

    def action_clear(self) -> None:
        """Clear the filters."""
        self.view = replace(self.view, wanted="", kinds=(), waiting=False)
        self._filter.value = ""
        self._close_filter()
        self._show()

    def _close_filter(self) -> None:
        self._filter.display = False
        self.screen.set_focus(self._table)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Apply the filter while it is typed."""
        self._set(replace(self.view, wanted=event.value))

    def on_input_submitted(self) -> None:
        """Return to the table."""
        self._close_filter()

    # -- pages and the end -------------------------------------------------------------------------

    def action_help(self) -> None:
        """Show the keys and the columns."""
        self.push_screen(HelpPage(self._table.text.hidden))

    def on_object_table_chosen(self, event: ObjectTable.Chosen) -> None:
        """Show everything about an object."""
        row = event.row
        self._sampler.look()
        self._judged = None
        if row.item is not None and row.kind == "socket":
            with suppress(OSError):
                self._judged = judged_socket(row.item)
        self._detail = DetailPage(self._judged_row(row))
        self.push_screen(self._detail, self._close_detail)

    def _close_detail(self, result: None) -> None:
        del result
        self._detail = self._judged = None

    def _judged_row(self, row: Row) -> Row:
        """Return a row with the holders of a socket, found when its details were opened."""
        known = self._judged
        if row.item is None or known is None:
            return row
        item = replace(
            row.item,
            holders=known.holders,
            state=known.state,
            reason=known.reason,
            unseen=known.unseen,
        )
        return replace(row, item=item)

    def action_interrupt(self) -> None:
        """End as Ctrl-C ends other programs."""
        self._end_by(signal.SIGINT)


def _text_of(exc: Exception) -> str:
    return one_line(f"could not list the objects: {exc}")


def _end_without_terminal() -> None:
    """End this process, as the kernel does by SIGHUP, if the terminal was closed.

    The kernel sends the signal only to the processes of the terminal's session.
    """
    terminal = select.poll()
    terminal.register(sys.__stdin__ or 0, 0)
    if any(events & (select.POLLHUP | select.POLLERR) for _, events in terminal.poll(0)):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGHUP)
