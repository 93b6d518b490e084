"""native/ring without Python: the tests that topics do not share with channels (test_both_c)."""

from __future__ import annotations

import pytest
from ring_programs import TOPIC_POINTS, counts, run

READING = ("copying", "half_copied", "holding")  # of the tests: in the middle of a receive


def test_the_points_are_found() -> None:
    assert len(TOPIC_POINTS) > 25
    assert {"reader_came", "topic_dropped", "subscribing", "locked", "joining"} <= TOPIC_POINTS


def test_many_publishers_and_subscribers_at_the_same_time() -> None:
    run("test_topic", "address,undefined@O0 thread@O0", 150)


def test_races_recoveries_and_corruption() -> None:
    run("test_topic_races", "address,undefined@O0")


def test_a_peer_that_is_stopped_at_every_point() -> None:
    names = sorted(TOPIC_POINTS.union(READING))
    found = counts("test_topic_stops", "address,undefined@O0", 2, 1, 100, *names)
    assert {name for name, count in found.items() if count} >= TOPIC_POINTS


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_many_publishers_and_subscribers_for_long() -> None:
    run("test_topic", "address,undefined thread none", 20_000, 600)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_nobody_sleeps_through_a_wake_for_long() -> None:
    run("test_topic_wakes", "none barriers", 50_000)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_peer_that_is_stopped_for_long() -> None:
    names = sorted(TOPIC_POINTS.union(READING))
    found = counts("test_topic_stops", "address,undefined none", 30, 1, 600, *names)
    assert all(found[name] >= 10 for name in TOPIC_POINTS)
