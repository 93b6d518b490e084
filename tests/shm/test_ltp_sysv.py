"""The behaviour that the Linux Test Project's tests of System V shared memory pin down, seen
through ipckit.

Each test names its row: of testcases/kernel/syscalls.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import (
    AccessDenied,
    AlreadyExists,
    ClosedHandle,
    InvalidArgument,
    LimitReached,
    NotFound,
    Removed,
    _native,
)
from ipckit.shm import (
    MappedFile,
    SysVSharedMemory,
    list_segments,
    memory_limits,
    memory_usage,
)
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

PAGE = mmap.PAGESIZE


@pytest.fixture
def segment(ns: Namespace) -> Any:
    with SysVSharedMemory.create(ns.key(), 2 * PAGE) as made:
        yield made


def as_nobody(spawn: Callable[..., Child], code: str, *args: object) -> Any:
    """What each of some expressions gives to another user: a value, or the error's class."""
    source = f"""
    from ipckit import IpcError
    from ipckit.shm import MappedFile, PosixSharedMemory, SysVSharedMemory, list_segments
    from ipckit.shm import memory_usage

    def tried(call):
        try:
            found = call()
        except IpcError as exc:
            return type(exc).__name__, exc.errno
        if hasattr(found, "close"):
            found.close()
            return "open", 0
        return found

    result = [tried(call) for call in ({code})]
    """
    return spawn(source, *args, user="nobody").result


# -- shmget ----------------------------------------------------------------------------------------


def test_shmget02_errors(ns: Namespace, segment: SysVSharedMemory) -> None:
    key, shmmax = segment.key or 0, memory_limits().shmmax
    with pytest.raises(NotFound):
        SysVSharedMemory.open(ns.key())
    with pytest.raises(AlreadyExists):
        SysVSharedMemory.create(key, PAGE)
    with pytest.raises(InvalidArgument):
        SysVSharedMemory.create(ns.key(), 0)
    with pytest.raises(InvalidArgument, match="were requested"):
        SysVSharedMemory.open_or_create(key, 2 * PAGE + 1)
    if shmmax < 2**62:
        with pytest.raises(LimitReached, match="shmmax"):
            SysVSharedMemory.create(ns.key(), shmmax + 1)


@pytest.mark.usefixtures("root")
def test_shmget02_above_shmmax(spawn: Callable[..., Child]) -> None:
    child = spawn(
        """
        from ipckit import LimitReached
        from ipckit.shm import SysVSharedMemory
        SysVSharedMemory.create(size=8192).__exit__(None, None, None)
        try:
            SysVSharedMemory.create(size=8193)
        except LimitReached as exc:
            result = str(exc)
        """,
        sandbox=Sandbox(sysctls={"kernel.shmmax": 8192}),
    )
    assert "8,193 bytes exceed kernel.shmmax (8192)" in child.result


@pytest.mark.usefixtures("root")
def test_shmget03_no_more_segments(spawn: Callable[..., Child]) -> None:
    child = spawn(
        """
        import contextlib
        from ipckit import LimitReached
        from ipckit.shm import SysVSharedMemory
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(SysVSharedMemory.create(size=1))
            try:
                SysVSharedMemory.create(size=1)
            except LimitReached as exc:
                result = str(exc), exc.errno
        """,
        sandbox=Sandbox(sysctls={"kernel.shmmni": 4}),
    )
    text, code = child.result
    assert "kernel.shmmni (4)" in text
    assert code == errno.ENOSPC


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("mode", [0o600, 0o000])
def test_shmget04_no_permission(ns: Namespace, spawn: Callable[..., Child], mode: int) -> None:
    with SysVSharedMemory.create(ns.key(), PAGE, mode=mode) as memory:
        code = "lambda: SysVSharedMemory.open(args[0]), "
        code += "lambda: SysVSharedMemory.open(args[0], readonly=True)"
        seen = as_nobody(spawn, code, int(memory.key or 0))
    assert seen == [("AccessDenied", errno.EACCES)] * 2


@pytest.mark.usefixtures("root")
def test_shmget05_06_the_next_id(spawn: Callable[..., Child]) -> None:
    child = spawn(
        """
        from pathlib import Path
        from ipckit.shm import SysVSharedMemory
        wanted = Path("/proc/sys/kernel/shm_next_id")
        with SysVSharedMemory.create(size=1) as first:
            wanted.write_text(str(first.id + 100))
            with SysVSharedMemory.create(size=1) as second:
                reset = wanted.read_text().strip()
                wanted.write_text(str(second.id))
                with SysVSharedMemory.create(size=1) as third:
                    result = second.id - first.id, reset, third.id != second.id
        """,
        sandbox=Sandbox(sysctls={"kernel.shmmni": 100}),
    )
    assert child.result == (100, "-1", True)


# -- shmat, shmdt ----------------------------------------------------------------------------------


def test_shmat01_where_and_how(segment: SysVSharedMemory) -> None:
    hole = MappedFile.anonymous(4 * PAGE)
    free = hole.address
    hole.close()
    key = segment.key or 0
    with SysVSharedMemory.open(key, address=free) as memory:
        assert memory.address == free
    with SysVSharedMemory.open(key, address=free + PAGE - 1, round_down=True) as memory:
        assert memory.address == free
    with SysVSharedMemory.open(key, readonly=True) as memory, pytest.raises(AccessDenied):
        memory.write(b"x")  # where C would be killed by SIGSEGV


def test_shmat02_errors(segment: SysVSharedMemory) -> None:
    with pytest.raises(NotFound):
        SysVSharedMemory.from_id(2**31 - 1)
    with pytest.raises(InvalidArgument, match="multiple of the page size"):
        SysVSharedMemory.open(segment.key or 0, address=segment.address + 10 * PAGE + 1)


@pytest.mark.usefixtures("root")
def test_shmat02_no_permission(spawn: Callable[..., Child], segment: SysVSharedMemory) -> None:
    assert as_nobody(spawn, "lambda: SysVSharedMemory.from_id(args[0]),", segment.id) == [
        ("AccessDenied", errno.EACCES)
    ]
    segment.chmod(0o604)
    code = "lambda: SysVSharedMemory.from_id(args[0]), "
    code += "lambda: SysVSharedMemory.from_id(args[0], readonly=True)"
    seen = as_nobody(spawn, code, segment.id)
    assert seen == [("AccessDenied", errno.EACCES), ("open", 0)]


@pytest.mark.parametrize("round_down", [0, 1])
def test_shmat03_nothing_replaces_the_nil_page(segment: SysVSharedMemory, round_down: int) -> None:
    for address in (None, 0, 1, PAGE - 1):
        with pytest.raises(InvalidArgument):
            SysVSharedMemory.open(
                segment.key or 0, address=address, remap=True, round_down=bool(round_down)
            )
        with pytest.raises((ValueError, TypeError, OSError)):
            _native.shmat(
                segment.id, address or 0, _native.SHM_REMAP | _native.SHM_RND * round_down, None
            )


def test_shmat04_protection_splits_leak_no_attach(segment: SysVSharedMemory) -> None:
    other = SysVSharedMemory.from_id(segment.id)
    for protection in (0, 1, 3, 1):
        _native.mprotect(other._mapping, protection)
        _native.madvise(other._mapping, 0, PAGE, mmap.MADV_DONTDUMP)
    other.close()
    assert segment.attached == 1


def test_shmdt01_nothing_touches_what_is_detached(segment: SysVSharedMemory) -> None:
    other = SysVSharedMemory.from_id(segment.id)
    other.close()
    for call in (other.read, lambda: other.buf, lambda: other.write(b"x")):
        with pytest.raises(ClosedHandle):
            call()
    assert segment.stat().nattch == 1


def test_shmdt02_detaching_twice_is_nothing(segment: SysVSharedMemory) -> None:
    other = SysVSharedMemory.from_id(segment.id)
    other.close()
    other.close()
    other._mapping.close()
    assert segment.attached == 1


# -- shmctl ----------------------------------------------------------------------------------------


def test_shmctl01_attaches_are_counted_across_forks(segment: SysVSharedMemory) -> None:
    assert segment.attached == 1
    hold, held = os.pipe(), os.pipe()
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            os.close(hold[1])
            own = SysVSharedMemory.from_id(segment.id)
            os.write(held[1], b"x")
            os.read(hold[0], 1)
            own.close()
            os._exit(0)
        children.append(pid)
    for _ in children:
        os.read(held[0], 1)
    assert segment.attached == 1 + 4 * 2
    for end in (*hold, *held):
        os.close(end)
    for pid in children:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    stat = segment.stat()
    assert (stat.nattch, stat.lpid in children, stat.cpid) == (1, True, os.getpid())


def test_shmctl02_errors(ns: Namespace) -> None:
    with SysVSharedMemory.create(ns.key(), PAGE) as memory:
        memory.unlink()
    for call in (memory.stat,):
        with pytest.raises(Removed):
            call()
    with pytest.raises(NotFound):
        memory.unlink()
    with pytest.raises(NotFound):
        SysVSharedMemory.from_id(memory.id)
    with pytest.raises(ValueError, match="command is"):
        _native.shm_control(0, 99)


@pytest.mark.usefixtures("root")
def test_shmctl02_no_permission(segment: SysVSharedMemory, spawn: Callable[..., Child]) -> None:
    segment.chmod(0o666)
    source = """
    from ipckit import IpcError
    from ipckit.shm import SysVSharedMemory
    result = []
    with SysVSharedMemory.from_id(args[0]) as memory:
        for name, *given in (("unlink",), ("chmod", 0o600), ("chown", 0), ("lock",), ("unlock",)):
            try:
                getattr(memory, name)(*given)
            except IpcError as exc:
                result.append((name, type(exc).__name__, exc.errno))
    """
    seen = spawn(source, segment.id, user="nobody").result
    names = ("unlink", "chmod", "chown", "lock", "unlock")
    assert seen == [(name, "AccessDenied", errno.EPERM) for name in names]
    segment.chmod(0o600)
    seen = as_nobody(spawn, "lambda: [each.id for each in list_segments()],")
    assert segment.id in seen[0]  # SHM_STAT_ANY asks for no right


def test_shmctl03_the_limits_are_proc_s() -> None:
    for name, value in (
        ("shmmax", memory_limits().shmmax),
        ("shmmni", memory_limits().shmmni),
        ("shmall", memory_limits().shmall),
    ):
        assert value == int(Path(f"/proc/sys/kernel/{name}").read_text())


@pytest.mark.usefixtures("root")
def test_shmctl04_all_segments_are_proc_s(
    segment: SysVSharedMemory, spawn: Callable[..., Child]
) -> None:
    names, *rows = (line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines())
    table = {int(row[1]): dict(zip(names, row, strict=True)) for row in rows}
    found = {each.id: each for each in list_segments()}
    assert found.keys() == table.keys() >= {segment.id}
    for id_, each in found.items():
        row = table[id_]
        assert (each.segsz, each.nattch, each.cpid) == tuple(
            int(row[name]) for name in ("size", "nattch", "cpid")
        )
    usage = memory_usage()
    assert usage.segments == len(table)
    assert usage.resident == sum(int(row["rss"]) for row in table.values()) // PAGE
    code = "lambda: [each.id for each in list_segments()], lambda: memory_usage().segments"
    assert as_nobody(spawn, code) == [list(found), len(found)]


def test_shmctl06_times_are_of_64_bits(segment: SysVSharedMemory) -> None:
    stat = segment.stat()
    assert max(stat.atime, stat.dtime, stat.ctime) < 2**32


def test_shmctl07_lock_and_unlock_turn_the_flag(segment: SysVSharedMemory) -> None:
    for _ in range(2):
        segment.lock()
        assert segment.stat().locked
        segment.unlock()
        assert not segment.stat().locked


def test_shmctl08_set_changes_mode_and_time(segment: SysVSharedMemory) -> None:
    before = segment.stat()
    segment.chmod(0o644)
    after = segment.stat()
    assert (after.mode, after.ctime >= before.ctime, after.nattch) == (0o644, True, 1)
