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
SECONDS = 120  # of processor time for one search, at most
QUOTE = re.compile(r"^\s*// (\w+\.h) (\w+): (.+)$")
STEP = re.compile(r"^\s*\d+:\s+proc\s+(\d+) \((\w+):\d+\) \S+:(\d+) \(state \d+\)\s*(?:\[(.*)\])?")
CHANGE = re.compile(r"^\t\t(\w+(?:\[\d\])?) = (\d+)$")


@dataclass(frozen=True)
class Run:
    """One set of options of the model."""

    name: str
    options: str
    quick: bool = False
    large: bool = False  # more than a million states: an optimized checker saves time
    fair: bool = False  # assume weak fairness: needed if a sleep may time out at any moment


@dataclass(frozen=True)
class Result:
    """What the checker found."""

    run: Run
    states: int
    depth: int
    megabytes: float
    seconds: float  # of processor time, to build and to search
    complete: bool
    violation: str  # the steps that lead to it, or ""

    def __str__(self) -> str:
        verdict = "VIOLATED" if self.violation else "holds" if self.complete else "INCOMPLETE"
        return (
            f"{self.run.name:28} {self.states:>10,} states  depth {self.depth:>6,}"
            f"  {self.megabytes:6.0f} MB  {self.seconds:5.1f} s  {verdict}"
        )


ONE = "-DLEAVES=0 -DSENDS=2 -DRECEIVES=2"
FULL = f"{ONE} -DFULL_BARRIERS=1"
LEAVE = "-DSENDS=2"
TWO_RECEIVERS = "-DLEAVES=0 -DRECEIVERS=2 -DSENDS=2 -DRECEIVES=1 -DCAPACITY=2"
# Two messages are sent with one wake. A receiver may start its call again after the wake.
BATCH = f"{TWO_RECEIVERS} -DBATCH=2 -DTURNS=1"
# A receive makes room for the message of the second sender, but not for that of the first.
LONG = (
    "-DLEAVES=0 -DMAY_WAIT=1 -DSENDERS=2 -DLARGE=1 -DCAPACITY=2 -DFILLED=2 -DSENDS=1 -DRECEIVES=1"
)
# Senders that have room for all messages, and so share only the lock.
LOCK = "-DRECEIVERS=0 -DSENDS=1"
HOLDER_DIES = f"{LOCK} -DDEATHS=1 -DTIME=TICKS -DSENDERS=2 -DCAPACITY=2"
HOLDERS_DIE = f"{LOCK} -DLEAVES=0 -DDEATHS=2 -DHOLDERS_DIE=1 -DTIME=TICKS -DSENDERS=3 -DCAPACITY=3"
# The sender of two receivers dies. One of the receivers sleeps four times as long as the other.
TOLD = (
    "-DLEAVES=0 -DMAY_WAIT=1 -DDEATHS=1 -DVICTIM=0 -DTIME=TICKS -DSENDS=0 -DRECEIVERS=2"
    " -DLAST_IS_LATE=1"
)
# A receiver dies, maybe with a view of the only memory. The other one only stays.
VIEW = (
    "-DLEAVES=0 -DMAY_WAIT=1 -DDEATHS=1 -DVICTIM=1 -DTIME=TICKS -DRECEIVERS=2 -DLAST_IS_IDLE=1"
    " -DVIEWS=1 -DFILLED=1 -DSENDS=1 -DRECEIVES=1"
)
# One of two receivers is stopped for ever, maybe with the wake for the message. Full barriers take
# the store buffers out of the search.
STOPPED = (
    "-DLEAVES=0 -DMAY_WAIT=1 -DSTOPS=1 -DSTOPS_FOR_EVER=2 -DVICTIM=1 -DTIME=TICKS -DRECEIVERS=2"
    " -DSENDS=1 -DRECEIVES=1 -DFULL_BARRIERS=1"
)

SCENARIOS = (
    Run("a sender and a receiver", ONE, quick=True),
    Run("until the sender leaves", LEAVE, quick=True),
    Run("a holder dies", HOLDER_DIES),
    Run("a death, in ticks", "-DDEATHS=1 -DSENDS=1 -DTIME=TICKS"),
    Run("with full barriers", FULL),
    Run("with views", f"{ONE} -DVIEWS=1"),
    Run("a send that does not wait", f"{LOCK} -DLEAVES=0 -DSENDERS=3 -DCAPACITY=3 -DPOLLERS=1"),
    Run("a receiver with a view dies", VIEW),
    Run("a death, at any time", "-DDEATHS=1 -DSENDS=1 -DTIME=ANY", fair=True),
    Run("a stop", "-DSTOPS=1 -DSENDS=1 -DTIME=ANY", fair=True),
    Run("two receivers and a batch", BATCH),
    Run("two senders, a long message", LONG),
    Run("two senders", "-DLEAVES=0 -DSENDERS=2 -DSENDS=1 -DRECEIVES=2", large=True),
    Run("two receivers", TWO_RECEIVERS, large=True),
    Run("two holders die", HOLDERS_DIE, large=True),
    Run("a sender of two receivers dies", TOLD, large=True),
    Run("a receiver of two is stopped", STOPPED, large=True),
    Run(
        "a stop for ever, deadlines",
        "-DSTOPS=1 -DSTOPS_FOR_EVER=1 -DDEADLINES=1 -DSENDS=1 -DTIME=ANY",
        fair=True,
        large=True,
    ),
)
MUTANTS = (
    Run("no membarrier", f"{ONE} -DNO_MEMBARRIER", quick=True),
    Run("no light barrier", f"{FULL} -DNO_LIGHT_BARRIER", quick=True),
    Run("flag after the second try", f"{ONE} -DFLAG_AFTER_TRY", quick=True),
    Run("no second try", f"{ONE} -DNO_SECOND_TRY", quick=True),
    Run("peers checked after the try", f"{LEAVE} -DCHECK_AFTER_TRY", quick=True),
    Run("no wake when a peer leaves", f"{LEAVE} -DLEAVE_WITHOUT_WAKE", quick=True),
    Run("no wake after the clear", f"{ONE} -DNO_WAKE_AFTER_CLEAR", quick=True),
    Run("clear without the step", f"{TWO_RECEIVERS} -DCLEAR_WITHOUT_STEP", large=True),
    Run("no wake in unlock", f"{TWO_RECEIVERS} -DUNLOCK_WITHOUT_WAKE", quick=True),
    Run("no barrier in futex_wake", f"{TWO_RECEIVERS} -DNO_BARRIER_IN_FUTEX_WAKE", quick=True),
    Run("no wake_next", f"{BATCH} -DNO_WAKE_NEXT", quick=True),
    Run("no wake_next after TURNS_MAX", f"{BATCH} -DNO_WAKE_AFTER_TURNS", quick=True),
    Run("no wake passed on", f"{LONG} -DNO_PASS_ON"),
    Run("no wake after a removal", f"{TOLD} -DREMOVAL_WITHOUT_WAKE"),
    Run("no recovery after a removal", f"{VIEW} -DREMOVAL_WITHOUT_RECOVERY", quick=True),
    Run("no take-over", f"{HOLDER_DIES} -DNO_TAKE_OVER", quick=True),
    Run("take-over without repair", f"{HOLDER_DIES} -DTAKE_OVER_WITHOUT_REPAIR", quick=True),
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
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        optimization = "-Og" if run.large else "-O0"  # -O2 would cost more than it saves
        fair = "-DNFAIR=4" if run.fair else "-DNOFAIR"
        memory = f"-DMEMLIM={MEMORY_MB}"
        command("gcc", optimization, "-w", fair, memory, "-o", "pan", "pan.c", cwd=place)
        fairness = ["-f"] if run.fair else []
        table = "-w24" if run.large else "-w21"
        search = ["./pan", "-a", *fairness, f"-m{DEPTH}", table, "-n"]
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
