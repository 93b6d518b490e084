"""Message queues in an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, Self, final

from ipckit._aio.face import Face, waiters_of
from ipckit._aio.wait_queue import POLLED, Wakeup
from ipckit._core.deadline import checked_timeout
from ipckit._core.public import public
from ipckit._msgq.posix import PosixMessageQueue
from ipckit._msgq.sysv import SysVMessageQueue
from ipckit._payload.types import T
from ipckit.errors import Removed, WouldBlock

if TYPE_CHECKING:
    from ipckit._native import Message

_SEND: Final = "send"
_RECEIVE: Final = "receive"


@public("ipckit.aio")
@final
class PosixQueue(Face[PosixMessageQueue[T]], Generic[T]):
    """A `PosixMessageQueue` in an event loop, which waits on its descriptor.

    Example:
        >>> import asyncio
        >>> from ipckit import PosixMessageQueue, aio
        >>> async def main():
        ...     async with aio.wrap(PosixMessageQueue.create()) as queue:
        ...         await queue.send(b"hello", priority=5)
        ...         return (await queue.receive()).priority
        >>> asyncio.run(main())
        5
    """

    __slots__ = ("_receive", "_receiving", "_send", "_sending", "_take")

    def __init__(self, handle: PosixMessageQueue[T]) -> None:
        super().__init__(handle, waiters_of(handle))
        self._receive = handle.receive
        self._take = handle._take
        self._send = handle.send
        self._receiving = Wakeup(handle.fileno)
        self._sending = Wakeup(handle.fileno, writing=True)

    async def send(self, value: T, priority: int = 0, *, timeout: float | None = None) -> None:
        """Put one message into the queue, as `PosixMessageQueue.send`.

        Args:
            value: the payload.
            priority: 0 to 32767; the highest leaves first.
            timeout: seconds to wait while the queue is full; None (the default) waits for ever, 0
                not at all.

        Raises:
            Timeout: the queue was full until the deadline.
            IpcError: as `PosixMessageQueue.send`.

        See mq_send(3).
        """
        waiters = self._waiters
        if timeout is None and waiters.budget > 0 and not waiters.queues:
            waiters.budget -= 1
            try:
                self._send(value, priority, timeout=0)
            except WouldBlock:
                pass
            else:
                return
        await waiters.call(
            _SEND, lambda: self._send(value, priority, timeout=0), timeout, self._sending
        )

    async def receive(self, *, timeout: float | None = None) -> Message[T]:
        """Take the oldest message of the highest priority, as `PosixMessageQueue.receive`.

        Args:
            timeout: seconds to wait while the queue is empty; None (the default) waits for ever, 0
                not at all.

        Raises:
            Timeout: the queue was empty until the deadline.
            IpcError: as `PosixMessageQueue.receive`.

        See mq_receive(3).
        """
        waiters = self._waiters
        if timeout is None and waiters.budget > 0 and not waiters.queues:
            waiters.budget -= 1
            message = self._take()
            if message is not None:
                return message
        return await waiters.call(
            _RECEIVE, lambda: self._receive(timeout=0), timeout, self._receiving
        )

    def __aiter__(self) -> Self:
        """Receive messages for ever."""
        return self

    async def __anext__(self) -> Message[T]:
        return await self.receive()


@public("ipckit.aio")
@final
class SysVQueue(Face[SysVMessageQueue[T]], Generic[T]):
    """A `SysVMessageQueue` in an event loop.

    The kernel does not report a change of such a queue, so a call that waits polls it, with pauses
    that grow to 20 ms. Awaited calls of the same process wake each other at once.

    Example:
        >>> import asyncio
        >>> from ipckit import SysVMessageQueue, aio
        >>> async def main():
        ...     async with aio.wrap(SysVMessageQueue.create()) as queue:
        ...         await queue.send(b"hello", 3)
        ...         return (await queue.receive(3)).value
        >>> asyncio.run(main())
        b'hello'
    """

    __slots__ = ()

    def __init__(self, handle: SysVMessageQueue[T]) -> None:
        super().__init__(handle, waiters_of(handle))

    async def send(
        self, value: T, mtype: int | None = None, *, timeout: float | None = None
    ) -> None:
        """Put one message at the end of the queue, as `SysVMessageQueue.send`.

        Args:
            value: the payload.
            mtype: the message type; by default 1, or that of the value's class in the queue's
                mapping. A message struct is sent under its own ``mtype``.
            timeout: seconds to wait while the queue is full; None (the default) waits for ever, 0
                not at all.

        Raises:
            Timeout: the queue was full until the deadline.
            Removed: the queue was removed, before the call or during it.
            IpcError: as `SysVMessageQueue.send`.

        See msgop(2).
        """
        waiters, send = self._waiters, self._handle.send
        checked_timeout(timeout)
        if not waiters.queues and waiters.budget > 0:
            waiters.budget -= 1
            try:
                send(value, mtype, timeout=0)
            except WouldBlock:
                if timeout == 0:
                    raise
            else:
                return
        # Each size has its own queue of calls: a small message may fit when a large one does not,
        # and the receiver may need it before it takes more.
        size = memoryview(self._handle._encoded(value, mtype)[0]).nbytes
        await waiters.call((_SEND, size), lambda: send(value, mtype, timeout=0), timeout, POLLED)
        waiters.wake()

    async def receive(
        self,
        select: int | type[Any] = 0,
        *,
        exclude: bool = False,
        truncate: bool = False,
        max_size: int | None = None,
        timeout: float | None = None,
    ) -> Message[T]:
        """Take one message, as `SysVMessageQueue.receive`.

        Calls that wait with the same arguments are served in order.

        Args:
            select: 0 (the default) for the first message; n > 0 for the first of type n; n < 0 for
                the first of the lowest type that is at most abs(n); or a payload class of the
                queue's mapping.
            exclude: with ``select`` n > 0, take the first of any type other than n.
            truncate: cut a message that is longer than `max_size`, and set its `truncated`.
            max_size: the maximum size of the message in bytes; by default that of the queue.
            timeout: seconds to wait for such a message; None (the default) waits for ever, 0 not at
                all.

        Raises:
            Timeout: no such message came before the deadline.
            Removed: the queue was removed, before the call or during it.
            IpcError: as `SysVMessageQueue.receive`.

        See msgop(2).
        """
        waiters, receive = self._waiters, self._handle.receive

        def attempt() -> Message[T]:
            return receive(select, exclude=exclude, truncate=truncate, max_size=max_size, timeout=0)

        what = (_RECEIVE, select, exclude, truncate, max_size)
        message = await waiters.call(what, attempt, timeout, POLLED)
        if waiters.queues:
            waiters.wake()  # there is room
        return message

    def __aiter__(self) -> Self:
        """Receive messages until the queue is removed."""
        return self

    async def __anext__(self) -> Message[T]:
        try:
            return await self.receive()
        except Removed:
            raise StopAsyncIteration from None
