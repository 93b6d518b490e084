"""``ipckit top``: watch queues, segments and semaphores."""

from __future__ import annotations

import time
from typing import Final

import click

from ipckit._cli.options import Seconds
from ipckit._cli.output import Column, print_json, print_table
from ipckit._cli.top.model import NUMBERS, ORDERS, SAMPLES, TITLES, Row, Sampler, arranged, cells

_EXAMPLES: Final = """\b
Examples:
  ipckit top
  ipckit top --sort waiters --filter postgres
  ipckit top --once --interval 5 --json
"""
# What a narrow terminal leaves out of the table: the highest numbers first.
_DROPS: Final = {"OBJECT": 0, "MESSAGES": 0, "WAITERS": 0, "KEY": 4, "OWNER": 3, "LAST": 3}


def _snapshot(interval: float) -> list[Row]:
    sampler = Sampler()
    try:
        for _ in range(SAMPLES - 1):
            time.sleep(interval / SAMPLES)
            sampler.sample()
        time.sleep(interval / SAMPLES)
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
    help="The time over which rates are measured.",
)
@click.option(
    "--sort",
    "order",
    type=click.Choice(list(ORDERS)),
    default="messages",
    show_default=True,
    help="Sort by this column.",
)
@click.option(
    "--filter",
    "wanted",
    default="",
    metavar="TEXT",
    help="Show only rows with this text.",
)
@click.option("--once", is_flag=True, help="Print one table after the interval, and exit.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print a JSON array.")
def command(*, interval: float, order: str, wanted: str, once: bool, as_json: bool) -> None:
    """Watch message queues, System V segments and semaphores.

    Keys: n m b r w a sort by name, messages, bytes, rate, waiters, attached; / filters; space
    pauses; q quits. Rates are lower bounds: the kernel does not count the messages that passed
    through a queue, so top samples each queue 20 times an interval. It misses a message that is
    sent and received between two samples.
    """
    if as_json and not once:
        message = "--json needs --once"
        raise click.UsageError(message, click.get_current_context())
    if not once:
        from ipckit._cli.top.app import TopApp  # noqa: PLC0415

        TopApp(interval=interval, order=order, wanted=wanted).run()
        return
    rows = arranged(_snapshot(interval), order, wanted)
    if as_json:
        print_json([row.as_dict() for row in rows])
    else:
        print_table(
            [
                Column(title, right=title in NUMBERS.split(), drop=_DROPS.get(title, 1))
                for title in TITLES
            ],
            map(cells, rows),
        )
