"""What is likely to bite on this machine, and what cures it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipckit import _doctor_host as host
from ipckit import _doctor_waits as waits
from ipckit import inventory
from ipckit._doctor_model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipckit.inventory import Survey


def _orphans(survey: Survey) -> Iterator[Finding]:
    left = [each for each in survey.objects if each.orphaned]
    if left:
        names = ", ".join(each.address for each in left[:3]) + (", …" if len(left) > 3 else "")  # noqa: PLR2004
        what = f"{len(left)} objects that no process has any more"
        cure = "to see them: ipckit gc; to remove them: ipckit gc --delete"
        yield Finding("orphans", names, what, cure)


def _full_queues(survey: Survey) -> Iterator[Finding]:
    for each in survey.objects:
        used, size = each.used.bytes, each.size
        if each.kind != "sysv-queue" or not size or not used:
            continue
        if used >= size * 0.9:
            what = f"{used:,} of {size:,} bytes are used, in {each.used.messages} messages"
            cure = f"see why nobody receives: ipckit stat {each.address}"
            yield Finding("queue-full", each.address, what, cure)


def examine(
    *, peer: int | None = None, directories: Iterable[str] | None = None, stuck_after: float = 60.0
) -> list[Finding]:
    """Look for everything that is likely to bite.

    Args:
        peer: a process that should see the same objects; its namespaces are compared with ours.
        directories: where to look for socket files; by default /run, /tmp, /var/tmp and
            $XDG_RUNTIME_DIR.
        stuck_after: seconds without any change after which a wait for a live process is told.

    Returns:
        The findings: the problems first, each kind in the order of the checks.

    Raises:
        NotFound: there is no process `peer`.
    """
    survey = inventory.survey()
    looked_at = host.usual_directories() if directories is None else directories
    found = [
        *(host.peer(peer) if peer is not None else ()),
        *host.limits(),
        *host.descriptors(host.running()),
        *waits.semaphores(survey.objects, stuck_after),
        *waits.queues(survey.objects, stuck_after),
        *_full_queues(survey),
        *host.remove_ipc(survey.objects),
        *host.sockets(looked_at),
        *_orphans(survey),
        *(Finding("unseen", "ipckit ls", line, "run it as root", "note") for line in survey.unseen),
    ]
    return sorted(found, key=lambda each: each.level != "problem")
