"""What is measured of one peer: a job starts its crew, and gives one figure a repetition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from channel import roles
from channel.crew import START_SECONDS, Crew, CrewFailed, Member
from channel.lane import depth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from channel.lane import Lane
    from channel.probe import Cores, Probe

_FIRST_BYTES = 8 * 2**20
_FIRST_COUNT = 256
_MOST_ATTEMPTS = 12
_ENOUGH = 0.6
_MOST_COUNT = 2**20
_PAIRS = 4


class Job(ABC):
    """One peer in one section.

    Args:
        name: of the peer, as the tables have it.
    """

    scale: ClassVar[float | None] = None  # from its figure to the row's unit, if not the row's

    def __init__(self, name: str) -> None:
        self.name = name
        self.fairness: list[float] = []  # of each repetition, where many share a queue

    def takes(self, size: int) -> bool:
        """Whether it can do messages of this size."""
        del size
        return True

    def start(self) -> None:  # noqa: B027 - not all need anything
        """Start what it needs."""

    def open(self, size: int) -> None:
        """Get ready for messages of a size."""
        del size

    @abstractmethod
    def once(self) -> float:
        """One repetition's figure.

        Raises:
            CrewFailed: it hung or failed.
        """

    def calibrate(self, seconds: float) -> None:
        """Choose how many messages a repetition has, so that it takes so long; warms up too."""
        del seconds

    def stop(self) -> None:  # noqa: B027 - not all have anything
        """End what it started."""


class CopySpeed(Job):
    """memcpy of as many bytes, the limit; in messages a second."""

    NAME = "memcpy"

    def __init__(self, probe: Probe) -> None:
        super().__init__(self.NAME)
        self._probe = probe

    def open(self, size: int) -> None:
        """Remember the size."""
        self._size = size

    def once(self) -> float:
        """How many copies a second."""
        return self._probe.copy_speed(self._size) * 1e9 / self._size


class _Crewed(Job):
    """A job with processes and lanes."""

    _first = _FIRST_COUNT  # how many messages at first; few would tell of the start only

    def __init__(self, kind: type[Lane], sizes: Sequence[int], cores: Cores) -> None:
        super().__init__(kind.name)
        self._kind = kind
        self._sizes = [size for size in sizes if kind.takes(size)]
        self._cores = cores
        self._made: list[Lane] = []
        self._crew: Crew | None = None
        self._count = 1

    def takes(self, size: int) -> bool:
        """Whether the lane does."""
        return size in self._sizes

    def _lanes(self) -> dict[int, Lane]:
        lanes: dict[int, Lane] = {}
        for size in self._sizes:
            lanes[size] = self._kind(size)
            self._made.append(lanes[size])
        return lanes

    @abstractmethod
    def _members(self) -> list[Member]:
        """The processes, the sending ones first."""

    @abstractmethod
    def _run(self, count: int) -> tuple[float, float]:
        """One repetition: its figure, and the seconds that it took."""

    def _first_count(self, size: int) -> int:
        return max(2, min(self._first, _FIRST_BYTES // size))

    @property
    def crew(self) -> Crew:
        """The processes.

        Raises:
            CrewFailed: they are gone.
        """
        if self._crew is None:
            raise CrewFailed("its processes are gone")
        return self._crew

    def start(self) -> None:
        """Make the lanes, start the processes."""
        try:
            self._crew = Crew(self._members())
        except CrewFailed:
            self.stop()
            raise
        except Exception as error:
            self.stop()
            raise CrewFailed(f"does not start: {type(error).__name__}: {error}") from error

    def open(self, size: int) -> None:
        """Have all open the lane, the receiving ones first."""
        self._count = self._first_count(size)
        self.crew.everyone("open", size, seconds=START_SECONDS)

    def calibrate(self, seconds: float) -> None:
        """Take more and more until that takes most of the time, twice in a row."""
        for _ in range(_MOST_ATTEMPTS):
            took = self._run(self._count)[1]
            if took > seconds * _ENOUGH:  # an interruption makes it seem slow
                took = min(took, self._run(self._count)[1])
            if took > seconds * _ENOUGH:
                break
            self._count = int(self._count * min(16.0, seconds / took)) + 1
        self._count = max(1, min(_MOST_COUNT, int(self._count * seconds / took)))
        self.fairness.clear()

    def once(self) -> float:
        """One repetition's figure."""
        return self._run(self._count)[0]

    def stop(self) -> None:
        """End the processes, remove the lanes."""
        if self._crew is not None:
            self._crew.leave()
            self._crew = None
        while self._made:
            with suppress(Exception):  # a peer that was killed may have nothing left to remove
                self._made.pop().close()


class OneWay(_Crewed):
    """Messages from one process to another; in messages a second."""

    def __init__(
        self,
        kind: type[Lane],
        sizes: Sequence[int],
        cores: Cores,
        payload: roles.Payload = "bytes",
    ) -> None:
        super().__init__(kind, sizes, cores)
        self._payload: roles.Payload = payload

    def _first_count(self, size: int) -> int:
        # Once around any ring: its pages are there before anything counts.
        return max(super()._first_count(size), depth(size) + 4)

    def _members(self) -> list[Member]:
        lanes = self._lanes()
        first, second = (frozenset({core}) for core in self._cores)
        return [
            Member(roles.Sender(lanes, self._payload), first),
            Member(roles.Receiver(lanes, self._payload), second),
        ]

    def _run(self, count: int) -> tuple[float, float]:
        spans = self.crew.everyone("run", count)
        took = (spans[1][1] - spans[0][0]) / 1e9
        return count / took, took


class EightBytes(OneWay):
    """Single messages of 8 bytes, whatever the row's size: what batches are held against."""

    NAME = "ipckit, one message of 8 B"
    scale = 1.0

    def __init__(self, kind: type[Lane], cores: Cores) -> None:
        super().__init__(kind, (8,), cores)
        self.name = self.NAME

    def takes(self, size: int) -> bool:
        """Every row's."""
        del size
        return True

    def open(self, size: int) -> None:
        """Open its own lane."""
        del size
        super().open(8)


class RoundTrip(_Crewed):
    """There and back; nanoseconds, the median of a repetition."""

    _first = _FIRST_COUNT // 8

    def _members(self) -> list[Member]:
        out, back = self._lanes(), self._lanes()
        first, second = (frozenset({core}) for core in self._cores)
        return [
            Member(roles.Asker(out, back), first),
            Member(roles.Answerer(back, out), second),
        ]

    def _run(self, count: int) -> tuple[float, float]:
        nanoseconds = self.crew.everyone("run", count)[0]
        return nanoseconds, nanoseconds * count / 1e9


class Many(_Crewed):
    """Four senders and four receivers, all on both cores; in messages a second.

    `fairness` gets, for each repetition, the rate of the receiver served least over that of the one
    served most, or the same of the senders, where that is less.
    """

    _first = 16 * _FIRST_COUNT

    def calibrate(self, seconds: float) -> None:
        """Take longer than others: to wake eight processes takes its time too."""
        super().calibrate(4 * seconds)

    def _members(self) -> list[Member]:
        lanes = self._lanes()
        both = frozenset(self._cores)
        senders = [roles.OneOfManySenders(lanes, who) for who in range(_PAIRS)]
        receivers = [roles.OneOfManyReceivers(lanes) for _ in range(_PAIRS)]
        return [Member(role, both) for role in (*senders, *receivers)]

    def _run(self, count: int) -> tuple[float, float]:
        each = max(1, count // _PAIRS)
        results = self.crew.everyone("run", each)
        sent = [results[index] for index in range(_PAIRS)]
        received = [results[index] for index in range(_PAIRS, 2 * _PAIRS)]
        _check([got for _, _, got in received], each)
        took = (max(end for _, end, _ in received) - min(start for start, _ in sent)) / 1e9
        sending = [each / (end - start) for start, end in sent]
        receiving = [sum(got.values()) / (end - start) for start, end, got in received]
        fairness = (min(rates) / max(rates) for rates in (sending, receiving))
        self.fairness.append(min(fairness))
        return each * _PAIRS / took, took


def _check(got: list[dict[int, int]], each: int) -> None:
    """Every sender's messages came, each once."""
    for who in range(_PAIRS):
        came = sum(one.get(who, 0) for one in got)
        if came != each:
            raise CrewFailed(f"{came} of {each} messages of one sender came")
