"""Run the C programs of tests/ring, which must come to all points of native/ring."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from ipckit.testing import require

RUN = Path(__file__).parents[1] / "ring" / "run.sh"
NATIVE = Path(__file__).parents[2] / "native" / "ring"


def points_of(pattern: str) -> set[str]:
    """Where a process dies or is stopped: each step that leaves something half done."""
    texts = [header.read_text() for header in NATIVE.glob(pattern)]
    return {name for text in texts for name in re.findall(r"RING_POINT\((\w+)\);", text)}


RING_POINTS = points_of("[!t]*.h")  # those of topics are in topic_*.h

# What a topic passes: its own points, and those of the peers, locks and blocks.
SHARED = ("lock.h", "peers.h", "open.h", "blocks.h", "poll.h")
TOPIC_POINTS = points_of("topic_*.h").union({"before_tail", "after_tail"}, *map(points_of, SHARED))

POINTS = {"ring": RING_POINTS, "topic": TOPIC_POINTS}


def run(test: str, builds: str, *args: int | str) -> str:
    """What a program prints when it is built with each of the sanitizers, and succeeds."""
    require("cc", package="gcc")
    command = ["sh", str(RUN), test, builds, *map(str, args)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-5000:]
    assert done.stdout.count("ok\n") == len(builds.split())
    return done.stdout


def counts(test: str, builds: str, *args: int | str) -> dict[str, int]:
    """How often a process died, or was stopped, at each point."""
    lines = [line.split() for line in run(test, builds, *args).splitlines()]
    return {name: int(count) for name, count in (each for each in lines if len(each) == 2)}
