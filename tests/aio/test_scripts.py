"""`aio_hub.py` as a user runs it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from script_runs import Scripts, fails

from ipckit import Channel, Key, PosixMessageQueue, SysVMessageQueue, connect

if TYPE_CHECKING:
    from ipckit.testing import Namespace


class Hub:
    def __init__(self, ns: Namespace, scripts: Scripts) -> None:
        self.key, self.name, self.path = ns.key(), ns.name(), ns.path("s")
        self.channel = ns.name()
        self.where = ["--key", self.key, "--name", self.name, "--path", self.path]
        self.where += ["--channel", self.channel]
        self.scripts = scripts
        self.process: Any = None

    def start(self, *options: str) -> None:
        self.process = self.scripts.start("aio_hub.py", *self.where, *options)
        assert self.process.stdout.readline() == b"waiting\n"

    def line(self) -> str:
        return str(self.process.stdout.readline().decode())

    def ended(self) -> tuple[int, bytes, bytes]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def hub(ns: Namespace, scripts: Scripts) -> Hub:
    return Hub(ns, scripts)


def test_it_prints_what_comes_from_everywhere_in_order_of_arrival(hub: Hub) -> None:
    hub.start("--count", "9")
    with (
        SysVMessageQueue.open(Key(hub.key)) as sysv,
        PosixMessageQueue.open(hub.name) as posix,
        connect(str(hub.path)) as client,
        connect(str(hub.path)) as other,
        Channel.open(hub.channel) as channel,
    ):
        for turn in (1, 2):
            client.send(b"socket %d\npart" % turn)
            assert hub.line() == f"socket\t{'' if turn == 1 else 'part'}socket {turn}\n"
            posix.send(b"posix %d" % turn)
            assert hub.line() == f"posix\tposix {turn}\n"
            sysv.send(b"sysv %d" % turn, turn)
            assert hub.line() == f"sysv\tsysv {turn}\n"
            channel.send(b"channel %d" % turn)
            assert hub.line() == f"channel\tchannel {turn}\n"
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
    fails(hub.scripts.run("aio_hub.py", *hub.where))
