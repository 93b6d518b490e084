"""The tasks that tests of the pool run; workers of any start method import them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ipckit.pool import ProcessPool

if TYPE_CHECKING:
    from pathlib import Path


class NotPicklable:
    def __reduce__(self) -> Any:
        message = "not to be pickled"
        raise TypeError(message)


class NotUnpicklable:
    def __init__(self, size: int = 0) -> None:
        self.size = size

    def __reduce__(self) -> Any:
        return _raise, (bytes(self.size),)


class DiesUnpickled:
    def __reduce__(self) -> Any:
        return die, ()


class PrivateError(Exception):
    def __reduce__(self) -> Any:
        message = "not to be pickled"
        raise TypeError(message)


class TwoArgumentsError(Exception):
    """Unpickling calls it with one argument."""

    def __init__(self, first: object, second: object) -> None:
        super().__init__(first)
        self.second = second


def _raise(_: bytes) -> None:
    message = "not to be unpickled"
    raise ValueError(message)


def echo(value: Any) -> Any:
    return value


def add(first: int, second: int = 0) -> int:
    return first + second


def die(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def exit_at_once(status: int) -> None:
    os._exit(status)


def fail(text: str) -> None:
    raise RuntimeError(text)


def fail_with(kind: str) -> None:
    raise {"private": PrivateError(), "two": TwoArgumentsError(1, 2)}[kind]


def not_picklable() -> NotPicklable:
    return NotPicklable()


def not_unpicklable(size: int = 0) -> NotUnpicklable:
    return NotUnpicklable(size)


def die_until(path: Path, runs: int) -> int:
    """Note a run, and die unless it is the last one."""
    with path.open("a") as file:
        file.write("x")
    if path.stat().st_size < runs:
        die()
    return path.stat().st_size


def note(path: Path) -> None:
    with path.open("a") as file:
        file.write("x")


def note_and_die(path: Path) -> None:
    note(path)
    die()


def die_at_odd(value: int) -> int:
    if value % 2:
        die()
    return value


def spin() -> None:
    while True:
        pass


def close_descriptors() -> None:
    os.closerange(3, 1024)


def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def wait_for(path: Path) -> int:
    """Wait until there is a file."""
    while not path.exists():
        time.sleep(0.001)
    return os.getpid()


def threads() -> list[str]:
    return [each.name for each in threading.enumerate()]


def nested(method: str) -> int:
    with ProcessPool(1, method) as pool:
        return pool.submit(add, 1, 2).result(60)


def interrupted() -> str:
    """Be interrupted like a task in a terminal, and go on."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        return "interrupted"
    return "not interrupted"


STATE = "not set"


def set_state(value: str) -> None:
    global STATE  # noqa: PLW0603 - as an initializer does
    STATE = value


def state() -> str:
    return STATE


def break_initializer(kind: str, go: Path) -> None:
    """Fail as soon as a file exists."""
    wait_for(go)
    if kind == "raise":
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - the traceback is not wanted
        fail("initializer")
    elif kind == "exit":
        os._exit(3)
    elif kind == "sys.exit":
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
        sys.exit(3)
    else:
        die()


def ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def wait_gone(pids: list[int], seconds: float) -> list[int]:
    """Return the processes that still run after some seconds."""
    end = time.monotonic() + seconds
    while pids and time.monotonic() < end:
        pids = [pid for pid in pids if _runs(pid)]
        time.sleep(0.005)
    return pids


def _runs(pid: int) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] not in "ZX"
    return False


def send_mask(pipe: Any) -> None:
    """Send the signals that this process blocks."""
    pipe.send(sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))))


class Callable:
    """A function whose representation is long."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __call__(self) -> object:
        return self.value
