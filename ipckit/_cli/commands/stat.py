"""``ipckit stat``: show everything that is known about one object."""

from __future__ import annotations

import sys
from typing import Final

import click

from ipckit._cli import facts
from ipckit._cli.address import resolve
from ipckit._cli.commands.ps import PID_PREFIX, StatType, show
from ipckit._cli.output import print_fields, print_json, print_table, say

_EXAMPLES: Final = """\b
Examples:
  ipckit stat q:5            a System V queue
  ipckit stat shm:/frames    POSIX shared memory
  ipckit stat --json 0x4d2   the System V object with that key
  ipckit stat pid:4711       a process, as `ipckit ps 4711`
"""


@click.command(epilog=_EXAMPLES)
@click.argument("object_", metavar="OBJECT", type=StatType())
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with stable names.")
def command(object_: str, *, as_json: bool) -> None:
    """Show everything that is known about one object; of pid:PID, what `ipckit ps PID` shows."""
    if object_.startswith(PID_PREFIX):
        show(object_.removeprefix(PID_PREFIX), as_json=as_json)
        return
    item = resolve(object_, holders=True)
    if as_json:
        print_json(item.as_dict())
        return
    print_fields(facts.fields(item))
    for columns, rows in (facts.peers(item), facts.processes(item, grouped=sys.stdout.isatty())):
        if rows:
            say("")
            print_table(columns, rows)
