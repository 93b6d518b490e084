"""Run all checks of `ipckit doctor`."""

from __future__ import annotations

from shlex import quote  # other users choose names, and cures are copied to a shell
from typing import TYPE_CHECKING, Final

from ipckit import inventory
from ipckit._cli.doctor import host, waits
from ipckit._cli.doctor.model import Finding
from ipckit._cli.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.inventory import Survey

_FULL: Final = 0.9
_SEE_MORE: Final = "run ipckit doctor as root, in the initial pid namespace"


def _stale_sockets(survey: Survey) -> Iterator[Finding]:
    for each in survey.objects:
        if each.kind == "socket" and each.orphaned:
            what = "a socket file without a listener; bind to it fails with EADDRINUSE"
            cure = f"ipckit rm {quote(each.address)}; ipckit.listen replaces such a file itself"
            yield Finding("stale-socket", each.address, what, cure)


def _orphans(survey: Survey) -> Iterator[Finding]:
    left = [each for each in survey.objects if each.orphaned and each.kind != "socket"]
    if left:
        names = ", ".join(each.address for each in left[:3]) + (", …" if len(left) > 3 else "")  # noqa: PLR2004
        what = f"{counted(len(left), 'object')} that no live process holds"
        cure = "to list them: ipckit gc; to remove them: ipckit gc --delete"
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
            what = f"{used:,} of {most:,} {unit} are queued"
            cure = f"find out why no process receives: ipckit stat {quote(each.address)}"
            yield Finding("queue-full", each.address, what, cure)


def examine(*, peer: int | None = None, stuck_after: float = 60.0) -> list[Finding]:
    """Run all checks.

    Args:
        peer: the pid of a process that should see the same objects; its namespaces are compared
            with those of this process.
        stuck_after: seconds without a change after which a wait for a live process is reported.

    Returns:
        The findings: first the problems, then the notes, each in the order of the checks.

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
        *(
            Finding("unseen", "/proc", f"could not see {line}", _SEE_MORE, "note")
            for line in survey.unseen
        ),
    ]
    return sorted(found, key=lambda each: each.level != "problem")
