"""``ipckit stat``: show everything that is known about one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ipckit._cli import words
from ipckit._cli.address import OBJECT, resolve
from ipckit._cli.output import print_json, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.inventory import IpcObject

_EXAMPLES: Final = """\b
Examples:
  ipckit stat q:5            a System V queue
  ipckit stat shm:/frames    POSIX shared memory
  ipckit stat --json 0x4d2   the System V object with that key
"""


def _lines(item: IpcObject) -> Iterator[tuple[str, str]]:
    yield "object", words.address(item)
    yield "kind", item.kind
    yield "name", words.name(item.name)
    yield "key", words.key(item)
    yield "id", str(item.id)
    yield "owner", f"{item.owner} (uid {item.uid})" if item.owner else ""
    yield "group", f"{item.group} (gid {item.gid})" if item.group else ""
    yield "mode", words.mode(item)
    yield "size", "" if item.size is None else str(item.size)
    yield "used", words.used(item)
    if item.used.values is not None:
        yield "values", " ".join(map(str, item.used.values))
    yield "creator", "" if item.creator is None else words.process(item.creator)
    for user in item.users:
        yield "last user", words.process(user)
    for holder in item.holders:
        yield "holder", words.process(holder)
    for name, when in item.times.items():
        yield name, words.clock(when)
    yield "age", words.duration(item.age)
    yield "state", item.state
    yield "why", item.reason
    for line in item.unseen:
        yield "could not see", line
    for name, value in item.details.items():
        source = "topic" if item.kind == "topic" and name != "inode" else "kernel"
        yield f"{source} {name}", str(value)


@click.command(epilog=_EXAMPLES)
@click.argument("object_", metavar="OBJECT", type=OBJECT)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with stable names.")
def command(object_: str, *, as_json: bool) -> None:
    """Show everything that is known about one object."""
    item = resolve(object_, holders=True)
    if as_json:
        print_json(item.as_dict())
        return
    for name, value in _lines(item):
        if value:
            say(f"{name + ':':<16} {value}")
