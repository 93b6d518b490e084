"""The workers of a pool, as the pool sees them."""

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
        place: its place on the board.
        process: its process.
        done: the number of tasks whose end it has reported.
        ready: whether it has started.
        failed: whether its initializer has raised an exception.
        leaving: whether it has said that it exits.
        buried: whether the pool has dealt with its death.
        overdue: the number of the task because of which it is killed; 0 for none.
    """

    def __init__(self, place: int, process: Started) -> None:
        self.place, self.process = place, process
        self.done = self.overdue = 0
        self.ready = self.failed = self.leaving = self.buried = False


class Crew:
    """The workers of a pool, by their places.

    Args:
        size: the maximum number of workers.
        launcher: starts them.
        board: where they note what they run.

    Attributes:
        count: the number of workers.
        missing: how many more there can be.
        launcher: as the argument.
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
        """Return the worker of a place, if there is one."""
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

        Its pidfd stays open, because a thread may poll it.
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
