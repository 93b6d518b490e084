"""Topics and subscriptions in an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, final

from ipckit._aio.messages import ReceivingFace, SendingFace
from ipckit._aio.wait_queue import Wakeup
from ipckit._core.public import public
from ipckit._payload.types import T
from ipckit._topic.subscription import Subscription
from ipckit._topic.topic import Topic
from ipckit.errors import WouldBlock

if TYPE_CHECKING:
    from collections.abc import Iterable


@public("ipckit.aio")
@final
class TopicFace(SendingFace[Topic[T]], Generic[T]):
    """A `Topic` in an event loop, which waits on its descriptor.

    Example:
        >>> import asyncio
        >>> from ipckit import Topic, aio
        >>> async def main():
        ...     with Topic.anonymous() as topic, topic.subscribe() as messages:
        ...         await aio.wrap(topic).publish(b"hello")
        ...         return messages.receive()
        >>> asyncio.run(main())
        b'hello'
    """

    __slots__ = ()

    _needs_receivers = False  # publishing succeeds without subscribers

    def __init__(self, handle: Topic[T]) -> None:
        super().__init__(handle)
        self._writable = Wakeup(handle.space_fileno)

    async def publish(self, value: T, *, timeout: float | None = None) -> None:
        """Publish one message, as `Topic.publish`.

        Args:
            value: the message, of the payload type.
            timeout: seconds to wait for subscribers that have `depth` unread messages; None (the
                default) waits for ever, 0 not at all.

        Raises:
            Timeout: there was no room until the deadline. No subscriber got the message.
            IpcError: as `Topic.publish`.
        """
        waiters = self._waiters
        if timeout is None and waiters.budget > 0 and not waiters.queues:
            waiters.budget -= 1
            try:
                self._handle.publish(value, timeout=0)
            except WouldBlock:
                pass
            else:
                return
        await self._send(lambda: self._handle.publish(value, timeout=0), timeout)

    async def publish_many(
        self, values: Iterable[T] | Any, *, timeout: float | None = None
    ) -> None:
        """Publish many messages, as `Topic.publish_many`.

        A call that is cancelled, or whose deadline passes, may have published some of them.

        Args:
            values: the messages; or a numpy array with a message in each element.
            timeout: seconds for all of them; None (the default) waits for ever, 0 not at all.

        Raises:
            IpcError: as `Topic.publish_many`; the exception's ``sent`` says how many were
                published.
        """
        await self._send_many(values, timeout)


@public("ipckit.aio")
@final
class SubscriptionFace(ReceivingFace[Subscription[T], T], Generic[T]):
    """A `Subscription` in an event loop, which waits on its descriptor.

    Example:
        >>> import asyncio
        >>> from ipckit import Topic, aio
        >>> async def main():
        ...     with Topic.anonymous() as topic, topic.subscribe() as messages:
        ...         topic.publish(b"hello")
        ...         return await aio.wrap(messages).receive(timeout=10)
        >>> asyncio.run(main())
        b'hello'
    """

    __slots__ = ()

    def __init__(self, handle: Subscription[T]) -> None:
        super().__init__(handle)
        self._readable = Wakeup(handle.fileno)
