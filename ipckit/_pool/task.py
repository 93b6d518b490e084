"""One task of a pool, and what the pool knows of its function."""

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

_UNKNOWN_SECONDS: Final = 1.0  # until the first call of a function has ended
_WEIGHT: Final = 0.25  # of the last call in the average
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
        """Add a call. A longer one than the average counts at once."""
        if seconds > self.seconds or self.seconds == _UNKNOWN_SECONDS:
            self.seconds = seconds
        else:
            self.seconds += (seconds - self.seconds) * _WEIGHT


class Paces:
    """The paces of the functions that a pool was given."""

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
    """Return what stands for a function: itself if it keeps no other objects alive."""
    if isinstance(fn, MethodType):
        fn = fn.__func__
    if type(fn) is FunctionType:
        return fn
    if type(fn) is BuiltinFunctionType and type(getattr(fn, "__self__", None)) is ModuleType:
        return fn
    return type(fn)


class Task(ABC):
    """What is handed out to a worker as one job.

    Args:
        fn: the function, for messages to users.
        pace: the pace of the function.
        message: the call as it is sent, without its head.
        calls: how many calls of the function it has.

    Attributes:
        fn: as the argument.
        pace: as the argument.
        message: as the argument; None from when it is sent until its job is taken back.
        number: identifies the job; 0 until it is handed out. A job that is sent again has another.
        long_job: its memory, if the channel had no block for it.
        seconds: how long it is expected to take.
        deaths: how many workers have died while they ran it.
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
        """Return whether to hand it out: it was not cancelled. Called once."""

    @abstractmethod
    def succeed(self, value: Any) -> None:
        """Give it its result."""

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """Give it its exception."""

    def count_done(self, value: Any) -> int:
        """Return how many calls ran, given the result or exception."""
        del value
        return 1

    def rest(self) -> object:
        """Return what is to be handed out after it has ended, if there is anything."""
        return None


class Call(Task):
    """One call that was submitted.

    Args:
        future: its Future.
        fn: the function.
        pace: the pace of the function.
        message: the call as it is sent.
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
        """Return whether the future was not cancelled, and let it run."""
        try:
            return self.future.set_running_or_notify_cancel()
        except (InvalidStateError, RuntimeError):  # the user has completed it
            return False

    def succeed(self, value: Any) -> None:
        """Complete the future with a result."""
        try:  # noqa: SIM105 - `suppress` takes as long as the rest
            self.future.set_result(value)
        except InvalidStateError:  # the user has completed it
            pass

    def fail(self, error: BaseException) -> None:
        """Complete the future with an exception."""
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            pass
        except BaseException:  # a Future logs only an Exception of a callback
            _base.LOGGER.exception("exception calling callback for %r", self.future)
