"""Texts about processes: what they hold, what they wait on, and which ones a name means."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from ipckit._cli.words import counted, duration
from ipckit._cli.words import name as name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipckit.inventory import Held, Kind, Process, ProcessUse, Wait

# In the order in which they are counted.
_NOUNS: Final[dict[Kind, str]] = {
    "channel": "channel",
    "topic": "topic",
    "sysv-queue": "queue",
    "posix-queue": "queue",
    "sysv-semaphores": "semaphore set",
    "posix-semaphore": "semaphore",
    "sysv-segment": "segment",
    "posix-segment": "segment",
    "memfd": "memfd",
    "socket": "socket",
}
_AWAITED: Final = {
    "message": "a message",
    "room": "room",
    "semaphore": "the semaphore",
    "zero": "the semaphore to be 0",
    "lock": "a lock",
    "connection": "a connection",
    "data": "data",
    "change": "a change",
}
_BOUNDS: Final = {"": "", "at least": ">", "about": "~"}
# The more a wait looks like trouble, the earlier its process is listed: a process that waits for a
# message or a connection often just has nothing to do.
_RANKS: Final = {"lock": 0, "semaphore": 0, "zero": 0, "room": 0, "connection": 3}
_IDLE: Final = 2
_INTERPRETER: Final = re.compile(r"(python|pypy|perl|ruby|node|bash|dash|zsh|sh)[0-9.]*")
_WITH_VALUE: Final = frozenset({"-W", "-X"})  # options of Python
_PIDS_SHOWN: Final = 3


def holdings(held: Iterable[Held]) -> str:
    """Return how many objects of each kind are held: ``2 channels, 1 queue``; "" for none."""
    counts = Counter([_NOUNS[each.kind] for each in held])
    return ", ".join(
        counted(counts[noun], noun) for noun in dict.fromkeys(_NOUNS.values()) if counts[noun]
    )


def awaited(wait: Wait) -> str:
    """Return the object of a wait and what happens to it: ``q:5 for a message``."""
    what = _AWAITED.get(wait.waits_for, wait.waits_for)
    if wait.index is not None:
        what = what.replace("the semaphore", f"semaphore {wait.index}")
    return f"{name_of(wait.address)} for {what}"


def waited(wait: Wait) -> str:
    """Return how long a wait has lasted: ``3m``, ``>3m``, ``~3m``; "" if that is unknown."""
    return f"{_BOUNDS[wait.bound]}{duration(wait.seconds)}" if wait.seconds is not None else ""


def all_awaited(waits: Sequence[Wait]) -> str:
    """Return the first wait, and how many more there are."""
    more = f", {len(waits) - 1} more" if len(waits) > 1 else ""
    return f"{awaited(waits[0])}{more}" if waits else ""


def blockers(found: Sequence[Process]) -> str:
    """Return the pids of processes, and which have exited: ``4711, 4712 (exited)``."""
    shown = [f"{each.pid}" if each.alive else f"{each.pid} (exited)" for each in found]
    more = f", {len(shown) - _PIDS_SHOWN} more" if len(shown) > _PIDS_SHOWN else ""
    return ", ".join(shown[:_PIDS_SHOWN]) + more


def short_command(command: str) -> str:
    """Return a command line without the directory of its program."""
    program, blank, rest = command.partition(" ")
    return f"{program.rpartition('/')[2]}{blank}{rest}" if "[" not in program else command


def base_names(process: ProcessUse) -> Iterator[str]:
    """Yield the names by which a process is known.

    These are its name and that of its program; for an interpreter also those of the script or the
    module that it runs.
    """
    yield process.name
    program, *arguments = process.command.split(" ")
    name = program.rpartition("/")[2]
    yield name
    if _INTERPRETER.fullmatch(name):
        yield from _script(arguments)


def _script(arguments: list[str]) -> Iterator[str]:
    """Yield the name of the script or the module that an interpreter runs, if there is one."""
    rest = iter(arguments)
    for word in rest:
        if word == "-c":
            return
        if word == "-m":
            yield next(rest, "")
            return
        if word in _WITH_VALUE:
            next(rest, "")
        elif word and not word.startswith("-"):
            yield word.rpartition("/")[2]
            return


def matches(process: ProcessUse, name: str) -> bool:
    """Return whether a name is a part of one of a process's names, as pgrep(1) finds it."""
    return any(name in each for each in base_names(process))


def order(process: ProcessUse, awaited_pids: set[int]) -> tuple[int, float, int]:
    """Return the key by which processes are sorted: the blocked ones first, the longest first.

    Args:
        process: the process.
        awaited_pids: the processes for which others wait.
    """
    first = process.waits[0] if process.waits else None
    rank = min((_RANKS.get(each.waits_for, _IDLE) for each in process.waits), default=4)
    if process.pid in awaited_pids:
        rank = min(rank, 1)
    return rank, -(first.seconds or 0.0) if first else 0.0, process.pid
