"""``ipckit limits``: show the limits that apply to IPC, and how to change them."""

from __future__ import annotations

import os
from typing import Final

import click

from ipckit._cli.limits_table import process_limits, table
from ipckit._cli.output import Column, print_json, print_table
from ipckit.errors import AccessDenied, NotFound

_EXAMPLES: Final = """\b
Examples:
  ipckit limits
  ipckit limits --pid 1234
  ipckit limits --json | jq -r '.[] | select(.share > 0.8) | .change'
"""


def _shown(value: int | None, *, none: str) -> str:
    return none if value is None else str(value)


def _shell() -> int:
    """Return the pid whose limits to show by default: the parent's, if they can be read.

    The init process of a container has no parent. If /proc hides the parent because it belongs to
    another user, this process shows the same limits, because it inherited them.
    """
    parent = os.getppid()
    try:
        process_limits(parent)
    except (NotFound, AccessDenied):
        return os.getpid()
    return parent


@click.command(epilog=_EXAMPLES)
@click.option(
    "--pid",
    type=click.IntRange(min=1),
    metavar="PID",
    help="Show the RLIMIT_* of this process; by default of the shell.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array; share is used / value.")
def command(*, pid: int | None, as_json: bool) -> None:
    """Show every limit that applies to IPC: its value, its use, and how to raise it.

    The command under CHANGE doubles the limit until the next boot. To keep it, put the setting
    into a file in /etc/sysctl.d. For a container, use docker run --sysctl.
    """
    rows = table(pid or _shell())
    if as_json:
        print_json([each.as_dict() for each in rows])
        return
    cells = [
        [
            each.name,
            _shown(each.value, none="unlimited" if each.used is not None else ""),
            _shown(each.used, none=""),
            "" if each.share is None else f"{each.share:.0%}",
            each.unit,
            each.meaning,
            each.change,
        ]
        for each in rows
    ]
    columns = [
        Column("LIMIT"),
        Column("VALUE", right=True),
        Column("USED", right=True),
        Column("USE%", right=True),
        Column("UNIT", drop=1),
        Column("OF WHAT", drop=2, cuts=True),
        Column("CHANGE", drop=3),
    ]
    print_table(columns, cells)
