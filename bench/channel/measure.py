"""The run: all peers of a row in turn, repetition by repetition, with the probe in between."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from channel.crew import CrewFailed
from channel.repetitions import Repetition, by_place, dropped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from channel.jobs import Job
    from channel.probe import Cores, Probe
    from channel.repetitions import Place, Summary
    from channel.sections import Row, Section

    Progress = Callable[[str], None]


@dataclass
class Cell:
    """One peer's repetitions in one row; or why there are none."""

    name: str
    repetitions: list[Repetition] = field(default_factory=list)
    failure: str | None = None
    fairness: list[float] = field(default_factory=list)

    @property
    def summaries(self) -> dict[Place, Summary]:
        """What the kept ones say."""
        return by_place(self.repetitions)

    @property
    def dropped(self) -> int:
        """How many were not kept."""
        return dropped(self.repetitions)


@dataclass(frozen=True)
class Pace:
    """How much is measured.

    Attributes:
        repetitions: of each peer in each row.
        seconds: of each repetition, about.
        slowest: a row takes no new round of its peers after so many seconds.
    """

    repetitions: int
    seconds: float
    slowest: float


QUICK = Pace(3, 0.012, 5.0)
FULL = Pace(15, 0.05, 40.0)


def _attempt(cell: Cell, job: Job, action: Callable[[], object]) -> bool:
    """Do it; where it fails, say so in the cell, and end the job."""
    try:
        action()
    except CrewFailed as error:
        cell.failure = str(error)
        job.stop()
        return False
    return True


def _measure_row(
    row: Row, jobs: list[Job], probe: Probe, pace: Pace, progress: Progress
) -> list[Cell]:
    cells: dict[str, Cell] = {job.name: Cell(job.name) for job in jobs}
    able: list[Job] = []
    for job in jobs:
        progress(f"{row.what}: {job.name} warms up")
        cell = cells[job.name]
        opened = _attempt(cell, job, lambda job=job: job.open(row.size))  # type: ignore[misc]
        if opened and _attempt(
            cell,
            job,
            lambda job=job: job.calibrate(pace.seconds),  # type: ignore[misc]
        ):
            able.append(job)
    begin = time.monotonic()
    for turn in range(pace.repetitions):
        if turn > 1 and time.monotonic() - begin > pace.slowest:
            break
        before = probe.round_trip()
        # Each goes first in its turn, so that none always follows the same other.
        for job in able[turn % max(1, len(able)) :] + able[: turn % max(1, len(able))]:
            cell = cells[job.name]
            if cell.failure is not None:
                continue
            progress(f"{row.what}: {turn + 1}/{pace.repetitions} {job.name}")
            taken: list[float] = []
            if not _attempt(cell, job, lambda job=job: taken.append(job.once())):  # type: ignore[misc]
                before = probe.round_trip()
                continue
            after = probe.round_trip()
            scale = row.scale if job.scale is None else job.scale
            cell.repetitions.append(Repetition(taken[0] * scale, before, after))
            before = after
    for job in able:
        cells[job.name].fairness = list(job.fairness)
    return list(cells.values())


def measure(
    section: Section, cores: Cores, probe: Probe, pace: Pace, progress: Progress
) -> Iterator[tuple[Row, list[Cell]]]:
    """Measure the rows of a section one after the other.

    Yields:
        A row, and the cell of each peer that takes messages of its size.
    """
    progress(f"{section.key}: starting the processes")
    jobs = section.make(cores, probe)
    dead: dict[str, Cell] = {}
    try:
        for job in jobs:
            _attempt(dead.setdefault(job.name, Cell(job.name)), job, job.start)
        for row in section.rows:
            fit = [job for job in jobs if job.takes(row.size)]
            alive = [job for job in fit if dead[job.name].failure is None]
            cells = _measure_row(row, alive, probe, pace, progress)
            cells += [dead[job.name] for job in fit if dead[job.name].failure is not None]
            yield row, cells
            for cell, job in ((cell, job) for cell in cells for job in alive if job.name == cell.name):
                if cell.failure is not None and not _attempt(dead[job.name], job, job.start):
                    progress(f"{job.name} does not start again")
    finally:
        for job in jobs:
            job.stop()
