"""Channels and topics as they are in memory: their state, their peers, their messages.

Nothing is opened as a peer and nothing is changed: permission to read the file is enough.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._core.processes import process_stat
from ipckit._inventory import bridges
from ipckit._inventory.model import Peer, Use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit._inventory.model import Kind
    from ipckit._inventory.processes import Processes

_LOCKS: Final = ("send", "receive", "pool")
_ROLES: Final[dict[Kind, tuple[str, str]]] = {
    "channel": ("sender", "receiver"),
    "topic": ("publisher", "subscriber"),
}
_SIDE: Final = (1 << native.WAITS_BITS) - 1
_WAITS: Final = {native.POLL_ITEMS: "message", native.POLL_SPACE: "room"}
_SECONDS: Final = (1 << (32 - native.WAITS_BITS)) - 1
_STOPPED: Final = frozenset("Tt")


@dataclass(frozen=True, slots=True)
class Ring:
    """What the memory of a channel or topic tells.

    Attributes:
        payload: the type of the messages, as text.
        used: the messages and the bytes in use.
        peers: the handles that live processes have open.
        details: the rest, by the names in docs/layout.md.
    """

    payload: str
    used: Use
    peers: tuple[Peer, ...]
    details: dict[str, int | str]


def ring_of(kind: Kind, fd: int, processes: Processes | None) -> Ring:
    """Look at a channel or topic.

    Args:
        kind: ``"channel"`` or ``"topic"``.
        fd: a descriptor to read the file.
        processes: what /proc showed; None to leave out the peers.

    Raises:
        OSError: the file can't be read, or is not a channel or topic (EINVAL).
    """
    topic = kind == "topic"
    facts = native.ring_look(fd, topic)
    details: dict[str, int | str] = {
        name: facts[name]
        for name in ("capacity", "longest", "item_size", "bytes", "dropped", "taken", "created")
    }
    # As text, because many readers of JSON round a number of 64 bits.
    details["fingerprint"] = f"{facts['fingerprint']:#018x}"
    if topic:
        unread = [row[3] for row in facts["subscribers"]]
        details |= {
            "history": facts["history"],
            "published": facts["tail"],
            "subscribers": len(unread),
            "unread": max(unread, default=0),
            "lost": sum(row[4] for row in facts["subscribers"]),
        }
        del details["dropped"], details["taken"]
    else:
        details |= {
            "overwrite": int(facts["overwrite"]),
            "tail": facts["tail"],
            "head": facts["head"],
        }
    peers = () if processes is None else tuple(_peers(kind, fd, facts, processes))
    used = Use(messages=facts["messages"], bytes=facts["bytes_used"])
    return Ring(facts["type"], used, peers, details)


def _peers(kind: Kind, fd: int, facts: dict[str, Any], processes: Processes) -> Iterator[Peer]:
    status = os.fstat(fd)
    file = processes.files.get((status.st_dev, status.st_ino))
    holders = {*processes.denied, *(() if file is None else file.holders)}
    subscribers = {row[0]: row for row in facts["subscribers"]}
    now = int(time.monotonic())
    if processes.bridges is None:
        processes.bridges = bridges.running(processes)
    identity = (status.st_dev, status.st_ino, facts["created"])
    bridged = bridges.by_peer(processes.bridges, identity, facts["peers"], subscribers)
    for row in facts["peers"]:
        here = processes.process_of(row["token"])
        if here is not None and here not in holders:
            continue  # any process that may write to the memory can name another one there
        pid = row["pid"] if here is None else here
        waits = _WAITS.get(row["waits"] & _SIDE, "")
        _, drops, depth, unread, lost, received, _ = subscribers.get(
            row["index"], (0, 0, None, None, None, row["received"], 0)
        )
        yield Peer(
            pid=pid,
            command="" if here is None else processes.command(pid),
            roles=tuple(_roles(kind, row, is_subscriber=unread is not None)),
            waits=waits,
            waiting=_waiting(row["waits"], now) if waits else None,
            since=row["since"],
            sent=row["sent"],
            received=received,
            taken=row["taken"],
            blocks=row["blocks"],
            locks=tuple(
                name
                for name, index in zip(_LOCKS, facts["locks"], strict=True)
                if index == row["index"]
            ),
            stopped=here is not None and _is_stopped(pid),
            unread=unread,
            lost=lost,
            policy="" if unread is None else "drop_oldest" if drops else "wait",
            depth=depth,
            bridge=bridged.get(row["index"]),
        )


def _waiting(word: int, now: int) -> float:
    """Return how long a call has waited, in seconds.

    Args:
        word: the word `waits` of a peer, which has the lower bits of a second of the clock.
        now: the second of the monotonic clock.
    """
    seconds = (now - (word >> native.WAITS_BITS)) & _SECONDS
    # A process of another time namespace has another clock, which can be ahead.
    return float(seconds) if seconds <= _SECONDS // 2 else 0.0


def _roles(kind: Kind, row: dict[str, Any], *, is_subscriber: bool) -> Iterator[str]:
    if row["creator"]:
        yield "creator"
    sends, receives = _ROLES[kind]
    if row["roles"] & native.ROLE_SENDER:
        yield sends
    if is_subscriber or (kind == "channel" and row["roles"] & native.ROLE_RECEIVER):
        yield receives


def _is_stopped(pid: int) -> bool:
    with suppress(OSError):
        return process_stat(Path(f"/proc/{pid}/stat").read_bytes()).state in _STOPPED
    return False


def messages_of(kind: Kind, fd: int, most: int) -> list[tuple[bytes, int]]:
    """Return the next messages of a channel, or the newest of a topic: (bytes, times returned).

    Raises:
        OSError: the file can't be read, or is not a channel or topic, or is damaged (EINVAL).
    """
    return native.ring_messages(fd, kind == "topic", most)
