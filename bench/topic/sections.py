"""The rows of the topic's tables, beside peers and limits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from channel.goals import KEY as GOALS
from channel.jobs import Limit, RoundTrip
from channel.peers_memory import Iceoryx2
from channel.sections import KIB, MIB, OURS, Goal, Row, Section, text_of_size
from channel.suite import Suite

from topic import jobs, ours, peers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from channel.jobs import Job
    from channel.lane import Lane
    from channel.probe import Cores, Probe

ALL: tuple[type[Lane], ...] = (*ours.LANES, *peers.LANES)
_TO_REACH = {64: 1.5e6, KIB: 0.8e6}
_MANY = 16
_IDLE_NS = 10e6  # 1 % of a core, for all of them
_GOES_ON_NS = 100e6


def _usable(kinds: Iterable[type[Lane]]) -> list[type[Lane]]:
    return [kind for kind in kinds if kind.missing() is None]


def _fan_out(size: int) -> Section:
    what = f"2 subscribers, bytes, {text_of_size(size)}"
    rate = _TO_REACH[size]
    limit = f"{rate / 1e6:g} M/s"
    goals = [Goal(what, 1.0, (limit,), (OURS,))]
    if size == 64:
        goals += [
            Goal(f"{what}: {name}", 10.0, tuple(kind.name for kind in kinds), (OURS,))
            for name, kinds in (("usual", peers.USUAL), ("all", peers.LANES))
        ]
    row = Row(what, size, "messages/s", tuple(goals))

    def make(cores: Cores, _: Probe) -> list[Job]:
        kinds = _usable(ALL)
        return [*(jobs.FanOut(kind, size, cores, 2) for kind in kinds), Limit(limit, rate)]

    return Section("fan-out", (row,), make)


def _frames() -> Section:
    what = "1 MiB frames in place, 4 beside 1"
    one, *_, four = (jobs.named(ours.Frames, count) for count in (1, 2, 4))
    row = Row(what, MIB, "messages/s", (Goal(what, 0.85, (one,), (four,)),))

    def make(cores: Cores, _: Probe) -> list[Job]:
        kinds = _usable((ours.Frames, Iceoryx2))
        return [jobs.Frames(kind, MIB, cores, count) for kind in kinds for count in (1, 2, 4)]

    return Section("frames", (row,), make)


def _round_trip() -> Section:
    what = "round trip, topic to topic, 8 B"
    goal = Goal(what, 1.5, (ours.Channel.name,), (ours.Topic.name,))

    def make(cores: Cores, _: Probe) -> list[Job]:
        kinds = _usable((ours.Topic, ours.Channel, Iceoryx2))
        return [RoundTrip(kind, (8,), cores) for kind in kinds]

    return Section("round-trip", (Row(what, 8, "ns", (goal,)),), make)


def _killed() -> Section:
    what = f"goes on after a kill, max of {jobs.KILLS}"
    goal = Goal(what, 1.0, ("100 ms",), (ours.TopicOfFour.name,))

    def make(cores: Cores, _: Probe) -> list[Job]:
        own = [jobs.Killed(cores) for _ in _usable((ours.TopicOfFour,))]
        return [*own, Limit("100 ms", _GOES_ON_NS)]

    return Section("killed", (Row(what, 8, "ns", (goal,)),), make)


def _publish() -> Section:
    what = f"one publish to {_MANY} asleep, beside 1"
    one, many = (jobs.named(ours.Topic, count) for count in (1, _MANY))
    goal = Goal(what, 3.0, (one,), (many,))

    def make(cores: Cores, _: Probe) -> list[Job]:
        kinds = _usable((ours.Topic, *peers.SLEEPING))
        return [jobs.Publish(kind, 64, cores, count) for kind in kinds for count in (1, _MANY)]

    return Section("publish", (Row(what, 64, "ns", (goal,)),), make)


def _idle() -> Section:
    what = f"{_MANY} idle subscribers, busy in 1 s"
    goal = Goal(what, 1.0, ("10 ms",), (jobs.named(ours.Topic, _MANY),))

    def make(cores: Cores, _: Probe) -> list[Job]:
        kinds = _usable((ours.Topic, *peers.SLEEPING))
        idle = [jobs.Idle(kind, 64, cores, _MANY) for kind in kinds]
        return [*idle, Limit("10 ms", _IDLE_NS)]

    return Section("idle", (Row(what, 64, "ns", (goal,)),), make)


def sections() -> list[Section]:
    """Return all sections."""
    small = [_fan_out(size) for size in _TO_REACH]
    return [*small, _frames(), _round_trip(), _killed(), _publish(), _idle()]


def suite() -> Suite:
    """Return the topic's bench. Each section has a goal, so `goals` names them all."""
    parts = sections()
    every = [*parts, *(replace(part, key=GOALS) for part in parts)]
    return Suite("topic", every, frozenset({GOALS}), ALL)
