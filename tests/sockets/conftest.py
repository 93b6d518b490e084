"""Pairs of sockets, and the socket scripts, started as a user starts them."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from script_runs import Done, Scripts
from socket_pairs import KINDS

from ipckit import pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from socket_pairs import Pair

    from ipckit.testing import Namespace


class Running(subprocess.Popen[bytes]):
    """A script that runs; what it prints is read line by line."""

    def line(self) -> str:
        assert self.stdout is not None
        return self.stdout.readline().decode()

    def type(self, text: bytes) -> None:
        assert self.stdin is not None
        self.stdin.write(text)
        self.stdin.flush()

    def end(self, number: int | None = None) -> Done:
        """What it printed since, and its status; after a signal, or of itself."""
        if number is not None:
            self.send_signal(number)
        out, err = self.communicate(timeout=60)
        return Done(self.args, self.returncode, out, err)

    def ctrl_c(self) -> None:
        """It ends on Ctrl-C without a word."""
        done = self.end(signal.SIGINT)
        assert (done.returncode, done.stderr) == (130, b""), done

    def children(self) -> list[int]:
        """Its children, those not reaped included."""
        found: list[str] = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            # A thread may end meanwhile, and has then handed its children on.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += (task / "children").read_text().split()
        return [int(pid) for pid in found]


class Server(Running):
    """A script that has said where it listens."""

    where: str  # as the script says it
    options: list[str]  # how a client is told to reach it

    def ready(self, prefix: str = "listening on ") -> Server:
        line = self.line()
        if not line.startswith(prefix):
            done = self.end(signal.SIGKILL)
            raise AssertionError(line + done.stdout.decode() + done.stderr.decode())
        self.where = line.removeprefix(prefix).rstrip("\n")
        transport, _, rest = self.where.partition(" ")
        self.options = ["--transport", transport]
        if transport == "unix":
            self.options += ["--path", rest]
        else:
            self.options += ["--port", rest.rpartition(":")[2]]
        return self

    @property
    def address(self) -> Any:
        """What the socket module takes."""
        option, value = self.options[2:]
        return value if option == "--path" else ("127.0.0.1", int(value))


class SocketScripts(Scripts):
    """Starts scripts that run until they are told to end, and servers among them."""

    def __init__(self, ns: Namespace) -> None:
        super().__init__(ns.directory)
        self.ns = ns

    def start(self, script: str, *args: object, kind: Any = Running, **options: Any) -> Any:
        return super().start(script, *args, kind=kind, **options)

    def server(self, script: str, *args: object, **options: Any) -> Server:
        """Start a server on an address of its own, and wait until it says that it listens."""
        started: Server = self.start(script, *args, kind=Server, **options)
        return started.ready()

    def address(self, transport: str) -> list[object]:
        """Options for an address that nobody has."""
        if transport == "unix":
            return ["--transport", "unix", "--path", self.ns.path(".sock")]
        return ["--transport", transport, "--port", 0]


@pytest.fixture(params=KINDS)
def both(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Run a test with a pair of each kind."""
    first, second = pair(request.param)
    with first, second:
        yield first, second


@pytest.fixture(params=["stream", "seqpacket"])
def kind(request: pytest.FixtureRequest) -> Any:
    """Run a test once for each kind of socket that has connections."""
    return request.param


@pytest.fixture
def sockets(ns: Namespace) -> Iterator[SocketScripts]:
    runner = SocketScripts(ns)
    yield runner
    runner.close()
