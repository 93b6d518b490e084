"""The machine that the bench runs on, and the load from other programs."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

_IDLE = (3, 4)  # proc(5), /proc/stat: the columns idle and iowait


def machine() -> str:
    """Describe the processor, the kernel and Python in one line."""
    cpu = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return (
        f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def running() -> int:
    """Return the number of runnable threads, including this one: proc(5), procs_running."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("procs_running"):
            return int(line.split()[1])
    return 1


def _busy() -> float:
    """Return the busy seconds of all cores together."""
    columns = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    ticks = sum(int(column) for at, column in enumerate(columns) if at not in _IDLE)
    return ticks / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Return the CPU seconds of this process and its reaped children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Load:
    """Measures, from its creation on, the load from other programs."""

    def __init__(self) -> None:
        self._start = time.monotonic(), _busy(), _own()

    def others(self) -> float:
        """Return the share of all cores' time that other programs used. Reap children first."""
        start, busy, own = self._start
        elapsed = (time.monotonic() - start) * (os.cpu_count() or 1)
        return max(0.0, (_busy() - busy) - (_own() - own)) / elapsed if elapsed else 0.0
