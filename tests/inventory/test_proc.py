"""`Processes`, with a /proc directory that the test writes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ipckit._inventory import processes
from ipckit._inventory.processes import Processes

if TYPE_CHECKING:
    from pathlib import Path

STAT = (
    "{pid} ({name}) S 1 7 7 0 -1 {flags} 0 0 0 0 1 2 0 0 20 0 1 0 99000 1000000 200 0 0 0 0 0 0 0 "
    "0 0 0 0 0 0 17 0 0\n"
)
SYSV = "7f00-7f01 rw-s 00000000 00:01 5      /SYSV000004d2 (deleted)\n"
OURS, OTHER = "ipc:[1]", "ipc:[2]"
pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="its call numbers")


def process(
    proc: Path,
    pid: int,
    *,
    maps: str = "",
    syscall: str = "running\n",
    namespace: str = OURS,
    flags: int = 4194560,
    uids: str = "0\t0\t0\t0",
) -> None:
    base = proc / str(pid)
    for directory in ("fd", "ns", f"task/{pid}"):
        (base / directory).mkdir(parents=True)
    (base / "stat").write_text(STAT.format(pid=pid, name=f"program {pid}", flags=flags))
    (base / "cmdline").write_bytes(b"/bin/program\0-v\0" if pid % 2 else b"")
    (base / "maps").write_text(maps)
    (base / "status").write_text(f"Name:\tprogram\nUid:\t{uids}\nGid:\t0\t0\t0\t0\n")
    (base / f"task/{pid}/syscall").write_text(syscall)
    (base / "ns/ipc").symlink_to(namespace)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/ipc").symlink_to(OURS)
    (tmp_path / "self/ns/pid").symlink_to("pid:[4026531836]")
    (tmp_path / "uptime").touch()
    return tmp_path


def test_attached_and_waiting_processes_are_found(proc: Path) -> None:
    process(proc, 11, maps=SYSV)
    process(proc, 12, syscall="70 0x8 0x7ffc 0x448 0x0 0x0 0x0 0x1 0x2\n")
    process(proc, 13, syscall="65 0x8 0x7ffc 0x1 0x0 0x0 0x0 0x1 0x2\n")
    found = Processes(proc)
    assert [(each.pid, each.command, each.how) for each in found.attached(5)] == [
        (11, "/bin/program -v", "attached")
    ]
    assert [(each.pid, each.command) for each in found.waiting("sysv-queue", 8)] == [
        (12, "[program 12]")
    ]
    assert [each.pid for each in found.waiting("sysv-semaphores", 8)] == [13]
    assert found.attached(8) == found.waiting("sysv-queue", 5) == ()


def test_the_same_number_in_another_ipc_namespace_is_another_object(proc: Path) -> None:
    wait = "70 0x8 0x7ffc 0x448 0x0 0x0 0x0 0x1 0x2\n"
    process(proc, 11, maps=SYSV, syscall=wait, namespace=OTHER)
    found = Processes(proc)
    assert set(found.stats) == {11}
    assert found.attached(5) == found.waiting("sysv-queue", 8) == ()


def test_kernel_threads_hold_nothing(proc: Path) -> None:
    process(proc, 11, flags=0x00208040)
    assert Processes(proc).stats == {}


def test_what_a_descriptor_holds(proc: Path) -> None:
    process(proc, 11)
    (proc / "11/fd/3").symlink_to("socket:[700]")
    (proc / "11/fd/4").symlink_to("pipe:[701]")
    (proc / "11/fd/5").symlink_to("socket:[700]")
    found = Processes(proc)
    assert dict(found.sockets) == {700: {11: ["fd 3", "fd 5"]}} or dict(found.sockets) == {
        700: {11: ["fd 5", "fd 3"]}
    }
    assert found.files == {}


def test_possible_creators_of_a_queue(proc: Path) -> None:
    process(proc, 1)  # the machine's init
    program = "55d0-55d1 r-xp 00000000 fe:00 9   /no/such/program\n"
    process(proc, 11, maps=program)
    process(proc, 12, maps="55d0-55d1 r-xp 00000000 fe:00 8   /usr/lib/libc.so.6\n")
    process(
        proc, 13, maps="55d0-55d1 r-xp 00000000 fe:00 9   /no/such/program\n", uids="7\t7\t7\t7"
    )
    process(proc, 14, maps="55d0-55d1 r-xp 00000000 fe:00 9   /no/such/program\n", namespace=OTHER)
    found = Processes(proc)
    after_boot = found.started(11) + 10
    assert found.possible_creators(0, after_boot, "msgget") == [11]
    assert found.possible_creators(7, after_boot, "msgget") == [13]
    assert found.possible_creators(0, after_boot - 20, "msgget") == []


def test_processes_that_cannot_be_read_are_reported(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(proc, 11)
    process(proc, 12, syscall="0 0x0 0x0 0x0 0x0 0x0 0x0 0x1 0x2\n")
    from ipckit._inventory import processes as module  # noqa: PLC0415 - the module itself is changed

    real = module.read

    def closed(path: str) -> bytes:
        if path.endswith("/12/maps"):
            raise PermissionError(path)
        return real(path)

    monkeypatch.setattr(module, "read", closed)
    found = Processes(proc)
    assert found.denied == found.uninspected == [12]
    assert found.complete is False
    assert "process 12" in found.unseen[0]
    assert found.may_wait(frozenset({0}), 0o600) == [12]
    assert found.may_wait(frozenset({5}), 0o600) == [12]  # root may always
    assert found.may_wait(frozenset({5}), 0o666) == [12]


def test_a_thread_that_runs_in_every_sample_may_be_waiting(proc: Path) -> None:
    process(proc, 11, maps="55d0-55d1 r-xp 00000000 fe:00 9   /no/such/program\n")
    process(proc, 12, maps="55d0-55d1 r-xp 00000000 fe:00 8   /usr/lib/libc.so.6\n")
    found = Processes(proc)
    assert found.busy == {11}  # the other calls nothing that waits on a queue
    assert found.may_wait(frozenset({0}), 0o600) == [11]


@pytest.mark.parametrize(
    ("mounts", "hidden"),
    [
        ("23 22 0:22 / /proc rw - proc proc rw\n", False),
        ("23 22 0:22 / /proc rw - proc proc rw,hidepid=0\n", False),
        ("23 22 0:22 / /proc rw - proc proc rw,hidepid=off\n", False),
        ("23 22 0:22 / /proc rw - proc proc rw,hidepid=2\n", True),
        ("23 22 0:22 / /proc rw - proc proc rw,hidepid=invisible,subset=pid\n", True),
        (
            "23 22 0:22 / /proc rw - proc proc rw,hidepid=2\n24 23 0:9 / /proc rw - proc a rw\n",
            False,
        ),
        ("24 22 0:24 / /a\x0cb - proc hidepid=2 rw - fuse x rw\n", False),
        ("", False),
    ],
)
def test_whether_proc_hides_processes(
    mounts: str, *, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "read", lambda _path: mounts.encode())
    assert processes.hides_processes() is hidden
