"""``ipckit ps``: which objects processes hold and wait on, for how long, and for which others."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from ipckit import inventory
from ipckit._cli import process_words, words
from ipckit._cli.address import ObjectType
from ipckit._cli.limits_table import is_hidden
from ipckit._cli.output import (
    Column,
    ascii_output,
    json_of,
    print_table,
    print_unseen,
    say,
    shortened,
)
from ipckit.errors import AccessDenied, NotFound, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipckit.inventory import ProcessSurvey, ProcessUse, Wait

_COLUMNS: Final = (
    Column("PID", right=True),
    Column("USER", drop=3),
    Column("COMMAND", cuts=True),
    Column("HOLDS", drop=2, cuts=True),
    Column("WAITS ON"),
    Column("FOR", right=True),
    Column("HELD BY", drop=1),
)
_EXAMPLES: Final = """\b
Examples:
  ipckit ps              the processes that use IPC, the blocked ones first
  ipckit ps 4711         what a process holds and waits on, with its children
  ipckit ps worker       all processes whose name contains worker
  ipckit ps --json | jq '.processes[] | select(.waits != []) | .pid'
"""
PID_PREFIX: Final = "pid:"  # before a pid where an object's address is expected
_MOST_DIGITS: Final = 10  # of a pid
_INDENT: Final = 2
# A program that waits for a message or a connection often just has nothing to do.
_ENDED_BY_OTHERS: Final = frozenset({"room", "lock", "semaphore", "zero"})
_LEAST_COMMAND: Final = 20
_NAMED_SHOWN: Final = 8
_HELD_SHOWN: Final = 8  # of a child


class ProcessType(click.ParamType[str]):
    """A pid or a name of a process, with completion of pids."""

    name = "process"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        del ctx, param
        return completions(incomplete)


def completions(incomplete: str, prefix: str = "") -> list[CompletionItem]:
    """Return the pids that begin with a text, each after a prefix."""
    try:
        pids = [each.name for each in Path("/proc").iterdir() if each.name.isdecimal()]
    except OSError:
        return []
    return [
        CompletionItem(prefix + pid) for pid in sorted(pids, key=int) if pid.startswith(incomplete)
    ]


@dataclass(frozen=True, slots=True)
class _Family:
    """The processes, and which of them are children of which."""

    found: ProcessSurvey
    children: dict[int, list[ProcessUse]]
    participants: frozenset[int]

    def takes_part(self, process: ProcessUse) -> bool:
        """Return whether a process or one of its descendants holds or waits on an object."""
        return process.pid in self.participants or any(map(self.takes_part, self.below(process)))

    def below(self, process: ProcessUse) -> list[ProcessUse]:
        return self.children.get(process.pid, [])

    def descendants(self, process: ProcessUse) -> Iterator[int]:
        for child in self.below(process):
            yield child.pid
            yield from self.descendants(child)

    def as_dict(self, process: ProcessUse) -> dict[str, Any]:
        children = [self.as_dict(child) for child in self.below(process)]
        return {**process.as_dict(), "children": children}


def _family(found: ProcessSurvey) -> _Family:
    children: dict[int, list[ProcessUse]] = defaultdict(list)
    for each in found.processes.values():
        children[each.parent].append(each)
    used = {each.pid for each in found.processes.values() if each.used}
    participants = frozenset(each.pid for each in found.participants) | used
    return _Family(found, children, participants)


# -- choosing --------------------------------------------------------------------------------------


def _status(pid: int) -> dict[str, str]:
    """Return the fields of /proc/PID/status; empty if it can't be read."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return {}
    return {
        name: value.strip()
        for name, mark, value in (line.partition(":") for line in text.split("\n"))
        if mark
    }


def _by_pid(found: ProcessSurvey, pid: int) -> ProcessUse:
    """Return the process with a pid; also if the number is that of one of its threads.

    Raises:
        NotFound: there is none, or it uses no objects because it is a zombie or of the kernel.
        AccessDenied: /proc hides it.
    """
    if pid in found.processes:
        return found.processes[pid]
    status, target = _status(pid), f"pid {pid}"
    owner = int(status.get("Tgid", "0"))
    if owner in found.processes:
        say(f"ipckit: {pid} is a thread of process {owner}", error=True)
        return found.processes[owner]
    if status.get("State", "").startswith("Z"):
        message = f"it has exited, and its parent {status.get('PPid', '')} has not waited for it"
        raise NotFound(message, errno=errno.ESRCH, target=target)
    if status and "VmSize" not in status:
        message = "it is a thread of the kernel, which uses no IPC objects"
        raise NotFound(message, errno=errno.ESRCH, target=target)
    # With hidepid=noaccess the directory is there, but not to be read.
    if is_hidden(pid) or (not status and Path(f"/proc/{pid}").exists()):
        message = "it belongs to another user, and /proc hides it"
        raise AccessDenied(message, errno=errno.EACCES, target=target, hint="run as root")
    message = "no such process"
    raise NotFound(message, errno=errno.ESRCH, target=target)


def _chosen(found: ProcessSurvey, text: str) -> list[ProcessUse]:
    """Return the processes that a pid or a name means.

    Raises:
        NotFound: there is none.
    """
    if text.isdecimal() and text.isascii() and len(text) <= _MOST_DIGITS:
        return [_by_pid(found, int(text))]
    named = [each for each in found.processes.values() if process_words.matches(each, text)]
    if not (text and named):
        message, hint = "no process has this name", "the processes that use IPC: ipckit ps"
        raise NotFound(message, errno=errno.ESRCH, target=text, hint=hint)
    return named


# -- printing --------------------------------------------------------------------------------------


def _print_list(found: ProcessSurvey, *, wide: bool) -> None:
    awaited = {each.holder.pid for each in inventory.edges(found)}
    shorten = sys.stdout.isatty() and not wide
    rows: list[list[str]] = []
    for each in sorted(found.participants, key=lambda each: process_words.order(each, awaited)):
        first = each.waits[0] if each.waits else None
        rows.append(
            [
                str(each.pid),
                each.user,
                process_words.short_command(each.command) if shorten else each.command,
                process_words.holdings(each.holds),
                process_words.all_awaited(each.waits),
                process_words.waited(first) if first else "",
                process_words.blockers(first.blockers) if first else "",
            ]
        )
    if rows or not sys.stdout.isatty():
        print_table(_COLUMNS, rows, wide=wide)
    else:
        say("no process holds or waits on an IPC object")


def _line(depth: int, text: str, command: str = "") -> None:
    """Print an indented line; only the command at its end may be shortened, on a terminal."""
    start = one_line(" " * _INDENT * depth + text)
    if command and sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - len(start)
        command = shortened(one_line(command), max(room, _LEAST_COMMAND))
    say(start + command)


def _about(process: ProcessUse, family: _Family) -> str:
    """Return a line about a process itself."""
    parent = family.found.processes.get(process.parent)
    age = words.ago(max(0.0, family.found.objects.taken - process.started))
    parts = [
        process.user and f"user {process.user}",
        process.state,
        words.counted(process.threads, "thread"),
        f"started {age}",
        f"parent {process.parent}" if process.parent else "",
    ]
    return ", ".join(filter(None, parts)) + (f" ({parent.name})" if parent else "")


def _print_process(process: ProcessUse, family: _Family) -> None:
    """Print what a process holds, waits on and used, and below it the same of its children."""
    _line(0, f"pid {process.pid}: ", process.command)
    _line(1, _about(process, family))
    _print_use(process, 1)
    if process.seen and not (process.holds or process.waits or process.used):
        _line(1, "holds no IPC object and waits on none")
    _print_children(process, family, 1)


def _print_use(process: ProcessUse, depth: int) -> None:
    alike: dict[tuple[object, ...], list[Wait]] = defaultdict(list)
    for wait in process.waits:  # the longest first
        alike[wait.address, wait.waits_for, wait.call, wait.index, wait.blockers].append(wait)
    for found in alike.values():
        _print_wait(found[0], len(found), depth)
    most = len(process.holds) if depth == 1 else _HELD_SHOWN
    for held in process.holds[:most]:
        _line(depth, f"holds {words.name(held.address)}  {held.how}")
    if len(process.holds) > most:
        more = process_words.holdings(process.holds[most:])
        _line(depth, f"holds {more} more; all: ipckit ls --pid {process.pid}")
    for used in process.used:
        when = "" if used.when is None else f", {words.ago(time.time() - used.when)}"
        _line(depth, f"used {words.name(used.address)}  {used.how}{when}")
    if not process.seen:
        hint = "" if os.geteuid() == 0 else "; run as root to see it"
        _line(depth, f"what it holds and waits on: permission denied{hint}")


def _print_wait(wait: Wait, threads: int, depth: int) -> None:
    """Print the longest of the waits of some threads for the same."""
    lasted = process_words.waited(wait)
    how = wait.call + (f", {threads} threads" if threads > 1 else "")
    parts = [f"waits on {process_words.awaited(wait)}", lasted, f"({how})"]
    _line(depth, "  ".join(filter(None, parts)))
    if not wait.blockers and wait.waits_for in _ENDED_BY_OTHERS:
        _line(depth + 1, "no process is known that can end it")
    for each in wait.blockers:
        exited = "" if each.alive else ", exited"
        mark = ": " if each.command else ""
        _line(depth + 1, f"pid {each.pid}, {each.how}{exited}{mark}", each.command)


def _print_children(process: ProcessUse, family: _Family, depth: int) -> None:
    others: list[ProcessUse] = []
    for child in family.below(process):
        if not family.takes_part(child):
            others.append(child)
            continue
        user = f" ({child.user})" if child.user != process.user else ""
        stopped = f" ({child.state})" if child.state in {"stopped", "traced"} else ""
        _line(depth, f"child {child.pid}{user}{stopped}: ", child.command)
        _print_use(child, depth + 1)
        _print_children(child, family, depth + 1)
    if others:
        noun = "child" if len(others) == 1 else "children"
        _line(depth, f"{len(others)} {noun} without IPC objects: {_names(others)}")


def _names(found: Iterable[ProcessUse]) -> str:
    shown = [f"{each.pid} {each.name}" for each in found]
    more = f", {len(shown) - _NAMED_SHOWN} more" if len(shown) > _NAMED_SHOWN else ""
    return ", ".join(shown[:_NAMED_SHOWN]) + more


def _print_json(processes: list[dict[str, Any]], found: ProcessSurvey) -> None:
    """Print one process on each line."""
    ascii_only = ascii_output()
    lines = ",\n".join(json_of(each, ascii_only=ascii_only) for each in processes)
    about = {"unseen": found.objects.unseen, "taken": found.objects.taken}
    rest = json_of(about, ascii_only=ascii_only)
    click.echo(f'{{"processes": [\n{lines}\n],\n{rest[1:]}')


def show(text: str | None, *, as_json: bool, wide: bool = False) -> None:
    """Print the processes that take part in IPC, or those that a pid or a name means.

    Raises:
        NotFound: there is no such process.
    """
    found = inventory.survey_processes(ignore_self=True, stale_sockets=False)
    if text is None:
        if as_json:
            _print_json([each.as_dict() for each in found.participants], found)
            return
        _print_list(found, wide=wide)
        print_unseen(found.objects.unseen)
        return
    try:
        chosen, family = _chosen(found, text), _family(found)
    except (NotFound, AccessDenied):
        print_unseen(found.objects.unseen)
        raise
    if as_json:
        _print_json([family.as_dict(each) for each in chosen], found)
        return
    if len(chosen) == 1:
        _print_process(chosen[0], family)
    else:
        _print_several(chosen, family)
    print_unseen(found.objects.unseen)


def _print_several(chosen: list[ProcessUse], family: _Family) -> None:
    """Print the processes of a name, but not again those that are in the tree of another."""
    own = [each for each in chosen if each.pid in family.participants]
    below = {pid for each in own for pid in family.descendants(each)}
    for index, each in enumerate(each for each in own if each.pid not in below):
        if index:
            say("")
        _print_process(each, family)
    others = [each for each in chosen if each.pid not in family.participants]
    if others:
        if own:
            say("")
        noun = "process" if len(others) == 1 else "processes"
        say(f"{len(others)} {noun} of this name without IPC objects: {_names(others)}")


class StatType(ObjectType):
    """What `ipckit stat` accepts: an address of an object, or ``pid:PID`` for a process."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        if incomplete.startswith(PID_PREFIX):
            return completions(incomplete.removeprefix(PID_PREFIX), PID_PREFIX)
        return super().shell_complete(ctx, param, incomplete)


@click.command(epilog=_EXAMPLES)
@click.argument("process", metavar="[PID|NAME]", required=False, type=ProcessType())
@click.option("--wide", is_flag=True, help="Show all columns of the list, in full.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with stable names.")
def command(process: str | None, *, wide: bool, as_json: bool) -> None:
    """Show which IPC objects processes hold and wait on.

    Without an argument, list the processes that hold an object, wait on one, or for which another
    process waits. With a pid or a part of a name, show for each process the objects, since when its
    threads wait, and which processes can end the wait; and the same of its children.

    FOR is the time of the longest wait; > is a lower bound, and ~ is the time since the queue last
    changed, if the program waits with a timeout. HELD BY are the processes any of which can end
    that wait, such as the last user of a semaphore or the receivers of a full channel.
    """
    show(process, as_json=as_json, wide=wide)
