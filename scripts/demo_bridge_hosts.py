"""Create two network namespaces with a link between them, as the two hosts of demo_bridge.py.

$ python scripts/demo_bridge_hosts.py   # shows the addresses of the first host
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Generator

AT = ("10.77.0.1", "10.77.0.2")  # the addresses of the two hosts
HOSTS_READY = "IPCKIT_DEMO_NAMESPACES"
_OWN_SHM = 'mount -t tmpfs tmpfs /dev/shm && exec "$@"'


def enter_namespaces(script: str) -> None:
    """Restart the script in new namespaces, unless it is in them. They end with the script."""
    if HOSTS_READY in os.environ:
        return
    os.environ[HOSTS_READY] = "1"
    flags = ["--map-root-user"] if os.geteuid() else []
    flags += ["--net", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = ["unshare", *flags, "sh", "-c", _OWN_SHM, "sh", sys.executable, script]
    os.execvp(command[0], command)  # noqa: S606


class Host:
    """A network namespace with a link to the other host. It exists as long as `process`."""

    def __init__(self, process: int) -> None:
        self._inside = ["nsenter", f"--target={process}", "--net", "--ipc", "--mount"]

    @classmethod
    @contextmanager
    def pair(cls) -> Generator[tuple[Self, Self]]:
        """Create two hosts with a link between them."""
        sleep = ["sh", "-c", _OWN_SHM, "sh", "sh", "-c", "echo; exec sleep infinity"]
        unshare = ["unshare", "--net", "--ipc", "--mount", *sleep]
        with subprocess.Popen(unshare, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None  # noqa: S101
            other.stdout.readline()
            try:
                hosts = cls(os.getpid()), cls(other.pid)
                link = ["link0", "type", "veth", "peer", "name", "link0", "netns", str(other.pid)]
                hosts[0].run("ip", "link", "add", *link)
                for host, address in zip(hosts, AT, strict=True):
                    host.run("ip", "address", "add", f"{address}/24", "dev", "link0")
                    host.run("ip", "link", "set", "link0", "up")
                    host.run("ip", "link", "set", "lo", "up")
                yield hosts
            finally:
                other.kill()

    def run(self, *command: str) -> None:
        """Run a command on the host, and wait for its end."""
        subprocess.run([*self._inside, *command], check=True)

    def start(
        self, program: str, *args: str, quiet: bool = False, stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program on the host: a script of this directory, or an installed program."""
        beside = Path(sys.executable).parent / program
        command = [str(beside) if beside.exists() else program]
        if program.endswith(".py"):
            command = [sys.executable, str(Path(__file__).parent / program)]
        stderr = subprocess.DEVNULL if quiet else None
        return subprocess.Popen([*self._inside, *command, *args], stdout=stdout, stderr=stderr)


if __name__ == "__main__":
    enter_namespaces(__file__)
    with Host.pair() as (first, _):
        first.run("ip", "-brief", "address")
