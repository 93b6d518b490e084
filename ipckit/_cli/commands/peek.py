"""``ipckit peek``: the messages that are queued, left where they are."""

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
    """Each message with its place; one that others take meanwhile moves the rest up."""
    index = 0
    while True:
        try:
            message = queue.peek(index)
        except WouldBlock:
            return
        yield index, message
        index += 1


def _show(index: int, message: Message[bytes], struct: type[Struct] | None) -> str:
    """Print one message; gives what is wrong with it."""
    head = f"message {index}  type {message.mtype}  {len(message.value)} bytes"
    value, why = (None, "") if struct is None else decoded(struct, message.value)
    if value is not None:
        say(f"{head}  {value!r}")
        return ""
    say(head)
    for line in [*hexdump([message.value])][:-1]:  # the size stands above already
        say(f"  {line}")
    return why


@click.command(epilog=_EXAMPLES)
@object_argument("sysv-queue", "posix-queue")
@click.option(
    "-n", "count", type=click.IntRange(min=1), metavar="N", help="Show so many; by default all."
)
@click.option("--mtype", type=click.IntRange(min=1), help="Show only messages of this type.")
@struct_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(text: str, *, count: int | None, mtype: int | None, as_json: bool) -> int:
    """Show the messages in a System V queue without taking them.

    A message is shown as hexadecimal digits and text, or as a struct. In JSON it has index,
    mtype, size, and value, or hex and text where the bytes are no such struct; then the exit
    status is 1. Nobody can look into a POSIX queue without taking what is there.
    """
    found = chosen(text, ("sysv-queue", "posix-queue"))
    if found.kind == "posix-queue":
        message = (
            f"{found.address}: Linux shows nobody the messages of a POSIX queue but who takes "
            f"them; to take one: ipckit recv {quote(found.address)}"
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
                fields, why = message_fields(each.value, struct)
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
        what = "no message" if mtype is None else f"no message of type {mtype}"
        say(f"ipckit: {found.address}: {what}", error=True)
    return status
