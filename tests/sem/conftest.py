"""Many processes that a test kills while they use locks, buffers and barriers."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child

PREAMBLE = """
import mmap, os, random, signal, struct, sys, threading
from ipckit import OwnerDied, Timeout, WouldBlock
from ipckit.sem import Barrier, BoundedBuffer, Event, Lock, ReadWriteLock, SemOp
from ipckit.testing import wait_blocked

def start(act, *args):
    # A child that runs act(tell, *args); (pid, the pipe's end that hears it).
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 9
        try:
            os.close(reader)
            act(lambda text: os.write(writer, text), *args)
            status = 0
        except BaseException as exc:
            os.write(2, repr(exc).encode() + b"\\n")
        finally:
            os._exit(status)
    os.close(writer)
    return pid, reader

def end(pid, reader, kill=False, suicide=False):
    # What it told; killed, or ended well.
    if kill:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0 or ((kill or suicide) and status == -signal.SIGKILL), status
    text = b""
    while more := os.read(reader, 65536):
        text += more
    os.close(reader)
    return text

class Overlap:
    # Two detectors that know nothing of each other: a file that only one can make, and a counter
    # in shared memory that is read, left alone for a while, and written.
    def __init__(self, path):
        self.path = path
        self.memory = mmap.mmap(-1, 64)
    def inside(self, whom=None):
        # `whom` is told once both are held; a process that is killed then leaves both.
        if whom is None:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        before = int.from_bytes(self.memory[:8], "little")
        os.sched_yield()
        self.memory[:8] = (before + 1).to_bytes(8, "little")
        if whom is not None:
            whom(b"in")
            signal.pause()
        os.unlink(self.path)
    @property
    def count(self):
        return int.from_bytes(self.memory[:8], "little")
"""


@pytest.fixture
def victims(spawn: Callable[..., Child]) -> Callable[..., Any]:
    """Run code in a new interpreter that forks the processes to kill; returns the code's `result`.

    Starting an interpreter for each of them would take most of the test's time. A forked process
    reports what it did through a pipe, and the code kills it at the instant that it tests.
    """

    def run(code: str, *args: object, timeout: float = 30) -> Any:
        child = spawn(PREAMBLE + dedent(code), *args)
        child.wait(timeout)
        return child.result

    return run
