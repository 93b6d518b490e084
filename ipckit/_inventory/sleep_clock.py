"""How long ago a thread last ran, from /proc/PID/task/TID/sched."""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import suppress
from typing import Final

from ipckit._core.processes import process_stat
from ipckit._inventory.processes import read

# Milliseconds on the scheduler's clock. The file exists if the kernel has CONFIG_SCHED_DEBUG.
_RAN: Final = re.compile(rb"^se\.exec_start\s*:\s*([0-9.]+)", re.MULTILINE)


def _last_ran(task: str) -> float | None:
    """Return when a thread last ran, in seconds on the clock of its processor; None if unknown."""
    try:
        found = _RAN.search(read(f"{task}/sched"))
    except OSError:
        return None
    return float(found[1]) / 1000 if found else None


class SleepClock:
    """Tells how long ago threads last ran.

    Each processor has a clock of its own, which leaves out interrupts and what a hypervisor took.
    After months of uptime these clocks can be hours apart. So this class reads the clock of a
    processor by a thread that runs there for a moment.
    """

    def __init__(self) -> None:
        self._offsets: dict[int, float | None] = {}

    def slept(self, pid: int, tid: int) -> float | None:
        """Return for how many seconds a sleeping thread has not run; None if that is unknown."""
        task = f"/proc/{pid}/task/{tid}"
        ran = _last_ran(task)
        if not ran:
            return None
        try:
            offset = self._offset(process_stat(read(f"{task}/stat")).processor)
        except OSError:
            return None  # it has exited
        return None if offset is None else max(0.0, time.monotonic() - offset - ran)

    def _offset(self, processor: int) -> float | None:
        """Return by how much the monotonic clock is ahead of a processor's clock."""
        if processor not in self._offsets:
            found: list[float] = []

            def measure() -> None:
                try:
                    os.sched_setaffinity(0, {processor})  # of this thread only
                    ran = _last_ran("/proc/thread-self")
                except OSError:
                    return  # the processor is offline, or not for this process
                if ran:
                    found.append(time.monotonic() - ran)

            thread = threading.Thread(target=measure, name="ipckit-processor-clock")
            with suppress(RuntimeError):  # the limit of threads is reached
                thread.start()
                thread.join()
            self._offsets[processor] = found[0] if found else None
        return self._offsets[processor]
