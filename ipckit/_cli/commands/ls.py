"""``ipckit ls``: list the objects, which processes hold them, and which are orphaned."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from ipckit import inventory
from ipckit._cli import words
from ipckit._cli.address import kinds_of, kinds_option
from ipckit._cli.output import ascii_output, json_of, print_table, print_unseen
from ipckit.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.inventory import IpcObject, Survey

_ADDRESS_SHOWN: Final = 48

Columns = dict[str, "Callable[[IpcObject], str]"]


def _address(item: IpcObject) -> str:
    text = one_line(item.address)
    return text if len(text) <= _ADDRESS_SHOWN else f"{text[: _ADDRESS_SHOWN - 3]}..."


_COLUMNS: Final[Columns] = {
    "OBJECT": _address,
    "KEY": words.key,
    "OWNER": lambda item: item.owner,
    "MODE": words.mode,
    "SIZE": lambda item: "" if item.size is None else words.human(item.size),
    "USED": words.used,
    "AGE": lambda item: words.duration(item.age),
    "STATE": lambda item: item.state,
    "WHY": lambda item: item.reason,
}
_WIDE: Final[Columns] = {
    "OBJECT": lambda item: item.address,
    "KIND": lambda item: item.kind,
    "KEY": words.key,
    "ID": lambda item: str(item.id),
    "NAME": lambda item: item.name,
    "OWNER": lambda item: item.owner,
    "GROUP": lambda item: item.group,
    "MODE": words.mode,
    "SIZE": lambda item: "" if item.size is None else str(item.size),
    "USED": words.used,
    "AGE": lambda item: words.duration(item.age),
    "CREATOR": lambda item: words.processes([item.creator] if item.creator else []),
    "LAST USERS": lambda item: words.processes(item.users),
    "HOLDERS": lambda item: words.processes(item.holders),
    "STATE": lambda item: item.state,
    "WHY": lambda item: item.reason,
}
_EXAMPLES: Final = """\b
Examples:
  ipckit ls                       all objects
  ipckit ls --kind queue --mine   my queues, System V and POSIX
  ipckit ls --orphans --wide      only orphaned objects, all columns
  ipckit ls --json | jq -r '.objects[] | select(.orphaned) | .address'
"""


def _print_json(items: list[IpcObject], found: Survey) -> None:
    """Print one object on each line, so that grep finds one of thousands."""
    ascii_only = ascii_output()
    lines = ",\n".join(json_of(item.as_dict(), ascii_only=ascii_only) for item in items)
    rest = json_of({"unseen": found.unseen, "taken": found.taken}, ascii_only=ascii_only)
    click.echo(f'{{"objects": [\n{lines}\n],\n{rest[1:]}')


@click.command(epilog=_EXAMPLES)
@kinds_option
@click.option("--mine", is_flag=True, help="Only objects that belong to you.")
@click.option("--orphans", is_flag=True, help="Only orphaned objects.")
@click.option("--wide", is_flag=True, help="Show all columns, and full names.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with stable names.")
def command(
    kind_names: tuple[str, ...], *, mine: bool, orphans: bool, wide: bool, as_json: bool
) -> None:
    """List the IPC objects of this system.

    STATE is held if a live process has the object or waits on it; used if its creator or last user
    is still running; orphaned if neither is true; unknown if ipckit could not see enough to tell.
    WHY is the evidence. AGE is the time since the last change or use. Standard error says what
    could not be seen.
    """
    found = inventory.survey(kinds_of(kind_names), ignore_self=True)
    items = [
        item
        for item in found.objects
        if (not mine or item.uid == os.geteuid()) and (not orphans or item.orphaned)
    ]
    if as_json:
        _print_json(items, found)
        return
    columns = _WIDE if wide else _COLUMNS
    rows = [[cell(item) for cell in columns.values()] for item in items]
    print_table(list(columns), rows, right="SIZE AGE ID")
    print_unseen(found.unseen)
