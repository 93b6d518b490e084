"""``ipckit peek``: show the messages in a queue; they stay in the queue."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

import click

from ipckit._cli.hexdump import hexdump
from ipckit._cli.options import chosen, object_argument, struct_given, struct_options
from ipckit._cli.output import DONE, ERROR, Refused, say, write
from ipckit._cli.payload import decoded, json_line, message_fields
from ipckit.errors import WouldBlock
from ipckit.msgq import Message, SysVMessageQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.structs import Struct

_EXAMPLES = """\b
Examples:
  ipckit peek q:5
  ipckit peek q:0x4d2 -n 1 --struct records:Stu
  ipckit peek q:5 --c 'typedef struct { char name[32]; int age; } Stu;'
  ipckit peek q:5 --mtype 2 --json | jq .size
"""


def _messages(queue: SysVMessageQueue[bytes]) -> Iterator[tuple[int, Message[bytes]]]:
    """Yield each message with its position. If another process receives one, the rest move up."""
    index = 0
    while True:
        try:
            message = queue.peek(index)
        except WouldBlock:
            return
        yield index, message
        index += 1


def _show(index: int, message: Message[bytes], struct: type[Struct] | None) -> str:
    """Print one message; return why it does not fit the struct, or ""."""
    head = f"message {index}  type {message.mtype}  {len(message.value)} bytes"
    value, why = None, ""
    if struct is not None:
        value, why = decoded(struct, message.value, message.mtype)
    if value is not None:
        say(f"{head}  {value!r}")
        return ""
    say(head)
    for line in [*hexdump([message.value])][:-1]:  # the head has the size
        say(f"  {line}")
    return why


@click.command(epilog=_EXAMPLES)
@object_argument("sysv-queue", "posix-queue")
@click.option(
    "-n",
    "count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show at most N messages; by default all.",
)
@click.option(
    "--mtype", type=click.IntRange(min=1), metavar="N", help="Only messages of this type."
)
@struct_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on each line.")
def command(text: str, *, count: int | None, mtype: int | None, as_json: bool) -> int:
    """Show the messages in a System V queue; they stay in the queue.

    A message is shown as hexadecimal digits and text, or as a struct. In JSON each message has
    index, mtype and size. With a struct it also has value; without one, hex and text. If a message
    does not fit the struct, the exit status is 1. Linux cannot show the messages of a POSIX queue
    without removing them; use ipckit recv.
    """
    found = chosen(text, ("sysv-queue", "posix-queue"))
    if found.kind == "posix-queue":
        message = (
            f"{found.address}: Linux has no call to look at the messages of a POSIX queue; to "
            f"take one out and print it: ipckit recv {quote(found.address)}"
        )
        raise Refused(message)
    struct = struct_given()
    status = DONE
    shown = 0
    with SysVMessageQueue.from_id(found.id) as queue:
        for index, each in _messages(queue):
            if mtype is not None and each.mtype != mtype:
                continue
            if as_json:
                fields, why = message_fields(each.value, struct, each.mtype)
                write(json_line({"index": index, "mtype": each.mtype, **fields}))
            else:
                why = _show(index, each, struct)
            if why:
                say(f"ipckit: message {index}: {why}", error=True)
                status = ERROR
            shown += 1
            if shown == count:
                break
    if not shown:
        what = "no messages" if mtype is None else f"no messages of type {mtype}"
        say(f"ipckit: {found.address}: {what}", error=True)
    return status
