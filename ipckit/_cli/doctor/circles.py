"""Find processes that wait for each other in a circle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipckit._cli.doctor.model import Finding, named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipckit.inventory import Peer, Process


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
    for start in sorted(edges):
        circle = [] if start in reported else _circle(edges, start)
        if not circle or all(each.idle for each in circle):
            continue
        pids = tuple(each.process.pid for each in circle)
        reported.update(pids)
        yield _finding(circle, pids)


def _finding(circle: list[Wait], pids: tuple[int, ...]) -> Finding:
    names = [named(each.process) for each in circle]
    if len(circle) == 1:
        what = f"{names[0]} waits for {circle[0].on}, and only it can end that wait"
    else:
        hidden = len(names) - _NAMED
        more = [f"{hidden} more, the last of which"] if hidden > 0 else []
        chain = " waits for ".join([*names[:_NAMED], *more, f"pid {pids[0]}"])
        what = f"processes wait for each other: {chain}"
    addresses = sorted({each.address for each in circle})
    rings = any(address.startswith("channel:") for address in addresses)
    return Finding(
        "deadlock",
        tuple(addresses),
        what,
        f"kill {pids[-1]}",
        "critical",
        tuple(f"pid {each.process.pid} waits for {each.on}" for each in circle),
        f"{'End it' if len(circle) == 1 else 'End one of them'}. {_RECEIVE if rings else _ORDER}",
        pids=pids,
    )
