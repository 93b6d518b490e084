"""The rows of the tables: message sizes, peers, and goals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from channel import jobs, ours, peers_kernel, peers_memory, peers_packages
from channel.ours import BATCH_OF_RECORDS
from channel.roles import RECORDS_BYTES, SMALL_OBJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from channel.lane import Lane
    from channel.probe import Cores, Probe

Unit = Literal["messages/s", "records/s", "bytes/s", "ns"]
OURS: Final = "ipckit"  # the prefix of the names of ipckit's own lanes
KIB, MIB = 2**10, 2**20
SIZES: Final = (8, 64, KIB, 8 * KIB, 64 * KIB, MIB)
_TRIPS = (8, KIB, 64 * KIB)

_COPYING = (*peers_kernel.LANES, *peers_packages.LANES)
PEERS = (*_COPYING, *peers_memory.LANES)
_IN_PLACE = (peers_memory.Iceoryx2, peers_memory.Slots)
_SLEEPING = (
    *peers_kernel.LANES,
    peers_packages.ZeroMq,
    peers_packages.Nng,
    peers_packages.FasterFifo,
    peers_packages.HyperQ,
    peers_memory.Iceoryx2Blocking,
)
_RECORDS = (peers_kernel.Stream, peers_kernel.Pipe, peers_packages.HyperQ, *_IN_PLACE)
ALL = (
    *ours.LANES,
    ours.ChannelAsleep,
    ours.ChannelRecords,
    ours.ProcessQueue,
    *PEERS,
)

_NAMES_COPYING = tuple(kind.name for kind in _COPYING)
_ICEORYX = (peers_memory.Iceoryx2.name,)
_CHANNEL, _IN_PLACE_OURS = ours.Channel.name, ours.ChannelInPlace.name


@dataclass(frozen=True)
class Goal:
    """A goal for the ratio of ipckit's figure to a peer's.

    Attributes:
        what: a short description.
        ratio: the goal; a maximum for times, a minimum for everything else.
        beside: the peers to compare with, the best of them; empty: any peer.
        ours: ipckit's lanes to compare, the best of them.
    """

    what: str
    ratio: float
    beside: tuple[str, ...] = ()
    ours: tuple[str, ...] = (_CHANNEL,)


@dataclass(frozen=True)
class Row:
    """Messages of one size, in one section."""

    what: str
    size: int
    unit: Unit
    goals: tuple[Goal, ...] = ()
    scale: float = 1.0  # factor from messages to the unit
    touched: bool = False  # also measure how much shared memory the sender touches

    @property
    def less_is_better(self) -> bool:
        """Whether the figure is a time."""
        return self.unit == "ns"


@dataclass(frozen=True)
class Section:
    """Rows that the same processes measure, one after the other."""

    key: str
    rows: tuple[Row, ...]
    make: Callable[[Cores, Probe], list[jobs.Job]]

    @property
    def sizes(self) -> list[int]:
        """The sizes of its rows."""
        return [row.size for row in self.rows]


def text_of_size(size: int) -> str:
    """Return a size as text: 8 B, 64 KiB, 1 MiB."""
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


def _usable(kinds: Iterable[type[Lane]]) -> list[type[Lane]]:
    return [kind for kind in kinds if kind.missing() is None]


def _one_way() -> Section:
    to_reach = {8: 2.4, 64: 3.5, KIB: 4.0, 8 * KIB: 1.5}
    in_place = {64 * KIB: 1.2, MIB: 1.0}
    rows: list[Row] = []
    for size in SIZES:
        goals: list[Goal] = []
        name = text_of_size(size)
        if size in to_reach:
            goals.append(Goal(f"one-way, bytes, {name}", to_reach[size], _NAMES_COPYING))
        if size in in_place:
            what = f"one-way, in place, {name}"
            goals.append(Goal(what, in_place[size], _ICEORYX, (_IN_PLACE_OURS,)))
        rows.append(Row(f"one-way, {name}", size, "messages/s", tuple(goals)))
    kinds = (*ours.LANES, *PEERS)

    def make(cores: Cores, _: Probe) -> list[jobs.Job]:
        return [jobs.OneWay(kind, SIZES, cores) for kind in _usable(kinds)]

    return Section("one-way", tuple(rows), make)


def _round_trip(*, quick: bool) -> Section:
    kinds = (ours.Channel, ours.ChannelInPlace, *PEERS)
    sizes = _TRIPS if quick else (*_TRIPS, MIB)
    rows: list[Row] = []
    for size in sizes:
        what = f"round trip, spinning, {text_of_size(size)}"
        goals = (Goal(what, 0.1, _ICEORYX, (_CHANNEL, _IN_PLACE_OURS)),) if size in _TRIPS else ()
        rows.append(Row(f"round trip, {text_of_size(size)}", size, "ns", goals))

    def make(cores: Cores, _: Probe) -> list[jobs.Job]:
        unbatched = [kind for kind in _usable(kinds) if not kind.batched]
        return [jobs.RoundTrip(kind, sizes, cores) for kind in unbatched]

    return Section("round-trip", tuple(rows), make)


def _asleep() -> Section:
    goal = Goal(
        "round trip, both asleep, 8 B", 1.1, (peers_kernel.Pipe.name,), (ours.ChannelAsleep.name,)
    )

    def make(cores: Cores, _: Probe) -> list[jobs.Job]:
        kinds = _usable((ours.ChannelAsleep, *_SLEEPING))
        return [jobs.RoundTrip(kind, (8,), cores) for kind in kinds]

    return Section("asleep", (Row(goal.what, 8, "ns", (goal,)),), make)


def _huge(*, quick: bool) -> Section:
    size = 64 * MIB
    what = "64 MiB arrays, in place"
    goals = (
        Goal(f"{what}: iceoryx2", 1.3, _ICEORYX, (_IN_PLACE_OURS,)),
        Goal(f"{what}: memcpy", 0.7, (jobs.CopySpeed.NAME,), (_IN_PLACE_OURS,)),
    )
    row = Row("64 MiB arrays, every byte read", size, "bytes/s", goals, float(size))
    copying = (ours.Channel, *(kind for kind in _COPYING if not kind.batched))

    def make(cores: Cores, probe: Probe) -> list[jobs.Job]:
        kinds = _usable((ours.ChannelInPlace, *_IN_PLACE, *(() if quick else copying)))
        crewed = [jobs.OneWay(kind, (size,), cores, "array") for kind in kinds]
        return [*crewed, jobs.CopySpeed(probe)]

    return Section("arrays", (row,), make)


def _records() -> Section:
    goal = Goal(
        "records of 36 B, for each message of 8 B",
        10.0,
        (jobs.EightBytes.NAME,),
        (ours.ChannelRecords.name,),
    )
    what = f"records of 36 B, {BATCH_OF_RECORDS} a call"
    row = Row(what, RECORDS_BYTES, "records/s", (goal,), float(BATCH_OF_RECORDS))

    def make(cores: Cores, _: Probe) -> list[jobs.Job]:
        kinds = _usable((ours.ChannelRecords, *_RECORDS))
        batches = [jobs.OneWay(kind, (RECORDS_BYTES,), cores, "records") for kind in kinds]
        single = [jobs.EightBytes(kind, cores) for kind in _usable((ours.Channel,))]
        return [*batches, *single]

    return Section("records", (row,), make)


def _crowd() -> Section:
    beside = (peers_packages.FasterFifo.name, peers_kernel.MultiprocessingQueue.name)
    goal = Goal("4 senders, 4 receivers, 64 B", 3.0, beside)

    def make(cores: Cores, _: Probe) -> list[jobs.Job]:
        kinds = [kind for kind in _usable((ours.Channel, *PEERS)) if kind.shared]
        return [jobs.Many(kind, (64,), cores) for kind in kinds]

    return Section("crowd", (Row(goal.what, 64, "messages/s", (goal,)),), make)


def _objects() -> Section:
    beside = (peers_kernel.MultiprocessingQueue.name,)
    queue = (ours.ProcessQueue.name,)
    small = Goal("ProcessQueue, small dict", 5.0, beside, queue)
    large = Goal("ProcessQueue, dict with 1 MiB array", 10.0, beside, queue)
    rows = (
        Row(small.what, SMALL_OBJECT, "messages/s", (small,)),
        Row(large.what, MIB, "messages/s", (large,)),
    )

    def make(cores: Cores, _: Probe) -> list[jobs.Job]:
        kinds = _usable((ours.ProcessQueue, peers_kernel.MultiprocessingQueue))
        return [jobs.OneWay(kind, (SMALL_OBJECT, MIB), cores, "objects") for kind in kinds]

    return Section("objects", rows, make)


def sections(*, quick: bool) -> list[Section]:
    """Return all sections. A quick run omits copying peers for huge messages."""
    return [
        _one_way(),
        _round_trip(quick=quick),
        _asleep(),
        _records(),
        _crowd(),
        _objects(),
        _huge(quick=quick),
    ]
