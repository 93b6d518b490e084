"""The manager of a pool: it hands tasks out, receives results, and replaces workers that died.

Threads: `submit` hands a task out itself if there is room. The manager's thread sleeps in the
channel of results, and does everything else. The thread of `Watch` sleeps until a worker dies, and
then wakes the manager by a message in that channel.

A task is *handed out* when it is in the channel of jobs or a worker has it. Then its Future is
running, and it can't be cancelled. So few tasks are handed out: one more than there are workers, or
as many as the workers can do in a few milliseconds.
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

# A thread that wants to run Python code waits up to `sys.getswitchinterval`, 5 ms, for one that
# does not pause. Workers must have work for that time.
_AHEAD_SECONDS: Final = 0.006
_AHEAD_MAX: Final = 1024
_LOOK_SECONDS: Final = 1.0  # between two looks for deaths while tasks run
_RETRY_SECONDS: Final = 0.05  # before the next try if a stopped process holds the channel's lock
_RETRIES_OF_START: Final = 100  # of a worker, if there is none
# Workers in a row that end before they run a task: by themselves, or killed while they start.
_EXITS_MAX: Final = 3
_KILLS_MAX: Final = 20
FOREIGN: Final = "the pool belongs to the parent process"
_WAKE: Final = RESULT_HEAD.pack(WAKE << KIND_SHIFT, 0, 0.0)


class Manager:
    """The manager of a pool, which does not keep the pool alive.

    Args:
        size: the maximum number of workers.
        context: the context of multiprocessing.
        plan: what the pool shares with its workers.
        retries: how often a task runs again whose worker died.
        task_timeout: seconds after which a task's worker is killed, or None.

    Attributes:
        broken: why the pool can't work any more; "" if it can.
        closing: whether `shutdown` was called.
        foreign: whether this process is a forked child, and the pool is its parent's.
        pool: the pool, weakly; its end calls `abandon`.
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
        self._tasks: dict[int, Task] = {}  # those that are handed out, by their numbers
        self._ahead = 0.0  # the seconds that they were expected to take; changes under the lock
        self._ended = 0.0  # the part of `_ahead` that has ended since the last turn
        self._numbers = itertools.count(1)
        self._paces = Paces()
        self._deaths: deque[Member] = deque()
        self._done = self._failed = self._died = self._bad_starts = self._failed_starts = 0
        self._quiet = False  # whether the thread waits for `_calm` to end, not in the channel
        self._calm: SimpleQueue[None] = SimpleQueue()  # a finalizer may put into it at any moment
        self._stalled = False  # whether a task was not sent, although no result will come
        self._forks = context.get_start_method() == "fork"
        # The number of workers. With the method fork, all are started at once, from the same state
        # of the program. With the others, there are as many as there were tasks at the same time.
        self._wanted = size if self._forks else 0
        # Gets an item when the thread has started the first workers. Unlike an Event, it is intact
        # after an exception of a signal handler at any moment.
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
        """In a forked child: leave everything to the parent."""
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

        Raises:
            BrokenProcessPool: the pool can't work any more.
            RuntimeError: the pool was shut down.
        """
        future: Future[Any] = Future()
        try:
            message = encode((fn, args, kwargs))
        except Exception as exc:  # as ProcessPoolExecutor, the future gets it
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
            # Nothing is handed out if a signal handler has ended an earlier call right here.
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
        """Return how many tasks are handed out or wait."""
        waiting = sum(len(x) if isinstance(x, MapRun) else 1 for x in self._waiting)
        return len(self._tasks) + waiting

    def _fill(self) -> None:
        """Start workers until there are enough. Raise an error only if there is none at all.

        Only the manager's thread does this: an exception of a signal handler, such as
        KeyboardInterrupt, would lose a process that was just started. Requires the lock.
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
        """Return whether to hand out another task."""
        out, workers = len(self._tasks), self.crew.count
        if out <= workers:
            return True
        seconds = item.pace.seconds
        if isinstance(item, MapRun):
            seconds *= item.size(workers or 1)
        return out < _AHEAD_MAX and self._ahead + seconds <= _AHEAD_SECONDS * workers

    def _hand_out(self) -> list[tuple[Task, BaseException]]:
        """Hand out tasks while there is room. Requires the lock. Return those that failed."""
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

        If a signal handler raises an exception, the task was sent, or it is forgotten.
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
        except BaseException as exc:  # the futures must not wait for ever
            self._break(f"the pool's thread failed: {type(exc).__name__}: {exc}")
        self._end()

    def _turn(self) -> bool:
        """Wait for a message, and do all that there is to do. Return whether to go on."""
        if self._stalled or self._failed_starts > 0:
            self._receive(_RETRY_SECONDS)
        elif self._tasks:
            # Not without a timeout: `_wake` sends no message while a stopped process holds the
            # channel's lock.
            if not self._receive(_LOOK_SECONDS):
                self._woken = False
        elif not self._receive(QUIET_SECONDS):
            self._be_quiet()
        for _ in range(len(self._plan.results)):
            self._receive(0)
        while self._deaths:
            member = self._deaths.popleft()
            self._bury(member)
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
        """Wait until there is something to do, without using the processor."""
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
        """Receive one message and deal with it. Return False if there is none in time."""
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
            return  # it was given up
        self._ended += task.seconds
        try:
            value = opened(body)
        except BaseException as exc:  # the future gets it
            kind, value = ERROR, without_frames(exc)  # they refer to the message's memory
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
        except BaseException:  # such as SystemExit in a callback of the future
            _base.LOGGER.exception("exception in a callback of a task's future")
        rest = task.rest()
        if isinstance(rest, MapRun):
            with self._lock:  # also after `shutdown`, which waits for the whole map
                if self._cancels:
                    rest.fail(CancelledError())
                elif not rest.queued:
                    rest.queued = True
                    self._waiting.append(rest)

    def _handle(self, kind: int, number: int, place: int, body: memoryview) -> None:
        """Deal with a message that is not a result."""
        member = self.crew.at(place)
        if kind == WAKE:
            self._woken = False
        elif kind == RETURNED:
            self._resume(number, bytes(body[JOB_HEAD.size :]))
        elif member is not None and kind == NOT_READY:
            member.failed = True  # its exit breaks the pool; until then it may write its log
        elif member is not None and kind == READY:
            member.ready = True
        elif member is not None and kind == LEAVING:
            member.leaving = True

    def _resume(self, number: int, message: bytes) -> None:
        """Take back the job of a worker that died, unless its task has ended.

        The worker's locks are free before its pidfd shows the end of the process. If it had begun
        the task, the task goes on when the worker is buried.
        """
        for member in self.crew.ended():
            self._bury(member)
        task = self._tasks.get(number)
        if task is not None:
            with self._lock:  # `_send` has ended
                task.message = message
            if not any(self._plan.board.task(each.place) == number for each in self.crew):
                self._hand_out_again(number)

    def _hand_out_again(self, number: int) -> None:
        """Let a task wait whose job was taken back."""
        task = self._tasks.pop(number)
        self._ended += task.seconds
        with self._lock:
            self._waiting.appendleft(task)

    def _wake(self) -> None:
        """Wake the thread. Any thread may call this, a finalizer too."""
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

    def _bury(self, member: Member) -> None:
        """Deal with the death of a worker: its task fails, or waits until its job is returned."""
        if member.buried:
            return
        for _ in range(len(self._plan.results)):  # what the worker has sent before
            self._receive(0)
        if member.buried:
            return
        member.buried = True
        board, place = self._plan.board, member.place
        number = board.task(place)
        with self._lock:
            code = self.crew.remove(member)
        task = self._tasks.get(number)
        if member.leaving:
            self._wanted -= 1  # another one starts if there are tasks for it
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
        # The channel may have woken this worker for a job, or another one must return its job.
        with suppress(OSError):
            self._outbox.nudge()

    def _judge_start(self, member: Member, code: int | None) -> None:
        """Give the pool up if worker after worker ends without a task."""
        by_itself = code is not None and code >= 0
        if not member.ready or by_itself:
            self._bad_starts += 1
        if self._bad_starts >= (_EXITS_MAX if by_itself else _KILLS_MAX):
            how = f"with status {code}" if by_itself else f"by signal {-(code or 0)}"
            self._break(f"{self._bad_starts} workers in a row ended {how} before they ran a task")

    def _replace(self) -> None:
        """Start the workers that are missing, if there are tasks or may be some."""
        try:
            with self._lock:
                if self._tasks or self._waiting or not (self.closing or self.broken):
                    self._fill()
            self._failed_starts = 0
        except OSError as exc:
            self._failed_starts += 1
            if self._failed_starts > _RETRIES_OF_START:
                self._break(f"no worker can be started: {exc}")
        except Exception as exc:  # such as an error of pickling the initializer
            self._break(f"no worker can be started: {type(exc).__name__}: {exc}")

    def _give_up(self, number: int, error: BaseException) -> None:
        """Complete the future of a task that is handed out with an exception."""
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
        """Accept no more tasks, and end when all are done. Does not wait."""
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
        """Give the pool up: fail all tasks."""
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
        """Stop the workers, and release everything. Other threads may still call `stats`."""
        members = [member for member in self.crew if not member.buried]
        stops = len(members)
        if self.broken:
            stops = 0
            for member in members:
                with suppress(OSError):
                    signal.pidfd_send_signal(member.process.pidfd.number, signal.SIGKILL)
        self._watch.close()
        while members:
            # A process that was stopped by SIGSTOP may hold the channel's lock for any time.
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
                if not member.buried:
                    member.process.pidfd.close()
                self.crew.remove(member)
            self.crew.launcher.close()
            self._outbox.close()
            self._plan.close()
            del self._take  # it keeps the spill file open

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
