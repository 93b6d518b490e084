"""Channels in an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, final

from ipckit._aio.messages import ReceivingFace, SendingFace
from ipckit._aio.wait_queue import Wakeup
from ipckit._channel.channel import Channel
from ipckit._core.public import public
from ipckit._payload.types import T
from ipckit.errors import WouldBlock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipckit._channel.in_place import Delivery


@public("ipckit.aio")
@final
class ChannelFace(ReceivingFace[Channel[T], T], SendingFace[Channel[T]], Generic[T]):
    """A `Channel` in an event loop, which waits on its descriptors.

    Example:
        >>> import asyncio
        >>> from ipckit import Channel, aio
        >>> async def main():
        ...     async with aio.wrap(Channel.create()) as channel:
        ...         await channel.send(b"hello")
        ...         return await channel.receive()
        >>> asyncio.run(main())
        b'hello'
    """

    __slots__ = ("_takeable",)

    def __init__(self, handle: Channel[T]) -> None:
        super().__init__(handle)
        # Both descriptors also become readable when a peer dies.
        self._readable = Wakeup(handle.fileno)
        self._takeable = self._readable._replace(misleads=self._has_message)
        self._writable = Wakeup(handle.space_fileno)

    async def send(self, value: T, *, timeout: float | None = None) -> None:
        """Send one message, as `Channel.send`.

        Args:
            value: the message, of the payload type.
            timeout: seconds to wait while the channel is full; None (the default) waits for ever, 0
                not at all.

        Raises:
            Timeout: the channel was full until the deadline.
            PeerGone: the channel is full, and the last receiver has closed it or died.
            IpcError: as `Channel.send`.
        """
        waiters = self._waiters
        if timeout is None and waiters.budget > 0 and not waiters.queues:
            waiters.budget -= 1
            try:
                self._handle.send(value, timeout=0)
            except WouldBlock:
                pass
            else:
                return
        await self._send(lambda: self._handle.send(value, timeout=0), timeout)

    async def send_many(self, values: Iterable[T] | Any, *, timeout: float | None = None) -> None:
        """Send many messages, as `Channel.send_many`.

        A call that is cancelled, or whose deadline passes, may have sent some of them.

        Args:
            values: the messages; or a numpy array with a message in each element.
            timeout: seconds for all of them; None (the default) waits for ever, 0 not at all.

        Raises:
            IpcError: as `Channel.send_many`; the exception's ``sent`` says how many were sent.
        """
        await self._send_many(values, timeout)

    async def take(self, timeout: float | None = None) -> Delivery:
        """Take the next message, and acknowledge it later, as `Channel.take`.

        A call that is cancelled takes nothing. `Delivery.ack` and `Delivery.requeue` do not wait,
        so they need no ``await``, and a delivery is used with ``with``, not ``async with``.

        Args:
            timeout: seconds to wait for a message, and for memory to take it; None (the default)
                waits for ever, 0 not at all.

        Raises:
            Timeout: no message came, or there was no memory to take it, until the deadline.
            PeerGone: the channel is empty, the last sender is gone, and no other process has taken
                a message that it could give back.
            IpcError: as `Channel.take`.
        """
        return await self._receive(lambda: self._handle.take(timeout=0), timeout, self._takeable)
