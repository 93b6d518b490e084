r"""Three workers do the jobs of a channel; one is killed again and again, and no job is lost.

    $ python scripts/job_queue.py --jobs 300 --kills 20
    300 jobs: 300 done, 0 put aside; 19 were redelivered, 1 was done twice
    20 workers were killed with -9 and replaced
    $ python scripts/job_queue.py --jobs 300 --kills 0 --poison 7 --tries 3
    job 7 was put aside; failed attempts: 3
    300 jobs: 299 done, 1 put aside; 1 was redelivered, 0 were done twice
    3 workers were killed with -9 and replaced

A worker takes a job, does it, sends the result through a second channel, and acknowledges the job.
If it is killed before that, another worker gets the job. If it is killed between the result and the
acknowledgement, the job is done twice, so the collector looks at the job's number.

With --poison, one job kills each worker that takes it. Its `redelivered` grows with each death, and
after --tries failed attempts a worker puts it aside instead of doing it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING

from _children import end_children, in_child
from _common import plain_errors, say

from ipckit import Bool, Bytes, Channel, Int, Int64, Struct, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 3
ROUNDS = 2000  # about a millisecond of work


class Job(Struct):
    """What a worker is to do."""

    number: Int64


class Result(Struct):
    """What a worker has done."""

    number: Int64
    redelivered: Int
    aside: Bool = False
    digest: Bytes[32] = b""


def do(number: int) -> bytes:
    """Do a job that takes a while."""
    return hashlib.pbkdf2_hmac("sha256", b"%d" % number, b"salt", ROUNDS)


def work(jobs: Channel[Job], results: Channel[Result], poison: int | None, tries: int) -> None:
    """Do jobs until this process is killed."""
    while True:
        with jobs.take() as delivery:
            number, deaths = delivery.value.number, delivery.redelivered
            if deaths >= tries:
                results.send(Result(number, deaths, aside=True))
            elif number == poison:
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                results.send(Result(number, deaths, digest=do(number)))


class Crew:
    """The workers; each that dies is replaced.

    Attributes:
        killed: how many workers have died.
    """

    def __init__(self, start: Callable[[], int]) -> None:
        self.killed = 0
        self._start = start
        self.pids = [start() for _ in range(WORKERS)]

    def kill_one(self) -> None:
        """Kill the first worker at whatever it is doing."""
        os.kill(self.pids[0], signal.SIGKILL)
        self._replace(0, os.waitpid(self.pids[0], 0)[1])

    def look(self) -> None:
        """Replace the workers that died by themselves."""
        for place, pid in enumerate(self.pids):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._replace(place, status)

    def _replace(self, place: int, status: int) -> None:
        pid, self.pids[place] = self.pids[place], self._start()
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            message = f"worker {pid} failed"
            raise ChildProcessError(message)
        self.killed += 1


def collect(results: Channel[Result], count: int, kills: int, crew: Crew) -> bool:
    """Collect the results, and kill workers in between. Return whether all is well."""
    done, aside, again = Counter[int](), set[int](), set[int]()
    wrong = killed = 0
    while len(done) + len(aside) < count:
        crew.look()
        try:
            result = results.receive(timeout=0.1)
        except Timeout:
            continue
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
    redelivered = f"{len(again)} {'was' if len(again) == 1 else 'were'} redelivered"
    repeated = f"{twice} {'was' if twice == 1 else 'were'} done twice"
    say(f"{count} jobs: {len(done)} done, {len(aside)} put aside; {redelivered}, {repeated}")
    say(f"{crew.killed} workers were killed with -9 and replaced")
    return not wrong and not done.keys() & aside and done.keys() | aside == set(range(count))


def main() -> None:
    """Read the command line, start the others and collect."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=300, help="number of jobs")
    parser.add_argument("--kills", type=int, default=20, help="how often to kill a worker")
    parser.add_argument("--poison", type=int, help="the number of a job that kills its worker")
    parser.add_argument(
        "--tries", type=int, default=3, help="put a job aside after so many failed attempts"
    )
    args = parser.parse_args()
    count: int = args.jobs
    with plain_errors():
        jobs = Channel.anonymous(Job, capacity=64, peer_gone="wait")
        results = Channel.anonymous(Result, capacity=64, peer_gone="wait")
        with jobs, results:
            feeder = in_child(lambda: jobs.send_many(Job(number) for number in range(count)))
            crew = Crew(lambda: in_child(lambda: work(jobs, results, args.poison, args.tries)))
            try:
                well = collect(results, count, args.kills, crew)
            finally:
                end_children([feeder, *crew.pids])
    sys.exit(not well)


if __name__ == "__main__":
    main()
