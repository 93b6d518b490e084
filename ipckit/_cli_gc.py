"""``ipckit gc``: find what is left over, and remove it when told to."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

import click

from ipckit import _cli_show as show
from ipckit import inventory
from ipckit._cli_common import (
    DONE,
    ERROR,
    confirm,
    duration,
    human,
    kinds_of,
    kinds_option,
    print_table,
    say,
    tell_unseen,
)
from ipckit.errors import InUse, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit.inventory import IpcObject

_EXAMPLES: Final = """\b
Examples:
  ipckit gc                            what would go
  ipckit gc --delete                   remove it, after asking
  ipckit gc --mine --older-than 1h --delete --yes   for cron
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
    freed = human(sum(map(_bytes, items)))
    return f"{show.counted(len(items), 'object')}, {freed} bytes"


@click.command(epilog=_EXAMPLES)
@kinds_option
@click.option("--mine", is_flag=True, help="Only what belongs to the user who runs this.")
@click.option(
    "--older-than",
    "least_age",
    type=_Age(),
    default=0.0,
    metavar="TIME",
    help="Only what was not changed or used for so long: 90s, 10m, 1h, 2d.",
)
@click.option("--delete", is_flag=True, help="Remove it; without this nothing is.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(
    kind_names: tuple[str, ...], *, mine: bool, least_age: float, delete: bool, yes: bool
) -> int:
    """List what is orphaned, and with --delete remove it.

    An object is orphaned where nobody alive holds it, waits on it, or is on record as its creator
    or last user. Each is looked at again just before it is removed; what can't be judged stays.
    """
    found = inventory.survey(kinds_of(kind_names), ignore_self=True)
    chosen = [
        item
        for item in found.objects
        if (not mine or item.uid == os.geteuid()) and (item.age or 0.0) >= least_age
    ]
    items = [item for item in chosen if item.orphaned]
    unknown = sum(item.state == "unknown" for item in chosen)
    tell_unseen(found.unseen)
    if unknown:
        told = show.counted(unknown, "object")
        say(f"ipckit: {told} could not be judged and will stay; see ipckit ls", error=True)
    if not delete:
        _list(items)
        return DONE
    if not items:
        say("nothing is orphaned")
        return DONE
    if not yes:
        _list(items)
    confirm(f"Remove these {_total(items)}?", yes=yes)
    return _remove(items)


def _list(items: Sequence[IpcObject]) -> None:
    rows = [
        [item.address, item.owner, show.used(item), duration(item.age), item.reason]
        for item in items
    ]
    if rows:
        print_table(["OBJECT", "OWNER", "USED", "AGE", "WHY"], rows, right="AGE")
    say(f"orphaned: {_total(items)}" if items else "nothing is orphaned")


def _remove(items: Sequence[IpcObject]) -> int:
    removed: list[IpcObject] = []
    status = DONE
    for item, error in inventory.collect(items, ignore_self=True):
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
