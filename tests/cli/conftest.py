"""Processes to be killed, by the dozen; and the command line, as users run it."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from script_runs import Scripts

from ipckit import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ipckit.testing import Child, Namespace

    Done = subprocess.CompletedProcess[str]
    Result = tuple[int, str, str]

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
    """Run code in one fresh interpreter that forks its victims; gives the code's `result`.

    Starting each victim anew would be most of the time. One tells what it did through a pipe, and
    is killed where the code wants it to be.
    """

    def run(code: str, *args: object, timeout: float = 30) -> Any:
        child = spawn(PREAMBLE + dedent(code), *args)
        child.wait(timeout)
        return child.result

    return run


@pytest.fixture
def ipckit() -> Callable[..., Done]:
    """Run ``python -m ipckit`` with some words, to its end; the exit status must be `status`."""

    def run(
        *words: object,
        status: int = 0,
        text: str = "",
        cwd: Path | None = None,
        under: Sequence[str] = (),
    ) -> Done:
        done = subprocess.run(
            [*under, sys.executable, "-W", "error", "-m", "ipckit", *map(str, words)],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=cwd,
        )
        assert done.returncode == status, done
        return done

    return run


COMMANDS = """
import io, sys
from ipckit import cli
real = sys.stdin, sys.stdout, sys.stderr
result = []
for words in args:
    sys.stdin, sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO()) for _ in range(3))
    status = cli.run(words)
    out, err = sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = real
    out.flush()
    err.flush()
    result.append((status, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()))
"""


@pytest.fixture
def commands(spawn: Callable[..., Child]) -> Callable[..., list[Result]]:
    """Run several command lines in one fresh process, by another user if need be.

    Gives the exit status and both outputs of each.
    """

    def run(*lines: Sequence[object], **options: Any) -> list[Result]:
        # Another user may not reach what is imported later.
        early = ["json", *(f"ipckit._cli_{name}" for name in cli.COMMANDS)]
        options.setdefault("imports", early if "user" in options else ())
        child = spawn(COMMANDS, *([str(word) for word in line] for line in lines), **options)
        child.wait()
        return [(status, out, err) for status, out, err in child.result]

    return run


@pytest.fixture
def scripts(ns: Namespace) -> Iterator[Scripts]:
    runner = Scripts(ns.directory)
    yield runner
    runner.close()
