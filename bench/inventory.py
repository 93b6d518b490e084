"""Time `ipckit ls` with 5,000 objects and 500 processes. Requires root.

$ python bench/inventory.py
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ipckit import inventory
from ipckit._native import semget, shmget
from ipckit.testing import Sandbox

COUNTS = {"queues": 1500, "segments": 1500, "sets": 500, "files": 1300, "posix queues": 200}
PROCESSES = 500
REPETITIONS = 3


def make_objects() -> None:
    """Create objects in this namespace, which ends with its last process."""
    import posix_ipc  # noqa: PLC0415 - only inside the namespace
    import sysv_ipc  # noqa: PLC0415

    for _ in range(COUNTS["queues"]):
        sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX).send(b"text")
    for key in range(1, COUNTS["segments"] + 1):
        shmget(key, 4096, 0o1600)
    for key in range(1, COUNTS["sets"] + 1):
        semget(key, 2, 0o1600)
    for number in range(COUNTS["files"]):
        Path(f"/dev/shm/bench-{number}").touch()  # noqa: S108
    for number in range(COUNTS["posix queues"]):
        posix_ipc.MessageQueue(
            f"/bench-{number}", posix_ipc.O_CREX, max_messages=1, max_message_size=8
        ).close()


def start_processes() -> list[int]:
    """Fork this interpreter: each process has some hundred mappings, as real programs do."""
    pids: list[int] = []
    for _ in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        pids.append(pid)
    return pids


def measure() -> None:
    """Create objects and processes, list them some times, and print the times."""
    make_objects()
    pids = start_processes()
    try:
        library: list[float] = []
        for _ in range(REPETITIONS):
            start = time.perf_counter()
            found = inventory.survey()
            library.append(time.perf_counter() - start)
        command: list[float] = []
        for _ in range(REPETITIONS):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "ipckit", "ls", "--json"],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            command.append(time.perf_counter() - start)
        running = sum(1 for path in Path("/proc").iterdir() if path.name.isdecimal())
        print(f"{len(found.objects)} objects, {running} processes: medians of {REPETITIONS}")
        print(f"inventory.survey()  {statistics.median(library):.2f} s")
        print(f"ipckit ls --json    {statistics.median(command):.2f} s")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def main() -> None:
    """Run this script again in its own namespaces."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().inside:
        measure()
        return
    box = Sandbox(shm_size="64m")
    command = box.command([sys.executable, __file__, "--inside"])
    sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
