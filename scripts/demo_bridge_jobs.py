"""The producer and the workers of demo_bridge.py. They only use a channel on their own host.

$ python scripts/demo_bridge_jobs.py produce 12000
$ python scripts/demo_bridge_jobs.py work RESULTS NAME
"""

from __future__ import annotations

import sys
import time

from _common import plain_errors

from ipckit import Channel, Int, Struct

PATIENCE = 20.0  # seconds to wait for the next job to be done


class Job(Struct):
    """A job is a number."""

    number: Int


def produce(count: str) -> None:
    """Send jobs into the channel, and wait until all are taken."""
    with Channel.open_or_create("jobs", Job, peer_gone="wait") as jobs:
        for number in range(int(count)):
            jobs.send(Job(number))
            time.sleep(0.001)
        # Do not end before, because the end of the block may remove the channel.
        while jobs.stats().messages or jobs.stats().taken:
            time.sleep(0.1)


def work(results: str, name: str) -> None:
    """Take jobs, and append their numbers to a file."""
    with (
        Channel.open_or_create("jobs", Job, peer_gone="wait") as jobs,
        open(results, "a", encoding="ascii", buffering=1) as file,  # noqa: PTH123
    ):
        while True:
            with jobs.take() as delivery:
                number = delivery.value.number
                file.write(f"{number}\n")
                if number % 2000 == 0:
                    print(f"        worker {name} does job {number:,}", flush=True)


def await_results(path: str, count: int) -> list[str]:
    """Return the numbers of the done jobs, when all are done or none for `PATIENCE` seconds."""
    size, since = -1, time.monotonic()
    done: list[str] = []
    while time.monotonic() - since < PATIENCE:
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            done = file.read().split()
        if len(set(done)) == count:
            break
        if len(done) != size:
            size, since = len(done), time.monotonic()
        time.sleep(0.2)
    return done


if __name__ == "__main__":
    with plain_errors():
        {"produce": produce, "work": work}[sys.argv[1]](*sys.argv[2:])
