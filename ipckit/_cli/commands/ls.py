"""``ipckit ls``: list the objects, which processes hold them, and which are orphaned."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ipckit import inventory
from ipckit._cli import words
from ipckit._cli.address import kinds_of, kinds_option
from ipckit._cli.limits_table import is_hidden
from ipckit._cli.output import Column, ascii_output, json_of, print_table, print_unseen, say
from ipckit.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.inventory import IpcObject, Survey

_COLUMNS: Final[tuple[tuple[Column, Callable[[IpcObject], str]], ...]] = (
    (Column("OBJECT"), words.address),
    (Column("KEY", drop=4), words.key),
    (Column("OWNER", drop=2), lambda item: item.owner),
    (Column("MODE", drop=5), words.mode),
    (Column("SIZE", right=True, drop=3), lambda item: words.human(item.size)),
    (Column("USED", cuts=True), words.used),
    (Column("AGE", right=True), lambda item: words.duration(item.age)),
    (Column("STATE"), lambda item: item.state),
    (Column("WHY", drop=1, cuts=True), words.evidence),
)
_WIDE: Final[tuple[tuple[Column, Callable[[IpcObject], str]], ...]] = (
    (Column("OBJECT"), words.address),
    (Column("KIND"), lambda item: item.kind),
    (Column("KEY"), words.key),
    (Column("ID", right=True), lambda item: str(item.id)),
    (Column("NAME"), lambda item: words.name(item.name)),
    (Column("OWNER"), lambda item: item.owner),
    (Column("GROUP"), lambda item: item.group),
    (Column("MODE"), words.mode),
    (Column("SIZE", right=True), lambda item: "" if item.size is None else str(item.size)),
    (Column("USED"), words.used),
    (Column("AGE", right=True), lambda item: words.duration(item.age)),
    (Column("CREATOR"), lambda item: words.processes([item.creator] if item.creator else [])),
    (Column("LAST USERS"), lambda item: words.processes(item.users)),
    (Column("HOLDERS"), lambda item: words.processes(item.holders)),
    (Column("STATE"), lambda item: item.state),
    (Column("WHY"), words.evidence),
)
_EXAMPLES: Final = """\b
Examples:
  ipckit ls                       all objects
  ipckit ls --kind queue --mine   my queues, System V and POSIX
  ipckit ls --pid 4711            what a process holds, waits on or used
  ipckit ls --orphans --wide      only orphaned objects, all columns
  ipckit ls --json | jq -r '.objects[] | select(.orphaned) | .address'
"""


def of_process(items: list[IpcObject], pid: int) -> list[IpcObject]:
    """Return the objects that a process holds, waits on, created or used last.

    Args:
        items: the objects.
        pid: the process. If it has exited, the objects that record it are returned.

    Raises:
        NotFound: there is no such process, and no object records it.
    """
    lives = is_hidden(pid) or Path(f"/proc/{pid}").is_dir()
    found: list[IpcObject] = []
    for item in items:
        recorded = (each for each in (item.creator, *item.users) if each is not None)
        pids = {each.pid for each in recorded if each.alive or not lives}
        pids |= {each.pid for each in item.holders}
        pids |= {each.pid for each in item.peers if each.command}
        if pid in pids:
            found.append(item)
    if not found and not lives:
        message = "no such process"
        raise NotFound(message, errno=errno.ESRCH, target=f"pid {pid}")
    return found


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
@click.option(
    "--pid",
    type=click.IntRange(min=1),
    metavar="PID",
    help="Only objects that this process holds, waits on, created or used last.",
)
@click.option("--wide", is_flag=True, help="Show all columns, and full names.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with stable names.")
def command(
    kind_names: tuple[str, ...],
    *,
    mine: bool,
    orphans: bool,
    pid: int | None,
    wide: bool,
    as_json: bool,
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
    if pid is not None:
        items = of_process(items, pid)
    if as_json:
        _print_json(items, found)
        return
    on_terminal = sys.stdout.isatty()
    columns = _WIDE if wide else _COLUMNS
    rows = ([text(item) for _, text in columns] for item in items)
    if items or not on_terminal:
        print_table([column for column, _ in columns], rows, wide=wide)
    else:
        say("no objects match" if kind_names or mine or orphans or pid else "no objects")
    print_unseen(found.unseen)
