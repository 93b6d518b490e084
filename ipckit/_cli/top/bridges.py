"""What ``ipckit top`` shows of bridges: how many messages a second they carry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ipckit._core.bridge_file import bridges

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipckit._core.bridge_file import BridgeFacts
    from ipckit.inventory import IpcObject, Peer

    # By the identity of the object, the direction and the URL.
    _Now = dict[tuple[tuple[int, ...], str, str], BridgeFacts]


class BridgeRates:
    """Counts what the bridges of each channel and topic have carried."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, ...], tuple[float, int]] = {}

    def refreshed(self, objects: Iterable[IpcObject]) -> list[IpcObject]:
        """Return the objects with what their bridges do now.

        The peers of all objects are found less often than their messages are counted. The files of
        the bridges are cheap to read.
        """
        found = list(objects)
        if not any(peer.bridge for each in found for peer in each.peers):
            return found
        now: _Now = {(each.identity[:2], each.direction, each.url): each for each in bridges()}
        return [
            replace(each, peers=tuple(_refreshed(peer, each, now) for peer in each.peers))
            if any(peer.bridge for peer in each.peers)
            else each
            for each in found
        ]

    def rate(self, item: IpcObject, now: float) -> float | None:
        """Return the messages that an object's bridges have carried a second since the last call.

        Args:
            item: the object.
            now: the time in seconds.

        Returns:
            The rate; None without bridges, or at the first call for the object.
        """
        carried = [peer.bridge.messages for peer in item.peers if peer.bridge]
        if not carried:
            return None
        total = sum(carried)
        then, count = self._before.get(item.identity, (now, total))
        self._before[item.identity] = (now, total)
        return max(0, total - count) / (now - then) if now > then else None

    def forget(self, objects: Iterable[IpcObject]) -> None:
        """Forget the objects that are not among some."""
        for identity in self._before.keys() - {each.identity for each in objects}:
            del self._before[identity]


def _refreshed(peer: Peer, item: IpcObject, now: _Now) -> Peer:
    if peer.bridge is None:
        return peer
    facts = now.get((item.identity, peer.bridge.direction, peer.bridge.url))
    if facts is None:
        return peer
    bridge = replace(
        peer.bridge,
        state=facts.state,
        reason=facts.reason,
        messages=facts.counts.messages,
        unacknowledged=facts.counts.unacknowledged,
    )
    return replace(peer, bridge=bridge)
