"""Watch: a thread that notices the deaths of workers, and kills workers with overdue tasks."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ipckit._core.descriptors import Descriptor, descriptor_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._pool.board import Board
    from ipckit._pool.crew import Member

_MS: float = 1000.0
_LOOK_SECONDS: float = 3600.0  # the longest sleep: poll(2) takes an int of milliseconds


class Watch:
    """Watches worker processes until it is closed.

    The thread sleeps in poll(2), without a timeout if there is no task with a time limit.

    Args:
        board: the board on which workers record the tasks that they run.
        task_timeout: seconds after which a worker is killed because of its task, or None.
        is_busy: returns whether tasks are handed out.
        on_death: called in the thread when a worker has ended.
    """

    def __init__(
        self,
        board: Board,
        task_timeout: float | None,
        is_busy: Callable[[], bool],
        on_death: Callable[[Member], None],
    ) -> None:
        self._board, self._task_timeout = board, task_timeout
        self._is_busy, self._on_death = is_busy, on_death
        self._members: dict[int, Member] = {}  # the watched workers, by their pidfds
        self._closing = False
        self._timed = False  # whether the thread will check the board
        try:
            self._bell = Descriptor(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        except OSError as exc:
            raise descriptor_error(exc.errno or 0, op="eventfd", target="ProcessPool") from None
        self._thread = threading.Thread(target=self._run, name="ipckit-pool-watch")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, member: Member) -> None:
        """Watch another process."""
        self._members[member.process.pidfd.number] = member
        self._ring()

    def task_began(self) -> None:
        """Check the board from now on, if tasks have a time limit."""
        if self._task_timeout is not None and not self._timed:
            self._timed = True
            self._ring()

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self._ring()
        if self._thread.ident is not None:
            self._thread.join()
        self._bell.close()

    def _ring(self) -> None:
        with suppress(OSError):
            os.eventfd_write(self._bell.number, 1)

    def _run(self) -> None:
        while not self._closing:
            waiting = select.poll()
            waiting.register(self._bell.number, select.POLLIN)
            for fd in tuple(self._members):
                waiting.register(fd, select.POLLIN)
            seconds = self._kill_overdue()
            for fd, _ in waiting.poll(None if seconds is None else seconds * _MS + 1):
                if fd == self._bell.number:
                    with suppress(BlockingIOError):
                        os.eventfd_read(fd)
                else:
                    self._on_death(self._members.pop(fd))

    def _kill_overdue(self) -> float | None:
        """Kill the workers whose tasks run too long.

        Returns:
            The seconds until the next check; None if no check is needed.
        """
        limit = self._task_timeout
        if limit is None:
            return None
        # Clear it before `_is_busy`, so that a task that begins in between rings the bell.
        self._timed = False
        if not self._is_busy():
            return None
        self._timed = True
        now = time.monotonic()
        rest = min(limit, _LOOK_SECONDS)  # a task that begins now is not overdue before that
        for member in tuple(self._members.values()):
            task = self._board.task(member.place)
            if not task or member.overdue == task:
                continue
            left = self._board.since(member.place) + limit - now
            if left > 0:
                rest = min(rest, left)
                continue
            member.overdue = task
            if self._board.mark_for_kill(member.place, task):
                with suppress(OSError):
                    signal.pidfd_send_signal(member.process.pidfd.number, signal.SIGKILL)
        return rest
