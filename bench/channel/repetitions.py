"""Which repetitions count, and what they say: medians and quartiles, near and far apart."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Place = Literal["near", "far"]
PLACES: Final[tuple[Place, Place]] = ("near", "far")

NEAR_NS: Final = 220.0  # near cores need 80-150 ns for a round trip, far ones 340-470
AGREE: Final = 1.6  # two probes of one place differ by less, of two places by more


def place(round_trip_ns: float) -> Place:
    """Whether cores so far from each other are near or far."""
    return "near" if round_trip_ns < NEAR_NS else "far"


@dataclass(frozen=True)
class Repetition:
    """One figure, and the probe's before and after it.

    Attributes:
        value: the figure.
        before_ns: the round trip of a cache line before.
        after_ns: and after.
        alone: whether, before and after, nothing else wanted to run on this machine.
    """

    value: float
    before_ns: float
    after_ns: float
    alone: bool = True

    @property
    def place(self) -> Place | None:
        """Where the cores were all the while; None where the probes do not agree."""
        low, high = sorted((self.before_ns, self.after_ns))
        if low <= 0 or high > low * AGREE or place(low) != place(high):
            return None
        return place(low)


@dataclass(frozen=True)
class Summary:
    """What the kept repetitions of one place say."""

    median: float
    low: float  # the first quartile
    high: float  # the third
    kept: int


def summarize(values: Iterable[float]) -> Summary | None:
    """The median and the quartiles; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    if len(ordered) == 1:
        return Summary(ordered[0], ordered[0], ordered[0], 1)
    low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return Summary(middle, low, high, len(ordered))


def undisturbed(repetitions: Sequence[Repetition]) -> Sequence[Repetition]:
    """Those where no other program ran; all, if there are none: better than nothing, and said."""
    return [repetition for repetition in repetitions if repetition.alone] or repetitions


def by_place(repetitions: Sequence[Repetition]) -> dict[Place, Summary]:
    """The summary of each place where a repetition was kept."""
    kept: dict[Place, list[float]] = {where: [] for where in PLACES}
    for repetition in undisturbed(repetitions):
        where = repetition.place
        if where is not None:
            kept[where].append(repetition.value)
    summaries = {where: summarize(values) for where, values in kept.items()}
    return {where: summary for where, summary in summaries.items() if summary is not None}


def dropped(repetitions: Sequence[Repetition]) -> int:
    """How many do not count: the probes around them do not agree, or others ran."""
    kept = sum(repetition.place is not None for repetition in undisturbed(repetitions))
    return len(repetitions) - kept
