"""ipckit's own lanes: the channel and ProcessQueue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from channel.lane import Lane, depth, fresh_name

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

# Imports are late: without the channel, the rest of the bench still runs and lists it as missing,
# and most processes do not need numpy.
# ruff: noqa: PLC0415

BATCH_OF_RECORDS = 1024
RECORD_BYTES = 36
LEAST = 2**16


def record() -> np.dtype[Any]:
    """Return the dtype of a record: a name and a number, packed."""
    import numpy as np

    return np.dtype([("name", "S32"), ("number", "i4")])


class Channel(Lane):
    """Channel: bytes, one message a call; it spins before it sleeps, which is the default."""

    name = "ipckit"
    module = "ipckit.channel"
    attribute = "Channel"
    shared = True
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    deepest = 4096

    def __init__(self, size: int) -> None:
        from ipckit.channel import Channel

        super().__init__(size)
        self._name = fresh_name()
        capacity = min(depth(size), self.deepest)
        room = max(LEAST, (size + 64) * (capacity + 2))  # two more slots are lent, one to each side
        self._owner: Any = Channel.create(
            self._name, bytes, capacity=capacity, size=room, **self.options
        )
        self._kept: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_owner": None}  # other processes open it by name

    def _open(self) -> Any:
        from ipckit.channel import Channel

        self._kept.append(Channel.open(self._name, bytes, **self.options))
        return self._kept[-1]

    def sender(self) -> Callable[[Any], object]:
        """Return the channel's own method."""
        return self._open().send  # type: ignore[no-any-return]

    def receiver(self) -> Callable[[], Any]:
        """Return the channel's own method."""
        return self._open().receive  # type: ignore[no-any-return]

    def close(self) -> None:
        """Remove the channel."""
        self._owner.close()
        self._owner.unlink()


class ChannelAsleep(Channel):
    """Channel that never spins: a waiting process sleeps."""

    name = "ipckit, spin=0"
    options = {"spin": 0}  # noqa: RUF012 - never changed


class ChannelBatched(Channel):
    """Channel: 64 messages a call."""

    name = "ipckit, batched"
    batched = True
    shared = False

    def sender(self) -> Callable[[Any], object]:
        """Return the channel's own method."""
        return self._open().send_many  # type: ignore[no-any-return]

    def receiver(self) -> Callable[[], Any]:
        """Return the channel's own method."""
        return self._open().receive_many  # type: ignore[no-any-return]


class ChannelInPlace(Channel):
    """Channel: the sender writes into a loan, the receiver reads a view."""

    name = "ipckit, in place"
    in_place = True
    deepest = 4  # soon reused memory is still in the processor's cache
    shared = False

    def sender(self) -> Callable[[Any], object]:
        """Return a function that takes a loan, copies the message in, and sends it."""
        loan = self._open().loan
        size = self.size

        def send(message: Any) -> None:
            slot = loan(size)
            slot.write(message)
            slot.send()

        return send

    def receiver(self) -> Callable[[], Any]:
        """Return a function that receives a message in place, as a view."""
        receive = self._open().receive_view
        return lambda: receive().buf


class ChannelRecords(Channel):
    """Channel of records: one call passes a numpy array of them."""

    name = "ipckit, records"
    shared = False

    def __init__(self, size: int) -> None:
        Lane.__init__(self, size)
        from ipckit.channel import Channel

        self._name = fresh_name()
        self._owner: Any = Channel.create(self._name, record(), capacity=64 * BATCH_OF_RECORDS)
        self._kept: list[Any] = []

    def _open(self) -> Any:
        from ipckit.channel import Channel

        self._kept.append(Channel.open(self._name, record()))
        return self._kept[-1]

    def prebuilt(self, message: bytes) -> Any:
        """Convert the message to an array of records."""
        import numpy as np

        return np.frombuffer(message, record())

    def sender(self) -> Callable[[Any], object]:
        """Return the channel's own method."""
        return self._open().send_many  # type: ignore[no-any-return]

    def receiver(self) -> Callable[[], Any]:
        """Return the channel's own method."""
        receive = self._open().receive_many
        return lambda: receive(max=BATCH_OF_RECORDS)


class ProcessQueue(Lane):
    """ipckit's replacement for multiprocessing.Queue."""

    name = "ipckit, ProcessQueue"
    module = "ipckit.channel"
    attribute = "ProcessQueue"
    shared = True

    def __init__(self, size: int) -> None:
        from ipckit.channel import ProcessQueue

        super().__init__(size)
        self._queue: Any = ProcessQueue(maxsize=depth(size))

    def sender(self) -> Callable[[Any], object]:
        """Return the queue's own method."""
        return self._queue.put  # type: ignore[no-any-return]

    def receiver(self) -> Callable[[], Any]:
        """Return the queue's own method."""
        return self._queue.get  # type: ignore[no-any-return]

    def close(self) -> None:
        """Remove the queue."""
        self._queue.close()


LANES: tuple[type[Lane], ...] = (Channel, ChannelBatched, ChannelInPlace)
