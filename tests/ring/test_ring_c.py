"""native/ring without Python: under ASan and UBSan, under TSan, with deaths and garbage."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ipckit.testing import require

RUN = Path(__file__).with_name("run.sh")

NATIVE = Path(__file__).parents[2] / "native" / "ring"


def points_of(pattern: str) -> set[str]:
    """Where a process dies or is stopped: each step that leaves something half done."""
    texts = [header.read_text() for header in NATIVE.glob(pattern)]
    return {name for text in texts for name in re.findall(r"RING_POINT\((\w+)\);", text)}


POINTS = points_of("[!t]*.h")  # those of topics are in topic_*.h


def run(test: str, builds: str, *args: int | str) -> str:
    require("cc", package="gcc")
    command = ["sh", str(RUN), test, builds, *map(str, args)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-5000:]
    assert done.stdout.count("ok\n") == len(builds.split())
    return done.stdout


def counts(test: str, builds: str, *args: int | str) -> dict[str, int]:
    """How often a process died, or was stopped, at each point."""
    lines = [line.split() for line in run(test, builds, *args).splitlines()]
    return {name: int(count) for name, count in (each for each in lines if len(each) == 2)}


def test_the_points_are_found() -> None:
    assert len(POINTS) > 30
    assert {"before_tail", "held", "swept"} <= POINTS


def test_many_senders_and_receivers_at_the_same_time() -> None:
    run("test_ring", "address,undefined thread", 800)


def test_cases_of_deaths_and_full_channels() -> None:
    run("test_ring_cases", "address,undefined")


def test_death_at_every_point_costs_no_message_and_no_memory() -> None:
    found = counts("test_ring_deaths", "address,undefined", 2000)
    assert {name for name, count in found.items() if count} >= POINTS


def test_peers_that_are_killed_at_any_moment() -> None:
    run("test_ring_kills", "address,undefined", 250)


def test_a_peer_that_is_stopped_at_every_point() -> None:
    found = counts("test_ring_stops", "address,undefined", 3)
    assert {name for name, count in found.items() if count} >= POINTS


def test_nobody_sleeps_through_a_wake() -> None:
    run("test_ring_wakes", "none barriers", 50_000)


def test_scribbled_memory_never_makes_a_call_crash_or_hang() -> None:
    run("test_ring_fuzz", "address,undefined", 1500)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_many_senders_and_receivers_for_long() -> None:
    run("test_ring", "address,undefined thread none", 40000, 600)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_nobody_sleeps_through_a_wake_for_long() -> None:
    run("test_ring_wakes", "none barriers", 5_000_000)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 200_001])
def test_death_at_every_point_for_long(seed: int) -> None:
    found = counts("test_ring_deaths", "address,undefined none", 100_000, seed, 600)
    assert all(found[name] > 100 for name in POINTS)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_peers_that_are_killed_for_long(seed: int) -> None:
    run("test_ring_kills", "address,undefined none", 4000, seed, 600)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_peer_that_is_stopped_for_long() -> None:
    found = counts("test_ring_stops", "address,undefined none", 100, 1, 600)
    assert all(found[name] >= 10 for name in POINTS)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 1_000_001])
def test_scribbled_memory_for_long(seed: int) -> None:
    run("test_ring_fuzz", "address,undefined", 100_000, seed, 600)
