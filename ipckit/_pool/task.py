"""Task, Call and Pace: the tasks of a pool, and how long the calls of their functions take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import InvalidStateError, _base
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from ipckit._pool.long_jobs import LongJob
    from ipckit._process_queue.pickling import Parts

_UNKNOWN_SECONDS: Final = 1.0  # the assumption before the first call of a function has ended
_WEIGHT: Final = 0.25  # the weight of the last call in the average
_FUNCTIONS_MAX: Final = 1000


class Pace:
    """How long the calls of a function take.

    Attributes:
        seconds: an average of the last calls.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = _UNKNOWN_SECONDS

    def note(self, seconds: float) -> None:
        """Add the duration of a call. If it is longer than the average, it replaces the average."""
        if seconds > self.seconds or self.seconds == _UNKNOWN_SECONDS:
            self.seconds = seconds
        else:
            self.seconds += (seconds - self.seconds) * _WEIGHT


class Paces:
    """The paces of all functions that a pool has run."""

    def __init__(self) -> None:
        self._by_function: dict[object, Pace] = {}

    def of(self, fn: Callable[..., Any]) -> Pace:
        """Return the pace of a function."""
        key = fn if type(fn) is FunctionType else _key_of(fn)
        pace = self._by_function.get(key)
        if pace is None:
            if len(self._by_function) >= _FUNCTIONS_MAX:
                self._by_function.clear()
            pace = self._by_function.setdefault(key, Pace())
        return pace


def _key_of(fn: object) -> object:
    """Return a key for a function: the function, or its type if it keeps other objects alive."""
    if isinstance(fn, MethodType):
        fn = fn.__func__
    if type(fn) is FunctionType:
        return fn
    if type(fn) is BuiltinFunctionType and type(getattr(fn, "__self__", None)) is ModuleType:
        return fn
    return type(fn)


class Task(ABC):
    """One or more calls of a function, which are sent to a worker as one job.

    Args:
        fn: the function, for messages to users.
        pace: the pace of the function.
        message: the pickled call, without the head of the message.
        calls: how many calls of the function the task has.

    Attributes:
        fn: the function.
        pace: the pace of the function.
        message: the pickled call. None while the job is handed out.
        number: the number of the job; 0 before it is handed out. It changes if the job is sent
            again.
        long_job: the memory of the call, if it does not fit into the channel.
        seconds: how long the task is expected to take.
        deaths: how many workers have died while they ran the task.
    """

    __slots__ = ("deaths", "fn", "long_job", "message", "number", "pace", "seconds")

    def __init__(
        self, fn: Callable[..., Any], pace: Pace, message: bytes | Parts, calls: int
    ) -> None:
        self.fn, self.pace = fn, pace
        self.message: bytes | Parts | None = message
        self.long_job: LongJob | None = None
        self.number = self.deaths = 0
        self.seconds = pace.seconds * calls

    @abstractmethod
    def begin(self) -> bool:
        """Return whether to hand out the task, because it was not cancelled. Called once."""

    @abstractmethod
    def succeed(self, value: Any) -> None:
        """Set the result of the task."""

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """Set the exception of the task."""

    def count_done(self, value: Any) -> int:
        """Return how many calls have run, given the result or exception."""
        del value
        return 1

    def rest(self) -> object:
        """Return a map whose other calls must be handed out after this task has ended, or None."""
        return None


class Call(Task):
    """One call that was submitted.

    Args:
        future: its Future.
        fn: the function.
        pace: the pace of the function.
        message: the pickled call.
    """

    __slots__ = ("future",)

    def __init__(
        self, future: Future[Any], fn: Callable[..., Any], pace: Pace, message: bytes | Parts
    ) -> None:
        self.future, self.fn, self.pace, self.message = future, fn, pace, message
        self.long_job = None
        self.number = self.deaths = 0
        self.seconds = pace.seconds

    def begin(self) -> bool:
        """Mark the future as running. Return False if it was cancelled."""
        try:
            return self.future.set_running_or_notify_cancel()
        except (InvalidStateError, RuntimeError):  # the user has completed it
            return False

    def succeed(self, value: Any) -> None:
        """Complete the future with a result."""
        try:  # noqa: SIM105 - `suppress` would take as long as the rest of the method
            self.future.set_result(value)
        except InvalidStateError:  # the user has completed it
            pass

    def fail(self, error: BaseException) -> None:
        """Complete the future with an exception."""
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            pass
        except BaseException:  # raised by a callback; the Future logs only an Exception itself
            _base.LOGGER.exception("exception calling callback for %r", self.future)
