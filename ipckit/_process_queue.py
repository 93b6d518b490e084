"""ProcessQueue: a multiprocessing.Queue over a channel."""

from __future__ import annotations

import os
import struct
import weakref
from contextlib import suppress
from pickle import dumps, loads
from queue import Empty, Full
from typing import TYPE_CHECKING, Any, Final, Generic, cast

from ipckit._channel_slots import View
from ipckit._deadline import Deadline
from ipckit._queue_feeder import Feeder
from ipckit._queue_pickle import PICKLE, PLAIN, decode, encode
from ipckit._queue_spill import QuietChannel, Spill
from ipckit._shm_file import duplicate_for_child
from ipckit._typing import ObjectT
from ipckit.errors import IpcError, Timeout, WouldBlock

if TYPE_CHECKING:
    from ipckit._channel import Channel
    from ipckit._channel_options import PeerGonePolicy
    from ipckit._queue_pickle import Parts

_SIZE: Final = 1 << 22
_WAITING: Final = 1 << 14  # of a queue without a maxsize; more wait in the sender's memory
_CAPACITY_MAX: Final = (1 << 23) - 1
_APART: Final = 1 << 20  # bytes from which on a message has memory of its own
_SPILL: Final = b"\x02ipckitQ"
_SPILLED: Final = struct.Struct("=8sQQ")


class ProcessQueue(Generic[ObjectT]):
    """A queue of any objects between processes: a multiprocessing.Queue that is faster.

    It takes its place: the same methods and exceptions (`queue.Full` and `queue.Empty`), to be
    inherited by a fork or given to a Process as an argument. What differs:

    - `put` pickles at once, so that what can't be pickled raises there.
    - No lock that a dead process held stops anybody. What a killed process had taken is gone.
    - An object comes out with memory of its own, also its arrays, which are writable. Arrays of 16
      KiB and more are not pickled but copied as they are; a message of 1 MiB and more is written
      once, and read where it lies.
    - When the other side is gone it waits, as the other does; ``peer_gone="raise"`` says so.

    Objects are pickled. Whoever can put into the queue runs code of their choice in the process
    that gets: share it only with processes that are trusted as this one is. That is so with
    multiprocessing.Queue too; `Channel` itself never pickles.

    Args:
        maxsize: how many objects can wait; 0 or less for any number, of which those that the
            memory has no room for wait in the memory of the process that put them, and a thread
            sends them on.
        size: bytes of shared memory for the objects that wait, by default 4 MiB. An object larger
            than half of it, or than 1 MiB, takes memory of its own meanwhile.
        ctx: not used; multiprocessing.queues.Queue has it.
        peer_gone: "raise" `PeerGone` where a call would wait for ever, because all who got or all
            who put are gone; or "wait" for somebody new.

    Raises:
        LimitReached: memory or RLIMIT_NOFILE is used up.
        InvalidArgument: an argument is out of range.
    """

    def __init__(
        self,
        maxsize: int = 0,
        *,
        size: int | None = None,
        ctx: object = None,
        peer_gone: PeerGonePolicy = "wait",
    ) -> None:
        del ctx
        capacity = min(maxsize, _CAPACITY_MAX) if maxsize > 0 else _WAITING
        channel = QuietChannel.anonymous(
            capacity=capacity, size=_SIZE if size is None else size, peer_gone=peer_gone
        )
        self._start(channel, Spill(), maxsize)

    def _start(self, channel: Channel[bytes], spill: Spill, maxsize: int) -> None:
        self._channel, self._spill, self._maxsize = channel, spill, maxsize
        self._send = channel.send
        self._take = channel._take  # noqa: SLF001 - as Channel's own methods do
        self._inline = min(channel.longest, _APART)
        self._feeder = Feeder(channel)
        self._closed = False
        _QUEUES.add(self)

    # -- as multiprocessing.Queue has them ---------------------------------------------------------

    def put(self, obj: ObjectT, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002
        """Put an object into the queue.

        Args:
            obj: anything that pickles.
            block: whether to wait while `maxsize` objects wait already.
            timeout: seconds to wait at most; None for ever.

        Raises:
            queue.Full: there was no room.
            PeerGone: with ``peer_gone="raise"``: there is no room, and all who got are gone.
            LimitReached: there is no memory for it.
            ValueError: the queue is closed.
            Exception: whatever pickling it raises.
        """
        if self._closed:
            self._check_open()
        message: bytes | Parts = dumps(obj, 5) if type(obj) in PLAIN else encode(obj)
        if not isinstance(message, bytes) or len(message) > self._inline:
            self._put_large(message, block, timeout)
        elif self._maxsize > 0 and block and timeout is None:
            self._send(message)
        elif self._maxsize > 0:
            self._put_bounded(message, block, timeout)
        elif self._feeder.waiting:
            self._put_somewhere(message)
        else:
            try:
                self._send(message, timeout=0)
            except WouldBlock:
                self._put_somewhere(message)

    def get(self, block: bool = True, timeout: float | None = None) -> ObjectT:  # noqa: FBT001, FBT002
        """Take the next object out of the queue.

        Args:
            block: whether to wait until there is one.
            timeout: seconds to wait at most; None for ever.

        Raises:
            queue.Empty: there was none.
            PeerGone: with ``peer_gone="raise"``: there is none, and all who put are gone.
            ValueError: the queue is closed.
            Exception: whatever unpickling it raises; the object is gone.
        """
        if self._closed:
            self._check_open()
        try:
            wait = None if block and timeout is None else _seconds(block, timeout)
            message = self._take(View, wait)
        except (WouldBlock, Timeout):
            raise Empty from None
        if not isinstance(message, bytes):
            with message:
                return cast("ObjectT", decode(message.buf, bytearray))
        if message[:1] == PICKLE:  # as small ones are
            return loads(message)  # type: ignore[no-any-return] # noqa: S301 - the class warns
        if message.startswith(_SPILL):
            _, at, size = _SPILLED.unpack(message)
            return cast("ObjectT", decode(self._spill.take(at, size), None))
        return cast("ObjectT", decode(message, bytearray))

    def put_nowait(self, obj: ObjectT) -> None:
        """`put` without waiting."""
        self.put(obj, block=False)

    def get_nowait(self) -> ObjectT:
        """`get` without waiting."""
        return self.get(block=False)

    def qsize(self) -> int:
        """How many objects wait: in shared memory, and in this process's own."""
        return len(self._channel) + len(self._feeder.waiting)

    def empty(self) -> bool:
        """Whether no object waits."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Whether `maxsize` objects wait; never, where there is none."""
        return self._maxsize > 0 and len(self._channel) >= self._channel.capacity

    def close(self) -> None:
        """Say that this process is done with the queue; what it put is still sent. Idempotent."""
        if not self._closed:
            self._closed = True
            self._feeder.close()
            self._spill.close()

    def join_thread(self) -> None:
        """Wait until all that this process put is in shared memory; only after `close`.

        That does not wait for ever: when nobody else has the queue open, nobody can come.

        Raises:
            ValueError: the queue is not closed.
        """
        if not self._closed:
            message = "the queue is not closed"
            raise ValueError(message)
        self._feeder.join()

    def cancel_join_thread(self) -> None:
        """Let this process end without waiting for what has no room; that is lost."""
        self._feeder.cancel_join()

    # -- sending -----------------------------------------------------------------------------------

    def _put_bounded(self, message: bytes, block: bool, timeout: float | None) -> None:  # noqa: FBT001
        try:
            self._send(message, timeout=_seconds(block, timeout))
        except (WouldBlock, Timeout):
            raise Full from None

    def _put_somewhere(self, message: bytes) -> None:
        """Into the channel, or behind what waits until that has room."""
        feeder = self._feeder
        if not feeder.waiting:
            if feeder.gone is not None:
                raise feeder.gone
            with suppress(WouldBlock):
                self._send(message, timeout=0)
                return
        feeder.add(message)

    def _put_large(self, message: bytes | Parts, block: bool, timeout: float | None) -> None:  # noqa: FBT001
        parts: Parts = [message] if isinstance(message, bytes) else message
        size = sum(memoryview(each).nbytes for each in parts)
        if size <= self._inline:
            self._put_parts(parts, size, block, timeout)
            return
        at, size = self._spill.put(parts)
        try:
            message = _SPILLED.pack(_SPILL, at, size)
            if self._maxsize > 0:
                self._put_bounded(message, block, timeout)
            else:
                self._put_somewhere(message)
        except BaseException:
            self._spill.drop(at, size)
            raise

    def _put_parts(self, parts: Parts, size: int, block: bool, timeout: float | None) -> None:  # noqa: FBT001
        unbounded = self._maxsize <= 0
        deadline = Deadline(0 if unbounded else _seconds(block, timeout))
        if not (unbounded and self._feeder.waiting):
            with (
                suppress(WouldBlock, Timeout),
                self._channel.loan(size, timeout=deadline.remaining) as slot,
            ):
                at = 0
                for part in parts:
                    end = at + memoryview(part).nbytes
                    slot.buf[at:end] = part
                    at = end
                slot.send(timeout=deadline.remaining)
                return
        if not unbounded:
            raise Full
        self._put_somewhere(b"".join(parts))

    # -- lifecycle ---------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            message = f"{self!r} is closed"
            raise ValueError(message)

    def _forked(self) -> None:
        self._feeder.forked()
        self._spill.forked()
        if not self._closed:
            # Now, not when it is first used: whoever has put waits for it until then.
            with suppress(IpcError):
                self.qsize()

    def __getstate__(self) -> tuple[Any, ...]:
        from multiprocessing.context import assert_spawning  # noqa: PLC0415 - few pickle one

        self._check_open()
        assert_spawning(self)
        return (
            self._channel,
            duplicate_for_child(self._spill.file.fd),
            self._spill.pieces,
            self._maxsize,
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        channel, fd, pieces, maxsize = state
        self._start(channel, Spill(fd.detach(), pieces), maxsize)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()


def _seconds(block: bool, timeout: float | None) -> float | None:  # noqa: FBT001
    """The timeout of a channel's call; one that has passed does not wait."""
    if not block:
        return 0
    return None if timeout is None else max(0, timeout)


_QUEUES: Final[weakref.WeakSet[ProcessQueue[Any]]] = weakref.WeakSet()


def _forked() -> None:
    for queue in tuple(_QUEUES):
        queue._forked()  # noqa: SLF001 - its own module


os.register_at_fork(after_in_child=_forked)
