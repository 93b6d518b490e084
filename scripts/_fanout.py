"""The subscribers of camera_fanout.py, and its frames, which show whether they are torn."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from _children import in_child, wait_child
from _common import say, wait_until
from _frames import views

from ipckit import Char, Int64, Struct

if TYPE_CHECKING:
    import numpy.typing as npt

    from ipckit import Channel, Topic

    Pixels = npt.NDArray[np.uint8]

FRAME: Final = np.dtype((np.uint8, (1080, 1920, 3)))
_MARKS: Final = (0, FRAME.itemsize // 2, FRAME.itemsize - 8)  # begin, middle and end


class Role(NamedTuple):
    """How a subscriber wants its frames, and for how many seconds it works on each."""

    when_full: Literal["wait", "drop_oldest"]
    depth: int
    work: float


ROLES: Final = {
    "recorder": Role("wait", 4, 0),
    "viewer": Role("drop_oldest", 1, 1 / 30),
    "analyser": Role("wait", 2, 1 / 200),
}


class Report(Struct):
    """What a subscriber has seen: at its end, or when it sees a torn frame."""

    role: Char[16]
    received: Int64 = 0
    lost: Int64 = 0
    last: Int64 = -1
    torn: Int64 = 0


def paint(pixels: Pixels, number: int) -> None:
    """Fill a frame with one colour, and write its number at the begin, middle and end."""
    pixels[...] = number % 256
    flat = pixels.reshape(-1)
    for at in _MARKS:
        flat[at : at + 8] = np.frombuffer(number.to_bytes(8, "little"), np.uint8)


def number_of(pixels: Pixels) -> int | None:
    """Return the number of a frame; None if the frame is a mixture of two."""
    flat = pixels.reshape(-1)
    begin, middle, end = (int.from_bytes(flat[at : at + 8].tobytes(), "little") for at in _MARKS)
    rest = (flat[8 : _MARKS[1]], flat[_MARKS[1] + 8 : _MARKS[2]])
    is_even = all(part.min() == part.max() == begin % 256 for part in rest)
    return begin if begin == middle == end and is_even else None


def watch(topic: Topic[Any], reports: Channel[Report], name: str) -> None:
    """Subscribe, check each frame in place until the camera has left, and report."""
    role = ROLES[name]
    received, last = 0, -1
    with topic.subscribe(when_full=role.when_full, depth=role.depth) as frames:
        for view in views(frames):
            number = number_of(view.array)
            if number is None:
                reports.send(Report(name, torn=1))
            else:
                last = number
            received += 1
            time.sleep(role.work)
        reports.send(Report(name, received, frames.lost, last))


class Crew:
    """The subscribers, one process each.

    Attributes:
        killed: how often the analyser was killed.
    """

    def __init__(self, topic: Topic[Any], reports: Channel[Report]) -> None:
        self.killed = 0
        self._topic, self._reports = topic, reports
        self._pids = {name: self._start(name) for name in ROLES}
        wait_until(lambda: topic.stats().subscribers == len(ROLES))

    def kill_analyser(self) -> None:
        """Kill the analyser once it has received a frame, and start another."""
        pid = self._pids["analyser"]
        wait_until(
            lambda: any(each.pid == pid and each.received for each in self._topic.subscribers())
        )
        os.kill(pid, signal.SIGKILL)
        wait_child(pid)
        say(f"analyser {pid} was killed with -9")
        self._pids["analyser"] = self._start("analyser")
        self.killed += 1

    def reports(self) -> tuple[dict[str, Report], int]:
        """Return the last report of each subscriber, and how many torn frames all have seen."""
        found: dict[str, Report] = {}
        torn = 0
        while len(found) < len(ROLES):
            report = self._reports.receive(timeout=60)
            torn += report.torn
            if not report.torn:
                found[report.role] = report
        return found, torn

    def _start(self, name: str) -> int:
        return in_child(lambda: watch(self._topic, self._reports, name))
