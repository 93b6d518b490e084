"""Measure the rows: all peers in turn, repetition by repetition, with probes in between."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
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
    """One peer's repetitions in one row, or the reason why there are none."""

    name: str
    repetitions: list[Repetition] = field(default_factory=list)
    failure: str | None = None
    fairness: list[float] = field(default_factory=list)
    lost: float = 0.0  # the largest share of its messages that a repetition lost
    touched: int | None = None  # bytes of shared memory, if the row asks for it

    @property
    def summaries(self) -> dict[Place, Summary]:
        """The summaries of the kept repetitions, near and far."""
        return by_place(self.repetitions)

    @property
    def disturbed(self) -> bool:
        """Whether other programs ran during all repetitions."""
        return not any(repetition.alone for repetition in self.repetitions)

    @property
    def dropped(self) -> int:
        """The number of repetitions that were not kept."""
        return dropped(self.repetitions)


@dataclass(frozen=True)
class Pace:
    """The amount of measuring.

    Attributes:
        repetitions: of each peer in each row.
        seconds: of each repetition, approximately.
        slowest: a row starts no new round of its peers after this many seconds.
        patience: seconds to wait before each repetition until no other program runs.
        total: seconds for the whole run, approximately; on a slow machine each row gets less.
    """

    repetitions: int
    seconds: float
    slowest: float
    patience: float
    total: float

    def with_left(self, seconds: float, rows: int) -> Pace:
        """Return the pace for the remaining rows and seconds."""
        return replace(self, slowest=min(self.slowest, max(1.0, seconds / max(1, rows))))


QUICK = Pace(4, 0.012, 2.5, 0.01, 45.0)
FULL = Pace(15, 0.05, 25.0, 0.2, 440.0)


def _end(cell: Cell, job: Job, error: CrewFailed) -> None:
    """Record the failure in the cell, and end the job."""
    cell.failure = str(error)
    job.stop()


def _warm_up(row: Row, jobs: list[Job], pace: Pace, progress: Progress) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for job in jobs:
        progress(f"{row.what}: {job.name} warms up")
        cells[job.name] = Cell(job.name)
        try:
            job.open(row.size)
            job.calibrate(pace.seconds)
            if row.touched:
                cells[job.name].touched = job.touched()
        except CrewFailed as error:
            _end(cells[job.name], job, error)
    return cells


def _measure_row(
    row: Row, jobs: list[Job], probe: Probe, pace: Pace, progress: Progress
) -> list[Cell]:
    cells = _warm_up(row, jobs, pace, progress)
    begin = time.monotonic()
    for turn in range(pace.repetitions):
        if turn > 0 and time.monotonic() - begin > pace.slowest:
            break
        before = probe.round_trip()
        # Rotate the order, so that no peer always follows the same one.
        first = turn % max(1, len(jobs))
        for job in jobs[first:] + jobs[:first]:
            cell = cells[job.name]
            if cell.failure is not None:
                continue
            progress(f"{row.what}: {turn + 1}/{pace.repetitions} {job.name}")
            alone = probe.alone(pace.patience)
            try:
                value = job.once() * (row.scale if job.scale is None else job.scale)
            except CrewFailed as error:
                _end(cell, job, error)
                before = probe.round_trip()
                continue
            after = probe.round_trip()
            alone = alone and probe.alone()
            cell.repetitions.append(Repetition(value, before, after, alone))
            before = after
    for job in jobs:
        cells[job.name].fairness = list(job.fairness)
        cells[job.name].lost = max(job.lost, default=0.0)
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
    started = set[str]()
    try:
        for row in section.rows:
            fit = [job for job in jobs if job.takes(row.size) and job.name not in dead]
            for job in fit:
                if job.name in started:
                    continue
                try:
                    job.start()
                    started.add(job.name)
                except CrewFailed as error:
                    dead[job.name] = Cell(job.name, failure=str(error))
            cells = _measure_row(
                row, [job for job in fit if job.name not in dead], probe, pace, progress
            )
            # A job that failed here may work with the next size, in new processes.
            started -= {cell.name for cell in cells if cell.failure is not None}
            yield row, [*cells, *dead.values()]
    finally:
        for job in jobs:
            job.stop()
