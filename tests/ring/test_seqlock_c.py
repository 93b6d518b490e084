"""native/ring/seqlock.h without Python, under ASan and UBSan, under TSan, and as it is shipped."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ipckit.testing import require

RUN = Path(__file__).with_name("run.sh")


def run(scale: int) -> None:
    require("cc", package="gcc")
    builds = "address,undefined@O0 thread@O0 none"
    command = ["sh", str(RUN), "test_seqlock", builds, str(scale)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "ok\n" * 3), done.stderr


def test_the_sequence_lock_under_the_sanitizers() -> None:
    run(2)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_sequence_lock_under_the_sanitizers_for_long() -> None:
    run(300)
