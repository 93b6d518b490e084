"""What the kernel keeps of a System V message queue: `stat`, and the calls that change it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import InvalidArgument, MessageTooLong, NotFound, SysVMessageQueue, WouldBlock
from ipckit.msgq import limits, list_queues, usage
from ipckit.testing import require

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace


@pytest.fixture
def queue(sysv_queue: SysVMessageQueue[bytes]) -> SysVMessageQueue[bytes]:
    return sysv_queue


# -- stat ------------------------------------------------------------------------------------------


def row_of(queue_id: int) -> dict[str, int]:
    """The queue's line in /proc/sysvipc/msg."""
    header, *rows = Path("/proc/sysvipc/msg").read_text().splitlines()
    for row in rows:
        values = dict(zip(header.split(), row.split(), strict=True))
        mode = values.pop("perms")
        if int(values["msqid"]) == queue_id:
            return {name: int(text) for name, text in values.items()} | {"perms": int(mode, 8)}
    raise LookupError(queue_id)


def test_stat_agrees_with_proc(queue: SysVMessageQueue[bytes]) -> None:
    for data in (b"one", b"four"):
        queue.send(data)
    queue.receive()
    queue.chmod(0o640)
    queue.chown(1234, 2345)
    stat = queue.stat()
    assert row_of(queue.id) == {
        "key": stat.key,
        "msqid": stat.id,
        "perms": stat.mode,
        "cbytes": stat.cbytes,
        "qnum": stat.qnum,
        "lspid": stat.lspid,
        "lrpid": stat.lrpid,
        "uid": stat.uid,
        "gid": stat.gid,
        "cuid": stat.cuid,
        "cgid": stat.cgid,
        "stime": stat.stime,
        "rtime": stat.rtime,
        "ctime": stat.ctime,
    }
    assert (stat.key, stat.id) == (queue.key, queue.id)
    assert (stat.cbytes, stat.qnum, stat.mode) == (4, 1, 0o640)
    assert (stat.uid, stat.gid, stat.cuid, stat.cgid) == (1234, 2345, os.geteuid(), os.getegid())
    assert stat.lspid == stat.lrpid == os.getpid()
    assert stat.qbytes == limits().msgmnb
    assert stat.seq == stat.id // 32768  # IPCMNI: the slot is what remains


def test_stat_agrees_with_ipcs(queue: SysVMessageQueue[bytes]) -> None:
    ipcs = require("ipcs", package="util-linux")
    queue.send(b"four")
    stat = queue.stat()
    shown = subprocess.run(
        [ipcs, "-q", "-i", str(queue.id)], check=True, capture_output=True, text=True
    ).stdout
    for text in (
        f"msqid={stat.id}",
        f"uid={stat.uid}",
        f"gid={stat.gid}",
        f"cuid={stat.cuid}",
        f"cgid={stat.cgid}",
        f"mode={stat.mode:#o}".replace("0o", "0"),
        f"cbytes={stat.cbytes}",
        f"qbytes={stat.qbytes}",
        f"qnum={stat.qnum}",
        f"lspid={stat.lspid}",
        f"lrpid={stat.lrpid}",
    ):
        assert text in shown.split()


def test_stat_of_a_fresh_queue_and_its_times(queue: SysVMessageQueue[bytes]) -> None:
    fresh = queue.stat()
    assert (fresh.stime, fresh.rtime, fresh.lspid, fresh.lrpid) == (0, 0, 0, 0)
    assert (fresh.qnum, fresh.cbytes) == (0, 0)
    # The kernel's clock of whole seconds is up to one tick late.
    assert abs(fresh.ctime - time.time()) < 60
    queue.send(b"x")
    sent = queue.stat()
    assert sent.stime >= fresh.ctime
    assert sent.rtime == 0
    queue.receive()
    assert queue.stat().rtime >= sent.stime


def test_len_counts_messages_and_stat_bytes(queue: SysVMessageQueue[bytes]) -> None:
    for size in (0, 1, 100):
        queue.send(b"x" * size)
    assert len(queue) == queue.stat().qnum == 3
    assert queue.stat().cbytes == 101


def test_limits_are_the_sysctls() -> None:
    for name in ("msgmax", "msgmnb", "msgmni"):
        assert getattr(limits(), name) == int(Path(f"/proc/sys/kernel/{name}").read_text())


def test_usage_and_list_agree_with_proc(queue: SysVMessageQueue[bytes]) -> None:
    with SysVMessageQueue.create() as other:
        queue.send(b"one")
        other.send(b"two")
        other.send(b"three")
        listed = {each.id: each for each in list_queues()}
        assert listed[queue.id] == queue.stat()
        assert listed[other.id] == other.stat()
        rows = Path("/proc/sysvipc/msg").read_text().splitlines()[1:]
        assert sorted(listed) == sorted(int(row.split()[1]) for row in rows)
        now = usage()
        assert now.queues == len(listed)
        assert now.messages == sum(each.qnum for each in listed.values())
        assert now.bytes == sum(each.cbytes for each in listed.values())


# -- changing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0, 0o400, 0o644, 0o777])
def test_chmod(queue: SysVMessageQueue[bytes], mode: int) -> None:
    queue.chmod(mode)
    assert queue.stat().mode == mode
    assert queue.stat().qbytes == limits().msgmnb


@pytest.mark.parametrize("mode", [-1, 0o1000, 2**40])
def test_chmod_out_of_range(queue: SysVMessageQueue[bytes], mode: int) -> None:
    with pytest.raises(InvalidArgument):
        queue.chmod(mode)
    assert queue.stat().mode == 0o600


@pytest.mark.usefixtures("root")
def test_chown(queue: SysVMessageQueue[bytes]) -> None:
    queue.chown(1234)
    queue.chown(gid=2**32 - 2)
    stat = queue.stat()
    assert (stat.uid, stat.gid, stat.mode) == (1234, 2**32 - 2, 0o600)
    queue.chown()
    assert queue.stat().uid == 1234


@pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**32, 2**64])
def test_chown_out_of_range(queue: SysVMessageQueue[bytes], number: int) -> None:
    before = queue.stat()
    with pytest.raises(InvalidArgument):
        queue.chown(number)
    with pytest.raises(InvalidArgument):
        queue.chown(gid=number)
    assert queue.stat() == before


@pytest.mark.parametrize("value", ["root", 1.0, b"1"])
def test_changes_of_a_wrong_type(queue: SysVMessageQueue[bytes], value: Any) -> None:
    with pytest.raises(TypeError):
        queue.chown(value)
    with pytest.raises(TypeError):
        queue.chmod(value)
    with pytest.raises(TypeError):
        queue.max_bytes = value


def test_max_bytes_limits_the_queue(queue: SysVMessageQueue[bytes]) -> None:
    queue.max_bytes = 10
    assert queue.max_bytes == queue.stat().qbytes == 10
    queue.send(b"ten bytes.")
    with pytest.raises(WouldBlock):
        queue.send(b"x", timeout=0)
    queue.max_bytes = 0
    with pytest.raises(WouldBlock):
        queue.send(b"", timeout=0)


@pytest.mark.parametrize("timeout", [0, None, 5.0])
def test_a_message_that_never_fits_fails_without_waiting(
    queue: SysVMessageQueue[bytes], timeout: float | None
) -> None:
    queue.max_bytes = 10
    with pytest.raises(MessageTooLong, match=r"11 bytes exceeds the queue's max_bytes \(10\)"):
        queue.send(b"11 bytes...", timeout=timeout)


@pytest.mark.parametrize("most", [-1, 2**63, 2**64])
def test_max_bytes_out_of_range_creates_no_queue(ns: Namespace, most: int) -> None:
    key = ns.key()
    with pytest.raises(InvalidArgument):
        SysVMessageQueue.create(key, max_bytes=most)
    with pytest.raises(NotFound):
        SysVMessageQueue.open(key)


@pytest.mark.usefixtures("root")
def test_only_the_privileged_raise_max_bytes_above_the_limit(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    most = limits().msgmnb
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.split("CapEff:")[1].split()[0], 16)
    if capabilities & 1 << 24:  # CAP_SYS_RESOURCE; containers' root often has it not
        with SysVMessageQueue.create(ns.key(), max_bytes=most + 1) as queue:
            assert queue.max_bytes == most + 1
    spawn(
        """
        from ipckit import LimitReached, NotFound, SysVMessageQueue
        key, most = args
        with SysVMessageQueue.create(key, max_bytes=most) as queue:
            try:
                queue.max_bytes = most + 1
            except LimitReached as exc:
                assert "kernel.msgmnb" in str(exc) and f"{most}" in str(exc), exc
                assert "sysctl" in exc.hint, exc
            else:
                raise AssertionError("no error")
            assert queue.max_bytes == most
        try:
            SysVMessageQueue.create(key, max_bytes=most + 1)
        except LimitReached:
            pass
        try:
            SysVMessageQueue.open(key)
        except NotFound:
            pass
        else:
            raise AssertionError("the failed create left a queue")
        """,
        ns.key(),
        most,
        user="nobody",
        imports=["ipckit"],
    ).wait()
