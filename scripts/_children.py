"""Fork child processes for a server; they end with it and leave no zombies."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
_children: set[int] = set()  # those not reaped


@contextmanager
def _signals_blocked() -> Generator[None]:
    # A signal's exception between a fork, or a wait, and the note of it would lose the note.
    old = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def in_child(work: Callable[[], object]) -> int:
    """Fork a child that does the work and then exits. Return its process id."""
    with _signals_blocked():  # the signal handlers are the parent's
        pid = os.fork()
        if pid == 0:
            _end_after(work)
        _children.add(pid)
    return pid


def _end_after(work: Callable[[], object]) -> NoReturn:
    status = 1
    try:
        _children.clear()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        work()
        status = 0
    finally:
        # Exit in any case: the rest of the program is for the parent only.
        os._exit(status)


def wait_child(pid: int = -1) -> tuple[int, int]:
    """Wait for a child (-1: for any), and reap it. Return its process id and wait status."""
    any_child = pid == -1
    os.waitid(os.P_ALL if any_child else os.P_PID, max(pid, 0), os.WEXITED | os.WNOWAIT)
    return reap_ended(pid)


def reap_ended(pid: int = -1) -> tuple[int, int]:
    """Reap a child (-1: any) if it has ended. Return as `wait_child`; (0, 0) if none has."""
    with _signals_blocked():
        ended, status = os.waitpid(pid, os.WNOHANG)
        _children.discard(ended)
    return ended, status


def end_children() -> None:
    """Terminate all children of `in_child` that are not reaped, and reap them."""
    for pid in _children:
        os.kill(pid, signal.SIGTERM)
    for pid in list(_children):
        wait_child(pid)
