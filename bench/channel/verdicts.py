"""Compare the results with the goals: ipckit's best, the peers' best, and the ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from channel.repetitions import PLACES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from channel.measure import Cell
    from channel.repetitions import Place, Summary
    from channel.sections import Goal, Row

    Figure = tuple[str, Summary]


@dataclass(frozen=True)
class Verdict:
    """One goal in one place.

    Attributes:
        ours: the name and figures of ipckit's best lane; None if there are none.
        peer: the same for the best peer.
    """

    goal: Goal
    row: Row
    place: Place
    ours: Figure | None
    peer: Figure | None

    @property
    def ratio(self) -> float | None:
        """The median of ipckit divided by the peer's."""
        if self.ours is None or self.peer is None or self.peer[1].median == 0:
            return None
        return self.ours[1].median / self.peer[1].median

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None if it was not measured."""
        ratio = self.ratio
        if ratio is None:
            return None
        return ratio <= self.goal.ratio if self.row.less_is_better else ratio >= self.goal.ratio


def best(row: Row, cells: Iterable[Cell], place: Place) -> Figure | None:
    """Return the figure with the best median in a place, of the cells that lost no message."""
    figures = [
        (cell.name, cell.summaries[place])
        for cell in cells
        if cell.failure is None and cell.lost == 0 and place in cell.summaries
    ]
    if not figures:
        return None
    choose = min if row.less_is_better else max
    return choose(figures, key=lambda figure: figure[1].median)


def verdicts(row: Row, cells: Sequence[Cell], ours: str) -> Iterator[Verdict]:
    """Yield each goal of a row, for each place with results.

    Args:
        row: the row.
        cells: its cells.
        ours: the prefix of the names of ipckit's own lanes.
    """
    for place in PLACES:
        if best(row, cells, place) is None:
            continue
        for goal in row.goals:
            own = [cell for cell in cells if cell.name in goal.ours]
            peers = [
                cell
                for cell in cells
                if (cell.name in goal.beside if goal.beside else not cell.name.startswith(ours))
            ]
            yield Verdict(goal, row, place, best(row, own, place), best(row, peers, place))
