"""native/ring without Python: the tests that channels do not share with topics (test_both_c)."""

from __future__ import annotations

import pytest
from ring_programs import RING_POINTS, counts, run


def test_the_points_are_found() -> None:
    assert len(RING_POINTS) > 30
    assert {"before_tail", "held", "swept"} <= RING_POINTS


def test_many_senders_and_receivers_at_the_same_time() -> None:
    run("test_ring", "address,undefined@O0 thread@O0", 250)


def test_a_peer_that_is_stopped_at_every_point() -> None:
    found = counts("test_ring_stops", "address,undefined@O0", 3)
    assert {name for name, count in found.items() if count} >= RING_POINTS


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
def test_a_peer_that_is_stopped_for_long() -> None:
    found = counts("test_ring_stops", "address,undefined none", 100, 1, 600)
    assert all(found[name] >= 10 for name in RING_POINTS)
