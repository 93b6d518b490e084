"""Options that several commands take, and how a wrong value becomes wrong usage."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ipckit import inventory
from ipckit._cli.address import ObjectType, resolve
from ipckit._cli.payload import struct_asked_for
from ipckit.errors import InvalidArgument, NotFound
from ipckit.inventory import IpcObject

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator

    from ipckit.inventory import Kind
    from ipckit.structs import Struct

F = TypeVar("F", bound="Callable[..., Any]")


class Seconds(click.FloatRange):
    """A number of seconds: neither infinite nor no number at all, which would pass as a float."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return float(number)


@contextlib.contextmanager
def usage() -> Generator[None]:
    """What is wrong with an argument is wrong usage: exit status 2."""
    try:
        yield
    except InvalidArgument as exc:
        raise click.UsageError(str(exc), click.get_current_context(silent=True)) from None


def chosen(text: str, kinds: Collection[Kind], *, holders: bool = False) -> IpcObject:
    """The object of one of some kinds that an address stands for.

    Raises:
        NotFound: no object is called that.
        UsageError: more than one is, or the address is of another kind.
    """
    try:
        with usage():
            return resolve(text, kinds, holders=holders)
    except NotFound:
        prefix, _, name = text.partition(":")
        if prefix != "mq" or not inventory.survey(["posix-queue"], holders=False).unseen:
            raise
    # Who may not list the queues may open one by its name all the same.
    wanted = f"/{name.removeprefix('/')}"
    return IpcObject("posix-queue", wanted, None, 0, None, None, "", "", None, None)


def object_argument(*kinds: Kind) -> Callable[[F], F]:
    """The argument OBJECT; the shell completes it with the objects that there are."""
    return click.argument("text", metavar="OBJECT", type=ObjectType(*kinds))


def _struct_of(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Look whether the other of the two options was given, and make the struct once."""
    # A shell that completes only wants to know what was typed: no module is imported for that.
    if value is None or ctx.resilient_parsing:
        return value
    with usage():
        if "struct" in ctx.meta:
            message = "--struct and --c both say what the bytes are; give one of them"
            raise click.UsageError(message, ctx)
        reference, source = (value, None) if param.name == "struct_name" else (None, value)
        ctx.meta["struct"] = struct_asked_for(reference, source)
    return value


def struct_options(command: F) -> F:
    """The options ``--struct`` and ``--c``; `struct_given` has what they say."""
    for option in (
        click.option(
            "--c",
            "c_source",
            metavar="TEXT",
            callback=_struct_of,
            expose_value=False,
            help='The bytes are this C struct: "typedef struct …", or @FILE.',
        ),
        click.option(
            "--struct",
            "struct_name",
            metavar="MODULE:CLASS",
            callback=_struct_of,
            expose_value=False,
            help="The bytes are this Struct class; a module here is found.",
        ),
    ):
        command = option(command)
    return command


def struct_given() -> type[Struct] | None:
    """The struct that the options of the command in hand ask for, or None."""
    found: type[Struct] | None = click.get_current_context().meta.get("struct")
    return found
