"""Check the model native/ring/sleep.pml with Spin: python spin.py [--quick] [--mutants] [NAME ...].

Prints a line for each run. A violation is followed by the steps that lead to it. The exit status
is 1 if a scenario is violated, or if a mutant is not.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).parents[2] / "native" / "ring" / "sleep.pml"
MEMORY_MB = 6000
DEPTH = 200_000
SECONDS = 120  # of processor time for one search
QUOTE = re.compile(r"^\s*// (\w+\.h) (\w+): (.+)$")
STEP = re.compile(r"^\s*\d+:\s+proc\s+(\d+) \((\w+):\d+\) \S+:(\d+) \(state \d+\)\s*(?:\[(.*)\])?")
CHANGE = re.compile(r"^\t\t(\w+(?:\[\d\])?) = (\d+)$")


@dataclass(frozen=True)
class Run:
    """One set of options of the model."""

    name: str
    options: str
    quick: bool = False
    fair: bool = False  # assume weak fairness: needed if a sleep may time out at any moment


@dataclass(frozen=True)
class Result:
    """What the checker found."""

    run: Run
    states: int
    depth: int
    megabytes: float
    seconds: float
    complete: bool
    violation: str  # the steps that lead to it, or ""

    def __str__(self) -> str:
        verdict = "VIOLATED" if self.violation else "holds" if self.complete else "INCOMPLETE"
        return (
            f"{self.run.name:28} {self.states:>10,} states  depth {self.depth:>6,}"
            f"  {self.megabytes:6.0f} MB  {self.seconds:5.1f} s  {verdict}"
        )


ONE = "-DLEAVES=0 -DSENDS=2 -DRECEIVES=2"
TWO_RECEIVERS = "-DLEAVES=0 -DRECEIVERS=2 -DSENDS=2 -DRECEIVES=1 -DCAPACITY=2"
# The receivers wait for a sender that leaves or dies; one of them sleeps four times as long.
TOLD = "-DDEATHS=1 -DVICTIM=0 -DTIME=TICKS -DSENDS=0 -DRECEIVERS=2 -DLAST_IS_LATE=1 -DLEAVES=2"
# Two senders, and room for both of their messages.
LOCK = "-DDEATHS=1 -DTIME=TICKS -DSENDERS=2 -DRECEIVERS=0 -DCAPACITY=2 -DSENDS=1"
# A receiver may die with a view that has the only memory.
VIEW = (
    "-DDEATHS=1 -DVICTIM=1 -DTIME=TICKS -DRECEIVERS=2 -DVIEWS=1 -DFILLED=1 -DSENDS=1 -DRECEIVES=1"
)

SCENARIOS = (
    Run("a sender and a receiver", ONE, quick=True),
    Run("with full barriers", f"{ONE} -DFULL_BARRIERS=1", quick=True),
    Run("until the sender leaves", "-DSENDS=2", quick=True),
    Run("a holder dies", LOCK, quick=True),
    Run("a death, in ticks", "-DDEATHS=1 -DSENDS=1 -DTIME=TICKS", quick=True),
    Run("a death, at any time", "-DDEATHS=1 -DSENDS=1 -DTIME=ANY", fair=True),
    Run("a stop", "-DSTOPS=1 -DSENDS=1 -DTIME=ANY", fair=True),
    Run("two receivers and a batch", f"{TWO_RECEIVERS} -DBATCH=2"),
    Run("two receivers", TWO_RECEIVERS),
    Run("two senders", "-DLEAVES=0 -DSENDERS=2 -DSENDS=1 -DRECEIVES=2"),
    Run("two deaths, in ticks", "-DDEATHS=2 -DSENDS=2 -DTIME=TICKS"),
    Run("two deaths, at any time", "-DDEATHS=2 -DSENDS=1 -DTIME=ANY", fair=True),
    Run("a sender of two receivers dies", TOLD),
    Run(
        "a stop for ever, deadlines",
        "-DSTOPS=1 -DSTOPS_FOR_EVER=1 -DDEADLINES=1 -DSENDS=1 -DTIME=ANY",
        fair=True,
    ),
)
MUTANTS = (
    Run("no membarrier", f"{ONE} -DNO_MEMBARRIER", quick=True),
    Run("flag after the second try", f"{ONE} -DFLAG_AFTER_TRY", quick=True),
    Run("no second try", f"{ONE} -DNO_SECOND_TRY", quick=True),
    Run("peers checked after the try", "-DSENDS=2 -DCHECK_AFTER_TRY", quick=True),
    Run("no wake after the clear", f"{ONE} -DNO_WAKE_AFTER_CLEAR", quick=True),
    Run("clear without the step", f"{TWO_RECEIVERS} -DCLEAR_WITHOUT_STEP"),
    Run("no wake in unlock", f"{TWO_RECEIVERS} -DUNLOCK_WITHOUT_WAKE", quick=True),
    Run("no barrier in futex_wake", f"{TWO_RECEIVERS} -DNO_BARRIER_IN_FUTEX_WAKE", quick=True),
    Run("no wake_next", f"{TWO_RECEIVERS} -DBATCH=2 -DNO_WAKE_NEXT", quick=True),
    Run("no wake after a removal", f"{TOLD} -DREMOVAL_WITHOUT_WAKE"),
    Run("no take-over", f"{LOCK} -DNO_TAKE_OVER", quick=True),
    Run("take-over without repair", f"{LOCK} -DTAKE_OVER_WITHOUT_REPAIR", quick=True),
)


def quotes() -> list[tuple[str, str, str]]:
    """The header, the function and the statement of each step of the model."""
    found = map(QUOTE.match, MODEL.read_text().splitlines())
    return [(match[1], match[2], match[3]) for match in found if match]


def labels() -> dict[int, str]:
    """The C that each line of the model stands for: that of the comments right before it."""
    found: dict[int, str] = {}
    above: list[str] = []
    for number, line in enumerate(MODEL.read_text().splitlines(), 1):
        if match := QUOTE.match(line):
            above.append(f"{match[2]}: {match[3]}")
        elif above:
            found[number] = " / ".join(above)
            above = []
    return found


def readable(trail: str) -> str:
    """The steps of a trail: the process, the line of the model or the C, and what changed."""
    names = labels()
    values: dict[str, str] = {}
    lines: list[str] = []
    last = ""
    changes: list[str] = []

    def end_step() -> None:
        if last and (changes or "|" in last):
            lines.append(f"{last.replace('|', '')}  {', '.join(changes)}".rstrip())

    for line in trail.splitlines():
        if "START OF CYCLE" in line:
            end_step()
            last, changes = "", []
            lines.append("-- from here on for ever --")
        if match := STEP.match(line):
            end_step()
            changes = []
            process, kind, number, text = match[1], match[2], int(match[3]), match[4] or ""
            what = f"|{names[number]}" if number in names else f"line {number}: {text}"
            last = f"{process} {kind}: {what}"
        elif match := CHANGE.match(line):
            if values.get(match[1], "0") != match[2] and match[1] != "q":
                changes.append(f"{match[1]}={match[2]}")
            values[match[1]] = match[2]
    end_step()
    return "\n".join(lines)


def command(*args: str, cwd: Path) -> str:
    """Run a program and return what it printed."""
    done = subprocess.run(args, check=False, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{args[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def number_of(pattern: str, text: str) -> float:
    """The number that a pattern captures in the checker's output."""
    match = re.search(pattern, text)
    return float(match[1]) if match else 0.0


def check(run: Run) -> Result:
    """Build the checker for a run, and search all states."""
    options = run.options.split()
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        (place / MODEL.name).write_text(MODEL.read_text())
        command("spin", "-a", *options, MODEL.name, cwd=place)
        command(
            "gcc",
            "-O2",
            "-w",
            "-DNFAIR=4",
            f"-DMEMLIM={MEMORY_MB}",
            "-o",
            "pan",
            "pan.c",
            cwd=place,
        )
        fairness = ["-f"] if run.fair else []
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        search = ["./pan", "-a", *fairness, f"-m{DEPTH}", "-w24", "-n"]
        out = subprocess.run(
            ["sh", "-c", f"ulimit -t {SECONDS}; exec {' '.join(search)}"],
            check=False,
            cwd=place,
            capture_output=True,
            text=True,
        ).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        violation = ""
        if not re.search(r"errors: 0", out) and (place / f"{MODEL.name}.trail").exists():
            trail = command("spin", "-t", "-p", "-g", *options, MODEL.name, cwd=place)
            violation = "\n".join(re.findall(r"^pan:\d+: .*$", out, re.M)) + "\n" + readable(trail)
        incomplete = "error: max" in out or "out of memory" in out or "errors:" not in out
        return Result(
            run,
            int(number_of(r"([\d.e+]+) states, stored", out)),
            int(number_of(r"depth reached (\d+)", out)),
            number_of(r"([\d.]+)\s+total actual memory usage", out),
            seconds,
            not incomplete,
            violation,
        )


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the small scenarios")
    parser.add_argument(
        "--mutants", action="store_true", help="the mutants, each of which must be violated"
    )
    parser.add_argument("--trail", action="store_true", help="print the steps also for mutants")
    parser.add_argument("names", nargs="*", help="only these")
    asked = parser.parse_args()
    failed = False
    for run in MUTANTS if asked.mutants else SCENARIOS:
        if (asked.quick and not run.quick) or (asked.names and run.name not in asked.names):
            continue
        result = check(run)
        sys.stdout.write(f"{result}\n")
        sys.stdout.flush()
        if result.violation and (asked.trail or not asked.mutants):
            sys.stdout.write(f"{result.violation}\n")
        failed = failed or bool(result.violation) != asked.mutants or not result.complete
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
