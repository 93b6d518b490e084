"""Run all checks of `ipckit doctor`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ipckit import inventory
from ipckit._cli.doctor import bridges, circles, host, leftovers, queues, rings, semaphores
from ipckit._cli.doctor.group import explained, grouped
from ipckit._cli.doctor.model import AS_ROOT, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipckit.inventory import IpcObject, Kind, Survey


def _stuck(
    objects: Sequence[IpcObject], denied: list[IpcObject], stuck_after: float
) -> list[Finding]:
    """Check for processes that wait for others."""
    rows = list(semaphores.rows(objects, denied))
    waits = [*semaphores.waits(rows), *rings.waits(objects, stuck_after)]
    return explained(
        [
            *circles.deadlocks(waits),
            *semaphores.check(rows, stuck_after),
            *queues.check(objects, stuck_after),
            *rings.check(objects, stuck_after),
        ]
    )


def _limits_and_leftovers(objects: Sequence[IpcObject]) -> Iterator[Finding]:
    """Check limits, and for orphans that no limit's cure removes."""
    lost = leftovers.orphans(objects)
    known: set[Kind] = set()
    for finding, kinds in host.limits(objects, lost):
        yield finding
        known.update(kinds)
    yield from leftovers.check_orphans(lost, known)


def _unseen(survey: Survey, denied: Sequence[IpcObject]) -> Iterator[Finding]:
    """Say what could not be seen, in one note."""
    lines = list(survey.unseen)
    if denied:
        names = [each.address for each in denied]
        lines.append(f"which processes wait on {', '.join(names)}: permission denied")
    if not lines:
        return
    is_root = os.geteuid() == 0
    yield Finding(
        "unseen",
        ("/proc",),
        f"could not see {lines[0] if len(lines) == 1 else 'everything'}",
        "" if is_root else AS_ROOT,
        "note",
        () if len(lines) == 1 else tuple(lines),
        "The host's root sees more: run it there, in the initial pid namespace." if is_root else "",
    )


def examine(*, peer: int | None = None, stuck_after: float = 60.0) -> list[Finding]:
    """Run all checks.

    Args:
        peer: the pid of a process that should see the same objects; its namespaces are compared
            with those of this process.
        stuck_after: seconds without a change after which a wait for a live process is reported.

    Returns:
        The findings, the most severe first.

    Raises:
        NotFound: there is no process `peer`.
    """
    compared = list(host.peer(peer)) if peer is not None else []
    survey = inventory.survey(ignore_self=True)
    denied: list[IpcObject] = []
    return grouped(
        [
            *compared,
            *_stuck(survey.objects, denied, stuck_after),
            *_limits_and_leftovers(survey.objects),
            *bridges.check(survey.objects),
            *host.descriptors(host.neighbours()),
            *host.remove_ipc(survey.objects),
            *leftovers.check_sockets(survey.objects),
            *_unseen(survey, denied),
        ]
    )
