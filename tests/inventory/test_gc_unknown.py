"""`ipckit gc` with people's files in /dev/shm, and for objects with the state unknown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import (
    Channel,
    InUse,
    PosixSharedMemory,
    SysVMessageQueue,
    SysVSharedMemory,
    Topic,
    inventory,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from ipckit.testing import Namespace

    Listed = Callable[..., dict[str, dict[str, Any]]]
    Run = Callable[..., subprocess.CompletedProcess[str]]

SHM = Path("/dev/shm")  # noqa: S108
FILES = {
    "results.csv": b"a,b\n1,2\n",
    "model.npy": b"\x93NUMPY",
    "my-lockfile": b"",
    "torch_1_2": b"x",
    "PostgreSQL.123": b"x",
    "sem.txt": b"thirty-two bytes of a text file.",
    "ipckit.toml": b"[ipckit]\n",
}


@pytest.fixture
def files(ns: Namespace) -> Iterator[dict[str, Path]]:
    """People's files in /dev/shm, with names of the test's own if another run has the same."""
    del ns
    if "IPCKIT_TEST_UNSHARED" not in os.environ:
        pytest.skip("takes a /dev/shm of its own")
    paths = {name: SHM / name for name in FILES}
    for name, path in paths.items():
        path.write_bytes(FILES[name])
    yield paths
    for path in paths.values():
        path.unlink(missing_ok=True)


def removed(told: str) -> set[str]:
    return {line.split()[1] for line in told.splitlines() if line.startswith("removed ")}


def test_a_person_s_file_is_listed_and_stays(
    files: dict[str, Path], ns: Namespace, ipckit_run: Run, listed: Listed
) -> None:
    left = f"shm:{ns.name()}"
    PosixSharedMemory.create(left.removeprefix("shm:"), 100).disown().close()
    seen = listed()
    ours = {name: each for name, each in seen.items() if not each["recognized"]}
    assert {each["id"] for each in ours.values()} == {p.stat().st_ino for p in files.values()}
    assert {each["state"] for each in ours.values()} == {"unknown"}
    assert all(
        each["reason"].startswith("not recognized as an IPC object") for each in ours.values()
    )

    preview = ipckit_run("gc")
    assert f"not recognized as IPC objects: {len(files)} files in /dev/shm" in preview.stdout
    assert "\\" not in preview.stdout
    for more in ([], ["--unknown", "--older-than", "0.001"]):
        done = ipckit_run("gc", *more, "--delete", "--yes")
        assert done.returncode == 0, done.stderr
        assert all(address in done.stdout for address in ours)
        assert not removed(done.stdout) & set(ours)
        assert left in removed(done.stdout) or more
    assert {name: path.read_bytes() for name, path in files.items()} == FILES

    # `collect` is told the state by the caller, and looks for itself.
    items = [each for each in inventory.survey().objects if not each.recognized]
    errors = [error for _, error in inventory.collect(items, unknown=True)]
    assert [type(error) for error in errors] == [InUse] * len(files)

    named = ipckit_run("rm", "--yes", *ours)
    assert named.returncode == 0, named.stderr
    assert not any(path.exists() for path in files.values())


def test_a_person_s_file_that_is_in_use_is_held(
    files: dict[str, Path], listed: Listed, ipckit_run: Run
) -> None:
    with files["results.csv"].open():
        assert listed()["shm:/results.csv"]["state"] == "held"
        assert "shm:/results.csv" not in ipckit_run("gc").stdout


@pytest.mark.usefixtures("root")
def test_memory_that_ipckit_created_is_removed_whatever_its_name(ipckit_run: Run) -> None:
    if "IPCKIT_TEST_UNSHARED" not in os.environ:
        pytest.skip("takes a /dev/shm of its own")
    path = SHM / "frames"
    PosixSharedMemory.create("/frames", 100).disown().close()
    Channel.create("frames", capacity=2, size=1000).disown().close()
    Topic.create("frames", capacity=2, size=1000).disown().close()
    marked = bool(os.listxattr(path))  # Linux 6.6
    done = ipckit_run("gc", "--delete", "--yes")
    assert {"channel:frames", "topic:frames"} <= removed(done.stdout)
    assert ("shm:/frames" in removed(done.stdout)) is marked
    path.unlink(missing_ok=True)


AS_NOBODY = """
from ipckit import inventory
os_kinds = ["posix-semaphore", "posix-segment", "channel", "topic"]
found = inventory.survey(os_kinds).objects
chosen = inventory.select(found, unknown=True, older_than=1e-9)
result = [{each.address: each.recognized for each in found},
          [type(error).__name__ for _, error in inventory.collect(chosen, unknown=True)]]
"""


@pytest.mark.usefixtures("root")
def test_another_user_s_object_is_not_called_a_person_s_file(
    files: dict[str, Path], ns: Namespace, spawn: Callable[..., Any]
) -> None:
    files["results.csv"].chmod(0o600)
    name = ns.name()
    Channel.create(name, capacity=2, size=1000).disown().close()
    Topic.create(name, capacity=2, size=1000).disown().close()
    child = spawn(AS_NOBODY, user="nobody", imports=["ipckit.inventory"])
    child.wait()
    seen, errors = child.result
    assert seen[f"channel:{name[1:]}"] is True  # its content may not be read
    assert seen[f"topic:{name[1:]}"] is True
    assert seen["shm:/results.csv"] is False
    assert set(errors) <= {"AccessDenied", "InUse"}
    with Channel.open(name) as channel, Topic.open(name) as topic:
        channel.unlink()
        topic.unlink()


UNKNOWN = """
import os
from ipckit import SysVMessageQueue, SysVSharedMemory
from ipckit.testing import step
key, = args
# No process is on record for the first, and this one still runs: it can't be judged.
queue = SysVMessageQueue.create(key)
step.tell(queue.id)
step.hear()
queue.disown().close()
"""


def test_objects_of_unknown_state_are_removed_on_request(
    ns: Namespace, spawn: Callable[..., Any], ipckit_run: Run, listed: Listed
) -> None:
    child = spawn(UNKNOWN, ns.key())
    address = f"q:{child.hear()}"
    assert listed("--kind", "q")[address]["state"] == "unknown"
    alone = ipckit_run("gc", "--unknown", "--delete", "--yes")
    assert alone.returncode == 2
    assert "--creator-pid PID or --older-than AGE" in alone.stderr
    for words in (["--older-than", "soon"], ["--creator-pid", "0"], ["--creator-pid", "me"]):
        assert ipckit_run("gc", "--unknown", *words).returncode == 2

    kind = ["--kind", "q", "--unknown"]
    young = ipckit_run("gc", *kind, "--older-than", "1h", "--delete", "--yes")
    assert (young.returncode, removed(young.stdout)) == (0, set())
    nameless = ipckit_run("gc", *kind, "--creator-pid", str(child.pid), "--delete", "--yes")
    assert (nameless.returncode, removed(nameless.stdout)) == (0, set())
    assert "the kernel records no creator" in nameless.stderr

    preview = ipckit_run("gc", *kind, "--older-than", "0.001")
    (line,) = [line for line in preview.stdout.splitlines() if line.startswith(address)]
    assert " unknown " in line
    assert preview.stdout.splitlines()[-1].startswith("orphaned or unknown: ")
    assert ipckit_run("gc", *kind, "--older-than", "0.001", "--delete").returncode == 3
    done = ipckit_run("gc", *kind, "--older-than", "0.001", "--delete", "--yes")
    assert done.returncode == 0, done.stderr
    assert address in removed(done.stdout)
    child.tell("end")


@pytest.mark.usefixtures("root")
def test_creator_pid_selects_the_objects_of_a_process(ns: Namespace, ipckit_run: Run) -> None:
    def make() -> int:
        pid = os.fork()
        if pid == 0:
            for each in (SysVSharedMemory.create(ns.key(), 10), SysVMessageQueue.create(ns.key())):
                if isinstance(each, SysVMessageQueue):
                    each.send(b"text")
                each.disown().close()
            os._exit(0)
        os.waitpid(pid, 0)
        return pid

    pids = [make(), make()]
    found = inventory.survey(["sysv-segment", "sysv-queue"]).objects
    first, second = ({each.address for each in found if pid in each.creator_pids} for pid in pids)
    assert len(first) == len(second) == 2
    words = ["--kind", "sysv", "--delete", "--yes"]
    done = ipckit_run("gc", *words, "--creator-pid", str(pids[0]))
    assert removed(done.stdout) == first
    done = ipckit_run("gc", *words, "--unknown", "--creator-pid", str(pids[1]))
    assert removed(done.stdout) == second


def test_an_object_used_after_the_survey_stays(ns: Namespace) -> None:
    with SysVMessageQueue.create(ns.key()) as queue:
        (item,) = [each for each in inventory.survey(["sysv-queue"]).objects if each.id == queue.id]
        pid = os.fork()
        if pid == 0:
            queue.send(b"text")
            os._exit(0)
        os.waitpid(pid, 0)
        ((_, error),) = inventory.collect([item], unknown=True, ignore_self=True)
        assert isinstance(error, InUse)
        assert queue.stat().qnum == 1


def test_a_file_changed_after_the_survey_stays(ns: Namespace) -> None:
    name = ns.name()
    PosixSharedMemory.create(name, 100).disown().close()
    (item,) = [each for each in inventory.survey(["posix-segment"]).objects if each.name == name]
    assert item.orphaned
    os.utime(SHM / name[1:], ns=(0, 1))
    ((_, error),) = inventory.collect([item])
    assert isinstance(error, InUse)
    inventory.remove(item)
