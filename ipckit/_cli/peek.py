"""Show the messages in a queue, channel or topic: ``ipckit peek``."""

from __future__ import annotations

import sys
from shlex import quote
from typing import TYPE_CHECKING, Final

import click

from ipckit import inventory
from ipckit._cli.hexdump import WIDTH, hexdump
from ipckit._cli.options import (
    struct_given,
    type_given,
    usage,
)
from ipckit._cli.output import DONE, ERROR, Refused, say, write
from ipckit._cli.payload import json_line
from ipckit._cli.typed import Form, QueueRecords, form_of
from ipckit._cli.words import counted
from ipckit.errors import WouldBlock
from ipckit.msgq import SysVMessageQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.inventory import IpcObject
    from ipckit.msgq import Message

_DEFAULT: Final = 10  # messages of a channel or topic; they can be long
_LINES: Final = 16  # of a message's hexdump on a terminal


def _in_queue(queue: SysVMessageQueue[bytes]) -> Iterator[tuple[int, Message[bytes]]]:
    """Yield each message with its position. If another process receives one, the rest move up."""
    index = 0
    while True:
        try:
            message = queue.peek(index)
        except WouldBlock:
            return
        yield index, message
        index += 1


class _Output:
    """Prints messages, and counts those that can't be decoded."""

    def __init__(self, form: Form, *, as_json: bool) -> None:
        self._form = form
        self._as_json = as_json
        self._on_terminal = sys.stdout.isatty()
        self.shown = 0
        self.status = DONE

    def show(self, index: int, data: bytes, order: dict[str, int]) -> None:
        """Print one message.

        Args:
            index: its position.
            data: its bytes.
            order: what else is known about it, by the names of the JSON.
        """
        self.shown += 1
        if self._as_json:
            fields, why = self._form.fields(data, order.get("mtype", 0))
            write(json_line({"index": index, **order, **fields}))
        else:
            why = self._print(index, data, order)
        if why:
            say(f"ipckit: message {index}: {why}", error=True)
            self.status = ERROR

    def _print(self, index: int, data: bytes, order: dict[str, int]) -> str:
        head = f"message {index}"
        if "mtype" in order:
            head += f"  type {order['mtype']}"
        head += f"  {len(data)} {'byte' if len(data) == 1 else 'bytes'}"
        if order.get("returned"):
            head += f"  given back {counted(order['returned'], 'time')}"
        line, why = self._form.line(data, order.get("mtype", 0), short=self._on_terminal)
        if line is not None:
            say(f"{head}  {line}")
            return why
        say(head)
        shown = data[: _LINES * WIDTH] if self._on_terminal else data
        for each in [*hexdump([shown])][:-1]:  # the head has the size
            say(f"  {each}")
        if len(shown) < len(data):
            say(f"  ... {len(data) - len(shown)} more bytes, shown by --json or in a pipe")
        return why


def _peek_queue(found: IpcObject, output: _Output, count: int | None, mtype: int | None) -> None:
    with SysVMessageQueue.from_id(found.id) as queue:
        for index, each in _in_queue(queue):
            if mtype is None or each.mtype == mtype:
                output.show(index, each.value, {"mtype": each.mtype})
            if output.shown == count:
                return


def _say_rest(found: IpcObject, shown: int, count: int | None) -> None:
    """Report the messages of a channel or topic that were not shown."""
    waiting, taken = found.used.messages or 0, found.details.get("taken")
    if count is None and waiting > shown:
        which = "older" if "published" in found.details else "more"
        what = f"{counted(waiting - shown, f'{which} message')}; to show all: -n {waiting}"
        say(f"ipckit: {found.address}: {what}", error=True)
    if taken:
        what = f"{taken} more were taken by receivers that have not acknowledged them"
        say(f"ipckit: {found.address}: {what}", error=True)


def peek(found: IpcObject, count: int | None, mtype: int | None, *, as_json: bool) -> int:
    """Show messages; return the exit status.

    Args:
        found: the object.
        count: the maximum number of messages; None for the default.
        mtype: only messages of this type, of a System V queue.
        as_json: print one JSON object on each line.

    Raises:
        Refused: it is a POSIX queue.
        UsageError: the options are not for this object.
        IpcError: the messages can't be read.
    """
    if found.kind == "posix-queue":
        message = (
            f"{found.address}: Linux has no call to look at the messages of a POSIX queue; to "
            f"take one out and print it: ipckit recv {quote(found.address)}"
        )
        raise Refused(message)
    if found.kind == "sysv-queue":
        struct = struct_given()
        output = _Output(Form() if struct is None else QueueRecords(struct), as_json=as_json)
        _peek_queue(found, output, count, mtype)
    elif mtype is not None:
        message = "only the messages of System V queues have a type for --mtype"
        raise click.UsageError(message, click.get_current_context())
    else:
        with usage():  # a memfd can be something else
            stored = inventory.messages(found, count or _DEFAULT)
        form = form_of(found, type_given())
        output = _Output(form, as_json=as_json)
        for index, each in enumerate(stored):
            output.show(index, each.data, {"returned": each.returned})
        if form.why and stored:
            say(f"ipckit: {found.address}: {form.why}", error=True)
    if not output.shown:
        what = "no messages" if mtype is None else f"no messages of type {mtype}"
        say(f"ipckit: {found.address}: {what}", error=True)
    if found.kind != "sysv-queue":
        _say_rest(found, output.shown, count)
    return output.status
