"""How the commands that list, show and remove objects put one into words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit.inventory import IpcObject, Process

_VALUES_SHOWN: Final = 8
_COMMAND_SHOWN: Final = 60
_PROCESSES_SHOWN: Final = 3


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


def counted(count: int, noun: str) -> str:
    """A number and its noun: ``1 message``, ``2 messages``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def used(item: IpcObject) -> str:
    """What is in an object: ``3 messages, 108 bytes``."""
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
    """Some processes, with their commands cut where they are long."""
    more = f"; {len(found) - _PROCESSES_SHOWN} more" if len(found) > _PROCESSES_SHOWN else ""
    return "; ".join(process(each, cut=True) for each in found[:_PROCESSES_SHOWN]) + more


def process(each: Process, *, cut: bool = False) -> str:
    """A process, what it does or did, and whether it runs still."""
    command = each.command
    if cut and len(command) > _COMMAND_SHOWN:
        command = command[: _COMMAND_SHOWN - 3] + "..."
    ended = "" if each.alive else ", ended"
    return f"{each.pid} {command} ({each.how}{ended})".replace("  ", " ")


def clock(seconds: float) -> str:
    """A time of day with its date, in this machine's zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))


def mode(item: IpcObject) -> str:
    """Permission bits, in octal; "" where they can't be seen."""
    return "" if item.mode is None else f"{item.mode:04o}"


def key(item: IpcObject) -> str:
    """A System V object's key; ``private`` for one without; "" for other kinds."""
    if item.key is None:
        return ""
    return f"{item.key:#010x}" if item.key else "private"


def summary(item: IpcObject) -> str:
    """An object in a few words, to ask or to tell what becomes of it."""
    about = [part for part in (used(item), f"owner {item.owner}" if item.owner else "") if part]
    return f"{item.address} ({', '.join(about)})" if about else item.address
