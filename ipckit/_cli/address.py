"""Addresses of objects on the command line, such as ``q:5``, and the option ``--kind``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from ipckit import inventory
from ipckit.errors import InvalidArgument, NotFound, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from ipckit.inventory import IpcObject, Kind

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
