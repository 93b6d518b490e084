"""One task of a pool, and what the pool knows of its function."""

from __future__ import annotations

from concurrent.futures import Future
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

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
        pace = self._by_function.get(fn) if type(fn) is FunctionType else None
        return pace or self._found(_key_of(fn))

    def _found(self, key: object) -> Pace:
        if len(self._by_function) >= _FUNCTIONS_MAX:
            self._by_function.clear()
        return self._by_function.setdefault(key, Pace())


def _key_of(fn: Any) -> object:
    """Return what stands for a function: itself if it keeps no other objects alive."""
    if isinstance(fn, MethodType):
        fn = fn.__func__
    if type(fn) is FunctionType:
        return fn
    if type(fn) is BuiltinFunctionType and type(fn.__self__) is ModuleType:
        return fn
    return type(fn)


class Task:
    """One call that was submitted.

    Attributes:
        future: its Future.
        fn: the function, for messages to users.
        pace: the pace of the function.
        number: identifies the job; 0 until it is handed out. A job that is sent again has another.
        message: the call as it is sent, without its head.
        long_job: its memory, if the channel had no block for it.
        seconds: how long it was expected to take when it was handed out.
        deaths: how many workers have died while they ran it.
    """

    __slots__ = ("deaths", "fn", "future", "long_job", "message", "number", "pace", "seconds")

    def __init__(
        self, future: Future[Any], fn: Callable[..., Any], pace: Pace, message: bytes | Parts
    ) -> None:
        self.future, self.fn, self.pace = future, fn, pace
        self.message: bytes | Parts | None = message
        self.long_job: LongJob | None = None
        self.number = self.deaths = 0
        self.seconds = 0.0
