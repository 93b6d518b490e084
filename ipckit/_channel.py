"""Channel: a bounded queue in shared memory."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from ipckit._arguments import int_argument
from ipckit._channel_errors import GONE, OK, TOO_LONG
from ipckit._channel_facts import RECEIVER, SENDER, ChannelStats, peer_of
from ipckit._channel_object import ChannelObject
from ipckit._channel_slots import Loan, View
from ipckit._deadline import Deadline
from ipckit._dtypes import check_array, same_dtype
from ipckit._lazy import is_array, np
from ipckit._typing import T
from ipckit.errors import InvalidArgument, LayoutMismatch, PeerGone, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from ipckit._channel_facts import ChannelPeer
    from ipckit.errors import IpcError

_BATCH: Final = 256  # records that a receiver makes room for before it knows how many come
_BATCH_ITEM: Final = 16384  # bytes; larger records are taken in place, one by one
_ITEMS: Final = 1  # native/layout.h: POLL_ITEMS, POLL_SPACE
_SPACE: Final = 2
_GONE: Final = 2  # native/ring_lock.h: SIDE_GONE


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

    if TYPE_CHECKING:

        def send(self, value: T, *, timeout: float | None = None) -> None:
            """Send one message, waiting while the channel is full; see `_native.ChannelBase`."""

        def receive(self, *, timeout: float | None = None) -> T:
            """Take the next message, waiting until there is one; see `_native.ChannelBase`."""
            ...

        def loan(
            self, shape: int | tuple[int, ...] | None = None, *, timeout: float | None = None
        ) -> Loan:
            """Room for one message, to be written in place; see `_native.ChannelBase`."""
            ...

        def receive_view(self, *, timeout: float | None = None) -> View:
            """Take the next message and read it where it lies; see `_native.ChannelBase`."""
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
            IpcError: as `send`; how many were sent before is the exception's ``sent``.
            TypeError: a value is not of the payload type; none after it was sent.
        """
        deadline = Deadline(timeout)
        sent = 0
        try:
            if is_array(values) and self._layout.has_dtype:
                rows = self._records(cast("npt.NDArray[Any]", values))
                if self._layout.dtype.itemsize <= _BATCH_ITEM:
                    sent = self._send_records(rows, timeout)
                    return
                values = map(self._layout.record, rows)
            for value in values:
                self.send(value, timeout=deadline.remaining)
                sent += 1
        except Exception as exc:
            if not hasattr(exc, "sent"):
                cast("Any", exc).sent = sent
            raise

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

    def _send_records(self, records: npt.NDArray[Any], timeout: float | None) -> int:
        if not records.size:
            return 0
        item = self._layout.dtype.itemsize
        sent, result = self._send_batch(records.reshape(-1).view(np.uint8).data, item, timeout)
        if result != OK:
            error: Any = self._explain_ring(result, "send_many", timeout)
            error.sent = sent
            raise error
        return sent

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
            LayoutMismatch: a message could not be decoded; ``.received`` has those before it.
            IpcError: as `receive`.
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
        found: list[T] = [self.receive(timeout=timeout)]
        # As many as wait now, so that a busy sender can't keep it going.
        waiting = len(self) + 1
        try:
            with suppress(WouldBlock, PeerGone):  # the next call meets it again
                while len(found) < (waiting if most is None else min(most, waiting)):
                    found.append(self.receive(timeout=0))
        except LayoutMismatch as exc:
            exc.received = tuple(cast("list[Any]", found))
            raise
        return found

    def _receive_records(self, most: int | None, timeout: float | None) -> npt.NDArray[Any]:
        deadline = Deadline(timeout)
        dtype = self._layout.dtype
        waiting = len(self) or _BATCH
        room = waiting if most is None else min(waiting, most)
        records = np.empty(room, dtype)
        data = records.reshape(-1).view(np.uint8).data
        while True:
            received, result = self._receive_batch(data, dtype.itemsize, deadline.remaining)
            if received:
                records = records[:received]
                return records if 2 * received >= room else records.copy()
            if result != TOO_LONG or self._layout.struct is not None:
                raise self._explain_ring(result, "receive_many", timeout)
            with suppress(WouldBlock):  # somebody else was quicker
                return cast("npt.NDArray[Any]", self.receive(timeout=0))

    def _receive_rows(self, most: int | None, timeout: float | None) -> npt.NDArray[Any]:
        """Records that are too large to be copied while others wait for the lock."""
        dtype = self._layout.dtype
        view = self.receive_view(timeout=timeout)
        waiting = len(self) + 1
        records = np.empty(waiting if most is None else min(waiting, most), dtype)
        taken = 0
        with suppress(WouldBlock, PeerGone):
            while True:
                with view:
                    found = view.array
                    if not dtype.shape and len(found) != 1:
                        return np.concatenate([records[:taken], found])
                    records[taken] = found if dtype.shape else found[0]
                    del found
                taken += 1
                if taken == len(records):
                    break
                view = self.receive_view(timeout=0)
        return records[:taken]

    def __iter__(self) -> Iterator[T]:
        """Take message after message, waiting for each, until the last sender is gone."""
        return self._iterate()

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
        return self._poll_fd(_ITEMS)

    def space_fileno(self) -> int:
        """A descriptor that is readable when a sender that met a full channel may try again.

        Raises:
            LimitReached: RLIMIT_NOFILE is used up.
            ClosedHandle: the handle is closed.
        """
        return self._poll_fd(_SPACE)

    def _check_peers(self, *, sending: bool) -> bool:
        """Whether a call that waits for the other side waits for nobody."""
        return self._options[0] == "raise" and self._side(RECEIVER if sending else SENDER) == _GONE

    def _peer_gone(self, *, sending: bool) -> IpcError:
        return self._explain_ring(GONE, "send" if sending else "receive", None)

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
