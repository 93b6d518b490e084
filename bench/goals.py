"""Measure ipckit's own lanes of the section `goals`: one version as JSON, or two in turns.

$ python bench/goals.py > figures.json          # this version, 30 seconds; --quick: 10
$ python bench/goals.py --beside PYTHON         # this version and that of another interpreter

A machine's speed changes from minute to minute, so one run of each version does not tell which is
faster. With --beside, both run several times in turns, in fresh processes, with this bench.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

# The processes of the bench import this file too, so it imports little.
# ruff: noqa: PLC0415

_TURNS = 8


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few and short repetitions")
    parser.add_argument("--beside", metavar="PYTHON", help="an interpreter with another ipckit")
    parser.add_argument("--turns", type=int, default=_TURNS, help="runs of each version")
    return parser.parse_args()


def measured(*, quick: bool) -> dict[str, Any]:
    """Return the machine, the load of other programs, and the figures of each cell.

    Raises:
        NoProbe: the bench cannot run on this machine.
    """
    from channel import goals, measure, report
    from channel.probe import Probe, two_cores
    from machine import Load, machine

    pace = measure.QUICK if quick else measure.FULL
    load = Load()
    cells: dict[str, Any] = {}
    cores = two_cores()
    with tempfile.TemporaryDirectory() as directory:
        probe = Probe(Path(directory), cores)
        for section in map(goals.own, goals.sections()):
            for row, found in measure.measure(section, cores, probe, pace, lambda _: None):
                for cell in found:
                    figures = report.cell_as_json(cell)
                    cells[f"{row.what}: {cell.name}"] = {"unit": row.unit, **figures}
    return {"machine": machine(), "others": round(load.others(), 3), "cells": cells}


def _run(python: str) -> dict[str, Any]:
    """Return the result of another process, which uses the ipckit of an interpreter."""
    command = (python, __file__, "--quick")
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _figures(runs: list[dict[str, Any]], what: str, place: str) -> list[float]:
    """Return a cell's medians in a place, one for each undisturbed run."""
    cells = [run["cells"][what] for run in runs]
    return [cell[place]["median"] for cell in cells if place in cell and not cell["disturbed"]]


def _compare(other: str, turns: int) -> None:
    """Run both versions in turns, and print the ratio of this version's figures to the other's.

    The medians of a few runs vary where a cell has two speeds, by how its processes started. The
    ratio of the best runs varies less.
    """
    before: list[dict[str, Any]] = []
    after: list[dict[str, Any]] = []
    for _ in range(turns):
        before.append(_run(other))
        after.append(_run(sys.executable))
    print(
        f"{'what':<60} {'place':<5} {'other':>9} {'this':>9} {'ratio':>6} {'best':>6}  touched, MiB"
    )
    for what, cell in after[0]["cells"].items():
        touched = [(run[0]["cells"][what].get("touched") or 0) / 2**20 for run in (before, after)]
        best = min if cell["unit"] == "ns" else max
        for place in ("near", "far"):
            old, new = (_figures(runs, what, place) for runs in (before, after))
            if not old or not new:
                continue
            medians = f"{median(old):>9.3g} {median(new):>9.3g} {median(new) / median(old):>6.2f}"
            memory = f"{touched[0]:.1f} -> {touched[1]:.1f}"
            print(f"{what:<60} {place:<5} {medians} {best(new) / best(old):>6.2f}  {memory}")
    others = max(run["others"] for run in (*before, *after))
    print(f"\nother programs used up to {others:.0%} of all cores; disturbed figures do not count")


def main() -> int:
    """Print the figures, or the comparison."""
    arguments = _arguments()
    from channel.probe import NoProbe

    if arguments.beside:
        _compare(arguments.beside, arguments.turns)
        return 0
    try:
        json.dump(measured(quick=arguments.quick), sys.stdout, indent=1)
    except NoProbe as error:
        print(f"nothing is measured: {error}", file=sys.stderr)
        return 1
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
