"""``ipckit limits``, compared with /proc, getrlimit and df."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import PosixMessageQueue, SysVMessageQueue, SysVSemaphoreSet, SysVSharedMemory
from ipckit._cli.limits_table import Limit, process_limits, table
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace

SHM = "/dev/shm"  # noqa: S108 - where it is
IN_PROC = {
    "kernel.msgmax": 0,
    "kernel.msgmnb": 0,
    "kernel.msgmni": 0,
    "kernel.sem SEMMSL": 0,
    "kernel.sem SEMMNS": 1,
    "kernel.sem SEMOPM": 2,
    "kernel.sem SEMMNI": 3,
    "kernel.shmmni": 0,
    "fs.mqueue.queues_max": 0,
    "fs.mqueue.msg_max": 0,
    "fs.mqueue.msgsize_max": 0,
    "fs.mqueue.msg_default": 0,
    "fs.mqueue.msgsize_default": 0,
    "net.unix.max_dgram_qlen": 0,
    "vm.max_map_count": 0,
}


def found(rows: list[Limit]) -> dict[str, Limit]:
    return {row.name: row for row in rows}


def test_the_values_equal_those_of_the_kernel() -> None:
    rows = found(table())
    for name, field in IN_PROC.items():
        path = Path("/proc/sys") / name.split()[0].replace(".", "/")
        assert rows[name].value == int(path.read_text().split()[field]), name
    for name in ("MSGQUEUE", "MEMLOCK", "NOFILE"):
        soft, _ = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        wanted = None if soft == resource.RLIM_INFINITY else soft
        assert rows[f"RLIMIT_{name}"].value == wanted
    at = os.statvfs(SHM)
    assert rows[f"{SHM} size"].value == at.f_blocks * at.f_frsize or None


@pytest.mark.usefixtures("root")
def test_the_use_of_each_limit_is_counted(ns: Namespace) -> None:
    before = found(table())
    with (
        SysVMessageQueue.create(ns.key()) as queue,
        SysVSemaphoreSet.create(ns.key(), [1] * 7),
        SysVSharedMemory.create(ns.key(), 3 * 4096),
        PosixMessageQueue.create(ns.name(), max_messages=10, max_size=1000),
    ):
        queue.send(b"x" * 100)
        after = found(table())

    def more(name: str) -> int:
        return (after[name].used or 0) - (before[name].used or 0)

    assert more("kernel.msgmni") == more("kernel.sem SEMMNI") == more("kernel.shmmni") == 1
    assert more("kernel.sem SEMMNS") == 7
    assert more("kernel.shmall") == 3
    assert more("fs.mqueue.queues_max") == 1
    assert more("RLIMIT_MSGQUEUE") == 10 * (1000 + 96)
    assert (after["kernel.msgmnb"].used or 0) >= 100
    share = after["kernel.msgmnb"].share
    assert share is not None
    assert share >= 100 / 16384


def test_another_process_has_limits_of_its_own() -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (77, 99))"
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}; print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert process_limits(child.pid)["Max open files"] == (77, 99)
        row = found(table(child.pid))["RLIMIT_NOFILE"]
        child.communicate(b"\n")
    assert row.value == 77
    assert row.used == 3
    assert row.change == f"prlimit --pid {child.pid} --nofile=154:154"


SYSCTLS = """
import subprocess
from ipckit._cli.limits_table import table
of_ipc = ("kernel.", "fs.mqueue.")  # the others are the machine's
wanted = [row for row in table() if row.change and row.name.startswith(of_ipc)]
result = []
for row in wanted:
    subprocess.run(["sh", "-c", row.change], check=True, capture_output=True)
    after = next(each for each in table() if each.name == row.name)
    result.append((row.name, row.value, after.value))
"""


@pytest.mark.usefixtures("root")
def test_the_commands_change_what_they_say(spawn: Callable[..., Any]) -> None:
    child = spawn(SYSCTLS, sandbox=Sandbox())
    child.wait()
    assert len(child.result) > 8
    assert [row for row in child.result if row[2] <= row[1]] == []


def test_the_command_prints_a_table_and_json(commands: Callable[..., Any]) -> None:
    shown, data, absent, wrong = commands(
        ["limits"],
        ["limits", "--json"],
        ["limits", "--pid", 2**22],
        ["limits", "--pid", "x"],
    )
    rows = json.loads(data[1])
    names = {row["name"] for row in rows}
    assert {*IN_PROC, "kernel.shmmax", "kernel.shmall", "RLIMIT_NOFILE", f"{SHM} size"} <= names
    assert re.search(
        r"^kernel\.msgmax +8K  bytes .*sysctl -w kernel\.msgmax=16384$", shown[1], re.M
    )
    assert len(shown[1].splitlines()) == len(rows) + 1
    assert (absent[0], absent[1]) == (1, "")
    assert "no such process" in absent[2]
    assert wrong[0] == 2


@pytest.mark.usefixtures("root")
def test_another_user_sees_limits_too(commands: Callable[..., Any]) -> None:
    [(status, out, _)] = commands(["limits", "--json"], user="nobody")
    assert status == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["kernel.msgmni"]["used"] is not None
    assert rows["RLIMIT_NOFILE"]["value"] is not None
