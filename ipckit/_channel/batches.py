"""Many messages in one call: `send_many`, `publish_many` and `receive_many`."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import ipckit._native as native
from ipckit._channel.results import attach
from ipckit._core.arguments import int_argument
from ipckit._core.deadline import Deadline, checked_timeout
from ipckit._core.lazy_numpy import is_array, np
from ipckit._payload.dtypes import check_array, dtype_text, same_dtype
from ipckit.errors import InvalidArgument, LayoutMismatch, PeerGone, WouldBlock

if TYPE_CHECKING:
    import numpy.typing as npt

    from ipckit._channel.layout import Layout
    from ipckit.errors import IpcError

# Records of at most this many bytes lie in the ring, and are copied under the channel's lock, many
# at a time. Larger ones lie in blocks: each is sent and received on its own.
_COPIED_BYTES_MAX: Final = native.INLINE_MAX
_UNKNOWN_COUNT: Final = 256  # records to make room for while none has arrived


class _Batching(Protocol):
    @property
    def _layout(self) -> Layout: ...
    def _explain_ring(self, result: int, op: str, timeout: float | None) -> IpcError: ...


class BatchSender(_Batching, Protocol):
    """What a batch that is sent uses of a `Channel` or `Topic`.

    Importing those classes here would be an import cycle.
    """

    def _send_one(self, value: Any, timeout: float | None, progress: list[int], /) -> None: ...
    def _send_batch(
        self, records: memoryview, item: int, timeout: float | None, progress: list[int], /
    ) -> int: ...


class BatchReceiver(_Batching, Protocol):
    """What a batch that is received uses of a `Channel` or `Subscription`."""

    def __len__(self) -> int: ...
    def receive(self, *, timeout: float | None = None) -> Any:
        """Take the next message."""

    def receive_view(self, *, timeout: float | None = None) -> Any:
        """Take the next message in place."""

    def _receive_to(self, found: list[Any], timeout: float | None, /) -> None: ...
    def _receive_batch(
        self, records: memoryview, item: int, timeout: float | None, progress: list[int], /
    ) -> int: ...


def send_all(sender: BatchSender, values: Any, timeout: float | None) -> None:
    """Send many messages. Attach their number to an exception that ends the call.

    Args:
        sender: the channel or topic.
        values: the messages: an iterable, or an array of records.
        timeout: seconds to wait in all.
    """
    progress = [0]
    try:
        send_rest(sender, values, progress, timeout)
    except BaseException as exc:
        attach(exc, "sent", progress[0])
        raise


def send_rest(sender: BatchSender, values: Any, progress: list[int], timeout: float | None) -> None:
    """Send the values that follow the first ``progress[0]``.

    Args:
        sender: the channel or topic.
        values: the messages: an iterable, or an array of records. A sequence if ``progress[0]`` is
            not 0.
        progress: a list of one number, which grows with each message that is sent. The native calls
            count, because a signal handler can raise between a call and the next line of Python.
        timeout: seconds to wait in all.
    """
    start = progress[0]
    layout = sender._layout
    if is_array(values) and layout.has_dtype:
        records = _checked_records(layout, cast("npt.NDArray[Any]", values))[start:]
        if layout.dtype.itemsize <= _COPIED_BYTES_MAX:
            _send_records(sender, records, progress, timeout)
            return
        values = map(layout.record, records)
    elif start:
        values = values[start:]
    deadline = Deadline(timeout)
    for value in values:
        try:
            sender._send_one(value, deadline.remaining, progress)
        except WouldBlock:  # the deadline passed between two messages
            if not timeout:
                raise
            verb = f"{sender._layout.kind.verb}_many"
            raise sender._explain_ring(native.RING_TIMEOUT, verb, timeout) from None


def _checked_records(layout: Layout, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array whose elements are messages, contiguous in memory.

    Raises:
        TypeError: the array's dtype or shape is not that of messages.
    """
    check_array(values)
    dtype = layout.dtype
    wrong_shape = not values.ndim or values.shape[1:] != dtype.shape
    if wrong_shape or not same_dtype(values.dtype, dtype.base):
        given = f"dtype {dtype_text(values.dtype)} and shape {values.shape}"
        message = (
            f"the elements of an array of {given} are not messages of this {layout.kind.word}, "
        )
        message += f"which are {layout.text}"
        raise TypeError(message)
    return np.ascontiguousarray(values)


def _send_records(
    sender: BatchSender, records: npt.NDArray[Any], progress: list[int], timeout: float | None
) -> None:
    if not records.size:
        return
    item = sender._layout.dtype.itemsize
    data = records.reshape(-1).view(np.uint8).data
    result = sender._send_batch(data, item, timeout, progress)
    if result != native.RING_OK:
        raise sender._explain_ring(result, f"{sender._layout.kind.verb}_many", timeout)


def receive_many(receiver: BatchReceiver, limit: int | None, timeout: float | None) -> Any:
    """Receive all messages that wait; at least one, and `limit` at most.

    Args:
        receiver: the channel or subscription.
        limit: the argument `max` of the method.
        timeout: seconds to wait for the first message.

    Raises:
        TypeError: `limit` is not an integer.
        InvalidArgument: `limit` is less than 1.
    """
    if limit is not None:
        limit = int_argument("max", limit)
    if limit is not None and limit < 1:
        message = f"max must be 1 or more, not {limit}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="receive_many")
    checked_timeout(timeout)  # also if the call does not wait
    if receiver._layout.has_dtype:
        return _receive_records(receiver, limit, timeout)
    return _receive_list(receiver, limit, timeout)


def _receive_list(receiver: BatchReceiver, limit: int | None, timeout: float | None) -> list[Any]:
    """Receive messages of a type that has no dtype, one by one."""
    found: list[Any] = []
    try:
        receiver._receive_to(found, timeout)
        # Only the messages that wait now. Otherwise a busy sender could keep the call from ending.
        waiting = len(receiver) + 1
        with suppress(WouldBlock, PeerGone):  # the next call raises it if it is still so
            while len(found) < (waiting if limit is None else min(limit, waiting)):
                receiver._receive_to(found, 0)
    except BaseException as exc:
        _attach_received(exc, tuple(found))
        raise
    return found


def _receive_records(
    receiver: BatchReceiver, limit: int | None, timeout: float | None
) -> npt.NDArray[Any]:
    """Receive records as an array: small ones in one native call, large ones one by one."""
    layout = receiver._layout
    if layout.dtype.itemsize > _COPIED_BYTES_MAX:
        return _receive_large_records(receiver, limit, timeout)
    deadline = Deadline(timeout)
    dtype = layout.dtype
    waiting = len(receiver) or _UNKNOWN_COUNT
    room = waiting if limit is None else min(waiting, limit)
    records = np.empty(room, dtype)
    data = records.reshape(-1).view(np.uint8).data
    progress = [0]
    try:
        while True:
            result = receiver._receive_batch(data, dtype.itemsize, deadline.remaining, progress)
            if received := progress[0]:
                found = records[:received]
                # A few records do not keep the memory of many.
                return found if 2 * received >= room else found.copy()
            if result != native.RING_TOO_LONG or layout.struct is not None:
                raise receiver._explain_ring(result, "receive_many", timeout)  # noqa: TRY301
            # The next message was sent as an array of several records: it is returned alone.
            with suppress(WouldBlock):  # another receiver took it
                return cast("npt.NDArray[Any]", receiver.receive(timeout=0))
    except BaseException as exc:
        _attach_received(exc, records[: progress[0]])
        raise


def _receive_large_records(
    receiver: BatchReceiver, limit: int | None, timeout: float | None
) -> npt.NDArray[Any]:
    """Receive records in place, each in its block."""
    dtype = receiver._layout.dtype
    # The memory comes before the first message is taken. If there is none, the message stays.
    waiting = len(receiver)
    records = _empty_records(min(waiting or 1, limit or waiting or 1), dtype)
    view = receiver.receive_view(timeout=timeout)
    held = True
    taken = before = 0
    try:
        with suppress(WouldBlock, PeerGone):
            while True:
                found = view.array
                if not dtype.shape and len(found) != 1:
                    records = np.concatenate([records[:taken], found])
                    taken = len(records)
                else:
                    records[taken] = found if dtype.shape else found[0]
                    taken += 1
                alone = len(found) != 1 and not dtype.shape
                del found
                view.release()
                held = False
                if taken == len(records) and not waiting and not alone:
                    waiting = taken + len(receiver)  # those that arrived while this call waited
                    records = _extended(records, waiting if limit is None else min(waiting, limit))
                if taken == len(records) or alone:
                    break
                before = taken
                view = receiver.receive_view(timeout=0)
                held = True
    except BaseException as exc:
        if held and taken == before:
            attach(exc, "raw", view.buf)  # in place: there may be no memory for a copy
        _attach_received(exc, records[:taken])
        raise
    return records[:taken]


def _empty_records(count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return memory for `count` records; for one record if there is no memory for all of them."""
    try:
        return np.empty(count, dtype)
    except MemoryError:
        return np.empty(1, dtype)


def _extended(records: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """Return the records in an array of `count`; unchanged if there is no memory for that many."""
    try:
        larger = np.empty((count, *records.shape[1:]), records.dtype)
    except MemoryError:
        return records
    larger[: len(records)] = records
    return larger


def _attach_received(exc: BaseException, received: Any) -> None:
    """Attach what the call had received to the exception that ended it.

    An exception before the first message gets nothing, except a LayoutMismatch, which always has
    the attribute.
    """
    if len(received) or isinstance(exc, LayoutMismatch):
        attach(exc, "received", received)
