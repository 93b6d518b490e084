"""The benches of channel and topic: measure, print, compare with the goals, write and plot."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from machine import Load, machine

from channel import goals, measure, plots, report, sections, table
from channel.probe import NoProbe, Probe, two_cores
from channel.repetitions import place
from channel.verdicts import Verdict, verdicts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from channel.lane import Lane
    from channel.probe import Cores

_RESULTS = Path(__file__).parent.parent / "results"


class Suite(NamedTuple):
    """What one bench measures.

    Attributes:
        name: the mechanism; the results are written to a file of this name.
        every: all sections.
        asked: the keys of the sections that are measured only if they are named.
        kinds: the lanes whose versions are shown.
    """

    name: str
    every: Sequence[sections.Section]
    asked: frozenset[str]
    kinds: Sequence[type[Lane]]

    def chosen(self, only: Sequence[str]) -> list[sections.Section]:
        """Return the sections of some keys; of no keys, those that need not be asked for."""
        if only:
            return [section for section in self.every if section.key in only]
        return [section for section in self.every if section.key not in self.asked]


def channel(*, quick: bool) -> Suite:
    """Return the channel's bench. A quick one omits copying peers for huge messages."""
    every = [*sections.sections(quick=quick), *goals.sections()]
    return Suite("channel", every, frozenset({goals.KEY}), sections.ALL)


def _progress(text: str) -> None:
    """Show the progress on one line that is overwritten, if on a terminal."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{text[:width]}")
        sys.stderr.flush()


def _header(suite: Suite, probe: Probe, cores: Cores, *, quick: bool) -> dict[str, Any]:
    distance = probe.round_trip()
    missing = {kind.name: kind.missing() for kind in suite.kinds}
    versions = {kind.package: kind.version() for kind in suite.kinds if kind.package is not None}
    return {
        "machine": machine(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": list(cores),
        "probe_ns": distance,
        "place": place(distance),
        "quick": quick,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {name: version for name, version in versions.items() if version is not None},
        "missing": {name: reason for name, reason in missing.items() if reason is not None},
    }


def _print_header(header: dict[str, Any]) -> None:
    first, second = header["cores"]
    print(
        f"cores {first} and {second}: {header['place']}, a round trip between them takes "
        f"{header['probe_ns']:.0f} ns"
    )
    print(", ".join(f"{name} {version}" for name, version in header["versions"].items()))
    for line in table.missing_lines(header["missing"]):
        print(line)
    print(flush=True)


def run(
    suite: Suite, *, quick: bool, only: Sequence[str] = (), plots_to: Path | None = None
) -> int:
    """Measure, and print the results.

    Args:
        suite: what to measure.
        quick: take less than a minute, with few repetitions.
        only: the keys of the sections to measure; empty: those that need not be asked for.
        plots_to: the directory for the plots; None: no plots.

    Returns:
        The exit status: 1 if the bench cannot run on this machine, or a section is unknown.
    """
    unknown = set(only) - {section.key for section in suite.every}
    if unknown:
        known = ", ".join(dict.fromkeys(section.key for section in suite.every))
        print(f"no section {', '.join(sorted(unknown))}; there are {known}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as directory:
        try:
            cores = two_cores()
            probe = Probe(Path(directory), cores)
        except NoProbe as error:
            print(f"the {suite.name} is not measured: {error}", file=sys.stderr)
            return 1
        header = _header(suite, probe, cores, quick=quick)
        _print_header(header)
        begin, load = time.monotonic(), Load()
        pace = measure.QUICK if quick else measure.FULL
        measured: list[tuple[str, sections.Row, list[measure.Cell]]] = []
        chosen = suite.chosen(only)
        rows_left = sum(len(section.rows) for section in chosen)
        for section in chosen:
            left = pace.with_left(begin + pace.total - time.monotonic(), rows_left)
            rows_left -= len(section.rows)
            for row, cells in measure.measure(section, cores, probe, left, _progress):
                _progress("")
                print("\n".join(table.row_lines(row, cells)), flush=True)
                measured.append((section.key, row, cells))
        _progress("")
    header["seconds"] = round(time.monotonic() - begin, 1)
    header["others"] = round(load.others(), 3)
    found = [one for _, row, cells in measured for one in verdicts(row, cells, sections.OURS)]
    _finish(suite, header, measured, found, plots_to)
    return 0


def _finish(
    suite: Suite,
    header: dict[str, Any],
    measured: list[tuple[str, sections.Row, list[measure.Cell]]],
    found: list[Verdict],
    plots_to: Path | None,
) -> None:
    print("\n".join(table.goals(found)))
    print(f"\n{header['seconds']:.0f} s; other programs used {header['others']:.0%} of all cores")
    everyone = [cell for _, _, cells in measured for cell in cells if cell.failure is None]
    disturbed = sum(cell.disturbed for cell in everyone)
    if disturbed:
        print(f"DISTURBED: {disturbed} of {len(everyone)} figures; measure on an idle machine")
    for line in table.missing_lines(header["missing"]):
        print(line)
    results = report.report(header, measured, found)
    path = _RESULTS / f"{suite.name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"wrote {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    if plots_to is None:
        return
    try:
        for path in plots.draw(results, plots_to):
            print(f"wrote {path}")
    except ImportError as error:
        print(f"no plots: {error}; pip install matplotlib")
