"""``ipckit top``: watch all objects."""

from __future__ import annotations

import os
import sys
from typing import Final

import click

from ipckit._cli.address import kinds_of, kinds_option
from ipckit._cli.options import Seconds
from ipckit._cli.top.columns import ORDERS, View
from ipckit._cli.top.printed import once as print_once
from ipckit._cli.top.printed import watch

_OLD_ORDERS: Final = {"attached": "peers"}  # the name of an order before it was renamed
_EXAMPLES: Final = """\b
Examples:
  ipckit top
  ipckit top --sort waiters --filter postgres
  ipckit top --kind channel --kind topic
  ipckit top --waiting -n 60 --interval 10 >> waiters.log
  ipckit top --once --interval 5 --json
"""


class _OrderChoice(click.Choice[str]):
    """The name of an order, of `ORDERS` or an old one."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(_OLD_ORDERS.get(value, value), param, ctx)


def _has_screen() -> bool:
    """Return whether there is a terminal to show a screen on.

    textual reads keys from standard input, and draws on standard error.
    """
    terminals = (sys.stdin, sys.stdout, sys.stderr)
    return os.environ.get("TERM", "dumb") not in {"", "dumb", "unknown"} and all(
        stream.isatty() for stream in terminals
    )


@click.command(epilog=_EXAMPLES)
@click.option(
    "--interval",
    type=Seconds(min=0.05),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="The time over which rates are measured.",
)
@click.option(
    "--sort",
    "order",
    type=_OrderChoice(list(ORDERS)),
    default="messages",
    show_default=True,
    help="Sort by this column.",
)
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option(
    "--filter",
    "wanted",
    default="",
    metavar="TEXT",
    help="Show only rows with this text, also in the commands of processes.",
)
@kinds_option
@click.option("--waiting", is_flag=True, help="Show only objects on which something waits.")
@click.option("--once", is_flag=True, help="Print one table after the interval, and exit.")
@click.option(
    "-n",
    "--count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Print N tables, one after each interval, and exit.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one array for each table.")
def command(
    *,
    interval: float,
    order: str,
    reverse: bool,
    wanted: str,
    kind_names: tuple[str, ...],
    waiting: bool,
    once: bool,
    count: int | None,
    as_json: bool,
) -> int:
    """Watch all objects: messages, rates, waiters, and the processes that use them.

    On a terminal, ? shows the keys and explains the columns. Without one, and with --json or -n,
    a table is printed after each interval, until Ctrl-C.

    Rates of channels and topics are exact. Those of queues are lower bounds: the kernel does not
    count the messages that passed through a queue, so top samples each queue 20 times an interval.
    It misses a message that is sent and received between two samples.
    """
    if once and count is not None:
        message = "--once and -n exclude each other"
        raise click.UsageError(message, click.get_current_context())
    kinds = tuple(kinds_of(kind_names)) if kind_names else ()
    view = View(order, reverse, wanted, kinds, waiting)
    if once:
        print_once(interval, view, as_json=as_json)
        return 0
    if as_json or count is not None or not _has_screen():
        return watch(interval, view, count, as_json=as_json)
    from ipckit._cli.top.app import TopApp  # noqa: PLC0415 - it takes long to import

    app = TopApp(interval=interval, view=view)
    app.run()
    return app.return_code or 0
