"""A NATS server for the tests of bridges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nats_server import NatsServer, nats_program

from ipckit._core.bridge_file import BRIDGE_PREFIX
from ipckit._core.files import SHM

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stopped_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that is not started yet."""
    server = NatsServer(nats_program(), tmp_path)
    yield server
    server.kill()


@pytest.fixture
def server(stopped_server: NatsServer) -> NatsServer:
    """A server that runs."""
    stopped_server.start()
    return stopped_server


@pytest.fixture(autouse=True)
def _no_journals() -> Iterator[None]:
    """Remove the journals of receivers, which stay for the next bridge."""
    yield
    for path in Path(SHM).glob(f"{BRIDGE_PREFIX}*"):
        path.unlink()
