"""What the commands share: how an object is named, what is printed where, how they end."""

from __future__ import annotations

import codecs
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ipckit import inventory
from ipckit.errors import InvalidArgument, NotFound, is_plain, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from ipckit.inventory import IpcObject, Kind

DONE: Final = 0
ERROR: Final = 1
USAGE: Final = 2
REFUSED: Final = 3

_SYSV: Final[tuple[Kind, ...]] = ("sysv-queue", "sysv-segment", "sysv-semaphores")
_NAMED: Final[tuple[Kind, ...]] = ("posix-queue", "posix-segment", "posix-semaphore", "channel")

# What stands before the colon of an address, and which kinds it can be. A number after the
# colon is an id, and 0x... a key, of the System V kinds; anything else is a name.
_PREFIXES: Final[dict[str, tuple[Kind, ...]]] = {
    "q": ("sysv-queue",),
    "msg": ("sysv-queue",),
    "queue": ("sysv-queue", "posix-queue"),
    "m": ("sysv-segment",),
    "segment": ("sysv-segment", "posix-segment"),
    "s": ("sysv-semaphores",),
    "set": ("sysv-semaphores",),
    "key": _SYSV,
    "id": _SYSV,
    "mq": ("posix-queue",),
    "shm": ("sysv-segment", "posix-segment"),
    "sem": ("sysv-semaphores", "posix-semaphore"),
    "channel": ("channel",),
    "memfd": ("memfd",),
    "socket": ("socket",),
    "unix": ("socket",),
}
_ADDRESS: Final = re.compile(rf"({'|'.join(_PREFIXES)}):(.+)", re.DOTALL)
_MOST_CHOICES: Final = 8
# What a shell offers for completion may end up on its command line as it stands, and another user
# chose the name. These characters mean nothing to bash, zsh and fish, inside a word: no quotes,
# no substitution, no pattern, no separator. The comma and the line end also separate what click's
# completion scripts read.
_SAFE_ADDRESS: Final = re.compile(r"[a-z]+:[A-Za-z0-9@%+./:_-]+")
_STYLES: Final = {"orphaned": "yellow", "held": "green", "unknown": "magenta"}


# What --kind takes, beside a kind's own name: a prefix of addresses, or several kinds at once.
_GROUPS: Final[dict[str, tuple[Kind, ...]]] = {
    "sysv": _SYSV,
    "posix": ("posix-queue", "posix-segment", "posix-semaphore"),
    "queue": ("sysv-queue", "posix-queue"),
    "segment": ("sysv-segment", "posix-segment"),
    "semaphore": ("sysv-semaphores", "posix-semaphore"),
}
_KIND_NAMES: Final[dict[str, tuple[Kind, ...]]] = {
    **{kind: (kind,) for kind in inventory.KINDS},
    **{prefix: (kind,) for kind, prefix in inventory.PREFIXES.items()},
    **_GROUPS,
}


class Refused(click.ClickException):
    """A command did not do what was asked, because it would do harm: exit status 3."""

    exit_code = REFUSED


def _matches(each: IpcObject, rest: str, *, bare: bool) -> bool:
    """Whether an object is what stands in an address, behind its prefix if it has one."""
    if each.kind in _SYSV:
        if re.fullmatch(r"0[xX][0-9a-fA-F]+", rest):
            return each.key == int(rest, 16) != 0
        return rest.isdecimal() and each.id == int(rest)
    if each.kind in {"memfd", "socket"} and rest.isdecimal():
        return not bare and each.id == int(rest)
    if each.kind in {"memfd", "channel"} and bare:
        return False
    # What is shown of a name names it too: a shell makes nothing else of a control character.
    names = {each.name, one_line(each.name)}
    if each.kind in _NAMED and not bare:
        return rest.removeprefix("/") in {name.removeprefix("/") for name in names}
    return rest in names


def kinds_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --kind; `kinds_of` makes kinds of it."""
    names = ", ".join(_KIND_NAMES)
    return click.option(
        "--kind",
        "kind_names",
        multiple=True,
        metavar="KIND",
        type=click.Choice(list(_KIND_NAMES)),
        help=f"Only this kind; may be given again. One of {names}.",
    )(command)


def kinds_of(names: Sequence[str]) -> list[Kind]:
    """The kinds that --kind named; all where it was not given."""
    chosen = {kind for name in names for kind in _KIND_NAMES[name]}
    return [kind for kind in inventory.KINDS if kind in chosen or not names]


class ObjectType(click.ParamType[str]):
    """An address of an object; a shell completes it from what exists.

    A shell is offered only the addresses that need no quotes, so that no name can make it run a
    command.

    Args:
        kinds: which kinds the command can work on; all by default.
    """

    name = "object"

    def __init__(self, *kinds: Kind) -> None:
        self._kinds = kinds or inventory.KINDS

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        del ctx, param
        found = inventory.survey(self._kinds, holders=False).objects
        addresses = [each.address for each in found]
        return [
            CompletionItem(each)
            for each in addresses
            if each.startswith(incomplete) and _SAFE_ADDRESS.fullmatch(each)
        ]


OBJECT: Final = ObjectType()


def choose(text: str, objects: Iterable[IpcObject], kinds: Collection[Kind]) -> IpcObject:
    """The one object that an address stands for.

    Args:
        text: ``q:5``, ``m:5``, ``s:5``, ``key:0x4d2``, ``q:0x4d2``, ``mq:/name``, ``shm:/name``,
            ``sem:/name``, ``channel:NAME``, ``memfd:INODE``, ``socket:PATH``; or one that needs no
            prefix since only one object can be meant: ``5``, ``0x4d2``, ``/name``, ``@name``.
        objects: what there is to choose from.
        kinds: which kinds the command can work on.

    Returns:
        The object.

    Raises:
        NotFound: no object is called that.
        InvalidArgument: more than one is; the message names them.
    """
    match = _ADDRESS.fullmatch(text)
    asked = _PREFIXES[match[1]] if match else tuple(inventory.KINDS)
    rest = match[2] if match else text
    allowed = [kind for kind in asked if kind in kinds]
    if match and not allowed:
        message = f"not one of {', '.join(sorted(kinds))}, which this command takes"
        raise InvalidArgument(message, target=text)
    found = [
        each
        for each in objects
        if each.kind in allowed and _matches(each, rest, bare=match is None)
    ]
    if not found:
        raise NotFound("no such object", target=text, hint="see what exists: ipckit ls")
    if len(found) > 1:
        names = [each.address for each in found[:_MOST_CHOICES]]
        more = ", ..." if len(found) > _MOST_CHOICES else ""
        message = f"can be any of {', '.join(names)}{more}"
        raise InvalidArgument(message, target=text, hint="name the one you mean")
    return found[0]


def asked_kinds(text: str, kinds: Collection[Kind]) -> list[Kind]:
    """The kinds that an address can be of, as far as a command takes them."""
    match = _ADDRESS.fullmatch(text)
    asked = _PREFIXES[match[1]] if match else inventory.KINDS
    # A prefix that the command does not take is complained about by `choose`.
    return [kind for kind in asked if kind in kinds] or list(kinds)


def resolve(
    text: str, kinds: Collection[Kind] = inventory.KINDS, *, holders: bool = False
) -> IpcObject:
    """The object that an address stands for, looked up now; see `choose`.

    Args:
        text: the address.
        kinds: which kinds the command can work on.
        holders: also find who holds it, which takes longer.

    Raises:
        NotFound: no object is called that.
        InvalidArgument: more than one is.
    """
    found = inventory.survey(asked_kinds(text, kinds), holders=holders, ignore_self=True)
    return choose(text, found.objects, kinds)


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal before something is removed.

    Args:
        question: what is asked.
        yes: it was answered on the command line.

    Raises:
        Refused: the answer is no, or there is no terminal to ask on.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        message = "nothing was removed: there is no terminal to ask on; --yes says it beforehand"
        raise Refused(message)
    if not click.confirm(one_line(question), err=True):
        message = "nothing was removed"
        raise Refused(message)


def console() -> Console:
    """Where what was asked for goes: with colours on a terminal only, and not with NO_COLOR."""
    return Console(highlight=False)


# What a command prints goes through one of the next four functions, or as a `rich.text.Text` of
# `one_line`: much of it was written by other users.


def say(line: str, *, error: bool = False) -> None:
    """Print one line to standard output or error, with everything escaped that is no plain text."""
    click.echo(one_line(line), err=error)


def say_lines(text: str, *, error: bool = False) -> None:
    """Print a text of several lines, each as `say` does."""
    click.echo("\n".join(map(one_line, text.split("\n"))), err=error)


def write(data: bytes) -> None:
    """Write bytes as they are to standard output, at once.

    A message that was taken from a queue is nowhere else.
    """
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def json_of(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """A value as JSON that a terminal shows as it is, and that is UTF-8 whatever is in it.

    A lone surrogate, which is what Python has for a byte that is not UTF-8, becomes its escape.
    """
    import json  # noqa: PLC0415 - few commands need it

    return in_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only))


def ascii_output() -> bool:
    """Whether standard output has an encoding in which JSON may only be ASCII: not UTF-8."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return codecs.lookup(encoding).name != "utf-8"


def print_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    click.echo(json_of(value, indent=2, ascii_only=ascii_output()))


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, right: str = "") -> None:
    """Print rows in columns: to the terminal's width on one, else each in full, for awk and cut.

    Args:
        titles: the columns' names, in capitals; the last column's text may be long.
        rows: the cells, as many as titles each.
        right: the titles of numbers, which stand to the right, with blanks between.
    """
    cells = [[one_line(cell) or "-" for cell in row] for row in rows]
    rights = [title in right.split() for title in titles]
    if sys.stdout.isatty():
        table = Table(box=None, pad_edge=False, header_style="bold cyan")
        for title, is_right in zip(titles, rights, strict=True):
            last = title == titles[-1]
            # Text that is cut would say the wrong thing: it goes on below instead.
            table.add_column(
                title,
                justify="right" if is_right else "left",
                no_wrap=False,
                overflow="fold",
                ratio=1 if last else None,
            )
        for row in cells:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        console().print(table)
        return
    lines = [list(titles), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, rights, strict=True)
        ]
        say("  ".join(padded).rstrip())


def tell_unseen(unseen: Iterable[str]) -> None:
    """Say on standard error what could not be seen."""
    for line in unseen:
        say(f"ipckit: not seen: {line}", error=True)


def duration(seconds: float | None) -> str:
    """A time for people, in its largest unit: ``45s``, ``12m``, ``3h``, ``8d``; "" for None."""
    if seconds is None:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:.0f}s"


def human(size: int | None) -> str:
    """A number of bytes for people: ``8192``, ``16K``, ``1.5M``; "" for None."""
    if size is None:
        return ""
    value = float(size)
    for unit in ("", "K", "M", "G"):
        if value < 1024 * 10 and value != int(value) and unit:
            return f"{value:.1f}{unit}"
        if value < 1024 * 10:
            return f"{value:.0f}{unit}"
        value /= 1024
    return f"{value:.1f}T"


_BASIC: Final = 0x10000  # the first code point that JSON writes as two escapes


def _json_escaped(char: str) -> str:
    code = ord(char)
    if code < _BASIC:
        return f"\\u{code:04x}"
    code -= _BASIC
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def in_json(text: str) -> str:
    r"""JSON that does nothing to a terminal, with the same value.

    `json.dumps` leaves C1 control characters, bidirectional controls and lone surrogates as they
    are when it is told to leave letters; here they become ``\uXXXX``. What is left is UTF-8.

    Args:
        text: as `json.dumps` made it, with line ends only between its tokens.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if is_plain(char) or char == "\n" else _json_escaped(char) for char in text)
