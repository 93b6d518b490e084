"""The scripts for semaphores as a user runs them: ``python path/to/script.py`` from anywhere."""

from __future__ import annotations

import errno
import itertools
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from script_runs import Done, Scripts, fails, misused, quiet
from semaphore_files import semaphore_file

import ipckit
from ipckit import PosixSemaphore, PosixSharedMemory, SysVSemaphoreSet, SysVSharedMemory
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.testing import Namespace


class Kind:
    """The pair of one kind, and where its buffer is."""

    def __init__(self, name: str, ns: Namespace) -> None:
        self.sysv = name == "sysv"
        prefix = "sem" if self.sysv else "psem"
        self.produce, self.consume = f"{prefix}_produce.py", f"{prefix}_consume.py"
        self.where: Any = ns.key() if self.sysv else ns.name()
        self.here = ["--key" if self.sysv else "--name", self.where]
        self.blocks_in = "semop" if self.sysv else "shared_futex"
        self.memory: Any = SysVSharedMemory if self.sysv else PosixSharedMemory
        self.clean = [self.consume, *self.here, "--create", "--count", 0, "--remove"]
        self._posix = [] if self.sysv else [f"{self.where}.{each}" for each in PARTS]

    def left(self) -> list[object]:
        """What is there of the buffer."""
        found: list[object] = []
        for find in (
            lambda: self.memory.open(self.where),
            *([lambda: SysVSemaphoreSet.open(self.where)] if self.sysv else []),
            *((lambda name=name: PosixSemaphore.open(name)) for name in self._posix),
        ):
            try:
                handle = find()
            except ipckit.NotFound:
                continue
            handle.close()
            found.append(handle)
        return found

    def remove(self) -> None:
        for name in self._posix:
            semaphore_file(name).unlink(missing_ok=True)


PARTS = ("empty", "full", "mutex")


@pytest.fixture(params=["sysv", "posix"])
def kind(request: pytest.FixtureRequest, ns: Namespace) -> Iterator[Kind]:
    made = Kind(request.param, ns)
    yield made
    left = made.left()
    made.remove()
    assert left == []


def ended(process: subprocess.Popen[bytes]) -> Done:
    out, err = process.communicate(timeout=60)
    return Done([], process.returncode, out, err)


# -- the buffer ------------------------------------------------------------------------------------

LINES = [b"first", b"", b"  kept  ", b"\xff\xfe no UTF-8", b"tab\there\r", b"x" * 1020, b"last"]


def test_lines_go_through_in_order_and_whole(kind: Kind, scripts: Scripts, ns: Namespace) -> None:
    text = b"\n".join(LINES)
    ns.path().with_name("lines").write_bytes(text)
    put = scripts.run(kind.produce, *kind.here, "--create", "--capacity", len(LINES), stdin=text)
    quiet(put)
    first, rest, again, some, all_of_it, removed = scripts.run_all(
        [kind.consume, *kind.here, "--count", 2],
        [kind.consume, *kind.here, "--count", len(LINES) - 2, "--timeout", 0],
        # It is there, so --create takes it as it is.
        [kind.produce, *kind.here, "--create", "--file", "lines"],
        [kind.produce, *kind.here, "--count", 0],
        [kind.consume, *kind.here, "--create", "--count", len(LINES)],
        [kind.consume, *kind.here, "--count", 0, "--remove"],
    )
    quiet(first, b"\n".join(LINES[:2]) + b"\n")
    quiet(rest, b"\n".join(LINES[2:]) + b"\n")
    for done in (again, some, removed):
        quiet(done)
    quiet(all_of_it, text + b"\n")
    assert kind.left() == []


def test_a_producer_waits_for_places_and_a_consumer_for_lines(kind: Kind, scripts: Scripts) -> None:
    consumer = scripts.start(kind.consume, *kind.here, "--create", "--capacity", 1, "--count", 300)
    wait_blocked(consumer.pid, kind.blocks_in)
    text = b"".join(b"%d\n" % number for number in range(301))
    producer = scripts.start(kind.produce, *kind.here, "--remove", stdin=subprocess.PIPE)
    assert producer.stdin is not None
    producer.stdin.write(text)
    producer.stdin.close()
    producer.stdin = None
    quiet(ended(consumer), text[: text.rindex(b"300")])
    quiet(ended(producer))
    assert kind.left() == []


def test_what_cannot_be_done_is_one_line(kind: Kind, scripts: Scripts) -> None:
    missing = scripts.run_all([kind.produce, *kind.here], [kind.consume, *kind.here])
    for done in missing:
        fails(done, "no such")
    long, full, late, other, gone, directory, got = scripts.run_all(
        [kind.produce, *kind.here, "--create", "--capacity", 1],
        [kind.produce, *kind.here, "--timeout", 0],
        [kind.produce, *kind.here, "--timeout", "0.01"],
        [kind.produce, *kind.here, "--create", "--capacity", 2, "--remove"],
        [kind.produce, *kind.here, "--file", "nowhere"],
        [kind.produce, *kind.here, "--file", "."],
        [kind.consume, *kind.here, "--count", 1],
        stdin=b"short\n" + b"x" * 1021,
    )
    fails(long, "1,021 bytes", "1,020")
    fails(full, "full" if kind.sysv else "the semaphore is 0")
    fails(late, "full for 0.01 s" if kind.sysv else "0 for 0.01 s")
    fails(other, "holds 1 lines, not 2")  # and removes nothing
    fails(gone, os.strerror(errno.ENOENT))
    fails(directory, os.strerror(errno.EISDIR))
    quiet(got, b"short\n")
    empty, late, clean = scripts.run_all(
        [kind.consume, *kind.here, "--timeout", 0],
        [kind.consume, *kind.here, "--timeout", "0.01"],
        kind.clean,
    )
    fails(empty, "empty" if kind.sysv else "the semaphore is 0")
    fails(late, "empty for 0.01 s" if kind.sysv else "0 for 0.01 s")
    quiet(clean)


def test_memory_that_is_no_buffer_is_refused_and_stays(kind: Kind, scripts: Scripts) -> None:
    for size, words in ((1, "bytes"), (5000, "not a buffer of lines")):
        with kind.memory.create(kind.where, size=size) as memory:
            for done in scripts.run_all(
                [kind.produce, *kind.here, "--remove"], [kind.consume, *kind.here, "--create"]
            ):
                fails(done, words)
            assert memory.size == size
            kind.memory.open(kind.where).close()


def test_a_record_that_cannot_be_is_refused(kind: Kind, scripts: Scripts) -> None:
    (put,) = scripts.run_all([kind.produce, *kind.here, "--create"], stdin=b"one\n")
    quiet(put)
    with kind.memory.open(kind.where) as memory:
        # The length of the line, and then the whole record.
        place = memory.size - 8 * 1024
        memory.write(b"\xff" * 4, place)
        (done,) = scripts.run_all([kind.consume, *kind.here, "--timeout", 0])
        fails(done, "a line of 4,294,967,295 bytes")
        memory.write(b"\xff" * (place - 32), 32)
    for done in scripts.run_all([kind.consume, *kind.here, "--timeout", "0.1"]):
        fails(done)
    (clean,) = scripts.run_all(kind.clean)
    quiet(clean)


def test_bad_usage_is_2(kind: Kind, scripts: Scripts) -> None:
    cases = [
        ([kind.produce], "required"),
        ([kind.consume], "required"),
        ([kind.produce, *kind.here, "--capacity", 3], "goes with --create"),
        ([kind.consume, *kind.here, "--create", "--capacity", 0], "must be 1 to 32767"),
        ([kind.produce, *kind.here, "--create", "--capacity", 32768], "must be 1 to 32767"),
        ([kind.produce, *kind.here, "--create", "--capacity", "x"], "--capacity"),
        ([kind.consume, *kind.here, "--count", -1], "--count must be 0 or more"),
        ([kind.produce, *kind.here, "--timeout", -1], "--timeout"),
        ([kind.consume, *kind.here, "--timeout", "nan"], "--timeout"),
        ([kind.consume, *kind.here, "--file", "f"], "--file"),
        ([kind.produce, *kind.here, "text"], "text"),
    ]
    if kind.sysv:
        cases += [
            ([kind.consume, "--key", 0], "IPC_PRIVATE"),
            ([kind.consume, "--key", "abc"], "write it as 1234"),
            ([kind.produce, *kind.here, "--path", "/"], "not allowed with"),
        ]
    helps = [[script, "--help"] for script in (kind.produce, kind.consume)]
    dones = scripts.run_all(*(case for case, _ in cases), *helps)
    for done, (_, words) in zip(dones, cases, strict=False):
        misused(done, words)
    for done in dones[len(cases) :]:
        assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_is_quiet(kind: Kind, scripts: Scripts) -> None:
    consumer = scripts.start(kind.consume, *kind.here, "--create", "--capacity", 1)
    wait_blocked(consumer.pid, kind.blocks_in)
    consumer.send_signal(signal.SIGINT)
    done = ended(consumer)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")
    (full,) = scripts.run_all([kind.produce, *kind.here], stdin=b"one\n")
    quiet(full)
    producer = scripts.start(kind.produce, *kind.here, "--remove", stdin=subprocess.PIPE)
    assert producer.stdin is not None
    producer.stdin.write(b"two\n")
    producer.stdin.flush()
    wait_blocked(producer.pid, kind.blocks_in)
    producer.send_signal(signal.SIGINT)
    assert producer.wait(60) == 130
    assert producer.communicate() == (b"", b"")
    assert kind.left() == []


def test_a_stream_that_is_closed_or_full(kind: Kind, scripts: Scripts) -> None:
    fails(scripts.run(kind.produce, *kind.here, "--create", then="<&-"), "input is closed")
    (put,) = scripts.run_all([kind.produce, *kind.here], stdin=b"one\n")
    quiet(put)
    fails(scripts.run(kind.consume, *kind.here, then=">&-"), "output is closed")
    done = scripts.run(kind.consume, *kind.here, "--remove", then=">/dev/full")
    fails(done, os.strerror(errno.ENOSPC))


def test_a_buffer_removed_under_the_scripts(ns: Namespace, scripts: Scripts) -> None:
    kind = Kind("sysv", ns)
    consumer = scripts.start(kind.consume, *kind.here, "--create")
    wait_blocked(consumer.pid, "semop")
    (clean,) = scripts.run_all(kind.clean)
    quiet(clean)
    quiet(ended(consumer))
    producer = scripts.start(
        kind.produce, *kind.here, "--create", "--capacity", 1, stdin=subprocess.PIPE
    )
    assert producer.stdin is not None
    producer.stdin.write(b"one\ntwo\n")
    producer.stdin.flush()
    wait_blocked(producer.pid, "semop")
    (clean,) = scripts.run_all(kind.clean)
    quiet(clean)
    fails(ended(producer), "removed")


# -- kill -9 ---------------------------------------------------------------------------------------


class Crowd:
    """Producers and consumers of one buffer, who are killed and replaced."""

    LINES = 100_000

    def __init__(self, scripts: Scripts, key: int) -> None:
        self.scripts, self.key = scripts, key
        self.numbers = itertools.count()
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        self.outputs: dict[int, Path] = {}
        self.killed_consumers = 0

    def add(self, side: str) -> int:
        number = next(self.numbers)
        path = self.scripts.directory / f"{number}.txt"
        if side == "produce":
            path.write_text("".join(f"{number} {line}\n" for line in range(self.LINES)))
            options = ["--file", path, "--create", "--capacity", 3]
            out = subprocess.DEVNULL
        else:
            options, out = ["--create", "--capacity", 3], path.open("wb")
            self.outputs[number] = path
        script = f"sem_{side}.py"
        self.running[number] = self.scripts.start(script, "--key", self.key, *options, stdout=out)
        if not isinstance(out, int):
            out.close()
        return number

    def works(self, number: int) -> bool:
        """Whether that one has put, or taken, something."""
        if number in self.outputs:
            return self.outputs[number].stat().st_size > 0
        return any(b"%d " % number in tail(path) for path in self.outputs.values())

    def wait_for(self, number: int) -> None:
        end = time.monotonic() + 60
        while not self.works(number):
            if self.running[number].poll() not in {None, 0} or time.monotonic() > end:
                pytest.fail(f"{number} does nothing: {ended(self.running[number])}")
            time.sleep(0.001)

    def kill(self, number: int) -> None:
        process = self.running.pop(number)
        process.kill()
        done = ended(process)
        assert done.stderr == b""
        if done.returncode == 0:
            assert number not in self.outputs
            return
        assert done.returncode == -signal.SIGKILL
        self.killed_consumers += number in self.outputs

    def check(self) -> None:
        """Nothing came twice or out of order, and no more is lost than the dead have held."""
        came: dict[int, list[int]] = {}
        for path in self.outputs.values():
            last: dict[int, int] = {}
            # A write of a line is whole, whoever is killed.
            for line in path.read_text().splitlines():
                tag, number = map(int, line.split())
                assert number > last.get(tag, -1)
                last[tag] = number
                came.setdefault(tag, []).append(number)
        lost = 0
        for numbers in came.values():
            assert len(set(numbers)) == len(numbers)
            lost += max(numbers) + 1 - len(numbers)
        assert lost <= self.killed_consumers
        assert sum(map(len, came.values())) > 0


def tail(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 300))
        return b"\n" + file.read()


def kill_again_and_again(ns: Namespace, scripts: Scripts, kills: int) -> None:
    key = ns.key()
    crowd = Crowd(scripts, key)
    for side in ("consume", "produce", "consume", "produce"):
        crowd.add(side)
    for number in range(4):
        crowd.wait_for(number)
    for number in range(kills):
        # The oldest, so that both sides are killed in turn.
        side = "consume" if number in crowd.outputs else "produce"
        crowd.kill(number)
        crowd.wait_for(crowd.add(side))
    # Those who are left to the last may take what there is; then there is no more.
    for number in list(crowd.running):
        crowd.kill(number)
    rest = scripts.directory / "rest.txt"
    done = scripts.run("sem_consume.py", "--key", key, "--timeout", "0.01", "--remove")
    fails(Done([], done.returncode, b"", done.stderr), "the buffer was empty for 0.01 s")
    rest.write_bytes(done.stdout)
    crowd.outputs[-1] = rest
    crowd.check()
    with pytest.raises(ipckit.NotFound):
        SysVSharedMemory.open(key)


def test_the_others_go_on_whoever_is_killed(ns: Namespace, scripts: Scripts) -> None:
    kill_again_and_again(ns, scripts, 6)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_others_go_on_whoever_is_killed_for_long(ns: Namespace, scripts: Scripts) -> None:
    kill_again_and_again(ns, scripts, 100)


def test_what_kill_9_leaves_of_posix_semaphores_can_be_removed(
    ns: Namespace, scripts: Scripts
) -> None:
    kind = Kind("posix", ns)
    consumer = scripts.start(kind.consume, *kind.here, "--create", "--capacity", 2)
    wait_blocked(consumer.pid, "shared_futex")
    consumer.kill()
    (put,) = scripts.run_all([kind.produce, *kind.here, "--timeout", 5], stdin=b"one\ntwo\n")
    quiet(put)  # who is killed while it waits holds nothing
    with PosixSemaphore.open(f"{kind.where}.mutex").lifetime() as mutex:
        mutex.acquire(timeout=0)  # as one who was killed inside has it
    stuck, cleaned = scripts.run_all(
        [kind.consume, *kind.here, "--timeout", "0.01"],
        [kind.consume, *kind.here, "--count", 0, "--remove"],
    )
    fails(stuck, ".mutex", "0 for 0.01 s")
    quiet(cleaned)
    assert kind.left() == []
    # Where a part is missing, --create makes it, so that --remove finds them all.
    (made,) = scripts.run_all([kind.produce, *kind.here, "--create"])
    quiet(made)
    with PosixSemaphore.open(f"{kind.where}.full").lifetime() as full:
        full.unlink()
    part, whole = scripts.run_all([kind.consume, *kind.here, "--remove"], kind.clean)
    fails(part, ".full", "no such semaphore")
    quiet(whole)
    assert kind.left() == []


# -- philosophers ----------------------------------------------------------------------------------


def test_the_circle_is_found(scripts: Scripts) -> None:
    done = scripts.run("philosophers.py", "--mode", "circle")
    assert (done.returncode, done.stderr) == (3, b"")
    *five, verdict = done.stdout.decode().splitlines()
    pattern = r"philosopher (\d) \(process (\d+)\) holds fork (\d) and waits for fork (\d)"
    told = [re.fullmatch(pattern, line) for line in five]
    assert [(m[1], m[3], m[4]) for m in told if m] == [
        (str(n), str(n), str((n + 1) % 5)) for n in range(5)
    ]
    assert len({m[2] for m in told if m}) == 5
    assert "deadlock" in verdict


@pytest.mark.parametrize("mode", ["order", "atomic"])
def test_all_eat_where_there_can_be_no_circle(scripts: Scripts, mode: str) -> None:
    done = scripts.run("philosophers.py", "--mode", mode, "--rounds", 100, "--eat", "0.0001")
    quiet(done, b"all 5 have eaten 100 times\n")


def test_philosophers_bad_usage_and_no_output(scripts: Scripts) -> None:
    cases = [
        ([], "--mode"),
        (["--mode", "chaos"], "invalid choice"),
        (["--mode", "order", "--rounds", 0], "--rounds must be 1 or more"),
        (["--mode", "order", "--eat", -1], "--eat"),
    ]
    dones = scripts.run_all(*(["philosophers.py", *case] for case, _ in cases))
    for done, (_, words) in zip(dones, cases, strict=True):
        misused(done, words)
    full = scripts.run("philosophers.py", "--mode", "order", "--rounds", 1, then=">/dev/full")
    fails(full, os.strerror(errno.ENOSPC))


def seated(process: subprocess.Popen[bytes]) -> list[int]:
    """The five, once all are there."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        pids = [
            pid
            for pid in children.read_text().split()
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        if len(pids) == 5:
            return [int(pid) for pid in pids]
    pytest.fail("the five did not come")


def test_a_philosopher_who_is_killed_leaves_his_forks_to_the_others(scripts: Scripts) -> None:
    process = scripts.start(
        "philosophers.py", "--mode", "order", "--rounds", 200, "--eat", "0.002", process_group=0
    )
    victim = seated(process)[2]
    wait_blocked(victim, "semop", "clock_nanosleep")
    os.kill(victim, signal.SIGKILL)
    fails(ended(process), "philosopher 2 did not finish")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_meal_leaves_nothing(scripts: Scripts, number: int) -> None:
    process = scripts.start("philosophers.py", "--mode", "atomic", "--eat", "1000", process_group=0)
    for pid in seated(process):
        wait_blocked(pid, "semop", "clock_nanosleep")
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    done = ended(process)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, b"", b"")
