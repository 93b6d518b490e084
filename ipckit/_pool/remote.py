"""Prepare exceptions for pickling: with the traceback as text, like ProcessPoolExecutor."""

from __future__ import annotations

import traceback
from concurrent.futures import process
from typing import Any


def with_traceback(exc: BaseException) -> Any:
    """Return an object that unpickles to the exception, with the traceback's text as its cause."""
    wrap: Any = process._ExceptionWithTraceback  # noqa: SLF001 - so that both have the same cause
    return wrap(exc, exc.__traceback__)


def without_frames(exc: BaseException) -> BaseException:
    """Return an exception with its traceback as text, so that it keeps no local variable alive."""
    text = "".join(traceback.format_exception(exc))
    remote: Any = process._RemoteTraceback  # noqa: SLF001
    exc.__cause__, exc.__context__ = remote(f'\n"""\n{text}"""'), None
    return exc.with_traceback(None)


def replacement(exc: BaseException, reason: BaseException) -> RuntimeError:
    """Return a RuntimeError that replaces an exception which can't be pickled, with its traceback.

    Args:
        exc: the exception of the task.
        reason: the exception of pickling it.
    """
    error = RuntimeError(f"{type(exc).__name__}, which can't be pickled: {reason!r}")
    return error.with_traceback(exc.__traceback__)
