"""Send messages to a queue, channel or topic: ``ipckit send``."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import click

from ipckit._cli.options import struct_given, type_given, usage
from ipckit._cli.output import DONE, ERROR, Refused, say
from ipckit._cli.rings import open_channel, open_topic
from ipckit._cli.typed import Form, QueueRecords, form_of
from ipckit.errors import InvalidArgument, PeerGone
from ipckit.msgq import PosixMessageQueue, SysVMessageQueue
from ipckit.structs import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ipckit.inventory import IpcObject, Kind


_ORDERS: Final[dict[Kind, str]] = {"sysv-queue": "mtype", "posix-queue": "priority"}


class SendOptions(NamedTuple):
    """How to send messages.

    Attributes:
        mtype: the type, for a System V queue, of messages that have none of their own.
        priority: the same for a POSIX queue.
        timeout: seconds to wait for room for each message; None waits without limit.
        owner: another user whose channels and topics are accepted.
    """

    mtype: int | None
    priority: int | None
    timeout: float | None
    owner: str | None


class _Outgoing(NamedTuple):
    value: Any  # what the object sends: bytes, a Struct, text, an array, ...
    order: int | None  # its own mtype or priority, if it has one


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        message = f"{text[:40]!r} is not a sequence of hexadecimal digits"
        raise InvalidArgument(message) from None


def _record(text: str) -> dict[str, Any]:
    try:
        record: Any = json.loads(text)
    except (ValueError, RecursionError) as exc:
        message = f"not JSON: {exc}"
        raise InvalidArgument(message) from None
    if not isinstance(record, dict):
        message = "expected a JSON object with value, hex or text"
        raise InvalidArgument(message)
    return cast("dict[str, Any]", record)


def _from_record(text: str, form: Form, order: str) -> _Outgoing:
    """Parse a message in the form that ``recv --json`` prints."""
    record = _record(text)
    own = record.get(order) if order else None
    if own is not None and type(own) is not int:  # nor a bool
        message = f"{order} is {own!r}; it must be an integer"
        raise InvalidArgument(message)
    # Bytes that do not fit the type have a record with hex, and without value.
    if "value" in record and (form.has_values or not isinstance(record.get("hex"), str)):
        return _Outgoing(form.of_json(record["value"]), own)
    if isinstance(record.get("hex"), str):
        return _Outgoing(form.of_bytes(_from_hex(record["hex"])), own)
    if isinstance(record.get("text"), str):
        # A lone surrogate represents a byte that is not UTF-8. Any other can't be sent.
        try:
            data = record["text"].encode(errors="surrogateescape")
        except UnicodeEncodeError:
            message = "text has a lone surrogate, which can't be encoded; use hex"
            raise InvalidArgument(message) from None
        return _Outgoing(form.of_bytes(data), own)
    message = "expected a JSON object with value, hex or text"
    raise InvalidArgument(message)


def _pieces(words: tuple[str, ...], given: str) -> Iterator[tuple[str, bytes]]:
    """Yield the source of each message, for errors, and its bytes."""
    if words:
        for number, word in enumerate(words, 1):
            yield f"message {number}", word.encode(errors="surrogateescape")
    elif given == "raw":
        yield "standard input", sys.stdin.buffer.read()
    else:
        for number, line in enumerate(sys.stdin.buffer, 1):
            yield f"line {number}", line.removesuffix(b"\n").removesuffix(b"\r")


def _outgoing(words: tuple[str, ...], given: str, form: Form, order: str) -> Iterator[_Outgoing]:
    for what, piece in _pieces(words, given):
        # All forms but text ignore empty lines.
        if not words and (given in {"json", "hex"} or form.has_values) and not piece.strip():
            continue
        try:
            if given == "json":
                yield _from_record(piece.decode(errors="replace"), form, order)
            elif given == "hex":
                yield _Outgoing(form.of_bytes(_from_hex(piece.decode(errors="replace"))), None)
            elif given == "raw":
                yield _Outgoing(form.of_bytes(piece), None)
            else:
                yield _Outgoing(form.of_text(piece), None)
        except InvalidArgument as exc:
            message = f"{what}: {exc}"
            raise click.UsageError(message, click.get_current_context()) from None


# -- what each kind sends by -----------------------------------------------------------------------


@contextlib.contextmanager
def _sending(
    found: IpcObject, form: Form, options: SendOptions
) -> Generator[Callable[[_Outgoing], None]]:
    """Open an object; yield what sends a message to it."""
    timeout = options.timeout
    if found.kind == "channel":
        with open_channel(found, form.type) as channel:
            yield lambda each: channel.send(each.value, timeout=timeout)
    elif found.kind == "topic":
        with open_topic(found, form.type) as topic:
            yield lambda each: topic.publish(each.value, timeout=timeout)
    elif found.kind == "posix-queue":
        with PosixMessageQueue.open(found.name, writeonly=True) as posix:

            def to_posix(each: _Outgoing) -> None:
                own = options.priority if each.order is None else each.order
                posix.send(bytes(each.value), own or 0, timeout=timeout)

            yield to_posix
    else:
        with (
            SysVMessageQueue.from_id(found.id) as queue,
            SysVMessageQueue.from_id(found.id, form.type) as records,
        ):

            def to_queue(each: _Outgoing) -> None:
                own = options.mtype if each.order is None else each.order
                to: SysVMessageQueue[Any] = records if isinstance(each.value, Struct) else queue
                to.send(each.value, own, timeout=timeout)

            yield to_queue


def _check_owner(found: IpcObject, accepted: str | None) -> None:
    """Refuse to send to another user, who may have created the object to read what is sent.

    Raises:
        Refused: another user owns the channel or topic, and --owner does not name that user.
    """
    if found.kind not in {"channel", "topic"} or found.uid in {0, os.geteuid(), None}:
        return
    if accepted not in {found.owner, str(found.uid)}:
        address, owner = quote(found.address), quote(found.owner)
        message = (
            f"{found.address} belongs to user {found.owner}, who can read what is sent; to send "
            f"all the same: ipckit send {address} --owner {owner}"
        )
        raise Refused(message)


def _form(found: IpcObject, given: str) -> Form:
    """Return the form of the object's messages."""
    if found.kind in {"channel", "topic"}:
        form = form_of(found, type_given())
        if form.why and not given:
            message = f"{found.address}: {form.why}, or send bytes by --hex or --raw"
            raise click.UsageError(message, click.get_current_context())
        return form
    struct = struct_given()
    return Form() if struct is None else QueueRecords(struct)


def _is_gone(found: IpcObject) -> str:
    """Return that no process receives any more, and what to do about it."""
    return (
        f"{found.address} is full, and the last process that receives is gone; to look at the "
        f"messages: ipckit peek {quote(found.address)}"
    )


def send(found: IpcObject, words: tuple[str, ...], options: SendOptions, given: str) -> int:
    """Send messages; return the exit status.

    Args:
        found: the object.
        words: the messages; without any, standard input has them.
        options: how to send them.
        given: how they are written: ``"json"``, ``"hex"``, ``"raw"``, or ``""`` for values.

    Raises:
        UsageError: a message is invalid, or the options are not for this object.
        IpcError: a message was not sent.
    """
    order = _ORDERS.get(found.kind, "")
    if (options.mtype is not None and order != "mtype") or (
        options.priority is not None and order != "priority"
    ):
        message = "--mtype is for System V queues, --priority is for POSIX queues"
        raise click.UsageError(message, click.get_current_context())
    _check_owner(found, options.owner)
    form = _form(found, given)
    with usage(), _sending(found, form, options) as send_one:
        for each in _outgoing(words, given, form, order):
            try:
                send_one(each)
            except PeerGone:
                say(f"ipckit: {_is_gone(found)}", error=True)
                return ERROR
    return DONE
