"""native/ring/topic*.h without Python: under the sanitizers, with deaths and garbage."""

from __future__ import annotations

import pytest

from tests.ring.test_ring_c import counts, points_of, run

# What a topic passes: its own points, and those of the peers, locks and blocks.
SHARED = ("lock.h", "peers.h", "open.h", "blocks.h", "poll.h")
POINTS = points_of("topic_*.h").union({"before_tail", "after_tail"}, *map(points_of, SHARED))
READING = ("copying", "half_copied", "holding")  # of the tests: in the middle of a receive


def test_the_points_are_found() -> None:
    assert len(POINTS) > 25
    assert {"reader_came", "topic_dropped", "subscribing", "locked", "joining"} <= POINTS


def test_many_publishers_and_subscribers_at_the_same_time() -> None:
    run("test_topic", "address,undefined thread", 500)


def test_cases_of_what_a_topic_promises() -> None:
    run("test_topic_cases", "address,undefined")


def test_races_recoveries_and_corruption() -> None:
    run("test_topic_races", "address,undefined")


def test_death_at_every_point_costs_no_message_and_no_memory() -> None:
    found = counts("test_topic_deaths", "address,undefined", 1500)
    assert {name for name, count in found.items() if count} >= POINTS


def test_peers_that_are_killed_at_any_moment() -> None:
    run("test_topic_kills", "address,undefined", 250)


def test_a_peer_that_is_stopped_at_every_point() -> None:
    names = sorted(POINTS.union(READING))
    found = counts("test_topic_stops", "address,undefined", 2, 1, 100, *names)
    assert {name for name, count in found.items() if count} >= POINTS


def test_nobody_sleeps_through_a_wake() -> None:
    run("test_topic_wakes", "none barriers", 300)


def test_scribbled_memory_never_makes_a_call_crash_or_hang() -> None:
    run("test_topic_fuzz", "address,undefined", 1500)


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
@pytest.mark.parametrize("seed", [1, 200_001])
def test_death_at_every_point_for_long(seed: int) -> None:
    found = counts("test_topic_deaths", "address,undefined none", 100_000, seed, 600)
    assert all(found[name] > 100 for name in POINTS)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_peers_that_are_killed_for_long(seed: int) -> None:
    run("test_topic_kills", "address,undefined none", 4000, seed, 600)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_peer_that_is_stopped_for_long() -> None:
    names = sorted(POINTS.union(READING))
    found = counts("test_topic_stops", "address,undefined none", 30, 1, 600, *names)
    assert all(found[name] >= 10 for name in POINTS)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 1_000_001])
def test_scribbled_memory_for_long(seed: int) -> None:
    run("test_topic_fuzz", "address,undefined", 100_000, seed, 600)
