"""MapRun and Chunk: divide the calls of `ProcessPool.map` into chunks, and collect the results.

Sending a call takes longer than a call of a few microseconds, so several short calls are sent as
one chunk. The pool forms a chunk when it hands the chunk out, because it then knows how long the
calls take: one call, or as many as a worker can do in about a millisecond. If a worker needs longer
for a chunk, it sends the results that it has, and the pool hands out the other calls again. So a
long call among short ones delays few of them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ipckit._pool.remote import replacement, with_traceback
from ipckit._pool.task import Pace, Task
from ipckit._process_queue.pickling import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK_SECONDS: Final = 0.001  # the expected duration of a chunk
_CHUNK_MAX: Final = 512  # the most calls in a chunk
_STOP_SECONDS: Final = 0.005  # after this time, a worker sends the results that it has

Calls = list[tuple[Any, ...]]


class Outcomes:
    """The results of a chunk: of all its calls, or of the first ones if it was stopped.

    Attributes:
        values: the results; None for a call that raised an exception.
        errors: the exceptions, by the index of the call.
    """

    __slots__ = ("errors", "values")

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.errors: dict[int, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _outcomes, (self.values, self.errors)

    def replace_unpicklable(self) -> None:
        """Replace each value that can't be pickled by the exception of pickling it."""
        for index, value in enumerate(self.values):
            try:
                encode(value)
            except Exception as exc:  # pickling can raise any exception
                self.values[index] = None
                self.add_error(index, exc)

    def add_error(self, index: int, exc: BaseException) -> None:
        """Add the exception of a call, with its traceback as text."""
        error = with_traceback(exc)
        try:
            encode(error)
        except Exception as second:  # the exception can't be pickled
            error = with_traceback(replacement(exc, second))
        self.errors[index] = error


def _outcomes(values: list[Any], errors: dict[int, Any]) -> Outcomes:
    self = Outcomes()
    self.values, self.errors = values, errors
    return self


def run_chunk(fn: Callable[..., Any], calls: Calls, *, whole: bool) -> Outcomes:
    """Run the calls of a chunk in a worker, and return their results.

    Args:
        fn: the function.
        calls: the arguments of the calls.
        whole: whether to run all calls. If False, stop after the call during which `_STOP_SECONDS`
            have passed.
    """
    found, end = Outcomes(), time.monotonic() + _STOP_SECONDS
    values = found.values
    for index, args in enumerate(calls):
        try:
            values.append(fn(*args))
        except Exception as exc:  # the iterator of the map raises it
            values.append(None)
            found.add_error(index, exc)
        if not whole and time.monotonic() > end:
            break
    return found


class MapRun:
    """One run of `ProcessPool.map`: the calls that are not handed out yet, and the results.

    The manager forms chunks and stores results. One thread at a time reads the results.

    Args:
        fn: the function.
        pace: how long calls of the function take.
        chunksize: how many calls a chunk has; None if the pool chooses.

    Attributes:
        fn: the function.
        pace: how long calls of the function take.
        added: how many calls were added in total.
        queued: whether the run is in the manager's queue of waiting tasks.
    """

    def __init__(self, fn: Callable[..., Any], pace: Pace, chunksize: int | None) -> None:
        self.fn, self.pace, self._chunksize = fn, pace, chunksize
        self._calls: deque[tuple[Any, ...]] = deque()
        self.added, self.queued = 0, False
        self._next = 0  # the index of the first call in `_calls`
        # Calls of chunks that a worker has stopped early, with the index of the first one.
        self._rest: deque[tuple[int, Calls]] = deque()
        self._found: dict[int, Outcomes | BaseException] = {}  # by the index of the first call
        self._arrived = threading.Condition()
        self._cancelled = False
        self._error: BaseException | None = None  # the result of calls that are not run any more
        self._singly = False  # whether a call of the next chunk could not be pickled

    def __bool__(self) -> bool:
        return not self._cancelled and bool(self._calls or self._rest)

    def __len__(self) -> int:
        # A copy, because `end` appends without the manager's lock.
        return len(self._calls) + sum(len(calls) for _, calls in tuple(self._rest))

    def add(self, calls: Iterator[tuple[Any, ...]], count: int | None) -> bool:
        """Add up to `count` calls, or all if it is None. Return whether any was added."""
        new = list(calls if count is None else islice(calls, count))
        with self._arrived:  # `fail` must see all of them or none
            self._calls.extend(new)
            self.added += len(new)
        return bool(new)

    # -- for the manager ---------------------------------------------------------------------------

    def size(self, workers: int) -> int:
        """Return how many calls the next chunk will have."""
        if self._singly:
            return 1
        if self._chunksize is not None:
            return self._chunksize
        # Smaller chunks towards the end, so that each worker gets a part of the last calls.
        fair = len(self._calls) // (2 * workers) + 1
        return max(1, min(fair, _CHUNK_MAX, int(_CHUNK_SECONDS / max(self.pace.seconds, 1e-9))))

    def is_short(self) -> bool:
        """Return whether the calls are so short that a chunk has several."""
        return self.pace.seconds < _CHUNK_SECONDS / 2

    def cut(self, workers: int) -> Chunk | None:
        """Form the next chunk. The caller holds the manager's lock, and there is a call.

        Returns:
            The chunk; or None if a call can't be pickled. The exception becomes the call's result.
        """
        size = self.size(workers)
        if self._rest:
            start, calls = self._rest.popleft()
            if len(calls) > size:
                self._rest.appendleft((start + size, calls[size:]))
                del calls[size:]
        else:
            size = min(size, len(self._calls))
            start, calls = self._next, [self._calls.popleft() for _ in range(size)]
            self._next += len(calls)
        try:
            whole = {"whole": self._chunksize is not None}
            message = encode((run_chunk, (self.fn, calls), whole))
        except Exception as exc:  # the iterator of the map raises it
            self._singly = len(calls) > 1
            if self._singly:
                self._rest.appendleft((start, calls))
            else:
                self._store(start, exc)
            return None
        return Chunk(self, start, calls, message)

    def end(self, start: int, calls: Calls, found: Outcomes | BaseException) -> None:
        """Store the results of a chunk, or its exception. Queue the calls that did not run again.

        Args:
            start: the index of the first call of the chunk.
            calls: the arguments of its calls.
            found: the results, or the exception of the whole chunk.
        """
        with self._arrived:
            if isinstance(found, Outcomes) and len(found.values) < len(calls):
                done = len(found.values)
                if self._error is None:
                    self._rest.append((start + done, calls[done:]))
                else:
                    self._store(start + done, self._error)
            self._store(start, found)

    def _store(self, start: int, found: Outcomes | BaseException) -> None:
        if self._cancelled:
            return
        with self._arrived:
            self._found[start] = found
            self._arrived.notify_all()

    # -- for the consumer --------------------------------------------------------------------------

    def cancel(self) -> None:
        """Drop all results, and let the manager drop the calls that are not handed out."""
        self._cancelled = True
        self._found.clear()

    def fail(self, error: BaseException) -> None:
        """Fail the calls that are not handed out, and later those of chunks that stop early.

        The caller holds the manager's lock.
        """
        with self._arrived:
            self._error = error
            starts = [start for start, _ in self._rest]
            starts += [self._next] if self._calls else []
            self._calls.clear()
            self._rest.clear()
            for start in starts:
                self._store(start, error)

    def take(self, start: int, deadline: float | None) -> Outcomes | BaseException:
        """Wait for the results of the chunk that begins with a call, and return them.

        Args:
            start: the index of the call.
            deadline: the moment until which to wait, on the monotonic clock; None for no limit.

        Raises:
            TimeoutError: the deadline has passed.
        """
        found = self._found.pop(start, None)
        if found is None:
            with self._arrived:
                while (found := self._found.pop(start, None)) is None:
                    seconds = None if deadline is None else deadline - time.monotonic()
                    if seconds is not None and seconds <= 0:
                        raise TimeoutError
                    self._arrived.wait(seconds)
        return found


class Chunk(Task):
    """A task that consists of several calls of a map.

    Args:
        run: the map.
        start: the index of the first call.
        calls: the arguments of the calls.
        message: the pickled calls.
    """

    __slots__ = ("_calls", "_run", "_start")

    def __init__(self, run: MapRun, start: int, calls: Calls, message: Any) -> None:
        super().__init__(run.fn, run.pace, message, len(calls))
        self._run, self._start, self._calls = run, start, calls

    def begin(self) -> bool:
        """Return whether the calls must run, because the map was not cancelled."""
        return not self._run._cancelled  # noqa: SLF001 - a class of this module

    def succeed(self, value: Any) -> None:
        """Store the results."""
        self._run.end(self._start, self._calls, value)

    def fail(self, error: BaseException) -> None:
        """Store the exception as the result of all calls."""
        self._run.end(self._start, self._calls, error)

    def count_done(self, value: Any) -> int:
        """Return how many of the calls have run."""
        return len(value.values) or 1 if isinstance(value, Outcomes) else 1

    def rest(self) -> MapRun | None:
        """Return the map if it has calls to hand out, and is not in the manager's queue."""
        return self._run if self._run and not self._run.queued else None
