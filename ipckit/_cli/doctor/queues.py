"""Check for queues that are full, and processes that wait on them without end."""

from __future__ import annotations

import os
import re
import select
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit._cli import words
from ipckit._cli.doctor.model import Finding, ago, all_named, shell
from ipckit._cli.doctor.semaphores import blocked_in, has_exited, waiting
from ipckit._core.blocked_calls import wait_of
from ipckit.msgq import list_queues

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipckit._cli.doctor.model import Severity
    from ipckit.inventory import IpcObject, Process
    from ipckit.msgq import SysVMessageQueueStat

FULL: Final = 0.9
# The system calls in which a sender to a POSIX queue sleeps, by machine: mq_timedsend, whose first
# argument is the descriptor, and poll, which ipckit calls for a send with a timeout.
_MQ_SEND: Final = {"x86_64": "242", "aarch64": "182"}
_POLL: Final = {"x86_64": {"7", "271"}, "aarch64": {"73"}}
_POLLFD: Final = struct.Struct("=ihh")  # fd, events, revents
_MOST_POLLED: Final = 1000
_INT: Final = 0xFFFFFFFF  # the upper half of the register of an int is undefined
_SWITCHES: Final = re.compile(r"^voluntary_ctxt_switches:\s*(\d+)", re.MULTILINE)
# The kernel rounds the times of a queue down to seconds.
_QUIET: Final = 2.0
START: Final = (
    "Start the receiver. Until then, the command takes its place and keeps the messages in a file, "
    "from which ipckit send --json sends them again."
)


def saving(address: str) -> str:
    """Return the command that receives in place of a program, into a file."""
    return f"ipckit recv {shell(address)} --follow --json >> saved.json"


def _filled(each: IpcObject) -> tuple[int, int, str]:
    """Return how much of a queue is used, of how much, and in what unit."""
    if each.kind == "sysv-queue":
        return each.used.bytes or 0, each.size or 0, "bytes"
    return each.used.messages or 0, int(each.details.get("maxmsg", 0)), "messages"


# -- System V --------------------------------------------------------------------------------------


def _no_receiver(
    each: IpcObject, stat: SysVMessageQueueStat, stuck_after: float
) -> tuple[str, bool]:
    """Return why no process receives from a full queue, or ``""``; and whether it is for ever."""
    if stat.lrpid == 0:
        return "no process has ever received from it", True
    if has_exited(stat.lrpid, each):
        return f"pid {stat.lrpid}, which received last, has exited", True
    idle = time.time() - max(stat.rtime, stat.stime)
    if idle >= stuck_after:
        return f"pid {stat.lrpid} has not received for {ago(idle)}", False
    return "", False


def _sleepers(receivers: Iterable[Process], ident: int) -> set[tuple[int, str, str]]:
    """Return the threads that sleep in msgrcv on a queue, each with how often it has slept."""
    machine, found = os.uname().machine, set[tuple[int, str, str]]()
    for pid in [receiver.pid for receiver in receivers]:
        with suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - names suffice
                with suppress(OSError, ValueError):
                    at = Path(f"/proc/{pid}/task/{task}")
                    wait = wait_of((at / "syscall").read_text(), machine)
                    # The name of a thread, in the same file, may not be UTF-8.
                    status = (at / "status").read_text(errors="replace")
                    slept = _SWITCHES.search(status)
                    if wait and wait.call == "msgrcv" and wait.id == ident and slept:
                        found.add((pid, task, slept[1]))
    return found


def _passed_over(
    receivers: list[Process], stat: SysVMessageQueueStat
) -> tuple[list[Process], SysVMessageQueueStat]:
    """Return the receivers that wait although messages are queued, and the queue as it is now.

    `receivers` and `stat` were read one after the other, and a queue that is in use changes in
    between. A thread that slept before and after the queue was read, and not once more, did not
    want what was in it. If no message was sent or received for a while, neither did any thread;
    this finds the timed waits of ipckit, which sleep in short pieces.
    """
    before = _sleepers(receivers, stat.id)
    now = next((each for each in list_queues() if each.id == stat.id), stat)
    if time.time() - max(now.rtime, now.stime) >= _QUIET:
        slept = {pid for pid, _, _ in before}
    else:
        slept = {pid for pid, _, _ in before & _sleepers(receivers, stat.id)}
    return [each for each in receivers if each.pid in slept and now.qnum], now


def _sysv(each: IpcObject, stat: SysVMessageQueueStat, stuck_after: float) -> Iterator[Finding]:
    senders, receivers = blocked_in(each, "msgsnd"), blocked_in(each, "msgrcv")
    if receivers and stat.qnum:
        receivers, stat = _passed_over(receivers, stat)
    if receivers and stat.qnum:
        yield _wrong_type(each, stat, senders, receivers, stuck_after)
        return
    why, for_ever = _no_receiver(each, stat, stuck_after) if senders else ("", False)
    if why:
        used = f"{words.counted(stat.qnum, 'message')}: {stat.cbytes:,} of {stat.qbytes:,} bytes"
        yield Finding(
            "stuck-sender",
            (each.address,),
            f"the queue is full, {waiting(senders)} to send, and {why}",
            saving(each.address) if for_ever else f"ipckit ps {stat.lrpid}",
            "critical" if for_ever else "warning",
            (used,),
            START if for_ever else f"Find out what pid {stat.lrpid} does.",
            pids=tuple(sender.pid for sender in senders),
            waits_for=() if for_ever else (stat.lrpid,),
        )
    elif time.time() - stat.rtime >= _QUIET:  # a queue in use is often full
        yield from _nearly_full(each)


def _wrong_type(
    each: IpcObject,
    stat: SysVMessageQueueStat,
    senders: list[Process],
    receivers: list[Process],
    stuck_after: float,
) -> Finding:
    """Report receivers that wait although messages are queued; critical if these fill the queue."""
    idle = max(0.0, time.time() - max(stat.rtime, stat.stime))
    severity: Severity = "note"
    what = f"{waiting(receivers)} to receive, but only messages of other types are queued"
    if senders:
        severity = "critical" if idle >= stuck_after else "warning"
        what = f"the queue is full and {waiting(senders)} to send; {what}"
    return Finding(
        "stuck-sender" if senders else "wrong-type",
        (each.address,),
        what,
        f"ipckit peek {shell(each.address)}",
        severity,
        (
            f"{words.counted(stat.qnum, 'message')}: {stat.cbytes:,} of {stat.qbytes:,} bytes",
            f"the last message was sent or received {ago(idle)} ago",
        ),
        "The command shows their types.",
        pids=tuple(each.pid for each in (*senders, *receivers)),
    )


# -- POSIX -----------------------------------------------------------------------------------------


def _descriptors(holder: Process) -> list[str]:
    """Return the numbers of the descriptors by which a process has a queue open."""
    return [part[3:] for part in holder.how.split(", ") if part.startswith("fd ")]


def _can_read(holder: Process) -> bool:
    """Return whether a process has a queue open to receive; true also if it can't be seen."""
    for fd in _descriptors(holder):
        try:
            text = Path(f"/proc/{holder.pid}/fdinfo/{fd}").read_text()
            flags = int(text.partition("flags:")[2].split()[0], 8)
        except (OSError, ValueError, IndexError):
            return True
        if flags & os.O_ACCMODE != os.O_WRONLY:
            return True
    return False


def _polled(pid: int, address: int, count: int) -> Iterator[int]:
    """Yield the descriptors that a thread in poll waits to write to."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        data = memory.read(min(count, _MOST_POLLED) * _POLLFD.size)
    for fd, events, _ in _POLLFD.iter_unpack(data[: len(data) // _POLLFD.size * _POLLFD.size]):
        if events & select.POLLOUT:
            yield fd


def _sends(holder: Process) -> bool:
    """Return whether a thread of a process sleeps in a call that sends to a POSIX queue."""
    machine, pid = os.uname().machine, holder.pid
    wanted = {int(fd) for fd in _descriptors(holder)}
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - names suffice
            with suppress(OSError, OverflowError, ValueError, IndexError):
                fields = Path(f"/proc/{pid}/task/{task}/syscall").read_text().split()
                first, second = (int(part, 16) for part in fields[1:3])
                if fields[0] == _MQ_SEND.get(machine) and first & _INT in wanted:
                    return True
                if fields[0] in _POLL.get(machine, ()) and wanted & {*_polled(pid, first, second)}:
                    return True
    return False


def _posix(each: IpcObject) -> Iterator[Finding]:
    used, most, unit = _filled(each)
    senders = [holder for holder in each.holders if _sends(holder)] if 0 < most <= used else []
    blocked = {sender.pid for sender in senders}
    readers = [holder for holder in each.holders if holder.pid not in blocked and _can_read(holder)]
    if not senders or "unlinked" in each.details:
        yield from _nearly_full(each)
        return
    full = f"the queue is full, {waiting(senders)} to send"
    evidence = (f"{used:,} of {most:,} {unit} wait",)
    if readers:
        yield Finding(
            "stuck-sender",
            (each.address,),
            f"{full}; {all_named(readers)} could receive",
            f"ipckit ps {readers[0].pid}",
            "warning",
            (*evidence, f"open to receive in {all_named(readers)}"),
            "Find out why it does not receive, or receives more slowly than messages are sent.",
            pids=tuple(blocked),
            waits_for=tuple(reader.pid for reader in readers),
        )
        return
    yield Finding(
        "stuck-sender",
        (each.address,),
        f"{full}, and no other process has it open to receive",
        saving(each.address),
        "critical",
        evidence,
        START,
        pids=tuple(blocked),
    )


# -- both ------------------------------------------------------------------------------------------


def _nearly_full(each: IpcObject) -> Iterator[Finding]:
    used, most, unit = _filled(each)
    if not used or not most or used < most * FULL or each.orphaned:
        return
    yield Finding(
        "queue-full",
        (each.address,),
        f"{used:,} of {most:,} {unit} are queued",
        f"ipckit stat {shell(each.address)}",
        "warning",
        (each.reason,) if each.reason else (),
        "Find out why no process receives.",
    )


def check(objects: Iterable[IpcObject], stuck_after: float) -> Iterator[Finding]:
    """Check System V and POSIX queues: senders that wait, receivers that wait for other types."""
    stats = {stat.id: stat for stat in list_queues()}
    for each in objects:
        if each.kind == "sysv-queue" and each.id in stats:
            yield from _sysv(each, stats[each.id], stuck_after)
        elif each.kind == "posix-queue":
            yield from _posix(each)
