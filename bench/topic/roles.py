"""The roles of the topic's processes: the publisher, its subscribers, and one that is killed."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from multiprocessing import Pipe
from time import monotonic_ns, sleep
from typing import TYPE_CHECKING, Any, NoReturn

from channel import loops as channel_loops
from channel import roles

from topic import loops

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Semaphore

    from channel.lane import Lane
    from channel.loops import Span

    from topic.ours import Topic

_TURNS = 256  # repetitions until their numbers, a byte, begin again
_AGAIN = 0.001  # seconds until the stop message is repeated
_BLOCKED = 0.02  # seconds after which a publisher that found the topic full sleeps
_STEP = 0.003  # later each time: a publisher may look for dead peers at fixed intervals


class Publisher(roles.Sender):
    """Publishes prebuilt messages, and then the stop message until every subscriber has stopped.

    Args:
        lanes: a lane for each size.
        subscribers: their number.
        stopped: counts the subscribers that have stopped.
    """

    def __init__(self, lanes: dict[int, Lane], subscribers: int, stopped: Semaphore) -> None:
        super().__init__(lanes, "bytes")
        self._subscribers = subscribers
        self._stopped = stopped
        self._turn = 0

    def open(self, size: int) -> None:
        """Open the lane, and wait until every subscriber gets messages."""
        super().open(size)
        self._until_stopped()

    def _until_stopped(self) -> None:
        stop = self._lane.prebuilt(loops.stop_message(self._turn, self._lane.size))
        self._turn = (self._turn + 1) % _TURNS
        left, pause = self._subscribers, _AGAIN
        while left > 0:
            self._send(stop)
            while left > 0 and self._stopped.acquire(timeout=pause):
                left -= 1
            if not self._lane.loses:  # a publisher that waits must not fill the queue of one
                pause *= 2  # that has stopped

    def run(self, count: int) -> Span:
        """Return the start and end times."""
        span = super().run(count)
        self._until_stopped()
        return span

    def run_after_rests(self, count: int) -> float:
        """Publish while all subscribers sleep. Return the median in nanoseconds."""
        took = loops.publish_after_rests(self._send, self._prebuilt, count)
        self._until_stopped()
        return took


class Subscriber(roles.Role):
    """Checks and counts the messages that arrive.

    Args:
        lanes: a lane for each size.
        stopped: counts the subscribers that have stopped.
        looks: whether it receives in place, and looks at one line only.
    """

    def __init__(self, lanes: dict[int, Lane], stopped: Semaphore, *, looks: bool = False) -> None:
        self._lanes = lanes
        self._stopped = stopped
        self._looks = looks

    def open(self, size: int) -> None:
        """Open the lane, and wait for the first message."""
        receive = self._lanes[size].receiver()
        self._receive: Any = (lambda: loops.line_of_frame(receive)) if self._looks else receive
        self._kinds = channel_loops.numbers(size)
        self._receive()
        self._stopped.release()
        self._turn = 0

    def pid(self) -> int:
        """Return the number of this process."""
        return os.getpid()

    def run(self, count: int) -> tuple[int, int]:
        """Return the end time, and the number of messages that arrived."""
        self._turn = (self._turn + 1) % _TURNS
        result = loops.count_all(self._receive, self._kinds, count, self._turn)
        self._stopped.release()
        return result

    def leave(self) -> None:
        """Release the lanes."""
        self._receive = None
        for lane in self._lanes.values():
            lane.leave()


class BlockedPublisher(roles.Role):
    """Publishes to a subscriber that does not read, and waits for it until it is killed."""

    def __init__(self, lanes: dict[int, Topic]) -> None:
        self._lanes = lanes

    def open(self, size: int) -> None:
        """Open the topic."""
        self._topic = self._lanes[size].open()
        self._message = bytes(size)

    def run(self, count: int) -> int:
        """Return the longest time from a kill until the publisher goes on, in nanoseconds."""
        return max(self._once(_BLOCKED + number * _STEP) for number in range(count))

    def _once(self, pause: float) -> int:
        ours, theirs = Pipe()
        child = os.fork()
        if child == 0:
            ours.close()
            _subscribe_and_die(self._topic, theirs, pause)
        theirs.close()
        with ours:
            ours.recv()
            self._fill()
            ours.send("full")
            self._topic.publish(self._message)
            now = monotonic_ns()
            killed: int = ours.recv()
        os.waitpid(child, 0)
        return now - killed

    def _fill(self) -> None:
        from ipckit import WouldBlock  # noqa: PLC0415 - see ours.py

        with suppress(WouldBlock):
            while True:
                self._topic.publish(self._message, timeout=0)

    def leave(self) -> None:
        """Release the lanes."""
        for lane in self._lanes.values():
            lane.leave()


def _subscribe_and_die(topic: Any, pipe: Connection[Any, Any], pause: float) -> NoReturn:
    """In a forked child: subscribe, wait until the publisher is blocked, and kill this process."""
    try:
        subscription = topic.subscribe()
        pipe.send(subscription.depth)
        pipe.recv()
        sleep(pause)
        pipe.send(monotonic_ns())
        os.kill(os.getpid(), signal.SIGKILL)
    finally:
        os._exit(1)
