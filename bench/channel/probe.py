"""The probe: a small C program, compiled at the start, that distinguishes near and far cores.

The two cores of a virtual machine may or may not share a cache, and the host may move them at any
moment. That changes the speed of an exchange by as much as a factor of ten. Each repetition
therefore runs between two probes, and each figure says whether the cores were near or far.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from machine import running

_SOURCE = Path(__file__).parent / "probe.c"
_SECONDS = 10.0
_LOOK_SECONDS = 0.002


class NoProbe(Exception):  # noqa: N818 - the name says what is missing
    """This machine cannot be probed; the message says why."""


class Cores(NamedTuple):
    """The two cores that the two sides are pinned to."""

    first: int
    second: int


def two_cores() -> Cores:
    """Return the first two cores that this process may use.

    Raises:
        NoProbe: it may use only one.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise NoProbe("two cores are needed, but this process may use only one")
    return Cores(allowed[0], allowed[1])


class Probe:
    """The compiled program, for two cores.

    Args:
        directory: the directory for the compiled program.
        cores: the two cores.

    Raises:
        NoProbe: there is no C compiler, or the program does not compile.
    """

    def __init__(self, directory: Path, cores: Cores) -> None:
        self.cores = cores
        self._program = directory / "probe"
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise NoProbe("no C compiler found: install gcc")
        options = ("-O2", "-std=gnu17", "-Wall", "-Wextra", "-pthread")
        command = (compiler, *options, "-o", str(self._program), str(_SOURCE))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NoProbe(f"{compiler} failed to compile the probe: {done.stderr.strip()}")

    def _run(self, *arguments: object) -> float:
        command = (str(self._program), *map(str, arguments))
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)
        return float(done.stdout)

    def round_trip(self) -> float:
        """Measure the nanoseconds of a round trip between the spinning cores, in about 5 ms."""
        return self._run("spin", *self.cores)

    def alone(self, seconds: float = 0.0) -> bool:
        """Wait up to `seconds` until no other program is runnable; return whether that is so."""
        deadline = time.monotonic() + seconds
        while running() > 1:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def copy_speed(self, size: int) -> float:
        """Measure how fast memcpy moves `size` bytes on the first core, in GB/s."""
        return self._run("copy", self.cores.first, size)
