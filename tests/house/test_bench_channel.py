"""The channel's bench: which repetitions count, the statistics, and the report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from channel import goals, measure, plots, report, sections, table
from channel.crew import CrewFailed
from channel.jobs import Job
from channel.measure import Cell, Pace
from channel.peers_kernel import Pipe
from channel.repetitions import Repetition, Summary, by_place, dropped, place, summarize
from channel.sections import Goal, Row, Section
from channel.verdicts import verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from channel.probe import Cores, Probe

NEAR, FAR = 100.0, 400.0


def near(*values: float) -> list[Repetition]:
    return [Repetition(value, NEAR, NEAR) for value in values]


class FakeProbe:
    """Says what it was told to say, again and again the last."""

    def __init__(self, *trips: float) -> None:
        self._trips = list(trips)
        self.quiet = True

    def alone(self, seconds: float = 0.0) -> bool:
        del seconds
        return self.quiet

    def round_trip(self) -> float:
        return self._trips.pop(0) if len(self._trips) > 1 else self._trips[0]


class FakeJob(Job):
    """Counts up; fails where it is told to."""

    def __init__(self, name: str, *, fails: str = "", log: list[str] | None = None) -> None:
        super().__init__(name)
        self._fails = fails
        self._count = 0
        self._log = [] if log is None else log

    def _maybe(self, what: str) -> None:
        self._log.append(f"{self.name} {what}")
        if self._fails == what:
            raise CrewFailed(f"{what} failed")

    def start(self) -> None:
        self._maybe("start")

    def open(self, size: int) -> None:
        self._maybe("open")
        self._size = size

    def once(self) -> float:
        self._maybe("once")
        self._count += 1
        return float(self._count)

    def stop(self) -> None:
        self._log.append(f"{self.name} stop")


def run(jobs: list[Job], probe: FakeProbe, rows: int = 1) -> Iterator[tuple[Row, list[Cell]]]:
    def make(cores: Cores, probe: Probe) -> list[Job]:
        del cores, probe
        return jobs

    section = Section("fake", tuple(Row(f"row {n}", 8, "ns") for n in range(rows)), make)
    return measure.measure(section, None, probe, Pace(3, 0.0, 60.0, 0.0, 60.0), lambda _: None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (100, 130, "near"),
        (130, 100, "near"),
        (100, 170, None),  # both near, but something changed
        (200, 240, None),  # close to each other, on both sides of the line
        (350, 450, "far"),
        (100, 400, None),
        (400, 100, None),
        (0, 100, None),  # a probe that says nothing
    ],
)
def test_a_repetition_counts_where_the_probes_agree(
    before: float, after: float, kept: str | None
) -> None:
    assert Repetition(1.0, before, after).place == kept


def test_near_is_what_cores_that_share_a_cache_need() -> None:
    assert [place(ns) for ns in (21, 150, 219, 220, 470)] == ["near"] * 3 + ["far"] * 2


def test_the_summary_is_the_median_and_the_quartiles() -> None:
    assert summarize([5, 1, 3, 2, 4]) == Summary(3, 2, 4, 5)
    assert summarize([7]) == Summary(7, 7, 7, 1)
    assert summarize([]) is None


def test_near_and_far_are_summarized_apart_and_the_rest_is_counted() -> None:
    mixed = [*near(1, 3), Repetition(100, FAR, FAR), Repetition(9, NEAR, FAR)]
    assert by_place(mixed) == {"near": Summary(2, 1.5, 2.5, 2), "far": Summary(100, 100, 100, 1)}
    assert dropped(mixed) == 1


def test_repetitions_count_where_nothing_else_ran() -> None:
    busy = Repetition(9, NEAR, NEAR, alone=False)
    assert by_place([*near(1, 3), busy]) == {"near": Summary(2, 1.5, 2.5, 2)}
    assert dropped([*near(1, 3), busy]) == 1


def test_where_others_always_ran_the_figures_say_so() -> None:
    probe = FakeProbe(NEAR)
    probe.quiet = False
    ((row, (cell,)),) = run([FakeJob("one")], probe)
    assert cell.disturbed
    assert cell.summaries["near"].kept == 3
    assert "DISTURBED" in "\n".join(table.row_lines(row, [cell]))


def test_peers_take_turns_and_share_the_probes_between_them() -> None:
    log: list[str] = []
    first, second = FakeJob("one", log=log), FakeJob("two", log=log)
    # The cores move apart between the two of the first turn, and stay there.
    probe = FakeProbe(NEAR, NEAR, FAR, FAR)
    ((_, cells),) = run([first, second], probe)
    order = [line for line in log if "once" in line]
    assert order == [f"{name} once" for name in ("one", "two", "two", "one", "one", "two")]
    one, two = cells
    assert one.repetitions[0] == Repetition(1, NEAR, NEAR)
    assert two.repetitions[0] == Repetition(1, NEAR, FAR)
    assert (one.dropped, two.dropped) == (0, 1)
    assert log[-2:] == ["one stop", "two stop"]


@pytest.mark.parametrize("fails", ["start", "open", "once"])
def test_one_that_fails_is_named_and_the_others_go_on(fails: str) -> None:
    log: list[str] = []
    measured = list(
        run([FakeJob("bad", fails=fails, log=log), FakeJob("good")], FakeProbe(NEAR), rows=2)
    )
    for _, cells in measured:
        by_name = {cell.name: cell for cell in cells}
        assert by_name["bad"].failure == f"{fails} failed"
        assert by_name["good"].failure is None
        assert len(by_name["good"].repetitions) == 3
    # With the next row it gets new processes, unless it could not have any.
    assert log.count("bad start") == (1 if fails == "start" else 2)


RATE = Row("rate", 8, "messages/s", (Goal("rate", 2.0),))
TIME = Row("time", 8, "ns", (Goal("time", 0.1, beside=("slow",)),))


def test_the_best_peer_is_the_one_that_counts() -> None:
    cells = [
        Cell("ipckit", near(300)),
        Cell("good", near(100)),
        Cell("best", near(140)),
        Cell("broken", near(900), failure="hung"),
    ]
    (verdict,) = verdicts(RATE, cells, "ipckit")
    assert verdict.peer is not None
    assert verdict.peer[0] == "best"
    assert verdict.ratio == pytest.approx(300 / 140)
    assert verdict.reached is True


def test_a_peer_that_loses_messages_is_shown_and_is_not_the_best() -> None:
    cells = [
        Cell("ipckit", near(300)),
        Cell("sound", near(100)),
        Cell("loses", near(900), lost=0.015),
    ]
    (verdict,) = verdicts(RATE, cells, "ipckit")
    assert verdict.peer is not None
    assert verdict.peer[0] == "sound"
    (line,) = [line for line in table.row_lines(RATE, cells) if "loses" in line]
    assert "LOST up to 1.50%" in line
    assert report.cell_as_json(cells[2])["lost"] == 0.015


def test_of_times_the_goal_is_an_upper_bound_beside_the_peer_that_it_names() -> None:
    cells = [Cell("ipckit", near(11)), Cell("slow", near(100)), Cell("fast", near(1))]
    (verdict,) = verdicts(TIME, cells, "ipckit")
    assert (verdict.ratio, verdict.reached) == (0.11, False)


def test_without_the_channel_the_peers_are_shown_and_nothing_is_judged() -> None:
    (verdict,) = verdicts(RATE, [Cell("peer", near(100))], "ipckit")
    assert (verdict.ratio, verdict.reached) == (None, None)
    line = table.goal_line(verdict)
    assert "peer" in line
    assert "no figure for ipckit" in line


def test_each_place_is_judged_by_its_own_figures() -> None:
    ours = [*near(300), Repetition(50, FAR, FAR)]
    peers = [*near(100), Repetition(40, FAR, FAR)]
    found = list(verdicts(RATE, [Cell("ipckit", ours), Cell("peer", peers)], "ipckit"))
    assert [(one.place, one.reached) for one in found] == [("near", True), ("far", False)]
    text = "\n".join(table.goals(found))
    assert text.index("cores near") < text.index("reached") < text.index("cores far")
    assert text.index("cores far") < text.index("MISSED")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (7_255_000, "messages/s", "7.25 M/s"),
        (999.4, "messages/s", "999 /s"),
        (999_600, "messages/s", "1000 k/s"),
        (164_000, "messages/s", "164 k/s"),
        (12.1e9, "bytes/s", "12.1 GB/s"),
        (310, "ns", "310 ns"),
        (42_700, "ns", "42.7 us"),
        (1_140_000, "ns", "1.14 ms"),
    ],
)
def test_figures_have_three_digits_and_a_unit(value: float, unit: str, text: str) -> None:
    assert table.figure(value, unit) == text  # type: ignore[arg-type]


def test_a_row_shows_the_best_first_and_names_what_failed() -> None:
    cells = [
        Cell("slow", near(10, 12, 14)),
        Cell("fast", near(20), fairness=[0.5, 0.7, 0.9]),
        Cell("broken", failure="hung: nothing for 6 s"),
        Cell("moved", [Repetition(1, NEAR, FAR)]),
    ]
    title, first, second, *rest = table.row_lines(RATE, cells)
    assert title == "rate"
    assert "fast" in first
    assert "lowest rate / highest 0.70" in first
    assert "slow" in second
    assert "3 kept, 0 dropped" in second
    assert "broken" in rest[0]
    assert "hung" in rest[0]
    assert "nothing kept" in rest[1]


def test_missing_peers_are_named_with_the_reason() -> None:
    lines = list(table.missing_lines({"a": "no x", "b": "no y", "c": "no x"}))
    assert lines == ["missing: a; c: no x", "missing: b: no y"]


def results() -> dict[str, object]:
    cells = [Cell("ipckit", near(300, 310)), Cell("peer", near(100)), Cell("bad", failure="hung")]
    rows = [Row(f"{size} B", size, "messages/s", RATE.goals) for size in (8, 64)]
    measured = [("one-way", row, cells) for row in rows]
    found = [one for _, row, cells in measured for one in verdicts(row, cells, "ipckit")]
    return report.report({"machine": "m", "python": "3"}, measured, found)


def test_the_report_is_json_and_has_everything() -> None:
    made = json.loads(json.dumps(results()))
    assert made["machine"] == "m"
    assert [row["size"] for row in made["rows"]] == [8, 64]
    ours, peer, bad = made["rows"][0]["cells"]
    assert ours["near"] == {"median": 305, "low": 302.5, "high": 307.5, "kept": 2}
    assert peer["name"] == "peer"
    assert bad["failure"] == "hung"
    goal = made["goals"][0]
    assert (goal["ratio"], goal["goal"], goal["reached"]) == (3.05, 2.0, True)
    assert goal["at_most"] is False


def test_a_plot_has_a_line_for_each_peer_with_figures() -> None:
    made = results()
    assert plots.place_of(made) == "near"
    assert plots.lines(made, "one-way", "near") == {
        "ipckit": ([8, 64], [305, 305]),
        "peer": ([8, 64], [100, 100]),
    }
    assert plots.lines(made, "one-way", "far") == {}
    looks = plots.styles(made)
    assert looks["ipckit"]["linewidth"] > looks["peer"]["linewidth"]


@pytest.mark.parametrize("quick", [True, False])
def test_every_goal_has_a_lane_of_each_name(quick: bool) -> None:  # noqa: FBT001 - a parameter
    names = {kind.name for kind in sections.ALL} | {"memcpy", "ipckit, one message of 8 B"}
    rows = [row for each in sections.sections(quick=quick) for row in each.rows]
    found = [goal for row in rows for goal in row.goals]
    assert len(found) == 16
    for goal in found:
        assert goal.ours
        assert names.issuperset(goal.ours)
        assert names.issuperset(goal.beside)


def test_the_section_goals_names_lanes_that_it_has() -> None:
    for section in goals.sections():
        names = {job.name for job in section.make((0, 1), None)}  # type: ignore[arg-type]
        for goal in (goal for row in section.rows for goal in row.goals):
            assert names.issuperset(goal.ours)
    # Only ipckit's own lanes are left in the comparison of two versions.
    for section in map(goals.own, goals.sections()):
        jobs = section.make((0, 1), None)  # type: ignore[arg-type]
        assert jobs
        assert all(job.name.startswith("ipckit") for job in jobs)


TOUCHES_TWO_PAGES = """
import mmap
from channel import memory
with mmap.mmap(-1, 64 * mmap.PAGESIZE) as shared:
    memory.forget_touched()
    shared[0] = shared[10 * mmap.PAGESIZE] = 1
    print(memory.touched() // mmap.PAGESIZE)
"""


def test_touched_memory_is_that_of_shared_mappings() -> None:
    # In a process of its own, because other tests leave shared mappings behind.
    command = [sys.executable, "-c", TOUCHES_TWO_PAGES]
    done = subprocess.run(
        command, cwd=Path(goals.__file__).parents[1], check=True, capture_output=True, text=True
    )
    assert done.stdout == "2\n"


def test_a_peer_that_is_not_there_says_so() -> None:
    class Absent(Pipe):
        name = "absent"
        module = "no_such_module"
        package = "no-such-package"

    reason = Absent.missing()
    assert reason is not None
    assert "no_such_module" in reason
    assert Absent.version() is None
    Absent.module = "json"
    assert Absent.missing() is None
    Absent.attribute = "loads_quickly"
    assert Absent.missing() == "json has no loads_quickly"


def test_rows_get_less_time_each_where_the_machine_is_slow() -> None:
    pace = Pace(15, 0.05, 25.0, 0.2, 440.0)
    assert pace.with_left(440.0, 17).slowest == 25.0
    assert pace.with_left(100.0, 10).slowest == 10.0
    assert pace.with_left(-5.0, 3).slowest == 1.0


def test_names_of_sections_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    from channel import suite  # noqa: PLC0415 - it starts nothing yet

    assert suite.run(suite.channel(quick=True), quick=True, only=["crowds"]) == 1
    assert "no section crowds; there are one-way" in capsys.readouterr().err
