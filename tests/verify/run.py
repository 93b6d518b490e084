"""Run the scenarios of the model checker: python tests/verify/run.py [--quick] [NAME ...]."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import verifier

TIMES = verifier.CACHE / "seconds.json"
RANDOM = "1000000000"  # executions: more than there is time for


def plan(scenario: verifier.Scenario, arguments: argparse.Namespace) -> list[tuple[str, ...]]:
    """The options of each run of a scenario."""
    if arguments.quick:
        return [("--bound", str(scenario.quick))] if scenario.quick else []
    if arguments.deep:
        return [("--bound", str(scenario.bound + 1)), ("--random", RANDOM)]
    return [("--bound", str(scenario.bound))]


def read_times() -> dict[str, float]:
    """How many seconds each run took last time."""
    try:
        return dict(json.loads(TIMES.read_text()))
    except (OSError, ValueError):
        return {}


def report(outcome: verifier.Outcome) -> None:
    """Print the line of a run, and the trace of a failure."""
    print(outcome.line, flush=True)
    if outcome.status not in (verifier.HOLDS, None):
        print(outcome.trace)
        print(f"again: {shlex.join(outcome.scenario.command(*outcome.options))}", flush=True)


def run_all(runs: list[tuple[verifier.Scenario, tuple[str, ...]]], limit: float | None) -> int:
    """Run as many at a time as there are processors; return how many failed."""
    failed = 0
    times = read_times()
    key = {each: f"{each[0].name} {' '.join(each[1])}" for each in runs}
    longest = max(times.values(), default=0)
    runs.sort(key=lambda each: -times.get(key[each], longest))
    with ThreadPoolExecutor(verifier.CORES) as pool:
        waiting = {
            pool.submit(verifier.run, scenario, *options, seconds=limit): (scenario, options)
            for scenario, options in runs
        }
        for done in as_completed(waiting):
            outcome = done.result()
            times[key[waiting[done]]] = round(outcome.seconds, 2)
            report(outcome)
            failed += outcome.status not in (verifier.HOLDS, None)
    verifier.CACHE.mkdir(parents=True, exist_ok=True)
    TIMES.write_text(json.dumps(times, indent=1, sort_keys=True))
    return failed


def write_tables(every: list[verifier.Scenario]) -> None:
    """Replace the tables of the documentation, which are between two marks."""
    before, _, after = verifier.PAGE.read_text().split(verifier.MARKS)
    verifier.PAGE.write_text(verifier.MARKS.join([before, f"\n{verifier.tables(every)}\n", after]))


def main() -> int:
    """Parse the arguments, build, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a scenario, or a file of them")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help="those of `make check`, at their bound")
    mode.add_argument("--deep", action="store_true", help="one more switch, and random executions")
    mode.add_argument("--table", action="store_true", help="update docs/verification.md; run none")
    parser.add_argument("--seconds", type=float, help="with --deep: for all together (600)")
    arguments = parser.parse_args()
    start = time.monotonic()
    try:
        every = verifier.scenarios(verifier.build())
    except verifier.BuildError as exc:
        print(f"verify: {exc}", file=sys.stderr)
        return 2
    if arguments.table:
        write_tables(every)
        return 0
    known = {each.name for each in every} | {each.file for each in every}
    if unknown := set(arguments.names) - known:
        print(f"verify: no such scenario: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    chosen = [
        each
        for each in every
        if not arguments.names or {each.name, each.file} & set(arguments.names)
    ]
    runs = [(each, options) for each in chosen for options in plan(each, arguments)]
    limit = None
    if arguments.deep:
        limit = (arguments.seconds or 600) * verifier.CORES / max(len(runs), 1)
    failed = run_all(runs, limit)
    seconds = time.monotonic() - start
    print(f"{len(runs)} runs of {len(chosen)} scenarios in {seconds:.0f} s, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
