"""What is likely to bite on this machine, and what cures it."""

from __future__ import annotations

from shlex import quote  # names are whoever made the object's, and cures are copied to a shell
from typing import TYPE_CHECKING, Final

from ipckit import inventory
from ipckit._cli.doctor import host, waits
from ipckit._cli.doctor.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.inventory import Survey

_FULL: Final = 0.9
_SEE_MORE: Final = "run it as root, in the first pid namespace"


def _stale_sockets(survey: Survey) -> Iterator[Finding]:
    for each in survey.objects:
        if each.kind == "socket" and each.orphaned:
            what = "the file is there and nobody listens: bind fails with EADDRINUSE"
            cure = f"ipckit rm {quote(each.address)}; ipckit.listen replaces such a file by itself"
            yield Finding("stale-socket", each.address, what, cure)


def _orphans(survey: Survey) -> Iterator[Finding]:
    left = [each for each in survey.objects if each.orphaned and each.kind != "socket"]
    if left:
        names = ", ".join(each.address for each in left[:3]) + (", …" if len(left) > 3 else "")  # noqa: PLR2004
        what = f"{len(left)} object{'s' * (len(left) > 1)} that no process has any more"
        cure = "to see them: ipckit gc; to remove them: ipckit gc --delete"
        yield Finding("orphans", names, what, cure)


def _full_queues(survey: Survey) -> Iterator[Finding]:
    for each in survey.objects:
        if each.kind == "sysv-queue":
            used, most, unit = each.used.bytes, each.size, "bytes"
        elif each.kind == "posix-queue":
            used, most, unit = each.used.messages, int(each.details.get("maxmsg", 0)), "messages"
        else:
            continue
        if used and most and used >= most * _FULL:
            what = f"{used:,} of {most:,} {unit} are used"
            cure = f"see why nobody receives: ipckit stat {quote(each.address)}"
            yield Finding("queue-full", each.address, what, cure)


def examine(*, peer: int | None = None, stuck_after: float = 60.0) -> list[Finding]:
    """Look for everything that is likely to bite.

    Args:
        peer: a process that should see the same objects; its namespaces are compared with ours.
        stuck_after: seconds without any change after which a wait for a live process is told.

    Returns:
        The findings: the problems first, each kind in the order of the checks.

    Raises:
        NotFound: there is no process `peer`.
    """
    survey = inventory.survey(ignore_self=True)
    found = [
        *(host.peer(peer) if peer is not None else ()),
        *host.limits(),
        *host.descriptors(host.neighbours()),
        *waits.semaphores(survey.objects, stuck_after),
        *waits.queues(survey.objects, stuck_after),
        *_full_queues(survey),
        *host.remove_ipc(survey.objects),
        *_stale_sockets(survey),
        *_orphans(survey),
        *(Finding("unseen", "/proc", line, _SEE_MORE, "note") for line in survey.unseen),
    ]
    return sorted(found, key=lambda each: each.level != "problem")
