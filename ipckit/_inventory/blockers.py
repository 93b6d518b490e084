"""Find the processes that can end a wait."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit._inventory.model import Process
from ipckit._inventory.processes import link, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ipckit._inventory.model import IpcObject, Peer
    from ipckit._inventory.proc_text import UnixRow
    from ipckit._inventory.processes import Processes
    from ipckit._inventory.targets import Target

# The style, the process and the file. A line of a process that waits has an arrow before the style.
_LOCK: Final = re.compile(rb"^\d+: (\w+) +\w+ +\w+ +(-?\d+) ([0-9a-f:]+) ", re.MULTILINE)
_FLAGS: Final = re.compile(rb"^flags:\s*([0-7]+)", re.MULTILINE)
_READS: Final = frozenset({os.O_RDONLY, os.O_RDWR})
_WRITES: Final = frozenset({os.O_WRONLY, os.O_RDWR})
_USES: Final = frozenset({"sender", "receiver", "publisher", "subscriber"})
_UNUSED: Final = "has it open, has not sent or received"


class Blockers:
    """Finds the processes any of which can end a wait.

    Args:
        processes: what /proc showed.
        rows: the UNIX sockets of this network namespace, by inode.
    """

    def __init__(self, processes: Processes, rows: Mapping[int, UnixRow]) -> None:
        self._processes = processes
        self._rows = rows

    def of(self, target: Target) -> tuple[Process, ...]:
        """Return the processes that can end a thread's wait; empty if none is known."""
        kind, waits_for = target.item.kind, target.waits_for
        if kind == "sysv-semaphores":
            found = self._last_users(target)
        elif kind == "sysv-queue":
            found = _other_side(target)
        elif target.call in {"flock", "fcntl"}:
            found = self._lockers(target)
        elif kind == "posix-queue":
            found = self._openers(target, _READS if waits_for == "room" else _WRITES)
        elif kind == "socket":
            found = self._other_end(target)
        else:
            found = self._mappers(target)
        return tuple(found)

    def _process(self, pid: int, how: str) -> Process:
        return Process(pid, self._processes.command(pid), how, alive=True)

    def _last_users(self, target: Target) -> Iterator[Process]:
        """Yield the process that changed the awaited semaphore last, or those of the whole set."""
        if target.index is None:
            found = {each.pid: each for each in target.item.users if each.pid != target.pid}
            yield from (replace(each, how="changed it last") for each in found.values())
            return
        with suppress(OSError):
            pid = native.sem_get(target.item.id, target.index, native.GETPID)
            when = max(target.item.times.values(), default=0.0)
            if pid not in {0, target.pid}:
                yield self._processes.on_record(pid, "changed it last", when)

    def _lockers(self, target: Target) -> Iterator[Process]:
        """Yield the processes that have locked a file; see proc_locks(5)."""
        device, inode = target.item.identity[:2]
        file = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}".encode()
        style = b"FLOCK" if target.call == "flock" else b"POSIX"
        with suppress(OSError):
            for found in _LOCK.finditer(read("/proc/locks")):
                pid = int(found[2])
                # The kernel shows -1 for the lock of an open file, and 0 for a hidden process.
                if found[1] == style and found[3] == file and pid > 0 and pid != target.pid:
                    yield self._process(pid, "locked it")

    def _openers(self, target: Target, modes: frozenset[int]) -> Iterator[Process]:
        """Yield the processes that have a queue open in one of some access modes."""
        device, inode = target.item.identity[:2]
        found = self._processes.files.get((device, inode))
        for pid, hows in () if found is None else sorted(found.holders.items()):
            fds = [how.removeprefix("fd ") for how in hows if how.startswith("fd ")]
            if pid != target.pid and any(_mode(pid, fd) in modes for fd in fds):
                yield self._process(pid, "has it open")

    def _other_end(self, target: Target) -> Iterator[Process]:
        """Yield the processes at the other end of a connection, or the listener."""
        if target.waits_for == "connection":
            if target.call == "connect":
                yield from (replace(each, how="listens") for each in target.item.holders)
            return
        row = self._rows.get(target.socket)
        for pid in self._processes.sockets.get(row.peer, {}) if row and row.peer else ():
            if pid != target.pid:
                yield self._process(pid, "is at the other end")

    def _mappers(self, target: Target) -> Iterator[Process]:
        """Yield the process whose thread owns a mutex, or all others that have the memory."""
        for each in target.item.holders:
            if target.owner and link(f"/proc/{each.pid}/task/{target.owner}/ns/pid"):
                yield replace(each, how="owns the mutex")
                return
        for each in target.item.holders:
            if each.pid != target.pid:
                yield replace(each, how="has it mapped" if "mapped" in each.how else "has it open")


def _other_side(target: Target) -> Iterator[Process]:
    """Yield the last sender or receiver of a System V queue."""
    wanted = "received" if target.waits_for == "room" else "sent"
    for each in target.item.users:
        if each.how == wanted and each.pid != target.pid:
            yield replace(each, how=f"{wanted} last")


def _mode(pid: int, fd: str) -> int | None:
    """Return the access mode of a descriptor; None if it can't be seen."""
    try:
        found = _FLAGS.search(read(f"/proc/{pid}/fdinfo/{fd}"))
    except OSError:
        return None
    return int(found[1], 8) & os.O_ACCMODE if found else None


def blockers_of_peer(item: IpcObject, peer: Peer) -> tuple[Process, ...]:
    """Return the processes that can end a peer's wait on a channel or topic."""
    helpers = {
        each.pid: Process(each.pid, each.command, how, alive=True)
        for each in item.peers
        if each is not peer and (how := _how_it_helps(peer.waits, each))
    }
    if helpers or peer.waits == "lock":
        return tuple(helpers.values())
    # A handle that was never used may be about to take the role.
    unused = {
        each.pid: Process(each.pid, each.command, _UNUSED + _stopped(each), alive=True)
        for each in item.peers
        if each.pid != peer.pid and not set(each.roles) & _USES
    }
    return tuple(unused.values())


def _stopped(peer: Peer) -> str:
    return ", stopped" if peer.stopped else ""


def _how_it_helps(waits: str, other: Peer) -> str:
    """Return what makes a peer able to end the wait of another; "" if it is not able to."""
    how = ""
    if waits == "lock":
        how = f"holds the {' and '.join(other.locks)} lock" if other.locks else ""
    elif waits == "message":
        how = next((role for role in ("sender", "publisher") if role in other.roles), "")
    elif "subscriber" in other.roles:
        how = f"subscriber, {other.unread} unread" if _delays(other) else ""
    elif other.blocks:
        how = f"holds the memory of {other.blocks} messages"
    elif "receiver" in other.roles:
        how = "receiver"
    return how and how + _stopped(other)


def _delays(subscriber: Peer) -> bool:
    """Return whether a publisher waits for this subscriber."""
    return subscriber.policy == "wait" and bool(subscriber.unread)
