"""`ProcessQueue`, which replaces the queues of multiprocessing, over a channel."""

from __future__ import annotations

import errno
import weakref
from collections import deque
from contextlib import suppress
from multiprocessing.queues import JoinableQueue
from pickle import dumps, loads
from queue import Empty, Full
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, cast

import ipckit._native as native
from ipckit._channel.in_place import View
from ipckit._channel.results import attach
from ipckit._core.arguments import int_argument
from ipckit._core.deadline import Deadline
from ipckit._core.descriptors import duplicate_for_child, is_spawning
from ipckit._core.forks import at_fork
from ipckit._core.handle import closed_handle
from ipckit._core.public import public
from ipckit._payload.types import ObjectT
from ipckit._process_queue.feeder import Feeder, Holders
from ipckit._process_queue.pickling import LARGE, PICKLE, PLAIN, SIZED, decode, encode
from ipckit._process_queue.spill import QuietChannel, Spill
from ipckit.errors import InvalidArgument, OwnerDied, PeerGone, Timeout, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipckit._channel.channel import Channel
    from ipckit._channel.options import PeerGonePolicy
    from ipckit._process_queue.pickling import Parts

_SIZE: Final = 1 << 22
_UNBOUNDED_CAPACITY: Final = 1 << 14  # without a maxsize; more objects wait in the sender's memory


@public("ipckit.channel")
class ProcessQueue(JoinableQueue, Generic[ObjectT]):  # type: ignore[type-arg] # JoinableQueue takes no type argument at run time
    """A queue of any objects between processes: a faster multiprocessing.Queue and JoinableQueue.

    It has the same methods and raises the same exceptions (`queue.Full` and `queue.Empty`). A
    forked child inherits it, and a `multiprocessing.Process` takes it as an argument. It is a
    subclass of both, so `logging.config` and other code accepts it. The differences:

    - `put` pickles at once, and raises the exceptions of pickling.
    - A killed process never blocks the others. An object that it had taken is lost, and `join`
      raises `OwnerDied`.
    - A received object has its own memory, and its arrays are writable. Arrays of 16 KiB or more
      are not pickled. They and bytes of 64 KiB or more are copied twice: into shared memory and
      out of it.
    - If the other side is gone, a call waits, as with multiprocessing.Queue; with
      ``peer_gone="raise"`` it raises `PeerGone`.

    Objects are pickled. A process that can put objects into the queue can run any code in the
    process that gets them, as with multiprocessing.Queue. So share the queue only with processes
    that you trust. `Channel` itself never pickles.

    Args:
        maxsize: the maximum number of objects that wait; 0 or less means no limit. Without a limit,
            objects that do not fit into shared memory wait in the memory of the process that put
            them, and a thread sends them when there is room.
        size: bytes of shared memory for the objects that wait, 4 MiB by default, and as much again
            for objects that are pickled to more than 4 KiB. If such an object is longer than half
            of `size`, or this memory is full, it has separate memory, which is slower. So `put`
            waits before `maxsize` is reached only if shorter objects fill `size` bytes.
        ctx: ignored; the queues of multiprocessing take it.
        peer_gone: what a call does if it would wait without end because the other side has no
            process left: "raise" `PeerGone`, or "wait" for a new process.

    Raises:
        LimitReached: there is not enough memory, or RLIMIT_NOFILE is reached.
        InvalidArgument: an argument is out of range.

    >>> from multiprocessing import Process
    >>> from ipckit import ProcessQueue
    >>> queue = ProcessQueue(maxsize=10)
    >>> child = Process(target=queue.put, args=({"sum": 42},))
    >>> child.start()
    >>> queue.get(timeout=60)
    {'sum': 42}
    >>> child.join()
    >>> queue
    <ProcessQueue anonymous, 0 of 10 objects, open>
    >>> queue.close()
    """

    def __init__(
        self,
        maxsize: int = 0,
        *,
        size: int | None = None,
        ctx: object = None,
        peer_gone: PeerGonePolicy = "wait",
    ) -> None:
        # JoinableQueue.__init__ is not called: its pipe, locks and thread are not needed.
        del ctx
        capacity = min(maxsize, native.CAPACITY_MAX) if maxsize > 0 else _UNBOUNDED_CAPACITY
        channel = QuietChannel.anonymous(
            capacity=capacity, size=_SIZE if size is None else size, peer_gone=peer_gone
        )
        self._start(channel, Spill(channel), maxsize, Holders())

    def _start(self, channel: Channel[bytes], spill: Spill, maxsize: int, holders: Holders) -> None:
        """Set the attributes, in a new queue and in a child's copy."""
        self._channel, self._spill, self._maxsize = channel, spill, maxsize
        self._send = channel.send
        self._take: Callable[..., bytes | View | native.Piece | None] = spill.file.take
        self._send_parts = spill.file.send_parts
        # A longer message may have no room, although the queue has a place for it.
        self._inline = channel.longest if maxsize <= 0 else min(channel.longest, native.INLINE_MAX)
        self._holders = holders
        self._feeder = Feeder(channel, holders, spill.file.note_waiting)
        self._capacity = channel.capacity
        # Messages that `get` took and had no memory for; the next `get` returns them.
        self._kept: deque[bytes | View | native.Piece] = deque()
        self._lost_told = 0  # lost objects that `join` has raised
        self._has_put, self._size_at_close = False, 0  # set by `close`
        self._closed = False
        _QUEUES.add(self)

    # -- the methods of multiprocessing.Queue ------------------------------------------------------

    def put(self, obj: ObjectT, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002
        """Put an object into the queue.

        Args:
            obj: an object that can be pickled.
            block: whether to wait while `maxsize` objects wait.
            timeout: the maximum seconds to wait; None waits without limit.

        Raises:
            queue.Full: there was no room.
            PeerGone: with ``peer_gone="raise"``: there is no room, and every process that called
                `get` has closed the queue or died. Objects that wait in this process are lost; the
                message says how many.
            Corrupt: another process overwrote the shared memory. Objects are lost as above.
            LimitReached: there is not enough memory for the object.
            ValueError: the queue is closed.
            Exception: any exception of pickling the object.
        """
        if self._closed:
            self._check_open()
        kind = type(obj)
        if kind in PLAIN and (kind not in SIZED or len(obj) < LARGE):  # type: ignore[arg-type]
            message: bytes | Parts = dumps(obj, 5)
        else:
            message = encode(obj)
        if not isinstance(message, bytes):
            self._put_parts(message, block, timeout)
        elif len(message) > self._inline:
            self._put_parts([message], block, timeout)
        elif self._maxsize > 0 and block and timeout is None:
            self._send(message)
        elif self._maxsize > 0:
            self._put_bounded(message, block, timeout)
        elif self._feeder.waiting:
            self._put_unbounded(message)
        else:
            try:
                self._send(message, timeout=0)
            except WouldBlock:
                self._put_unbounded(message)

    def get(self, block: bool = True, timeout: float | None = None) -> ObjectT:  # noqa: FBT001, FBT002
        """Take the next object out of the queue.

        Args:
            block: whether to wait until there is an object.
            timeout: the maximum seconds to wait; None waits without limit.

        Raises:
            queue.Empty: there was no object.
            PeerGone: with ``peer_gone="raise"``: there is no object, and every process that called
                `put` has closed the queue or died.
            ValueError: the queue is closed.
            MemoryError: there is no memory for the object; the next `get` of this process returns
                it.
            Exception: any exception of unpickling the object, which is lost.
        """
        if self._closed:
            self._check_open()
        if self._kept:
            kept = None
            with suppress(IndexError):  # another thread was faster
                kept = self._kept.popleft()
            if kept is not None:
                value = self._object(kept)
                if isinstance(kept, bytes) or kept._is_ours:  # noqa: SLF001
                    return value
        wait = None if block and timeout is None else _seconds(block, timeout)
        deadline = Deadline(wait) if wait else None
        while True:
            try:
                message = self._take(View, wait if deadline is None else deadline.remaining)
            except (WouldBlock, Timeout):
                raise Empty from None
            if message is None:  # the object was that of a process that was killed
                continue
            if isinstance(message, bytes):
                return self._object(message)
            value = self._object(message)
            if message._is_ours:  # noqa: SLF001
                return value
            # A signal handler forked, and this is the child. The parent returns the object.

    def _object(self, message: bytes | View | native.Piece) -> ObjectT:
        """Return the object in a message. Keep the message if there is no memory for the object.

        If the message belongs to the parent of this forked process, the parent may have freed it.
        Then the result means nothing.
        """
        try:
            if isinstance(message, bytes):
                if message[:1] == PICKLE:  # the usual case, without another call
                    return loads(message)  # type: ignore[no-any-return]  # noqa: S301
                return cast("ObjectT", decode(message))
            return cast("ObjectT", decode(message.buf))
        except BaseException as exc:
            if not isinstance(message, bytes) and not message._is_ours:  # noqa: SLF001
                return cast("ObjectT", None)
            if isinstance(exc, MemoryError):
                self._kept.appendleft(message)
            raise

    def put_nowait(self, obj: ObjectT) -> None:
        """Put an object without waiting: ``put(obj, block=False)``."""
        self.put(obj, block=False)

    def get_nowait(self) -> ObjectT:
        """Take an object without waiting: ``get(block=False)``."""
        return self.get(block=False)

    # -- the methods of multiprocessing.JoinableQueue ----------------------------------------------

    def task_done(self) -> None:
        """Report that the work on an object that `get` returned is done.

        The process that got the object calls this once for it, from any of its threads, and before
        `close`. A process that never calls `join` needs no `task_done`.

        Raises:
            ValueError: it was called more often than objects were put; or the queue is closed.

        >>> from ipckit import ProcessQueue
        >>> queue = ProcessQueue()
        >>> queue.put("a job")
        >>> job = queue.get()
        >>> queue.task_done()
        >>> queue.join()
        >>> queue.close()
        """
        self._check_open()
        if not self._spill.file.task_done():
            message = "task_done() called too many times"
            raise ValueError(message)

    def join(self, timeout: float | None = None) -> None:
        """Wait until all objects that were put have been got and reported by `task_done`.

        If a process takes an object and then exits, is killed or closes the queue without
        `task_done`, the object is lost, and no call waits for it. When all others are done, `join`
        raises `OwnerDied`, once in each process.

        Args:
            timeout: the maximum seconds to wait; None, the default, waits without limit, and 0 does
                not wait.

        Raises:
            OwnerDied: objects are lost as described above; the message says how many.
            Timeout: some objects are not done yet; with a timeout of 0 it is `WouldBlock`.
            ValueError: the queue is closed.
        """
        self._check_open()
        wait = None if timeout is None else max(0, timeout)
        lost = self._spill.file.join(wait)
        if lost < 0:
            left, _ = self._spill.file.tasks()
            message = f"objects that are not done yet: {left:,}"
            error, code = (Timeout, errno.ETIMEDOUT) if wait else (WouldBlock, errno.EAGAIN)
            raise error(message, errno=code, op="join", target="ProcessQueue")
        before, self._lost_told = self._lost_told, lost
        if lost > before:
            message = (
                f"lost objects: {lost - before:,}. The processes that took them exited, or closed "
                "the queue, without task_done. All other objects are done"
            )
            raise OwnerDied(message, errno=errno.EOWNERDEAD, op="join", target="ProcessQueue")

    # -- many objects, and polling -----------------------------------------------------------------

    def put_many(
        self,
        objects: Iterable[ObjectT],
        block: bool = True,  # noqa: FBT001, FBT002 - as for `put`
        timeout: float | None = None,
    ) -> None:
        """Put objects in order. Objects of other processes can come in between.

        If an exception ends the call, its attribute ``sent`` is the number of objects that were put
        before.

        Args:
            objects: objects that can be pickled.
            block: whether to wait while `maxsize` objects wait.
            timeout: the maximum seconds to wait in total; None waits without limit.

        Raises:
            queue.Full: there was no room for an object.
            Exception: as for `put`.

        >>> from ipckit import ProcessQueue
        >>> queue = ProcessQueue()
        >>> queue.put_many(["a", "b", "c"])
        >>> queue.get_many(2)
        ['a', 'b']
        >>> queue.close()
        """
        wait = None if block and timeout is None else _seconds(block, timeout)
        deadline = Deadline(wait) if wait else None
        send, waiting, inline, sent = self._send, self._feeder.waiting, self._inline, 0
        try:
            for each in objects:
                if type(each) in PLAIN and not waiting and not self._closed:
                    message = dumps(each, 5)
                    if len(message) <= inline:
                        try:
                            send(message, timeout=0)
                        except WouldBlock:  # `put` waits, or keeps the object
                            pass
                        else:
                            sent += 1
                            continue
                if wait is None:
                    self.put(each)
                else:
                    self.put(each, timeout=deadline.remaining if deadline else 0)
                sent += 1
        except BaseException as exc:
            attach(exc, "sent", sent)
            raise

    def get_many(
        self,
        max: int | None = None,
        block: bool = True,  # noqa: FBT001, FBT002 - as for `get`
        timeout: float | None = None,
    ) -> list[ObjectT]:
        """Take all objects that wait, in order. Wait until there is at least one.

        If an exception ends the call, its attribute ``received`` has the objects that the call had
        already taken. `task_done` reports each object on its own.

        Args:
            max: the maximum number of objects, 1 or more; by default all that wait in shared memory
                when the first one is taken.
            block: whether to wait until there is an object.
            timeout: the maximum seconds to wait for the first object; None waits without limit.

        Returns:
            The objects; at least one.

        Raises:
            queue.Empty: there was no object.
            TypeError: `max` is not an integer.
            InvalidArgument: `max` is less than 1.
            Exception: as for `get`.
        """
        if max is not None and int_argument("max", max) < 1:
            message = f"max must be 1 or more, not {max}"
            raise InvalidArgument(message, errno=errno.EINVAL, op="get_many")
        found = [self.get(block, timeout)]
        try:
            # Only the objects that wait now: a fast sender could keep the call from ending.
            kept, waiting = len(self._kept), len(self._channel)
            more = kept + waiting if max is None else min(max - 1, kept + waiting)
            with suppress(Empty, WouldBlock, PeerGone):  # the next call raises it if it is still so
                for number in range(more):
                    if number < kept:
                        found.append(self.get(block=False))
                        continue
                    taken = self._take(View, 0)
                    if taken is None:  # as in `get`
                        continue
                    value = self._object(taken)
                    if isinstance(taken, bytes) or taken._is_ours:  # noqa: SLF001
                        found.append(value)
        except BaseException as exc:
            attach(exc, "received", tuple(found))
            raise
        return found

    def fileno(self) -> int:
        """Return a descriptor that is readable when an object waits, for select, poll or epoll.

        Then call `get_nowait`. If another process was faster, it raises `queue.Empty`, and the
        descriptor is no longer readable. The queue keeps the descriptor and closes it. A forked
        child calls this method again. See eventfd(2).

        Raises:
            LimitReached: RLIMIT_NOFILE or RLIMIT_NPROC is reached.
            ValueError: the queue is closed.

        >>> import select
        >>> from ipckit import ProcessQueue
        >>> queue = ProcessQueue()
        >>> queue.put("news")
        >>> select.select([queue], [], [], 1)[0] == [queue]
        True
        >>> queue.close()
        """
        self._check_open()
        return self._channel.fileno()

    # -- state, and the end ------------------------------------------------------------------------

    def qsize(self) -> int:
        """Return the number of objects that wait in shared memory and in this process.

        After `close`, it is the number at the time of closing.
        """
        if self._closed:
            return self._size_at_close
        return len(self._channel) + len(self._feeder.waiting) + len(self._kept)

    def empty(self) -> bool:
        """Return whether no object waits.

        After `close`, a process that has put nothing gets the value at the time of closing.

        Raises:
            ClosedHandle: the queue is closed, and this process has put an object into it.
        """
        if self._closed and self._has_put:
            raise closed_handle("empty", "ProcessQueue")
        return self.qsize() == 0

    def full(self) -> bool:
        """Return whether `maxsize` objects wait; False without a `maxsize`.

        After `close`, it is the value at the time of closing.
        """
        return self._maxsize > 0 and self.qsize() >= self._capacity

    def close(self) -> None:
        """Close the queue in this process; idempotent. The objects that it put are still sent.

        It warns (RuntimeWarning) if objects that were put are lost, because the shared memory is
        corrupt or, with ``peer_gone="raise"``, because no receiver is left.
        """
        if self._closed:
            return
        with suppress(OSError):  # in a forked child, if the channel has 256 peers already
            self._size_at_close = self.qsize()
            self._has_put = self._has_put or any(
                each.self and each.sent for each in self._channel.peers()
            )
        self._closed = True
        try:
            self._feeder.close()
        finally:
            self._kept.clear()
            self._take = self._send_parts = _refuse
            self._spill.close()

    def join_thread(self) -> None:
        """Wait until all objects that this process put are in shared memory. Call `close` first.

        If no other process has the queue any more, the objects that wait are dropped.

        Raises:
            ValueError: the queue is not closed.
            IpcError: objects that were put are lost: `Corrupt`, or `PeerGone` with
                ``peer_gone="raise"``. The message says how many.
        """
        if not self._closed:
            message = "the queue is not closed"
            raise ValueError(message)
        self._feeder.join()

    def cancel_join_thread(self) -> None:
        """Let this process exit without sending the objects that have no room; they are lost."""
        self._feeder.cancel_join()

    # -- sending -----------------------------------------------------------------------------------

    def _put_bounded(self, message: bytes, block: bool, timeout: float | None) -> None:  # noqa: FBT001
        try:
            self._send(message, timeout=_seconds(block, timeout))
        except (WouldBlock, Timeout):
            raise Full from None

    def _put_unbounded(self, message: bytes | native.Piece) -> bool:
        """Send a message if there is room and no message waits; otherwise give it to the feeder.

        Returns:
            False if the message is a piece that belongs to the parent of this forked process.
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

    def _put_parts(self, parts: Parts, block: bool, timeout: float | None) -> None:  # noqa: FBT001
        """Put a message in a block of the channel, or in a piece of the spill file."""
        if self._maxsize <= 0:
            self._put_parts_unbounded(parts)
            return
        wait = None if block and timeout is None else _seconds(block, timeout)
        deadline = Deadline(wait) if wait else None
        # False: a signal handler forked, and this is the child. The parent sends its block or
        # piece, so the child takes another. The last reference to a piece frees it unless it was
        # sent.
        sent: bool | None = False
        try:
            while sent is False:
                sent = self._send_parts(parts, wait if deadline is None else deadline.remaining)
                if sent is None:
                    piece = self._spill.put(parts)
                    sent = piece.send(wait if deadline is None else deadline.remaining)
        except (WouldBlock, Timeout):
            raise Full from None

    def _put_parts_unbounded(self, parts: Parts) -> None:
        sent: bool | None = False
        while sent is False and not self._feeder.waiting:
            try:
                sent = self._send_parts(parts, 0)
            except WouldBlock:
                sent = None
        if sent:
            return
        size = sum(memoryview(each).nbytes for each in parts)
        if size <= self._channel.longest:
            self._put_unbounded(b"".join(parts))
            return
        while not self._put_unbounded(self._spill.put(parts)):
            pass

    # -- lifecycle ---------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            message = f"the {type(self).__name__} is closed"
            raise ValueError(message)

    def __repr__(self) -> str:
        facts = [f"{type(self).__name__} anonymous"]
        try:
            if self._closed:
                facts.append("closed")
            else:
                size, here = self.qsize(), len(self._feeder.waiting)
                limit = f" of {self._capacity:,}" if self._maxsize > 0 else ""
                facts.append(f"{size:,}{limit} objects")
                facts += [f"{here:,} of them in this process"] if here else []
                facts += ["open"] if self._maxsize > 0 else ["no maxsize", "open"]
        except Exception as exc:  # such as Corrupt; repr must not raise
            facts.append(type(exc).__name__)
        return f"<{', '.join(facts)}>"

    def _after_fork(self) -> None:
        self._feeder.after_fork()
        self._kept.clear()

    def __getstate__(self) -> Any:
        self._check_open()
        if not is_spawning():
            name = type(self).__name__
            message = (
                f"{name} objects should only be shared between processes through inheritance: an "
                "argument of a task can't be one. Pass it when the processes start: "
                "Process(args=(queue,)), or initializer=keep, initargs=(queue,) of a "
                "ProcessPoolExecutor or Pool, where keep() stores it in a global variable for the "
                "tasks. Or pass an ipckit.Channel with a name"
            )
            raise RuntimeError(message)
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
    """Replaces `take` in a closed queue, because another thread may be about to call it."""
    message = "the ProcessQueue is closed"
    raise ValueError(message)


def _seconds(block: bool, timeout: float | None) -> float | None:  # noqa: FBT001
    """Return the timeout for a call on the channel. A negative timeout does not wait."""
    if not block:
        return 0
    return None if timeout is None else max(0, timeout)


_QUEUES: Final[weakref.WeakSet[ProcessQueue[Any]]] = weakref.WeakSet()


def _queues_after_fork() -> None:
    for queue in tuple(_QUEUES):
        queue._after_fork()  # noqa: SLF001 - the class of this module


at_fork("queues", after_in_child=_queues_after_fork)
