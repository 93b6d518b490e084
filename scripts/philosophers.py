r"""Five philosophers and five forks: a deadlock that is detected, and two ways without one.

    $ python scripts/philosophers.py --mode circle      # left fork, then right; exit status 3
    philosopher 0 (process 41) holds fork 0 and waits for fork 1
    philosopher 1 (process 42) holds fork 1 and waits for fork 2
    philosopher 2 (process 43) holds fork 2 and waits for fork 3
    philosopher 3 (process 44) holds fork 3 and waits for fork 4
    philosopher 4 (process 45) holds fork 4 and waits for fork 0
    deadlock: each waits for the next one's fork
    $ python scripts/philosophers.py --mode order --rounds 100      # the lower fork first
    all 5 have eaten 100 times
    $ python scripts/philosophers.py --mode atomic --rounds 100     # both forks by one operation
    all 5 have eaten 100 times

The forks are a System V set. If a philosopher is killed, its forks are released; the others go on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
from contextlib import ExitStack
from multiprocessing.connection import wait

from _common import plain_errors, seconds
from _philosophers import COUNT, MODES, Table, eat, find_circle


def dine(args: argparse.Namespace) -> int:
    """Start five processes and watch them. Return the exit status."""
    context = multiprocessing.get_context("spawn")
    signals = {signal.SIGINT, signal.SIGTERM}
    with ExitStack() as stack:
        table = Table.laid(stack)
        diners = [
            context.Process(target=eat, args=(table, number, args.mode, args.rounds, args.eat))
            for number in range(COUNT)
        ]
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # until all have started
        for diner in diners:
            diner.start()
            stack.callback(diner.join)
            stack.callback(diner.kill)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        while running := [diner.sentinel for diner in diners if diner.is_alive()]:
            circle = find_circle(table)
            for number, state in enumerate(circle):
                who = f"philosopher {number} (process {diners[number].pid})"
                print(f"{who} holds fork {state.holds} and waits for fork {state.waits}")
            if circle:
                print("deadlock: each waits for the next one's fork")
                return 3
            wait(running, 0.02)
        dead = [number for number, diner in enumerate(diners) if diner.exitcode]
    if dead:
        message = f"philosopher {', '.join(map(str, dead))} did not finish"
        raise ValueError(message)
    print(f"all {COUNT} have eaten {args.rounds} times")
    return 0


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mode", choices=MODES, required=True, help="how they take the forks")
    parser.add_argument("--rounds", type=int, default=10, help="number of meals each")
    parser.add_argument("--eat", type=seconds, default=0.0, help="seconds for each meal")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be 1 or more")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with plain_errors():
        status = dine(args)
    sys.exit(status)


if __name__ == "__main__":
    main()
