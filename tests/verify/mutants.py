"""Weaken the protocol at one site at a time, and check that a scenario fails.

A site is one use of an atomic or a barrier in native/ring/. Its mutants: a weaker memory order, a
barrier removed, a store that takes effect after the next one. mutants.txt lists those that no
scenario catches, under the reason why. The command fails if another mutant survives, or if one of
the list is caught or does not exist.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import verifier

LIST = verifier.HERE / "mutants.txt"
STATE = verifier.CACHE / "mutants.json"
# The weakest first: if a mutant survives, those that weaken less do too.
HOWS = ("removed", "relaxed", "acquire", "release", "acq_rel", "failure-relaxed", "delayed")
WEAKER = {
    "acquire": {"relaxed"},
    "release": {"relaxed"},
    "acq_rel": {"relaxed", "acquire", "release"},
    "failure-relaxed": {"relaxed", "acquire", "release", "acq_rel"},
}


COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
FUNCTION = re.compile(r"^(\w+)\([^;]*?^{.*?^}", re.DOTALL | re.MULTILINE)
BARRIERS = {"release_fence", "acquire_fence", "full_barrier", "membarrier_all"}
OPERATION = re.compile(
    r"\b((?:load|store|exchange|fetch_[a-z]+)_(?:acquire|release|acq_rel|seq_cst)"
    rf"|compare_exchange|{'|'.join(sorted(BARRIERS))})\("
)


@dataclass(frozen=True)
class Site:
    """One use of an atomic or a barrier: "FILE FUNCTION: TEXT", with #2 for the second like it."""

    key: str
    line: int
    number: int = 1

    @property
    def name(self) -> str:
        """As mutants.txt names it: without the line, which changes often."""
        return self.key if self.number == 1 else f"{self.key}#{self.number}"

    @property
    def function(self) -> str:
        """The file and the function."""
        return self.key.partition(":")[0]


@dataclass
class Sites:
    """The sites that the scenarios reach."""

    hows: dict[Site, list[str]] = field(default_factory=dict)
    scenarios: dict[Site, list[verifier.Scenario]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # of a scenario, at its first bound
    failing: list[verifier.Scenario] = field(default_factory=list)  # without a mutant

    def names(self) -> set[str]:
        """The names of all mutants."""
        return {f"{site.name}={how}" for site, hows in self.hows.items() for how in hows}


def first_bound(scenario: verifier.Scenario) -> int:
    """The bound at which a scenario is cheap."""
    return scenario.quick or min(1, scenario.bound)


def find_sites(scenarios: list[verifier.Scenario]) -> Sites:
    """Run each scenario once at its first bound, and collect the sites that it reaches."""
    found = Sites()
    hows: dict[tuple[str, int], set[str]] = defaultdict(set)
    reached: dict[tuple[str, int], list[verifier.Scenario]] = defaultdict(list)

    def reach(scenario: verifier.Scenario) -> verifier.Outcome:
        return verifier.run(scenario, "--bound", str(first_bound(scenario)), "--sites", trace=0)

    with ThreadPoolExecutor(verifier.CORES) as pool:
        for outcome in pool.map(reach, scenarios):
            found.seconds[outcome.scenario.name] = outcome.seconds
            if outcome.status != verifier.HOLDS:
                found.failing.append(outcome.scenario)
                continue
            for line in outcome.out.splitlines()[1:]:
                number, _, mutant = line.partition("\t")
                key, _, how = mutant.rpartition("=")
                if (verifier.RING / key.partition(" ")[0]).exists():
                    hows[key, int(number)].add(how)
                    if outcome.scenario not in reached[key, int(number)]:
                        reached[key, int(number)].append(outcome.scenario)
    count: Counter[str] = Counter()
    for key, line in sorted(hows):
        count[key] += 1
        site = Site(key, line, count[key])
        found.hows[site] = sorted(hows[key, line], key=HOWS.index)
        found.scenarios[site] = reached[key, line]
    return found


# -- sites that no scenario reaches ----------------------------------------------------------------


def first_argument(text: str, start: int) -> str:
    """Return the first argument of a call, whose parenthesis opens before `start`."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] in "([{":
            depth += 1
        elif text[at] in ")]}" or (text[at] == "," and depth == 0):
            if depth == 0:
                return " ".join(text[start:at].split())
            depth -= 1
    return ""


def written_sites() -> set[str]:
    """The barriers, and the atomics that are not relaxed, in native/ring/, as Site.key."""
    found: set[str] = set()
    for header in verifier.RING.glob("*.h"):
        if header.name == "machine.h":
            continue
        text = COMMENT.sub("", header.read_text())
        for function in FUNCTION.finditer(text):
            for use in OPERATION.finditer(function[0]):
                argument = "" if use[1] in BARRIERS else first_argument(function[0], use.end())
                found.add(f"{header.name} {function[1]}: {use[1]}({argument})")
    return found


# -- the list of survivors -------------------------------------------------------------------------


def read_list(text: str) -> dict[str, str]:
    """Return the reason of each mutant of mutants.txt: the lines with # above it."""
    reasons: dict[str, str] = {}
    reason: list[str] = []
    after_mutant = False
    for line in text.splitlines():
        if line.startswith("#"):
            reason = [] if after_mutant else reason
            reason.append(line[1:].strip())
            after_mutant = False
        elif line.strip():
            reasons[line.strip()] = " ".join(reason)
            after_mutant = True
        else:
            after_mutant = True
    return reasons


# -- the search ------------------------------------------------------------------------------------


@dataclass
class Search:
    """Runs mutants. What it found is kept in a file, so that it can be interrupted."""

    sites: Sites
    listed: dict[str, str]
    budget: float  # seconds for a mutant that should be caught
    listed_budget: float  # seconds for one of the list
    fingerprint: str
    results: dict[str, str | None] = field(default_factory=dict)  # caught by; None: it survived
    hints: dict[str, str] = field(default_factory=dict)  # caught by, for older sources
    catches: Counter[tuple[str, str]] = field(default_factory=Counter)  # function, scenario
    sound: dict[tuple[str, int], bool] = field(default_factory=dict)  # holds without a mutant
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> None:
        """Continue with the results for the same sources."""
        try:
            state: dict[str, Any] = json.loads(STATE.read_text())
        except (OSError, ValueError):
            return
        self.hints = state["hints"]
        if state["fingerprint"] == self.fingerprint:
            self.results = state["results"]

    def save(self) -> None:
        """Keep the results. The lock is held."""
        state = {
            "fingerprint": self.fingerprint,
            "results": self.results,
            "hints": self.hints,
        }
        STATE.parent.mkdir(parents=True, exist_ok=True)
        new = STATE.with_suffix(".new")
        new.write_text(json.dumps(state, indent=1, sort_keys=True))
        new.replace(STATE)

    def note(self, site: Site, how: str, caught_by: str | None, seconds: float) -> None:
        """Keep a result and print it."""
        name = f"{site.name}={how}"
        with self.lock:
            self.results[name] = caught_by
            if caught_by is not None:
                self.hints[name] = caught_by
                self.catches[site.function, caught_by.partition(" ")[0]] += 1
            self.save()
            verdict = f"caught by {caught_by}" if caught_by else "SURVIVES"
            if not caught_by and name in self.listed:
                verdict = "survives (listed)"
            print(f"{seconds:6.1f} s  {name}: {verdict}", flush=True)

    def runs(self, site: Site, how: str) -> list[tuple[verifier.Scenario, int]]:
        """The runs that may catch a mutant, the most promising first: scenario and bound."""
        hint = self.hints.get(f"{site.name}={how}", "").split(" ")
        scenarios = self.sites.scenarios[site]
        runs = [(each, first_bound(each)) for each in scenarios]
        runs += [(each, each.bound) for each in scenarios if each.bound > first_bound(each)]

        def order(run: tuple[verifier.Scenario, int]) -> tuple[bool, bool, int, float]:
            scenario, bound = run
            known = hint == [scenario.name, str(bound)]
            catches = self.catches[site.function, scenario.name]
            deep = bound > first_bound(scenario)
            return not known, deep, -catches, self.sites.seconds[scenario.name]

        return sorted(runs, key=order)

    def is_sound(self, scenario: verifier.Scenario, bound: int) -> bool:
        """Return whether a scenario holds without a mutant: else it catches nothing."""
        if bound <= first_bound(scenario):
            return True  # find_sites has looked
        key = (scenario.name, bound)
        if key not in self.sound:
            outcome = verifier.run(scenario, "--bound", str(bound), trace=0)
            self.sound[key] = outcome.status == verifier.HOLDS
            if not self.sound[key]:
                print(f"{scenario.name} fails without a mutant at bound {bound}", flush=True)
        return self.sound[key]

    def catch(self, site: Site, how: str) -> tuple[str | None, float]:
        """Return the scenario and bound that caught a mutant, or None, and the seconds."""
        listed = f"{site.name}={how}" in self.listed
        left = self.listed_budget if listed else self.budget
        mutant = f"{site.key}@{site.line}={how}"
        used = 0.0
        for scenario, bound in self.runs(site, how):
            options = ("--bound", str(bound), "--mutant", mutant)
            outcome = verifier.run(scenario, *options, seconds=left, trace=0)
            left -= outcome.seconds
            used += outcome.seconds
            if outcome.status in (verifier.HOLDS, verifier.NO_SITE, None):
                pass
            elif self.is_sound(scenario, bound):
                return f"{scenario.name} {bound}", used
            if left <= 0:
                break
        return None, used

    def search(self, site: Site, hows: list[str]) -> None:
        """Run the mutants of a site, the weakest first."""
        for how in hows:
            name = f"{site.name}={how}"
            if name in self.results:
                continue
            weaker = (f"{site.name}={each}" for each in WEAKER.get(how, ()))
            if any(self.results.get(each, "") is None for each in weaker):
                continue  # it survives too
            self.note(site, how, *self.catch(site, how))

    def search_all(self, chosen: dict[Site, list[str]]) -> None:
        """Run all mutants of the sites, as many at a time as there are processors."""
        with ThreadPoolExecutor(verifier.CORES) as pool:
            for _ in pool.map(lambda each: self.search(each, chosen[each]), chosen):
                pass


def choose(
    sites: Sites, listed: dict[str, str], arguments: argparse.Namespace
) -> dict[Site, list[str]]:
    """The mutants to run: all, those that contain a text, or a sample that should be caught."""
    chosen = {
        site: [how for how in hows if all(text in f"{site.name}={how}" for text in arguments.text)]
        for site, hows in sites.hows.items()
    }
    if arguments.sample:
        # By a hash: the sample stays the same when sites are added.
        names = [
            (hashlib.sha256(f"{site.name}={how}".encode()).hexdigest(), site, how)
            for site, hows in chosen.items()
            for how in hows
            if f"{site.name}={how}" not in listed
            and not any(f"{site.name}={each}" in listed for each in WEAKER.get(how, ()))
        ]
        sample = sorted(names, key=lambda each: each[0])[: arguments.sample]
        chosen = defaultdict(list)
        for _, site, how in sample:
            chosen[site].append(how)
    return {site: hows for site, hows in chosen.items() if hows}


def complaints(
    results: dict[str, str | None], listed: dict[str, str], existing: set[str] | None
) -> list[str]:
    """What is wrong with the list of survivors; existing: all mutants, or None if only some ran."""
    found = [
        f"survives, and is not in {LIST.name}: {name}"
        for name, caught_by in results.items()
        if caught_by is None and name not in listed
    ]
    found += [
        f"is in {LIST.name}, but is caught by {results[name]}: {name}"
        for name in listed
        if results.get(name)
    ]
    found += [f"is in {LIST.name} without a reason: {name}" for name in listed if not listed[name]]
    if existing is not None:
        found += [f"is in {LIST.name}, but no site: {name}" for name in set(listed) - existing]
    return sorted(found)


def summary(results: dict[str, str | None]) -> str:
    """The score."""
    caught = sum(by is not None for by in results.values())
    survive = len(results) - caught
    return f"{len(results)} mutants: {caught} caught, {survive} survive"


def main() -> int:
    """Parse the arguments, build, search, and compare with the list."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", nargs="*", metavar="TEXT", help="only mutants that contain this")
    parser.add_argument("--sample", type=int, metavar="N", help="only N, chosen by a hash")
    parser.add_argument("--budget", type=float, default=60, help="seconds for a mutant (60)")
    parser.add_argument(
        "--listed-budget", type=float, default=30, help="seconds for one of the list (30)"
    )
    parser.add_argument("--again", action="store_true", help="forget earlier results")
    arguments = parser.parse_args()
    try:
        programs = verifier.build()
    except verifier.BuildError as exc:
        print(f"verify: {exc}", file=sys.stderr)
        return 2
    listed = read_list(LIST.read_text()) if LIST.exists() else {}
    sites = find_sites([each for each in verifier.scenarios(programs) if not each.fails])
    for scenario in sites.failing:
        print(f"{scenario.name} fails without a mutant, and is not used", flush=True)
    chosen = choose(sites, listed, arguments)
    search = Search(
        sites, listed, arguments.budget, arguments.listed_budget, verifier.fingerprint(programs)
    )
    search.load()
    names = {f"{site.name}={how}" for site, hows in chosen.items() for how in hows}
    if arguments.again or arguments.sample:
        search.results = {name: by for name, by in search.results.items() if name not in names}
    start = time.monotonic()
    search.search_all(chosen)
    results = {name: by for name, by in search.results.items() if name in names}
    partly = bool(arguments.sample or arguments.text)
    wrong = complaints(results, listed, None if partly else sites.names())
    if not partly:
        reached = {site.key for site in sites.hows}
        for key in sorted(written_sites() - reached):
            print(f"no scenario reaches it: {key}")
    print(*wrong, f"{summary(results)}; {time.monotonic() - start:.0f} s", sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
