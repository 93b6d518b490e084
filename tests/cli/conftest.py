"""Fixtures that run the command line in a separate process, as a user does."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from command_line import run_here

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Done = subprocess.CompletedProcess[str]


@pytest.fixture
def ipckit() -> Callable[..., Done]:
    """Run ``python -m ipckit`` to its end, and check its exit status."""

    def run(
        *words: object,
        status: int = 0,
        text: str = "",
        cwd: Path | None = None,
        under: Sequence[str] = (),
    ) -> Done:
        done = subprocess.run(
            [*under, sys.executable, "-W", "error", "-m", "ipckit", *map(str, words)],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=cwd,
        )
        assert done.returncode == status, done
        return done

    return run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command line in this process, which costs less than a process of its own."""
    return partial(run_here, monkeypatch)
