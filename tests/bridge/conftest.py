"""Fixtures for the tests of bridges: a NATS server and two channels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nats_server import NatsServer, nats_program

from ipckit import Channel
from ipckit._core.bridge_file import BRIDGE_PREFIX
from ipckit._core.files import SHM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.testing import Namespace


@pytest.fixture
def stopped_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS server that is not started yet."""
    server = NatsServer(nats_program(), tmp_path)
    yield server
    server.kill()


@pytest.fixture
def server(stopped_server: NatsServer) -> NatsServer:
    """A running NATS server."""
    stopped_server.start()
    return stopped_server


@pytest.fixture
def near(ns: Namespace) -> Iterator[Channel[str]]:
    with Channel.create(ns.name(), str, peer_gone="wait") as channel:
        yield channel


@pytest.fixture
def far(ns: Namespace) -> Iterator[Channel[str]]:
    with Channel.create(ns.name(), str, peer_gone="wait") as channel:
        yield channel


@pytest.fixture(autouse=True)
def _no_journals() -> Iterator[None]:
    """Remove the journals of receiving bridges, which remain for the next bridge."""
    yield
    for path in Path(SHM).glob(f"{BRIDGE_PREFIX}*"):
        path.unlink()
