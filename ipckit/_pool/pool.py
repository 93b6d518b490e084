"""`ProcessPool`: an executor that replaces ProcessPoolExecutor, and continues if a worker dies."""

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

# A channel has a limited number of peers. Each worker is one, and this process needs some too.
_WORKERS_MAX: Final = native.CHANNEL_PEERS - 6


@public("ipckit.pool")
class ProcessPool(Executor):
    """A pool of worker processes, which replaces `concurrent.futures.ProcessPoolExecutor`.

    It has the same methods and the same start methods. The differences are:

    - If a worker dies, only the task that it was running fails, with `WorkerDied`. With `retries`,
      the task runs again. The pool replaces the worker and continues.
    - A task that runs longer than `task_timeout` fails with `Timeout`, and its worker is replaced.
    - Tasks and results are sent through shared memory, which takes a fraction of the time. Arrays
      of 16 KiB or more are not pickled.
    - If an argument or a result can't be pickled, only its own task fails.

    Functions, arguments and results are pickled, so a worker must be able to import their
    definitions, as with ProcessPoolExecutor. `submit` pickles at once, but copies large arrays only
    when the task is handed out. Do not change them before that.

    Args:
        max_workers: the maximum number of workers, 1 to 250; by default the number of processors
            that this process may use.
        mp_context: a context of multiprocessing, or the name of a start method, such as "spawn".
            The default is the default of multiprocessing, or "spawn" with `max_tasks_per_child`.
        initializer: a function that each worker calls before its first task. If it raises an
            exception, the pool is broken, and each task gets `BrokenProcessPool`.
        initargs: the arguments of the initializer.
        max_tasks_per_child: the number of tasks after which a worker is replaced, 1 or more; None
            (default) for no limit. Not possible with the start method "fork".
        retries: how often a task runs again if its worker died, 0 or more; 0 by default. Use it
            only for tasks that may run twice, because a worker can die after most of the work.
        task_timeout: the maximum seconds that one task may run, more than 0; None (default) for no
            limit. For `map` with `chunksize`, a task is a chunk.

    Raises:
        InvalidArgument: a number is out of range. The exception is a ValueError too.
        TypeError: `initializer` is not callable, or a number has the wrong type.
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
        self._pid = 0  # the process that has started the pool; 0 before the first task

    # -- tasks -------------------------------------------------------------------------------------

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Run a call in a worker, and return its Future at once.

        Args:
            fn: the function.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Returns:
            The Future of the call. Its exception is the exception of the function; `WorkerDied` if
            the worker died; `Timeout` after `task_timeout`; `LimitReached` if there is no memory
            for the arguments; or an exception of pickling.

        Raises:
            BrokenProcessPool: the pool can't work any more, because the initializer raised an
                exception, or because no worker can be started.
            RuntimeError: the pool was shut down, or the interpreter exits.
            OSError: with the start method fork, the first worker can't be started. With other
                methods, the pool tries for 5 seconds, and is then broken.
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
            timeout: the seconds within which all results must arrive, counted from this call; None
                (default) for no limit.
            chunksize: how many calls are one task, 1 or more. With the default of 1, the pool
                chooses how many short calls it sends together.
            buffersize: the maximum number of tasks whose results were not read yet, 1 or more. The
                iterables are then read while the results are read. None (default) reads them at
                once.

        Returns:
            An iterator over the results, in the order of the arguments. Its ``next`` raises
            TimeoutError if a result has not arrived in time, or the exception of a call, which can
            be any exception of a Future of `submit`.

        Raises:
            ValueError: `chunksize` or `buffersize` is less than 1.
            BrokenProcessPool: see `submit`.
            RuntimeError: see `submit`.
            OSError: see `submit`.
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
        """Return the numbers of done, waiting and running tasks, and the task of each worker.

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
            wait: whether to wait until the workers have ended; True by default.
            cancel_futures: whether to cancel the tasks that are not handed out yet; False by
                default.
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
        """Return the manager. Start it if this is the first task."""
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
        """Return whether this process is a forked child, and the pool belongs to its parent.

        A forked worker has a copy of the pool that is not started. If a task could start that copy,
        each worker would have workers of its own, and these too.
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
        except BaseException:  # also KeyboardInterrupt
            _Exit.managers.discard(manager)
            manager.abandon()
            raise
        # The callback does not keep the pool alive. The manager ends after all tasks are done.
        manager.pool = weakref.ref(self, lambda _: manager.abandon())
        return manager


class _Refill:
    """Adds calls to a map with a `buffersize` after results were read. Keeps the pool alive.

    Args:
        pool: the pool.
        run: the map.
        calls: an iterator over the calls that were not added yet.
        half: half of the buffer, in calls. Short calls are added when so many results were read,
            because they are sent together.
    """

    def __init__(
        self, pool: ProcessPool, run: MapRun, calls: Iterator[tuple[Any, ...]], half: int
    ) -> None:
        self._pool, self._run, self._calls, self._half = pool, run, calls, half
        self._read = 0

    def __call__(self, count: int) -> None:
        """Count results that were read, and add calls if it is time."""
        self._read += count
        if self._read >= self._half or not self._run.is_short():
            count, self._read = self._read, 0
            if self._run.add(self._calls, count):
                self._pool._started().extend(self._run)  # noqa: SLF001 - a class of this module


def _results(
    run: MapRun, deadline: float | None, extend: Callable[[int], None] | None
) -> Iterator[Any]:
    """Yield the results of a map in order. Keep no reference to a result, which may be large.

    Args:
        run: the map.
        deadline: the moment until which each result must arrive, on the monotonic clock; or None.
        extend: called with the number of results that were read, to add as many calls; or None.
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
    """Makes the interpreter wait for the tasks of all pools before it exits."""

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


# concurrent.futures does the same. These functions run before the interpreter joins the threads
# that are not daemons.
threading._register_atexit(_Exit.run)  # type: ignore[attr-defined] # noqa: SLF001
