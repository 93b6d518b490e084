"""Workers on one host do the jobs of another, while the link is cut and processes are killed.

    $ python scripts/demo_bridge.py         # `make demo-bridge` runs this

The hosts are two network namespaces with a link between them, each with its own /dev/shm. A
producer sends jobs into a channel on one host, and two workers take them on the other. The program
needs root, or a kernel that lets users create namespaces, and ip(8), nsenter(1), unshare(1) and
nats-server.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

from demo_bridge_hosts import AT, Host, enter_namespaces
from demo_bridge_jobs import await_results

JOBS = 12_000
URL = f"nats://{AT[1]}:4222/jobs"
LINK = ("ip", "link", "set", "link0")


def show(text: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"{time.monotonic() - START:5.1f} s  {text}", flush=True)


def main() -> int:
    """Run the demonstration. Return 1 if a job was lost."""
    with tempfile.TemporaryDirectory() as directory, Host.pair() as (here, there):
        results = f"{directory}/results"
        there.start("nats-server", "-js", "-sd", directory, quiet=True)
        workers = [there.start("demo_bridge_jobs.py", "work", results, name) for name in "12"]
        receiver = there.start("ipckit", "bridge", URL, "channel:jobs")
        producer = here.start("demo_bridge_jobs.py", "produce", str(JOBS))
        sender = here.start("ipckit", "bridge", "channel:jobs", URL)
        time.sleep(4)
        show("the link is cut")
        here.run(*LINK, "down")
        time.sleep(12)
        show("the link is restored; the channel here:")
        here.start("ipckit", "ls").wait()
        here.run(*LINK, "up")
        time.sleep(6)
        show("the sending bridge is killed, and started again")
        sender.kill()
        sender = here.start("ipckit", "bridge", "channel:jobs", URL)
        time.sleep(2)
        show("the receiving bridge is killed, and started again")
        receiver.kill()
        receiver = there.start("ipckit", "bridge", URL, "channel:jobs")
        time.sleep(2)
        show("worker 1 is killed in the middle of a job; worker 2 continues")
        workers[0].kill()
        producer.wait()
        show(f"the producer has sent {JOBS:,} jobs")
        done = await_results(results, JOBS)
    once, lost = len(set(done)), JOBS - len(set(done))
    show(f"{once:,} jobs done, {lost} lost, {len(done) - once} done twice")
    return 1 if lost else 0


if __name__ == "__main__":
    enter_namespaces(__file__)
    START = time.monotonic()
    try:
        sys.exit(main())
    except (OSError, subprocess.CalledProcessError) as exc:
        sys.exit(f"demo_bridge: {exc}")
