"""The topic's jobs: each starts one publisher and its subscribers, and measures one figure."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import TYPE_CHECKING

from channel.crew import Member
from channel.jobs import Crewed
from channel.lane import depth

from topic import roles
from topic.ours import TopicOfFour

if TYPE_CHECKING:
    from channel.lane import Lane
    from channel.probe import Cores

_CONTEXT = multiprocessing.get_context("spawn")  # as the crew's processes
_ONCE_AROUND = 256  # large messages
KILLS = 20
_SETTLED = 0.1  # seconds after which all subscribers sleep
_WATCHED = 1.0


class FanOut(Crewed):
    """One publisher, and subscribers that each get every message; in messages a second.

    All processes may use both cores. A repetition ends when the last subscriber has read the last
    message. `lost` gets the share of the messages that did not arrive.

    Args:
        kind: the kind of lane.
        size: bytes of a message.
        cores: the two cores.
        subscribers: their number.
        looks: whether they read in place, and only one line of a message.
    """

    def __init__(
        self, kind: type[Lane], size: int, cores: Cores, subscribers: int, *, looks: bool = False
    ) -> None:
        super().__init__(kind, (size,), cores)
        self._subscribers = subscribers
        self._looks = looks

    def _first_count(self, size: int) -> int:
        # Once around any ring, so that its pages exist before the measurement.
        return max(super()._first_count(size), depth(size) + 4, _ONCE_AROUND)

    def _members(self) -> list[Member]:
        lanes = self._lanes()
        for lane in lanes.values():
            lane.subscribers = self._subscribers
        stopped = self._stopped = _CONTEXT.Semaphore(0)  # kept, or it would be removed
        both = frozenset(self._cores)
        publisher = roles.Publisher(lanes, self._subscribers, stopped)
        subscribers = [
            roles.Subscriber(lanes, stopped, looks=self._looks) for _ in range(self._subscribers)
        ]
        return [Member(role, both) for role in (publisher, *subscribers)]

    def _run(self, count: int) -> tuple[float, float]:
        results = self.crew.everyone("run", count)
        start, _ = results.pop(0)
        arrived = sum(got for _, got in results.values())
        self.lost.append(1 - arrived / (count * self._subscribers))
        took = (max(end for end, _ in results.values()) - start) / 1e9
        return count / took, took


class Frames(FanOut):
    """Large messages in place. The name says how many subscribers look at a line of each."""

    def __init__(self, kind: type[Lane], size: int, cores: Cores, subscribers: int) -> None:
        super().__init__(kind, size, cores, subscribers, looks=True)
        self.name = named(kind, subscribers)


class Publish(FanOut):
    """One publish while all subscribers sleep; the median in nanoseconds."""

    def __init__(self, kind: type[Lane], size: int, cores: Cores, subscribers: int) -> None:
        super().__init__(kind, size, cores, subscribers)
        self.name = named(kind, subscribers)

    def calibrate(self, seconds: float) -> None:
        """Choose how often to publish; a repetition has pauses, so it is longer than others."""
        self._count = 10 if seconds >= 0.05 else 4
        self._run(2)
        self.lost.clear()

    def _run(self, count: int) -> tuple[float, float]:
        crew = self.crew
        subscribers = range(1, self._subscribers + 1)
        for index in subscribers:
            crew.tell(index, "run", count)
        nanoseconds = crew.one(0, "run_after_rests", count)
        arrived = sum(got for _, got in crew.gather(subscribers).values())
        self.lost.append(1 - arrived / (count * self._subscribers))
        return nanoseconds, 0.0


class Idle(FanOut):
    """The time that all subscribers together use the processor in a second without messages."""

    def __init__(self, kind: type[Lane], size: int, cores: Cores, subscribers: int) -> None:
        super().__init__(kind, size, cores, subscribers)
        self.name = named(kind, subscribers)

    def open(self, size: int) -> None:
        """Open the lane in all processes."""
        super().open(size)
        self._pids = [self.crew.one(who, "pid") for who in range(1, self._subscribers + 1)]

    def calibrate(self, seconds: float) -> None:
        """Need nothing: a repetition is a second."""
        del seconds

    def _run(self, count: int) -> tuple[float, float]:
        del count
        crew = self.crew
        subscribers = range(1, self._subscribers + 1)
        for index in subscribers:
            crew.tell(index, "run", 1)
        time.sleep(_SETTLED)
        before = sum(map(_used, self._pids))
        time.sleep(_WATCHED)
        used = sum(map(_used, self._pids)) - before
        crew.one(0, "run", 1)
        crew.gather(subscribers)
        return float(used), _WATCHED


class Killed(Crewed):
    """From the kill of a subscriber until the publisher goes on: the longest time, in ns."""

    def __init__(self, cores: Cores, kills: int = KILLS) -> None:
        super().__init__(TopicOfFour, (8,), cores)
        self._kills = kills

    def _members(self) -> list[Member]:
        return [Member(roles.BlockedPublisher(self._lanes()), frozenset(self._cores))]

    def calibrate(self, seconds: float) -> None:
        """Need nothing: the number of kills is fixed."""
        del seconds

    def _run(self, count: int) -> tuple[float, float]:
        del count
        start = time.monotonic()
        nanoseconds = self.crew.one(0, "run", self._kills)
        return float(nanoseconds), time.monotonic() - start


def named(kind: type[Lane], subscribers: int) -> str:
    """Return the name of a job with some subscribers."""
    return f"{kind.name}, {subscribers} subscriber{'s' if subscribers > 1 else ''}"


def _used(pid: int) -> int:
    """Return the nanoseconds that all threads of a process have run: proc(5), schedstat."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
