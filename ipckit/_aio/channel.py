"""Channels in an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, Self, final

from ipckit._aio.face import Face, waiters_of
from ipckit._aio.wait_queue import Unfinished, Wakeup
from ipckit._channel.batches import send_rest
from ipckit._channel.channel import Channel
from ipckit._channel.results import attach
from ipckit._core.lazy_numpy import is_array
from ipckit._core.public import public
from ipckit._payload.types import T
from ipckit.errors import PeerGone, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from typing_extensions import Buffer

    from ipckit._channel.in_place import Delivery, Loan, View

    R = TypeVar("R")

_SEND: Final = "send"
_RECEIVE: Final = "receive"


@public("ipckit.aio")
@final
class ChannelFace(Face[Channel[T]], Generic[T]):
    """A `Channel` in an event loop, which waits on its descriptors."""

    __slots__ = ("_readable", "_takeable", "_writable")

    def __init__(self, handle: Channel[T]) -> None:
        super().__init__(handle, waiters_of(handle))
        # Both descriptors also become readable when a peer dies.
        self._readable = Wakeup(handle.fileno)
        self._takeable = self._readable._replace(misleads=self._lacks_memory)
        self._writable = Wakeup(handle.space_fileno)

    def _attempt(self, do: Callable[[], R], *, sending: bool, waits: bool) -> Callable[[], R]:
        """Return an attempt of a call; if the call waits, the attempt also checks the peers."""
        check = self._handle._check_peers

        def attempt() -> R:
            try:
                return do()
            except WouldBlock:
                lacks_memory = not sending and self._lacks_memory()
                if not waits or lacks_memory or not check(sending=sending):
                    raise
            try:
                return do()  # the peer may have made progress before it died
            except WouldBlock:
                if not sending and self._lacks_memory():
                    raise
                raise self._handle._peer_gone(sending=sending) from None

        return attempt

    def _lacks_memory(self) -> bool:
        """Return whether a message waits; then a `take` that failed had no memory for it."""
        return len(self._handle) > 0

    async def _send(self, do: Callable[[], R], timeout: float | None) -> R:
        attempt = self._attempt(do, sending=True, waits=timeout != 0)
        return await self._waiters.call(_SEND, attempt, timeout, self._writable)

    async def _receive(self, do: Callable[[], R], timeout: float | None) -> R:
        attempt = self._attempt(do, sending=False, waits=timeout != 0)
        return await self._waiters.call(_RECEIVE, attempt, timeout, self._readable)

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

    async def receive(self, *, timeout: float | None = None) -> T:
        """Receive the next message, as `Channel.receive`.

        Args:
            timeout: seconds to wait while the channel is empty; None (the default) waits for ever,
                0 not at all.

        Raises:
            Timeout: the channel was empty until the deadline.
            PeerGone: the channel is empty, and the last sender has closed it or died.
            IpcError: as `Channel.receive`.
        """
        waiters = self._waiters
        if timeout is None and waiters.budget > 0 and not waiters.queues:
            waiters.budget -= 1
            try:
                return self._handle.receive(timeout=0)
            except WouldBlock:
                pass
        return await self._receive(lambda: self._handle.receive(timeout=0), timeout)

    async def receive_into(self, buffer: Buffer, /, *, timeout: float | None = None) -> int:
        """Copy the bytes of the next message into a buffer, as `Channel.receive_into`.

        Args:
            buffer: a writable, contiguous buffer, such as a bytearray or a numpy array.
            timeout: seconds to wait while the channel is empty; None (the default) waits for ever,
                0 not at all.

        Returns:
            How many bytes the message has.

        Raises:
            MessageTooLong: the buffer is smaller than the message, which stays in the channel.
            Timeout: the channel was empty until the deadline.
            PeerGone: the channel is empty, and the last sender has closed it or died.
            IpcError: as `Channel.receive_into`.
        """
        return await self._receive(lambda: self._handle.receive_into(buffer, timeout=0), timeout)

    async def send_many(self, values: Iterable[T] | Any, *, timeout: float | None = None) -> None:
        """Send many messages, as `Channel.send_many`.

        A call that is cancelled, or whose deadline passes, may have sent some of them.

        Args:
            values: the messages; or a numpy array with a message in each element.
            timeout: seconds for all of them; None (the default) waits for ever, 0 not at all.

        Raises:
            IpcError: as `Channel.send_many`; the exception's ``sent`` says how many were sent.
        """
        given: Any = values if is_array(values) else list(values)
        progress = [0]

        def send_some() -> None:
            before = progress[0]
            try:
                send_rest(self._handle, given, progress, 0)
            except WouldBlock:
                if progress[0] > before:
                    raise Unfinished from None
                raise

        try:
            await self._waiters.call(
                _SEND,
                self._attempt(send_some, sending=True, waits=timeout != 0),
                timeout,
                self._writable._replace(parts=True),
            )
        except BaseException as exc:  # a cancellation too
            attach(exc, "sent", progress[0])
            raise

    async def receive_many(self, max: int | None = None, *, timeout: float | None = None) -> Any:
        """Receive all messages that are there, at least one, as `Channel.receive_many`.

        Args:
            max: how many at most; None (the default) means all that are there.
            timeout: seconds to wait for the first; None (the default) waits for ever, 0 not at all.

        Raises:
            IpcError: as `Channel.receive_many`.
        """
        return await self._receive(lambda: self._handle.receive_many(max, timeout=0), timeout)

    async def loan(
        self, shape: int | tuple[int, ...] | None = None, *, timeout: float | None = None
    ) -> Loan:
        """Borrow room for one message in the channel's memory, as `Channel.loan`.

        The loan's own `send` blocks the event loop while the channel is full, unless its timeout is
        0.

        Args:
            shape: the number of elements or the shape of the array; by default that of the channel.
            timeout: seconds to wait while the channel is full; None (the default) waits for ever, 0
                not at all.

        Raises:
            IpcError: as `Channel.loan`.
        """
        return await self._send(lambda: self._handle.loan(shape, timeout=0), timeout)

    async def receive_view(self, *, timeout: float | None = None) -> View:
        """Receive a view of the next message in the channel's memory, as `Channel.receive_view`.

        Args:
            timeout: seconds to wait for a message; None (the default) waits for ever, 0 not at all.

        Raises:
            IpcError: as `Channel.receive_view`.
        """
        return await self._receive(lambda: self._handle.receive_view(timeout=0), timeout)

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
        attempt = self._attempt(
            lambda: self._handle.take(timeout=0), sending=False, waits=timeout != 0
        )
        return await self._waiters.call(_RECEIVE, attempt, timeout, self._takeable)

    def __aiter__(self) -> Self:
        """Receive messages until the last sender has closed the channel or died."""
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except PeerGone:
            raise StopAsyncIteration from None
