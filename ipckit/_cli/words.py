"""Texts about objects, processes, sizes and times, for people."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from ipckit.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit.inventory import IpcObject, Process

_VALUES_SHOWN: Final = 8
_COMMAND_SHOWN: Final = 60
_PROCESSES_SHOWN: Final = 3
_ESCAPE: Final = re.compile(r"\\(?:[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U00(?:0[0-9a-f]|10)[0-9a-f]{4})")
_CONTROLS: Final = {r"\n": "\n", r"\r": "\r", r"\t": "\t"}


def name(text: str) -> str:
    r"""Return a name as one word, which no other name has.

    Besides what `one_line` escapes, a blank becomes ``\x20``, so that a name cannot look like
    several columns; and a backslash ``\x5c`` if it would look like the start of an escape.
    """
    apart = _ESCAPE.sub(lambda found: r"\x5c" + found[0][1:], text)
    return one_line(apart.replace(" ", r"\x20"))


def unescaped(text: str) -> str:
    """Return the name that `name` shows as a text, also if more of it is escaped than need be."""
    return _ESCAPE.sub(lambda found: _CONTROLS.get(found[0]) or chr(int(found[0][2:], 16)), text)


def address(item: IpcObject) -> str:
    """Return an object's address as a table shows it; see `name`."""
    by_id = item.address.endswith(f":{item.id}")
    return item.address if by_id else f"{item.address.partition(':')[0]}:{name(item.name)}"


def duration(seconds: float | None) -> str:
    """Return a duration in its largest unit: ``45s``, ``12m``, ``3h``, ``8d``; "" for None."""
    if seconds is None:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:.0f}s"


def human(size: int | None) -> str:
    """Return a number of bytes, shortened: ``8192``, ``16K``, ``1.5M``; "" for None."""
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


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 message``, ``2 messages``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def used(item: IpcObject) -> str:
    """Return what an object contains: ``3 messages, 108 bytes``."""
    use, parts = item.used, list[str]()
    if use.messages is not None:
        parts.append(counted(use.messages, "message"))
    if use.values is not None:
        shown = " ".join(map(str, use.values[:_VALUES_SHOWN]))
        more = " ..." if len(use.values) > _VALUES_SHOWN else ""
        parts.append(f"{'value' if len(use.values) == 1 else 'values'} {shown}{more}")
    elif use.bytes is not None:
        parts.append(f"{human(use.bytes)} bytes" if use.messages is not None else human(use.bytes))
    if use.attached is not None:
        noun = "connection" if item.kind == "socket" else "attach"
        text = counted(use.attached, noun)
        parts.append(f"{use.attached} attached" if noun == "attach" else text)
    return ", ".join(parts)


def processes(found: Sequence[Process]) -> str:
    """Return the first processes of a list, with long commands shortened."""
    more = f"; {len(found) - _PROCESSES_SHOWN} more" if len(found) > _PROCESSES_SHOWN else ""
    return "; ".join(process(each, cut=True) for each in found[:_PROCESSES_SHOWN]) + more


def process(each: Process, *, cut: bool = False) -> str:
    """Return a process, what it does or did, and that it has exited if so."""
    command = each.command
    if cut and len(command) > _COMMAND_SHOWN:
        command = command[: _COMMAND_SHOWN - 3] + "..."
    exited = "" if each.alive else ", exited"
    return f"{each.pid} {command} ({each.how}{exited})".replace("  ", " ")


def clock(seconds: float) -> str:
    """Return a date and time in the local time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))


def mode(item: IpcObject) -> str:
    """Return the permission bits in octal; "" if they can't be seen."""
    return "" if item.mode is None else f"{item.mode:04o}"


def key(item: IpcObject) -> str:
    """Return a System V object's key, or ``private`` if it has none; "" for other kinds."""
    if item.key is None:
        return ""
    return f"{item.key:#010x}" if item.key else "private"


def summary(item: IpcObject) -> str:
    """Return an object in a few words, for questions and reports."""
    about = [part for part in (used(item), f"owner {item.owner}" if item.owner else "") if part]
    return f"{item.address} ({', '.join(about)})" if about else item.address
