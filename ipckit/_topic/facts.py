"""The results of `Topic.stats`, `Topic.subscribers` and `Topic.publishers`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from ipckit._core import processes
from ipckit._core.public import public

FullPolicy = Literal["wait", "drop_oldest"]


@final
@public("ipckit.topic")
@dataclass(frozen=True, slots=True)
class TopicStats:
    """The state of a topic at one moment; `Topic.stats` returns it.

    Attributes:
        messages: the messages that are in memory: unread ones, the history, and older ones whose
            memory was not needed yet.
        capacity: the maximum number of unread messages.
        history: the number of old messages that a new subscriber can receive.
        bytes_used: the bytes of `size` that these messages, loans and views occupy.
        size: the bytes of memory for messages of all lengths, short and long.
        published: the messages that were published since the topic was created.
        subscribers: the number of subscriptions, in all processes.
        publishers: the number of open handles that have published a message.
        lost: the messages that the present subscriptions have lost.

    Example:
        >>> from ipckit import Topic
        >>> with Topic.create(capacity=10) as topic, topic.subscribe() as messages:
        ...     topic.publish(b"hello")
        ...     topic.stats().published, topic.stats().subscribers
        (1, 1)
    """

    messages: int
    capacity: int
    history: int
    bytes_used: int
    size: int
    published: int
    subscribers: int
    publishers: int
    lost: int


@final
@public("ipckit.topic")
@dataclass(frozen=True, slots=True)
class TopicSubscriber:
    """An open subscription, in any process; `Topic.subscribers` lists them.

    Attributes:
        pid: the process, as numbered in its own pid namespace.
        policy: what happens when it has `depth` unread messages and another one is published: the
            publisher waits ("wait"), or the oldest unread message is lost ("drop_oldest").
        depth: the maximum number of unread messages.
        unread: the messages that wait for this subscription.
        lost: the messages that it has lost.
        received: the messages that it has received.
        since: when the process subscribed, in seconds since the epoch.
        self: whether the subscription belongs to this process.

    Example:
        >>> from ipckit import Topic
        >>> with Topic.create(capacity=10) as topic, topic.subscribe() as messages:
        ...     topic.publish(b"hello")
        ...     (subscriber,) = topic.subscribers()
        ...     subscriber.policy, subscriber.unread, subscriber.lost
        ('wait', 1, 0)
    """

    pid: int
    policy: FullPolicy
    depth: int
    unread: int
    lost: int
    received: int
    since: int
    self: bool


@final
@public("ipckit.topic")
@dataclass(frozen=True, slots=True)
class TopicPublisher:
    """An open handle that has published a message; `Topic.publishers` lists them.

    Attributes:
        pid: the process, as numbered in its own pid namespace.
        published: the messages that the handle has published.
        creator: whether the handle created the topic.
        since: when the process opened the topic, in seconds since the epoch.
        self: whether it is the handle whose `publishers` was called.

    Example:
        >>> from ipckit import Topic
        >>> with Topic.create(capacity=10) as topic, topic.subscribe() as messages:
        ...     topic.publish(b"hello")
        ...     (publisher,) = topic.publishers()
        ...     publisher.published, publisher.creator
        (1, True)
    """

    pid: int
    published: int
    creator: bool
    since: int
    self: bool


def subscriber_of(row: tuple[int, int, int, int, int, int, int, int, int]) -> TopicSubscriber:
    """Return the subscriber that a row of the topic's table of subscriptions describes."""
    pid, token, drops, depth, unread, lost, received, since, own = row
    return TopicSubscriber(
        pid=processes.pid_of(token) or pid,
        policy="drop_oldest" if drops else "wait",
        depth=depth,
        unread=unread,
        lost=lost,
        received=received,
        since=since,
        self=bool(own),
    )


def publisher_of(row: tuple[int, int, int, int, int, int, int, int]) -> TopicPublisher:
    """Return the publisher that a row of the topic's table of peers describes."""
    pid, token, _, creator, since, sent, _, own = row
    return TopicPublisher(
        pid=processes.pid_of(token) or pid,
        published=sent,
        creator=bool(creator),
        since=since,
        self=bool(own),
    )
