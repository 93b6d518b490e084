"""`WorkerDied` and the other exceptions of tasks that the pool has given up."""

from __future__ import annotations

import errno
import signal as signals
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TYPE_CHECKING, Any

from ipckit._core.public import public
from ipckit.errors import IpcError, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME_MAX = 80


@public("ipckit.pool")
class WorkerDied(IpcError, BrokenProcessPool):
    """The worker process died while it ran the task. The pool replaces the worker and continues.

    It is also a `BrokenProcessPool`, so code for ProcessPoolExecutor that catches that exception
    works with a `ProcessPool` too.

    Args:
        message: a description of the death, in one line.
        errno: the errno of the exception; EOWNERDEAD by default.
        pid: the worker's process id; 0 if it is unknown.
        signal: the number of the signal that killed the worker, or None.
        exitcode: the exit status of a worker that exited by itself, or None.
        task: the name of the task's function, shortened.
        **facts: other arguments of `IpcError`.

    Attributes:
        pid: the worker's process id; 0 if it is unknown.
        signal: the number of the signal that killed the worker, or None.
        exitcode: the exit status of a worker that exited by itself, or None.
        task: the name of the task's function, shortened.

    >>> from ipckit.pool import WorkerDied
    >>> error = WorkerDied("killed by SIGKILL", pid=4711, signal=9, task="resize")
    >>> error.pid, error.signal, error.task
    (4711, 9, 'resize')
    """

    def __init__(
        self,
        message: str,
        *,
        errno: int = errno.EOWNERDEAD,
        pid: int = 0,
        signal: int | None = None,
        exitcode: int | None = None,
        task: str = "",
        **facts: Any,
    ) -> None:
        super().__init__(message, errno=errno, **facts)
        self.pid, self.signal, self.exitcode, self.task = pid, signal, exitcode, task


def died(pid: int, status: int | None, task: str) -> WorkerDied:
    """Return the exception of a task whose worker died.

    Args:
        pid: the worker's process id.
        status: the worker's exit code, as in `multiprocessing.Process.exitcode`: negative for a
            signal, None if it is unknown.
        task: the name of the task's function.
    """
    number = -status if status is not None and status < 0 else None
    if status is None:
        how = "died"
    elif number is not None:
        how = f"was killed by {_signal_name(number)}"
    else:
        how = f"exited with status {status}"
    message = f"worker process {pid} {how} while it ran {task}"
    exitcode = status if number is None else None
    return WorkerDied(message, pid=pid, signal=number, exitcode=exitcode, task=task)


def timed_out(pid: int, seconds: float, task: str) -> Timeout:
    """Return the exception of a task that ran longer than the pool's `task_timeout`."""
    message = f"the task ran longer than {seconds} s; its worker, process {pid}, was killed"
    return Timeout(message, errno=errno.ETIMEDOUT, op="task", target=task)


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def name_of(fn: Callable[..., Any]) -> str:
    """Return the name of a task's function, in at most 80 characters."""
    try:
        inner: Any = fn
        while isinstance(inner, partial):
            inner = inner.func
        # Do not use the repr, which may contain arguments of any size.
        name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
        text = f"{inner.__module__}.{name}"
    except Exception:  # code of the function's own class can raise any exception
        text = type(fn).__name__
    return text if len(text) <= _NAME_MAX else f"{text[: _NAME_MAX - 1]}…"
