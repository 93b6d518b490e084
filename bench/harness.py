"""Side-by-side timing: a peer and ipckit in turn, in one run, as a ratio.

Machines are noisy and drift, but two measurements at the same moment are
comparable. Each repetition times the peer and then ipckit. The result is the
median of the ratios, with their quartiles as the spread.
"""

from __future__ import annotations

import gc
import statistics
import time
import timeit
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REPETITIONS = 25
SLICE_SECONDS = 0.02
_IN_A_ROW = 50


@dataclass(frozen=True)
class Row:
    """One comparison: nanoseconds a call, and the ratio ours / peer's."""

    what: str
    peer: str
    peer_ns: float
    ours_ns: float
    ratio: float
    low: float
    high: float
    at_most: float

    def text(self) -> str:
        """Return the row as a line of the table."""
        verdict = "ok" if self.ratio <= self.at_most else "MISSED"
        return (
            f"{self.what:<34} {self.peer:<26} {self.peer_ns:>9.0f} {self.ours_ns:>9.0f}   "
            f"{self.ratio:>5.2f} ({self.low:.2f}-{self.high:.2f})   {self.at_most:>5.2f}  {verdict}"
        )

    def as_json(self) -> dict[str, object]:
        """Return the row for the JSON file."""
        return asdict(self)


HEADING = (
    f"{'what':<34} {'beside':<26} {'peer ns':>9} {'ours ns':>9}   "
    f"{'ratio (quartiles)':<18} {'goal':>5}"
)


def _timed(function: Callable[[], object], count: int) -> float:
    turns = range(count)
    start = time.perf_counter_ns()
    for _ in turns:
        function()
    return (time.perf_counter_ns() - start) / count


def _row(
    what: str,
    peer: str,
    figures: tuple[Callable[[], float], Callable[[], float]],
    at_most: float,
) -> Row:
    """Measure both, the peer and ipckit, in turn, with the garbage collector off."""
    theirs, ours = figures
    ratios: list[float] = []
    peer_ns: list[float] = []
    ours_ns: list[float] = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(REPETITIONS):
            peer_ns.append(theirs())
            ours_ns.append(ours())
            ratios.append(ours_ns[-1] / peer_ns[-1])
    finally:
        gc.enable()
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Row(
        what,
        peer,
        statistics.median(peer_ns),
        statistics.median(ours_ns),
        middle,
        low,
        high,
        at_most,
    )


def compare(
    what: str,
    peer: str,
    theirs: Callable[[], object],
    ours: Callable[[], object],
    at_most: float,
) -> Row:
    """Time two fast functions in turn, each with enough calls to fill its time slice."""
    calls = max(10, int(SLICE_SECONDS * 1e9 / max(_timed(theirs, 100), _timed(ours, 100))))
    figures = (lambda: _timed(theirs, calls), lambda: _timed(ours, calls))
    return _row(what, peer, figures, at_most)


def compare_slow(
    what: str,
    peer: str,
    theirs: Callable[[], object],
    ours: Callable[[], object],
    at_most: float,
) -> Row:
    """Time two functions that take milliseconds or more, one call of each in turn."""
    theirs(), ours()
    figures = (lambda: _timed(theirs, 1), lambda: _timed(ours, 1))
    return _row(what, peer, figures, at_most)


def compare_expressions(
    what: str, peer: str, theirs: str, ours: str, at_most: float, *, names: dict[str, object]
) -> Row:
    """Time two expressions that take nanoseconds, repeated so that the loop costs little.

    Args:
        what: a short name of the operation.
        peer: the peer's name.
        theirs: the peer's expression, which uses the names.
        ours: ipckit's expression.
        at_most: the goal for the ratio.
        names: the values of the names in the expressions; they become local variables.
    """
    setup = "; ".join(f"{name} = given[{name!r}]" for name in names)
    timers = [
        timeit.Timer("; ".join([each] * _IN_A_ROW), setup, globals={"given": names})
        for each in (theirs, ours)
    ]
    loops = max(1, int(SLICE_SECONDS / max(timer.timeit(20) / 20 for timer in timers)))

    def once(timer: timeit.Timer) -> float:
        return timer.timeit(loops) / loops / _IN_A_ROW * 1e9

    return _row(what, peer, (lambda: once(timers[0]), lambda: once(timers[1])), at_most)
