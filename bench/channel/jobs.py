"""Jobs: each starts the processes of one peer, and measures one figure a repetition."""

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
        name: the peer's name in the tables.
    """

    scale: ClassVar[float | None] = None  # factor to the row's unit; None: the row's scale

    def __init__(self, name: str) -> None:
        self.name = name
        self.fairness: list[float] = []  # one value a repetition, if many share a queue
        self.lost: list[float] = []  # the share of the messages, one value a repetition, if counted

    def takes(self, size: int) -> bool:
        """Whether it supports messages of this size."""
        del size
        return True

    def start(self) -> None:  # noqa: B027 - optional
        """Start the processes, if any."""

    def open(self, size: int) -> None:
        """Prepare for messages of a size."""
        del size

    @abstractmethod
    def once(self) -> float:
        """Run one repetition, and return its figure.

        Raises:
            CrewFailed: a process hung or failed.
        """

    def calibrate(self, seconds: float) -> None:
        """Choose the number of messages so that a repetition takes `seconds`; also warm up."""
        del seconds

    def touched(self) -> int | None:
        """Return the bytes of shared memory that the sender touches in a repetition, if known."""
        return None

    def stop(self) -> None:  # noqa: B027 - optional
        """End the processes, if any."""


class CopySpeed(Job):
    """memcpy of the same number of bytes, as the upper limit; in messages a second."""

    NAME = "memcpy"

    def __init__(self, probe: Probe) -> None:
        super().__init__(self.NAME)
        self._probe = probe

    def open(self, size: int) -> None:
        """Set the size."""
        self._size = size

    def once(self) -> float:
        """Return the copies a second."""
        return self._probe.copy_speed(self._size) * 1e9 / self._size


class Limit(Job):
    """A figure to reach, as if a peer had reached it; in the unit of its row."""

    scale = 1.0

    def __init__(self, name: str, value: float) -> None:
        super().__init__(name)
        self._value = value

    def once(self) -> float:
        """Return the limit."""
        return self._value


class Crewed(Job):
    """A job with processes and lanes."""

    _first = _FIRST_COUNT  # messages at first; fewer would measure only the start

    def __init__(self, kind: type[Lane], sizes: Sequence[int], cores: Cores) -> None:
        super().__init__(kind.name)
        self._kind = kind
        self._sizes = [size for size in sizes if kind.takes(size)]
        self._cores = cores
        self._made: list[Lane] = []
        self._crew: Crew | None = None
        self._count = 1

    def takes(self, size: int) -> bool:
        """Whether the lane supports messages of this size."""
        return size in self._sizes

    def _lanes(self) -> dict[int, Lane]:
        lanes: dict[int, Lane] = {}
        for size in self._sizes:
            lanes[size] = self._kind(size)
            self._made.append(lanes[size])
        return lanes

    @abstractmethod
    def _members(self) -> list[Member]:
        """Return the processes, the senders first."""

    @abstractmethod
    def _run(self, count: int) -> tuple[float, float]:
        """Run one repetition; return its figure, and the seconds that it took."""

    def _first_count(self, size: int) -> int:
        return max(2, min(self._first, _FIRST_BYTES // size))

    @property
    def crew(self) -> Crew:
        """The processes.

        Raises:
            CrewFailed: they have ended.
        """
        if self._crew is None:
            raise CrewFailed("its processes have ended")
        return self._crew

    def start(self) -> None:
        """Create the lanes and start the processes."""
        try:
            self._crew = Crew(self._members())
        except CrewFailed:
            self.stop()
            raise
        except Exception as error:
            self.stop()
            raise CrewFailed(f"did not start: {type(error).__name__}: {error}") from error

    def open(self, size: int) -> None:
        """Open the lane in all processes, the receivers first."""
        self._count = self._first_count(size)
        self.crew.everyone("open", size, seconds=START_SECONDS)

    def calibrate(self, seconds: float) -> None:
        """Increase the number of messages until two runs in a row fill most of the time."""
        for _ in range(_MOST_ATTEMPTS):
            took = self._run(self._count)[1]
            if took > seconds * _ENOUGH:  # an interruption makes a run seem slow
                took = min(took, self._run(self._count)[1])
            if took > seconds * _ENOUGH:
                break
            self._count = int(self._count * min(16.0, seconds / took)) + 1
        self._count = max(1, min(_MOST_COUNT, int(self._count * seconds / took)))
        self.fairness.clear()
        self.lost.clear()

    def once(self) -> float:
        """Run one repetition, and return its figure."""
        return self._run(self._count)[0]

    def touched(self) -> int:
        """Run one more repetition; return the shared memory that the first process touches."""
        self.crew.one(0, "forget_touched")
        self._run(self._count)
        touched: int = self.crew.one(0, "touched")
        return touched

    def stop(self) -> None:
        """End the processes and remove the lanes."""
        if self._crew is not None:
            self._crew.leave()
            self._crew = None
        while self._made:
            with suppress(Exception):  # a killed peer may have nothing to remove
                self._made.pop().close()


class OneWay(Crewed):
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
        # Once around any ring, so that its pages exist before the measurement.
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
    """Single messages of 8 bytes, for any row size: the figure that batches are compared with."""

    NAME = "ipckit, one message of 8 B"
    scale = 1.0

    def __init__(self, kind: type[Lane], cores: Cores) -> None:
        super().__init__(kind, (8,), cores)
        self.name = self.NAME

    def takes(self, size: int) -> bool:
        """Whether it supports the size: yes, for every row."""
        del size
        return True

    def open(self, size: int) -> None:
        """Open the lane for 8 bytes."""
        del size
        super().open(8)


class RoundTrip(Crewed):
    """Round trips; the median of a repetition in nanoseconds."""

    _first = _FIRST_COUNT // 8
    asker: ClassVar[type[roles.Asker]] = roles.Asker

    def _members(self) -> list[Member]:
        out, back = self._lanes(), self._lanes()
        first, second = (frozenset({core}) for core in self._cores)
        return [
            Member(self.asker(out, back), first),
            Member(roles.Answerer(back, out), second),
        ]

    def _run(self, count: int) -> tuple[float, float]:
        nanoseconds = self.crew.everyone("run", count)[0]
        return nanoseconds, nanoseconds * count / 1e9


class RoundTripReadingAll(RoundTrip):
    """Round trips; both sides read every byte of each message."""

    asker = roles.ReadingAsker


class Many(Crewed):
    """Four senders and four receivers, all on both cores; in messages a second.

    `fairness` gets one value for each repetition: the lowest rate of a receiver divided by the
    highest, or the same ratio of the senders if it is lower.
    """

    _first = 16 * _FIRST_COUNT

    def calibrate(self, seconds: float) -> None:
        """Use longer repetitions, because waking eight processes takes time too."""
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
    """Check that every message of each sender came once."""
    for who in range(_PAIRS):
        came = sum(one.get(who, 0) for one in got)
        if came != each:
            raise CrewFailed(f"received {came} of {each} messages of one sender")
