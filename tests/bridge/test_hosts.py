"""Tests of bridges between two hosts whose link is cut, and with a server whose disk is full."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from nats_server import NatsServer, nats_program

from ipckit import Channel, Timeout
from ipckit.bridge import BridgeOptions, forward, receive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ipckit.testing import Namespace

MEGABYTE = 1 << 20
LONG = 60.0


@pytest.mark.soak
def test_the_demonstration_loses_no_job(repository: Path, root: None) -> None:
    del root
    nats_program()
    command = [sys.executable, str(repository / "scripts/demo_bridge.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert "12,000 jobs done, 0 lost, 0 done twice" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("the link is") == 2
    assert "the connection was lost; waiting" in done.stderr
    assert done.returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path, root: None) -> Iterator[Path]:
    """A file system of 12 MiB."""
    del root
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.soak
def test_nothing_is_lost_when_the_disk_of_the_server_is_full(
    small_disk: Path, ns: Namespace
) -> None:
    server = NatsServer(nats_program(), small_disk)
    server.start()
    options = BridgeOptions(max_bytes=6 * MEGABYTE)
    url = f"{server.url}/disk"
    try:
        with (
            Channel.create(ns.name(), size=MEGABYTE, peer_gone="wait") as near,
            Channel.create(ns.name(), peer_gone="wait") as far,
            forward(near, url, options) as there,
        ):
            there.wait_connected(LONG)
            filler = small_disk / "filler"
            subprocess.run(["dd", "if=/dev/zero", f"of={filler}"], check=False, capture_output=True)
            messages = [number.to_bytes(4, "little") * 2000 for number in range(2000)]
            with pytest.raises(Timeout) as stopped:
                near.send_many(messages, timeout=5)
            sent: int = stopped.value.sent
            end = time.monotonic() + LONG
            while there.stats().state != "waiting":
                assert time.monotonic() < end
                time.sleep(0.1)
            assert there.stats().reason
            filler.unlink()
            server.kill()
            server.start()
            with receive(url, far):
                found = [far.receive(timeout=LONG) for _ in range(sent)]
            assert found == messages[:sent]
    finally:
        server.kill()
