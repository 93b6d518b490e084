"""Whether an object is held, used, orphaned, or can't be judged; and who owns it."""

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
    """A user's name, or the number as text."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@cache
def group_of(gid: int) -> str:
    """A group's name, or the number as text."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is thought of an object; see `IpcObject` for the fields."""

    state: State
    reason: str
    unseen: tuple[str, ...] = ()


NOT_ASKED = Verdict("unknown", "", ("who holds it: not asked for",))


def shown(process: Process) -> str:
    """A process in a few words."""
    command = process.command
    if len(command) > _COMMAND_SHOWN:
        command = command[: _COMMAND_SHOWN - 3] + "..."
    return f"{command} (pid {process.pid})" if command else f"pid {process.pid}"


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
    """Judge an object.

    Args:
        holders: the live processes that hold it or wait on it.
        users: its creator and last users, dead or alive.
        doubts: what could not be seen and might hold it.
        held: why it is certainly held, where that is known without knowing by whom.
        orphaned: why it is orphaned where nothing speaks against that.
    """
    unseen = tuple(doubts)
    if holders:
        first = holders[0]
        reason = f"{shown(first)}: {first.how}{_others(len(holders) - 1)}"
        return Verdict("held", reason, unseen)
    if held:
        return Verdict("held", held, (*unseen, "by whom"))
    living = [each for each in users if each.alive]
    if living:
        first = living[0]
        return Verdict("used", f"{shown(first)} {first.how}, and runs still", unseen)
    if doubts:
        return Verdict("unknown", f"can't be seen: {'; '.join(doubts)}", unseen)
    return Verdict("orphaned", orphaned)


def gone(users: Sequence[Process]) -> str:
    """Who used an object, for the reason that it is orphaned."""
    hows: dict[int, list[str]] = {}
    for each in users:
        hows.setdefault(each.pid, []).append(each.how)
    told = [f"pid {pid} ({' and '.join(how)})" for pid, how in hows.items()]
    return f"{', '.join(told)} {'has' if len(told) == 1 else 'have'} ended" if told else ""


def few(commands: Sequence[str]) -> str:
    """How many processes there are, and the first one's name."""
    first = commands[0]
    if len(first) > _COMMAND_SHOWN:
        first = first[: _COMMAND_SHOWN - 3] + "..."
    return (
        f"1 process ({first})"
        if len(commands) == 1
        else f"{len(commands)} processes ({first}, ...)"
    )
