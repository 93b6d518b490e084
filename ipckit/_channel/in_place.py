"""Messages in place: a loan that a sender fills, and a view that a receiver reads."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Self, cast

import ipckit._native as native
from ipckit._core.lazy_numpy import np
from ipckit._core.public import public
from ipckit.errors import ClosedHandle, InvalidArgument

if TYPE_CHECKING:
    from types import TracebackType

    import numpy.typing as npt
    from typing_extensions import Buffer

    from ipckit._channel.layout import Layout


def _over() -> ClosedHandle:
    message = "the message was sent, cancelled or released"
    return ClosedHandle(message, errno=errno.EBADF)


class _InPlace(native.LeaseHolder):
    """The memory of one message."""

    _shape: tuple[int, ...] | None = None  # where it was lent with one

    @property
    def _layout(self) -> Layout:
        return cast("Layout", self._channel._layout)

    @property
    def _memory(self) -> Any:
        lease = self._lease
        if lease is None:
            raise _over()
        return lease

    @property
    def array(self) -> npt.NDArray[Any]:
        """A numpy array over the message itself; each time a new one, over the same memory.

        Raises:
            ClosedHandle: the message was sent, cancelled or released.
        """
        memory, layout = self._memory, self._layout
        shape = self._shape
        if shape is None:
            shape = layout.shape_of(self._nbytes)
        return np.ndarray(shape, layout.dtype.base, buffer=memory)

    @property
    def nbytes(self) -> int:
        """How many bytes the message has.

        Raises:
            ClosedHandle: the message was sent, cancelled or released.
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


@public("ipckit.channel")
class Loan(_InPlace):
    """Room in the channel for one message, to be written in place and then sent.

    ``with channel.loan(nbytes) as slot:`` gives one. Leaving the block without `send` gives the
    room back, and nobody ever sees what was written.
    """

    @property
    def value(self) -> Any:
        """The message as a `Struct` whose fields are written in place.

        Raises:
            TypeError: the channel's type is no Struct; use `array` or `buf`.
            ClosedHandle: it was sent or cancelled.
        """
        if self._layout.struct is None:
            message = "only a Struct can be written in place; use array or buf"
            raise TypeError(message)
        return self._layout.struct.from_buffer(self._memory, 0)

    def write(self, data: Buffer, offset: int = 0) -> None:
        """Copy bytes into the message; what `buf` and `array` do too, but slower.

        Other threads run meanwhile; and on x86-64, 8 MiB and more go past the processor's cache,
        which they would only empty.

        Args:
            data: any bytes-like object in one piece, such as a numpy array.
            offset: in bytes, where in the message.

        Raises:
            InvalidArgument: the message has no room for that.
            TypeError: `data` is not bytes-like, or not in one piece.
            ClosedHandle: it was sent or cancelled, or it is the parent's, in a forked child.
        """
        try:
            written = self._write(data, offset)
        except ValueError as exc:
            message = f"{exc}: the message has no room for that"
            raise InvalidArgument(message, errno=errno.EINVAL, op="write") from None
        if not written:
            raise _over()

    def send(self, *, timeout: float | None = None) -> None:
        """Send what was written, as it lies there.

        Arrays of it that still live could change what was sent; where there are any, a copy is
        sent instead, and their memory goes back to the channel with the last of them.

        Args:
            timeout: seconds to wait, where others filled the channel since it was lent.

        Raises:
            ClosedHandle: it was sent or cancelled before, or the channel is closed.
            IpcError: as `Channel.send`.
        """
        if self._lease is None:  # no name for it: another reference would have it copied
            raise _over()
        self._send(timeout)

    def cancel(self) -> None:
        """Give the room back without sending; idempotent."""
        self._drop()


@public("ipckit.channel")
class View(_InPlace):
    """One message, read where it lies.

    Its memory is the receiver's, and nobody changes it, for as long as the view or an array of it
    lives; the channel has that much less room until then.
    """

    @property
    def value(self) -> Any:
        """The message as the channel's type; a `Struct` reads its fields in place.

        Raises:
            LayoutMismatch: the bytes are no such payload, which the view still has.
            ClosedHandle: it was released.
        """
        return self._layout.decode(self._memory, self._channel._target)

    def release(self) -> None:
        """Give the memory back to the channel, or have it given back with the last array of it."""
        self._drop()

    def __bytes__(self) -> bytes:
        return bytes(self.buf)
