"""Texts about objects, processes, sizes and times, for people."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Final

from ipckit.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit.inventory import IpcObject, PeerBridge, Process

VALUES_SHOWN: Final = 8  # of a semaphore set
# What a peer can sleep for.
WAITS: Final = {"message": "a message", "room": "room", "lock": "a lock"}
_KILO: Final = 1024
_PRECISE: Final = 100  # from here on, a number of units has no decimals
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
    """Return a number of bytes, shortened: ``1536``, ``16K``, ``12.5K``; "" for None."""
    if size is None:
        return ""
    value, units = float(size), "KMGT"
    unit = ""
    # Below ten of a unit, only whole ones are shown in it.
    while units and value >= _KILO and (value >= 10 * _KILO or value % _KILO == 0):
        value, unit, units = value / _KILO, units[0], units[1:]
    whole = value == int(value) or value >= _PRECISE
    return f"{value:.0f}{unit}" if whole else f"{value:.1f}{unit}"


def exact(size: int) -> str:
    """Return a number of bytes, for people and exactly: ``16K (16384 bytes)``, ``56 bytes``."""
    short = human(size)
    return counted(size, "byte") if short == str(size) else f"{short} ({size} bytes)"


def ago(seconds: float) -> str:
    """Return how long ago something was: ``45 s ago``, ``3 min ago``, ``8 days ago``."""
    if seconds < -1:
        return "in the future"
    for unit, size in (("day", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{counted(count, unit) if unit == 'day' else f'{count} {unit}'} ago"
    return f"{max(0, int(seconds))} s ago"


def memory(item: IpcObject) -> int:
    """Return the bytes of memory that an object takes, which its removal frees."""
    # Of a channel or topic, `used` has the messages only.
    if item.kind in {"channel", "topic", "memfd", "sysv-segment"}:
        return item.size or 0
    return item.used.bytes or 0


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 message``, ``2 messages``."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"


def in_bytes(count: int) -> str:
    """Return a number of bytes with its noun: ``1 byte``, ``2 bytes``, ``1.5K bytes``."""
    return f"{human(count)} {'byte' if count == 1 else 'bytes'}"


def used(item: IpcObject) -> str:
    """Return what an object contains: ``3 messages, 108 bytes``, ``4/64 messages, 2 peers``."""
    use, parts = item.used, list[str]()
    capacity = item.details.get("capacity") if item.kind in {"channel", "topic"} else None
    if capacity is not None:
        return _of_capacity(item, int(capacity))
    if use.messages is not None:
        parts.append(counted(use.messages, "message"))
    if use.values is not None:
        shown = " ".join(map(str, use.values[:VALUES_SHOWN]))
        more = " ..." if len(use.values) > VALUES_SHOWN else ""
        parts.append(f"{'value' if len(use.values) == 1 else 'values'} {shown}{more}")
    elif use.bytes is not None:
        parts.append(in_bytes(use.bytes) if use.messages is not None else human(use.bytes))
    if use.attached is not None:
        noun = "connection" if item.kind == "socket" else "attach"
        text = counted(use.attached, noun)
        parts.append(f"{use.attached} attached" if noun == "attach" else text)
    return ", ".join(parts)


def _of_capacity(item: IpcObject, capacity: int) -> str:
    """Return how full a channel or topic is, how many peers it has, and where bridges lead."""
    peers = ", ".join([counted(len(item.peers), "peer"), *bridges(item)])
    if item.kind == "topic":  # a publisher waits for the subscriber that has read the least
        return f"{int(item.details.get('unread', 0)):,}/{capacity:,} unread, {peers}"
    return f"{item.used.messages or 0:,}/{capacity:,} messages, {peers}"


def bridges(item: IpcObject) -> list[str]:
    """Return the bridges of a channel or topic: ``to nats://host:4222/jobs``, or with a mark."""
    return [
        f"{bridge_end(each.bridge)}{'' if each.bridge.state == 'connected' else ' (waiting)'}"
        for each in item.peers
        if each.bridge
    ]


def bridge_end(bridge: PeerBridge) -> str:
    """Return the other end of a bridge: ``to nats://host:4222/jobs``, or ``from`` it."""
    return f"{'to' if bridge.direction == 'send' else 'from'} {name(bridge.url)}"


def evidence(item: IpcObject) -> str:
    """Return what a table shows as the reason for a state: a live process, its pid first.

    Of a channel or topic it is the peer that has waited longest, a sender before a receiver.
    """
    waiting = [each for each in item.peers if each.waits]
    if waiting:
        peer = max(waiting, key=lambda each: (each.waits == "room", each.waiting or 0.0))
        how = "idle" if peer.waits == "message" else "blocked"
        call = f"{how} {duration(peer.waiting)}, waits for {WAITS.get(peer.waits, peer.waits)}"
        return f"pid {peer.pid} {call}: {without_path(peer.command)}"
    found = item.holders or tuple(each for each in item.users if each.alive)
    if item.state not in {"held", "used"} or not found:
        return item.reason
    first = found[0]
    more = f", {len(found) - 1:,} more" if len(found) > 1 else ""
    command = without_path(first.command)
    return f"pid {first.pid} {command} ({first.how}){more}".replace("  ", " ")


def without_path(command: str) -> str:
    """Return a command line without the directory of its program."""
    program, blank, rest = command.partition(" ")
    return program.rpartition("/")[2] + blank + rest


def processes(found: Sequence[Process]) -> str:
    """Return the processes of a list; on a terminal the first ones, with shortened commands."""
    if not sys.stdout.isatty():
        return "; ".join(map(process, found))
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
    """Return a date and time in the local time zone; the number if it is beyond the calendar.

    Any user can give a file such a time.
    """
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} seconds since 1970"


def mode(item: IpcObject) -> str:
    """Return the permission bits in octal; "" if they can't be seen."""
    return "" if item.mode is None else f"{item.mode:04o}"


def rights(mode: int) -> str:
    """Return permission bits in words: ``owner reads and writes; group reads``."""
    by_right: dict[int, list[str]] = {}
    for who, shift in (("owner", 6), ("group", 3), ("others", 0)):
        by_right.setdefault(mode >> shift & 6, []).append(who)
    if list(by_right) == [6] or list(by_right) == [4] or list(by_right) == [2]:
        by_right = {right: ["everyone"] for right in by_right}
    parts: list[str] = []
    for right, names in by_right.items():
        several = len(names) > 1 or names == ["others"]
        verbs = [
            verb if several else f"{verb}s"
            for verb, bit in (("read", 4), ("write", 2))
            if right & bit
        ]
        if verbs:
            parts.append(f"{' and '.join(names)} {' and '.join(verbs)}")
    return "; ".join(parts) or "only root reads and writes"


def key(item: IpcObject) -> str:
    """Return a System V object's key, or ``private`` if it has none; "" for other kinds."""
    if item.key is None:
        return ""
    return f"{item.key:#010x}" if item.key else "private"


def summary(item: IpcObject) -> str:
    """Return an object in a few words, for questions and reports."""
    about = [part for part in (used(item), f"owner {item.owner}" if item.owner else "") if part]
    return f"{item.address} ({', '.join(about)})" if about else item.address
