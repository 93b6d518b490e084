"""Build the model checker from the scenarios of this folder, and run them.

run.py, mutants.py and the tests use this module.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RING = ROOT / "native" / "ring"
PAGE = ROOT / "docs" / "verification.md"
MARKS = "<!-- tables of the scenarios: python tests/verify/run.py --table -->\n"
CACHE = ROOT / "build" / "verify"

CC = [os.environ.get("CC", "cc"), "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
CC += ["-Wno-unused-function", f"-I{HERE}/shim", f"-I{HERE}", f"-I{RING.parent}"]
CXX = [os.environ.get("CXX", "g++"), "-std=gnu++14", "-w", f"-I{HERE}"]
# Options for the model, and for the scenarios with the C that they run.
FAST = (("-O2", "-g"), ("-O1", "-g"))  # for long runs
SOON = (("-O1",), ("-O0",))  # compiles in half the time, and runs a third slower
THREADS = (2, 3)
CORES = len(os.sched_getaffinity(0))
HAS_RELACY = "#if !__has_include(<relacy/relacy.hpp>)\n#error\n#endif\n"

SECONDS = re.compile(r"executions +([\d.]+) s ")
FIRST_SENTENCE = re.compile(r"/\* (.*?)\.\s", re.DOTALL)
HOLDS, FAILS, NO_SITE = 0, 1, 3  # exit statuses of the program


class BuildError(Exception):
    """A compiler or Relacy is missing, or a file does not compile."""


# -- build -----------------------------------------------------------------------------------------


def missing() -> str:
    """Say what must be installed to build the model checker; "" if nothing is missing."""
    for command, package in ((CC[0], "gcc"), (CXX[0], "g++")):
        if shutil.which(command) is None:
            return f"{command} is missing: apt-get install {package}"
    check = [CXX[0], "-E", "-x", "c++", "-"]
    found = subprocess.run(check, input=HAS_RELACY, text=True, check=False, capture_output=True)
    if found.returncode != 0:
        return "the headers of Relacy are missing: apt-get install relacy-dev"
    return ""


def compiled(command: list[str], output: Path) -> str:
    """Compile unless the output is newer than all files that it was made from; return errors."""
    depends = output.with_suffix(".d")
    stamp = output.with_suffix(".command")
    told = " ".join(command)
    if output.exists() and depends.exists() and stamp.exists() and stamp.read_text() == told:
        sources = depends.read_text().replace("\\\n", " ").partition(":")[2].split()
        made = output.stat().st_mtime_ns
        if all(Path(each).exists() and Path(each).stat().st_mtime_ns < made for each in sources):
            return ""
    stamp.unlink(missing_ok=True)
    whole = [*command, "-MMD", "-MF", str(depends), "-c", "-o", str(output)]
    done = subprocess.run(whole, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        stamp.write_text(told)
        return ""
    return done.stderr or f"{command[0]} failed with status {done.returncode}"


def build(
    folder: Path = CACHE, options: tuple[tuple[str, ...], tuple[str, ...]] = FAST
) -> dict[int, Path]:
    """Build one program for each number of processes.

    Args:
        folder: where the object files and programs are kept. Only what changed is compiled again.
        options: for the compilers, `FAST` or `SOON`.

    Returns:
        The program for each number of processes.

    Raises:
        BuildError: see the message.
    """
    if lack := missing():
        raise BuildError(lack)
    folder.mkdir(parents=True, exist_ok=True)
    model_options, c_options = options
    models = {count: folder / f"model{count}.o" for count in THREADS}
    commands = {
        output: [*CXX, *model_options, f"-DMODEL_THREADS={count}", str(HERE / "model.cpp")]
        for count, output in models.items()
    }
    sources = sorted(HERE.glob("*.c"))
    objects = [folder / f"{source.stem}.o" for source in sources]
    commands |= {
        output: [*CC, *c_options, str(source)]
        for source, output in zip(sources, objects, strict=True)
    }
    with ThreadPoolExecutor(CORES) as pool:
        errors = [each for each in pool.map(compiled, commands.values(), commands) if each]
    if errors:
        raise BuildError(errors[0])  # the others are often the same, from one header
    programs = {count: folder / f"verify{count}" for count in THREADS}
    for count, program in programs.items():
        parts = [models[count], *objects]
        if program.exists() and program.stat().st_mtime_ns > max(
            part.stat().st_mtime_ns for part in parts
        ):
            continue
        subprocess.run([CXX[0], "-o", program, *parts], check=True)
    return programs


def fingerprint(programs: dict[int, Path]) -> str:
    """Identify what is checked: the same for the same sources and compiler."""
    texts = [program.read_bytes() for program in programs.values()]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:16]


# -- scenarios -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """One scenario, as the program lists it."""

    program: Path
    name: str
    file: str
    threads: int
    deaths: int
    stops: int
    fails: int  # 1: a check of the model, which must find a failure
    bound: int
    quick: int
    about: str

    def command(self, *options: str) -> list[str]:
        """The command that runs it."""
        return [str(self.program), self.name, *options]


def scenarios(programs: dict[int, Path]) -> list[Scenario]:
    """List the scenarios of all programs, by file and name."""
    found: list[Scenario] = []
    for program in programs.values():
        done = subprocess.run([program, "--list"], check=True, capture_output=True, text=True)
        for line in done.stdout.splitlines():
            name, file, *numbers, about = line.split("\t")
            found.append(Scenario(program, name, file, *map(int, numbers), about))
    return sorted(found, key=lambda each: (each.file, each.threads, each.name))


def ends(scenario: Scenario) -> str:
    """How many processes may die, or be stopped."""
    counts = [(scenario.deaths, "death"), (scenario.stops, "stop")]
    return ", ".join(f"{count} {word}{'s' * (count > 1)}" for count, word in counts if count)


def tables(every: list[Scenario]) -> str:
    """Describe the scenarios for docs/verification.md: one table for each file."""
    parts: list[str] = []
    for file in sorted({each.file for each in every}):
        first = FIRST_SENTENCE.match((HERE / file).read_text())
        title = " ".join(first[1].split()) if first else file
        parts.append(f"`tests/verify/{file}`. {title}.\n")
        parts.append("| scenario | processes | killed or stopped | switches | what must hold |")
        parts.append("|---|---|---|---|---|")
        parts += [
            f"| {each.name} | {each.threads} | {ends(each)} | {each.bound} | {each.about} |"
            for each in every
            if each.file == file
        ]
        parts.append("")
    return "\n".join(parts)


@dataclass(frozen=True)
class Outcome:
    """How a run of a scenario ended."""

    scenario: Scenario
    options: tuple[str, ...]
    status: int | None  # None: it was stopped when its time was over
    seconds: float  # of one processor
    out: str
    trace: str

    @property
    def line(self) -> str:
        """What the program printed about the run."""
        lines = self.out.splitlines()
        if self.status is None:
            return f"{self.scenario.name:28} no failure in {self.seconds:.0f} s, but not finished"
        if self.status < 0:
            return f"{self.scenario.name:28} died of {signal.Signals(-self.status).name}"
        return lines[0] if lines else f"{self.scenario.name:28} exit status {self.status}"


def run(
    scenario: Scenario, *options: str, seconds: float | None = None, trace: int = 80
) -> Outcome:
    """Run a scenario; the status is HOLDS too if it fails as it must.

    Args:
        scenario: which one.
        options: for the program, for example ``"--bound", "2"``.
        seconds: stop it after so much time of a processor; None: never.
        trace: how many of the last lines of a failure's trace to keep.
    """
    start = time.monotonic()
    errors = subprocess.PIPE if trace else subprocess.DEVNULL
    command = scenario.command(*options)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child:
        if seconds is not None:
            most = math.ceil(seconds)
            resource.prlimit(child.pid, resource.RLIMIT_CPU, (most, most + 1))
        out, err = child.communicate()
    status: int | None = child.returncode
    if status == -signal.SIGXCPU:
        status, used = None, float(seconds or 0)
    elif found := SECONDS.search(out):
        used = float(found[1])
    else:
        used = time.monotonic() - start
    tail = "\n".join((err or "").splitlines()[-trace:]) if trace else ""
    return Outcome(scenario, options, status, used, out, tail)
