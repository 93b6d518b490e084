"""The C programs of tests/ring, compiled for aarch64 and run by qemu-user.

What this shows: the code that a compiler makes for aarch64 keeps the protocol, and uses system
calls, futexes and memory layouts as on x86-64. What it does not show: that the memory orders are
strong enough. qemu-user translates for the processor of this machine. x86-64 does not reorder two
loads or two stores, so a missing acquire or release has no effect here. The model checker covers
these orders (docs/verification.md).
"""

from __future__ import annotations

import platform

import pytest
from ring_programs import POINTS, RING_POINTS, counts, run

from ipckit.testing import require

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

ALARM = 600  # seconds; a program that hangs ends then

both = pytest.mark.parametrize("kind", ["ring", "topic"])


@pytest.fixture(autouse=True)
def _aarch64(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = "cc"
    if platform.machine() != "aarch64":
        compiler = require("aarch64-linux-gnu-gcc", package="gcc-aarch64-linux-gnu")
        monkeypatch.setenv("EMULATOR", require("qemu-aarch64", package="qemu-user"))
    # Static, so that the emulator needs no libraries of the other processor.
    monkeypatch.setenv("CC", f"{compiler} -static")


@both
def test_cases(kind: str) -> None:
    run(f"test_{kind}_cases", "none barriers")


def test_races_recoveries_and_corruption() -> None:
    run("test_topic_races", "none")


@pytest.mark.parametrize(("kind", "messages"), [("ring", 5000), ("topic", 1000)])
def test_many_processes_at_the_same_time(kind: str, messages: int) -> None:
    run(f"test_{kind}", "none barriers", messages, ALARM)


@pytest.mark.parametrize(("kind", "rounds"), [("ring", 40_000), ("topic", 200)])
def test_nobody_sleeps_through_a_wake(kind: str, rounds: int) -> None:
    run(f"test_{kind}_wakes", "none barriers", rounds)


@both
def test_death_at_every_point_costs_no_message_and_no_memory(kind: str) -> None:
    found = counts(f"test_{kind}_deaths", "none", 2000, 1, ALARM)
    assert {name for name, count in found.items() if count} >= POINTS[kind]


@both
def test_peers_that_are_killed_at_any_moment(kind: str) -> None:
    run(f"test_{kind}_kills", "none", 1000, 1, ALARM)


@both
def test_scribbled_memory_never_makes_a_call_crash_or_hang(kind: str) -> None:
    run(f"test_{kind}_fuzz", "none", 3000, 1, ALARM)


def test_a_channel_peer_that_is_stopped_at_every_point() -> None:
    found = counts("test_ring_stops", "none", 3, 1, ALARM)
    assert {name for name, count in found.items() if count} >= RING_POINTS


def test_the_sequence_lock() -> None:
    run("test_seqlock", "none", 50)
