"""`aio_hub.py` as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Key, PosixMessageQueue, SysVMessageQueue, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.testing import Namespace

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts" / "aio_hub.py"


class Hub:
    def __init__(self, ns: Namespace) -> None:
        self.key, self.name, self.path = ns.key(), ns.name(), ns.path("s")
        self.where = ["--key", str(self.key), "--name", self.name, "--path", str(self.path)]
        self.directory = ns.directory
        self.process: Any = None

    def start(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, os.path.relpath(SCRIPT, self.directory), *self.where, *options],
            cwd=self.directory,
            env={**os.environ, "PYTHONWARNINGS": "error"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout.readline() == b"waiting\n"

    def line(self) -> str:
        return str(self.process.stdout.readline().decode())

    def ended(self) -> tuple[int, bytes, bytes]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def hub(ns: Namespace) -> Iterator[Hub]:
    made = Hub(ns)
    yield made
    if made.process is not None:
        with made.process:
            made.process.kill()


def test_it_prints_what_comes_from_everywhere_in_order_of_arrival(hub: Hub) -> None:
    hub.start("--count", "7")
    with (
        SysVMessageQueue.open(Key(hub.key)) as sysv,
        PosixMessageQueue.open(hub.name) as posix,
        connect(str(hub.path)) as client,
        connect(str(hub.path)) as other,
    ):
        for turn in (1, 2):
            client.send(b"socket %d\npart" % turn)
            assert hub.line() == f"socket\t{'' if turn == 1 else 'part'}socket {turn}\n"
            posix.send(b"posix %d" % turn)
            assert hub.line() == f"posix\tposix {turn}\n"
            sysv.send(b"sysv %d" % turn, turn)
            assert hub.line() == f"sysv\tsysv {turn}\n"
        other.send(b"last\n")
        assert hub.ended() == (0, b"socket\tlast\n", b"")


def test_what_it_has_not_printed_is_still_in_its_queue(hub: Hub) -> None:
    with SysVMessageQueue.create(hub.key) as sysv, PosixMessageQueue.create(hub.name) as posix:
        for number in range(5):
            sysv.send(b"%d" % number)
            posix.send(b"%d" % number)
        hub.start("--count", "5")
        status, out, err = hub.ended()
        assert (status, err) == (0, b"")
        printed = len(out.splitlines())
        assert printed == 5
        assert len(sysv) + len(posix) == 5


def test_a_client_that_stops_inside_a_line_ends_nobody_else(hub: Hub) -> None:
    hub.start("--count", "1")
    with connect(str(hub.path)) as client:
        client.send(b"half")
    assert hub.line().startswith("socket\t(the stream ended inside a frame")
    with connect(str(hub.path)) as client:
        client.send(b"whole\n")
        assert hub.ended() == (0, b"socket\twhole\n", b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_is_left(hub: Hub, number: signal.Signals) -> None:
    hub.start()
    with connect(str(hub.path)) as client:
        client.send(b"x\n")
        assert hub.line() == "socket\tx\n"
        hub.process.send_signal(number)
        assert hub.ended() == (128 + number, b"", b"")
    assert not hub.path.exists()


def test_it_ends_when_somebody_removes_the_queue(hub: Hub) -> None:
    hub.start()
    SysVMessageQueue.open(Key(hub.key)).adopt().__exit__(None, None, None)
    assert hub.ended() == (0, b"", b"")


def test_a_reader_that_closes_its_end_is_quiet(hub: Hub) -> None:
    hub.start()
    hub.process.stdout.close()
    with connect(str(hub.path)) as client:
        client.send(b"x\n")
        assert hub.process.wait(60) == 1
    assert hub.process.stderr.read() == b""


def test_an_error_is_one_line(hub: Hub) -> None:
    hub.path.mkdir()
    done = subprocess.run(
        [sys.executable, SCRIPT, *hub.where], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert len(done.stderr.splitlines()) == 1
