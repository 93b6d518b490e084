"""``ipckit top``: queues, segments and semaphores, live."""

from __future__ import annotations

import time
from typing import Final

import click

from ipckit._cli.options import Seconds
from ipckit._cli.output import print_json, print_table
from ipckit._cli.top.model import LOOKS, NUMBERS, ORDERS, TITLES, Row, Sampler, arranged, cells

_EXAMPLES: Final = """\b
Examples:
  ipckit top
  ipckit top --sort waiters --filter postgres
  ipckit top --once --interval 5 --json
"""


def _snapshot(interval: float) -> list[Row]:
    sampler = Sampler()
    try:
        for _ in range(LOOKS - 1):
            time.sleep(interval / LOOKS)
            sampler.look()
        time.sleep(interval / LOOKS)
        return sampler.rows()
    finally:
        sampler.close()


@click.command(epilog=_EXAMPLES)
@click.option(
    "--interval",
    type=Seconds(min=0.05),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Take rates over so long.",
)
@click.option(
    "--sort",
    "order",
    type=click.Choice(list(ORDERS)),
    default="messages",
    show_default=True,
    help="Put these first.",
)
@click.option(
    "--filter", "wanted", default="", metavar="TEXT", help="Show only what has this text."
)
@click.option("--once", is_flag=True, help="Print one table after the interval, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --once, a JSON array.")
def command(*, interval: float, order: str, wanted: str, once: bool, as_json: bool) -> None:
    """Watch message queues, System V segments and semaphores.

    Keys: n m b r w a sort by name, messages, bytes, rate, waiters, attached; / filters; space
    pauses; q quits. Rates are lower bounds: the kernel does not count the messages that passed,
    so each queue is looked at 20 times an interval, and what comes and goes between two looks
    is not seen.
    """
    if as_json and not once:
        message = "--json goes with --once"
        raise click.UsageError(message, click.get_current_context())
    if not once:
        from ipckit._cli.top.app import TopApp  # noqa: PLC0415

        TopApp(interval=interval, order=order, wanted=wanted).run()
        return
    rows = arranged(_snapshot(interval), order, wanted)
    if as_json:
        print_json([row.as_dict() for row in rows])
    else:
        print_table(TITLES, map(cells, rows), right=NUMBERS)
