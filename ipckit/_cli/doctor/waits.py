"""Check for processes that wait on a System V semaphore or queue without end."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit._cli.doctor.model import Finding
from ipckit._core.blocked_calls import wait_of
from ipckit.errors import IpcError
from ipckit.msgq import list_queues
from ipckit.sem import SysVSemaphoreSet, list_sets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipckit.inventory import IpcObject, Process
    from ipckit.msgq import SysVMessageQueueStat

_RELEASE: Final = (
    "python3 -c 'from ipckit import *; SysVSemaphoreSet.from_id({id})[{index}].release()'"
)
_SEMBUF: Final = struct.Struct("=Hhh")  # sem_num, sem_op, sem_flg
_MOST_OPERATIONS: Final = 1000


@dataclass(frozen=True, slots=True)
class _Row:
    """One semaphore on which a process waits."""

    each: IpcObject
    index: int
    value: int
    pid: int  # the process that changed it last; 0 if it is not known
    waiting: int
    waiters: list[Process]
    since: float  # when the set last changed

    @property
    def title(self) -> str:
        return f"semaphore {self.index} of {self.each.address}"


def _has_exited(pid: int, each: IpcObject) -> bool:
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


def _waits(each: IpcObject) -> list[Process]:
    return [holder for holder in each.holders if holder.how.startswith("waits in")]


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


def _waiting(processes: list[Process], count: int = 0) -> str:
    """Say which processes wait: ``pid 5 (a) waits``, or ``2 threads wait`` if none was seen."""
    if not processes:
        return f"{count} threads wait" if count > 1 else "a process waits"
    return _named(processes) + (" waits" if len(processes) == 1 else " wait")


def _named(processes: Iterable[Process]) -> str:
    shown = [f"pid {each.pid} ({each.command[:40]})" for each in processes]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")  # noqa: PLR2004


def _rows(objects: Iterable[IpcObject]) -> Iterator[_Row | Finding]:
    """Yield the semaphores on which processes wait, and a note for each set that can't be read."""
    stats = {stat.id: stat for stat in list_sets()}
    for each in objects:
        if each.kind != "sysv-semaphores" or each.id not in stats:
            continue
        since = max(stats[each.id].otime, stats[each.id].ctime)
        asked = [(waiter, _asked_for(waiter.pid, each.id)) for waiter in _waits(each)]
        try:
            with SysVSemaphoreSet.from_id(each.id) as found:
                every = range(len(found))
                for semaphore in found:
                    if semaphore.waiting:
                        yield _Row(
                            each,
                            semaphore.index,
                            semaphore.value,
                            semaphore.pid,
                            semaphore.waiting,
                            [
                                waiter
                                for waiter, which in asked
                                if semaphore.index in (which or every)
                            ],
                            since,
                        )
        except PermissionError:
            what = "permission denied while checking which processes wait on it"
            yield Finding("unseen", each.address, what, "run ipckit doctor as root", "note")
        except IpcError:
            continue  # it was removed


def _cycle(edges: dict[int, set[int]], start: int) -> list[int]:
    """Return a circle of waits that starts at a process; empty if there is none."""
    paths = [[start]]
    seen: set[int] = set()
    while paths:
        path = paths.pop()
        for following in sorted(edges.get(path[-1], ())):
            if following == start:
                return path
            if following not in seen:
                seen.add(following)
                paths.append([*path, following])
    return []


def _deadlocks(rows: list[_Row]) -> Iterator[Finding]:
    edges: dict[int, set[int]] = {}
    names: dict[int, str] = {}
    for row in rows:
        for waiter in row.waiters:
            names[waiter.pid] = waiter.command[:40]
            if row.pid not in {0, waiter.pid}:
                edges.setdefault(waiter.pid, set()).add(row.pid)
    reported: set[frozenset[int]] = set()
    for start in sorted(edges):
        cycle = _cycle(edges, start)
        if not cycle or frozenset(cycle) in reported:
            continue
        reported.add(frozenset(cycle))
        chain = " waits for ".join(f"pid {pid} ({names[pid]})" for pid in [*cycle, start])
        subject = ", ".join(sorted({row.each.address for row in rows if row.pid in cycle}))
        cure = (
            f"end one of them: kill {cycle[-1]}; in the programs, acquire locks in one order "
            "(ipckit.LockOrder)"
        )
        yield Finding("deadlock", subject, f"processes wait for each other: {chain}", cure)


def _held(row: _Row, stuck_after: float) -> Finding | None:
    waiting = _waiting(row.waiters, row.waiting)
    release = _RELEASE.format(id=row.each.id, index=row.index)
    if row.pid and _has_exited(row.pid, row.each):
        what = (
            f"{row.title} is {row.value} and {waiting}; pid {row.pid}, which changed it last, has "
            "exited. It acquired the semaphore without undo, or exited before a release"
        )
        cure = f"if it is a lock, release it: {release}; in the program, use acquire(undo=True)"
        return Finding("dead-holder", row.each.address, what, cure)
    if row.pid == 0 or any(waiter.pid == row.pid for waiter in row.waiters):
        return None  # a consumer that waits for work, and was the last to change it
    idle = time.time() - row.since
    if idle < stuck_after:
        return None
    what = (
        f"{row.title} is {row.value}; {waiting} for pid {row.pid}; nothing changed for {idle:.0f} s"
    )
    cure = f"find out what pid {row.pid} does: cat /proc/{row.pid}/stack; or end it: kill {row.pid}"
    return Finding("stuck-waiter", row.each.address, what, cure)


def semaphores(objects: Iterable[IpcObject], stuck_after: float) -> Iterator[Finding]:
    """Check for semaphores of processes that exited, circles of waits, and waits that last long."""
    rows: list[_Row] = []
    for row in _rows(objects):
        if isinstance(row, Finding):
            yield row
        else:
            rows.append(row)
    deadlocks = list(_deadlocks(rows))
    yield from deadlocks
    reported = {address for each in deadlocks for address in each.subject.split(", ")}
    for row in rows:
        found = _held(row, stuck_after)
        if found is not None and not (found.check == "stuck-waiter" and found.subject in reported):
            yield found


def _stuck_sender(each: IpcObject, stat: SysVMessageQueueStat, stuck_after: float) -> str:
    """Return why no process receives from a full queue, or ``""``."""
    if stat.lrpid == 0:
        return "no process has ever received from it"
    if _has_exited(stat.lrpid, each):
        return f"pid {stat.lrpid}, which received last, has exited"
    idle = time.time() - max(stat.rtime, stat.stime)
    if idle >= stuck_after:
        return f"pid {stat.lrpid} has not received for {idle:.0f} s"
    return ""


def queues(objects: Iterable[IpcObject], stuck_after: float) -> Iterator[Finding]:
    """Check for senders that wait on a full queue, and receivers that wait for other types."""
    stats = {stat.id: stat for stat in list_queues()}
    for each in objects:
        stat = stats.get(each.id)
        if each.kind != "sysv-queue" or stat is None:
            continue
        found = _waits(each)
        senders = [waiter for waiter in found if waiter.how == "waits in msgsnd"]
        receivers = [waiter for waiter in found if waiter.how == "waits in msgrcv"]
        why = _stuck_sender(each, stat, stuck_after) if senders and not receivers else ""
        if why:
            what = f"the queue is full, {_waiting(senders)} to send, and {why}"
            cure = f"start the receiver; to see the messages: ipckit peek {each.address} -n 3"
            yield Finding("stuck-sender", each.address, what, cure)
        elif receivers and stat.qnum:
            what = (
                f"{_waiting(receivers)} to receive, but only messages of other types are queued: "
                f"{stat.qnum}"
            )
            cure = f"to see their types: ipckit peek {each.address}"
            yield Finding("wrong-type", each.address, what, cure, "note")
