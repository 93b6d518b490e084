"""Fork child processes for a server; they end with it and leave no zombies."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)


def in_child(work: Callable[[], object]) -> int:
    """Fork a child that does the work and then exits. Return its process id."""
    # The signal handlers belong to the parent and must not run in the child.
    old = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _end_after(work)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    return pid


def _end_after(work: Callable[[], object]) -> NoReturn:
    status = 1
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        work()
        status = 0
    finally:
        # Exit in any case: the rest of the program is for the parent only.
        os._exit(status)


def end_children(children: Iterable[int]) -> None:
    """Terminate the children, and reap them."""
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    for pid in children:
        os.waitpid(pid, 0)
