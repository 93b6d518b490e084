"""The section `goals`: what the channel must reach with the options that a user gets by default.

The other sections give each peer the depth that suits it. Here ipckit's channels are created
without capacity or size, unless the row says so. Both sides of a row write and read every byte.

The module uses only ipckit's public names, so the same file measures two versions:
bench/goals.py prints ipckit's own figures as JSON.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from channel import jobs, ours, peers_kernel, peers_memory, peers_packages
from channel.sections import KIB, MIB, OURS, Goal, Row, Section, text_of_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from channel.jobs import Job
    from channel.lane import Lane
    from channel.probe import Cores, Probe

KEY = "goals"
_SMALL = (8, 64, KIB, 8 * KIB)
_HUGE = 64 * MIB
_QUEUE_NS = 400_000.0
_QUEUE_LIMIT = "400 us"
_ICEORYX = (peers_memory.Iceoryx2, peers_memory.Iceoryx2Blocking)
_COPYING = (peers_kernel.SeqPacket, peers_packages.HyperQ)
_HUGE_OURS = (ours.ArraysInPlace, ours.ArraysInPlace2, ours.ArraysInPlace2Assigned)

_one_way_of_arrays = partial(jobs.OneWay, payload="array")


class _LongOneWay(jobs.OneWay):
    """One way with longer repetitions, so that huge messages use all slots several times."""

    def calibrate(self, seconds: float) -> None:
        super().calibrate(4 * seconds)


def _names(kinds: Iterable[type[Lane]]) -> tuple[str, ...]:
    return tuple(kind.name for kind in kinds)


def _goal(
    what: str, ratio: float, kind: type[Lane], beside: Iterable[type[Lane]]
) -> tuple[Goal, ...]:
    return (Goal(what, ratio, _names(beside), (kind.name,)),)


def _section(rows: Iterable[Row], kinds: Iterable[type[Lane]], job: Callable[..., Job]) -> Section:
    """Return a section in which `job` makes the job of a lane, for the sizes of the rows."""
    rows = tuple(rows)
    sizes = [row.size for row in rows]

    def make(cores: Cores, _: Probe) -> list[Job]:
        return [job(kind, sizes, cores) for kind in kinds if kind.missing() is None]

    return Section(KEY, rows, make)


def _in_place() -> Section:
    rows = []
    for size, ratio in ((64 * KIB, 1.5), (MIB, 1.0)):
        what = f"in place, {text_of_size(size)}"
        goals = _goal(what, ratio, ours.ArraysInPlace, _ICEORYX)
        rows.append(Row(what, size, "messages/s", goals, touched=True))
    return _section(rows, (ours.ArraysInPlace, *_ICEORYX), _one_way_of_arrays)


def _round_trip() -> Section:
    what = "round trip in place, 1 MiB"
    row = Row(
        what, MIB, "ns", _goal(what, round(1 / 1.2, 3), ours.ArraysInPlace, _ICEORYX), touched=True
    )
    return _section([row], (ours.ArraysInPlace, *_ICEORYX), jobs.RoundTripReadingAll)


def _huge() -> Section:
    what = "arrays, 64 MiB"
    slots = (peers_memory.SlotsWithSemaphores,)
    goals = [
        goal
        for kind in _HUGE_OURS
        for goal in _goal(f"{what}: {kind.name.removeprefix(f'{OURS}, ')}", 0.95, kind, slots)
    ]
    row = Row(what, _HUGE, "bytes/s", tuple(goals), float(_HUGE), touched=True)
    job = partial(_LongOneWay, payload="array")
    return _section([row], (*_HUGE_OURS, *slots), job)


def _large_bytes() -> Section:
    what = "bytes, 1 MiB"
    goals = _goal(what, 1.1, ours.ChannelDefaults, _COPYING)
    row = Row(what, MIB, "messages/s", goals, touched=True)
    return _section([row], (ours.ChannelDefaults, *_COPYING), jobs.OneWay)


def _capacity() -> Section:
    what = "in place, 64 KiB, capacity=1024"
    small, large = ours.ArraysInPlace4, ours.ArraysInPlace1024
    row = Row(what, 64 * KIB, "messages/s", _goal(what, 0.9, large, (small,)), touched=True)
    return _section([row], (large, small), _one_way_of_arrays)


def _process_queue() -> Section:
    what = "ProcessQueue, 1 MiB there and back"
    goal = Goal(what, 1.0, (_QUEUE_LIMIT,), (ours.ProcessQueueDefaults.name,))
    row = Row(what, MIB, "ns", (goal,), touched=True)
    section = _section([row], (ours.ProcessQueueDefaults,), jobs.RoundTrip)

    def make(cores: Cores, probe: Probe) -> list[Job]:
        return [*section.make(cores, probe), jobs.Limit(_QUEUE_LIMIT, _QUEUE_NS)]

    return Section(KEY, section.rows, make)


def _small_bytes() -> Section:
    rows = [
        Row(f"bytes, {text_of_size(size)}", size, "messages/s", touched=True) for size in _SMALL
    ]
    return _section(rows, (ours.ChannelDefaults,), jobs.OneWay)


def sections() -> list[Section]:
    """Return the parts of the section; each has its own peers."""
    return [
        _in_place(),
        _round_trip(),
        _huge(),
        _large_bytes(),
        _capacity(),
        _process_queue(),
        _small_bytes(),
    ]


def own(section: Section) -> Section:
    """Return the section with ipckit's own jobs only."""

    def make(cores: Cores, probe: Probe) -> list[Job]:
        return [job for job in section.make(cores, probe) if job.name.startswith(OURS)]

    return Section(section.key, section.rows, make)
