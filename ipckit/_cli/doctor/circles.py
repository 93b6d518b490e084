"""Find processes that wait for each other in a circle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipckit._cli.doctor.model import Finding, all_named, named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipckit.inventory import Peer, Process


# How `Wait.on` begins if a process waits for a peer of a channel.
_RING_WAITS: Final = ("a message from ", "room in ")
_NAMED: Final = 6  # JSON has the rest of a longer circle in `evidence`
_ORDER: Final = "In the programs, acquire locks in one order (ipckit.LockOrder)."
_RECEIVE: Final = (
    "In the programs, receive while a send waits, or give the channels a larger capacity."
)


@dataclass(frozen=True, slots=True)
class Wait:
    """A process that waits for others.

    Attributes:
        process: the process that waits.
        on: what it waits for: ``"semaphore 0 of s:5"``, ``"room in channel:orders"``.
        address: the address of that object.
        pids: the processes that can end the wait; one of them suffices.
        idle: it waits for a message, as a receiver without work does. Circles of such waits alone
            are no deadlock.
    """

    process: Process | Peer
    on: str
    address: str
    pids: frozenset[int]
    idle: bool = False


def _blocked(waits: Sequence[Wait]) -> list[Wait]:
    """Return the waits that no process outside of them can end."""
    left = [each for each in waits if each.pids]
    while True:
        pids = {each.process.pid for each in left}
        kept = [each for each in left if each.pids <= pids]
        if len(kept) == len(left):
            return kept
        left = kept


def _circle(edges: dict[int, list[Wait]], start: int) -> list[Wait]:
    """Return a circle of waits that starts at a process; empty if there is none."""
    paths: list[list[Wait]] = [[each] for each in edges.get(start, ())]
    seen: set[int] = set()
    while paths:
        path = paths.pop(0)
        for pid in sorted(path[-1].pids):
            if pid == start:
                return path
            if pid not in seen:
                seen.add(pid)
                paths += [[*path, following] for following in edges.get(pid, ())]
    return []


def deadlocks(waits: Iterable[Wait]) -> Iterator[Finding]:
    """Report circles of processes that wait for each other, each circle once."""
    edges: dict[int, list[Wait]] = {}
    for each in _blocked(list(waits)):
        edges.setdefault(each.process.pid, []).append(each)
    reported: set[int] = set()
    for group in _groups(edges):
        pids = tuple(each.process.pid for each in group)
        reported.update(pids)
        yield _group_finding(group, pids)
    for start in sorted(edges):
        circle = [] if start in reported else _circle(edges, start)
        if not circle or all(each.idle for each in circle):
            continue
        pids = tuple(each.process.pid for each in circle)
        reported.update(pids)
        yield _circle_finding(circle, pids)


def _groups(edges: dict[int, list[Wait]]) -> Iterator[list[Wait]]:
    """Yield the processes that wait for the same, if each of them could end it for all."""
    groups: dict[tuple[str, frozenset[int]], list[Wait]] = {}
    for pid in sorted(edges):
        for each in edges[pid]:
            if pid in each.pids and not each.idle:
                groups.setdefault((each.on, each.pids), []).append(each)
    for (_, pids), group in groups.items():
        if pids <= {each.process.pid for each in group}:
            yield group


def _group_finding(group: list[Wait], pids: tuple[int, ...]) -> Finding:
    on = group[0].on
    if len(group) == 1:
        what = f"{named(group[0].process)} waits for {on}, and only it can end that wait"
    else:
        names = all_named([each.process for each in group])
        what = f"{names} wait for {on}, and only they can end these waits"
    return _finding(group, pids, what)


def _circle_finding(circle: list[Wait], pids: tuple[int, ...]) -> Finding:
    names = [named(each.process) for each in circle]
    hidden = len(names) - _NAMED
    more = [f"{hidden} more, the last of which"] if hidden > 0 else []
    chain = " waits for ".join([*names[:_NAMED], *more, f"pid {pids[0]}"])
    return _finding(circle, pids, f"processes wait for each other: {chain}")


def _finding(waits: list[Wait], pids: tuple[int, ...], what: str) -> Finding:
    rings = any(each.on.startswith(_RING_WAITS) for each in waits)
    return Finding(
        "deadlock",
        tuple(sorted({each.address for each in waits})),
        what,
        f"kill {pids[-1]}",
        "critical",
        tuple(f"pid {each.process.pid} waits for {each.on}" for each in waits),
        f"{'End it' if len(waits) == 1 else 'End one of them'}. {_RECEIVE if rings else _ORDER}",
        pids=pids,
    )
