"""The attributes of a POSIX message queue: mq_getattr(3)'s structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from ipckit._core.public import public


@public("ipckit.msgq")
@final
@dataclass(frozen=True, slots=True)
class PosixMessageQueueAttributes:
    """What mq_getattr(3) returns.

    Attributes:
        flags: O_NONBLOCK or 0; ipckit neither sets it nor depends on it.
        maxmsg: the most messages that the queue can contain.
        msgsize: the most bytes of one message.
        curmsgs: the number of messages in the queue now.

    Example:
        >>> from ipckit import PosixMessageQueue
        >>> with PosixMessageQueue.create(max_messages=4, max_size=100) as queue:
        ...     queue.attributes().maxmsg, queue.attributes().curmsgs
        (4, 0)
    """

    flags: int
    maxmsg: int
    msgsize: int
    curmsgs: int
