"""ProcessQueue: a multiprocessing.Queue over a channel."""

from __future__ import annotations

import weakref
from collections import deque
from contextlib import suppress
from multiprocessing.queues import Queue
from pickle import dumps, loads
from queue import Empty, Full
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, cast

import ipckit._native as native
from ipckit._channel.in_place import View
from ipckit._core.deadline import Deadline
from ipckit._core.descriptors import duplicate_for_child
from ipckit._core.forks import at_fork
from ipckit._core.handle import closed_handle
from ipckit._core.public import public
from ipckit._payload.types import ObjectT
from ipckit._process_queue.feeder import Feeder, Holders
from ipckit._process_queue.pickling import PICKLE, PLAIN, decode, encode
from ipckit._process_queue.spill import QuietChannel, Spill
from ipckit.errors import Timeout, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from ipckit._channel.channel import Channel
    from ipckit._channel.options import PeerGonePolicy
    from ipckit._process_queue.pickling import Parts

_SIZE: Final = 1 << 22
_WAITING: Final = 1 << 14  # of a queue without a maxsize; more wait in the sender's memory
_CAPACITY_MAX: Final = (1 << 23) - 1
_APART: Final = 1 << 20  # bytes from which on a message has memory of its own


@public("ipckit.channel")
class ProcessQueue(Queue, Generic[ObjectT]):  # type: ignore[type-arg] # has no such at run time
    """A queue of any objects between processes: a multiprocessing.Queue that is faster.

    It takes its place: the same methods and exceptions (`queue.Full` and `queue.Empty`), to be
    inherited by a fork or given to a Process as an argument. It is a subclass, so that what accepts
    a multiprocessing.Queue, such as `logging.config`, accepts it. What differs:

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
        # Not Queue's own: the pipe, the locks and the thread that it makes are not needed.
        del ctx
        capacity = min(maxsize, _CAPACITY_MAX) if maxsize > 0 else _WAITING
        channel = QuietChannel.anonymous(
            capacity=capacity, size=_SIZE if size is None else size, peer_gone=peer_gone
        )
        self._start(channel, Spill(channel), maxsize, Holders())

    def _start(self, channel: Channel[bytes], spill: Spill, maxsize: int, holders: Holders) -> None:
        self._channel, self._spill, self._maxsize = channel, spill, maxsize
        self._send = channel.send
        self._take: Callable[..., bytes | View | native.Piece | None] = spill.file.take
        self._inline = min(channel.longest, _APART)
        self._holders = holders
        self._feeder = Feeder(channel, holders)
        self._capacity = channel.capacity
        self._kept: deque[bytes | View | native.Piece] = deque()
        self._used, self._left = False, 0
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
                Objects that waited in this process are lost then; the message says how many.
            Corrupt: another process overwrote the shared memory; objects are lost as above.
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
            MemoryError: there is no memory for it; this process's next `get` returns it.
            Exception: whatever unpickling it raises; the object is gone.
        """
        if self._closed:
            self._check_open()
        if self._kept:
            with suppress(IndexError):  # another thread was quicker
                return self._object(self._kept.popleft())
        wait = None if block and timeout is None else _seconds(block, timeout)
        deadline = Deadline(wait) if wait else None
        while True:
            try:
                message = self._take(View, wait if deadline is None else deadline.remaining)
            except (WouldBlock, Timeout):
                raise Empty from None
            if message is not None:  # None: a process that was killed had the object in its hands
                return self._object(message)

    def _object(self, message: bytes | View | native.Piece) -> ObjectT:
        """The object in a message, which is kept if there is no memory for it."""
        try:
            if isinstance(message, bytes):
                if message[:1] == PICKLE:  # as small ones are
                    return loads(message)  # type: ignore[no-any-return]  # noqa: S301
                return cast("ObjectT", decode(message, bytearray))
            if isinstance(message, native.Piece):
                return cast("ObjectT", decode(cast("Buffer", message), None))
            value = cast("ObjectT", decode(message.buf, bytearray))
        except BaseException as exc:
            if isinstance(exc, MemoryError):
                self._kept.appendleft(message)
            elif isinstance(message, View):
                message.release()
            raise
        message.release()
        return value

    def put_nowait(self, obj: ObjectT) -> None:
        """`put` without waiting."""
        self.put(obj, block=False)

    def get_nowait(self) -> ObjectT:
        """`get` without waiting."""
        return self.get(block=False)

    def qsize(self) -> int:
        """How many objects wait: in shared memory, and in this process's own.

        After `close`, as many as waited then.
        """
        if self._closed:
            return self._left
        return len(self._channel) + len(self._feeder.waiting) + len(self._kept)

    def empty(self) -> bool:
        """Whether no object waits.

        Raises:
            ClosedHandle: the queue is closed, and this process had put something into it. If it had
                not, this says whether objects waited when it was closed.
        """
        if self._closed and self._used:
            raise closed_handle("empty", "ProcessQueue")
        return self.qsize() == 0

    def full(self) -> bool:
        """Whether `maxsize` objects wait; never, where there is none. After `close`, as `qsize`."""
        return self._maxsize > 0 and self.qsize() >= self._capacity

    def close(self) -> None:
        """Say that this process is done with the queue; what it put is still sent. Idempotent.

        It warns (RuntimeWarning) if objects that were put are lost, because the shared memory is
        corrupt or, with ``peer_gone="raise"``, because all processes that got are gone.
        """
        if self._closed:
            return
        with suppress(OSError):  # of a forked child that finds no place among the processes
            self._left = self.qsize()
            self._used = self._used or any(
                each.self and each.sent for each in self._channel.peers()
            )
        self._closed = True
        try:
            self._feeder.close()
        finally:
            self._kept.clear()
            self._take = _refuse
            self._spill.close()

    def join_thread(self) -> None:
        """Wait until all that this process put is in shared memory; only after `close`.

        That does not wait for ever: once no other process has the queue, what waits is dropped.

        Raises:
            ValueError: the queue is not closed.
            IpcError: objects that were put are lost, as the message says: `Corrupt`, or `PeerGone`
                with ``peer_gone="raise"``.
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

    def _put_somewhere(self, message: bytes | native.Piece) -> bool:
        """Into the channel, or behind what waits until that has room.

        Returns:
            False if the message is a piece of the process that this one was forked from.
        """
        feeder = self._feeder
        if not feeder.waiting:
            feeder.check()
            with suppress(WouldBlock):
                if isinstance(message, native.Piece):
                    return message.send(0)
                self._send(message, timeout=0)
                return True
        feeder.add(message)
        return True

    def _put_large(self, message: bytes | Parts, block: bool, timeout: float | None) -> None:  # noqa: FBT001
        parts: Parts = [message] if isinstance(message, bytes) else message
        size = sum(memoryview(each).nbytes for each in parts)
        if size <= self._inline:
            self._put_parts(parts, size, block, timeout)
            return
        # The piece goes back with the last reference to it, unless it was sent. A forked child that
        # comes out of a signal's handler in here has the parent's piece, and needs one of its own.
        while not self._put_piece(self._spill.put(parts), block, timeout):
            pass

    def _put_piece(self, piece: native.Piece, block: bool, timeout: float | None) -> bool:  # noqa: FBT001
        if self._maxsize <= 0:
            return self._put_somewhere(piece)
        try:
            return piece.send(_seconds(block, timeout))
        except (WouldBlock, Timeout):
            raise Full from None

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
        self._kept.clear()

    def __getstate__(self) -> Any:
        from multiprocessing.context import assert_spawning  # noqa: PLC0415 - few pickle one

        self._check_open()
        assert_spawning(self)
        return (
            self._channel,
            duplicate_for_child(self._spill.file.fd),
            self._maxsize,
            [duplicate_for_child(each) for each in self._holders.ends()],
        )

    def __setstate__(self, state: Any) -> None:
        channel, fd, maxsize, (read, write) = state
        holders = Holders((read.detach(), write.detach()))
        self._start(channel, Spill(channel, fd.detach()), maxsize, holders)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()


def _refuse(*_: object) -> NoReturn:
    """What takes the place of a closed queue's memory, for a thread that was about to use it."""
    message = "the ProcessQueue is closed"
    raise ValueError(message)


def _seconds(block: bool, timeout: float | None) -> float | None:  # noqa: FBT001
    """The timeout of a channel's call; one that has passed does not wait."""
    if not block:
        return 0
    return None if timeout is None else max(0, timeout)


_QUEUES: Final[weakref.WeakSet[ProcessQueue[Any]]] = weakref.WeakSet()


def _forked() -> None:
    for queue in tuple(_QUEUES):
        queue._forked()  # noqa: SLF001 - its own module


at_fork("queues", after_in_child=_forked)
