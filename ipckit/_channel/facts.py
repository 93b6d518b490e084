"""What a channel tells about itself."""

from __future__ import annotations

from dataclasses import dataclass

import ipckit._native as native
from ipckit._core import processes
from ipckit._core.public import public


@public("ipckit.channel")
@dataclass(frozen=True, slots=True)
class ChannelStats:
    """A channel at one moment.

    Attributes:
        messages: how many wait.
        capacity: how many can.
        bytes_used: of the message memory, what messages, loans and views take, with their headers.
        size: bytes of the message memory.
        dropped: messages that were overwritten before anybody took them.
        sent: messages sent by peers that have the channel open now.
        received: messages received by them.
    """

    messages: int
    capacity: int
    bytes_used: int
    size: int
    dropped: int
    sent: int
    received: int


@public("ipckit.channel")
@dataclass(frozen=True, slots=True)
class ChannelPeer:
    """One who has a channel open.

    Attributes:
        pid: the process, as its own pid namespace counts.
        sender: whether it has sent.
        receiver: whether it has received.
        creator: whether it made the channel.
        since: when it opened the channel, in seconds since the epoch.
        sent: messages that it sent.
        received: messages that it received.
        self: whether it is the handle that was asked.
    """

    pid: int
    sender: bool
    receiver: bool
    creator: bool
    since: int
    sent: int
    received: int
    self: bool


def peer_of(row: tuple[int, int, int, int, int, int, int, int]) -> ChannelPeer:
    """A peer from the channel's table."""
    pid, token, roles, creator, since, sent, received, own = row
    return ChannelPeer(
        pid=processes.pid_of(token) or pid,
        sender=bool(roles & native.ROLE_SENDER),
        receiver=bool(roles & native.ROLE_RECEIVER),
        creator=bool(creator),
        since=since,
        sent=sent,
        received=received,
        self=bool(own),
    )
