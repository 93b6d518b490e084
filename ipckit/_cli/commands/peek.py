"""``ipckit peek``: show the messages in a queue, channel or topic; they stay there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ipckit._cli.options import chosen, object_argument, struct_options

if TYPE_CHECKING:
    from ipckit.inventory import Kind

_KINDS: Final[tuple[Kind, ...]] = ("sysv-queue", "posix-queue", "channel", "topic", "memfd")
_EXAMPLES: Final = """\b
Examples:
  ipckit peek q:5
  ipckit peek channel:jobs -n 3
  ipckit peek topic:frames -n 1       the newest message
  ipckit peek memfd:1234              an anonymous channel or topic
  ipckit peek q:5 --c 'typedef struct { char name[32]; int age; } Stu;'
  ipckit peek q:5 --mtype 2 --json | jq .size
"""


@click.command(epilog=_EXAMPLES)
@object_argument(*_KINDS)
@click.option(
    "-n",
    "count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show at most N messages; by default all of a queue, and 10 of a channel or topic.",
)
@click.option(
    "--mtype",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only messages of this type, for a System V queue.",
)
@struct_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on each line.")
def command(text: str, *, count: int | None, mtype: int | None, as_json: bool) -> int:
    """Show the messages in a System V queue, channel or topic; they stay there.

    Of a channel, peek shows the messages that will be received next; of a topic, the newest that
    are in its memory, the newest last. It only reads their memory: it needs no other permission,
    and no process notices it. The type of their messages is found from the header. A message whose
    type is not known is shown as hexadecimal digits and text. If a message does not fit its type,
    the exit status is 1. Linux cannot show the messages of a POSIX queue without removing them; use
    ipckit recv.
    """
    # The holders of a memfd are needed to open it.
    found = chosen(text, _KINDS, holders=text.startswith("memfd:"))
    # Completion does not need what the rest imports.
    from ipckit._cli.peek import peek  # noqa: PLC0415

    return peek(found, count, mtype, as_json=as_json)
