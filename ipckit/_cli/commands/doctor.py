"""``ipckit doctor``: find likely problems, and suggest a cure for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ipckit._cli.doctor.examine import examine
from ipckit._cli.doctor.report import report
from ipckit._cli.options import Seconds
from ipckit._cli.output import DONE, ERROR, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipckit._cli.doctor.model import Finding

_EXAMPLES: Final = """\b
Examples:
  ipckit doctor
  ipckit doctor --peer 1234
  ipckit doctor --json | jq -r '.[] | select(.severity == "critical") | .cure'
"""
# Neither 0 nor one of the statuses that all commands share, so that scripts can tell it from an
# error and from a critical finding.
WARNINGS: Final = 4


def exit_status(found: Iterable[Finding]) -> int:
    """Return the exit status: that of the most severe finding."""
    severities = {each.severity for each in found}
    if "critical" in severities:
        return ERROR
    return WARNINGS if "warning" in severities else DONE


@click.command(epilog=_EXAMPLES)
@click.option(
    "--peer",
    type=click.IntRange(min=1),
    metavar="PID",
    help="Compare the namespaces of this process with yours.",
)
@click.option(
    "--stuck-after",
    type=Seconds(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Report a wait for a live process after this time without a change.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of findings.")
def command(*, peer: int | None, stuck_after: float, as_json: bool) -> int:
    """Find likely problems, and suggest a cure for each. Nothing is changed.

    Finds: processes that wait for each other, for a process that has exited, or too long; full
    queues, channels and topics, and what holds their memory; a full /dev/shm; limits that are
    nearly reached; namespaces that differ from a peer's; orphaned objects and stale socket files.

    A finding is critical (processes are blocked without end, or calls fail now), a warning (that
    is near), or a note. The most severe come first, and those with one cause are one finding.

    Exit status: 0 nothing or only notes, 1 a critical finding, 4 warnings but nothing critical.
    """
    found = examine(peer=peer, stuck_after=stuck_after)
    if as_json:
        print_json([each.as_dict() for each in found])
    else:
        report(found)
    return exit_status(found)
