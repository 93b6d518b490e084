"""`ipckit gc` with programs that leak objects, after they exit and while they still run."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import cli, inventory
from ipckit._inventory import sockets
from ipckit.testing import as_user, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipckit.testing import Child, Namespace

    Listed = Callable[..., dict[str, dict[str, Any]]]
    Run = Callable[..., subprocess.CompletedProcess[str]]


def kill(pids: Iterable[int]) -> None:
    """Kill processes that are not our children, and wait until each is gone."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        assert select.select([handle], [], [], 30)[0]
        os.close(handle)


@contextlib.contextmanager
def ended(command: list[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program that is killed at the end of the block, if it runs still."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def removed(told: str) -> set[str]:
    """The addresses that gc says it removed."""
    return {line.split()[1] for line in told.splitlines() if line.startswith("removed ")}


# -- our own ---------------------------------------------------------------------------------------

OWN = """
import socket
from ipckit import PosixMessageQueue, PosixSemaphore, PosixSharedMemory, listen
from ipckit import SysVMessageQueue, SysVSemaphoreSet, SysVSharedMemory
from ipckit.testing import step
key, name, path = args
queue = SysVMessageQueue.create(key)
queue.send(bytes(100))
segment = SysVSharedMemory.create(key, 4096)
sets = SysVSemaphoreSet.create(key, [1, 2])
files = [PosixSharedMemory.create(name, 8192), PosixSemaphore.create(name),
         PosixMessageQueue.create(name, max_messages=1, max_size=10), listen(path)]
step.tell([queue.id, segment.id, sets.id])
step.hear()
"""


def test_objects_of_a_killed_child_are_removed_only_after_its_death(
    ns: Namespace, spawn: Callable[..., Child], ipckit_run: Run
) -> None:
    name, path = ns.name(), str(ns.path())
    child = spawn(OWN, ns.key(), name, path)
    queue, segment, sets = child.hear()
    left = {f"q:{queue}", f"m:{segment}", f"s:{sets}"}
    left |= {f"shm:{name}", f"sem:{name}", f"mq:{name}", f"socket:{path}"}
    kinds = ["--kind", "sysv", "--kind", "posix", "--kind", "socket"]

    alive = ipckit_run("gc", *kinds, "--delete", "--yes")
    assert alive.returncode == 0, alive.stderr
    assert not removed(alive.stdout) & left
    child.kill()

    dry = ipckit_run("gc", *kinds)
    assert dry.returncode == 0
    assert left <= {line.split()[0] for line in dry.stdout.splitlines() if line}
    assert not removed(dry.stdout)
    assert ipckit_run("stat", f"q:{queue}").returncode == 0  # a dry run is the default

    young = ipckit_run("gc", *kinds, "--older-than", "1h", "--delete", "--yes")
    assert not removed(young.stdout) & left
    unasked = ipckit_run("gc", *kinds, "--delete")
    assert unasked.returncode == 3

    done = ipckit_run("gc", *kinds, "--delete", "--yes")
    assert done.returncode == 0, done.stderr
    assert left <= removed(done.stdout)
    assert "freed: " in done.stdout.splitlines()[-1]
    assert ns.leftovers() == []


WAIT = """
import os
from ipckit import SysVMessageQueue, SysVSemaphoreSet
which, ident = args
if which == "queue":
    with SysVMessageQueue.from_id(ident) as queue:
        queue.receive(9, timeout=60)
else:
    with SysVSemaphoreSet.from_id(ident) as sets:
        sets[0].acquire()
"""
LEFT = """
from ipckit import SysVMessageQueue, SysVSemaphoreSet
key, = args
queue = SysVMessageQueue.create(key)
queue.send(b"for nobody")
sets = SysVSemaphoreSet.create(key, [0])
result = [queue.id, sets.id]
for each in (queue, sets):
    each.disown()
    each.close()
"""


@pytest.mark.parametrize("which", ["queue", "set"])
def test_an_object_with_a_waiter_stays_after_its_creator_exited(
    ns: Namespace, spawn: Callable[..., Child], ipckit_run: Run, which: str
) -> None:
    maker = spawn(LEFT, ns.key())
    maker.wait()
    queue, sets = maker.result
    address = f"q:{queue}" if which == "queue" else f"s:{sets}"
    waiter = spawn(WAIT, which, queue if which == "queue" else sets)
    waiter.wait_blocked("clock_nanosleep" if which == "queue" else "semop")
    done = ipckit_run("gc", "--kind", "sysv", "--delete", "--yes")
    assert done.returncode == 0
    assert address not in removed(done.stdout)
    waiter.kill()
    again = ipckit_run("gc", "--kind", "sysv", "--delete", "--yes")
    assert address in removed(again.stdout)
    assert ns.leftovers() == []


def test_a_waiter_that_arrives_after_the_survey_is_seen_by_the_last_check(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    maker = spawn(LEFT, ns.key())
    maker.wait()
    queue, sets = maker.result
    seen = {
        each.address: each for each in inventory.survey(["sysv-queue", "sysv-semaphores"]).objects
    }
    items = [seen[f"q:{queue}"], seen[f"s:{sets}"]]
    assert all(each.orphaned for each in items)
    waiters = [spawn(WAIT, "queue", queue), spawn(WAIT, "set", sets)]
    waiters[0].wait_blocked("clock_nanosleep")
    waiters[1].wait_blocked("semop")
    errors = [error for _, error in inventory.collect(items)]
    assert [type(error).__name__ for error in errors] == ["InUse", "InUse"]
    assert "waits in msgrcv" in str(errors[0])
    for waiter in waiters:
        waiter.kill()
    assert [error for _, error in inventory.collect(items)] == [None, None]


UNUSED = """
from ipckit import SysVMessageQueue
from ipckit.testing import step
queue = SysVMessageQueue.create(args[0])
step.tell(queue.id)
step.hear()
queue.unlink()
queue.close()
"""


def test_an_unused_queue_stays_while_its_creator_may_be_running(
    ns: Namespace, spawn: Callable[..., Child], ipckit_run: Run, listed: Listed
) -> None:
    child = spawn(UNUSED, ns.key())
    address = f"q:{child.hear()}"
    ours = listed("--kind", "q")[address]
    assert ours["state"] == "unknown"
    assert "which process created it" in ours["reason"]
    done = ipckit_run("gc", "--kind", "q", "--delete", "--yes")
    assert address not in removed(done.stdout)
    assert "state unknown: " in done.stderr
    child.tell("end")


def test_gc_leaves_sockets_alone_unless_it_is_told_to_remove_them(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "IPCKIT_TEST_UNSHARED" not in os.environ:
        pytest.skip("takes places of its own, because gc removes what it finds")
    place = ns.directory / "a" / "b"  # so deep that gc of another worker does not find it
    place.mkdir(parents=True)
    monkeypatch.setattr(sockets, "_DIRECTORIES", (os.fspath(place),))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    paths = [place / "1", place / "2"]
    for path in paths:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.fspath(path))

    def gc(*words: str) -> str:
        assert cli.run(["gc", *words]) == 0
        return capsys.readouterr().out

    kept = "left alone: 2 stale sockets; to remove them: ipckit gc --kind socket"
    assert f"{kept} --mine --delete\n" in gc("--mine")
    told = gc("--older-than", "0.001", "--delete", "--yes")
    assert f"{kept} --older-than 0.001 --delete\n" in told
    assert "removed socket:" not in told
    told = gc("--kind", "socket", "--delete", "--yes")
    assert {f"socket:{path}" for path in paths} <= removed(told)
    assert "left alone" not in told
    assert not any(path.exists() for path in paths)


# -- programs that are not ours --------------------------------------------------------------------


def test_fakeroot_s_queues_stay_while_it_runs(
    ipckit_run: Run, listed: Listed, tmp_path: Path
) -> None:
    fakeroot = require("fakeroot", package="fakeroot")
    before = set(listed("--kind", "sysv"))
    with ended(
        [fakeroot, "--", "sh", "-c", "touch a; chown 1 a; echo ready; read _"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == b"ready\n"
        found = {
            name: each for name, each in listed("--kind", "sysv").items() if name not in before
        }
        holders = [each for item in found.values() for each in item["holders"]]
        (daemon,) = {each["pid"] for each in holders if "faked" in each["command"]}
        assert {each["kind"] for each in found.values()} >= {"sysv-queue"}
        assert not any(each["orphaned"] for each in found.values())

        alive = ipckit_run("gc", "--kind", "sysv", "--delete", "--yes")
        assert not removed(alive.stdout) & set(found)

        kill([daemon])
        session.kill()
    gone = ipckit_run("gc", "--kind", "sysv", "--delete", "--yes")
    assert set(found) <= removed(gone.stdout), gone.stdout + gone.stderr


@pytest.fixture
def cluster() -> Iterator[tuple[Path, Path]]:
    """A fresh PostgreSQL cluster: where its programs are, and its directory."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    server = places[-1] if places else Path(require("postgres", package="postgresql")).resolve()
    directory = Path(tempfile.mkdtemp(prefix="ipckit-pg-"))
    shutil.chown(directory, "postgres", "postgres")
    try:
        data = directory / "data"
        options = ["-D", str(data), "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8"]
        subprocess.run(
            as_user("postgres", [str(server.parent / "initdb"), *options]),
            check=True,
            capture_output=True,
            cwd=directory,
        )
        yield server, data
    finally:
        shutil.rmtree(directory)


@pytest.mark.usefixtures("root")
def test_postgresql_s_memory_stays_while_it_runs(
    cluster: tuple[Path, Path], ipckit_run: Run, listed: Listed
) -> None:
    server, data = cluster
    kinds = ["--kind", "segment", "--kind", "sysv"]
    before = set(listed(*kinds))
    settings = ["listen_addresses=", f"unix_socket_directories={data.parent}", "fsync=off"]
    command = [str(server), "-D", str(data), *(word for each in settings for word in ("-c", each))]
    with ended(
        as_user("postgres", command), stderr=subprocess.PIPE, cwd=data, text=True
    ) as postmaster:
        assert postmaster.stderr is not None
        assert any("ready to accept connections" in line for line in postmaster.stderr)
        found = {name: each for name, each in listed(*kinds).items() if name not in before}
        assert {each["kind"] for each in found.values()} == {"sysv-segment", "posix-segment"}
        assert {each["state"] for each in found.values()} == {"held"}
        (segment,) = [each for each in found.values() if each["kind"] == "sysv-segment"]
        assert postmaster.pid in {holder["pid"] for holder in segment["holders"]}
        assert segment["creator"]["pid"] == postmaster.pid
        workers = {holder["pid"] for each in found.values() for holder in each["holders"]} - {
            postmaster.pid
        }

        alive = ipckit_run("gc", *kinds, "--delete", "--yes")
        assert not removed(alive.stdout) & set(found)

        postmaster.kill()
        postmaster.wait()
        kill(workers)
    stale = f"socket:{data.parent}/.s.PGSQL.5432"
    assert stale in listed("--kind", "socket", "--orphans")
    gone = ipckit_run("gc", *kinds, "--delete", "--yes")
    assert set(found) <= removed(gone.stdout), gone.stdout + gone.stderr


@pytest.mark.usefixtures("root")
def test_a_user_in_another_pid_namespace_makes_the_state_unknown(
    ns: Namespace, spawn: Callable[..., Child], ipckit_run: Run
) -> None:
    maker = spawn(LEFT, ns.key())
    maker.wait()
    left = {f"q:{maker.result[0]}", f"s:{maker.result[1]}"}
    inside = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "ipckit"]
    seen = ipckit_run("ls", "--kind", "sysv", command=tuple(inside))
    states = {line.split()[0]: line for line in seen.stdout.splitlines()}
    assert all("unknown" in states[address] for address in left), seen.stdout
    assert all("another pid namespace" in states[address] for address in left)
    kept = ipckit_run("gc", "--kind", "sysv", "--delete", "--yes", command=tuple(inside))
    assert not removed(kept.stdout)
    gone = ipckit_run("gc", "--kind", "sysv", "--delete", "--yes")
    assert left <= removed(gone.stdout)
