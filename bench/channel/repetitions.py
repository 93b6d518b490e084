"""Select the repetitions that count, and summarize them separately for near and far cores."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Place = Literal["near", "far"]
PLACES: Final[tuple[Place, Place]] = ("near", "far")

NEAR_NS: Final = 220.0  # a round trip takes 80-150 ns on near cores, 340-470 on far ones
AGREE: Final = 1.6  # two probes in one place differ by less, in different places by more


def place(round_trip_ns: float) -> Place:
    """Classify cores by their round trip as near or far."""
    return "near" if round_trip_ns < NEAR_NS else "far"


@dataclass(frozen=True)
class Repetition:
    """One figure, and the probes before and after it.

    Attributes:
        value: the figure.
        before_ns: the probe's round trip before it.
        after_ns: the probe's round trip after it.
        alone: whether no other program was runnable before and after it.
    """

    value: float
    before_ns: float
    after_ns: float
    alone: bool = True

    @property
    def place(self) -> Place | None:
        """Where the cores were during the repetition; None if the probes do not agree."""
        low, high = sorted((self.before_ns, self.after_ns))
        if low <= 0 or high > low * AGREE or place(low) != place(high):
            return None
        return place(low)


@dataclass(frozen=True)
class Summary:
    """The median and quartiles of the kept repetitions in one place."""

    median: float
    low: float  # the first quartile
    high: float  # the third
    kept: int


def summarize(values: Iterable[float]) -> Summary | None:
    """Return the median and quartiles; None for no values."""
    ordered = sorted(values)
    if not ordered:
        return None
    if len(ordered) == 1:
        return Summary(ordered[0], ordered[0], ordered[0], 1)
    low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return Summary(middle, low, high, len(ordered))


def undisturbed(repetitions: Sequence[Repetition]) -> Sequence[Repetition]:
    """Return the repetitions without other programs, or all if there are none (DISTURBED)."""
    return [repetition for repetition in repetitions if repetition.alone] or repetitions


def by_place(repetitions: Sequence[Repetition]) -> dict[Place, Summary]:
    """Return the summary of each place with a kept repetition."""
    kept: dict[Place, list[float]] = {where: [] for where in PLACES}
    for repetition in undisturbed(repetitions):
        where = repetition.place
        if where is not None:
            kept[where].append(repetition.value)
    summaries = {where: summarize(values) for where, values in kept.items()}
    return {where: summary for where, summary in summaries.items() if summary is not None}


def dropped(repetitions: Sequence[Repetition]) -> int:
    """Count the repetitions that were dropped: the probes disagree, or other programs ran."""
    kept = sum(repetition.place is not None for repetition in undisturbed(repetitions))
    return len(repetitions) - kept
