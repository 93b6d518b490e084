"""`judge`: which state an object gets, and when it is orphaned."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ipckit._core.files import is_alone
from ipckit._inventory.files import opened
from ipckit._inventory.judge import judge
from ipckit._inventory.model import IpcObject, Process
from ipckit._inventory.processes import Processes
from ipckit._inventory.sysv import mark_companions

ALIVE = Process(7, "server", "created", alive=True)
DEAD = Process(8, "", "sent", alive=False)
HOLDER = Process(9, "reader -v", "waits in msgrcv", alive=True)


def test_a_holder_counts_most() -> None:
    found = judge([HOLDER], [DEAD], doubts=["something"], orphaned="x")
    assert (found.state, found.reason) == ("held", "reader -v (pid 9): waits in msgrcv")


def test_an_object_with_an_unseen_holder_is_held() -> None:
    found = judge([], [DEAD], held="attached 2 times", orphaned="x")
    assert (found.state, found.unseen) == ("held", ("which process holds it",))


def test_an_object_with_a_live_last_user_is_used() -> None:
    assert judge([], [DEAD, ALIVE], orphaned="x").state == "used"


def test_an_object_with_doubts_is_never_orphaned() -> None:
    found = judge([], [DEAD], doubts=["a process of another pid namespace"], orphaned="x")
    assert (found.state, found.unseen) == ("unknown", ("a process of another pid namespace",))
    assert "another pid namespace" in found.reason


def test_an_object_without_holders_or_live_users_is_orphaned() -> None:
    assert judge([], [DEAD], orphaned="why").reason == "why"
    assert judge([], [DEAD], orphaned="why").state == "orphaned"


# -- the same pid, another process -----------------------------------------------------------------


def test_a_reused_pid_is_another_process() -> None:
    processes, me = Processes(), os.getpid()
    started = processes.started(me)
    assert abs(started - Path(f"/proc/{me}").stat().st_ctime) < 60
    assert processes.is_alive(me, time.time())
    assert not processes.is_alive(me, started - 10)
    # A time before the machine was started says that the clock was set since: nothing is known.
    assert processes.is_alive(me, 1000.0)


def test_a_process_that_ended_is_not_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not Processes().is_alive(process.pid, time.time())  # a zombie still
    assert not Processes().is_alive(process.pid, time.time())


def test_a_process_that_started_after_the_survey_is_alive() -> None:
    processes = Processes()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.pid not in processes.stats
        assert processes.is_alive(process.pid, time.time())


# -- what was made together ------------------------------------------------------------------------


def item(ident: int, ctime: float, *holders: Process, cuid: int = 5) -> IpcObject:
    return IpcObject(
        *("sysv-queue", "", ident, ident, 0, 0, "root", "root", 0o600, 1),
        holders=holders,
        state="held" if holders else "orphaned",
        details={"cuid": cuid, "ctime": int(ctime)},
    )


@pytest.mark.parametrize(
    ("apart", "cuid", "state"),
    [(0, 5, "used"), (1, 5, "used"), (-1, 5, "used"), (2, 5, "orphaned"), (0, 6, "orphaned")],
)
def test_an_object_created_with_a_held_one_is_in_use(apart: int, cuid: int, state: str) -> None:
    now = time.time()
    me = Process(os.getpid(), "me", "waits in msgrcv", alive=True)
    objects = [item(1, now, me), item(2, now + apart, cuid=cuid)]
    assert [each.state for each in mark_companions(objects, Processes())] == ["held", state]


def test_an_unknown_object_gets_the_state_of_its_companion() -> None:
    now = time.time()
    me = Process(os.getpid(), "me", "waits in msgrcv", alive=True)
    objects = [item(1, now, me), replace(item(2, now), state="unknown")]
    found = mark_companions(objects, Processes())[1]
    assert found.state == "used"
    assert "q:1" in found.reason


def test_a_process_that_started_later_is_not_the_creator() -> None:
    processes = Processes()
    before = processes.started(os.getpid()) - 100
    me = Process(os.getpid(), "me", "waits in msgrcv", alive=True)
    objects = [item(1, before, me), item(2, before)]
    assert [each.state for each in mark_companions(objects, processes)] == ["held", "orphaned"]


# -- the lease -------------------------------------------------------------------------------------


def test_a_lease_shows_that_any_process_has_a_file_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        with opened(directory, "file") as fd:
            assert is_alone(fd) is True
        with path.open(), opened(directory, "file") as fd:
            assert is_alone(fd) is False
        with pytest.raises(FileNotFoundError), opened(directory, "missing"):
            pass
        (tmp_path / "link").symlink_to(path)
        with opened(directory, "link") as fd:
            assert fd is None
            assert is_alone(fd) is None
    finally:
        os.close(directory)
