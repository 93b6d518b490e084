"""The workers of job_queue.py, and what they do."""

from __future__ import annotations

import hashlib
import os
import signal
from typing import TYPE_CHECKING

from _children import reap_ended, wait_child

from ipckit import Bool, Bytes, Channel, Int, Int64, Struct

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 3
ROUNDS = 2000  # about a millisecond of work


class Job(Struct):
    """What a worker is to do."""

    number: Int64


class Result(Struct):
    """What a worker has done."""

    number: Int64
    redelivered: Int
    digest: Bytes[32]
    aside: Bool = False


def do(number: int) -> bytes:
    """Do a job that takes a while."""
    return hashlib.pbkdf2_hmac("sha256", b"%d" % number, b"salt", ROUNDS)


def work(jobs: Channel[Job], results: Channel[Result], poison: int | None, tries: int) -> None:
    """Do jobs until this process is killed."""
    while True:
        with jobs.take() as delivery:
            number, deaths = delivery.value.number, delivery.redelivered
            if deaths >= tries:
                results.send(Result(number, deaths, b"", aside=True))
            elif number == poison:
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                results.send(Result(number, deaths, do(number)))


class Crew:
    """The workers; each that dies is replaced.

    Attributes:
        killed: how many workers have died.
    """

    def __init__(self, start: Callable[[], int]) -> None:
        self.killed = 0
        self._start = start
        self.pids = [start() for _ in range(WORKERS)]

    def kill_one(self) -> None:
        """Kill the first worker at whatever it is doing."""
        os.kill(self.pids[0], signal.SIGKILL)
        self._replace(0, wait_child(self.pids[0])[1])

    def look(self) -> None:
        """Replace the workers that died by themselves."""
        for place, pid in enumerate(self.pids):
            ended, status = reap_ended(pid)
            if ended:
                self._replace(place, status)

    def _replace(self, place: int, status: int) -> None:
        pid, self.pids[place] = self.pids[place], self._start()
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            message = f"worker {pid} failed"
            raise ChildProcessError(message)
        self.killed += 1
