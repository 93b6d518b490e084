"""A second thread for the call that sleeps, and a signal for the one that this thread sleeps in."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


class Call:
    """A call in a thread of its own."""

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


@pytest.fixture
def begin() -> Callable[..., Call]:
    """Start a call in another thread."""
    return Call


class Signals:
    """SIGUSR1, told to this thread while it sleeps in a system call."""

    def __init__(self) -> None:
        self.seen = 0
        self.action: Callable[[], object] = lambda: None

    def handle(self, *_: object) -> None:
        self.seen += 1
        self.action()

    @contextmanager
    def during(self, *names: str) -> Generator[None]:
        """Send one signal once this thread sleeps in one of the calls."""
        here = threading.get_ident()

        def send() -> None:
            wait_blocked(os.getpid(), *names)
            signal.pthread_kill(here, signal.SIGUSR1)

        sender = Call(send)
        yield
        sender.result()


@pytest.fixture
def signals() -> Iterator[Signals]:
    """A handler for SIGUSR1, and a way to meet a sleeping call with one."""
    told = Signals()
    before = signal.signal(signal.SIGUSR1, told.handle)
    yield told
    signal.signal(signal.SIGUSR1, before)
