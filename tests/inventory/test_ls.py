"""`ipckit ls` and `stat`, compared with lsipc and /proc."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ipckit
from ipckit import (
    Channel,
    MemFd,
    PosixMessageQueue,
    PosixSemaphore,
    PosixSharedMemory,
    Topic,
    inventory,
)
from ipckit.testing import require

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

    Listed = Callable[..., dict[str, dict[str, Any]]]
    Run = Callable[..., subprocess.CompletedProcess[str]]

SYSV = """
from ipckit import SysVMessageQueue, SysVSemaphoreSet, SysVSharedMemory
from ipckit.testing import step
key, = args
queue = SysVMessageQueue.create(key, mode=0o640)
queue.send(b"some text")
queue.send(b"more", 7)
queue.receive()
segment = SysVSharedMemory.create(key, 10000, mode=0o604)
sets = SysVSemaphoreSet.create(key, [3, 1, 0], mode=0o660)
sets[0].acquire()
step.tell([queue.id, segment.id, sets.id])
step.hear()
for each in (queue, segment, sets):
    each.unlink()
    each.close()
"""


def lsipc(which: str) -> dict[int, dict[str, str | None]]:
    """All columns that lsipc has of a table, by identifier."""
    columns = {
        "-q": "KEY,ID,OWNER,PERMS,CUID,CUSER,CGID,CGROUP,UID,USER,GID,GROUP,CTIME,"
        "USEDBYTES,MSGS,SEND,RECV,LSPID,LRPID",
        "-m": "KEY,ID,OWNER,PERMS,CUID,CUSER,CGID,CGROUP,UID,USER,GID,GROUP,CTIME,"
        "SIZE,NATTCH,STATUS,ATTACH,DETACH,CPID,LPID",
        "-s": "KEY,ID,OWNER,PERMS,CUID,CUSER,CGID,CGROUP,UID,USER,GID,GROUP,CTIME,NSEMS,OTIME",
    }
    program = require("lsipc", package="util-linux")
    shown = subprocess.run(
        [program, "-J", "-b", "--time-format=iso", which, "-o", columns[which]],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TZ": "UTC"},
    ).stdout
    (rows,) = json.loads(shown).values()
    return {int(row["id"]): row for row in rows}


def moment(row: dict[str, str | None], column: str) -> int:
    """A time as lsipc tells it, in seconds since the epoch; 0 for never."""
    text = row[column]
    return int(dt.datetime.fromisoformat(text).timestamp()) if text else 0


def agree_on_common(row: dict[str, str | None], ours: dict[str, Any]) -> None:
    details = ours["details"]
    assert row["key"] == f"0x{ours['key']:08x}"
    assert row["id"] == str(ours["id"])
    assert row["owner"] == row["user"] == ours["owner"]
    assert row["group"] == ours["group"]
    assert (row["uid"], row["gid"]) == (str(ours["uid"]), str(ours["gid"]))
    assert (row["cuid"], row["cgid"]) == (str(details["cuid"]), str(details["cgid"]))
    assert row["perms"] == stat.filemode(ours["mode"])[1:]
    assert moment(row, "ctime") == ours["times"]["changed"] == details["ctime"]


def test_the_system_v_part_agrees_with_lsipc(
    ns: Namespace, spawn: Callable[..., Child], listed: Listed
) -> None:
    child = spawn(SYSV, ns.key())
    queue, segment, sets = child.hear()
    found = listed("--kind", "sysv")

    row, ours = lsipc("-q")[queue], found[f"q:{queue}"]
    agree_on_common(row, ours)
    assert (row["usedbytes"], row["msgs"]) == ("4", "1")
    assert (ours["used"]["bytes"], ours["used"]["messages"]) == (4, 1)
    assert moment(row, "send") == ours["times"]["sent"]
    assert moment(row, "recv") == ours["times"]["received"]
    assert [row["lspid"], row["lrpid"]] == [str(user["pid"]) for user in ours["users"]]

    row, ours = lsipc("-m")[segment], found[f"m:{segment}"]
    agree_on_common(row, ours)
    assert (row["size"], row["nattch"]) == ("10000", "1")
    assert (ours["size"], ours["used"]["attached"]) == (10000, 1)
    assert moment(row, "attach") == ours["times"]["attached"]
    assert moment(row, "detach") == ours["times"].get("detached", 0)
    assert row["cpid"] == str(ours["creator"]["pid"])
    assert row["lpid"] == str(ours["users"][0]["pid"])

    row, ours = lsipc("-s")[sets], found[f"s:{sets}"]
    agree_on_common(row, ours)
    assert (row["nsems"], ours["size"], ours["used"]["values"]) == ("3", 3, [2, 1, 0])
    assert moment(row, "otime") == ours["times"]["operated"]

    # The same objects, and no other.
    assert {f"q:{each}" for each in lsipc("-q")} == {each for each in found if each[0] == "q"}
    child.tell("end")


def test_holders_equal_those_that_proc_shows(
    ns: Namespace, spawn: Callable[..., Child], listed: Listed
) -> None:
    child = spawn(SYSV, ns.key())
    queue, segment, sets = child.hear()
    found = listed("--kind", "sysv")
    command = Path(f"/proc/{child.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    (holder,) = found[f"m:{segment}"]["holders"]
    assert holder == {
        "pid": child.pid,
        "command": b" ".join(command).decode(),
        "how": "attached",
        "alive": True,
    }
    maps = Path(f"/proc/{child.pid}/maps").read_text()
    assert re.search(rf" {segment} +/SYSV", maps)
    # A queue and a set are no descriptors: what is on record says who uses them.
    for address in (f"q:{queue}", f"s:{sets}"):
        assert found[address]["state"] == "used"
        assert {user["pid"] for user in found[address]["users"]} == {child.pid}
        assert found[address]["orphaned"] is False
        assert f"pid {child.pid}" in found[address]["reason"]
    child.tell("end")


@pytest.mark.parametrize("timeout", [None, 60])
def test_a_waiter_with_a_deadline_is_seen(
    ns: Namespace, spawn: Callable[..., Child], listed: Listed, timeout: float | None
) -> None:
    code = "with ipckit.SysVMessageQueue.open(args[0]) as queue: queue.receive(timeout=args[1])"
    with ipckit.SysVMessageQueue.create(ns.key()) as queue:
        child = spawn(f"import ipckit\n{code}", queue.key, timeout)
        child.wait_blocked("msgrcv" if timeout is None else "clock_nanosleep")
        ours = listed("--kind", "q")[f"q:{queue.id}"]
        assert [(each["pid"], each["how"]) for each in ours["holders"]] == [
            (child.pid, "waits in msgrcv")
        ]
        assert ours["state"] == "held"
        queue.send(b"")
        child.wait()


def test_a_waiter_on_a_semaphore_is_seen(
    ns: Namespace, spawn: Callable[..., Child], listed: Listed
) -> None:
    with ipckit.SysVSemaphoreSet.create(ns.key(), [1, 0]) as sets:
        code = "with ipckit.SysVSemaphoreSet.open(args[0]) as sets: sets[1].acquire()"
        child = spawn(f"import ipckit\n{code}", sets.key)
        child.wait_blocked("semop")
        ours = listed("--kind", "s")[f"s:{sets.id}"]
        assert [(each["pid"], each["how"]) for each in ours["holders"]] == [
            (child.pid, "waits in semop")
        ]
        sets[1].release()
        child.wait()


FILES = """
from ipckit import PosixMessageQueue, PosixSemaphore, PosixSharedMemory, MemFd, Abstract, listen
import os
from ipckit.testing import step
name, path = args
memory = PosixSharedMemory.create(name, 5000)
semaphore = PosixSemaphore.create(name, 3)
queue = PosixMessageQueue.create(name, max_messages=4, max_size=100)
queue.send(b"text")
memfd = MemFd.create("a label", 4096)
sockets = [listen(path), listen(Abstract(name))]
step.tell(os.fstat(memfd.fileno()).st_ino)
step.hear()
for each in (memory, semaphore, queue, sockets[0]):
    each.unlink()
for each in (memory, semaphore, queue, memfd, *sockets):
    each.close()
"""


def test_files_and_sockets_are_listed_with_their_holders(
    ns: Namespace, spawn: Callable[..., Child], listed: Listed, ipckit_run: Run
) -> None:
    name, path = ns.name(), str(ns.path())
    child = spawn(FILES, name, path)
    inode = child.hear()
    found = listed()
    addresses = {
        f"shm:{name}": 5000,
        f"sem:{name}": 32,
        f"mq:{name}": 400,
        f"memfd:{inode}": 4096,
        f"socket:{path}": None,
        f"socket:@{name}": None,
    }
    for address, size in addresses.items():
        ours = found[address]
        assert [each["pid"] for each in ours["holders"]] == [child.pid], address
        assert ours["size"] == size, address
        assert (ours["state"], ours["orphaned"]) == ("held", False), address
    assert found[f"shm:{name}"]["holders"][0]["how"].startswith(("mapped", "fd "))
    assert found[f"sem:{name}"]["holders"][0]["how"] == "mapped"
    assert found[f"sem:{name}"]["used"]["values"] == [3]
    assert found[f"mq:{name}"]["used"] == {
        "messages": 1,
        "bytes": 4,
        "attached": None,
        "values": None,
    }
    assert found[f"memfd:{inode}"]["name"] == "a label"
    assert found[f"socket:{path}"]["mode"] == stat.S_IMODE(Path(path).stat().st_mode)
    for address in addresses:
        shown = ipckit_run("stat", address)
        assert shown.returncode == 0, shown.stderr
        assert re.search(rf"^{child.pid} +(fd|mapped)", shown.stdout, re.MULTILINE), shown.stdout
    child.tell("end")


def test_every_object_is_listed_without_holders(ns: Namespace) -> None:
    with PosixSharedMemory.create(ns.name(), 10) as memory:
        found = inventory.survey(["posix-segment"], holders=False).objects
        (ours,) = [each for each in found if each.name == memory.name]
        assert (ours.state, ours.holders) == ("unknown", ())
        assert ours.unseen


def test_an_unlinked_segment_that_fills_dev_shm_is_shown(ns: Namespace, listed: Listed) -> None:
    memory = PosixSharedMemory.create(ns.name(), 4096)
    memory.unlink()
    ours = listed("--kind", "shm")[f"shm:{memory.name}"]
    assert ours["details"]["unlinked"] == 1
    assert ours["holders"][0]["pid"] == os.getpid()
    memory.close()
    assert f"shm:{memory.name}" not in listed("--kind", "shm")


@pytest.mark.parametrize(("kind", "prefix"), [("channel", "ipckit."), ("topic", "ipckit-topic.")])
def test_the_name_of_a_file_shows_its_kind(
    ns: Namespace, listed: Listed, kind: str, prefix: str
) -> None:
    name = ns.name()[1:]
    with PosixSharedMemory.create(f"/{prefix}{name}", 100) as file:
        ours = listed("--kind", kind)[f"{kind}:{name}"]
        assert (ours["kind"], ours["name"], ours["size"]) == (kind, name, 100)
        file.unlink()
        ours = listed("--kind", kind)[f"{kind}:{name}"]
        assert (ours["name"], ours["details"]["unlinked"]) == (name, 1)


def test_a_topic_and_a_channel_of_one_name(ns: Namespace, listed: Listed) -> None:
    name = ns.name()
    with (
        Channel.create(name, capacity=2, size=1000),
        Topic.create(name, capacity=2, size=1000),
        Topic.anonymous(capacity=2, size=1000) as anonymous,
    ):
        found = listed("--kind", "channel", "--kind", "topic", "--kind", "memfd")
        assert {f"channel:{name[1:]}", f"topic:{name[1:]}"} <= set(found)
        assert found[f"topic:{name[1:]}"]["holders"][0]["pid"] == os.getpid()
        memfd = found[f"memfd:{os.fstat(anonymous.memory_fd).st_ino}"]
        assert memfd["name"] == "ipckit-topic"
        assert memfd["holders"][0]["pid"] == os.getpid()


def test_the_filters(ns: Namespace, listed: Listed) -> None:
    semaphore = PosixSemaphore.create(ns.name())
    with (
        ipckit.SysVMessageQueue.create(ns.key()) as queue,
        PosixMessageQueue.create(ns.name()) as other,
        MemFd.create("filtered", 10),
    ):
        assert set(listed("--kind", "q")) == {f"q:{queue.id}"}
        assert set(listed("--kind", "queue")) == {f"q:{queue.id}", f"mq:{other.name}"}
        assert set(listed("--kind", "sem", "--kind", "q")) == {
            f"sem:{semaphore.name}",
            f"q:{queue.id}",
        }
        queue.chown(uid=65534)
        assert f"q:{queue.id}" not in listed("--mine")
        assert f"sem:{semaphore.name}" in listed("--mine")
        assert f"sem:{semaphore.name}" not in listed("--orphans", "--kind", "sem")
    semaphore.close()
    assert f"sem:{semaphore.name}" in listed("--orphans", "--kind", "sem")
    semaphore.unlink()


def test_a_table_is_for_awk_and_a_name_cannot_break_it(ns: Namespace, ipckit_run: Run) -> None:
    name = f"{ns.name()}\x1b[31m\nq:1"
    with PosixSharedMemory.create(name, 10):
        shown = ipckit_run("ls", "--kind", "shm", "--wide").stdout
        lines = shown.splitlines()
        assert lines[0].split()[:2] == ["OBJECT", "KIND"]
        assert "\x1b" not in shown
        assert len(lines) == len(inventory.survey(["posix-segment"]).objects) + 1
        assert "\\x1b[31m\\nq:1" in shown
