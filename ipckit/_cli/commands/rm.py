"""``ipckit rm``: remove the named objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ipckit import inventory
from ipckit._cli import words
from ipckit._cli.address import OBJECT, asked_kinds, choose
from ipckit._cli.output import DONE, ERROR, REFUSED, confirm, say
from ipckit.errors import InUse, IpcError

if TYPE_CHECKING:
    from ipckit.inventory import IpcObject, Kind

_EXAMPLES: Final = """\b
Examples:
  ipckit rm q:5              ask first
  ipckit rm --yes q:5 m:7    do not ask, for scripts
  ipckit rm --force shm:/a   even if a process has it mapped
"""


@click.command(epilog=_EXAMPLES)
@click.argument("objects", metavar="OBJECT...", nargs=-1, required=True, type=OBJECT)
@click.option(
    "--force", is_flag=True, help="Also remove objects that a live process holds or uses."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def command(objects: tuple[str, ...], *, force: bool, yes: bool) -> int:
    """Remove the named objects.

    Without --force, an object stays if a live process holds it, waits on it, created it or used it
    last; the exit status is then 3. The command asks for confirmation. Without a terminal, --yes is
    required. If an OBJECT does not exist or is ambiguous, nothing is removed.
    """
    kinds: set[Kind] = {kind for text in objects for kind in asked_kinds(text, inventory.KINDS)}
    found = inventory.survey(kinds, ignore_self=True).objects
    named = (choose(text, found, inventory.KINDS) for text in objects)
    items = {(item.kind, item.id): item for item in named}
    refused = [
        item
        for item in items.values()
        if item.state in {"held", "used"} and item.removable and not force
    ]
    for item in refused:
        say(
            f"ipckit: {item.address} not removed: {item.reason}; to remove it anyway, use --force",
            error=True,
        )
    left = [item for item in items.values() if item not in refused]
    if left:
        confirm(f"Remove {', '.join(map(words.summary, left))}?", yes=yes)
    results = [_remove(item, force=force) for item in left]
    return ERROR if ERROR in results else REFUSED if refused or REFUSED in results else DONE


def _remove(item: IpcObject, *, force: bool) -> int:
    try:
        inventory.remove(item, force=force)
    except IpcError as exc:
        say(f"ipckit: {exc}", error=True)
        return REFUSED if isinstance(exc, InUse) else ERROR
    say(f"removed {words.summary(item)}")
    return DONE
