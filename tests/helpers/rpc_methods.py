"""Methods that tests of calls register with a service."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

from ipckit.rpc import current

if TYPE_CHECKING:
    from ipckit.rpc import CurrentCall


def add(a: int, b: int) -> int:
    return a + b


def greet(name: str, greeting: str = "hello", *, times: int = 1, end: str = ".") -> str:
    return f"{greeting} {name}" * times + end


def only_named(*, x: int) -> int:
    return x


def only_placed(x: int, /, y: int = 2) -> list[int]:
    return [x, y]


def nothing() -> None:
    pass


class Gate:
    """Methods that wait until the test lets them go on."""

    def __init__(self) -> None:
        self.begun: SimpleQueue[CurrentCall] = SimpleQueue()
        self.go = threading.Event()
        self.ended: SimpleQueue[bool] = SimpleQueue()

    def hold(self, x: int) -> int:
        """Wait for the test, and then tell whether the call was cancelled."""
        call = current()
        self.begun.put(call)
        assert self.go.wait(60)
        self.ended.put(call.cancelled)
        return x

    def until_cancelled(self) -> None:
        """Wait until the call is cancelled."""
        call = current()
        self.begun.put(call)
        while not call.cancelled:
            time.sleep(0.001)
        self.ended.put(call.cancelled)
