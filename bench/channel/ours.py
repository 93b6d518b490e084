"""ipckit's own lanes: the channel and ProcessQueue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

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
        creation = {**self._creation(), **self.options}
        self._owner: Any = Channel.create(self._name, self._type(), **creation)
        self._kept: list[Any] = []

    def _creation(self) -> dict[str, Any]:
        """Return the options of `Channel.create` that set how much the channel holds."""
        capacity = min(depth(self.size), self.deepest)
        # Two more slots are lent, one to each side.
        room = max(LEAST, (self.size + 64) * (capacity + 2))
        return {"capacity": capacity, "size": room}

    def _type(self) -> Any:
        """Return the type of the messages."""
        return bytes

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_owner": None}  # other processes open it by name

    def _open(self) -> Any:
        from ipckit.channel import Channel

        self._kept.append(Channel.open(self._name, self._type(), **self.options))
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

    def _creation(self) -> dict[str, Any]:
        return {"capacity": 64 * BATCH_OF_RECORDS}

    def _type(self) -> Any:
        return record()

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


class ChannelDefaults(Channel):
    """Channel of bytes, without capacity or size."""

    name = "ipckit, defaults"

    def _creation(self) -> dict[str, Any]:
        return {}


class ArraysInPlace(ChannelInPlace):
    """Channel of arrays, without capacity or size, written and read in place."""

    name = "ipckit, arrays in place"
    capacity: ClassVar[int | None] = None  # None: the default

    def _creation(self) -> dict[str, Any]:
        return {} if self.capacity is None else {"capacity": self.capacity}

    def _type(self) -> Any:
        import numpy as np

        return np.dtype((np.uint8, (self.size,)))


class ArraysInPlace2(ArraysInPlace):
    """The same with a capacity of two arrays, as many as two slots hold."""

    name = "ipckit, capacity=2"
    capacity = 2


class ArraysInPlace2Assigned(ArraysInPlace2):
    """The same, but numpy writes the loan instead of `Loan.write`."""

    name = "ipckit, capacity=2, array[...] ="

    def prebuilt(self, message: bytes) -> Any:
        """Convert the message to an array."""
        import numpy as np

        return np.frombuffer(message, np.uint8)

    def sender(self) -> Callable[[Any], object]:
        """Return a function that takes a loan, assigns the message to its array, and sends it."""
        loan = self._open().loan

        def send(message: Any) -> None:
            slot = loan()
            slot.array[...] = message
            slot.send()

        return send


class ArraysInPlace4(ArraysInPlace):
    """The same with a small capacity."""

    name = "ipckit, capacity=4"
    capacity = 4


class ArraysInPlace1024(ArraysInPlace):
    """The same with a large capacity."""

    name = "ipckit, capacity=1024"
    capacity = 1024


class ProcessQueue(Lane):
    """ipckit's replacement for multiprocessing.Queue."""

    name = "ipckit, ProcessQueue"
    module = "ipckit.channel"
    attribute = "ProcessQueue"
    shared = True

    def __init__(self, size: int) -> None:
        from ipckit.channel import ProcessQueue

        super().__init__(size)
        self._queue: Any = ProcessQueue(self._maxsize())

    def _maxsize(self) -> int:
        return depth(self.size)

    def sender(self) -> Callable[[Any], object]:
        """Return the queue's own method."""
        return self._queue.put  # type: ignore[no-any-return]

    def receiver(self) -> Callable[[], Any]:
        """Return the queue's own method."""
        return self._queue.get  # type: ignore[no-any-return]

    def close(self) -> None:
        """Remove the queue."""
        self._queue.close()


class ProcessQueueDefaults(ProcessQueue):
    """ProcessQueue without maxsize or size."""

    name = "ipckit, ProcessQueue()"

    def _maxsize(self) -> int:
        return 0


LANES: tuple[type[Lane], ...] = (Channel, ChannelBatched, ChannelInPlace)
