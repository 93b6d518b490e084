"""Decide whether an object is held, used, orphaned or unknown, and say why."""

from __future__ import annotations

import grp
import pwd
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit._inventory.model import Process, State

_COMMAND_SHOWN = 40


@cache
def user_of(uid: int) -> str:
    """Return a user's name, or its number as text if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@cache
def group_of(gid: int) -> str:
    """Return a group's name, or its number as text if it has no name."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of an object, and the evidence for it; see `IpcObject` for the fields."""

    state: State
    reason: str
    unseen: tuple[str, ...] = ()


NOT_ASKED = Verdict("unknown", "", ("which processes hold it: not requested",))


def shown(process: Process) -> str:
    """Return a process for a sentence: its command, shortened, and its pid."""
    # The directory of the program would leave no room for its script.
    program, blank, arguments = process.command.partition(" ")
    command = _shortened(program.rpartition("/")[2] + blank + arguments)
    return f"{command} (pid {process.pid})" if command else f"pid {process.pid}"


def _shortened(command: str) -> str:
    if len(command) <= _COMMAND_SHOWN:
        return command
    return command[: _COMMAND_SHOWN - 3] + "..."


def _others(count: int) -> str:
    return f", and {count} more" if count else ""


def judge(
    holders: Sequence[Process],
    users: Sequence[Process],
    *,
    doubts: Sequence[str] = (),
    held: str = "",
    orphaned: str,
) -> Verdict:
    """Decide the state of an object.

    Args:
        holders: the live processes that hold it or wait on it.
        users: its creator and last users, running or not.
        doubts: what could not be seen and might hold it; each a noun phrase.
        held: evidence that some process holds it, if it is not known which; else "".
        orphaned: the reason to give if it is orphaned.
    """
    unseen = tuple(doubts)
    if holders:
        first = holders[0]
        reason = f"{shown(first)}: {first.how}{_others(len(holders) - 1)}"
        return Verdict("held", reason, unseen)
    if held:
        return Verdict("held", held, (*unseen, "which process holds it"))
    living = [each for each in users if each.alive]
    if living:
        first = living[0]
        act = "created" if first.how == "created" else f"last used ({first.how})"
        return Verdict("used", f"{act} by {shown(first)}, which is still running", unseen)
    if doubts:
        return Verdict("unknown", f"could not see {'; '.join(doubts)}", unseen)
    return Verdict("orphaned", orphaned)


def exited_text(users: Sequence[Process]) -> str:
    """Say that the recorded processes have exited: ``pid 7 (sent) has exited``; "" for none."""
    hows: dict[int, list[str]] = {}
    for each in users:
        hows.setdefault(each.pid, []).append(each.how)
    named = [f"pid {pid} ({' and '.join(how)})" for pid, how in hows.items()]
    return f"{', '.join(named)} {'has' if len(named) == 1 else 'have'} exited" if named else ""


def count_and_first(commands: Sequence[str]) -> str:
    """Return the number of processes, and the first one's command."""
    first = _shortened(commands[0])
    return (
        f"1 process ({first})"
        if len(commands) == 1
        else f"{len(commands)} processes ({first}, ...)"
    )
