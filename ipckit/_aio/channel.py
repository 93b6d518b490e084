"""Channels in an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, Self

from ipckit._aio.face import Face, waiters_of
from ipckit._aio.line import Again, Way
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

    from ipckit._channel.in_place import Loan, View

    R = TypeVar("R")

_SEND: Final = "send"
_RECEIVE: Final = "receive"


@public("ipckit.aio")
class ChannelFace(Face[Channel[T]], Generic[T]):
    """A `Channel` in an event loop, which waits on its descriptors."""

    __slots__ = ("_room", "_some")

    def __init__(self, handle: Channel[T]) -> None:
        super().__init__(handle, waiters_of(handle))
        # The descriptors also become readable when a peer dies.
        self._some = Way(handle.fileno)
        self._room = Way(handle.space_fileno)

    def _attempt(self, do: Callable[[], R], *, sending: bool, patient: bool) -> Callable[[], R]:
        """One try; a call that waits also finds out that there is nobody to wait for."""
        check = self._handle._check_peers

        def attempt() -> R:
            try:
                return do()
            except WouldBlock:
                if not patient or not check(sending=sending):
                    raise
            try:
                return do()  # whoever is gone may have done it just before
            except WouldBlock:
                raise self._handle._peer_gone(sending=sending) from None

        return attempt

    async def _send(self, do: Callable[[], R], timeout: float | None) -> R:
        attempt = self._attempt(do, sending=True, patient=timeout != 0)
        return await self._waiters.call(_SEND, attempt, timeout, self._room)

    async def _receive(self, do: Callable[[], R], timeout: float | None) -> R:
        attempt = self._attempt(do, sending=False, patient=timeout != 0)
        return await self._waiters.call(_RECEIVE, attempt, timeout, self._some)

    async def send(self, value: T, *, timeout: float | None = None) -> None:
        """Send one message, as `Channel.send`.

        Args:
            value: of the payload type.
            timeout: seconds to wait while it is full; 0 does not wait, None waits for ever.

        Raises:
            Timeout: full until the deadline.
            PeerGone: it is full, and the last receiver is gone.
            IpcError: as `Channel.send`.
        """
        waiters = self._waiters
        if timeout is None and waiters.turns > 0 and not waiters.lines:
            waiters.turns -= 1
            try:
                self._handle.send(value, timeout=0)
            except WouldBlock:
                pass
            else:
                return
        await self._send(lambda: self._handle.send(value, timeout=0), timeout)

    async def receive(self, *, timeout: float | None = None) -> T:
        """Take the next message, as `Channel.receive`.

        Args:
            timeout: seconds to wait while it is empty; 0 does not wait, None waits for ever.

        Raises:
            Timeout: empty until the deadline.
            PeerGone: it is empty, and the last sender is gone.
            IpcError: as `Channel.receive`.
        """
        waiters = self._waiters
        if timeout is None and waiters.turns > 0 and not waiters.lines:
            waiters.turns -= 1
            try:
                return self._handle.receive(timeout=0)
            except WouldBlock:
                pass
        return await self._receive(lambda: self._handle.receive(timeout=0), timeout)

    async def send_many(self, values: Iterable[T] | Any, *, timeout: float | None = None) -> None:
        """Send many messages, as `Channel.send_many`.

        One that is cancelled, or whose time is over, may have sent some of them.

        Args:
            values: the messages; or a numpy array, of which each element is one.
            timeout: seconds to wait in all.

        Raises:
            IpcError: as `Channel.send_many`; how many were sent is the exception's ``sent``.
        """
        given: Any = values if is_array(values) else list(values)
        progress = [0]

        def send_some() -> None:
            before = progress[0]
            try:
                send_rest(self._handle, given, progress, 0)
            except WouldBlock:
                if progress[0] > before:
                    raise Again from None
                raise

        try:
            await self._waiters.call(
                _SEND,
                self._attempt(send_some, sending=True, patient=timeout != 0),
                timeout,
                self._room._replace(parts=True),
            )
        except BaseException as exc:  # a cancellation too
            attach(exc, "sent", progress[0])
            raise

    async def receive_many(self, max: int | None = None, *, timeout: float | None = None) -> Any:
        """Take the messages that wait, at least one, as `Channel.receive_many`.

        Args:
            max: how many at most.
            timeout: seconds to wait for the first.

        Raises:
            IpcError: as `Channel.receive_many`.
        """
        return await self._receive(lambda: self._handle.receive_many(max, timeout=0), timeout)

    async def loan(
        self, shape: int | tuple[int, ...] | None = None, *, timeout: float | None = None
    ) -> Loan:
        """Room in the channel for one message, as `Channel.loan`.

        Its own `send` does not wait where nobody else filled the channel meanwhile.

        Args:
            shape: the array's elements or shape.
            timeout: seconds to wait while the channel is full.

        Raises:
            IpcError: as `Channel.loan`.
        """
        return await self._send(lambda: self._handle.loan(shape, timeout=0), timeout)

    async def receive_view(self, *, timeout: float | None = None) -> View:
        """Take the next message and read it where it lies, as `Channel.receive_view`.

        Args:
            timeout: seconds to wait until there is one.

        Raises:
            IpcError: as `Channel.receive_view`.
        """
        return await self._receive(lambda: self._handle.receive_view(timeout=0), timeout)

    def __aiter__(self) -> Self:
        """Take message after message, waiting for each, until the last sender is gone."""
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except PeerGone:
            raise StopAsyncIteration from None
