"""RemoteStream: the iterator over the items of a generator method, in the client."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING, Any, Final, Self, final

from ipckit._channel.channel import Channel
from ipckit._core.public import public
from ipckit._rpc.names import stream_of, target_of
from ipckit._rpc.replies import remote_error
from ipckit._rpc.wire import END, ITEM, RESULT, corrupt, opened
from ipckit.errors import ClosedHandle, Corrupt, PeerGone, RemoteError, Timeout, WouldBlock

if TYPE_CHECKING:
    from types import TracebackType

    from ipckit._channel.in_place import View
    from ipckit._rpc.link import WaitingCall
    from ipckit._rpc.remote_method import RemoteMethod


class Begin(Exception):  # noqa: N818 - not an error
    """The message is the first one of a stream, and contains no item."""


BEGIN: Final = 0xB1  # the first message of a stream: the server has opened the channel
STREAM_CAPACITY: Final = 64
_HEAD: Final = ITEM.size


def open_stream(service: str, token: int, number: int, size: int) -> Channel[bytes]:
    """Create the channel for the items of a call.

    Args:
        service: the name of the service.
        token: the random number that identifies the client.
        number: the number of the call.
        size: bytes of memory for items.

    Raises:
        LimitReached: there is not enough memory.
    """
    return Channel.create(stream_of(service, token, number), capacity=STREAM_CAPACITY, size=size)


@final
@public("ipckit.rpc")
class RemoteStream:
    """An iterator over the items of a generator method.

    `Client.call` returns a stream for a generator method. The generator runs ahead of the iteration
    by at most 64 items, or by the client's `size` of memory. Then it waits. The stream is closed
    when the iteration ends, at the end of a ``with`` block, and when the stream is deleted. Closing
    it closes the generator in the service.

    Example:
        >>> import threading
        >>> from collections.abc import Iterator
        >>> from ipckit.rpc import Client, Service
        >>> with Service.create("doc-count") as service:
        ...     @service.method
        ...     def count(n: int) -> Iterator[int]:
        ...         yield from range(n)
        ...     thread = threading.Thread(target=service.serve)  # usually another process
        ...     thread.start()
        ...     with Client.open("doc-count") as client, client.count(3) as numbers:
        ...         list(numbers)
        ...     service.close()
        ...     thread.join()
        [0, 1, 2]
    """

    def __init__(
        self, service: str, remote: RemoteMethod, call: WaitingCall, timeout: float | None
    ) -> None:
        assert call.stream is not None  # noqa: S101 - for the type checkers
        self._service, self._remote, self._call = service, remote, call
        self.channel, self.timeout = call.stream, timeout
        self._closed = False
        self._turn = threading.RLock()  # reentrant, because a signal handler may take an item too

    @property
    def closed(self) -> bool:
        """Whether the iteration has ended."""
        return self._closed

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Wait for the next item, and return it.

        Raises:
            RemoteError: the generator raised an exception.
            Timeout: there was no item within the timeout of the call.
            PeerGone: the server died.
        """
        # In a forked child, do not wait: a thread of the parent may have held `_turn`.
        if self._call.link.left:
            return self._next()
        limit = -1 if self.timeout is None else min(self.timeout, threading.TIMEOUT_MAX)
        if not self._turn.acquire(timeout=limit):
            raise self.too_late()
        # Only one thread at a time: another one could see that the server has left while this one
        # processes the end of the stream.
        try:
            return self._next()
        finally:
            self._turn.release()

    def _next(self) -> Any:
        """Return the next item; see `__next__`."""
        while not self._closed:
            try:
                return self.item_in(self.channel.receive_view(timeout=self.timeout))
            except Begin:
                continue
            except PeerGone:
                self.close()
                raise self.gone() from None
            except (Timeout, WouldBlock):
                raise self.too_late() from None
            except ClosedHandle:
                if not self._closed:  # otherwise another thread has closed the stream
                    raise
            except (StopIteration, RemoteError, Corrupt):
                self.close()
                raise
        raise StopIteration

    def item_in(self, view: View) -> Any:
        """Return the item in a message.

        Raises:
            StopIteration: the message is the end of the stream.
            RemoteError: the message contains an exception of the generator.
            Begin: the message is the first one, without an item.
            Corrupt: the message is invalid.
        """
        try:
            message = view.buf
            if message.nbytes < _HEAD:
                raise corrupt(self._service)
            kind, flags = ITEM.unpack_from(message)
            if kind == BEGIN:
                raise Begin
            body, parts = opened(message, flags, _HEAD, self._service)
            if kind == RESULT:
                return self._remote.decode(body, parts)
            if kind == END:
                raise StopIteration
            raise remote_error(self._service, self._remote.name, kind, body)
        finally:
            view.release()

    def gone(self) -> PeerGone:
        """Return the error for a server that died during the stream."""
        message = "the service died while it sent items"
        op = f"call {self._remote.name}"
        return PeerGone(message, errno=errno.EPIPE, op=op, target=target_of(self._service))

    def too_late(self) -> Timeout:
        """Return the error for an item that did not arrive within the timeout."""
        message = f"no item within {self.timeout:g} s"
        op = f"call {self._remote.name}"
        return Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target_of(self._service))

    def close(self) -> None:
        """End the stream, and close the generator in the service; idempotent, never raises."""
        if self._closed:
            return
        self._closed = True
        if self._call.link.left:  # a forked child: the stream belongs to the parent
            self.channel.close()
            return
        self._call.link.end(self._call)
        self._call.close_stream()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<RemoteStream of {target_of(self._service)}.{self._remote.name}, {state}>"
