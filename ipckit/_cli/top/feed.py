"""The thread that samples the objects while the screen of ``ipckit top`` takes keys."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ipckit._cli.top.model import period

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._cli.top.model import Row, Sampler


class Feed(threading.Thread):
    """Samples until it is told to stop, and computes the rows after each interval.

    Args:
        sampler: the source of the rows.
        interval: seconds between two computations of the rows.
        arrived: is called with the rows.
        failed: is called with an error, after which the thread goes on.
    """

    def __init__(
        self,
        sampler: Sampler,
        interval: float,
        arrived: Callable[[list[Row]], object],
        failed: Callable[[Exception], object],
    ) -> None:
        super().__init__(name="ipckit top", daemon=True)
        self._sampler = sampler
        self._interval = interval
        self._arrived = arrived
        self._failed = failed
        self._stop_event = threading.Event()
        self.paused = False

    def run(self) -> None:
        """Sample, until `stop`."""
        step = period(self._interval)
        due = time.monotonic() + self._interval
        while not self._stop_event.wait(min(step, max(0.0, due - time.monotonic()))):
            if self.paused:
                due = time.monotonic() + step
                continue
            try:
                if time.monotonic() < due:
                    self._sampler.sample()
                    continue
                due = max(due + self._interval, time.monotonic())
                self._arrived(self._sampler.rows())
            except Exception as exc:
                self._failed(exc)

    def stop(self) -> None:
        """Stop, and wait until the thread has ended."""
        self._stop_event.set()
        if self.is_alive():
            self.join()
