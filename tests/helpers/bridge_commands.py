"""``ipckit bridge`` in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from pathlib import Path

LONG = 30.0
T = TypeVar("T")


class Command:
    """``ipckit bridge`` in a process of its own."""

    def __init__(self, errors: Path, words: tuple[object, ...], **options: Any) -> None:
        self._errors = errors
        with errors.open("wb") as file:
            command = [sys.executable, "-W", "error", "-m", "ipckit", "bridge", *map(str, words)]
            self.process = subprocess.Popen(command, stderr=file, **options)

    @property
    def pid(self) -> int:
        return self.process.pid

    def lines(self) -> list[str]:
        """What it has written on standard error."""
        return self._errors.read_text().splitlines()

    def wait_for_line(self, text: str) -> str:
        """Wait until it writes a line with a text."""
        return until(lambda: next((each for each in self.lines() if text in each), None))

    def end(self, number: signal.Signals) -> int:
        """Send it a signal, and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(LONG)


def until(look: Callable[[], T | None]) -> T:
    """Return what a function returns, once it is true."""
    end = time.monotonic() + LONG
    while not (found := look()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found
