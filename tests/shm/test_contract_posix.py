"""What only POSIX shared memory has: a full /dev/shm, half-made objects, other sizes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import posix_ipc
import pytest

from ipckit import AccessDenied, InvalidArgument, IpcError, NotFound, Timeout
from ipckit.shm import PosixSharedMemory
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace


def half_made(name: str) -> int:
    """An object whose maker has not given it its size yet."""
    return int(posix_ipc.SharedMemory(name, posix_ipc.O_CREX).fd)


@pytest.mark.usefixtures("root")
def test_a_full_file_system_is_an_error_and_leaves_no_name(spawn: Callable[..., Child]) -> None:
    child = spawn(
        """
        import errno, os
        from ipckit import LimitReached
        from ipckit.shm import MappedFile, PosixSharedMemory

        def refused(call):
            try:
                call()
            except LimitReached as exc:
                return exc.errno == errno.ENOSPC, str(exc)
            return False, "no error"

        seen = [
            refused(lambda: PosixSharedMemory.create("/big", 16 << 20)),
            refused(lambda: PosixSharedMemory.open_or_create("/big", 16 << 20)),
            refused(lambda: MappedFile.create("/dev/shm/file", 16 << 20)),
        ]
        left = os.listdir("/dev/shm")
        with PosixSharedMemory.create("/grows", 4 << 20) as memory:
            memory.write(b"x" * memory.size)
            seen.append(refused(lambda: memory.resize(12 << 20)))
            with PosixSharedMemory.create("/next", (4 << 20) - 4096) as other:
                other.write(b"x" * other.size)
            kept = memory.size, memory.read() == b"x" * (4 << 20)
        result = seen, left, kept
        """,
        sandbox=Sandbox(ipc=False, shm_size="8m"),
    )
    seen, left, kept = child.result
    assert all(good for good, _ in seen), seen
    assert left == []
    assert "16,777,216 bytes: 8,388,608 are free" in seen[0][1]
    assert "--shm-size" in seen[0][1]
    assert "12,582,912 bytes: 4,194,304 are free" in seen[3][1]
    assert kept == (4 << 20, True)


def test_who_meets_a_half_made_object_waits_until_its_deadline(ns: Namespace) -> None:
    name = ns.name()
    fd = half_made(name)
    for timeout in (0, 0.01):
        with pytest.raises(Timeout, match="its creator is slow, or died"):
            PosixSharedMemory.open(name, timeout=timeout)
        with pytest.raises(Timeout):
            PosixSharedMemory.open_or_create(name, 100, timeout=timeout)
    os.close(fd)
    posix_ipc.unlink_shared_memory(name)


WAIT = """
    from ipckit import NotFound
    from ipckit.shm import PosixSharedMemory
    from ipckit.testing import step
    name, make = args
    step.tell("ready")
    try:
        if make:
            memory = PosixSharedMemory.open_or_create(name, 100, timeout=None)
        else:
            memory = PosixSharedMemory.open(name, timeout=None)
    except NotFound as exc:
        result = str(exc)
    else:
        with memory:
            result = memory.size, memory.owner
"""


@pytest.mark.parametrize("make", [0, 1])
def test_the_maker_finishes(ns: Namespace, spawn: Callable[..., Child], make: int) -> None:
    name = ns.name()
    fd = half_made(name)
    child = spawn(WAIT, name, make)
    child.expect("ready")
    child.wait_blocked("clock_nanosleep")
    os.posix_fallocate(fd, 0, 5000)
    assert child.result == (5000, False)
    os.close(fd)
    posix_ipc.unlink_shared_memory(name)


def test_the_maker_gives_up(ns: Namespace, spawn: Callable[..., Child]) -> None:
    name, other = ns.name(), ns.name()
    fds = [half_made(name), half_made(other)]
    opener, maker = spawn(WAIT, name, 0), spawn(WAIT, other, 1)
    for child in (opener, maker):
        child.expect("ready")
        child.wait_blocked("clock_nanosleep")
    posix_ipc.unlink_shared_memory(name)
    posix_ipc.unlink_shared_memory(other)
    assert "its creator failed" in opener.result
    assert maker.result == (100, True)
    for fd in fds:
        os.close(fd)


def test_growing_keeps_the_bytes_and_adds_zeros(ns: Namespace) -> None:
    with PosixSharedMemory.create(ns.name(), 5000) as memory:
        array = memory.array("u1")
        memory.write(b"x" * 5000)
        with PosixSharedMemory.open(str(memory.name)) as other:
            memory.resize(20000)
            assert memory.size == len(memory.buf) == 20000
            assert memory.read() == b"x" * 5000 + bytes(15000)
            assert other.size == 5000
            other.refresh()
            assert other.size == 20000
            other.write(b"!", 19999)
            other.refresh()
        assert memory.read(1, 19999) == b"!"
        memory.write(b"y")
        assert (array[0], len(array)) == (ord("y"), 5000)
        memory.resize(20000)


def test_nothing_shrinks_unless_it_is_told_to(ns: Namespace) -> None:
    with PosixSharedMemory.create(ns.name(), 20000) as memory:
        memory.write(b"x" * 20000)
        with pytest.raises(InvalidArgument, match="SIGBUS"):
            memory.resize(19999)
        array = memory.array("u1", 100)
        with pytest.raises(IpcError) as caught:
            memory.resize(5000, shrink=True)
        assert caught.value.errno == errno.EBUSY
        assert memory.read() == b"x" * 20000
        del array
        memory.resize(5000, shrink=True)
        assert memory.size == Path(f"/dev/shm{memory.name}").stat().st_size == 5000  # noqa: S108
        memory.resize(20000)
        assert memory.read() == b"x" * 5000 + bytes(15000)
        for wrong in (0, -1):
            with pytest.raises(InvalidArgument):
                memory.resize(wrong, shrink=True)


def test_a_read_only_handle_resizes_nothing(ns: Namespace) -> None:
    with (
        PosixSharedMemory.create(ns.name(), 5000) as memory,
        PosixSharedMemory.open(str(memory.name), readonly=True) as reader,
    ):
        for size in (100, 9000):
            with pytest.raises(AccessDenied):
                reader.resize(size, shrink=True)
        assert memory.size == 5000


def test_a_descriptor_from_elsewhere(ns: Namespace) -> None:
    with PosixSharedMemory.create(ns.name(), 5000) as memory:
        memory.write(b"hello")
        with PosixSharedMemory.from_fd(os.dup(memory.fileno())) as other:
            assert (other.name, other.read(5), other.owner) == (memory.name, b"hello", False)
        memory.unlink()
        with PosixSharedMemory.from_fd(os.dup(memory.fileno()), readonly=True) as other:
            assert (other.name, other.readonly) == (None, True)
            with pytest.raises(NotFound):
                other.unlink()
    for wrong in (-1, 2**31, 2**40, 999_999):
        with pytest.raises(InvalidArgument):
            PosixSharedMemory.from_fd(wrong)
    with pytest.raises(TypeError):
        PosixSharedMemory.from_fd("1")  # type: ignore[arg-type]


def test_a_descriptor_that_is_refused_stays_the_callers(ns: Namespace) -> None:
    fd = half_made(ns.name())
    with pytest.raises(InvalidArgument, match="no bytes to map"):
        PosixSharedMemory.from_fd(fd)
    os.ftruncate(fd, 100)
    path = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
    readonly = os.open(path, os.O_RDONLY)
    with pytest.raises(AccessDenied):
        PosixSharedMemory.from_fd(readonly)
    os.close(readonly)
    os.close(fd)
    Path(path).unlink()


def test_an_owner_never_unlinks_another_object_of_its_name(ns: Namespace) -> None:
    name = ns.name()
    with PosixSharedMemory.create(name, 100) as memory:
        posix_ipc.unlink_shared_memory(name)
        later = PosixSharedMemory.create(name, 200)
        assert memory.owner
    with later, PosixSharedMemory.open(name) as found:
        assert found.size == 200
