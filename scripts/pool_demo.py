"""Count primes in a pool of processes, kill a worker on the way, and show what each worker does.

    $ python scripts/pool_demo.py --kills 3
    $ python scripts/pool_demo.py --method spawn --retries 0

The table shows the tasks that are done, run and wait, and each worker with its task. The chunk that
a killed worker had runs again; with --retries 0, it is lost.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from concurrent.futures import wait
from contextlib import suppress

from _common import plain_errors, say
from _net import positive

from ipckit.pool import PoolStats, ProcessPool

CHUNK = 2000


def count_primes(start: int) -> int:
    """Count the primes in a chunk of numbers, by dividing."""
    chunk = range(max(start, 2), start + CHUNK)
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in chunk)


def show(stats: PoolStats) -> None:
    """Print a line for the pool and the workers."""
    workers = (
        f"{each.pid} {'busy' if each.task else 'idle'} {each.done}" for each in stats.workers
    )
    counts = f"{stats.done} done, {stats.running} running, {stats.waiting} waiting"
    say(f"{counts}, {stats.died} died | {' | '.join(workers)}")


def main() -> None:
    """Read the command line, submit the tasks, and watch them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chunks", type=positive, default=300, help=f"chunks of {CHUNK} numbers")
    parser.add_argument("--workers", type=positive, default=2, help="number of workers")
    parser.add_argument("--kills", type=int, default=1, help="how many workers to kill")
    parser.add_argument("--retries", type=int, default=10, help="how often a chunk runs again")
    parser.add_argument("--method", default="fork", help="fork, spawn or forkserver")
    parser.add_argument("--every", type=float, default=0.2, help="seconds between lines")
    args = parser.parse_args()
    killed: set[int] = set()
    with plain_errors(), ProcessPool(args.workers, args.method, retries=args.retries) as pool:
        begin = time.monotonic()
        futures = [pool.submit(count_primes, n * CHUNK) for n in range(args.chunks)]
        while wait(futures, timeout=args.every).not_done:
            stats = pool.stats()
            show(stats)
            # The pool may not have noticed yet that a worker was killed.
            busy = [each.pid for each in stats.workers if each.task and each.pid not in killed]
            if len(killed) < args.kills and busy:
                say(f"kill -9 {busy[0]}")
                with suppress(ProcessLookupError):  # it may have died since
                    os.kill(busy[0], signal.SIGKILL)
                killed.add(busy[0])
        show(pool.stats())
        lost = [future for future in futures if future.exception() is not None]
        primes = sum(future.result() for future in futures if future not in lost)
        say(f"{primes} primes below {args.chunks * CHUNK} in {time.monotonic() - begin:.2f} s")
        for future in lost:
            say(f"lost: {future.exception()}")
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
