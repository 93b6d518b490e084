"""``ipckit recv``: receive messages from a queue and print them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from ipckit._cli.options import Seconds, chosen, object_argument, struct_given, struct_options
from ipckit._cli.output import DONE, ERROR, say, write
from ipckit._cli.payload import decoded, json_line, line_of, message_fields
from ipckit.errors import WouldBlock, one_line
from ipckit.msgq import Message, PosixMessageQueue, SysVMessageQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.inventory import IpcObject
    from ipckit.structs import Struct

    Queue = SysVMessageQueue[bytes] | PosixMessageQueue[bytes]

_HIGHEST_MTYPE: Final = 2**63 - 1
_EXAMPLES: Final = """\b
Examples:
  ipckit recv q:5                     wait for one message
  ipckit recv mq:/jobs --all --json   all that are queued now
  ipckit recv q:5 --mtype 2 --timeout 10 --struct records:Stu
  ipckit recv q:5 --follow --hex
  ipckit recv q:5 --all --json | ipckit send q:6 --json
"""


def _print(
    message: Message[bytes], found: IpcObject, struct: type[Struct] | None, form: str
) -> str:
    """Print one message; return why it does not fit the struct, or ""."""
    data = message.value
    if form == "json":
        extra = {"mtype": message.mtype}
        if found.kind == "posix-queue":
            extra = {"priority": message.priority}
        fields, why = message_fields(data, struct, message.mtype)
        write(json_line({**extra, **fields}))
        return why
    if struct is not None:
        value, why = decoded(struct, data, message.mtype)
        write((data.hex() if value is None else one_line(repr(value))).encode() + b"\n")
        return why
    if form == "hex":
        write(data.hex().encode() + b"\n")
    elif form == "raw":
        write(data)
    elif sys.stdout.isatty():
        write(line_of(data).encode() + b"\n")
    else:
        write(data.rstrip(b"\0") + b"\n")
    return ""


def _opened(found: IpcObject) -> Queue:
    if found.kind == "posix-queue":
        return PosixMessageQueue.open(found.name, readonly=True)
    return SysVMessageQueue.from_id(found.id)


def _receiver(
    queue: Queue,
    mtype: int | None,
    exclude: bool,  # noqa: FBT001 - `receive` takes it by keyword
) -> Callable[[float | None], Message[bytes]]:
    if isinstance(queue, PosixMessageQueue):
        if mtype is not None or exclude:
            message = (
                "a POSIX queue has no message types; --mtype and --exclude are for System V queues"
            )
            raise click.UsageError(message, click.get_current_context())
        return lambda timeout: queue.receive(timeout=timeout)
    if exclude and (mtype or 0) <= 0:
        message = "--exclude needs --mtype N with N above 0"
        raise click.UsageError(message, click.get_current_context())
    return lambda timeout: queue.receive(mtype or 0, exclude=exclude, timeout=timeout)


@click.command(epilog=_EXAMPLES)
@object_argument("sysv-queue", "posix-queue")
@click.option(
    "-n", "count", type=click.IntRange(min=1), metavar="N", help="Receive N messages; by default 1."
)
@click.option("--all", "everything", is_flag=True, help="Receive all queued messages; do not wait.")
@click.option("--follow", is_flag=True, help="Continue until Ctrl-C.")
@click.option(
    "--mtype",
    type=click.IntRange(-_HIGHEST_MTYPE, _HIGHEST_MTYPE),
    metavar="N",
    help="The type: 0 for any, N for type N, -N for the lowest type up to N.",
)
@click.option("--exclude", is_flag=True, help="Receive any type except that of --mtype.")
@click.option(
    "--timeout",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="How long to wait for each message; by default forever.",
)
@struct_options
@click.option("--json", "form", flag_value="json", help="Print one JSON object on each line.")
@click.option("--hex", "form", flag_value="hex", help="Print hexadecimal digits.")
@click.option("--raw", "form", flag_value="raw", help="Write only the bytes, without line ends.")
def command(
    text: str,
    *,
    count: int | None,
    everything: bool,
    follow: bool,
    mtype: int | None,
    exclude: bool,
    timeout: float | None,
    form: str | None,
) -> int:
    """Receive messages from a System V or POSIX queue, and print each on a line.

    Each message is printed before the next is received. A message that does not fit the struct
    is printed in hexadecimal digits, so that it is not lost, and the exit status is 1.
    """
    if sum((count is not None, everything, follow)) > 1:
        message = "-n, --all and --follow exclude each other"
        raise click.UsageError(message, click.get_current_context())
    struct: Any = struct_given()
    if struct is not None and form in {"hex", "raw"}:
        message = f"--{form} excludes --struct and --c"
        raise click.UsageError(message, click.get_current_context())
    found = chosen(text, ("sysv-queue", "posix-queue"))
    status = DONE
    with _opened(found) as queue:
        receive = _receiver(queue, mtype, exclude)
        received = 0
        while follow or everything or received < (count or 1):
            try:
                received_one = receive(0 if everything else timeout)
            except WouldBlock:
                if everything:
                    break
                raise
            why = _print(received_one, found, struct, form or "")
            if why:
                say(f"ipckit: {why}", error=True)
                status = ERROR
            received += 1
    return status
