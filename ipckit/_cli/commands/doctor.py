"""``ipckit doctor``: find likely problems, and suggest a cure for each."""

from __future__ import annotations

from typing import Final

import click
from rich.text import Text

from ipckit._cli.doctor.examine import examine
from ipckit._cli.options import Seconds
from ipckit._cli.output import DONE, ERROR, console, print_json, say
from ipckit.errors import one_line

_EXAMPLES: Final = """\b
Examples:
  ipckit doctor
  ipckit doctor --peer 1234
  ipckit doctor --json | jq -r '.[].cure'
"""


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

    Finds: a small or full /dev/shm; limits that are nearly reached; semaphores whose last user
    has exited; processes that wait for each other, or wait too long; full queues; namespaces that
    differ from a peer's; systemd's RemoveIPC; stale socket files; orphaned objects.

    Exit status: 0 no problem, 1 at least one. Notes, such as what could not be seen without root,
    do not count.
    """
    found = examine(peer=peer, stuck_after=stuck_after)
    status = ERROR if any(each.level == "problem" for each in found) else DONE
    if as_json:
        print_json([each.as_dict() for each in found])
        return status
    out = console()
    for each in found:
        style = "bold red" if each.level == "problem" else "bold"
        title = Text(f"{each.level} {each.check}", style=style)
        title.append(f"  {one_line(each.subject)}", style="not bold default")
        out.print(title, soft_wrap=True)
        out.print(Text(f"    {one_line(each.what)}"), soft_wrap=True)
        out.print(Text(f"    cure: {one_line(each.cure)}"), soft_wrap=True)
    if status == DONE:
        say("no problems found")
    return status
