"""``ipckit make``: create an object, and print its address."""

from __future__ import annotations

import re
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from ipckit import channel, inventory, msgq, sem, shm, topic
from ipckit._cli.options import Size, struct_given, struct_options, usage
from ipckit._cli.output import require_output, say
from ipckit.errors import AccessDenied, AlreadyExists, InvalidArgument
from ipckit.keys import Key, ftok

if TYPE_CHECKING:
    from types import ModuleType

    from ipckit.inventory import Kind

# What KIND can be: the prefixes of the addresses, words, and the names that `ls --json` shows.
_WORDS: Final[dict[str, Kind]] = {
    "q": "sysv-queue",
    "m": "sysv-segment",
    "s": "sysv-semaphores",
    "mq": "posix-queue",
    "shm": "posix-segment",
    "sem": "posix-semaphore",
    "channel": "channel",
    "topic": "topic",
    "queue": "sysv-queue",
    "segment": "sysv-segment",
    "set": "sysv-semaphores",
    "sem-set": "sysv-semaphores",
}
_KINDS: Final[dict[str, Kind]] = {**_WORDS, **{kind: kind for kind in _WORDS.values()}}
_SYSTEM_V: Final[dict[str, str]] = {
    "sysv-queue": "mq:/NAME",
    "sysv-segment": "shm:/NAME",
    "sysv-semaphores": "sem:/NAME",
}
_CLASSES: Final[dict[Kind, tuple[ModuleType, str]]] = {
    "sysv-queue": (msgq, "SysVMessageQueue"),
    "sysv-segment": (shm, "SysVSharedMemory"),
    "sysv-semaphores": (sem, "SysVSemaphoreSet"),
    "posix-queue": (msgq, "PosixMessageQueue"),
    "posix-segment": (shm, "PosixSharedMemory"),
    "posix-semaphore": (sem, "PosixSemaphore"),
    "channel": (channel, "Channel"),
    "topic": (topic, "Topic"),
}
# The options of each kind, and the argument of its class that each is.
_ARGUMENTS: Final[dict[Kind, dict[str, str]]] = {
    "sysv-queue": {"size": "max_bytes"},
    "sysv-segment": {"size": "size"},
    "sysv-semaphores": {"values": "values"},
    "posix-queue": {"messages": "max_messages", "message_size": "max_size"},
    "posix-segment": {"size": "size"},
    "posix-semaphore": {"values": "value"},
    "channel": {
        "type_name": "type",
        "capacity": "capacity",
        "size": "size",
        "overwrite": "overwrite",
    },
    "topic": {"type_name": "type", "capacity": "capacity", "size": "size", "history": "history"},
}
_MOST_DIGITS: Final = 20  # Python converts no more than 4300
_EXAMPLES: Final = """\b
Examples:
  ipckit make queue --key 0x4d2           a System V queue
  ipckit make segment --size 64M --mode 0660
  ipckit make set --values 1,0,3          a System V set of three semaphores
  ipckit make mq:/jobs --messages 10 --message-size 8K
  ipckit make shm:/frames --size 300K
  ipckit make sem:/gate --values 0
  ipckit make channel:samples --type f8 --capacity 4096
  ipckit make topic:state --type records:Stu --history 1
  q=$(ipckit make queue); ipckit send "$q" hello
"""


class _Target(click.ParamType[tuple[Any, str]]):
    """A kind, or an address such as ``mq:/jobs``; converted to the kind and the name or ""."""

    name = "kind"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, str]:
        word, colon, name = str(value).partition(":")
        if word not in _KINDS or (colon and not name):
            self.fail(f"{value!r} is not one of: {', '.join(_WORDS)}", param, ctx)
        return _KINDS[word], name

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        del ctx, param
        return [
            CompletionItem(word, help=kind)
            for word, kind in _WORDS.items()
            if word.startswith(incomplete)
        ]


class _Mode(click.ParamType[int]):
    """Permission bits in octal digits."""

    name = "mode"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        if re.fullmatch(r"(0o?)?[0-7]{1,3}", str(value)) is None:
            self.fail(f"{value!r} is not a mode such as 0600 or 0660", param, ctx)
        return int(str(value).replace("o", ""), 8)


class _Values(click.ParamType[list[int]]):
    """The values of semaphores, separated by commas."""

    name = "values"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        if re.fullmatch(r"\d+(,\d+)*", str(value), re.ASCII) is None:
            self.fail(f"{value!r} is not a list of values such as 1,0,3", param, ctx)
        return [int(each) for each in str(value).split(",")]


class _KeyType(click.ParamType[Key]):
    """A System V key: ``0x4d2``, ``1234``, or ``PATH:ID`` for ftok(3)."""

    name = "key"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Key:
        text = str(value)
        path, colon, project = text.rpartition(":")
        try:
            if colon:
                is_number = project.isdecimal() and len(project) <= _MOST_DIGITS
                return ftok(path, int(project) if is_number else project)
            if text.strip("0") in {"", "x", "X"}:
                message = "0 is IPC_PRIVATE, which no process can open; without --key a free one "
                self.fail(f"{message}is chosen", param, ctx)
            return Key.parse(text)
        except InvalidArgument as exc:
            self.fail(str(exc), param, ctx)


def _wrong(message: str) -> click.UsageError:
    return click.UsageError(message, click.get_current_context())


def _key(kind: Kind, name: str, key: Key | None) -> Key | None:
    """Return the key of a System V object, from the option or an address."""
    if not name:
        return key
    if key is not None:
        message = "the key is given twice; leave out --key"
        raise _wrong(message)
    prefix = inventory.PREFIXES[kind]
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", name) is None:
        message = (
            f"{name!r} is not a key such as {prefix}:0x4d2; the kernel chooses the id of a System "
            f"V object, and an object with a name is {_SYSTEM_V[kind]}"
        )
        raise _wrong(message)
    with usage():
        return Key.parse(name)


def _type(name: str | None) -> Any:
    """Return the type of the messages that --type, --struct or --c names; None without them."""
    struct = struct_given()
    if name is None:
        return struct
    if struct is not None:
        message = "--type and --struct or --c both name a type; use one of them"
        raise _wrong(message)
    if name in {"bytes", "str"}:
        return bytes if name == "bytes" else str
    # These import numpy, or the module that is named.
    from ipckit._cli.dtypes import dtype_named  # noqa: PLC0415
    from ipckit._cli.payload import struct_named  # noqa: PLC0415

    with usage():
        return struct_named(name) if ":" in name else dtype_named(name)


def _arguments(kind: Kind, options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a kind's class, from the options that were given."""
    known = _ARGUMENTS[kind]
    # Compared by identity, because numpy's float64 equals None.
    given = {name: each for name, each in options.items() if each is not None and each is not False}
    prefix = inventory.PREFIXES[kind]
    for name in given.keys() - known.keys():
        option = f"--{name.removesuffix('_name').replace('_', '-')}"
        takers = [inventory.PREFIXES[each] for each, names in _ARGUMENTS.items() if name in names]
        message = f"{prefix} has no {option}; it is for {', '.join(takers)}"
        raise _wrong(message)
    if kind in {"sysv-segment", "posix-segment"} and "size" not in given:
        message = f"{prefix} needs a size, such as --size 64M"
        raise _wrong(message)
    if kind == "posix-semaphore" and "values" in given:
        if len(given["values"]) > 1:
            message = f"{prefix} is one semaphore; a set of several is: ipckit make set"
            raise _wrong(message)
        given["values"] = given["values"][0]
    return {known[name]: value for name, value in given.items()}


def _create(
    kind: Kind, where: Any, arguments: dict[str, Any], *, exist_ok: bool, address: str
) -> Any:
    """Create an object, or open the existing one; return its handle."""
    page, name = _CLASSES[kind]
    cls = getattr(page, name)
    try:
        return (cls.open_or_create if exist_ok else cls.create)(where, **arguments)
    except AlreadyExists as exc:
        exc.hint = f"to use it, add --exist-ok; to remove it: ipckit rm {quote(address)}"
        raise
    except AccessDenied as exc:
        if exist_ok:
            exc.hint = (
                "--exist-ok accepts only an object of yours or root's with at most the "
                "permissions of --mode"
            )
        raise
    except InvalidArgument as exc:
        if exc.target:  # the arguments are valid, but do not fit the object
            raise
        raise _wrong(str(exc)) from None


@click.command(epilog=_EXAMPLES)
@click.argument("target", metavar="KIND[:NAME]", type=_Target())
@click.option(
    "--key", type=_KeyType(), metavar="KEY", help="System V: 0x4d2, 1234, or PATH:ID for ftok(3)."
)
@click.option(
    "--mode", type=_Mode(), default=0o600, metavar="OCTAL", help="Permissions; by default 0600."
)
@click.option(
    "--size",
    type=Size(),
    metavar="SIZE",
    help="Bytes, such as 64K, 1.5M or 1G; for q the maximum of all messages.",
)
@click.option(
    "--values",
    type=_Values(),
    metavar="N,...",
    help="Values of the semaphores of s or sem; by default 1.",
)
@click.option(
    "--messages",
    type=click.IntRange(min=1),
    metavar="N",
    help="The most messages in mq; by default 10.",
)
@click.option(
    "--message-size", type=Size(), metavar="SIZE", help="The most bytes of a message in mq."
)
@click.option(
    "--capacity",
    type=click.IntRange(min=1),
    metavar="N",
    help="The most messages in channel, or unread ones of a subscriber of topic.",
)
@click.option(
    "--type",
    "type_name",
    metavar="TYPE",
    help="What channel or topic carries: bytes (the default), str, a numpy dtype such as f8, "
    "or MODULE:CLASS.",
)
@struct_options
@click.option("--overwrite", is_flag=True, help="channel drops the oldest message if it is full.")
@click.option(
    "--history",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many old messages a new subscriber of topic gets.",
)
@click.option("--exist-ok", is_flag=True, help="Use the object if it exists and fits.")
def command(
    target: tuple[Kind, str], *, key: Key | None, mode: int, exist_ok: bool, **options: Any
) -> None:
    """Create an object, which stays when the command ends, and print its address.

    KIND is a prefix of the addresses that `ipckit ls` shows, or a word:

    \b
      q, queue            a System V queue
      m, segment          a System V segment
      s, set, sem-set     a System V semaphore set
      mq, shm, sem        a POSIX queue, segment, semaphore
      channel, topic      a channel, a topic

    Without NAME or --key, a free one is chosen. A System V object can have its key as NAME:
    q:0x4d2. The umask does not apply to --mode.
    """  # noqa: D301 - \b tells click not to wrap the paragraph
    kind, name = target
    prefix = inventory.PREFIXES[kind]
    options["type_name"] = _type(options["type_name"])
    arguments = _arguments(kind, options)
    where: Any = name or None
    if kind in _SYSTEM_V:
        where = _key(kind, name, key)
    elif key is not None:
        message = f"{prefix} has a name and no key: {prefix}:NAME"
        raise _wrong(message)
    if exist_ok and where is None:
        message = "--exist-ok needs a name or a --key"
        raise _wrong(message)
    if where is None:
        require_output("nothing was created, because its address can't be printed")
    shown = f"{where:#010x}" if kind in _SYSTEM_V and where is not None else where
    handle = _create(
        kind, where, {**arguments, "mode": mode}, exist_ok=exist_ok, address=f"{prefix}:{shown}"
    )
    try:
        if kind in _SYSTEM_V:
            say(f"{prefix}:{handle.id}")
        else:
            slash = "/" if kind in {"channel", "topic"} else ""
            say(f"{prefix}:{handle.name.removeprefix(slash)}")
    except BaseException:  # without its address, the caller could not remove it
        if handle.owner:
            handle.unlink(missing_ok=True)
        raise
    finally:
        handle.disown().close()
