"""Processes that are killed at any moment while others go on, and logs of what they did.

The code of a child process imports this, and its children are killed.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import random
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def body(number: int, length: int) -> bytes:
    """A message of that many bytes, at least 8, which tells its number."""
    return number.to_bytes(8, "little") + hashlib.shake_128(b"%d" % number).digest(length - 8)


def number_of(data: bytes | memoryview) -> int:
    """The number of a message, which must be whole."""
    number = int.from_bytes(data[:8], "little")
    assert bytes(data) == body(number, len(data)), "torn"
    return number


class Log:
    """Numbers that processes note. They outlive the processes."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("log")
        fcntl.fcntl(self._fd, fcntl.F_SETFL, os.O_APPEND)

    def note(self, *numbers: int) -> None:
        os.write(self._fd, b"".join(number.to_bytes(8, "little") for number in numbers))

    def read(self) -> list[int]:
        """All numbers. Closes the log."""
        data = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        os.close(self._fd)
        return [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]


class Crew:
    """Forked processes, one at each place. Another one follows a process that was killed.

    `work` is called with the place and with the number of the process, from 1 on.
    """

    def __init__(self, work: Callable[[int, int], None], seed: int) -> None:
        self._work, self._seed = work, seed
        self._stage = mmap.mmap(-1, 1)
        self._pids: dict[int, int] = {}
        self.places: list[int] = []  # of each process there was

    @property
    def stage(self) -> int:
        """0, or the last argument of `stop`."""
        return self._stage[0]

    def start(self, place: int) -> None:
        self.places.append(place)
        life = len(self.places)
        pid = os.fork()
        if pid == 0:
            status = 9
            try:
                random.seed(self._seed * 10000 + life)
                self._work(place, life)
                status = 0
            except BaseException as exc:  # whatever it is, the process must end here
                os.write(2, repr(exc).encode() + b"\n")
            finally:
                os._exit(status)
        self._pids[place] = pid

    def kill(self, place: int) -> None:
        """Kill the process at a place, and start the next one there."""
        os.kill(self._pids[place], signal.SIGKILL)
        assert self._wait(place) == -signal.SIGKILL
        self.start(place)

    def kill_some(self, kills: int, places: int, pause: float) -> list[int]:
        """Kill processes at the first places, with pauses of up to so many seconds.

        Returns the places at which they were killed.
        """
        killed = []
        for _ in range(kills):
            time.sleep(random.random() * pause)
            killed.append(random.randrange(places))
            self.kill(killed[-1])
        return killed

    def stop(self, places: Iterable[int], stage: int) -> None:
        """Set the stage, at which the processes at some places end, and wait for them."""
        self._stage[0] = stage
        for place in places:
            assert self._wait(place) == 0

    def _wait(self, place: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self._pids[place], 0)[1])
