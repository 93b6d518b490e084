"""What only System V segments have."""

from __future__ import annotations

import gc
import mmap
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipckit import InvalidArgument, LimitReached, NotFound, Removed
from ipckit.shm import MappedFile, SysVSharedMemory, list_segments, memory_limits, memory_usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

PAGE = mmap.PAGESIZE


def proc(segment: int) -> dict[str, int]:
    """The segment's row of /proc/sysvipc/shm."""
    names, *rows = (line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines())
    found = [dict(zip(names, row, strict=True)) for row in rows if row[1] == str(segment)]
    return {name: int(text, 8 if name == "perms" else 10) for name, text in found[0].items()}


def test_stat_is_what_the_kernel_shows_elsewhere(ns: Namespace) -> None:
    before = int(time.time() - 0.1)
    with SysVSharedMemory.create(ns.key(), 5000, mode=0o640) as memory:
        stat, row = memory.stat(), proc(memory.id)
        assert (stat.id, stat.key) == (row["shmid"], row["key"]) == (memory.id, memory.key)
        assert (stat.segsz, stat.nattch) == (row["size"], row["nattch"]) == (5000, 1)
        assert (stat.uid, stat.gid, stat.cuid, stat.cgid) == tuple(
            row[name] for name in ("uid", "gid", "cuid", "cgid")
        )
        assert (stat.mode, stat.cpid, stat.lpid) == (0o640, os.getpid(), os.getpid())
        assert (row["perms"] & 0o777, row["cpid"], row["lpid"]) == (0o640, os.getpid(), os.getpid())
        assert (stat.atime, stat.dtime, stat.ctime) == (row["atime"], row["dtime"], row["ctime"])
        assert before <= stat.ctime <= stat.atime <= time.time()
        assert (stat.dtime, stat.destroyed, stat.locked) == (0, False, False)
        assert stat in list_segments()
        SysVSharedMemory.from_id(memory.id).close()
        assert memory.stat().dtime >= stat.atime
        memory.unlink()
        gone = memory.stat()
        assert (gone.destroyed, gone.key) == (True, 0)
    with pytest.raises(Removed):
        memory.stat()
    assert memory.attached == 0


def test_every_attach_is_counted_and_given_back(ns: Namespace) -> None:
    with SysVSharedMemory.create(ns.key(), 5000) as memory:
        others = [SysVSharedMemory.from_id(memory.id) for _ in range(3)]
        assert memory.attached == 4
        array = others[0].array("u1")
        for other in others:
            other.close()
        assert memory.attached == 2
        ring: list[object] = [array]
        ring.append(ring)
        del array, ring
        gc.collect()
        assert memory.attached == 1
        (hear, tell), (hear_parent, tell_child) = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            try:  # an exception must end the child, which would go on as a second run of the tests
                os.write(tell, b"x")
                os.read(hear_parent, 1)
                memory.close()
                os.write(tell, b"x")
                os.read(hear_parent, 1)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(tell)  # if the child fails, the read ends instead of waiting
        for expected in (2, 1):
            assert os.read(hear, 1) == b"x"
            assert memory.attached == expected
            os.write(tell_child, b"x")
        assert os.waitpid(pid, 0)[1] == 0
        for end in (hear, hear_parent, tell_child):
            os.close(end)


def test_a_failed_attach_leaves_none(ns: Namespace) -> None:
    with SysVSharedMemory.create(ns.key(), 5000) as memory:
        for options in (
            {"address": 12345},
            {"address": memory.address},
            {"address": memory.address, "remap": True},
            {"remap": True},
        ):
            with pytest.raises(InvalidArgument):
                SysVSharedMemory.open(memory.key or 0, **options)  # type: ignore[arg-type]
        assert memory.attached == 1


def test_an_unlinked_segment_is_found_by_id_alone(ns: Namespace) -> None:
    key = ns.key()
    with SysVSharedMemory.create(key, 5000) as memory:
        memory.write(b"hello")
        memory.unlink()
        with pytest.raises(NotFound):
            SysVSharedMemory.open(key)
        with SysVSharedMemory.from_id(memory.id) as other:
            assert (other.read(5), other.key, other.owner) == (b"hello", None, False)
            with SysVSharedMemory.create(key, 100) as fresh:
                assert fresh.id != memory.id
    with pytest.raises(NotFound):
        SysVSharedMemory.from_id(memory.id)


def test_a_crash_leaves_no_segment_that_was_unlinked_after_attach(
    spawn: Callable[..., Child],
) -> None:
    child = spawn(
        """
        from ipckit.shm import SysVSharedMemory
        from ipckit.testing import step
        memory = SysVSharedMemory.create(size=5000, unlink_after_attach=True)
        memory.write(b"hello")
        step.tell((memory.id, memory.key, memory.owner))
        step.hear()
        """
    )
    segment, key, owner = child.hear()
    assert (key, owner) == (None, False)
    with SysVSharedMemory.from_id(segment) as memory:
        child.kill()
        assert (memory.read(5), memory.attached) == (b"hello", 1)
    with pytest.raises(NotFound):
        SysVSharedMemory.from_id(segment)


def test_lock_and_unlock(ns: Namespace) -> None:
    with SysVSharedMemory.create(ns.key(), PAGE) as memory:
        memory.lock()
        assert memory.stat().locked
        memory.unlock()
        assert not memory.stat().locked


@pytest.mark.usefixtures("root")
def test_too_much_to_lock_names_the_limit(spawn: Callable[..., Child]) -> None:
    for limit in (0, 2 * PAGE):
        child = spawn(
            f"""
            import resource
            resource.setrlimit(resource.RLIMIT_MEMLOCK, ({limit}, {limit}))
            from ipckit import IpcError
            from ipckit.shm import SysVSharedMemory
            with SysVSharedMemory.create(size={64 * PAGE}) as memory:
                try:
                    memory.lock()
                except IpcError as exc:
                    result = type(exc).__name__, str(exc)
            """,
            user="nobody",
        )
        name, text = child.result
        assert name == LimitReached.__name__
        assert f"RLIMIT_MEMLOCK ({limit})" in text
    assert resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != 0


def test_chmod_and_chown(ns: Namespace) -> None:
    with SysVSharedMemory.create(ns.key(), PAGE) as memory:
        before = memory.stat()
        memory.chmod(0o604)
        memory.chown()
        stat = memory.stat()
        assert (stat.mode, stat.uid, stat.gid) == (0o604, before.uid, before.gid)
        assert stat.ctime >= before.ctime
        for wrong in (-1, 0o1000):
            with pytest.raises(InvalidArgument):
                memory.chmod(wrong)
            with pytest.raises(InvalidArgument):
                memory.chown(uid=-1 if wrong < 0 else 2**32)
        if os.geteuid() == 0:
            memory.chown(1234, 5678)
            stat = memory.stat()
            assert (stat.uid, stat.gid, stat.cuid) == (1234, 5678, 0)


def test_an_address_is_a_wish(ns: Namespace) -> None:
    hole = MappedFile.anonymous(8 * PAGE)
    free = hole.address
    hole.close()
    with SysVSharedMemory.create(ns.key(), PAGE) as memory:
        key = memory.key or 0
        with SysVSharedMemory.open(key, address=free) as other:
            assert other.address == free
        with SysVSharedMemory.open(key, address=free + 5, round_down=True) as other:
            assert other.address == free
        for wrong in (0, -PAGE, 1, PAGE - 1, 2**63, free + 5):
            with pytest.raises(InvalidArgument):
                SysVSharedMemory.open(key, address=wrong)
        assert memory.attached == 1


def test_remap_takes_the_place_of_a_mapping_that_nobody_looks_at(ns: Namespace) -> None:
    with SysVSharedMemory.create(ns.key(), 2 * PAGE) as memory, MappedFile.anonymous(PAGE) as small:
        key = memory.key or 0
        hole = MappedFile.anonymous(2 * PAGE)
        place, view = hole.address, hole.buf
        for wrong in (place, small.address, memory.address):
            with pytest.raises(InvalidArgument):
                SysVSharedMemory.open(key, address=wrong, remap=True)
        view[0] = 1
        view.release()
        memory.write(b"hello")
        with SysVSharedMemory.open(key, address=place, remap=True) as other:
            assert hole.closed
            assert (other.address, other.read(5)) == (place, b"hello")
            hole.close()
            assert other.read(5) == b"hello"
        assert small.read(1) == b"\0"


def test_ids_and_keys_out_of_range(ns: Namespace) -> None:
    for wrong in (-1, 2**31, 2**40):
        with pytest.raises(InvalidArgument):
            SysVSharedMemory.from_id(wrong)
    with pytest.raises(NotFound):
        SysVSharedMemory.from_id(2**31 - 1)
    with pytest.raises(InvalidArgument):
        SysVSharedMemory.create(2**40, 1)
    assert ns.key() > 0


def test_the_limits_and_what_is_used(ns: Namespace) -> None:
    limits, before = memory_limits(), memory_usage()
    for name in ("shmmax", "shmmni", "shmall"):
        text = Path(f"/proc/sys/kernel/{name}").read_text()
        assert getattr(limits, name) == int(text)
    with SysVSharedMemory.create(ns.key(), 3 * PAGE + 1) as memory:
        memory.write(b"x" * memory.size)
        after = memory_usage()
        assert after.segments == before.segments + 1 == len(list_segments())
        assert after.pages == before.pages + 4
        assert after.resident == before.resident + 4
