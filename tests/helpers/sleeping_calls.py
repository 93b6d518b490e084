"""Calls that sleep in the kernel: start one, act while it sleeps, or interrupt it."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Call:
    """A call that runs in another thread."""

    def __init__(self, function: Callable[..., Any], *args: Any, **options: Any) -> None:
        self._outcome: list[Any] = []
        self._thread = threading.Thread(
            target=self._run, args=(function, args, options), daemon=True
        )
        self._thread.start()

    def _run(self, function: Callable[..., Any], args: Any, options: Any) -> None:
        try:
            self._outcome = [function(*args, **options), None]
        except BaseException as exc:  # noqa: BLE001, RUF100 - `result` raises it
            self._outcome = [None, exc]

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait_blocked(self, *names: str) -> None:
        wait_blocked(os.getpid(), *names)
        assert self.running

    def result(self) -> Any:
        self._thread.join(30)
        assert not self.running, "the call still sleeps"
        value, error = self._outcome
        if error is not None:
            raise error
        return value


class Beside:
    """A thread that runs beside a ``with`` block.

    The end of the block waits for the thread and raises the exception that the thread raised.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._act()
        except BaseException as exc:
            self._error = exc

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error


class Signals:
    """Signals to this process, and how it handles them.

    Attributes:
        seen: how many signals `handle` has handled.
        action: what `handle` calls.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.action: Callable[[], object] = lambda: None

    def handle(self, *_: object) -> None:
        self.seen += 1
        self.action()

    @staticmethod
    @contextmanager
    def handled(handler: Any, number: int = signal.SIGUSR1) -> Generator[None]:
        """Handle a signal during a block."""
        before = signal.signal(number, handler)
        try:
            yield
        finally:
            signal.signal(number, before)

    def wait(self, count: int) -> None:
        """Wait until exactly `count` signals have been handled.

        A signal to the process can come to any thread, also to one that an earlier test has left;
        then the main thread handles it soon, but not before the call that caused it returns.
        """
        deadline = time.monotonic() + 30
        while self.seen < count and time.monotonic() < deadline:
            time.sleep(0.001)
        assert self.seen == count

    @staticmethod
    def send(number: int = signal.SIGUSR1) -> None:
        """Send a signal to the main thread, which runs the tests."""
        signal.pthread_kill(threading.main_thread().ident or 0, number)

    @contextmanager
    def during(self, *names: str) -> Generator[None]:
        """Send one SIGUSR1 when this thread sleeps in one of the named system calls."""
        here = threading.get_ident()

        def send() -> None:
            wait_blocked(os.getpid(), *names)
            signal.pthread_kill(here, signal.SIGUSR1)

        sender = Call(send)
        yield
        sender.result()
