"""Fixtures that run the command line in a separate process, as a user does."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bridge_commands import Command
from command_line import run_here
from nats_server import NatsServer, nats_program

from ipckit._core.bridge_file import BRIDGE_PREFIX
from ipckit._core.files import SHM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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


@pytest.fixture
def stopped_server(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(nats_program(), tmp_path)
    yield server
    server.kill()


@pytest.fixture
def server(stopped_server: NatsServer) -> NatsServer:
    stopped_server.start()
    return stopped_server


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Start ``ipckit bridge``."""
    found: list[Command] = []

    def start(*words: object, **options: Any) -> Command:
        found.append(Command(tmp_path / f"errors{len(found)}", words, **options))
        return found[-1]

    yield start
    for each in found:
        each.process.kill()
        each.process.wait()
    for path in Path(SHM).glob(f"{BRIDGE_PREFIX}*"):
        path.unlink()  # journals of receivers stay for the next bridge
