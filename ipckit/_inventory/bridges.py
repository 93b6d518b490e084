"""Bridges to other machines: which peers they are, and which of their files are leftovers."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._core.bridge_file import BRIDGE_PREFIX, bridges, facts_of
from ipckit._core.files import CHANNEL_PREFIX, SHM, TOPIC_PREFIX, open_regular
from ipckit._core.processes import pid_here
from ipckit._inventory.model import PeerBridge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit._core.bridge_file import BridgeFacts
    from ipckit._inventory.processes import Processes

_PREFIXES: Final = {"channel": CHANNEL_PREFIX, "topic": TOPIC_PREFIX}


def is_of_object(file: str) -> bool:
    """Return whether a file of /dev/shm is that of a bridge that runs, or whose object exists.

    Such a file has the journal with which the next bridge continues, so it is not a leftover, also
    if no process has it open. It is no object of its own either.

    Args:
        file: the name of the file.
    """
    if not file.startswith(BRIDGE_PREFIX):
        return False
    try:
        facts = facts_of(f"{SHM}/{file}")
    except OSError:
        return False
    if facts is None:
        return False
    # Whether a process of another pid namespace runs is not known.
    runs = facts.runs and pid_here(facts.token) is not None
    return runs or _exists(facts)


def _exists(facts: BridgeFacts) -> bool:
    """Return whether the channel or topic of a bridge still has its name."""
    kind, _, name = facts.object.partition(":")
    if kind not in _PREFIXES or not name or "/" in name or "\0" in name:
        return False
    path = f"{SHM}/{_PREFIXES[kind]}{name}"
    try:
        fd = open_regular(path, follow=False)
    except PermissionError:
        status = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - a path as text
        return (status.st_dev, status.st_ino) == facts.identity[:2]
    except (OSError, ValueError):
        return False
    if fd is None:
        return False
    try:
        return identity_of(fd, topic=kind == "topic") == facts.identity
    except OSError:
        return False
    finally:
        os.close(fd)


def identity_of(fd: int, *, topic: bool) -> tuple[int, int, int]:
    """Return what tells the memory of a channel or topic from another of the same name.

    Raises:
        OSError: it can't be read, or is not a channel or topic.
    """
    status = os.fstat(fd)
    return (status.st_dev, status.st_ino, native.ring_look(fd, topic)["created"])


def running(processes: Processes) -> list[BridgeFacts]:
    """Return the bridges that run.

    Any user can write a file that names another user's process, so the process must have the file
    open, as far as that can be seen.
    """
    found: list[BridgeFacts] = []
    for each in bridges():
        pid = processes.process_of(each.token)
        file = processes.files.get(each.file)
        if pid in processes.denied or (file is not None and pid in file.holders):
            found.append(each)
    return found


def by_peer(
    found: Sequence[BridgeFacts],
    identity: tuple[int, int, int],
    rows: Sequence[dict[str, Any]],
    subscribers: dict[int, Any],
) -> dict[int, PeerBridge]:
    """Return the bridges of a channel or topic, by the index of the peer that each is.

    A process can have more than one handle. Then the bridge is one with its role, if there is one.

    Args:
        found: the bridges that run.
        identity: see `identity_of`.
        rows: the peers, as `ring_look` returns them.
        subscribers: the subscribers of a topic, by the index of the peer.
    """
    taken: dict[int, PeerBridge] = {}
    for facts in (each for each in found if each.identity == identity):
        own = [row for row in rows if row["token"] == facts.token and row["index"] not in taken]
        if own:
            wanted, other = native.ROLE_RECEIVER, native.ROLE_SENDER
            if facts.direction == "receive":
                wanted, other = other, wanted

            def rank(row: dict[str, Any], wanted: int = wanted, other: int = other) -> int:
                roles = row["roles"]
                if row["index"] in subscribers:
                    roles |= native.ROLE_RECEIVER
                return 2 * bool(roles & wanted) - bool(roles & other)

            taken[max(own, key=rank)["index"]] = _peer_bridge(facts)
    return taken


def _peer_bridge(facts: BridgeFacts) -> PeerBridge:
    return PeerBridge(
        facts.url,
        facts.direction,
        facts.state,
        facts.reason,
        float(facts.since),
        float(facts.changed),
        **asdict(facts.counts),
    )
