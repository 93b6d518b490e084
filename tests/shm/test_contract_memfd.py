"""What only memfds have: seals."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import tempfile
from pathlib import Path

import pytest

from ipckit import AccessDenied, InvalidArgument, IpcError, LimitReached
from ipckit.shm import MemFd, Seal

NOEXEC = 0x8


def plain(size: int = 4096, *, sealable: bool = True) -> int:
    fd = os.memfd_create("plain", os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if sealable else 0))
    os.ftruncate(fd, size)
    return fd


SINGLE = (Seal.SEAL, Seal.SHRINK, Seal.GROW, Seal.WRITE, Seal.FUTURE_WRITE)
ALL = [Seal(sum(chosen)) for count in range(6) for chosen in itertools.combinations(SINGLE, count)]


@pytest.mark.parametrize("seals", ALL, ids=lambda seals: f"{int(seals):#x}")
def test_each_seal_rules_out_what_it_says_and_nothing_else(seals: Seal) -> None:
    with MemFd.create("seals", 8192, seal=seals) as memory:
        assert memory.seals & ~Seal.EXEC == seals
        fd = memory.fileno()

        def can(call: object, *args: object) -> bool:
            try:
                call(*args)  # type: ignore[operator]
            except OSError as exc:
                assert exc.errno == errno.EPERM  # noqa: PT017
                return False
            return True

        unwritable = bool(seals & (Seal.WRITE | Seal.FUTURE_WRITE))
        assert can(os.pwrite, fd, b"x", 0) != unwritable
        assert memory.readonly == bool(seals & Seal.WRITE)
        if not memory.readonly:
            memory.write(b"hello")  # mapped before FUTURE_WRITE
        with MemFd.from_fd(os.dup(fd), require_seals=seals) as other:
            assert other.readonly == unwritable
        if unwritable:
            with pytest.raises(AccessDenied):
                MemFd.from_fd(fd, require_seals=0, readonly=False)
        assert can(os.ftruncate, fd, 16384) == (Seal.GROW not in seals)
        assert can(fcntl.fcntl, fd, fcntl.F_ADD_SEALS, 0) == (Seal.SEAL not in seals)
        # Nobody looks at what goes: the handle is closed next.
        assert can(os.ftruncate, fd, 8192 if Seal.GROW in seals else 16384)
        memory.close()


def test_shrinking_is_ruled_out_by_default() -> None:
    with MemFd.create("default", 8192) as memory:
        assert memory.seals & ~Seal.EXEC == Seal.SHRINK | Seal.GROW
        for size in (0, 8191, 8193):
            with pytest.raises(PermissionError):
                os.ftruncate(memory.fileno(), size)


def test_it_can_not_be_executed_where_the_kernel_rules_that_out() -> None:
    try:
        os.close(os.memfd_create("probe", NOEXEC))
    except OSError:
        expected = Seal(0)
    else:
        expected = Seal.EXEC
    with MemFd.create("noexec", 4096) as memory:
        assert memory.seals & Seal.EXEC == expected
        assert bool(os.fstat(memory.fileno()).st_mode & 0o111) != bool(expected)
        assert not os.get_inheritable(memory.fileno())
        assert os.readlink(f"/proc/self/fd/{memory.fileno()}") == "/memfd:noexec (deleted)"  # noqa: PTH115


@pytest.mark.parametrize("seals", [Seal.SHRINK, Seal.WRITE, Seal.SHRINK | Seal.GROW | Seal.SEAL])
def test_the_receiver_looks_at_the_seals_first(seals: Seal) -> None:
    fd = plain()
    with pytest.raises(InvalidArgument, match="lacks the seal") as caught:
        MemFd.from_fd(fd, require_seals=seals)
    assert caught.value.errno == errno.EPERM
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, int(seals))
    with MemFd.from_fd(fd, require_seals=seals) as memory:
        assert seals in memory.seals


def test_what_is_no_memfd_is_refused_and_stays_the_callers() -> None:
    with tempfile.TemporaryFile() as file:
        for fd in (file.fileno(), -1, 999_999, 2**40):
            with pytest.raises(InvalidArgument):
                MemFd.from_fd(fd)
    with pytest.raises(TypeError):
        MemFd.from_fd("1")  # type: ignore[arg-type]
    fd = plain(0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with pytest.raises(InvalidArgument, match="no bytes"):
        MemFd.from_fd(fd)
    os.close(fd)
    fd = plain(sealable=False)
    with pytest.raises(InvalidArgument, match="lacks"):
        MemFd.from_fd(fd)
    with MemFd.from_fd(fd, require_seals=0) as memory:
        with pytest.raises(AccessDenied):
            memory.seal(Seal.SHRINK)
        memory.write(b"x")


def test_sealing_against_writing_makes_the_handle_read_only() -> None:
    with MemFd.create("seals", 4096) as memory:
        memory.write(b"hello")
        view = memory.buf
        with pytest.raises(IpcError) as caught:
            memory.seal(Seal.WRITE)
        assert caught.value.errno == errno.EBUSY
        view.release()
        memory.seal(Seal.WRITE)
        assert memory.readonly
        assert memory.read(5) == b"hello"
        with pytest.raises(AccessDenied):
            memory.write(b"x")
        memory.seal(Seal.WRITE)


def test_a_refused_seal_leaves_the_handle_its_memory() -> None:
    with MemFd.create("seals", 4096, seal=0) as memory:
        memory.write(b"hello")
        other = MemFd.from_fd(os.dup(memory.fileno()), require_seals=0)
        for _ in range(2):
            with pytest.raises(IpcError) as caught:
                memory.seal(Seal.WRITE)
            assert caught.value.errno == errno.EBUSY
        memory.write(b"HE")
        memory.seal(Seal.FUTURE_WRITE)
        memory.write(b"h")
        with pytest.raises(IpcError, match="read-only from now on"):
            memory.seal(Seal.WRITE)
        assert (memory.closed, memory.readonly, memory.read(5)) == (False, True, b"hEllo")
        other.close()
        memory.seal(Seal.WRITE)


@pytest.mark.parametrize("more", [Seal.WRITE, Seal.GROW, Seal.WRITE | Seal.FUTURE_WRITE])
def test_no_more_seals_after_the_seal_of_seals(more: Seal) -> None:
    with MemFd.create("seals", 4096, seal=Seal.SEAL | Seal.FUTURE_WRITE) as memory:
        with pytest.raises(AccessDenied, match="no more seals can be added"):
            memory.seal(more)
        memory.write(b"still mine")
        assert memory.read(10) == b"still mine"


def test_bad_seals_and_labels() -> None:
    for seal in (0x40, -1, 2**40):
        with pytest.raises(InvalidArgument):
            MemFd.create("bad", 1, seal=seal)
    for wrong in ("SHRINK", None, 1.0):
        with pytest.raises(TypeError):
            MemFd.create("bad", 1, seal=wrong)  # type: ignore[arg-type]
    for label in ("a\0b", "x" * 250, "ü" * 125):
        with pytest.raises(InvalidArgument):
            MemFd.create(label, 1)
    for label in ("", "x" * 249, "a/b", "(deleted)"):
        with MemFd.create(label, 1) as memory:
            assert memory.label == label


def test_more_than_the_machine_has_is_refused_before_it_is_taken() -> None:
    free = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]) * 1024
    for size in (free * 64, 2**50):
        with pytest.raises(LimitReached, match="no memory"):
            MemFd.create("too much", size)
