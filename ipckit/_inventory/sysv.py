"""System V queues, segments and semaphore sets, and which processes use them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._inventory.judge import (
    NOT_ASKED,
    Verdict,
    count_and_first,
    exited_text,
    group_of,
    judge,
    shown,
    user_of,
)
from ipckit._inventory.model import IpcObject, Process, Use

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit._inventory.model import Kind
    from ipckit._inventory.processes import Processes
    from ipckit.msgq import SysVMessageQueueStat
    from ipckit.sem import SysVSemaphoreSetStat
    from ipckit.shm import SysVSharedMemoryStat

_OUTSIDE: Final = "the recorded process, which is in another pid namespace"
_CREATOR: Final = "which process created it, because it was never used"
_KEY_MASK: Final = 0xFFFFFFFF


def _object(
    kind: Kind,
    stat: Any,
    *,
    size: int,
    used: Use,
    verdict: Verdict,
    times: dict[str, int],
    now: float,
    creator: Process | None = None,
    users: Sequence[Process] = (),
    holders: Sequence[Process] = (),
) -> IpcObject:
    set_times: dict[str, float] = {name: time for name, time in times.items() if time}
    return IpcObject(
        kind=kind,
        name="",
        key=stat.key & _KEY_MASK,
        id=stat.id,
        uid=stat.uid,
        gid=stat.gid,
        owner=user_of(stat.uid),
        group=group_of(stat.gid),
        mode=stat.mode & 0o777,
        size=size,
        used=used,
        creator=creator,
        users=tuple(users),
        holders=tuple(holders),
        times=set_times,
        age=max(0.0, now - max(set_times.values(), default=now)),
        state=verdict.state,
        reason=verdict.reason,
        unseen=verdict.unseen,
        details={name: getattr(stat, name) for name in stat.__slots__},
        identity=(stat.id, stat.ctime, stat.key, stat.cuid, stat.cgid, getattr(stat, "cpid", 0)),
    )


def _hidden(processes: Processes) -> list[str]:
    return [] if processes.proc_is_complete else list(processes.unseen[:1])


def _recorded(
    processes: Processes, records: Sequence[tuple[int, str, int]]
) -> tuple[list[Process], list[str]]:
    """Return the recorded processes, and a doubt if one of them can't be seen.

    Args:
        processes: what /proc showed.
        records: for each record of the kernel the pid, what the process did, and when.
    """
    users = [processes.on_record(pid, how, when) for pid, how, when in records if pid]
    # The kernel shows 0 for a process that has no pid in this pid namespace.
    return users, [_OUTSIDE] if any(when and not pid for pid, _, when in records) else []


def _unused(
    processes: Processes, stat: Any, call: str, ignored: frozenset[int]
) -> tuple[str, list[str]]:
    """Judge an object for which the kernel records no process, because it was never used.

    The kernel does not record its creator. The creator was running by then as the object's user,
    and its program can make the call. If no such process is left, the creator has exited.

    Args:
        processes: what /proc showed.
        stat: the status of the object.
        call: the call that creates such an object.
        ignored: pids that do not count.

    Returns:
        Why it is orphaned, or ""; and the doubts.
    """
    creators = [
        pid
        for pid in processes.possible_creators(stat.cuid, stat.ctime, call)
        if pid not in ignored
    ]
    user = user_of(stat.cuid)
    if not processes.in_initial_namespace:
        return "", [f"{_CREATOR}: it may be in another pid namespace"]
    if creators:
        commands = [processes.command(pid) for pid in creators]
        return "", [f"{_CREATOR}: {count_and_first(commands)} may have"]
    return f"never used, and no process of {user} that is running could have created it", []


def queue(
    stat: SysVMessageQueueStat,
    processes: Processes | None,
    now: float,
    ignored: frozenset[int] = frozenset(),
) -> IpcObject:
    """Return the `IpcObject` of a queue, from its status."""
    verdict, holders, users = NOT_ASKED, tuple[Process, ...](), list[Process]()
    if processes is not None:
        holders = processes.waiting("sysv-queue", stat.id)
        records = [(stat.lspid, "sent", stat.stime), (stat.lrpid, "received", stat.rtime)]
        users, doubts = _recorded(processes, records)
        why = exited_text(users)
        if not (holders or users or doubts):
            why, doubts = _unused(processes, stat, "msgget", ignored)
        doubts += _hidden(processes)
        uninspected = processes.may_wait(frozenset({stat.uid, stat.cuid}), stat.mode)
        if uninspected:
            commands = [processes.command(pid) for pid in uninspected]
            doubts.append(
                f"whether a process waits on it: {count_and_first(commands)} could not be inspected"
            )
        verdict = judge(holders, users, doubts=doubts, orphaned=f"no process waits on it; {why}")
    return _object(
        "sysv-queue",
        stat,
        size=stat.qbytes,
        used=Use(messages=stat.qnum, bytes=stat.cbytes),
        verdict=verdict,
        times={"changed": stat.ctime, "sent": stat.stime, "received": stat.rtime},
        now=now,
        users=users,
        holders=holders,
    )


def _attached(count: int) -> str:
    return f"attached {count} times" if count > 1 else "attached once" if count else ""


def segment(
    stat: SysVSharedMemoryStat,
    processes: Processes | None,
    now: float,
    ignored: frozenset[int] = frozenset(),
) -> IpcObject:
    """Return the `IpcObject` of a segment, from its status."""
    del ignored
    verdict, holders = NOT_ASKED, tuple[Process, ...]()
    users: list[Process] = []
    creator = None
    if processes is not None:
        holders = processes.attached(stat.id) if stat.nattch else ()
        # The creator ran when the segment was created, the last user when it was last attached
        # or detached.
        creator = processes.on_record(stat.cpid, "created", stat.ctime) if stat.cpid else None
        last = max(stat.atime, stat.dtime)
        how = "detached" if stat.dtime > stat.atime else "attached"
        users, doubts = _recorded(processes, [(stat.lpid, how, last)])
        doubts += [] if stat.cpid else [_OUTSIDE]
        verdict = judge(
            holders,
            [each for each in (creator, *users) if each],
            doubts=[*dict.fromkeys(doubts), *_hidden(processes)],
            held=_attached(stat.nattch),
            orphaned=f"not attached; {exited_text([each for each in (creator, *users) if each])}",
        )
    return _object(
        "sysv-segment",
        stat,
        size=stat.segsz,
        used=Use(attached=stat.nattch),
        verdict=verdict,
        times={"changed": stat.ctime, "attached": stat.atime, "detached": stat.dtime},
        now=now,
        creator=creator,
        users=users,
        holders=holders,
    )


def semaphores(
    stat: SysVSemaphoreSetStat,
    processes: Processes | None,
    now: float,
    ignored: frozenset[int] = frozenset(),
) -> IpcObject:
    """Return the `IpcObject` of a semaphore set, from its status."""
    values, pids, waiting = _read_set(stat)
    verdict, holders, users = NOT_ASKED, tuple[Process, ...](), list[Process]()
    if processes is not None:
        holders = processes.waiting("sysv-semaphores", stat.id)
        when = max(stat.otime, stat.ctime)
        # A semaphore that was never changed has no recorded pid, and no user.
        users, doubts = _recorded(processes, [(pid, "operated", when) for pid in pids or ()])
        why = exited_text(users)
        if values is None:
            mode = stat.mode & 0o777
            doubts = [f"its semaphores: permission denied ({user_of(stat.uid)}, mode {mode:04o})"]
        elif stat.otime and not any(pids or ()):
            doubts = [_OUTSIDE]
        elif not (holders or users):
            why, doubts = _unused(processes, stat, "semget", ignored)
        verdict = judge(
            holders,
            users,
            doubts=[*dict.fromkeys(doubts), *_hidden(processes)],
            held=f"{waiting} thread{'s wait' if waiting > 1 else ' waits'} on it"
            if waiting
            else "",
            orphaned=f"no process waits on it; {why}",
        )
    return _object(
        "sysv-semaphores",
        stat,
        size=stat.nsems,
        used=Use(values=values),
        verdict=verdict,
        times={"changed": stat.ctime, "operated": stat.otime},
        now=now,
        users=users,
        holders=holders,
    )


def mark_companions(objects: list[IpcObject], processes: Processes) -> list[IpcObject]:
    """Mark an object as used if another, created at the same moment, is in use.

    The same program has then probably created both.

    A program with several objects often leaves no trace in some of them. For example, fakeroot's
    daemon waits on its queue, while its semaphores record only clients, which have exited.
    """
    known: dict[tuple[int, int], tuple[IpcObject, Process]] = {}
    for each in objects:
        for process in (*each.holders, *each.users):
            moment = int(each.details["cuid"]), int(each.details["ctime"])
            if process.alive and processes.ran_at(process.pid, moment[1]):
                known.setdefault(moment, (each, process))
    doubtful = {"orphaned", "unknown"}
    return [_with_others(each, known) if each.state in doubtful else each for each in objects]


def _with_others(
    item: IpcObject, known: dict[tuple[int, int], tuple[IpcObject, Process]]
) -> IpcObject:
    cuid, ctime = int(item.details["cuid"]), int(item.details["ctime"])
    for moment in (ctime, ctime - 1, ctime + 1):
        if (cuid, moment) in known:
            other, process = known[cuid, moment]
            use = f"{shown(process)}: {process.how}"
            reason = f"created at the same moment as {other.address}, which is in use: {use}"
            return replace(item, state="used", reason=reason)
    return item


def _read_set(
    stat: SysVSemaphoreSetStat,
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None, int]:
    """Return the values of a set, the last pid of each semaphore, and the number of waiters.

    The first two are None if the caller may not read the set.
    """
    try:
        values = tuple(native.sem_getall(stat.id))
        indexes = range(len(values))
        pids = dict.fromkeys(native.sem_get(stat.id, i, native.GETPID) for i in indexes)
        waiting = sum(
            native.sem_get(stat.id, i, command)
            for i in indexes
            for command in (native.GETNCNT, native.GETZCNT)
        )
    except OSError:
        return None, None, 0
    return values, tuple(pids), waiting
