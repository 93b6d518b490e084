"""Addresses of objects on the command line, such as ``q:5``, and the option ``--kind``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from ipckit import inventory
from ipckit._cli import words
from ipckit.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from ipckit.inventory import IpcObject, Kind

_SYSV: Final[tuple[Kind, ...]] = ("sysv-queue", "sysv-segment", "sysv-semaphores")
_NAMED: Final[tuple[Kind, ...]] = (
    "posix-queue",
    "posix-segment",
    "posix-semaphore",
    "channel",
    "topic",
)

# What has an inode. It tells two objects of the same name apart.
_FILES: Final[tuple[Kind, ...]] = (*_NAMED, "memfd", "socket")

# The prefixes of addresses, and the kinds that each can mean. After the colon of a System V kind, a
# number is an id, and 0x... is a key. Other kinds have a name there.
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
    "topic": ("topic",),
    "memfd": ("memfd",),
    "socket": ("socket",),
    "unix": ("socket",),
    "inode": _FILES,
}
_ADDRESS: Final = re.compile(rf"({'|'.join(_PREFIXES)}):(.*)", re.DOTALL)
_MOST_DIGITS: Final = 20  # of an id or an inode
_MOST_CHOICES: Final = 8
# A shell may put a completed word on its command line unquoted, and another user chose the name.
# Only these characters have no meaning to bash, zsh and fish inside a word. The comma and the line
# end also separate what click's completion scripts read.
_SAFE_ADDRESS: Final = re.compile(r"[a-z]+:[A-Za-z0-9@%+./:_-]+")
# The values of --kind, besides a kind's own name and its prefix: groups of kinds.
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


def _is_id(text: str, ident: int) -> bool:
    """Return whether a text is an id in decimal digits."""
    return text.isdecimal() and len(text) <= _MOST_DIGITS and int(text) == ident


def _matches(each: IpcObject, prefix: str, rest: str) -> bool:
    """Return whether an address, divided into its prefix ("" for none) and the rest, means it."""
    bare = not prefix
    if each.kind in _SYSV:
        if re.fullmatch(r"0[xX][0-9a-fA-F]+", rest):
            return each.key == int(rest, 16) != 0
        return _is_id(rest, each.id)
    by_id = prefix == "inode" or (each.kind in {"memfd", "socket"} and not bare)
    if by_id and _is_id(rest, each.id):
        return True
    if prefix == "inode" or (each.kind in {"memfd", "channel", "topic"} and bare):
        return False
    # The escaped form of a name is also accepted, because control characters are hard to type.
    names = {each.name, each.name.replace("\0", "\\x00")}  # a command line contains no NUL
    texts = {rest, words.unescaped(rest)}
    if each.kind in _NAMED and not bare:
        names, texts = ({text.removeprefix("/") for text in some} for some in (names, texts))
    return not names.isdisjoint(texts)


def kinds_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option --kind to a command; `kinds_of` returns its kinds."""
    names = ", ".join(_KIND_NAMES)
    return click.option(
        "--kind",
        "kind_names",
        multiple=True,
        metavar="KIND",
        type=click.Choice(list(_KIND_NAMES)),
        help=f"Only this kind; can be repeated. One of {names}.",
    )(command)


def kinds_of(names: Sequence[str]) -> list[Kind]:
    """Return the kinds that --kind names; all kinds if it was not given."""
    chosen = {kind for name in names for kind in _KIND_NAMES[name]}
    return [kind for kind in inventory.KINDS if kind in chosen or not names]


class ObjectType(click.ParamType[str]):
    """An address of an object, with completion from the objects that exist.

    Only addresses that need no quotes are completed, so that no name can make a shell run a
    command.

    Args:
        kinds: the kinds that the command accepts; by default all.
    """

    name = "object"

    def __init__(self, *kinds: Kind) -> None:
        self._kinds = kinds or inventory.KINDS

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        del ctx, param
        # The shell waits, so only the kinds are listed whose addresses can begin with the word.
        kinds: list[Kind] = []
        for kind in self._kinds:
            start = f"{inventory.PREFIXES[kind]}:"
            if start.startswith(incomplete) or incomplete.startswith(start):
                kinds.append(kind)
        found = inventory.survey(kinds, holders=False).objects
        addresses = [each.address for each in found]
        return [
            CompletionItem(each)
            for each in addresses
            if each.startswith(incomplete) and _SAFE_ADDRESS.fullmatch(each)
        ]


OBJECT: Final = ObjectType()


def _is_gone(each: IpcObject) -> bool:
    """Return whether an object is not, or no longer, what its name leads to."""
    return "unlinked" in each.details or each.details.get("file") in {"missing", "elsewhere"}


def _distinct(each: IpcObject, found: Sequence[IpcObject]) -> str:
    """Return an address of an object that no other one of `found` has.

    A name with an escape can look like another name, so such an object is called by its inode.
    """
    shown = words.address(each)
    if "\\" not in shown and [words.address(other) for other in found].count(shown) == 1:
        return shown
    return f"{'socket' if each.kind == 'socket' else 'inode'}:{each.id}"


def choose(text: str, objects: Iterable[IpcObject], kinds: Collection[Kind]) -> IpcObject:
    """Return the one object that an address means.

    Args:
        text: ``q:5``, ``m:5``, ``s:5``, ``key:0x4d2``, ``q:0x4d2``, ``mq:/name``, ``shm:/name``,
            ``sem:/name``, ``channel:NAME``, ``topic:NAME``, ``memfd:INODE``, ``socket:PATH``,
            ``inode:INODE``; or without a prefix, if only one object matches: ``5``, ``0x4d2``,
            ``/name``, ``@name``.
        objects: the objects to choose from.
        kinds: the kinds that the command accepts.

    Of several objects that had a name one after the other, the address means the last one.

    Raises:
        NotFound: no object matches.
        InvalidArgument: more than one matches, and the message names them; or the prefix means
            none of `kinds`.
    """
    match = _ADDRESS.fullmatch(text)
    asked = _PREFIXES[match[1]] if match else tuple(inventory.KINDS)
    prefix, rest = match.groups() if match else ("", text)
    allowed = [kind for kind in asked if kind in kinds]
    if match and not allowed:
        message = f"this command accepts only these kinds: {', '.join(sorted(kinds))}"
        raise InvalidArgument(message, target=text)
    found = [each for each in objects if each.kind in allowed and _matches(each, prefix, rest)]
    found = [each for each in found if not _is_gone(each)] or found
    if not found:
        raise NotFound("no such object", target=text, hint="list all objects: ipckit ls")
    if len(found) > 1:
        names = [_distinct(each, found) for each in found[:_MOST_CHOICES]]
        more = ", ..." if len(found) > _MOST_CHOICES else ""
        message = f"more than one object matches: {', '.join(names)}{more}"
        raise InvalidArgument(message, target=text, hint="use one of these addresses")
    return found[0]


def asked_kinds(text: str, kinds: Collection[Kind]) -> list[Kind]:
    """Return the kinds that an address can mean, of those that a command accepts."""
    match = _ADDRESS.fullmatch(text)
    asked = _PREFIXES[match[1]] if match else inventory.KINDS
    # `choose` raises the error for a prefix that the command does not accept.
    return [kind for kind in asked if kind in kinds] or list(kinds)


def resolve(
    text: str, kinds: Collection[Kind] = inventory.KINDS, *, holders: bool = False
) -> IpcObject:
    """Survey the objects, and return the one that an address means; see `choose`.

    Args:
        text: the address.
        kinds: the kinds that the command accepts.
        holders: also find the processes that hold it, which takes longer.

    Raises:
        NotFound: no object matches.
        InvalidArgument: more than one object matches.
    """
    found = inventory.survey(asked_kinds(text, kinds), holders=holders, ignore_self=True)
    return choose(text, found.objects, kinds)
