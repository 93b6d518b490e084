"""``ipckit gc``: find what is left over, and remove it when told to."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

import click

from ipckit import inventory
from ipckit._cli import words as show
from ipckit._cli.address import kinds_of, kinds_option
from ipckit._cli.output import DONE, ERROR, confirm, print_table, say, tell_unseen
from ipckit.errors import InUse, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit.inventory import IpcObject

_EXAMPLES: Final = """\b
Examples:
  ipckit gc                            what would go
  ipckit gc --delete                   remove it, after asking
  ipckit gc --mine --older-than 1h --delete --yes   for cron
  ipckit gc --unknown --older-than 1h               what can't be judged, too
  ipckit gc --unknown --creator-pid 4711 --delete   what a killed program left
"""
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class _Age(click.ParamType[float]):
    """A time such as ``90``, ``90s``, ``10m``, ``1h`` or ``2d``, in seconds."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is no time; it takes 90, 90s, 10m, 1h or 2d", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


def _bytes(item: IpcObject) -> int:
    """How much memory goes with an object."""
    if item.used.bytes is not None:
        return item.used.bytes
    return item.size or 0 if item.kind == "sysv-segment" else 0


def _total(items: Sequence[IpcObject]) -> str:
    freed = show.human(sum(map(_bytes, items)))
    return f"{show.counted(len(items), 'object')}, {freed} bytes"


@click.command(epilog=_EXAMPLES)
@kinds_option
@click.option("--mine", is_flag=True, help="Only what belongs to the user who runs this.")
@click.option(
    "--older-than",
    "least_age",
    type=_Age(),
    metavar="AGE",
    help="Only what was not changed or used for so long: 90s, 10m, 1h, 2d.",
)
@click.option(
    "--creator-pid",
    type=click.IntRange(min=1),
    metavar="PID",
    help="Only what this process made, or used last if no creator is on record.",
)
@click.option(
    "--unknown",
    is_flag=True,
    help="Also what can't be judged; takes --creator-pid or --older-than with it.",
)
@click.option("--delete", is_flag=True, help="Remove it; without this nothing is.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(
    kind_names: tuple[str, ...],
    *,
    mine: bool,
    least_age: float | None,
    creator_pid: int | None,
    unknown: bool,
    delete: bool,
    yes: bool,
) -> int:
    """List what is orphaned, and with --delete remove it.

    An object is orphaned where nobody alive holds it, waits on it, or is on record as its creator
    or last user. Each is looked at again just before; what can't be judged stays, unless --unknown
    asks for it. A file in /dev/shm that nothing shows to be an IPC object is listed and never
    removed: name it to ipckit rm.

    The kernel knows who made a System V segment. Of a queue or semaphore set it knows who used it
    last, if it was used; of POSIX objects and sockets it knows neither. For those, --creator-pid
    finds nothing: take --older-than.
    """
    if unknown and creator_pid is None and not least_age:
        message = (
            "--unknown needs --creator-pid PID or --older-than AGE with it, because a live "
            "process may use what can't be judged"
        )
        raise click.UsageError(message)
    found = inventory.survey(kinds_of(kind_names), ignore_self=True)
    mines = [item for item in found.objects if not mine or item.uid == os.geteuid()]
    items = inventory.select(mines, unknown=unknown, creator_pid=creator_pid, older_than=least_age)
    tell_unseen(found.unseen)
    chosen = [item for item in mines if (item.age or 0.0) >= (least_age or 0.0)]
    _tell_rest(chosen, items, creator_pid=creator_pid, unknown=unknown)
    if delete and items and yes:
        return _remove(items, unknown=unknown)
    _list(items, unknown=unknown)
    if not (delete and items):
        return DONE
    confirm(f"Remove these {_total(items)}?", yes=yes)
    return _remove(items, unknown=unknown)


def _tell_rest(
    chosen: Sequence[IpcObject],
    items: Sequence[IpcObject],
    *,
    creator_pid: int | None,
    unknown: bool,
) -> None:
    """Tell what stays although no process is known to hold it."""
    files = [item for item in chosen if item.state == "unknown" and not item.recognized]
    if files and creator_pid is None:
        rows = [
            [item.address, item.owner, show.used(item), show.duration(item.age)] for item in files
        ]
        print_table(["FILE", "OWNER", "USED", "AGE"], rows, right="AGE")
        told = show.counted(len(files), "file")
        say(f"not ours to judge: {told} in /dev/shm; ipckit rm removes one that is named")
        say("")
    taken = {item.address for item in items}
    doubtful = [item for item in chosen if item.state == "unknown" and item.recognized]
    left = [item for item in doubtful if item.address not in taken]
    if not left:
        return
    told = show.counted(len(left), "object")
    nameless = sum(not item.creator_pids for item in left)
    if unknown and creator_pid is not None and nameless:
        told = show.counted(nameless, "object")
        say(
            f"ipckit: {told} could not be judged and will stay: no process is on record for "
            "them, so that --creator-pid can't choose them; --older-than alone can",
            error=True,
        )
    elif not unknown:
        say(f"ipckit: {told} could not be judged and will stay; see ipckit ls", error=True)


def _list(items: Sequence[IpcObject], *, unknown: bool) -> None:
    noun = "orphaned or unknown" if unknown else "orphaned"
    if not items:
        say(f"nothing is {noun}")
        return
    titles = ["OBJECT", "OWNER", "USED", "AGE", *(["STATE"] if unknown else []), "WHY"]
    rows = [
        [
            item.address,
            item.owner,
            show.used(item),
            show.duration(item.age),
            *([item.state] if unknown else []),
            item.reason,
        ]
        for item in items
    ]
    print_table(titles, rows, right="AGE")
    say(f"{noun}: {_total(items)}")


def _remove(items: Sequence[IpcObject], *, unknown: bool) -> int:
    removed: list[IpcObject] = []
    status = DONE
    for item, error in inventory.collect(items, ignore_self=True, unknown=unknown):
        if error is None:
            removed.append(item)
            say(f"removed {show.summary(item)}")
            continue
        say(f"ipckit: {error}", error=True)
        # What somebody took or removed meanwhile is just what the second look is for.
        if not isinstance(error, (InUse, NotFound)):
            status = ERROR
    say(f"freed: {_total(removed)}")
    return status
