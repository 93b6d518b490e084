"""Messages in the channel's memory: `Loan` to write, `View` to read, `Delivery` to acknowledge."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Self, cast, final

import ipckit._native as native
from ipckit._core.lazy_numpy import np
from ipckit._core.public import public
from ipckit.errors import ClosedHandle, InvalidArgument

if TYPE_CHECKING:
    from types import TracebackType

    import numpy.typing as npt
    from typing_extensions import Buffer

    from ipckit._channel.layout import Layout


class _InPlace(native.LeaseHolder):
    """A message in the channel's memory."""

    _shape: tuple[int, ...] | None = None  # the shape that the caller of `loan` asked for

    @property
    def _layout(self) -> Layout:
        return cast("Layout", self._channel._layout)

    @property
    def _memory(self) -> Any:
        lease = self._lease
        if lease is None:
            raise _ended()
        return lease

    @property
    def array(self) -> npt.NDArray[Any]:
        """A numpy array over the message. Each access creates another array over the same memory.

        Raises:
            ClosedHandle: the message was sent, cancelled, released, acknowledged or given back.
        """
        memory, layout = self._memory, self._layout
        shape = self._shape
        if shape is None:
            shape = layout.shape_of(self._nbytes)
        return np.ndarray(shape, layout.dtype.base, buffer=memory)

    @property
    def nbytes(self) -> int:
        """The bytes of the message.

        Raises:
            ClosedHandle: the message was sent, cancelled, released, acknowledged or given back.
        """
        _ = self._memory
        return self._nbytes

    def __len__(self) -> int:
        return self.nbytes

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._drop()


@final
@public("ipckit.channel")
class Loan(_InPlace):
    """Memory in the channel for one message: write the message, then call `send`.

    `Channel.loan` returns a loan. If its ``with`` block ends without `send`, the loan is cancelled:
    the memory is freed, and no receiver sees what was written. Loans can be sent in any order. A
    loan of at most 4 KiB is private memory, and `send` copies it.

    >>> from ipckit import Channel
    >>> with Channel.anonymous() as channel:
    ...     with channel.loan(5) as slot:
    ...         slot.buf[:] = b"hello"
    ...         slot.send()
    ...     print(channel.receive())
    b'hello'
    """

    @property
    def value(self) -> Any:
        """The message as a `Struct`. Setting a field writes to the message.

        Raises:
            TypeError: the channel's type is not a Struct; use `array` or `buf`.
            ClosedHandle: the loan was sent or cancelled.
        """
        if self._layout.struct is None:
            message = "only a Struct can be written in place; use array or buf"
            raise TypeError(message)
        return self._layout.struct.from_buffer(self._memory, 0)

    def write(self, data: Buffer, offset: int = 0) -> None:
        """Copy bytes into the message, faster than by `buf` or `array`.

        Other threads run during a large copy. On x86-64, a copy of 8 MiB or more bypasses the
        processor's cache, which it would only evict.

        Args:
            data: a bytes-like object whose bytes are contiguous, such as a numpy array.
            offset: where the bytes go: bytes from the beginning of the message.

        Raises:
            InvalidArgument: the message has no room for the bytes.
            TypeError: `data` is not bytes-like, or not contiguous.
            ClosedHandle: the loan was sent or cancelled, or this process is a forked child and the
                loan belongs to its parent.
        """
        try:
            written = self._write(data, offset)
        except ValueError as exc:
            raise InvalidArgument(str(exc), errno=errno.EINVAL, op="write") from None
        if not written:
            raise _ended()

    def send(self, nbytes: int | None = None, *, timeout: float | None = None) -> None:
        """Send the message without copying it.

        A message that is short enough to lie among the others is copied. If an array of the loan
        still exists, it could change the message afterwards. Then `send` sends a copy instead, and
        the loan's memory is freed with the last array.

        Args:
            nbytes: the bytes to send, from the beginning of the message: for a message that turned
                out shorter than the loan. A multiple of the dtype's element. None sends all.
            timeout: seconds to wait. The loan has its memory already, but the channel can have
                reached its capacity since. None waits without limit, 0 does not wait.

        Raises:
            InvalidArgument: `nbytes` is negative, greater than the loan, not a multiple of the
                dtype's element, or not the size of each message if all messages have one size.
            ClosedHandle: the loan was sent or cancelled, or the channel is closed.
            IpcError: as for `Channel.send`.
        """
        if nbytes is not None:
            nbytes = self._layout.bytes_to_send(nbytes, self.nbytes)
        # Not through a local variable: another reference to the lease looks like an array of it.
        if self._lease is None:
            raise _ended()
        self._send(nbytes, timeout)

    def cancel(self) -> None:
        """Free the memory without sending the message; idempotent."""
        self._drop()


@final
@public("ipckit.channel")
class View(_InPlace):
    """A received message, read in the channel's memory without a copy.

    `Channel.receive_view` returns a view. The memory does not change and is not reused as long as
    the view or an array of it exists. The channel has that much less room until then. Views can be
    released in any order. A view of at most 4 KiB is a copy, and takes no room in the channel.

    >>> from ipckit import Channel
    >>> with Channel.anonymous() as channel:
    ...     channel.send(b"hello")
    ...     with channel.receive_view() as view:
    ...         print(view.nbytes, view.buf[0], bytes(view))
    5 104 b'hello'
    """

    @property
    def value(self) -> Any:
        """The message as a value of the channel's type. A `Struct` reads its fields in place.

        Raises:
            LayoutMismatch: the codec can't decode the message, which stays in the view.
            ClosedHandle: the view was released.
        """
        return self._layout.decode(self._memory, self._channel._target)

    def release(self) -> None:
        """Free the memory as soon as no array of it exists; idempotent."""
        self._drop()

    def __bytes__(self) -> bytes:
        return bytes(self.buf)


@final
@public("ipckit.channel")
class Delivery(_InPlace):
    """A message that was taken and is not acknowledged yet.

    `Channel.take` returns a delivery. Acknowledge the message with `ack` when the work is done, or
    give it back with `requeue`. As a context manager, a delivery does the first at the end of the
    block, and the second after an exception.

    If the process dies before it acknowledges the message, another receiver gets it, before all
    messages that were not taken yet. So a message is processed at least once, and more than once if
    a process dies between the work and `ack`. A delivery that is dropped without either call is
    given back too.

    >>> from ipckit import Channel
    >>> with Channel.anonymous(str) as channel:
    ...     channel.send("job 1")
    ...     with channel.take() as delivery:
    ...         print(delivery.value, delivery.redelivered)
    job 1 0
    """

    @property
    def value(self) -> Any:
        """The message as a value of the channel's type. A `Struct` reads its fields in place.

        Raises:
            LayoutMismatch: the codec can't decode the message, which stays in the delivery.
            ClosedHandle: the message was acknowledged or given back.
        """
        return self._layout.decode(self._memory, self._channel._target)

    @property
    def redelivered(self) -> int:
        """How often the message was taken before and not acknowledged.

        A message that crashes each process that takes it has a growing number.

        Raises:
            ClosedHandle: the message was acknowledged or given back, or this process is a forked
                child and its parent took the message.
        """
        if (found := self._redelivered) is None:
            raise self._not_taken("redelivered")
        return found

    @property
    def number(self) -> int:
        """The number of the message: the same each time that the message is delivered.

        Messages have increasing numbers in the order in which they were taken for the first time.
        No two messages of a channel have the same number. So a program that records the numbers
        of its finished messages can tell that it has processed one before.

        Raises:
            ClosedHandle: as for `redelivered`.
        """
        if (found := self._number) is None:
            raise self._not_taken("number")
        return found

    def ack(self) -> None:
        """Acknowledge the message: it is not delivered again.

        Its memory is free for other messages when no array of it exists any more.

        Raises:
            ClosedHandle: the message was acknowledged or given back before, or this process is a
                forked child and its parent took the message.
        """
        if not self._acknowledge():
            raise self._not_taken("ack")

    def requeue(self) -> None:
        """Give the message back: it is received again, before those that were not taken yet.

        If an array of the message exists, the message is given back with the last one, because the
        array must not change.

        Raises:
            ClosedHandle: the message was acknowledged or given back before, or this process is a
                forked child and its parent took the message.
        """
        if self._redelivered is None:
            raise self._not_taken("requeue")
        self._drop()

    def _not_taken(self, op: str) -> ClosedHandle:
        """Return the exception for a call after the message was acknowledged or given back."""
        message = "the message was acknowledged or given back before"
        hint = ""
        if self._lease is not None:
            message = "another process has taken the message"
            hint = "a forked child can read its parent's deliveries, but not acknowledge them"
        target = self._channel._target
        return ClosedHandle(message, errno=errno.EBADF, op=op, target=target, hint=hint)

    def __repr__(self) -> str:
        state = "acknowledged or given back"
        if self._lease is not None:
            count = self._redelivered
            state = f"{self._nbytes:,} bytes, "
            state += "taken by another process" if count is None else f"redelivered {count}"
        return f"<Delivery of {self._channel._target}, {state}>"

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None and self._lease is not None:
            self.ack()
        self._drop()

    def __bytes__(self) -> bytes:
        return bytes(self.buf)


def _ended() -> ClosedHandle:
    message = "the message was sent, cancelled, released, acknowledged or given back"
    return ClosedHandle(message, errno=errno.EBADF)
