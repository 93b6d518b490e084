"""The probe: a small C program, compiled when the bench starts, that tells near cores from far.

The two cores of a virtual machine may share a cache or not, and the host may move them at any
moment: what two processes exchange is fast or slow by as much as a factor of ten. So each
repetition stands between two probes, and a figure says which of the two machines it is of.
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


class NoProbe(Exception):  # noqa: N818 - it says what there is not
    """This machine cannot be probed, and the message says why."""


class Cores(NamedTuple):
    """The two cores that the two sides are pinned to."""

    first: int
    second: int


def two_cores() -> Cores:
    """The first two cores that this process may use.

    Raises:
        NoProbe: there is but one.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise NoProbe("two cores are needed, and this process may use one")
    return Cores(allowed[0], allowed[1])


class Probe:
    """The compiled program, for two cores.

    Args:
        directory: where the program may be written.
        cores: the two.

    Raises:
        NoProbe: there is no C compiler, or the program does not compile.
    """

    def __init__(self, directory: Path, cores: Cores) -> None:
        self.cores = cores
        self._program = directory / "probe"
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise NoProbe("a C compiler is needed: gcc")
        options = ("-O2", "-std=gnu17", "-Wall", "-Wextra", "-pthread")
        command = (compiler, *options, "-o", str(self._program), str(_SOURCE))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NoProbe(f"{compiler} does not compile the probe: {done.stderr.strip()}")

    def _run(self, *arguments: object) -> float:
        command = (str(self._program), *map(str, arguments))
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)
        return float(done.stdout)

    def round_trip(self) -> float:
        """Nanoseconds from one core to the other and back, both spinning; takes some 5 ms."""
        return self._run("spin", *self.cores)

    def alone(self, seconds: float = 0.0) -> bool:
        """Whether nothing else wants to run; waits for that so long."""
        deadline = time.monotonic() + seconds
        while running() > 1:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def copy_speed(self, size: int) -> float:
        """How fast memcpy moves so many bytes on the first core, in GB/s."""
        return self._run("copy", self.cores.first, size)
