"""The scenarios of `make check` over the model of native/ring, and mutants that they must catch."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import verifier
from mutants import LIST, read_list
from ring_programs import points_of

from ipckit.testing import require

pytestmark = [
    pytest.mark.analysis,
    pytest.mark.timeout(400),  # the first test builds, and runs all that is quick
]
FILES = sorted(path.name for path in verifier.HERE.glob("*.c") if "SCENARIO(" in path.read_text())
MUTANTS = [
    # A sleeper's barrier: without it, a sender can miss that the receiver sleeps.
    ("small", "peers.h ring_heavy_barrier: membarrier_all()=removed"),
    # The message must be in memory before the tail that publishes it.
    ("small", "space.h ring_publish_tail: store_release(&r->shared->tail)=relaxed"),
    # The head must be stored before the lock is free, or the next receiver takes the message again.
    ("two-receivers", "receive.h ring_advance_head: store_release(&r->shared->head)=delayed"),
]


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> list[verifier.Scenario]:
    require("cc", package="gcc")
    require("g++", package="g++")
    if reason := verifier.missing():
        pytest.skip(reason)  # also in CI: not every distribution has a package of Relacy
    return verifier.scenarios(verifier.build(tmp_path_factory.mktemp("verify"), verifier.SOON))


@pytest.fixture(scope="module")
def outcomes(scenarios: list[verifier.Scenario]) -> list[verifier.Outcome]:
    """All quick runs, by as many processes as there are processors."""

    def run(scenario: verifier.Scenario) -> verifier.Outcome:
        return verifier.run(scenario, "--bound", str(scenario.quick), "--points")

    with ThreadPoolExecutor(verifier.CORES) as pool:
        return list(pool.map(run, (each for each in scenarios if each.quick)))


@pytest.mark.parametrize("file", FILES)
def test_the_quick_scenarios_hold(file: str, outcomes: list[verifier.Outcome]) -> None:
    failed = [
        f"{each.line}\n{each.trace}"
        for each in outcomes
        if each.scenario.file == file and each.status != verifier.HOLDS
    ]
    assert failed == []


def test_names_are_unique_and_each_scenario_says_what_holds(
    scenarios: list[verifier.Scenario],
) -> None:
    names = [each.name for each in scenarios]
    assert sorted(set(names)) == sorted(names)
    assert [each.name for each in scenarios if not each.about] == []
    assert {each.file for each in scenarios} == set(FILES)


@pytest.mark.parametrize(("name", "mutant"), MUTANTS)
def test_a_mutant_is_caught(scenarios: list[verifier.Scenario], name: str, mutant: str) -> None:
    (scenario,) = (each for each in scenarios if each.name == name)
    outcome = verifier.run(scenario, "--bound", str(scenario.quick), "--mutant", mutant)
    assert outcome.status == verifier.FAILS
    assert outcome.trace  # a failure shows how it came about


def test_processes_die_at_each_point(
    scenarios: list[verifier.Scenario], outcomes: list[verifier.Outcome]
) -> None:
    runs = [each for each in outcomes if each.scenario.deaths]
    runs += [
        verifier.run(each, "--bound", "0", "--points")
        for each in scenarios
        if each.deaths == 1 and not each.quick  # two deaths take long
    ]
    reached = {point for each in runs for point in each.out.splitlines()[1:]}
    assert points_of("*.h") - reached == set()


def test_the_documentation_has_the_tables(scenarios: list[verifier.Scenario]) -> None:
    tables = verifier.PAGE.read_text().split(verifier.MARKS)[1]
    assert tables.strip() == verifier.tables(scenarios).strip(), "run tests/verify/run.py --table"


def test_each_mutant_that_survives_has_a_reason() -> None:
    reasons = read_list(LIST.read_text())
    assert reasons
    assert [name for name, reason in reasons.items() if len(reason) < 10 or "=" not in name] == []


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_one_switch_more_and_random_orders() -> None:
    seconds = os.environ.get("IPCKIT_VERIFY_SECONDS", "900")
    command = [sys.executable, verifier.HERE / "run.py", "--deep", "--seconds", seconds]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr
