"""native/ring without Python: the tests that channels (ring) and topics share."""

from __future__ import annotations

import pytest
from ring_programs import POINTS, counts, run

SANITIZED = "address,undefined@O0"

both = pytest.mark.parametrize("kind", ["ring", "topic"])


@both
def test_cases(kind: str) -> None:
    run(f"test_{kind}_cases", SANITIZED)


@pytest.mark.parametrize(("kind", "rounds"), [("ring", 700), ("topic", 500)])
def test_death_at_every_point_costs_no_message_and_no_memory(kind: str, rounds: int) -> None:
    found = counts(f"test_{kind}_deaths", SANITIZED, rounds)
    assert {name for name, count in found.items() if count} >= POINTS[kind]


@both
def test_peers_that_are_killed_at_any_moment(kind: str) -> None:
    run(f"test_{kind}_kills", SANITIZED, 100)


@pytest.mark.parametrize(("kind", "rounds"), [("ring", 2000), ("topic", 20)])
def test_nobody_sleeps_through_a_wake(kind: str, rounds: int) -> None:
    run(f"test_{kind}_wakes", "none barriers", rounds)


@both
def test_scribbled_memory_never_makes_a_call_crash_or_hang(kind: str) -> None:
    run(f"test_{kind}_fuzz", SANITIZED, 500)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 200_001])
@both
def test_death_at_every_point_for_long(kind: str, seed: int) -> None:
    found = counts(f"test_{kind}_deaths", "address,undefined none", 100_000, seed, 600)
    assert all(found[name] > 100 for name in POINTS[kind])


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2, 3])
@both
def test_peers_that_are_killed_for_long(kind: str, seed: int) -> None:
    run(f"test_{kind}_kills", "address,undefined none", 4000, seed, 600)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 1_000_001])
@both
def test_scribbled_memory_for_long(kind: str, seed: int) -> None:
    run(f"test_{kind}_fuzz", "address,undefined", 100_000, seed, 600)
