"""What ``ipckit top`` shows of bridges: how many messages a second they carry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ipckit._core.bridge_file import bridges

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipckit._cli.top.model import Row
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

    def rated(self, rows: list[Row], now: float) -> list[Row]:
        """Return the rows with the rates since the last call.

        Args:
            rows: all rows.
            now: the time in seconds.
        """
        before, self._before = self._before, {}
        return [self._rated(row, before, now) for row in rows]

    def _rated(self, row: Row, before: dict[tuple[int, ...], tuple[float, int]], now: float) -> Row:
        peers = () if row.item is None else row.item.peers
        carried = [peer.bridge.messages for peer in peers if peer.bridge]
        if row.item is None or not carried:
            return row
        key, total = row.item.identity, sum(carried)
        self._before[key] = (now, total)
        then, count = before.get(key, (now, total))
        if now <= then:
            return row
        return replace(row, bridge_rate=max(0, total - count) / (now - then))


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
