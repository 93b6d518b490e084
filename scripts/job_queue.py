"""Three workers do the jobs of a channel; one is killed again and again, and no job is lost.

    $ python scripts/job_queue.py --jobs 300 --kills 20
    $ python scripts/job_queue.py --kills 0 --poison 7 --tries 3

A worker takes a job, does it, sends the result, and acknowledges the job. If it is killed before,
another worker gets the job; the collector counts each job once. With --poison, one job kills each
worker that takes it; after --tries deaths, which `redelivered` counts, it is put aside.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from contextlib import suppress

from _children import end_children, in_child
from _common import plain_errors, say
from _job_workers import Crew, Job, Result, do, work
from _net import positive

from ipckit import Channel, Timeout


def collect(results: Channel[Result], count: int, kills: int, crew: Crew) -> bool:
    """Collect the results, and kill workers in between. Return whether all is well."""
    done, aside, again = Counter[int](), set[int](), set[int]()
    wrong = killed = 0
    while len(done) + len(aside) < count:
        crew.look()
        with suppress(Timeout):
            result = results.receive(timeout=0.1)
            if result.redelivered:
                again.add(result.number)
            if result.aside:
                say(f"job {result.number} was put aside; failed attempts: {result.redelivered}")
                aside.add(result.number)
            else:
                done[result.number] += 1
                wrong += result.digest != do(result.number)
        if killed < kills and (len(done) + len(aside)) * (kills + 1) >= count * (killed + 1):
            crew.kill_one()
            killed += 1
    twice = sum(times > 1 for times in done.values())
    say(f"{count} jobs: {len(done)} done, {len(aside)} put aside")
    say(f"redelivered jobs: {len(again)}; jobs done twice: {twice}; workers killed: {crew.killed}")
    return not wrong and not done.keys() & aside and done.keys() | aside == set(range(count))


def main() -> None:
    """Read the command line, start the others and collect."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=positive, default=300, help="number of jobs")
    parser.add_argument("--kills", type=int, default=20, help="how often to kill a worker")
    parser.add_argument("--poison", type=int, help="the number of a job that kills its worker")
    parser.add_argument(
        "--tries", type=positive, default=3, help="put a job aside after so many deaths"
    )
    args = parser.parse_args()
    with (
        plain_errors(),
        Channel.anonymous(Job, capacity=64, peer_gone="wait") as jobs,
        Channel.anonymous(Result, capacity=64, peer_gone="wait") as results,
    ):
        try:
            in_child(lambda: jobs.send_many(Job(number) for number in range(args.jobs)))
            crew = Crew(lambda: in_child(lambda: work(jobs, results, args.poison, args.tries)))
            well = collect(results, args.jobs, args.kills, crew)
        finally:
            end_children()
    sys.exit(not well)


if __name__ == "__main__":
    main()
