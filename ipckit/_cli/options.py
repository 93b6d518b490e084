"""Arguments and options that several commands share."""

from __future__ import annotations

import contextlib
import math
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ipckit import inventory
from ipckit._cli.address import ObjectType, resolve
from ipckit._cli.output import UnreadableSource
from ipckit.errors import InvalidArgument, InvalidSource, NotFound
from ipckit.inventory import IpcObject

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator

    from ipckit.inventory import Kind
    from ipckit.structs import Struct

_SHIFTS: Final = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SIZE_END: Final = 1 << 63
F = TypeVar("F", bound="Callable[..., Any]")


class Seconds(click.FloatRange):
    """A finite number of seconds; infinity and NaN would pass as a float."""

    name = "number of seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number of seconds.", param, ctx)
        return float(number)


class Size(click.ParamType[int]):
    """A number of bytes such as ``4096``, ``64K``, ``1.5M`` or ``1G``."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        match = re.fullmatch(
            r"(\d{1,20}(?:\.\d{1,20})?)([KMGT]?)(?:i?B)?", str(value), re.IGNORECASE
        )
        if match is None:
            self.fail(f"{value!r} is not a size such as 4096, 64K, 1.5M or 1G", param, ctx)
        whole, _, part = match[1].partition(".")
        unit = 1 << _SHIFTS[match[2].upper()]
        size = int(whole) * unit + int(part or 0) * unit // int("1" + "0" * len(part))
        if not 0 < size < _SIZE_END:
            self.fail(f"{value!r} is not a size from 1 byte to 8 EiB", param, ctx)
        return size


@contextlib.contextmanager
def usage() -> Generator[None]:
    """Turn an invalid argument into wrong usage: exit status 2."""
    try:
        yield
    except InvalidSource as exc:
        raise UnreadableSource(str(exc)) from None
    except InvalidArgument as exc:
        raise click.UsageError(str(exc), click.get_current_context(silent=True)) from None


def chosen(text: str, kinds: Collection[Kind], *, holders: bool = False) -> IpcObject:
    """Return the object that an address means.

    Args:
        text: the address.
        kinds: the kinds that the command accepts.
        holders: also find the processes that hold it, which takes longer.

    Raises:
        NotFound: no object matches.
        UsageError: more than one object matches, or the address is of another kind.
    """
    try:
        with usage():
            return resolve(text, kinds, holders=holders)
    except NotFound:
        prefix, _, name = text.partition(":")
        if prefix != "mq" or not inventory.survey(["posix-queue"], holders=False).unseen:
            raise
    # The queues can't be listed here, but a queue can be opened by its name.
    wanted = f"/{name.removeprefix('/')}"
    return IpcObject("posix-queue", wanted, None, 0, None, None, "", "", None, None)


def object_argument(*kinds: Kind) -> Callable[[F], F]:
    """Return the decorator that adds the argument OBJECT, with completion."""
    return click.argument("text", metavar="OBJECT", type=ObjectType(*kinds))


def _struct_of(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Find the struct, and refuse if the other of the two options was given too."""
    # Import no module while a shell completes a word.
    if value is None or ctx.resilient_parsing:
        return value
    with usage():
        if "struct" in ctx.meta:
            message = "--struct and --c both name a struct; use one of them"
            raise click.UsageError(message, ctx)
        from ipckit._cli.payload import type_asked_for  # noqa: PLC0415 - few commands need it

        reference, source = (value, None) if param.name == "struct_name" else (None, value)
        ctx.meta["struct"] = type_asked_for(reference, source)
        ctx.meta["struct_text"] = value
    return value


def struct_options(command: F) -> F:
    """Add the options ``--struct`` and ``--c``; `struct_given` returns the struct."""
    for option in (
        click.option(
            "--c",
            "c_source",
            metavar="TEXT",
            callback=_struct_of,
            expose_value=False,
            help='Use this C struct: "typedef struct …", or @FILE.',
        ),
        click.option(
            "--struct",
            "struct_name",
            metavar="MODULE:CLASS",
            callback=_struct_of,
            expose_value=False,
            help="Use this Struct class; the module can be in this directory.",
        ),
    ):
        command = option(command)
    return command


def type_given() -> Any:
    """Return the type that ``--struct`` or ``--c`` of this command names, or None.

    It is a Struct, or by ``--struct`` also a msgspec.Struct or a numpy dtype.
    """
    return click.get_current_context().meta.get("struct")


def struct_given() -> type[Struct] | None:
    """Return the struct that ``--struct`` or ``--c`` of this command names, or None.

    Raises:
        UsageError: it is a type, but not a Struct.
    """
    found: Any = type_given()
    if found is not None:
        from ipckit._cli.payload import checked_struct  # noqa: PLC0415 - few commands need it

        with usage():
            found = checked_struct(found, click.get_current_context().meta["struct_text"])
    return found  # type: ignore[no-any-return] # a StructType is a type[Struct]
