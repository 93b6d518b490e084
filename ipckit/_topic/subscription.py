"""Subscription: the messages of a topic, as one subscriber receives them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Generic, NoReturn, cast

import ipckit._native as native
from ipckit._channel.batches import receive_many
from ipckit._channel.in_place import Loan, View
from ipckit._channel.results import RingErrors
from ipckit._core.handle import Closable
from ipckit._core.public import public
from ipckit._payload.types import T
from ipckit._topic.explain import SUBSCRIBE_HERE, of_the_parent, too_many
from ipckit._topic.kind import TOPIC
from ipckit.errors import IpcError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

    from ipckit._channel.memory_handle import MemoryHandle
    from ipckit._channel.options import PeerGonePolicy
    from ipckit._topic.facts import FullPolicy


@public("ipckit.topic")
class Subscription(native.SubscriptionBase, RingErrors, Closable, Generic[T]):
    """A subscription to a topic: it receives each message that is published from now on.

    `Topic.subscribe` creates one. It belongs to the process that subscribed: a forked child and
    another process subscribe themselves. It stays open when the topic's handle is closed. Leaving
    ``with`` closes it; then no publisher waits for it any more. Several threads may receive from
    one subscription; then each message goes to one of them. ``len()`` is the number of unread
    messages.

    >>> from ipckit import Topic
    >>> with Topic.anonymous(str) as topic, topic.subscribe() as one, topic.subscribe() as two:
    ...     topic.publish("hello")
    ...     one.receive(timeout=1), two.receive(timeout=1)
    ('hello', 'hello')
    """

    _factories = "Topic.subscribe"
    _kind = TOPIC
    _send_instead = "send the topic, and subscribe in the process that receives it"

    def __init__(
        self,
        topic: MemoryHandle[T],
        *,
        when_full: FullPolicy,
        depth: int,
        history: int,
        peer_gone: PeerGonePolicy,
        spin: int,
        timeout: float | None,
    ) -> None:
        self._layout, self._topic_target = topic._layout, topic._target
        self._when_full: FullPolicy = when_full
        self._depth, self._peer_gone_policy = depth, peer_gone
        drops, wait = when_full == "drop_oldest", peer_gone == "wait"
        self._topic: MemoryHandle[T] | None = topic
        base = cast("native.TopicBase", topic)
        try:
            self._subscribe(base, drops, depth, history, wait, spin, timeout)
        finally:
            self._topic = None  # the subscription does not keep the handle
        self._set_in_place(Loan, View, self._layout.plain_unit, self._layout.size)
        Closable.__init__(self)

    # -- messages ----------------------------------------------------------------------------------

    if TYPE_CHECKING:  # native/topic/ defines and documents these; here are their types

        def receive(self, *, timeout: float | None = None) -> T:
            """Receive the next message, waiting until there is one."""
            ...

        def receive_view(self, *, timeout: float | None = None) -> View:
            """Receive the next message without copying it."""
            ...

        def receive_into(self, buffer: Buffer, /, *, timeout: float | None = None) -> int:
            """Copy the bytes of the next message into a buffer, and return their number."""
            ...

    def receive_many(self, max: int | None = None, *, timeout: float | None = None) -> Any:
        """Receive all unread messages. Wait until there is at least one.

        If an exception ends the call, its attribute ``received`` has the messages that the call had
        already received.

        Args:
            max: the maximum number of messages, 1 or more; by default all that are unread when the
                call begins.
            timeout: seconds to wait for the first message; None waits without limit, 0 does not
                wait.

        Returns:
            If the topic's type is a Struct or a dtype, a numpy array of records, with one copy in
            total; otherwise a list. If the type is a dtype without a shape and the next message was
            published as an array of several elements, that message alone.

        Raises:
            TypeError: `max` is not an integer.
            InvalidArgument: `max` is less than 1.
            LayoutMismatch: a message could not be decoded; ``.raw`` has its bytes.
            MemoryError: there is no memory for a message. It is still unread, or ``.raw`` has it.
            IpcError: as for `receive`.

        >>> from ipckit import Topic
        >>> with Topic.anonymous(str) as topic, topic.subscribe() as words:
        ...     topic.publish_many(["a", "b", "c"])
        ...     words.receive_many(2), words.receive_many()
        (['a', 'b'], ['c'])
        """
        return receive_many(self, max, timeout)

    def __iter__(self) -> Iterator[T]:
        """Receive each message. End when all were read and the last publisher is gone."""
        return self._iterate()

    # -- polling and state -------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return a descriptor that is readable when a message is unread, for select, poll or epoll.

        Then call `receive` with ``timeout=0``, and be ready for `WouldBlock`: afterwards the
        descriptor is no longer readable. The subscription keeps the descriptor and closes it. See
        eventfd(2).

        Raises:
            LimitReached: RLIMIT_NOFILE or RLIMIT_NPROC is reached.
            ClosedHandle: the subscription is closed, or belongs to the parent process.

        >>> import select
        >>> from ipckit import Topic
        >>> with Topic.anonymous() as topic, topic.subscribe() as messages:
        ...     topic.publish(b"hello")
        ...     select.select([messages], [], [], 1)[0] == [messages]
        True
        """
        return self._poll_fd(native.POLL_ITEMS)

    @property
    def when_full(self) -> FullPolicy:
        """What happens when `depth` messages are unread: "wait" or "drop_oldest"."""
        return self._when_full

    @property
    def depth(self) -> int:
        """The maximum number of unread messages."""
        return self._depth

    def __bool__(self) -> bool:
        # A subscription without unread messages is true, although its len() is 0.
        return True

    def _check_peers(self, *, sending: bool = False) -> bool:  # noqa: ARG002 - as a Channel has it
        """Return whether a call would wait in vain and must raise `PeerGone` instead."""
        policy = self._peer_gone_policy
        return policy == "raise" and self._side(native.ROLE_SENDER) == native.SIDE_GONE

    def _peer_gone(self, *, sending: bool = False) -> IpcError:  # noqa: ARG002 - as above
        return self._explain_ring(native.RING_GONE, "receive", None)

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        self._detach()

    @property
    def _target(self) -> str:
        return self._topic_target

    def _lock_owner(self, op: str) -> int:
        # `subscribe` calls this before the subscription is open.
        if self._topic is not None:
            return self._topic._lock_owner(op)  # noqa: SLF001 - of the same package
        return super()._lock_owner(op)

    def _explain_ring(self, result: int, op: str, timeout: float | None) -> IpcError:
        if result == native.RING_LIMIT:
            return too_many(self._target)
        return super()._explain_ring(result, op, timeout)

    def _explain_errno(self, code: int, op: str) -> IpcError:
        if code == errno.EOWNERDEAD:
            return of_the_parent(op, self._target)
        return super()._explain_errno(code, op)

    def __repr__(self) -> str:
        try:
            state = "closed" if self.closed else f"{len(self)} unread, {self.lost} lost"
        except IpcError as exc:
            state = type(exc).__name__
        return f"<{type(self).__name__} to {one_line(self._target)}, {state}>"

    def __reduce__(self) -> NoReturn:
        message = f"a subscription belongs to its process and can't be pickled; {SUBSCRIBE_HERE}"
        raise TypeError(message)
