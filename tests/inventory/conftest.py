"""Fixtures that run the command line as users do, and in a child that is another user."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]


def _run(
    *words: str, command: tuple[str, ...] = (sys.executable, "-W", "error", "-m", "ipckit")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def ipckit_run() -> Run:
    """Run the command line, without a terminal."""
    return _run


@pytest.fixture
def listed(ipckit_run: Run) -> Callable[..., dict[str, dict[str, Any]]]:
    """What `ls --json` shows, by address."""

    def listed(*words: str) -> dict[str, dict[str, Any]]:
        done = ipckit_run("ls", "--json", *words)
        assert done.returncode == 0, done.stderr
        return {each["address"]: each for each in json.loads(done.stdout)["objects"]}

    return listed
