"""The results of `Channel.stats` and `Channel.peers`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import ipckit._native as native
from ipckit._core import processes
from ipckit._core.public import public


@final
@public("ipckit.channel")
@dataclass(frozen=True, slots=True)
class ChannelStats:
    """The state of a channel at one moment; `Channel.stats` returns it.

    Attributes:
        messages: the messages that wait in the channel.
        capacity: the maximum number of messages that wait.
        bytes_used: the bytes of `size` that messages, loans, views and deliveries occupy.
        size: the bytes of memory for messages of all lengths, short and long.
        dropped: the messages that were dropped because the channel was full.
        sent: the messages that the present peers have sent.
        received: the messages that the present peers have received. One that is delivered again
            counts again.
        taken: the messages that `Channel.take` returned and that are not acknowledged yet.

    Example:
        >>> from ipckit import Channel
        >>> with Channel.create(capacity=10) as channel:
        ...     channel.send(b"hello")
        ...     channel.stats().messages, channel.stats().capacity
        (1, 10)
    """

    messages: int
    capacity: int
    bytes_used: int
    size: int
    dropped: int
    sent: int
    received: int
    taken: int


@final
@public("ipckit.channel")
@dataclass(frozen=True, slots=True)
class ChannelPeer:
    """An open handle of a channel, in any process; `Channel.peers` lists them.

    Attributes:
        pid: the process, as numbered in its own pid namespace.
        sender: whether the peer has sent a message.
        receiver: whether the peer has received a message.
        creator: whether the peer created the channel.
        since: when the peer opened the channel, in seconds since the epoch.
        sent: the messages that the peer has sent.
        received: the messages that the peer has received.
        self: whether the peer is the handle whose `peers` was called.

    Example:
        >>> from ipckit import Channel
        >>> with Channel.create() as channel:
        ...     channel.send(b"hello")
        ...     (peer,) = channel.peers()
        ...     peer.sender, peer.receiver, peer.sent
        (True, False, 1)
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
    """Return the peer that a row of the channel's table of peers describes."""
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
