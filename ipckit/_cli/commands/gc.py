"""``ipckit gc``: list the orphaned objects, and remove them with ``--delete``."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

import click

from ipckit import inventory
from ipckit._cli import words
from ipckit._cli.address import kinds_of, kinds_option
from ipckit._cli.output import DONE, ERROR, Column, confirm, print_table, print_unseen, say
from ipckit.errors import InUse, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit.inventory import IpcObject

_EXAMPLES: Final = """\b
Examples:
  ipckit gc                                         list only
  ipckit gc --delete                                ask, then remove
  ipckit gc --mine --older-than 1h --delete --yes   for cron
  ipckit gc --kind socket --delete                  stale socket files
  ipckit gc --unknown --older-than 1h               also the state unknown
  ipckit gc --unknown --creator-pid 4711 --delete   what process 4711 created
"""
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class _Age(click.ParamType[float]):
    """A duration such as ``90``, ``90s``, ``10m``, ``1h`` or ``2d``, converted to seconds."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is not a time such as 90s, 10m, 1h or 2d", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


def _total(items: Sequence[IpcObject]) -> str:
    freed = words.in_bytes(sum(map(words.memory, items)))
    return f"{words.counted(len(items), 'object')}, {freed}"


@click.command(epilog=_EXAMPLES)
@kinds_option
@click.option("--mine", is_flag=True, help="Only objects that belong to you.")
@click.option(
    "--older-than",
    "least_age",
    type=_Age(),
    metavar="AGE",
    help="Only objects not changed or used for this time: 90s, 10m, 1h, 2d.",
)
@click.option(
    "--creator-pid",
    type=click.IntRange(min=1),
    metavar="PID",
    help="Only objects that this process created; or used last, if the kernel records no creator.",
)
@click.option(
    "--unknown",
    is_flag=True,
    help="Also objects with the state unknown; needs --creator-pid or --older-than.",
)
@click.option("--delete", is_flag=True, help="Remove the objects; without it, only list them.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
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
    """List the orphaned objects; with --delete, remove them.

    An object is orphaned if no live process holds it, waits on it, created it or used it last.
    Each object is checked again just before the removal. An object with the state unknown is
    selected only with --unknown. A stale socket file is removed only with --kind socket. A file in
    /dev/shm that is not recognized as an IPC object is listed but never removed; to remove it, run
    ipckit rm.

    The kernel records the creator of a System V segment, and the last users of a queue or
    semaphore set. It records nothing for POSIX objects and sockets, so --creator-pid does not
    find those; use --older-than.
    """
    if unknown and creator_pid is None and not least_age:
        message = (
            "--unknown needs --creator-pid PID or --older-than AGE, because a live process may "
            "use an object whose state is unknown"
        )
        raise click.UsageError(message)
    found = inventory.survey(kinds_of(kind_names), ignore_self=True)
    mines = [item for item in found.objects if not mine or item.uid == os.geteuid()]
    items = inventory.select(mines, unknown=unknown, creator_pid=creator_pid, older_than=least_age)
    print_unseen(found.unseen)
    chosen = [item for item in mines if (item.age or 0.0) >= (least_age or 0.0)]
    if "socket" not in kind_names:
        sockets = sum(item.kind == "socket" for item in items)
        chosen, items = ([x for x in each if x.kind != "socket"] for each in (chosen, items))
        _report_sockets(sockets, mine=mine, least_age=least_age, unknown=unknown)
    _report_rest(chosen, items, creator_pid=creator_pid, unknown=unknown)
    if delete and items and yes:
        return _remove(items, unknown=unknown)
    _list(items, unknown=unknown)
    if not (delete and items):
        return DONE
    confirm(f"Remove these {_total(items)}?", yes=yes)
    return _remove(items, unknown=unknown)


def _report_sockets(count: int, *, mine: bool, least_age: float | None, unknown: bool) -> None:
    """Report the socket files that stay, and the command with these options that removes them."""
    if count:
        options = [
            *(["--mine"] if mine else []),
            *([f"--older-than {least_age:g}"] if least_age else []),
            *(["--unknown"] if unknown else []),
        ]
        cure = " ".join(["ipckit gc --kind socket", *options, "--delete"])
        say(f"left alone: {words.counted(count, 'stale socket')}; to remove them: {cure}")


def _report_rest(
    chosen: Sequence[IpcObject],
    items: Sequence[IpcObject],
    *,
    creator_pid: int | None,
    unknown: bool,
) -> None:
    """Report the objects that stay although no process is known to hold them."""
    files = [item for item in chosen if item.state == "unknown" and not item.recognized]
    if files and creator_pid is None:
        rows = [
            [words.address(item), item.owner, words.used(item), words.duration(item.age)]
            for item in files
        ]
        columns = [Column("FILE"), Column("OWNER"), Column("USED"), Column("AGE", right=True)]
        print_table(columns, rows)
        count = words.counted(len(files), "file")
        say(
            f"left alone, not recognized as IPC objects: {count} in /dev/shm; to remove one: "
            "ipckit rm ADDRESS"
        )
        say("")
    doubtful = [item for item in chosen if item.state == "unknown" and item.recognized]
    taken = {(item.kind, item.id) for item in items}
    left = [item for item in doubtful if (item.kind, item.id) not in taken]
    if not left:
        return
    count = words.counted(len(left), "object")
    nameless = sum(not item.creator_pids for item in left)
    if unknown and creator_pid is not None and nameless:
        count = words.counted(nameless, "object")
        say(
            f"ipckit: left alone, state unknown: {count}, not selected, because the kernel records "
            "no creator of them; to select them, use --older-than without --creator-pid",
            error=True,
        )
    elif not unknown:
        say(
            f"ipckit: left alone, state unknown: {count}, not selected; to see why: ipckit ls",
            error=True,
        )


def _list(items: Sequence[IpcObject], *, unknown: bool) -> None:
    noun = "orphaned or unknown" if unknown else "orphaned"
    if not items:
        say(f"no {noun} objects")
        return
    columns = [
        Column("OBJECT"),
        Column("OWNER", drop=2),
        Column("USED", cuts=True),
        Column("AGE", right=True),
        *([Column("STATE")] if unknown else []),
        Column("WHY", drop=1, cuts=True),
    ]
    rows = [
        [
            words.address(item),
            item.owner,
            words.used(item),
            words.duration(item.age),
            *([item.state] if unknown else []),
            item.reason,
        ]
        for item in items
    ]
    print_table(columns, rows)
    say(f"{noun}: {_total(items)}")


def _remove(items: Sequence[IpcObject], *, unknown: bool) -> int:
    removed: list[IpcObject] = []
    status = DONE
    for item, error in inventory.collect(items, ignore_self=True, unknown=unknown):
        if error is None:
            removed.append(item)
            say(f"removed {words.summary(item)}")
            continue
        say(f"ipckit: {error}", error=True)
        # An object that is in use or was removed by now is no error: the second check is for that.
        if not isinstance(error, (InUse, NotFound)):
            status = ERROR
    say(f"freed: {_total(removed)}")
    return status
