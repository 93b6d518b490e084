"""The model of sleeping and waking (native/ring/sleep.pml), and the C that it stands for."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from ipckit.testing import require

pytestmark = pytest.mark.analysis
NATIVE = Path(__file__).parents[2] / "native" / "ring"

# The directory is not on the path, and a package named spin may be.
_spec = importlib.util.spec_from_file_location("sleep_model", Path(__file__).with_name("spin.py"))
assert _spec is not None
assert _spec.loader is not None
spin = importlib.util.module_from_spec(_spec)
sys.modules["sleep_model"] = spin
_spec.loader.exec_module(spin)

QUICK = [run for run in spin.SCENARIOS if run.quick]
SLOW = [run for run in spin.SCENARIOS if not run.quick]
MUTANTS_IN_SHORT = [run for run in spin.MUTANTS if run.name == "no membarrier"]


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def body_of(function: str, text: str) -> str:
    """The text of a C function, from its name in the first column to its last brace."""
    found = re.search(rf"^{function}\(.*?^}}", text, re.MULTILINE | re.DOTALL)
    return in_one_line(found[0]) if found else ""


@pytest.mark.parametrize(("header", "function", "statement"), sorted(set(spin.quotes())))
def test_the_c_has_each_step_of_the_model(header: str, function: str, statement: str) -> None:
    body = body_of(function, (NATIVE / header).read_text())
    assert body, f"{header} has no function {function}"
    assert in_one_line(statement) in body


def check(run: spin.Run) -> spin.Result:
    require("spin", package="spin")
    require("gcc", package="gcc")
    result = spin.check(run)
    assert result.complete, f"not all states were searched: {result}"
    return result


@pytest.mark.parametrize("run", QUICK, ids=lambda run: run.name)
def test_each_wait_ends(run: spin.Run) -> None:
    result = check(run)
    assert not result.violation, result.violation


@pytest.mark.parametrize("run", MUTANTS_IN_SHORT, ids=lambda run: run.name)
def test_the_model_needs_the_step(run: spin.Run) -> None:
    assert check(run).violation


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", SLOW, ids=lambda run: run.name)
def test_each_wait_ends_in_larger_scenarios(run: spin.Run) -> None:
    result = check(run)
    assert not result.violation, result.violation


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", spin.MUTANTS, ids=lambda run: run.name)
def test_the_model_needs_each_step(run: spin.Run) -> None:
    assert check(run).violation
