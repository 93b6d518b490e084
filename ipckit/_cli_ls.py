"""``ipckit ls``: what exists."""

from __future__ import annotations

import click

from ipckit import inventory
from ipckit._cli_common import print_table


@click.command(epilog="Example: ipckit ls")
def command() -> None:
    """List the IPC objects."""
    rows = [[each.address, each.kind, each.owner] for each in inventory.survey().objects]
    print_table(["OBJECT", "KIND", "OWNER"], rows)
