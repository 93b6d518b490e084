"""Crew: the list of a pool's workers, in the pool's own process."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit._pool.board import Board
    from ipckit._pool.launch import Launcher, Started


class Member:
    """One worker.

    Attributes:
        place: the index of its record on the board.
        process: its process.
        done: the number of tasks whose end it has reported.
        ready: whether it has started, and its initializer has succeeded.
        failed: whether its initializer has raised an exception.
        leaving: whether it has announced its exit.
        handled: whether the pool has handled its death.
        overdue: the number of the task because of which it is killed; 0 for none.
    """

    def __init__(self, place: int, process: Started) -> None:
        self.place, self.process = place, process
        self.done = self.overdue = 0
        self.ready = self.failed = self.leaving = self.handled = False


class Crew:
    """The workers of a pool, by their places on the board.

    Args:
        size: the maximum number of workers.
        launcher: the object that starts workers.
        board: the board on which the workers record their tasks.

    Attributes:
        count: the number of workers.
        missing: how many more workers can be started.
        launcher: the object that starts workers.
    """

    def __init__(self, size: int, launcher: Launcher, board: Board) -> None:
        self.count, self.missing = 0, size
        self.launcher = launcher
        self._board = board
        self._members: dict[int, Member] = {}
        self._free = list(range(size - 1, -1, -1))

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._members.values()))

    def at(self, place: int) -> Member | None:
        """Return the worker of a place; None if there is no such worker."""
        return self._members.get(place)

    def start(self) -> Member:
        """Start a worker.

        Raises:
            OSError: a process can't be started.
        """
        place = self._free[-1]
        self._board.clear(place)
        member = Member(place, self.launcher.start(place))
        self._free.pop()
        self._members[place] = member
        self.count += 1
        self.missing -= 1
        return member

    def remove(self, member: Member) -> int | None:
        """Remove a worker that has ended, and return its exit code; None if it is unknown.

        The pidfd of the worker stays open, because a thread may poll it.
        """
        code = member.process.exitcode()
        del self._members[member.place]
        self._free.append(member.place)
        self.count -= 1
        self.missing += 1
        return code

    def ended(self) -> list[Member]:
        """Return the workers whose processes have ended."""
        waiting = select.poll()
        members = {each.process.pidfd.number: each for each in self}
        for fd in members:
            waiting.register(fd, select.POLLIN)
        return [members[fd] for fd, _ in waiting.poll(0)]
