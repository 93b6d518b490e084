"""How a worker sends an exception: with its traceback as text, as ProcessPoolExecutor does."""

from __future__ import annotations

from concurrent.futures import process
from typing import Any


def with_traceback(exc: BaseException) -> Any:
    """Return an object that unpickles to the exception, with the traceback's text as its cause."""
    wrap: Any = process._ExceptionWithTraceback  # noqa: SLF001 - so that both have the same cause
    return wrap(exc, exc.__traceback__)


def replacement(exc: BaseException, reason: BaseException) -> RuntimeError:
    """Return an exception in the place of one that can't be pickled, with its traceback."""
    error = RuntimeError(f"{type(exc).__name__}, which can't be pickled: {reason!r}")
    return error.with_traceback(exc.__traceback__)
