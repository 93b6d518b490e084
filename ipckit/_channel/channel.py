"""Channel: a bounded queue in shared memory."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

import ipckit._native as native
from ipckit._channel.channel_object import ChannelObject
from ipckit._channel.facts import ChannelStats, peer_of
from ipckit._channel.in_place import Loan, View
from ipckit._channel.results import attach
from ipckit._core.arguments import int_argument
from ipckit._core.deadline import Deadline
from ipckit._core.lazy_numpy import is_array, np
from ipckit._core.public import public
from ipckit._payload.dtypes import check_array, same_dtype
from ipckit._payload.types import T
from ipckit.errors import InvalidArgument, LayoutMismatch, PeerGone, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt
    from typing_extensions import Buffer

    from ipckit._channel.facts import ChannelPeer
    from ipckit.errors import IpcError

_BATCH: Final = 256  # records that a receiver makes room for before it knows how many come
_BATCH_ITEM: Final = 16384  # bytes; larger records are taken in place, one by one


def _keep(exc: BaseException, received: Any) -> None:
    """Give an exception what a call had received before it; a Timeout says nothing of that."""
    if len(received) or isinstance(exc, LayoutMismatch):
        attach(exc, "received", received)


def _rows(count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Room for so many records; for one, where there is no memory for all."""
    try:
        return np.empty(count, dtype)
    except MemoryError:
        return np.empty(1, dtype)


def _grown(records: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """The records with room for more, or as they are if there is no memory for that."""
    try:
        larger = np.empty((count, *records.shape[1:]), records.dtype)
    except MemoryError:
        return records
    larger[: len(records)] = records
    return larger


@public("ipckit.channel")
class Channel(ChannelObject[T]):
    """A bounded queue in shared memory: many senders, many receivers, each message to one of them.

    Make one with `create`, `open`, `open_or_create`, `anonymous` or `from_fd`. Messages come out in
    the order in which they were sent. No system call is made unless somebody sleeps. Whoever is
    killed, at whatever moment, the channel goes on working for the others: a message is there
    whole, or not at all, and none comes twice.

    A named channel is the file ``ipckit.NAME`` under /dev/shm. Who may write to it can do to the
    messages whatever they like, but not crash who reads them, unless they cut the file short: what
    makes no sense is `Corrupt`.
    """

    _factories = "Channel.create, open, open_or_create, anonymous or from_fd"

    _passed_as = "Channel"

    if TYPE_CHECKING:

        def send(self, value: T, *, timeout: float | None = None) -> None:
            """Send one message, waiting while the channel is full; see `native.ChannelBase`."""

        def receive(self, *, timeout: float | None = None) -> T:
            """Take the next message, waiting until there is one; see `native.ChannelBase`."""
            ...

        def loan(
            self, shape: int | tuple[int, ...] | None = None, *, timeout: float | None = None
        ) -> Loan:
            """Room for one message, to be written in place; see `native.ChannelBase`."""
            ...

        def receive_view(self, *, timeout: float | None = None) -> View:
            """Take the next message and read it where it lies; see `native.ChannelBase`."""
            ...

    def send_many(
        self, values: Iterable[T] | npt.NDArray[Any], *, timeout: float | None = None
    ) -> None:
        """Send many messages, in order; others' may come in between.

        An array of records, for a channel of a Struct or of a dtype, is one call and one copy.

        Args:
            values: the messages; or a numpy array of the Struct's dtype or the channel's, of which
                each element is one.
            timeout: seconds to wait in all.

        Raises:
            IpcError: as `send`.
            TypeError: a value is not of the payload type; none after it was sent.

        How many were sent before is the ``sent`` of whatever exception ends the call, also of
        KeyboardInterrupt and of what a signal handler raises.
        """
        progress = [0]
        try:
            self._send_rest(values, progress, timeout)
        except BaseException as exc:
            attach(exc, "sent", progress[0])
            raise

    def _send_rest(self, values: Any, progress: list[int], timeout: float | None) -> None:
        """Send the values after the first ``progress[0]``, which grows with each that is sent.

        The native calls count: between one of them and the next line of Python a signal handler
        may raise.
        """
        start = progress[0]
        if is_array(values) and self._layout.has_dtype:
            rows = self._records(cast("npt.NDArray[Any]", values))[start:]
            if self._layout.dtype.itemsize <= _BATCH_ITEM:
                self._send_records(rows, progress, timeout)
                return
            values = map(self._layout.record, rows)
        elif start:
            values = values[start:]
        deadline = Deadline(timeout)
        for value in values:
            self._send_one(value, deadline.remaining, progress)

    def _records(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array whose elements are messages, contiguous."""
        check_array(values)
        dtype = self._layout.dtype
        wrong_shape = not values.ndim or values.shape[1:] != dtype.shape
        if wrong_shape or not same_dtype(values.dtype, dtype.base):
            message = f"an array of {values.dtype} of shape {values.shape} is no row of messages; "
            message += f"each is {self._layout.text}"
            raise TypeError(message)
        return np.ascontiguousarray(values)

    def _send_records(
        self, records: npt.NDArray[Any], progress: list[int], timeout: float | None
    ) -> None:
        if not records.size:
            return
        item = self._layout.dtype.itemsize
        data = records.reshape(-1).view(np.uint8).data
        result = self._send_batch(data, item, timeout, progress)
        if result != native.RING_OK:
            raise self._explain_ring(result, "send_many", timeout)

    def receive_many(self, max: int | None = None, *, timeout: float | None = None) -> Any:
        """Take the messages that wait, at least one.

        Args:
            max: how many at most, 1 or more; by default all that wait when the call begins.
            timeout: seconds to wait for the first.

        Returns:
            A numpy array of records, for a channel of a Struct or of a dtype, which cost one copy
            in all; a list for any other. Where the next message of a dtype without a shape was
            itself sent as an array of several, it is returned alone.

        Raises:
            TypeError: `max` is not an integer.
            LayoutMismatch: a message could not be decoded; ``.raw`` has its bytes.
            MemoryError: there is no room for a message, which still waits or is the ``raw``.
            IpcError: as `receive`.

        What was taken before is the ``received`` of whatever exception ends the call.
        """
        if max is not None:
            max = int_argument("max", max)  # noqa: A001 - the parameter's name is public
        if max is not None and max < 1:
            message = f"max is {max}; it takes 1 or more"
            raise InvalidArgument(message, errno=errno.EINVAL, op="receive_many")
        if not self._layout.has_dtype:
            return self._receive_list(max, timeout)
        if self._layout.dtype.itemsize <= _BATCH_ITEM:
            return self._receive_records(max, timeout)
        return self._receive_rows(max, timeout)

    def _receive_list(self, most: int | None, timeout: float | None) -> list[T]:
        found: list[T] = []
        try:
            self._receive_to(found, timeout)
            # As many as wait now, so that a busy sender can't keep it going.
            waiting = len(self) + 1
            with suppress(WouldBlock, PeerGone):  # the next call meets it again
                while len(found) < (waiting if most is None else min(most, waiting)):
                    self._receive_to(found, 0)
        except BaseException as exc:
            _keep(exc, tuple(found))
            raise
        return found

    def _receive_records(self, most: int | None, timeout: float | None) -> npt.NDArray[Any]:
        deadline = Deadline(timeout)
        dtype = self._layout.dtype
        waiting = len(self) or _BATCH
        room = waiting if most is None else min(waiting, most)
        records = np.empty(room, dtype)
        data = records.reshape(-1).view(np.uint8).data
        progress = [0]
        try:
            while True:
                result = self._receive_batch(data, dtype.itemsize, deadline.remaining, progress)
                if received := progress[0]:
                    found = records[:received]
                    return found if 2 * received >= room else found.copy()
                if result != native.RING_TOO_LONG or self._layout.struct is not None:
                    raise self._explain_ring(result, "receive_many", timeout)  # noqa: TRY301
                with suppress(WouldBlock):  # somebody else was quicker
                    return cast("npt.NDArray[Any]", self.receive(timeout=0))
        except BaseException as exc:
            _keep(exc, records[: progress[0]])
            raise

    def _receive_rows(self, most: int | None, timeout: float | None) -> npt.NDArray[Any]:
        """Records that are too large to be copied while others wait for the lock."""
        dtype = self._layout.dtype
        # Room before the first is taken, so that a message for which there is none still waits.
        waiting = len(self)
        records = _rows(min(waiting or 1, most or waiting or 1), dtype)
        view = self.receive_view(timeout=timeout)
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
                        waiting = taken + len(self)  # they came while this call waited
                        records = _grown(records, waiting if most is None else min(waiting, most))
                    if taken == len(records) or alone:
                        break
                    before = taken
                    view = self.receive_view(timeout=0)
                    held = True
        except BaseException as exc:
            if held and taken == before:
                attach(exc, "raw", view.buf)  # in place: there may be no memory for a copy
            _keep(exc, records[:taken])
            raise
        return records[:taken]

    def __iter__(self) -> Iterator[T]:
        """Take message after message, waiting for each, until the last sender is gone."""
        return self._iterate()

    if TYPE_CHECKING:

        def receive_into(self, buffer: Buffer, /, *, timeout: float | None = None) -> int:
            """Copy the bytes of the next message into a buffer; see `native.ChannelBase`."""
            ...

    # -- in place ----------------------------------------------------------------------------------

    def _loan(
        self, shape: int | tuple[int, ...] | None = None, *, timeout: float | None = None
    ) -> Loan:
        """`loan`, where it was not asked for by a plain number."""
        loan = self._lend(Loan, self._layout.bytes_for(shape), timeout)
        if isinstance(shape, tuple):
            loan._shape = shape
        return loan

    # -- facts -------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """A descriptor that is readable when a message waits, for select, poll, epoll, asyncio.

        It can be readable and another receiver be quicker: then `receive` with ``timeout=0`` says
        `WouldBlock`, and it is readable no more. A handle that never asked for it pays nothing.

        Raises:
            LimitReached: RLIMIT_NOFILE is used up.
            ClosedHandle: the handle is closed.
        """
        return self._poll_fd(native.POLL_ITEMS)

    def space_fileno(self) -> int:
        """A descriptor that is readable when a sender that met a full channel may try again.

        Raises:
            LimitReached: RLIMIT_NOFILE is used up.
            ClosedHandle: the handle is closed.
        """
        return self._poll_fd(native.POLL_SPACE)

    def _check_peers(self, *, sending: bool) -> bool:
        """Whether a call that waits for the other side waits for nobody."""
        role = native.ROLE_RECEIVER if sending else native.ROLE_SENDER
        return self._options[0] == "raise" and self._side(role) == native.SIDE_GONE

    def _peer_gone(self, *, sending: bool) -> IpcError:
        return self._explain_ring(native.RING_GONE, "send" if sending else "receive", None)

    def stats(self) -> ChannelStats:
        """What is in the channel now.

        Raises:
            ClosedHandle: the handle is closed.
        """
        messages, used, size, dropped = self._counts()
        peers = self.peers()
        sent, received = sum(each.sent for each in peers), sum(each.received for each in peers)
        return ChannelStats(messages, self.capacity, used, size, dropped, sent, received)

    def peers(self) -> list[ChannelPeer]:
        """Who has the channel open, and lives.

        Raises:
            ClosedHandle: the handle is closed.
        """
        return [peer_of(row) for row in self._peers()]

    def __bool__(self) -> bool:
        # A channel is something even when it is empty.
        return True
