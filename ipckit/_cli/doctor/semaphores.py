"""Check for processes that wait on a System V semaphore without end."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit._cli.doctor.circles import Wait
from ipckit._cli.doctor.model import Finding, ago, all_named, shell
from ipckit._core.blocked_calls import wait_of
from ipckit.errors import IpcError
from ipckit.sem import SysVSemaphoreSet, list_sets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipckit.inventory import IpcObject, Process

_SEMBUF: Final = struct.Struct("=Hhh")  # sem_num, sem_op, sem_flg
_MOST_OPERATIONS: Final = 1000
_WITHOUT_UNDO: Final = (
    "Only if it is a lock: the data that it guards may be half changed. It was acquired without "
    "undo, or its process exited before a release; in the program, use acquire(undo=True)."
)


@dataclass(frozen=True, slots=True)
class Row:
    """One semaphore on which processes wait."""

    each: IpcObject
    index: int
    value: int
    pid: int  # the process that changed it last; 0 if it is not known
    waiting: int
    waiters: list[Process]
    since: float  # when the set last changed

    @property
    def title(self) -> str:
        """The semaphore for a sentence."""
        return f"semaphore {self.index} of {self.each.address}"


def has_exited(pid: int, each: IpcObject) -> bool:
    """Return whether a recorded process has exited, also if a later process has its pid."""
    if any(user.pid == pid and not user.alive for user in each.users):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def blocked_in(each: IpcObject, call: str = "") -> list[Process]:
    """Return the processes that sleep in a call on an object; by default in any call."""
    return [holder for holder in each.holders if holder.how.startswith(f"waits in {call}")]


def _asked_for(pid: int, ident: int) -> set[int] | None:
    """Return the indexes of the semaphores that a process waits to decrement.

    /proc shows the call and its arguments; the operations are in the memory of the process.

    Returns:
        None if they can't be read.
    """
    found: set[int] = set()
    try:
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - names are all it takes
            text = Path(f"/proc/{pid}/task/{task}/syscall").read_text()
            wait = wait_of(text, os.uname().machine)
            if wait is None or wait.call != "semop" or wait.id != ident:
                continue
            address, count = (int(part, 16) for part in text.split()[2:4])
            with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
                memory.seek(address)
                data = memory.read(min(count, _MOST_OPERATIONS) * _SEMBUF.size)
            found |= {index for index, delta, _ in _SEMBUF.iter_unpack(data) if delta < 0}
    except (OSError, ValueError, OverflowError, struct.error):
        return None
    return found or None


def waiting(processes: list[Process], count: int = 0) -> str:
    """Say which processes wait: ``pid 5 (a) waits``, or ``2 threads wait`` if none was seen."""
    if not processes:
        return f"{count} threads wait" if count > 1 else "a process waits"
    return all_named(processes) + (" waits" if len(processes) == 1 else " wait")


def _read(each: IpcObject, found: SysVSemaphoreSet, since: float) -> Iterator[Row]:
    asked = [(waiter, _asked_for(waiter.pid, each.id)) for waiter in blocked_in(each)]
    every = range(len(found))
    for one in found:
        count = one.waiting
        if count:
            waiters = [waiter for waiter, which in asked if one.index in (which or every)]
            yield Row(each, one.index, one.value, one.pid, count, waiters, since)


def rows(objects: Iterable[IpcObject], denied: list[IpcObject]) -> Iterator[Row]:
    """Yield the semaphores on which processes wait.

    Args:
        objects: the objects, of any kinds.
        denied: a list; the sets that can't be read are appended.
    """
    stats = {stat.id: stat for stat in list_sets()}
    for each in objects:
        if each.kind != "sysv-semaphores" or each.id not in stats:
            continue
        try:
            with SysVSemaphoreSet.from_id(each.id) as found:
                yield from _read(each, found, max(stats[each.id].otime, stats[each.id].ctime))
        except PermissionError:
            denied.append(each)
        except IpcError:
            continue  # it was removed


def waits(found: Iterable[Row]) -> Iterator[Wait]:
    """Yield who waits for the process that changed a semaphore last."""
    for row in found:
        for waiter in row.waiters:
            if row.pid not in {0, waiter.pid}:
                yield Wait(waiter, row.title, row.each.address, frozenset({row.pid}))


def check(found: Iterable[Row], stuck_after: float) -> Iterator[Finding]:
    """Check for semaphores whose last user has exited, and for waits that last long."""
    for row in found:
        address, pids = row.each.address, tuple(each.pid for each in row.waiters)
        text = waiting(row.waiters, row.waiting)
        idle = max(0.0, time.time() - row.since)
        unchanged = f"{address} last changed {ago(idle)} ago"
        if row.pid and has_exited(row.pid, row.each):
            yield Finding(
                "dead-holder",
                (address,),
                f"{row.title} is {row.value} and {text}; "
                f"pid {row.pid}, which changed it last, has exited",
                f"ipckit sem post {shell(address)} {row.index}",
                "critical",
                (unchanged,),
                _WITHOUT_UNDO,
                pids=pids,
            )
        # A consumer that waits for work, and was the last to change it, waits for no one else.
        elif row.pid and row.pid not in pids and idle >= stuck_after:
            yield Finding(
                "stuck-waiter",
                (address,),
                f"{row.title} is {row.value}; {text} for pid {row.pid}",
                f"ipckit ps {row.pid}",
                "warning",
                (unchanged,),
                f"Find out what pid {row.pid} does. If it hangs, end it: kill {row.pid}",
                pids=pids,
                waits_for=(row.pid,),
            )
