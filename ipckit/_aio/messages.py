"""The bases of the faces of channels, topics and subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeVar

from ipckit._aio.face import Face, H, waiters_of
from ipckit._aio.wait_queue import Unfinished, Wakeup
from ipckit._channel.batches import send_rest
from ipckit._channel.results import attach
from ipckit._core.lazy_numpy import is_array
from ipckit._payload.types import T
from ipckit.errors import PeerGone, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Buffer

    from ipckit._channel.in_place import Loan, View

R = TypeVar("R")

_SEND: Final = "send"
_RECEIVE: Final = "receive"


class MessageFace(Face[H]):
    """A face that waits on the descriptors of its handle, and checks the peers before it does."""

    __slots__ = ("_readable", "_writable")

    _readable: Wakeup
    _writable: Wakeup

    def __init__(self, handle: H) -> None:
        super().__init__(handle, waiters_of(handle))

    def _attempt(self, do: Callable[[], R], *, sending: bool, waits: bool) -> Callable[[], R]:
        """Return an attempt of a call; if the call waits, the attempt also checks the peers."""
        handle: Any = self._handle

        def attempt() -> R:
            try:
                return do()
            except WouldBlock:
                found = not sending and self._has_message()
                if not waits or found or not handle._check_peers(sending=sending):
                    raise
            try:
                return do()  # the peer may have made progress before it died
            except WouldBlock:
                if not sending and self._has_message():
                    raise
                raise handle._peer_gone(sending=sending) from None

        return attempt

    def _has_message(self) -> bool:
        """Return whether a message waits; a `take` of it that failed had no memory for it."""
        handle: Any = self._handle
        return len(handle) > 0


class SendingFace(MessageFace[H]):
    """A face whose handle sends messages."""

    __slots__ = ()

    # Whether a call that waits raises PeerGone if the last receiver is gone.
    _needs_receivers: ClassVar[bool] = True

    async def _send(self, do: Callable[[], R], timeout: float | None, *, parts: bool = False) -> R:
        attempt = self._attempt(do, sending=True, waits=self._needs_receivers and timeout != 0)
        wakeup = self._writable._replace(parts=True) if parts else self._writable
        return await self._waiters.call(_SEND, attempt, timeout, wakeup)

    async def _send_many(self, values: Iterable[Any] | Any, timeout: float | None) -> None:
        """Send messages, and attach their number to an exception that ends the call."""
        given: Any = values if is_array(values) else list(values)
        handle: Any = self._handle
        progress = [0]

        def send_some() -> None:
            before = progress[0]
            try:
                send_rest(handle, given, progress, 0)
            except WouldBlock:
                if progress[0] > before:
                    raise Unfinished from None
                raise

        try:
            await self._send(send_some, timeout, parts=True)
        except BaseException as exc:  # a cancellation too
            attach(exc, "sent", progress[0])
            raise

    async def loan(
        self, shape: int | tuple[int, ...] | None = None, *, timeout: float | None = None
    ) -> Loan:
        """Borrow room for one message in shared memory, as the handle's own `loan`.

        The loan's own `send` blocks the event loop while there is no room, unless its timeout is 0.

        Args:
            shape: the number of elements or the shape of the array; by default that of the type.
            timeout: seconds to wait while there is no room; None (the default) waits for ever, 0
                not at all.

        Raises:
            IpcError: as the handle's own `loan`.
        """
        handle: Any = self._handle
        return await self._send(lambda: handle.loan(shape, timeout=0), timeout)


class ReceivingFace(MessageFace[H], Generic[H, T]):
    """A face whose handle receives messages."""

    __slots__ = ()

    async def _receive(
        self, do: Callable[[], R], timeout: float | None, wakeup: Wakeup | None = None
    ) -> R:
        attempt = self._attempt(do, sending=False, waits=timeout != 0)
        return await self._waiters.call(_RECEIVE, attempt, timeout, wakeup or self._readable)

    async def receive(self, *, timeout: float | None = None) -> T:
        """Receive the next message, as the handle's own `receive`.

        Args:
            timeout: seconds to wait while there is no message; None (the default) waits for ever, 0
                not at all.

        Raises:
            Timeout: no message came until the deadline.
            PeerGone: no message waits, and the last sender has closed its handle or died.
            IpcError: as the handle's own `receive`.
        """
        handle: Any = self._handle
        waiters = self._waiters
        if timeout is None and waiters.budget > 0 and not waiters.queues:
            waiters.budget -= 1
            try:
                found: T = handle.receive(timeout=0)
            except WouldBlock:
                pass
            else:
                return found
        return await self._receive(lambda: handle.receive(timeout=0), timeout)

    async def receive_into(self, buffer: Buffer, /, *, timeout: float | None = None) -> int:
        """Copy the bytes of the next message into a buffer, as the handle's own `receive_into`.

        Args:
            buffer: a writable, contiguous buffer, such as a bytearray or a numpy array.
            timeout: seconds to wait while there is no message; None (the default) waits for ever, 0
                not at all.

        Returns:
            How many bytes the message has.

        Raises:
            MessageTooLong: the buffer is smaller than the message, which is not taken.
            Timeout: no message came until the deadline.
            PeerGone: no message waits, and the last sender has closed its handle or died.
            IpcError: as the handle's own `receive_into`.
        """
        handle: Any = self._handle
        return await self._receive(lambda: handle.receive_into(buffer, timeout=0), timeout)

    async def receive_many(self, max: int | None = None, *, timeout: float | None = None) -> Any:
        """Receive all messages that are there, at least one, as the handle's own `receive_many`.

        Args:
            max: how many at most; None (the default) means all that are there.
            timeout: seconds to wait for the first; None (the default) waits for ever, 0 not at all.

        Raises:
            IpcError: as the handle's own `receive_many`.
        """
        handle: Any = self._handle
        return await self._receive(lambda: handle.receive_many(max, timeout=0), timeout)

    async def receive_view(self, *, timeout: float | None = None) -> View:
        """Receive a view of the next message in shared memory, as the handle's own `receive_view`.

        Args:
            timeout: seconds to wait for a message; None (the default) waits for ever, 0 not at all.

        Raises:
            IpcError: as the handle's own `receive_view`.
        """
        handle: Any = self._handle
        return await self._receive(lambda: handle.receive_view(timeout=0), timeout)

    def __aiter__(self) -> Self:
        """Receive messages until none waits and the last sender has closed its handle or died."""
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except PeerGone:
            raise StopAsyncIteration from None
