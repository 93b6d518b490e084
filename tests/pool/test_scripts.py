"""The script for pools as a user runs it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from script_runs import Scripts


def test_a_killed_worker_loses_nothing(scripts: Scripts) -> None:
    done = scripts.run("pool_demo.py", "--chunks", 60, "--kills", 2, "--every", 0.03)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.splitlines()
    assert re.fullmatch(rb"11301 primes below 120000 in [\d.]+ s", lines[-1])
    assert lines[-2].startswith(b"60 done, 0 running, 0 waiting, 2 died | ")
    assert sum(line.startswith(b"kill -9 ") for line in lines) == 2
