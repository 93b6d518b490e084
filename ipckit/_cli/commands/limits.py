"""``ipckit limits``: show the limits that apply to IPC, and how to change them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import click

from ipckit._cli import words
from ipckit._cli.limits_table import process_limits, table
from ipckit._cli.output import Column, print_json, print_table, say, terminal_size
from ipckit.errors import AccessDenied, NotFound

if TYPE_CHECKING:
    from ipckit._cli.limits_table import Limit

_EXAMPLES: Final = """\b
Examples:
  ipckit limits
  ipckit limits --pid 1234
  ipckit limits --json | jq -r '.[] | select(.share > 0.8) | .change'
"""


_COLUMNS: Final = (
    Column("LIMIT"),
    Column("VALUE", right=True),
    Column("UNIT", drop=1),
    Column("USED", right=True),
    Column("USE%", right=True),
    Column("OF WHAT", cuts=True),
    Column("CHANGE", drop=2),
)
_MUCH: Final = 0.5  # of a limit; from here on its cure is shown, if there is no room for all
_OTHER_LINES: Final = 4  # besides the rows: titles, what is not shown, and the next prompt


def _cells(each: Limit) -> list[str]:
    return [
        each.name,
        _shown(each.value, each.unit, none="unlimited" if each.used is not None else ""),
        each.unit,
        _shown(each.used, each.unit, none=""),
        "" if each.share is None else f"{each.share:.0%}",
        each.meaning,
        each.change,
    ]


def _shown(value: int | None, unit: str, *, none: str) -> str:
    if value is None:
        return none
    return words.human(value) if unit == "bytes" else f"{value:,}"


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
@click.option("--wide", is_flag=True, help="Show all columns.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array; share is used / value.")
def command(*, pid: int | None, wide: bool, as_json: bool) -> None:
    """Show every limit that applies to IPC: its value, its use, and how to raise it.

    The limits that are nearly used up come first. If a terminal has no room for CHANGE, it is shown
    below the table for limits of which more than half is used; if it has too few lines, limits
    whose use is not counted are left out.

    The command under CHANGE doubles the limit until the next boot; /dev/shm gets at least 1
    GiB. To keep it, put the setting into a file in /etc/sysctl.d. For a container, use docker run
    --sysctl.
    """
    rows = table(pid or _shell())
    if as_json:
        print_json([each.as_dict() for each in rows])
        return
    # Those of which little is used stay together by subject.
    rows.sort(key=lambda each: round(each.share or 0.0, 2), reverse=True)
    short = [each for each in rows if each.used is not None]
    on_terminal = sys.stdout.isatty() and not wide
    fits = not on_terminal or len(rows) + _OTHER_LINES <= terminal_size().lines
    shown = rows if fits else short
    hidden = print_table(_COLUMNS, map(_cells, shown), wide=wide)
    if not fits:
        count = len(rows) - len(short)
        say(f"and {words.counted(count, 'limit')} whose use is not counted: --wide or a pipe")
    if "CHANGE" not in hidden:
        return
    for each in rows:
        if (each.share or 0.0) > _MUCH and each.change:
            say(f"to raise {each.name}, of which {each.share:.0%} is used:")
            say(f"  {each.change}")
