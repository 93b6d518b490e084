"""The topic's bench: what a subscriber counts, the rows, and a run of its processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from channel.loops import Garbled
from topic import loops, sections

from ipckit.testing import Child

if TYPE_CHECKING:
    from collections.abc import Sequence

BENCH = str(Path(__file__).resolve().parent.parent.parent / "bench")
KINDS = 4


def sent(count: int) -> list[bytes]:
    return [bytes([number % KINDS, 0]) for number in range(count)]


TURN = 7
OLD = [loops.stop_message(TURN - 1, 2)] * 2
STOPS = [loops.stop_message(TURN, 2)] * 2


@pytest.mark.parametrize("before", [[], OLD], ids=["at once", "after old stops"])
@pytest.mark.parametrize(
    ("missing", "arrived"),
    [
        ((), 10),
        ((0,), 9),
        ((3,), 9),
        ((3, 4, 8), 7),
        ((9,), 9),
        ((2, 3, 4, 5), 6),  # the number after them is the expected one
        (range(10), 0),
    ],
)
def test_a_subscriber_counts_what_arrives(
    before: list[bytes], missing: Sequence[int], arrived: int
) -> None:
    messages = [message for at, message in enumerate(sent(10)) if at not in missing]
    coming = iter([*before, *messages, *STOPS])
    assert loops.count_all(coming.__next__, KINDS, 10, TURN)[1] == arrived


def test_a_message_that_comes_twice_is_an_error() -> None:
    coming = iter([*sent(2), *sent(10), *STOPS])
    with pytest.raises(Garbled, match="12 of 10"):
        loops.count_all(coming.__next__, KINDS, 10, TURN)


def test_every_goal_names_figures_of_its_row() -> None:
    for section in sections.sections():
        names = {job.name for job in section.make((0, 1), None)}  # type: ignore[arg-type]
        (row,) = section.rows
        assert row.goals
        for goal in row.goals:
            assert names.issuperset(goal.ours)
            assert goal.beside


def test_goals_stand_for_all_sections() -> None:
    suite = sections.suite()
    assert len(suite.chosen(())) == len(suite.chosen(["goals"])) == len(sections.sections())


RUN = """
import os, sys
sys.path.insert(0, args[0])
from topic import jobs, ours

def figures(job, size):
    job.start()
    try:
        job.open(size)
        job.calibrate(0.001)
        return job.once(), job.lost
    finally:
        job.stop()

core = min(os.sched_getaffinity(0))
cores = core, core
result = [
    figures(jobs.FanOut(ours.Topic, 64, cores, 2), 64),
    figures(jobs.Frames(ours.Frames, 2**16, cores, 2), 2**16),
    figures(jobs.Publish(ours.Topic, 64, cores, 2), 64),
    figures(jobs.Killed(cores, kills=2), 8),
]
"""


@pytest.mark.soak
def test_its_processes_measure_and_lose_nothing() -> None:
    with Child(RUN, BENCH) as child:
        for value, lost in child.result:
            assert value > 0
            assert not any(lost)
