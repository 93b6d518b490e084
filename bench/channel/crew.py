"""The processes of one peer: new interpreters, which receive commands over a pipe.

Two guards end a process that hangs. The bench kills a crew that is late. Each process also has a
kernel timer, whose signal ends it even if it spins with the interpreter's lock held and the bench
has exited.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from multiprocessing.connection import Connection

    from channel.roles import Role

START_SECONDS = 20.0
LIMIT_SECONDS = 8.0
_LEAVE_SECONDS = 2.0
_CONTEXT = multiprocessing.get_context("spawn")


class CrewFailed(Exception):  # noqa: N818 - the name says what happened
    """A process hung, died, or raised; the message says which. The crew has been killed."""


class Member(NamedTuple):
    """A process to start: its role, and the cores that it may use."""

    role: Role
    cores: frozenset[int]


def serve(connection: Connection[Any, Any], member: Member) -> None:
    """Execute the commands from the pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the bench ends this process
    os.sched_setaffinity(0, member.cores)
    gc.collect()
    gc.freeze()
    gc.disable()
    with suppress(EOFError, BrokenPipeError):
        while True:
            call, *arguments = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, 2 * LIMIT_SECONDS)
            try:
                result = getattr(member.role, call)(*arguments)
            except Exception as error:
                connection.send((f"{type(error).__name__}: {error}", None))
            else:
                connection.send((None, result))
            signal.setitimer(signal.ITIMER_REAL, 0)
    member.role.leave()
    os._exit(0)  # a queue's thread or a library's context could wait for ever at exit


class Crew:
    """Some processes, each with its role.

    Args:
        members: the processes to start.

    Raises:
        CrewFailed: a process did not start.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._pipes: list[Connection[Any, Any]] = []
        self._processes: list[Any] = []
        try:
            for member in members:
                ours, theirs = _CONTEXT.Pipe()
                self._pipes.append(ours)
                process = _CONTEXT.Process(target=serve, args=(theirs, member), daemon=True)
                self._processes.append(process)
                process.start()
                theirs.close()
        except Exception as error:
            self.kill()
            raise CrewFailed(f"did not start: {type(error).__name__}: {error}") from error

    def tell(self, index: int, *command: Any) -> None:
        """Send a command to one process, without waiting for it."""
        try:
            self._pipes[index].send(command)
        except OSError as error:
            self.kill()
            raise CrewFailed("a process died") from error

    def gather(self, indexes: Iterable[int], seconds: float = LIMIT_SECONDS) -> dict[int, Any]:
        """Wait for the results of some processes.

        Raises:
            CrewFailed: a process is late, died, or raised.
        """
        deadline = time.monotonic() + seconds
        waiting = {self._pipes[index]: index for index in indexes}
        results: dict[int, Any] = {}
        while waiting:
            ready = wait(list(waiting), max(0.0, deadline - time.monotonic()))
            if not ready:
                self.kill()
                raise CrewFailed(f"hung: no result for {seconds:.0f} s")
            for pipe in ready:
                index = waiting.pop(pipe)  # type: ignore[call-overload]
                try:
                    error, results[index] = pipe.recv()  # type: ignore[union-attr]
                except (EOFError, OSError):
                    error = "a process died"
                if error is not None:
                    self.kill()
                    raise CrewFailed(error)
        return results

    def one(self, index: int, *command: Any) -> Any:
        """Send a command to one process, and wait for the result."""
        self.tell(index, *command)
        return self.gather([index])[index]

    def everyone(self, *command: Any, seconds: float = LIMIT_SECONDS) -> dict[int, Any]:
        """Send the same command to all, the last process first, and wait for the results."""
        indexes = range(len(self._pipes))
        for index in reversed(indexes):
            self.tell(index, *command)
        return self.gather(indexes, seconds)

    def leave(self) -> None:
        """Wait a moment until the processes exit; kill those that do not."""
        for pipe in self._pipes:
            pipe.close()
        deadline = time.monotonic() + _LEAVE_SECONDS
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """Kill the processes that are left."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            if process.pid is not None:
                process.kill()
                process.join()
                process.close()
        self._processes.clear()
