"""Which objects each process holds and waits on, for how long, and who can end the wait."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, final

from ipckit._core.lazy_names import LazyModule
from ipckit._core.public import public
from ipckit._inventory.judge import user_of
from ipckit._inventory.survey import observe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit._inventory import blockers, sleep_clock, targets
    from ipckit._inventory.model import IpcObject, Kind, Peer, Process, Survey
    from ipckit._inventory.processes import Processes
    from ipckit._inventory.targets import Target
else:
    # Most programs that import the inventory never ask for these.
    blockers = LazyModule("ipckit._inventory.blockers")
    sleep_clock = LazyModule("ipckit._inventory.sleep_clock")
    targets = LazyModule("ipckit._inventory.targets")

_STATES: Final = {"R": "running", "D": "in the kernel", "T": "stopped", "t": "traced"}
_WAITS_IN: Final = "waits in "
# A program calls these again and again with a short timeout.
_REPEATED: Final = frozenset({"poll", "select", "epoll_wait"})
# ipckit's timed waits on queues sleep again and again, for a tenth of a second at most.
_QUEUES: Final = frozenset({"sysv-queue", "posix-queue"})
_IN_PIECES: Final = frozenset({"sleep", "poll"})
_PIECE: Final = 1.0


@final
@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class Held:
    """An object that a process holds or used.

    Attributes:
        address: the object's address, as of `IpcObject`.
        kind: its kind.
        how: how the process holds it: ``"fd 5, mapped"``, ``"attached"``, and the roles of the
            process in a channel or topic; or what it did: ``"created"``, ``"sent"``.
        when: when it did that, in seconds since the epoch; None for a holder.

    Example:
        >>> import os
        >>> from ipckit import MemFd, inventory
        >>> with MemFd.create("doc", 4096) as memory:
        ...     found = inventory.survey_processes()
        ...     process = found.processes[os.getpid()]
        ...     {each.kind for each in process.holds} >= {"memfd"}
        True
    """

    address: str
    kind: Kind
    how: str
    when: float | None = None


@final
@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class Wait:
    """A thread that sleeps until something happens to an object.

    Attributes:
        pid: its process.
        tid: the thread; 0 if it is not known which of the process's threads waits.
        address: the object's address.
        kind: the object's kind.
        waits_for: ``"message"``, ``"room"`` in a queue or channel, ``"semaphore"`` and ``"zero"``
            for a semaphore above and at 0, ``"lock"``, ``"connection"``, ``"data"`` from a socket,
            or ``"change"`` if it is not known for which change of the object it waits.
        call: the system call, such as ``"msgrcv"`` or ``"futex"``; ``"sleep"`` for ipckit's timed
            wait on a System V queue, which sleeps in pieces.
        index: the semaphore in its set; None for others.
        seconds: how long it has waited; None if that is unknown.
        bound: ``""`` if `seconds` is the time, ``"at least"`` if it is a lower bound, ``"about"``
            if it is the time since the queue last changed, because the thread sleeps in pieces.
        blockers: the processes any of which can end the wait: the last user of a semaphore, the
            holder of a lock, the peers at the other side of a channel, the last sender of a queue.
            `Process.how` is the evidence. Empty if none is known.

    Example:
        >>> from ipckit import inventory
        >>> found = inventory.survey_processes()
        >>> all(wait.pid == pid for pid, each in found.processes.items() for wait in each.waits)
        True
    """

    pid: int
    tid: int
    address: str
    kind: Kind
    waits_for: str
    call: str
    index: int | None = None
    seconds: float | None = None
    bound: str = ""
    blockers: tuple[Process, ...] = ()


@final
@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class ProcessUse:
    """A process, with the objects that it holds, waits on and used.

    Attributes:
        pid: its process id in this pid namespace.
        parent: the pid of its parent; 0 if it has none here.
        uid: its effective user id; None if that can't be seen.
        user: the name of that user, or the uid as text; "" if it can't be seen.
        name: the program's name, 15 bytes at most.
        command: its command line, or its name in brackets if the command line is empty.
        state: ``"running"``, ``"sleeping"``, ``"stopped"``, ``"traced"``, or ``"in the kernel"``
            for a sleep that no signal ends.
        threads: the number of its threads.
        started: when it started, in seconds since the epoch.
        seen: it could be inspected; if not, the next three show only a part.
        holds: the objects that it has open, mapped or attached.
        waits: the waits of its threads, the longest first.
        used: the objects that record it as their creator or last user.

    Example:
        >>> import os
        >>> from ipckit import MemFd, inventory
        >>> with MemFd.create("doc", 4096) as memory:
        ...     found = inventory.survey_processes()
        ...     process = found.processes[os.getpid()]
        ...     process.pid == os.getpid(), process.state
        (True, 'running')
    """

    pid: int
    parent: int
    uid: int | None
    user: str
    name: str
    command: str
    state: str
    threads: int
    started: float
    seen: bool
    holds: tuple[Held, ...] = ()
    waits: tuple[Wait, ...] = ()
    used: tuple[Held, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as plain values, for JSON."""
        return asdict(self)


@final
@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class ProcessSurvey:
    """The processes that ran at one time, and the objects.

    Attributes:
        processes: the processes, by pid; also those that use no object.
        objects: the survey of the objects.

    Example:
        >>> import os
        >>> from ipckit import MemFd, inventory
        >>> with MemFd.create("doc", 4096) as memory:
        ...     found = inventory.survey_processes()
        ...     process = found.processes[os.getpid()]
        ...     process in found.participants
        True
    """

    processes: dict[int, ProcessUse]
    objects: Survey

    @property
    def participants(self) -> tuple[ProcessUse, ...]:
        """The processes that hold or wait on an object, or for which another process waits."""
        awaited = {each.holder.pid for each in edges(self) if each.holder.alive}
        return tuple(
            each
            for each in self.processes.values()
            if each.holds or each.waits or each.pid in awaited
        )


@final
@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class Edge:
    """A process that waits for another.

    Attributes:
        waiter: the pid of the process that waits.
        holder: a process that can end the wait; it may have exited.
        wait: the wait. Another of its `blockers` can end it too.

    Example:
        >>> from ipckit import inventory
        >>> found = inventory.survey_processes()
        >>> all(edge.wait in found.processes[edge.waiter].waits for edge in inventory.edges(found))
        True
    """

    waiter: int
    holder: Process
    wait: Wait


@public("ipckit.inventory")
def edges(found: ProcessSurvey) -> tuple[Edge, ...]:
    """Return which process waits for which, as the edges of a graph.

    In a deadlock, no blocker of any wait can run: each waits too, or has exited. A wait without
    blockers has no edge, because it is not known who can end it.

    Args:
        found: the processes, from `survey_processes`.

    Returns:
        The edges, by the pid of the waiting process. A process that waits for itself has none.

    Example:
        >>> waiting = {(each.waiter, each.holder.pid) for each in edges(survey_processes())}
    """
    return tuple(
        Edge(each.pid, holder, wait)
        for each in found.processes.values()
        for wait in each.waits
        for holder in wait.blockers
        if holder.pid != each.pid
    )


@public("ipckit.inventory")
def survey_processes(*, ignore_self: bool = False, stale_sockets: bool = True) -> ProcessSurvey:
    """List the processes, with the objects that each holds and waits on.

    It requires no privileges. Without them it sees less, and `Survey.unseen` says what.

    A thread's wait is found from the system call in which the thread sleeps, on x86_64 and aarch64.
    Its duration is the time since the thread last ran, if the kernel shows that. In a timed wait of
    ipckit a thread runs now and then; its duration is the one that the channel records, or the time
    since the queue last changed.

    Args:
        ignore_self: leave out this process. It is for command line tools.
        stale_sockets: also search for socket files without a listener, which no process holds and
            which takes long.

    Returns:
        The processes and the objects.

    Example:
        >>> import os, ipckit
        >>> with ipckit.MemFd.create("frames", 4096) as memory:
        ...     here = survey_processes().processes[os.getpid()]
        ...     any(each.kind == "memfd" for each in here.holds)
        True

    See proc(5), proc_pid_syscall(5).
    """
    survey, processes = observe(ignore_self=ignore_self, stale_sockets=stale_sockets)
    found = {} if processes is None else _Assembly(survey, processes).all()
    if ignore_self:
        found.pop(os.getpid(), None)
    return ProcessSurvey(found, survey)


class _Assembly:
    """Collects what `survey_processes` returns."""

    def __init__(self, survey: Survey, processes: Processes) -> None:
        self._processes = processes
        self._objects = survey.objects
        self._taken = survey.taken
        self._targets = targets.Targets(survey.objects, processes)
        self._blockers = blockers.Blockers(processes, self._targets.rows)
        self._clock = sleep_clock.SleepClock()
        self._holds: dict[int, list[Held]] = defaultdict(list)
        self._used: dict[int, list[Held]] = defaultdict(list)
        self._candidates: set[int] = set(self._targets.connected)
        self._peers: dict[int, list[tuple[IpcObject, Peer]]] = defaultdict(list)

    def all(self) -> dict[int, ProcessUse]:
        """Return every process that was seen, by pid."""
        for item in self._objects:
            self._note(item)
        denied = set(self._processes.denied)
        return {pid: self._process(pid, seen=pid not in denied) for pid in self._pids()}

    def _pids(self) -> list[int]:
        return sorted(self._processes.stats)

    def _note(self, item: IpcObject) -> None:
        """Note the processes that an object names."""
        hows: dict[int, list[str]] = defaultdict(list)
        for holder in item.holders:
            self._candidates.add(holder.pid)
            if not holder.how.startswith(_WAITS_IN):
                hows[holder.pid].append(holder.how)
        for peer in item.peers:
            if not peer.command:
                continue  # its pid is one of a namespace that is not visible here
            self._candidates.add(peer.pid)
            self._peers[peer.pid].append((item, peer))
            hows[peer.pid] += [*peer.roles, *(f"holds the {lock} lock" for lock in peer.locks)]
            if peer.bridge:
                way = "to" if peer.bridge.direction == "send" else "from"
                hows[peer.pid].append(f"bridges it {way} {peer.bridge.url}")
        for pid, parts in hows.items():
            how = ", ".join(dict.fromkeys(parts))
            self._holds[pid].append(Held(item.address, item.kind, how))
        for user in (item.creator, *item.users):
            if user is not None and user.alive:
                when = item.times.get("changed" if user.how == "created" else user.how)
                self._used[user.pid].append(Held(item.address, item.kind, user.how, when))

    def _process(self, pid: int, *, seen: bool) -> ProcessUse:
        found = self._processes.stats[pid]
        uid = self._processes.effective_user(pid)
        waits = sorted(self._waits(pid), key=lambda each: -(each.seconds or 0.0))
        return ProcessUse(
            pid=pid,
            parent=found.parent,
            uid=uid,
            user="" if uid is None else user_of(uid),
            name=found.name,
            command=self._processes.command(pid),
            state=_STATES.get(found.state, "sleeping"),
            threads=found.threads,
            started=self._processes.started(pid),
            seen=seen,
            holds=tuple(self._holds.get(pid, ())),
            waits=tuple(waits),
            used=tuple(dict.fromkeys(self._used.get(pid, ()))),
        )

    def _waits(self, pid: int) -> Iterator[Wait]:
        """Yield the waits of a process."""
        in_rings: dict[str, list[Target]] = defaultdict(list)
        for target in self._targets.of(pid) if pid in self._candidates else ():
            if target.item.peers or target.item.kind in {"channel", "topic"}:
                in_rings[target.item.address].append(target)
            else:
                yield self._timed(target, self._blockers.of(target))
        for item, peer in self._peers.get(pid, ()):
            if peer.waits:
                yield self._peer_wait(item, peer, in_rings[item.address])
        # A thread without a waiting peer makes a descriptor readable for poll(2), in pieces.
        for target in (each for found in in_rings.values() for each in found):
            yield replace(self._timed(target, ()), seconds=None, bound="")

    def _peer_wait(self, item: IpcObject, peer: Peer, sleepers: list[Target]) -> Wait:
        """Return the wait of a peer, and take its thread from a list if there is only one."""
        alone = sum(1 for each, other in self._peers[peer.pid] if each is item and other.waits) == 1
        target = sleepers.pop() if alone and len(sleepers) == 1 else None
        if target is None:
            sleepers.clear()
        wait = Wait(
            pid=peer.pid,
            tid=target.tid if target else 0,
            address=item.address,
            kind=item.kind,
            waits_for=peer.waits,
            call="futex",
            seconds=peer.waiting,
            blockers=blockers.blockers_of_peer(item, peer),
        )
        if peer.waiting is None and target is not None:
            return replace(wait, seconds=self._clock.slept(peer.pid, target.tid), bound="at least")
        return wait

    def _timed(self, target: Target, helpers: tuple[Process, ...]) -> Wait:
        """Return the wait of a thread, with its duration."""
        item = target.item
        seconds, bound = self._clock.slept(target.pid, target.tid), ""
        if target.call in _REPEATED:
            bound = "at least"
        if item.kind in _QUEUES and target.call in _IN_PIECES and (seconds or 0.0) < _PIECE:
            seconds, bound = self._idle(target), "about"
        return Wait(
            pid=target.pid,
            tid=target.tid,
            address=item.address,
            kind=item.kind,
            waits_for=target.waits_for,
            call=target.call,
            index=target.index,
            seconds=seconds,
            bound="" if seconds is None else bound,
            blockers=helpers,
        )

    def _idle(self, target: Target) -> float:
        """Return for how long a queue has not changed while a process ran."""
        last = max(self._processes.started(target.pid), *target.item.times.values())
        return max(0.0, self._taken - last)
