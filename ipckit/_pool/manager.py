"""Manager: hand out the tasks of a pool, receive results, and replace workers that died.

There are three kinds of threads. A thread that calls `submit` hands out the task itself if there is
room. The manager's thread waits in the channel of results, and does everything else. The thread of
`Watch` waits until a worker dies, and then wakes the manager's thread by a message in that channel.

A task is *handed out* when it is in the channel of jobs or a worker has taken it. Then its Future
is running and can't be cancelled. So the manager hands out few tasks at a time: one more than there
are workers, or as many as the workers can do in a few milliseconds.
"""

from __future__ import annotations

import itertools
import signal
import threading
import time
import weakref
from collections import deque
from concurrent.futures import CancelledError, Future, InvalidStateError, _base
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from ipckit._channel.in_place import View
from ipckit._core.forks import at_fork
from ipckit._pool.batch import MapRun
from ipckit._pool.crew import Crew, Member
from ipckit._pool.errors import died, name_of, timed_out
from ipckit._pool.launch import launcher_for
from ipckit._pool.messages import (
    ERROR,
    JOB_HEAD,
    KIND_SHIFT,
    LEAVING,
    NOT_READY,
    NUMBER_MASK,
    READY,
    RESULT_HEAD,
    RETURNED,
    WAKE,
    opened,
)
from ipckit._pool.outbox import Outbox
from ipckit._pool.remote import without_frames
from ipckit._pool.stats import PoolStats, WorkerStats
from ipckit._pool.task import Call, Paces, Task
from ipckit._pool.watch import Watch
from ipckit._pool.worker import QUIET_SECONDS
from ipckit._process_queue.pickling import encode
from ipckit.errors import PeerGone, Timeout, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext

    from ipckit._pool.plan import Plan

# The manager's thread may have to wait `sys.getswitchinterval`, 5 ms, for the GIL if another thread
# computes. The workers must have work for that time.
_AHEAD_SECONDS: Final = 0.006
_AHEAD_MAX: Final = 1024
_LOOK_SECONDS: Final = 1.0  # while tasks run, the thread waits at most this long for a message
_RETRY_SECONDS: Final = 0.05  # before the next attempt if a stopped process holds a lock
_RETRIES_OF_START: Final = 100  # how often to try to start a worker before the pool is broken
# How many workers in a row may end before they run a task: by themselves, or by a signal.
_EXITS_MAX: Final = 3
_KILLS_MAX: Final = 20
FOREIGN: Final = "the pool belongs to the parent process"
_WAKE: Final = RESULT_HEAD.pack(WAKE << KIND_SHIFT, 0, 0.0)


class Manager:
    """Runs the tasks of a pool. It does not keep the pool object alive.

    Args:
        size: the maximum number of workers.
        context: the context of multiprocessing.
        plan: the objects that the pool shares with its workers.
        retries: how often a task runs again if its worker died.
        task_timeout: seconds after which a task's worker is killed, or None.

    Attributes:
        broken: why the pool can't work any more; "" if it can.
        closing: whether `shutdown` was called.
        foreign: whether this process is a forked child, and the pool belongs to its parent.
        pool: a weak reference to the pool, whose callback calls `abandon`.
        crew: the workers.
        thread: the manager's thread.
    """

    def __init__(
        self,
        size: int,
        context: BaseContext,
        plan: Plan,
        retries: int,
        task_timeout: float | None,
    ) -> None:
        self.broken, self.closing = "", False
        self._abandoned = self.foreign = self._woken = self._cancels = False
        self.pool: weakref.ref[Any] | None = None
        self._plan, self._retries, self._task_timeout = plan, retries, task_timeout
        self._lock = threading.RLock()  # a finalizer or signal handler may submit during a submit
        self._waiting: deque[Task | MapRun] = deque()
        self._tasks: dict[int, Task] = {}  # the tasks that are handed out, by their numbers
        self._ahead = 0.0  # the expected seconds of all of them; changes under the lock
        self._ended = 0.0  # the part of `_ahead` of tasks that have ended since the last turn
        self._numbers = itertools.count(1)
        self._paces = Paces()
        self._deaths: deque[Member] = deque()
        self._done = self._failed = self._died = self._bad_starts = self._failed_starts = 0
        self._quiet = False  # whether the thread waits for an item in `_calm`, not in the channel
        # Wakes the idle thread. A SimpleQueue, because a finalizer may put into it at any moment.
        self._calm: SimpleQueue[None] = SimpleQueue()
        self._stalled = False  # whether a task was not sent, and no result will wake the thread
        self._forks = context.get_start_method() == "fork"
        # The number of workers to have. With the method fork, all are started at once, from the
        # same state of the program. With other methods, it is the highest number of tasks that the
        # pool had at one time.
        self._wanted = size if self._forks else 0
        # Gets an item when the thread has started the first workers. Unlike an Event, a SimpleQueue
        # stays intact if a signal handler raises an exception at any moment.
        self._begun: SimpleQueue[Exception | None] = SimpleQueue()
        self.crew = Crew(size, launcher_for(context, plan), plan.board)
        self._watch = Watch(plan.board, task_timeout, self._is_busy, self._note_death)
        self.thread = threading.Thread(target=self._run, name="ipckit-pool")
        self._take = plan.spill.file.take
        self._outbox = Outbox(plan)
        _MANAGERS.add(self)

    def start(self) -> None:
        """Start the thread, and wait until it has started the first workers.

        Raises:
            OSError: no process can be started.
            BrokenProcessPool: no thread can be started.
        """
        try:
            self.thread.start()
        except RuntimeError as exc:
            self._break(str(exc))
            self._end()
            raise BrokenProcessPool(self.broken) from exc
        error = self._begun.get()
        if isinstance(error, RuntimeError):
            raise BrokenProcessPool(self.broken) from error
        if error is not None:
            raise error

    def abandon(self) -> None:
        """End when all tasks are done, because the pool was deleted. Any thread may call this."""
        self._abandoned = True
        self._wake()

    def forked(self) -> None:
        """Forget all tasks in a forked child, because the pool belongs to the parent."""
        self.foreign = True
        self._lock = threading.RLock()
        self.broken = FOREIGN
        self._tasks, self._waiting = {}, deque()

    # -- submit ------------------------------------------------------------------------------------

    def submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Future[Any]:
        """Submit a call.

        Args:
            fn: the function.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Returns:
            The Future of the call.

        Raises:
            BrokenProcessPool: the pool can't work any more.
            RuntimeError: the pool was shut down.
        """
        future: Future[Any] = Future()
        try:
            message = encode((fn, args, kwargs))
        except Exception as exc:  # the future gets it, as with ProcessPoolExecutor
            self._check_open()
            future.set_exception(exc)
            return future
        self._add(Call(future, fn, self._paces.of(fn), message))
        return future

    def map(
        self,
        fn: Callable[..., Any],
        calls: Iterator[tuple[Any, ...]],
        chunksize: int,
        buffersize: int | None,
    ) -> MapRun:
        """Submit the calls of a map: all, or the first `buffersize` chunks."""
        pace = self._paces.of(fn)
        run = MapRun(fn, pace, chunksize if chunksize > 1 else None)
        run.add(calls, None if buffersize is None else buffersize * chunksize)
        self.extend(run)
        return run

    def extend(self, run: MapRun) -> None:
        """Hand out the calls that were added to a map, or let them wait."""
        if run:
            self._add(run)

    def _add(self, item: Task | MapRun) -> None:
        waiting = self._waiting
        with self._lock:
            self._check_open()
            if isinstance(item, MapRun):
                if item.queued:
                    return
                item.queued = True
            waiting.append(item)
            # The second condition helps if an exception of a signal handler has ended an earlier
            # call at this point: then other items wait, but no task is handed out.
            if len(waiting) == 1 or not self._tasks:
                self._fail(self._hand_out())
            crew = self.crew
            if self._stalled or (crew.missing and len(self._tasks) + len(waiting) > crew.count):
                self._wake()

    def _check_open(self) -> None:
        if self.broken:
            raise BrokenProcessPool(self.broken)
        if self.closing:
            message = "cannot schedule new futures after shutdown"
            raise RuntimeError(message)

    def _unfinished(self) -> int:
        """Return the number of tasks that are handed out or wait."""
        waiting = sum(len(x) if isinstance(x, MapRun) else 1 for x in self._waiting)
        return len(self._tasks) + waiting

    def _fill(self) -> None:
        """Start workers until there are enough. The caller holds the lock.

        Only the manager's thread calls this. In the main thread, an exception of a signal handler,
        such as KeyboardInterrupt, could lose a process that was just started.

        Raises:
            OSError: a worker can't be started, and the pool has no worker at all.
        """
        crew = self.crew
        if crew.missing:
            self._wanted = max(self._wanted, min(self._unfinished(), crew.count + crew.missing))
        while crew.count < self._wanted:
            try:
                self._watch.add(crew.start())
            except OSError:
                if crew.count == 0:
                    raise
                return

    # -- handing out -------------------------------------------------------------------------------

    def _has_room(self, item: Task | MapRun) -> bool:
        """Return whether to hand out another task now."""
        out, workers = len(self._tasks), self.crew.count
        if out <= workers:
            return True
        seconds = item.pace.seconds
        if isinstance(item, MapRun):
            seconds *= item.size(workers or 1)
        return out < _AHEAD_MAX and self._ahead + seconds <= _AHEAD_SECONDS * workers

    def _hand_out(self) -> list[tuple[Task, BaseException]]:
        """Hand out tasks while there is room. The caller holds the lock.

        Returns:
            The tasks that could not be sent, with their exceptions.
        """
        failed: list[tuple[Task, BaseException]] = []
        waiting, self._stalled = self._waiting, False
        while waiting and self._has_room(waiting[0]):
            item = waiting.popleft()
            task: Task | None
            if isinstance(item, MapRun):
                task = item.cut(self.crew.count or 1) if item else None
                item.queued = bool(item)
                if item.queued:
                    waiting.appendleft(item)
                if task is None:
                    continue
            else:
                task = item
            if not task.number and not task.begin():
                continue
            try:
                if not self._send(task):
                    waiting.appendleft(task)
                    self._stalled = not self._tasks
                    break
            except Exception as exc:  # such as LimitReached; only this task can't be sent
                failed.append((task, exc))
        if self._tasks:
            self._watch.task_began()
            self._outbox.ring(len(self._tasks))
            if self._quiet:
                self._calm.put(None)
        return failed

    def _send(self, task: Task) -> bool:
        """Send a task to the workers. Return False if it must wait.

        If a signal handler raises an exception during this call, the task was either sent, or it is
        forgotten.
        """
        number = next(self._numbers)
        task.number = number
        progress = [0]
        try:
            self._tasks[number] = task
            self._ahead += task.seconds
            self._outbox.send(task, number, progress)
        except (WouldBlock, Timeout, PeerGone):
            return False
        finally:
            if progress[0]:
                task.message = None
            elif self._tasks.pop(number, None) is not None:
                self._ahead -= task.seconds
        return True

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._watch.start()
            if self._forks:
                with self._lock:
                    self._fill()
        except Exception as exc:  # `start` raises it
            error = exc
            self._break(str(exc))
        self._begun.put(error)
        try:
            while not self.broken and self._turn():
                pass
        except BaseException as exc:  # the futures must not wait forever
            self._break(f"the pool's thread failed: {type(exc).__name__}: {exc}")
        self._end()

    def _turn(self) -> bool:
        """Wait for a message. Process all messages, deaths and tasks. Return whether to go on."""
        if self._stalled or self._failed_starts > 0:
            self._receive(_RETRY_SECONDS)
        elif self._tasks:
            # Use a timeout, because `_wake` sends no message while a stopped process holds the
            # channel's lock.
            if not self._receive(_LOOK_SECONDS):
                self._woken = False
        elif not self._receive(QUIET_SECONDS):
            self._be_quiet()
        for _ in range(len(self._plan.results)):
            self._receive(0)
        while self._deaths:
            member = self._deaths.popleft()
            self._handle_death(member)
            member.process.pidfd.close()
        if self.broken:
            return False
        self._replace()
        with self._lock:
            self._ahead = max(0.0, self._ahead - self._ended) if self._tasks else 0.0
            self._ended = 0.0
            failed = self._hand_out()
            over = (self.closing or self._abandoned) and not self._tasks and not self._waiting
            if over:
                self.closing = True
        self._fail(failed)
        return not over and not self.broken

    def _be_quiet(self) -> None:
        """Wait for a task, a death or a shutdown, without using the processor."""
        while not self._calm.empty():
            self._calm.get()
        with self._lock:
            over = self.closing or self._abandoned or self.broken
            if self._tasks or self._waiting or self._deaths or over:
                return
            self._quiet = True
        self._calm.get()
        self._quiet = False

    def _receive(self, timeout: float | None) -> bool:
        """Receive one message and process it. Return False if none arrives within the timeout."""
        try:
            message = self._take(View, timeout)
        except (WouldBlock, Timeout):
            return False
        if message is not None:
            memory = memoryview(message if isinstance(message, bytes) else message.buf)
            word, place, seconds = RESULT_HEAD.unpack_from(memory)
            number, body = word & NUMBER_MASK, memory[RESULT_HEAD.size :]
            kind = word >> KIND_SHIFT
            if kind <= ERROR:
                self._end_task(number, place, seconds, kind, body)
            else:
                self._handle(kind, number, place, body)
        return True

    def _end_task(
        self, number: int, place: int, seconds: float, kind: int, body: memoryview
    ) -> None:
        """Complete the future of a task with its result or exception."""
        self._bad_starts = 0
        task = self._tasks.pop(number, None)
        if task is None:
            return  # the task was given up
        self._ended += task.seconds
        try:
            value = opened(body)
        except BaseException as exc:  # the future gets it
            kind, value = ERROR, without_frames(exc)  # frames refer to the message's memory
        done = task.count_done(value)
        task.pace.note(seconds / done)
        self._done += done
        member = self.crew.at(place)
        if member is not None:
            member.done += done
        try:
            if kind == ERROR:
                self._failed += 1
                task.fail(value)
            else:
                task.succeed(value)
        except BaseException:  # for example SystemExit in a callback of the future
            _base.LOGGER.exception("exception in a callback of a task's future")
        rest = task.rest()
        if isinstance(rest, MapRun):
            with self._lock:  # even after `shutdown`, which waits for the whole map
                if self._cancels:
                    rest.fail(CancelledError())
                elif not rest.queued:
                    rest.queued = True
                    self._waiting.append(rest)

    def _handle(self, kind: int, number: int, place: int, body: memoryview) -> None:
        """Process a message that is not a result."""
        member = self.crew.at(place)
        if kind == WAKE:
            self._woken = False
        elif kind == RETURNED:
            self._resume(number, bytes(body[JOB_HEAD.size :]))
        elif member is not None and kind == NOT_READY:
            member.failed = True  # the pool breaks when the worker has written its log and exits
        elif member is not None and kind == READY:
            member.ready = True
        elif member is not None and kind == LEAVING:
            member.leaving = True

    def _resume(self, number: int, message: bytes) -> None:
        """Process the job of a dead worker, which another worker has returned.

        If the dead worker had begun the task, `_handle_death` decides whether the task runs again.
        Otherwise the task waits to be handed out again. The kernel frees a process's locks before
        its pidfd shows the end, so a job can be returned before the pool knows of the death.
        """
        for member in self.crew.ended():
            self._handle_death(member)
        task = self._tasks.get(number)
        if task is not None:
            with self._lock:  # waits for the end of `_send`, which sets `message` to None
                task.message = message
            if not any(self._plan.board.task(each.place) == number for each in self.crew):
                self._hand_out_again(number)

    def _hand_out_again(self, number: int) -> None:
        """Put a task whose job was returned at the front of the queue."""
        task = self._tasks.pop(number)
        self._ended += task.seconds
        with self._lock:
            self._waiting.appendleft(task)

    def _wake(self) -> None:
        """Wake the manager's thread. Can be called by any thread and by a finalizer."""
        if self.foreign:
            return
        self._calm.put(None)
        if not self._woken:
            self._woken = True
            with suppress(OSError):
                self._plan.results.send(_WAKE, timeout=0)

    # -- workers -----------------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        return bool(self._tasks)

    def _note_death(self, member: Member) -> None:
        self._deaths.append(member)
        self._wake()

    def _handle_death(self, member: Member) -> None:
        """Handle the death of a worker. Its task fails, or waits until its job is returned."""
        if member.handled:
            return
        for _ in range(len(self._plan.results)):  # the worker may have sent results before
            self._receive(0)
        if member.handled:
            return
        member.handled = True
        board, place = self._plan.board, member.place
        number = board.task(place)
        with self._lock:
            code = self.crew.remove(member)
        task = self._tasks.get(number)
        if member.leaving:
            self._wanted -= 1  # another worker starts if there are tasks for it
        else:
            self._died += 1
        if task is not None:
            pid = member.process.pid
            if member.overdue == number:
                error = timed_out(pid, self._task_timeout or 0.0, name_of(task.fn))
                self._give_up(number, error)
            elif task.deaths < self._retries:
                task.deaths += 1
                if task.message is not None:  # another worker has returned the job already
                    self._hand_out_again(number)
            else:
                self._give_up(number, died(pid, code, name_of(task.fn)))
        elif member.failed:
            self._break("a worker's initializer raised an exception")
        elif not member.leaving and not member.overdue:
            self._judge_start(member, code)
        # Wake another worker: the channel may have woken the dead one for a job, or a worker must
        # return the dead worker's job.
        with suppress(OSError):
            self._outbox.nudge()

    def _judge_start(self, member: Member, code: int | None) -> None:
        """Break the pool if too many workers in a row have ended before they ran a task."""
        by_itself = code is not None and code >= 0
        if not member.ready or by_itself:
            self._bad_starts += 1
        if self._bad_starts >= (_EXITS_MAX if by_itself else _KILLS_MAX):
            how = f"with status {code}" if by_itself else f"by signal {-(code or 0)}"
            self._break(f"{self._bad_starts} workers in a row ended {how} before they ran a task")

    def _replace(self) -> None:
        """Start missing workers, unless the pool closes and has no tasks."""
        try:
            with self._lock:
                if self._tasks or self._waiting or not (self.closing or self.broken):
                    self._fill()
            self._failed_starts = 0
        except OSError as exc:
            self._failed_starts += 1
            if self._failed_starts > _RETRIES_OF_START:
                self._break(f"no worker can be started: {exc}")
        except Exception as exc:  # for example, the initializer can't be pickled
            self._break(f"no worker can be started: {type(exc).__name__}: {exc}")

    def _give_up(self, number: int, error: BaseException) -> None:
        """Fail a task that is handed out."""
        task = self._tasks.pop(number)
        self._ended += task.seconds
        self._fail([(task, error)])

    def _fail(self, failed: list[tuple[Task, BaseException]]) -> None:
        self._done += len(failed)
        self._failed += len(failed)
        for task, error in failed:
            task.fail(error)

    # -- the end -----------------------------------------------------------------------------------

    def shutdown(self, *, cancel_futures: bool) -> None:
        """Accept no more tasks, and end when all are done. Do not wait for that.

        Args:
            cancel_futures: whether to cancel the tasks that are not handed out.
        """
        cancelled: list[Call] = []
        with self._lock:
            self.closing = True
            self._cancels = self._cancels or cancel_futures
            if cancel_futures:
                waiting = list(self._waiting)
                self._waiting.clear()
                self._waiting.extend(x for x in waiting if isinstance(x, Task) and x.number)
                cancelled = [x for x in waiting if isinstance(x, Call) and not x.number]
                for item in waiting:
                    if isinstance(item, MapRun):
                        item.fail(CancelledError())
        for call in cancelled:
            call.future.cancel()
            with suppress(InvalidStateError, RuntimeError):
                call.future.set_running_or_notify_cancel()  # for `wait` and `as_completed`
        self._wake()

    def _break(self, reason: str) -> None:
        """Mark the pool as broken, and fail all tasks."""
        with self._lock:
            self.broken = self.broken or reason
            lost = [*self._tasks.values(), *self._waiting]
            self._tasks.clear()
            self._waiting.clear()
        for item in lost:
            if isinstance(item, MapRun):
                item.fail(BrokenProcessPool(self.broken))
            elif item.number or item.begin():
                self._fail([(item, BrokenProcessPool(self.broken))])
        self._wake()

    def _end(self) -> None:
        """Stop the workers, and close all objects. Other threads may still call `stats`."""
        members = [member for member in self.crew if not member.handled]
        stops = len(members)
        if self.broken:
            stops = 0
            for member in members:
                with suppress(OSError):
                    signal.pidfd_send_signal(member.process.pidfd.number, signal.SIGKILL)
        self._watch.close()
        while members:
            # A process that is stopped by SIGSTOP may hold the channel's lock for any time.
            with suppress(OSError):
                while stops:
                    self._outbox.stop(_RETRY_SECONDS)
                    stops -= 1
            self._outbox.ring(len(members))
            if stops or members[-1].process.exitcode() is None:
                time.sleep(_RETRY_SECONDS)
            ended = self.crew.ended()
            members = [member for member in members if member not in ended]
        with self._lock:
            for member in self.crew:
                if not member.handled:
                    member.process.pidfd.close()
                self.crew.remove(member)
            self.crew.launcher.close()
            self._outbox.close()
            self._plan.close()
            del self._take  # the method keeps the spill file open

    # -- stats -------------------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """Return the state of the pool."""
        now = time.monotonic()
        workers: list[WorkerStats] = []
        with self._lock:
            for member in self.crew:
                number = self._plan.board.task(member.place)
                task = self._tasks.get(number) if number else None
                since = self._plan.board.since(member.place)
                name = name_of(task.fn) if task is not None else ""
                seconds = max(0.0, now - since) if task is not None else 0.0
                workers.append(WorkerStats(member.process.pid, name, seconds, member.done))
            running = sum(worker.task != "" for worker in workers)
            waiting = self._unfinished() - running
            return PoolStats(self._done, self._failed, waiting, running, self._died, tuple(workers))


_MANAGERS: Final[weakref.WeakSet[Manager]] = weakref.WeakSet()


def _managers_after_fork() -> None:
    for manager in tuple(_MANAGERS):
        manager.forked()


at_fork("pools", after_in_child=_managers_after_fork)
