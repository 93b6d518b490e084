"""`ProcessPool`: an executor in the place of ProcessPoolExecutor, whose workers can be killed."""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final, TypeVar

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.deadline import checked_timeout
from ipckit._core.public import public
from ipckit._pool.manager import FOREIGN, Manager
from ipckit._pool.plan import Plan
from ipckit._pool.stats import PoolStats
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from multiprocessing.context import BaseContext

    from ipckit._pool.batch import MapRun

R = TypeVar("R")

# Each worker is a peer of the channels, and so is this process.
_WORKERS_MAX: Final = native.CHANNEL_PEERS - 6


@public("ipckit.pool")
class ProcessPool(Executor):
    """A pool of worker processes, in the place of `concurrent.futures.ProcessPoolExecutor`.

    It has the same methods and the same start methods. The differences:

    - A worker that dies fails only the task that it was running, with `WorkerDied`; or the task
      runs again (`retries`). The pool replaces the worker and goes on.
    - A task that runs longer than `task_timeout` fails with `Timeout`, and its worker is replaced.
    - Tasks and results travel through shared memory, which takes a fraction of the time. Arrays of
      16 KiB or more are not pickled.
    - An argument or a result that can't be pickled fails its own task, whatever happens.

    Functions, arguments and results are pickled, so all of them must be importable by a worker, as
    with ProcessPoolExecutor. `submit` pickles at once; large arrays are copied when the task is
    handed out, so don't change them before.

    Args:
        max_workers: the maximum number of workers, 1 to 250; by default the number of processors
            that this process may use.
        mp_context: how workers start: a context of multiprocessing or the name of a start method,
            such as "spawn". By default that of multiprocessing; "spawn" with
            `max_tasks_per_child`.
        initializer: called in each worker before its first task. If it raises an exception, the
            pool is broken: each task gets `BrokenProcessPool`.
        initargs: its arguments.
        max_tasks_per_child: the number of tasks after which a worker is replaced, 1 or more; None
            (default) for no limit. Not with the start method "fork".
        retries: how often a task runs again if its worker died, 0 or more; 0 by default. Only for
            tasks that may run twice: a worker can die when most of the work is done.
        task_timeout: the maximum seconds that one task may run, more than 0; None (default) for no
            limit. For `map` with `chunksize`, a task is a chunk.

    Raises:
        InvalidArgument: a number is out of range; it is a ValueError too.
        TypeError: `initializer` is not callable, or a number is not a number.
        ValueError: there is no start method of that name.

    >>> from ipckit.pool import ProcessPool
    >>> with ProcessPool(2, mp_context="fork") as pool:
    ...     future = pool.submit(pow, 2, 10)
    ...     future.result(timeout=60), list(pool.map(abs, [-1, -2]))
    (1024, [1, 2])
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        retries: int = 0,
        task_timeout: float | None = None,
    ) -> None:
        self._max_workers = _workers(max_workers)
        if mp_context is None and max_tasks_per_child is not None:
            mp_context = "spawn"
        if mp_context is None or isinstance(mp_context, str):
            mp_context = get_context(mp_context)
        self._mp_context = mp_context
        if initializer is not None and not callable(initializer):
            message = "initializer must be a callable"
            raise TypeError(message)
        self._initializer, self._initargs = initializer, initargs
        if max_tasks_per_child is not None:
            _at_least(1, "max_tasks_per_child", max_tasks_per_child)
            if mp_context.get_start_method() == "fork":
                message = 'max_tasks_per_child needs the start method "spawn" or "forkserver"'
                raise InvalidArgument(message, errno=errno.EINVAL)
        self._max_tasks_per_child = max_tasks_per_child
        self._retries = _at_least(0, "retries", retries)
        self._task_timeout = checked_timeout(task_timeout)
        if self._task_timeout == 0:
            message = "task_timeout must be more than 0 seconds, or None"
            raise InvalidArgument(message, errno=errno.EINVAL)
        self._start_lock = threading.RLock()
        self._closed = False
        self._manager: Manager | None = None
        self._pid = 0  # the process that has started it

    # -- tasks -------------------------------------------------------------------------------------

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Run a call in a worker. Returns at once.

        Args:
            fn: the function.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Returns:
            The Future of the call. Besides what the function raises, its exception is `WorkerDied`
            if the worker died, `Timeout` after `task_timeout`, `LimitReached` if there is no memory
            for the arguments, or any exception of pickling.

        Raises:
            BrokenProcessPool: the pool can't work any more: the initializer raised an exception, or
                no worker can be started.
            RuntimeError: the pool was shut down, or the interpreter exits.
            OSError: the first worker can't be started, with the start method fork. With the others,
                the pool is broken after 5 seconds of attempts.
        """
        return self._started().submit(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """Call a function for each element, and return an iterator over the results in order.

        Args:
            fn: a function that takes as many arguments as there are iterables.
            iterables: the arguments. They are read at once, unless `buffersize` is given.
            timeout: the seconds until all results must be there, counted from this call; None for
                no limit.
            chunksize: how many calls are one task, 1 or more; 1 by default.
            buffersize: the maximum number of tasks whose results were not read yet, 1 or more. The
                iterables are read as the results are; None (default) reads them at once.

        Raises:
            ValueError: `chunksize` or `buffersize` is less than 1.
            TimeoutError: from the iterator: a result was not there in time.
            Exception: from the iterator: as from the Future of `submit`.
        """
        if int_argument("chunksize", chunksize) < 1:
            message = "chunksize must be >= 1."
            raise ValueError(message)
        if buffersize is not None and int_argument("buffersize", buffersize) < 1:
            message = "buffersize must be None or > 0"
            raise ValueError(message)
        deadline = None if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables, strict=False)
        manager = self._started()
        run = manager.map(fn, calls, chunksize, buffersize)
        if buffersize is None:
            return _results(run, deadline, None)
        return _results(run, deadline, _Refill(self, run, calls, buffersize * chunksize // 2))

    def stats(self) -> PoolStats:
        """Return how many tasks are done, wait and run, and what each worker does.

        >>> from ipckit.pool import ProcessPool
        >>> with ProcessPool(1, mp_context="fork") as pool:
        ...     pool.submit(abs, -1).result(timeout=60)
        ...     stats = pool.stats()
        ...     stats.done, stats.waiting, len(stats.workers)
        1
        (1, 0, 1)
        """
        if self._manager is None:
            return PoolStats(0, 0, 0, 0, 0, ())
        return self._manager.stats()

    # -- lifecycle ---------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Accept no more tasks, and end the workers when all tasks are done; idempotent.

        Args:
            wait: whether to wait for that; True by default.
            cancel_futures: whether to cancel the tasks that are not handed out yet.
        """
        if self._is_foreign():
            return
        with self._start_lock:
            self._closed = True
            manager = self._manager
        if manager is None:
            return
        manager.shutdown(cancel_futures=cancel_futures)
        if wait and manager.thread.ident is not None:
            manager.thread.join()

    def _started(self) -> Manager:
        """Return the manager, which the first task starts."""
        manager = self._manager
        if _Exit.begun:
            message = "cannot schedule new futures after interpreter shutdown"
            raise RuntimeError(message)
        if manager is not None:
            return manager
        if self._is_foreign():
            raise BrokenProcessPool(FOREIGN)
        with self._start_lock:
            if self._closed:
                message = "cannot schedule new futures after shutdown"
                raise RuntimeError(message)
            if self._manager is None:
                manager = self._new_manager()
                if self._manager is None:
                    self._manager = manager
                else:  # a signal handler has started another one meanwhile
                    manager.abandon()
            return self._manager

    def _is_foreign(self) -> bool:
        """Return whether this process is a forked child, and the pool is its parent's.

        A worker was forked while the pool started. If a task could start the pool again, each
        worker would have workers, and so would they.
        """
        return self._pid not in {0, os.getpid()}

    def _new_manager(self) -> Manager:
        self._pid = os.getpid()
        plan = Plan(self._max_workers, self._initializer, self._initargs, self._max_tasks_per_child)
        try:
            manager = Manager(
                self._max_workers, self._mp_context, plan, self._retries, self._task_timeout
            )
        except BaseException:
            plan.close()
            raise
        try:
            _Exit.managers.add(manager)
            manager.start()
        except BaseException:  # such as KeyboardInterrupt
            _Exit.managers.discard(manager)
            manager.abandon()
            raise
        # The callback does not keep the pool alive, and the manager outlives it until all is done.
        manager.pool = weakref.ref(self, lambda _: manager.abandon())
        return manager


class _Refill:
    """Adds calls to a map with a `buffersize` when results were read. Keeps the pool alive.

    Args:
        pool: the pool.
        run: the map.
        calls: the calls that were not read yet.
        half: half of the buffer, in calls. Short calls are added when it is empty, because they are
            sent together.
    """

    def __init__(
        self, pool: ProcessPool, run: MapRun, calls: Iterator[tuple[Any, ...]], half: int
    ) -> None:
        self._pool, self._run, self._calls, self._half = pool, run, calls, half
        self._read = 0

    def __call__(self, count: int) -> None:
        """Note that results were read."""
        self._read += count
        if self._read >= self._half or not self._run.is_short():
            count, self._read = self._read, 0
            if self._run.add(self._calls, count):
                self._pool._started().extend(self._run)  # noqa: SLF001 - of this module


def _results(
    run: MapRun, deadline: float | None, extend: Callable[[int], None] | None
) -> Iterator[Any]:
    """Yield the results of a map in order. No variable keeps one: it may be large.

    Args:
        run: the map.
        deadline: until when each result must be there, or None.
        extend: called to add as many calls as were read; or None.
    """
    start = 0
    try:
        while start < run.added:
            found = run.take(start, deadline)
            if isinstance(found, BaseException):
                raise found
            values, errors = found.values, found.errors
            count = len(values)
            start += count
            values.reverse()
            for index in range(count):
                if extend is not None and index == count - 1:
                    extend(count)
                if index in errors:
                    raise errors[index]
                yield values.pop()
    finally:
        run.cancel()


def _workers(count: int | None) -> int:
    if count is None:
        return min(len(os.sched_getaffinity(0)), _WORKERS_MAX)
    count = int_argument("max_workers", count)
    if count <= 0:
        message = "max_workers must be greater than 0"
        raise InvalidArgument(message, errno=errno.EINVAL)
    if count > _WORKERS_MAX:
        message = f"max_workers must be {_WORKERS_MAX} or less, not {count}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return count


def _at_least(least: int, name: str, value: int) -> int:
    value = int_argument(name, value)
    if value < least:
        message = f"{name} must be >= {least}, not {value}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return value


class _Exit:
    """The end of the interpreter, which waits for the tasks of all pools."""

    begun = False
    managers: Final[weakref.WeakSet[Manager]] = weakref.WeakSet()

    @classmethod
    def run(cls) -> None:
        cls.begun = True
        managers = [each for each in cls.managers if not each.foreign]
        for manager in managers:
            manager.shutdown(cancel_futures=False)
        for manager in managers:
            manager.thread.join()


# As concurrent.futures does it: before the interpreter joins the threads that are not daemons.
threading._register_atexit(_Exit.run)  # type: ignore[attr-defined] # noqa: SLF001
