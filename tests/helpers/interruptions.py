"""A function that is called at one step of ipckit's code, and a call that must end in time."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ipckit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

# An interruption or a fork at each of several hundred steps takes long: `make test` has one at
# every third.
EACH = pytest.mark.parametrize("each", [3, pytest.param(1, marks=pytest.mark.soak)])
PACKAGE = str(Path(ipckit.__file__).parent)


class Interrupted(Exception):  # noqa: N818 - no error
    """The exception that a signal handler raises."""


@contextmanager
def at_step(step: int, act: Callable[[], object], *where: str) -> Iterator[list[int]]:
    """Call a function at one step of ipckit's Python code, where a signal handler could run."""
    files = tuple(str(Path(PACKAGE) / each) for each in where or [""])
    steps = [0]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(files):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            steps[0] += 1
            if steps[0] == step:
                act()
        return trace

    sys.settrace(trace)
    try:
        yield steps
    finally:
        sys.settrace(None)


def interrupt() -> None:
    raise Interrupted


def in_time(call: Callable[[], Any]) -> None:
    """Run a call in a thread, and fail if it does not end."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as exc:  # the test raises it
            failed.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it waits for ever"
    if failed:
        raise failed[0]
