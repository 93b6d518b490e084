"""``ipckit send``: send messages to a queue, from the command line or standard input."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import click

from ipckit._cli.options import (
    Seconds,
    chosen,
    object_argument,
    struct_given,
    struct_options,
    usage,
)
from ipckit._cli.payload import struct_from_json
from ipckit.msgq import PosixMessageQueue, SysVMessageQueue
from ipckit.structs import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator


_EXAMPLES: Final = """\b
Examples:
  ipckit send q:5 hello --mtype 3
  ipckit send mq:/jobs 'first' 'second' --priority 9 --timeout 2
  ipckit send q:5 --struct records:Stu '{"name": "amy", "age": 20}'
  generate-lines | ipckit send mq:/jobs
  ipckit recv q:5 --all --json | ipckit send q:6 --json
"""
_HIGHEST_MTYPE: Final = 2**63 - 1
_HIGHEST_PRIORITY: Final = 32767


class _Outgoing(NamedTuple):
    data: bytes | Struct
    order: int | None  # its own mtype or priority, if it has one


def _from_hex(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        message = f"{what}: {text[:40]!r} is not a sequence of hexadecimal digits"
        raise click.UsageError(message, click.get_current_context()) from None


def _from_record(text: str, what: str, struct: type[Struct] | None, order: str) -> _Outgoing:
    """Parse a message in the form that ``recv --json`` prints."""
    try:
        record: Any = json.loads(text)
    except (ValueError, RecursionError) as exc:
        message = f"{what}: not JSON: {exc}"
        raise click.UsageError(message, click.get_current_context()) from None
    fields = cast("dict[str, Any]", record) if isinstance(record, dict) else None
    if fields is None:
        message = f"{what}: expected a JSON object with value, hex or text"
        raise click.UsageError(message, click.get_current_context())
    own = fields.get(order)
    if own is not None and type(own) is not int:  # nor a bool
        message = f"{what}: {order} is {own!r}; it must be an integer"
        raise click.UsageError(message, click.get_current_context())
    if struct is not None and "value" in fields:
        with usage():
            return _Outgoing(struct_from_json(struct, json.dumps(fields["value"])), own)
    if isinstance(fields.get("hex"), str):
        return _Outgoing(_from_hex(fields["hex"], what), own)
    if isinstance(fields.get("text"), str):
        # A lone surrogate represents a byte that is not UTF-8. Any other can't be sent.
        try:
            return _Outgoing(fields["text"].encode(errors="surrogateescape"), own)
        except UnicodeEncodeError:
            message = f"{what}: text has a lone surrogate, which can't be encoded; use hex"
            raise click.UsageError(message, click.get_current_context()) from None
    message = f"{what}: expected a JSON object with value, hex or text"
    if "value" in fields:
        message = f"{what}: value needs --struct or --c"
    raise click.UsageError(message, click.get_current_context())


def _pieces(words: tuple[str, ...], form: str) -> Iterator[tuple[str, bytes]]:
    """Yield the source of each message, for errors, and its bytes."""
    if words:
        for number, word in enumerate(words, 1):
            yield f"message {number}", word.encode(errors="surrogateescape")
    elif form == "raw":
        yield "standard input", sys.stdin.buffer.read()
    else:
        for number, line in enumerate(sys.stdin.buffer, 1):
            yield f"line {number}", line.removesuffix(b"\n").removesuffix(b"\r")


def _outgoing(
    words: tuple[str, ...], form: str, struct: type[Struct] | None, order: str
) -> Iterator[_Outgoing]:
    for what, piece in _pieces(words, form):
        if struct is None and form in {"", "raw"}:
            yield _Outgoing(piece, None)
            continue
        text = piece.decode(errors="replace")
        if not text.strip() and not words:
            continue  # these forms ignore empty lines
        if form == "json":
            yield _from_record(text, what, struct, order)
        elif form == "hex":
            yield _Outgoing(_from_hex(text, what), None)
        elif struct is not None:
            with usage():
                yield _Outgoing(struct_from_json(struct, text), None)


@click.command(epilog=_EXAMPLES)
@object_argument("sysv-queue", "posix-queue")
@click.argument("words", nargs=-1, metavar="[MESSAGE]...")
@click.option(
    "--mtype",
    type=click.IntRange(1, _HIGHEST_MTYPE),
    metavar="N",
    help="The type, for a System V queue; by default 1.",
)
@click.option(
    "--priority",
    type=click.IntRange(0, _HIGHEST_PRIORITY),
    metavar="N",
    help="The priority, for a POSIX queue; by default 0.",
)
@click.option(
    "--timeout",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="How long to wait while the queue is full; by default forever.",
)
@struct_options
@click.option("--json", "form", flag_value="json", help="Messages as `recv --json` prints them.")
@click.option("--hex", "form", flag_value="hex", help="Messages as hexadecimal digits.")
@click.option("--raw", "form", flag_value="raw", help="All of standard input as one message.")
def command(
    text: str,
    words: tuple[str, ...],
    *,
    mtype: int | None,
    priority: int | None,
    timeout: float | None,
    form: str | None,
) -> None:
    """Send messages to a System V or POSIX queue.

    Each MESSAGE is sent. Without MESSAGE arguments, each line of standard input is sent. With
    --struct or --c, a message is a JSON object of the struct's fields, or an array of them in
    order; bytes are written as hexadecimal digits. A struct that begins with mtype is sent to a
    System V queue under that type. If a message is invalid, the command stops; the messages before
    it have been sent.
    """
    struct = struct_given()
    if struct is not None and form in {"hex", "raw"}:
        message = f"--{form} excludes --struct and --c"
        raise click.UsageError(message, click.get_current_context())
    if words and form == "raw":
        message = "--raw reads standard input, and takes no MESSAGE"
        raise click.UsageError(message, click.get_current_context())
    found = chosen(text, ("sysv-queue", "posix-queue"))
    posix = found.kind == "posix-queue"
    if (mtype if posix else priority) is not None:
        message = "--mtype is for System V queues, --priority is for POSIX queues"
        raise click.UsageError(message, click.get_current_context())
    order = "priority" if posix else "mtype"
    with usage():
        if posix:
            with PosixMessageQueue.open(found.name, writeonly=True) as queue:
                for each in _outgoing(words, form or "", struct, order):
                    own = priority if each.order is None else each.order
                    queue.send(bytes(each.data), own or 0, timeout=timeout)
        else:
            payload: type[Any] = bytes if struct is None else struct
            with (
                SysVMessageQueue.from_id(found.id) as queue,
                SysVMessageQueue.from_id(found.id, payload) as records,
            ):
                for each in _outgoing(words, form or "", struct, order):
                    own = mtype if each.order is None else each.order
                    if isinstance(each.data, Struct):
                        records.send(each.data, own, timeout=timeout)
                    else:
                        queue.send(each.data, own, timeout=timeout)
