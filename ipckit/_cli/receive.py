"""Receive messages from a queue, channel or topic, and print them: ``ipckit recv``."""

from __future__ import annotations

import contextlib
import os
import sys
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from ipckit._cli.interrupts import Interrupts
from ipckit._cli.options import struct_given, type_given
from ipckit._cli.output import DONE, ERROR, require_output, say, write
from ipckit._cli.payload import json_line, line_of
from ipckit._cli.rings import open_channel, open_topic
from ipckit._cli.typed import Form, QueueRecords, form_of
from ipckit._cli.words import counted
from ipckit._core.files import SHM
from ipckit.errors import PeerGone, Removed, Timeout, WouldBlock, one_line
from ipckit.msgq import Message, PosixMessageQueue, SysVMessageQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ipckit.channel import View
    from ipckit.inventory import IpcObject
    from ipckit.topic import Subscription

_FOR_LOCK: Final = 1.0  # seconds to wait for a lock that another process holds
_PIECE: Final = 1.0  # seconds after which a wait checks whether the channel was removed


def _order(message: Message[bytes], found: IpcObject) -> dict[str, int]:
    """Return the JSON field by which a queue orders its messages; none for other kinds."""
    if found.kind == "posix-queue":
        return {"priority": message.priority}
    return {"mtype": message.mtype} if found.kind == "sysv-queue" else {}


def _print(message: Message[bytes], found: IpcObject, form: Form, shown: str) -> str:
    """Print one message; return why it can't be decoded, or ""."""
    data = message.value
    if shown == "json":
        fields, why = form.fields(data, message.mtype)
        write(json_line({**_order(message, found), **fields}))
        return why
    line, why = None, ""
    on_terminal = sys.stdout.isatty()
    if not shown:
        line, why = form.line(data, message.mtype, short=on_terminal)
    if line is not None:
        # Text can be an unpaired surrogate only in an escape of JSON or of a repr.
        write((one_line(line) if on_terminal else line).encode() + b"\n")
    elif shown == "hex" or why:
        write(data.hex().encode() + b"\n")
    elif shown == "raw":
        write(data)
    elif on_terminal:
        write(line_of(data).encode() + b"\n")
    else:
        write(data.rstrip(b"\0") + b"\n")
    return why


# -- what each kind receives by --------------------------------------------------------------------


class ReceiveOptions(NamedTuple):
    """Which messages to receive.

    Attributes:
        most: the number of messages; None for all.
        everything: only those that wait now.
        follow: continue if no process sends any more.
        mtype: the type, for a System V queue.
        exclude: any type but `mtype`.
        timeout: seconds to wait for each.
    """

    most: int | None
    everything: bool
    follow: bool
    mtype: int | None
    exclude: bool
    timeout: float | None


class _Source(NamedTuple):
    """An open object to receive from.

    Attributes:
        receive: receives a message within a timeout.
        waiting: returns the number of messages that wait in a channel or topic; 0 for queues.
        senders: returns the number of processes that send to a channel or topic; None for queues,
            from which the kernel ends a wait if they are removed.
    """

    receive: Callable[[float | None], Message[bytes]]
    waiting: Callable[[], int] = int
    senders: Callable[[], int] | None = None


@contextlib.contextmanager
def _opened(found: IpcObject, form: Form, options: ReceiveOptions) -> Generator[_Source]:
    """Open an object to receive from."""
    gone: Any = "wait" if options.follow else "raise"
    if found.kind == "channel":
        # The user named the channel and sees only what arrives, so its owner need not be trusted.
        with open_channel(found, form.type, peer_gone=gone) as channel:

            def from_channel(timeout: float | None) -> Message[bytes]:
                return _taken(channel.receive_view(timeout=timeout))

            def senders() -> int:
                return sum(peer.sender for peer in channel.peers())

            yield _Source(from_channel, channel.__len__, senders)
    elif found.kind == "topic":
        with (
            open_topic(found, form.type, peer_gone=gone) as topic,
            # Publishers must not wait for a person who looks at the messages.
            topic.subscribe(when_full="drop_oldest") as messages,
        ):

            def publishers() -> int:
                return len(topic.publishers())

            yield _Source(_Subscriber(found, messages).receive, messages.__len__, publishers)
    elif found.kind == "posix-queue":
        with PosixMessageQueue.open(found.name, readonly=True) as posix:

            def from_posix(timeout: float | None) -> Message[bytes]:
                return posix.receive(timeout=timeout)

            yield _Source(from_posix)
    else:
        with SysVMessageQueue.from_id(found.id) as queue:

            def from_queue(timeout: float | None) -> Message[bytes]:
                return queue.receive(options.mtype or 0, exclude=options.exclude, timeout=timeout)

            yield _Source(from_queue)


def _taken(view: View) -> Message[bytes]:
    """Return the bytes of a message, and free its memory."""
    with view:
        return Message(bytes(view.buf))


class _Subscriber:
    """Receives the messages of a topic, and reports how many were lost."""

    def __init__(self, found: IpcObject, messages: Subscription[Any]) -> None:
        self._found = found
        self._messages = messages
        self._lost = 0

    def receive(self, timeout: float | None) -> Message[bytes]:
        """Receive a message, and report the messages that were lost before it."""
        view = self._messages.receive_view(timeout=timeout)
        lost = self._messages.lost - self._lost
        if lost:
            self._lost += lost
            what = f"lost {counted(lost, 'message')}, published faster than they were printed"
            say(f"ipckit: {self._found.address}: {what}", error=True)
        return _taken(view)


def _is_removed(found: IpcObject) -> bool:
    """Return whether the name of a channel or topic was unlinked, or is that of another one."""
    try:
        status = os.lstat(f"{SHM}/{found.file_name}")
    except FileNotFoundError:
        return True
    return (status.st_dev, status.st_ino) != found.identity


def _wait(source: _Source, found: IpcObject) -> Message[bytes]:
    """Wait for a message without a limit.

    Raises:
        Removed: the channel or topic was removed, and no process sends to it any more.
    """
    if source.senders is None:
        return source.receive(None)
    while True:
        try:
            return source.receive(_PIECE)
        except Timeout:
            if _is_removed(found) and not source.senders():
                message = f"the {found.kind} was removed, and no process sends to it any more"
                raise Removed(message, target=found.address) from None


def _next(
    source: _Source, found: IpcObject, timeout: float | None, interrupts: Interrupts
) -> Message[bytes]:
    """Receive a message; Ctrl-C interrupts only the wait for one."""
    if timeout == 0:
        return source.receive(0)
    with contextlib.suppress(WouldBlock):
        return source.receive(0)
    with interrupts.allowed():
        return _wait(source, found) if timeout is None else source.receive(timeout)


def _next_waiting(source: _Source) -> Message[bytes] | None:
    """Receive a message that waits; return None if there is none.

    Raises:
        Timeout: messages wait, but another process holds the lock that receivers need.
    """
    try:
        return source.receive(0)
    except (WouldBlock, PeerGone):
        if not source.waiting():
            return None
    try:
        return source.receive(_FOR_LOCK)
    except (Timeout, PeerGone):
        if source.waiting():
            raise
        return None  # another process received it


def _check_types(found: IpcObject, options: ReceiveOptions) -> None:
    if found.kind != "sysv-queue" and (options.mtype is not None or options.exclude):
        message = "only System V queues have message types, for --mtype and --exclude"
        raise click.UsageError(message, click.get_current_context())
    if options.exclude and (options.mtype or 0) <= 0:
        message = "--exclude needs --mtype N with N above 0"
        raise click.UsageError(message, click.get_current_context())


def _form(found: IpcObject, shown: str) -> Form:
    """Return how the messages are shown."""
    if found.kind in {"channel", "topic"}:
        form = form_of(found, type_given())
        if form.why and not shown:
            message = f"{found.address}: {form.why}, or print bytes by --hex or --json"
            raise click.UsageError(message, click.get_current_context())
        return form
    struct = struct_given()
    return Form() if struct is None else QueueRecords(struct)


def _is_gone(found: IpcObject) -> str:
    """Return that no process sends any more, and what to do about it."""
    verb = "publishes" if found.kind == "topic" else "sends"
    again = f"ipckit recv --follow {quote(found.address)}"
    return (
        f"{found.address}: no message waits, and the last process that {verb} is gone; "
        f"to wait for a new one: {again}"
    )


def receive(found: IpcObject, options: ReceiveOptions, shown: str) -> int:
    """Receive messages and print them; return the exit status.

    Args:
        found: the object.
        options: which messages, and how long to wait.
        shown: how to print them: ``"json"``, ``"hex"``, ``"raw"``, or ``""`` for values.

    Raises:
        UsageError: the options are not for this object.
        IpcError: no message was received.
        ClickException: standard output is closed.
    """
    require_output("nothing was received")
    _check_types(found, options)
    form = _form(found, shown)
    interrupts = Interrupts()
    status, received = DONE, 0
    with _opened(found, form, options) as source, interrupts.handled():
        while received != options.most:
            with interrupts.delayed():
                try:
                    if options.everything:
                        taken = _next_waiting(source)
                    else:
                        taken = _next(source, found, options.timeout, interrupts)
                except PeerGone:
                    say(f"ipckit: {_is_gone(found)}", error=True)
                    return ERROR
                if taken is None:
                    break
                why = _print(taken, found, form, shown)
            if why:
                say(f"ipckit: {why}", error=True)
                status = ERROR
            received += 1
    return status
