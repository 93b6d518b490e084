"""Make few findings of many: leave out what another finding explains, and group equal ones."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ipckit._cli.doctor.model import SEVERITIES, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Up to this number, findings of one check are printed one by one, each with its own cure.
_SINGLE: Final = 3
# What a group of findings of a check says. A check without a line here is never grouped.
_PLURALS: Final = {
    "blocks-held": "{} channels or topics have no memory left, because processes hold it",
    "bridge-killed": "{} bridges were killed",
    "bridge-waits": "{} bridges wait",
    "dead-holder": "processes wait for {} semaphores whose last user has exited",
    "deadlock": "there are {} circles of processes that wait for each other",
    "descriptors": "{} processes have nearly reached their RLIMIT_NOFILE",
    "idle-receiver": "processes wait for messages of {} channels to which no live process sends",
    "limit": "{} limits are nearly reached",
    "queue-full": "{} queues or channels are nearly full",
    "slow-subscriber": "the publishers of {} topics wait for a slow subscriber",
    "stopped-holder": "{} stopped processes hold a lock",
    "stuck-sender": "{} full queues or channels have a sender that waits",
    "stuck-waiter": "processes wait for {} locks or semaphores that live processes do not release",
    "wrong-type": "the receivers of {} queues wait for types of which no message is queued",
}


def _explains(one: Finding, other: Finding) -> bool:
    """Return whether a finding is the reason of another: all that it waits for are blocked."""
    return one is not other and bool(other.waits_for) and set(other.waits_for) <= set(one.pids)


def explained(findings: Sequence[Finding]) -> list[Finding]:
    """Leave out findings that others explain, and add them to the evidence of those.

    A process that waits for a process in a deadlock, or for a process that itself waits for a dead
    one, needs no cure of its own.
    """
    reasons = [
        next((at for at, one in enumerate(findings) if _explains(one, other)), None)
        for other in findings
    ]
    behind: dict[int, list[str]] = defaultdict(list)
    kept: list[int] = []
    for at, finding in enumerate(findings):
        seen = {at}
        root, reason = at, reasons[at]
        while reason is not None and reason not in seen:
            seen.add(reason)
            root, reason = reason, reasons[reason]
        # Findings that explain each other in a circle all stay.
        if root == at or reason is not None:
            kept.append(at)
        elif not set(finding.pids) <= set(findings[root].pids):
            behind[root].append(f"behind it: {finding.what}")
    return [
        replace(findings[at], evidence=(*findings[at].evidence, *behind[at]))
        if behind[at]
        else findings[at]
        for at in kept
    ]


def _merged(members: Sequence[Finding]) -> Finding:
    first = members[0]
    subjects = tuple(dict.fromkeys(subject for each in members for subject in each.subjects))
    return replace(
        first,
        subjects=subjects,
        what=_PLURALS[first.check].format(len(members)),
        evidence=tuple(f"{each.subject}: {each.what}" for each in members),
        advice="The cure is that of the first. To see all: ipckit doctor --json",
        cures=tuple(each.cure for each in members),
        pids=tuple(dict.fromkeys(pid for each in members for pid in each.pids)),
        waits_for=tuple(dict.fromkeys(pid for each in members for pid in each.waits_for)),
    )


def grouped(findings: Iterable[Finding]) -> list[Finding]:
    """Group the findings of a check if they are many, and sort all by severity."""
    members: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for each in findings:
        members[each.severity, each.check].append(each)
    found: list[Finding] = []
    for (_, check), equal in members.items():
        many = len(equal) > _SINGLE and check in _PLURALS
        found += [_merged(equal)] if many else equal
    return sorted(found, key=lambda each: SEVERITIES.index(each.severity))
