"""The exceptions of topics and subscriptions that channels do not have."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit.errors import ClosedHandle, IpcError, LimitReached, Timeout, WouldBlock, one_line

if TYPE_CHECKING:
    from ipckit._topic.facts import TopicSubscriber

SUBSCRIBE_HERE: Final = "call topic.subscribe() in this process"
_MAY_LOSE: Final = 'a subscriber with when_full="drop_oldest" loses messages instead'
_LET_GO: Final = "release them, or create the topic with a larger size"
_MORE_MEMORY: Final = "create the topic with a larger size; views and loans hold memory too"


def no_room(
    op: str, target: str, timeout: float | None, subscribers: list[TopicSubscriber]
) -> IpcError:
    """Return the exception for a call that waited for a subscriber, or for memory, in vain.

    Args:
        op: the method.
        target: the topic.
        timeout: the method's argument.
        subscribers: the subscriptions of the topic.
    """
    state = "the topic is full" if timeout == 0 else f"the topic was full for {timeout} s"
    slowest = _slowest(subscribers)
    if slowest is None:
        message, hint = f"{state}: views or loans hold the memory", _LET_GO
    else:
        message = f"{state}: {_described(slowest)} has {slowest.unread} unread"
        hint = _MAY_LOSE if slowest.unread >= slowest.depth else _MORE_MEMORY
    if timeout == 0:
        return WouldBlock(message, errno=errno.EAGAIN, op=op, target=target, hint=hint)
    return Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target, hint=hint)


def _slowest(subscribers: list[TopicSubscriber]) -> TopicSubscriber | None:
    """Return the subscriber that the publishers wait for; the one with the most unread messages.

    Long messages can fill the memory before a subscriber has as many unread ones as its depth.
    """
    waited_for = [each for each in subscribers if each.policy == "wait" and each.unread > 0]
    at_depth = [each for each in waited_for if each.unread >= each.depth]
    return max(at_depth or waited_for, key=lambda each: each.unread, default=None)


def _described(subscriber: TopicSubscriber) -> str:
    """Return a subscriber's process, with the name of its program if that is known."""
    found = f"subscriber pid {subscriber.pid}"
    try:
        name = Path(f"/proc/{subscriber.pid}/comm").read_bytes()
    except OSError:
        return found  # it has exited, or is in another pid namespace
    text = one_line(name.removesuffix(b"\n").decode("utf-8", "surrogateescape"))
    return f"{found} ({text})"


def too_many(target: str) -> LimitReached:
    """Return the exception for one subscriber more than a topic can have."""
    message = f"the topic has the maximum of {native.TOPIC_SUBSCRIBERS} subscribers"
    return LimitReached(message, errno=errno.EUSERS, op="subscribe", target=target)


def of_the_parent(op: str, target: str) -> ClosedHandle:
    """Return the exception for a subscription in a forked child of the process that subscribed."""
    message = "the subscription belongs to the parent process"
    return ClosedHandle(message, errno=errno.EBADF, op=op, target=target, hint=SUBSCRIBE_HERE)
