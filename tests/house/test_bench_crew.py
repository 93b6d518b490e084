"""The bench's processes: one that hangs or dies is ended and named, and none is left running."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipckit.testing import Child

BENCH = str(Path(__file__).resolve().parent.parent.parent / "bench")

SETUP = """
import os, sys
from pathlib import Path
sys.path.insert(0, args[0])
from channel.crew import Crew, CrewFailed, Member
from channel.peers_kernel import Pipe
from channel.roles import Receiver, Sender

cores = frozenset(os.sched_getaffinity(0))
lane = Pipe(8)
crew = Crew([
    Member(Sender({8: lane}, "bytes"), cores),
    Member(Receiver({8: lane}, "bytes"), cores),
])
pids = [process.pid for process in crew._processes]
crew.everyone("open", 8, seconds=60)
"""

GOES_WELL = """
spans = crew.everyone("run", 1000, seconds=60)
crew.leave()
lane.close()
result = spans[0][0] < spans[1][1], [Path(f"/proc/{pid}").exists() for pid in pids]
"""

HANGS = """
crew.tell(1, "run", 5)
crew.tell(0, "run", 4)  # the fifth never comes
try:
    crew.gather((0, 1), 0.2)
except CrewFailed as error:
    result = str(error), [Path(f"/proc/{pid}").exists() for pid in pids]
lane.close()
"""

DIES = """
import signal
crew.tell(1, "run", 5)
os.kill(pids[1], signal.SIGKILL)
try:
    crew.gather((1,), 60)
except CrewFailed as error:
    result = str(error), [Path(f"/proc/{pid}").exists() for pid in pids]
lane.close()
"""

RAISES = """
os.write(lane._ends[1].fileno(), bytes([7]) + bytes(7))
try:
    crew.everyone("run", 5, seconds=60)
except CrewFailed as error:
    result = str(error), [Path(f"/proc/{pid}").exists() for pid in pids]
lane.close()
"""

PROBE = """
import sys
from pathlib import Path
sys.path.insert(0, args[0])
from channel.probe import Cores, NoProbe, Probe
import os
core = min(os.sched_getaffinity(0))
speed = Probe(Path(args[1]), Cores(core, core)).copy_speed(4096)
os.environ["PATH"] = ""
try:
    Probe(Path(args[1]), Cores(core, core))
except NoProbe as error:
    result = speed > 0, str(error)
"""


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (GOES_WELL, True),
        (HANGS, "hung: no result for 0 s"),
        (DIES, "a process died"),
        (RAISES, "Garbled: expected message 0, got 7"),
    ],
    ids=["goes well", "hangs", "dies", "raises"],
)
def test_a_crew_ends_and_says_how(code: str, expected: object) -> None:
    with Child(SETUP + code, BENCH) as child:
        assert child.result == (expected, [False, False])


def test_the_probe_is_compiled_or_says_what_it_needs(tmp_path: Path) -> None:
    with Child(PROBE, BENCH, str(tmp_path)) as child:
        assert child.result == (True, "no C compiler found: install gcc")
