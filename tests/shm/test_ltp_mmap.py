"""The behaviour that the Linux Test Project's tests of mmap, msync, memfd_create and shm_open pin
down, seen through ipckit.

Each test names its row: of testcases/kernel/syscalls, or of open_posix_testsuite (pts).
"""

from __future__ import annotations

import errno
import fcntl
import gc
import mmap
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import (
    AccessDenied,
    ClosedHandle,
    InvalidArgument,
    IpcError,
    _native,
)
from ipckit.shm import (
    MappedFile,
    MemFd,
    PosixSharedMemory,
    Seal,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

PAGE = mmap.PAGESIZE


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


# -- mmap, msync -----------------------------------------------------------------------------------


def test_mmap01_the_tail_of_the_last_page_is_zero_and_is_not_written(ns: Namespace) -> None:
    path = ns.path()
    path.write_bytes(b"x" * 100)
    with MappedFile.open(path, mode="r+") as memory:
        assert memory.size == 100
        with pytest.raises(InvalidArgument):
            memory.write(b"y", 100)
        memory.flush()
        memory.resize(PAGE)
        assert memory.read() == b"x" * 100 + bytes(PAGE - 100)
    assert path.stat().st_size == PAGE


def test_mmap06_the_descriptor_s_mode_rules(ns: Namespace) -> None:
    path = ns.path()
    path.write_bytes(b"x" * 100)
    for flags, protection, shared in (
        (os.O_WRONLY, 1, mmap.MAP_SHARED),
        (os.O_RDONLY, 3, mmap.MAP_SHARED),
        (os.O_WRONLY, 1, mmap.MAP_PRIVATE),
    ):
        fd = os.open(path, flags)
        with pytest.raises(PermissionError):
            _native.mmap(fd, 0, 100, protection, shared)
        os.close(fd)
    with MappedFile.open(path, mode="private") as memory:
        memory.write(b"y")  # MAP_PRIVATE needs no right to write
    assert path.read_bytes() == b"x" * 100
    fd = os.open(path, os.O_RDONLY)
    for size, flags in ((0, mmap.MAP_SHARED), (100, 0)):
        with pytest.raises(OSError, match="Invalid") as caught:
            _native.mmap(fd, 0, size, 1, flags)
        assert caught.value.errno == errno.EINVAL
    os.close(fd)


def test_mmap08_a_closed_descriptor(ns: Namespace) -> None:
    path = ns.path()
    path.write_bytes(b"x")
    fd = os.open(path, os.O_RDONLY)
    os.close(fd)
    for wrong in (fd, -1):
        with pytest.raises(OSError, match="Bad file") as caught:
            _native.mmap(wrong, 0, 1, 1, mmap.MAP_SHARED)
        assert caught.value.errno == errno.EBADF


def test_mmap09_the_file_changes_its_size_while_it_is_mapped(ns: Namespace) -> None:
    path = ns.path()
    with MappedFile.create(path, 2 * PAGE) as memory:
        for size in (PAGE, 2 * PAGE, 4 * PAGE, 2 * PAGE):
            os.truncate(path, size)
            assert memory.stale == (size < 2 * PAGE)
        assert memory.read() == bytes(2 * PAGE)


def test_mmap13_past_the_end_is_sigbus_unless_it_is_refused(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    path = ns.path()
    path.write_bytes(b"x" * PAGE)
    with pytest.raises(InvalidArgument, match="past the end"):
        MappedFile.open(path, size=PAGE + 1)
    # What the docs warn of: somebody else cuts it.
    child = spawn(
        """
        import os
        from ipckit.shm import MappedFile
        memory = MappedFile.open(args[0])
        os.truncate(args[0], 0)
        memory.read()
        """,
        str(path),
    )
    assert child.wait(expect=-signal.SIGBUS) == -signal.SIGBUS


def test_mmap17_20_no_flag_but_those_that_are_meant(ns: Namespace) -> None:
    path = ns.path()
    path.write_bytes(b"x")
    fd = os.open(path, os.O_RDONLY)
    for flags in (0x10, 0x100000, 0x8000, -1, mmap.MAP_SHARED | 0x2000):  # MAP_FIXED and others
        with pytest.raises(ValueError, match="can't have"):
            _native.mmap(fd, 0, 1, 1, flags)
    for protection in (4, 8, -1):
        with pytest.raises(ValueError, match="can't have"):
            _native.mmap(fd, 0, 1, protection, mmap.MAP_SHARED)
    os.close(fd)


def test_msync01_02_what_is_flushed_is_in_the_file(ns: Namespace) -> None:
    path = ns.path()
    with MappedFile.create(path, 3 * PAGE) as memory:
        for wait in (True, False):
            for invalidate in (True, False):
                data = os.urandom(200)
                memory.write(data, PAGE - 100)
                memory.flush(PAGE - 100, 200, wait=wait, invalidate=invalidate)
                with path.open("rb") as file:
                    assert os.pread(file.fileno(), 200, PAGE - 100) == data


def test_msync03_errors(ns: Namespace) -> None:
    with MappedFile.create(ns.path(), PAGE) as memory:
        with pytest.raises(OSError, match="Invalid") as caught:
            _native.msync(memory._mapping, 0, PAGE, 1 | 4)  # MS_ASYNC and MS_SYNC
        assert caught.value.errno == errno.EINVAL
        for offset, size in ((0, PAGE + 1), (PAGE + 1, 0)):
            with pytest.raises(InvalidArgument):
                memory.flush(offset, size)
    with pytest.raises(ClosedHandle):
        memory.flush()


def test_msync03_locked_pages_are_not_invalidated(spawn: Callable[..., Child]) -> None:
    child = spawn(
        """
        import ctypes, errno, os, tempfile
        from ipckit import IpcError
        from ipckit.shm import MappedFile
        with tempfile.TemporaryDirectory() as place:
            with MappedFile.create(os.path.join(place, "file"), 4096) as memory:
                libc = ctypes.CDLL(None, use_errno=True)
                locked = libc.mlock(ctypes.c_void_p(memory.address), ctypes.c_size_t(4096))
                try:
                    memory.flush(invalidate=True)
                except IpcError as exc:
                    result = locked, exc.errno == errno.EBUSY
        """
    )
    assert child.result == (0, True)


# -- memfd_create ----------------------------------------------------------------------------------


def test_memfd_create01_a_writer_keeps_the_write_seal_away() -> None:
    with MemFd.create("ltp", PAGE, seal=0) as memory:
        other = MemFd.from_fd(os.dup(memory.fileno()), require_seals=0)
        with pytest.raises(IpcError) as caught:
            memory.seal(Seal.WRITE)
        assert caught.value.errno == errno.EBUSY
        other.close()
        memory.seal(Seal.WRITE)
        reopened = os.open(f"/proc/self/fd/{memory.fileno()}", os.O_RDWR)
        with pytest.raises(PermissionError):
            os.write(reopened, b"x")
        os.close(reopened)


def test_memfd_create01_a_fork_shares_the_seals() -> None:
    with MemFd.create("ltp", PAGE, seal=0) as memory:
        pid = os.fork()
        if pid == 0:
            memory.seal(Seal.SHRINK | Seal.GROW)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert Seal.SHRINK | Seal.GROW in memory.seals


def test_memfd_create02_flags_and_names() -> None:
    fd = os.memfd_create("plain", os.MFD_CLOEXEC)
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == Seal.SEAL
    with pytest.raises(InvalidArgument):
        MemFd.from_fd(fd)
    os.close(fd)
    MemFd.create("x" * 249, 1).close()
    for label in ("x" * 250, "a\0"):
        with pytest.raises(InvalidArgument):
            MemFd.create(label, 1)


# -- shm_open --------------------------------------------------------------------------------------


def test_pts_shm_open_1_to_8_a_new_object(ns: Namespace) -> None:
    lowest = os.dup(0)
    os.close(lowest)
    with PosixSharedMemory.create(ns.name(), 100) as memory:
        assert memory.fileno() == lowest
        assert not os.get_inheritable(memory.fileno())
        status = os.fstat(memory.fileno())
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
        assert (status.st_mode & 0o777, status.st_size) == (0o600, 100)


def test_pts_shm_open_11_13_it_lives_while_somebody_has_it(ns: Namespace) -> None:
    name = ns.name()
    memory = PosixSharedMemory.create(name, 100)
    array = memory.array("u1")
    array[:] = 7
    memory.unlink()
    memory.close()
    gc.collect()
    assert set(array) == {7}
    with PosixSharedMemory.create(name, 100) as fresh:
        assert fresh.read() == bytes(100)


def test_pts_shm_open_14_read_only_is_read_only(ns: Namespace) -> None:
    with PosixSharedMemory.create(ns.name(), 100) as memory:
        reader = PosixSharedMemory.open(str(memory.name), readonly=True)
        assert fcntl.fcntl(reader.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        with pytest.raises(AccessDenied):
            reader.write(b"x")
        reader.close()


def test_pts_shm_open_22_exactly_one_makes_it(ns: Namespace, spawn: Callable[..., Child]) -> None:
    name = ns.name()
    code = """
    from ipckit import AlreadyExists
    from ipckit.shm import PosixSharedMemory
    from ipckit.testing import step
    step.tell("ready")
    step.expect("go")
    try:
        PosixSharedMemory.create(args[0], 100).disown().close()
        result = 1
    except AlreadyExists:
        result = 0
    """
    children = [spawn(code, name) for _ in range(3)]
    for child in children:
        child.expect("ready")
    for child in children:
        child.tell("go")
    assert sum(child.result for child in children) == 1
    with PosixSharedMemory.open(name) as memory:
        memory.adopt()


@pytest.mark.usefixtures("root")
def test_pts_shm_open_32_no_permission(ns: Namespace, spawn: Callable[..., Child]) -> None:
    with PosixSharedMemory.create(ns.name(), 100, mode=0o604) as memory:
        code = "lambda: PosixSharedMemory.open(args[0]), "
        code += "lambda: PosixSharedMemory.open(args[0], readonly=True), "
        code += "lambda: PosixSharedMemory.open(args[0], readonly=True).close(), "
        seen = as_nobody(spawn, code, str(memory.name))
    assert seen == [("AccessDenied", errno.EACCES), ("open", 0), None]


def test_pts_shm_open_38_no_descriptor_left(ns: Namespace, spawn: Callable[..., Child]) -> None:
    child = spawn(
        """
        import os, resource
        from ipckit import LimitReached
        from ipckit.shm import MemFd, PosixSharedMemory
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, lowest))
        result = []
        for call in (lambda: PosixSharedMemory.create(args[0], 1), lambda: MemFd.create("x", 1)):
            try:
                call()
            except LimitReached as exc:
                result.append(exc.errno)
        """,
        ns.name(),
    )
    assert child.result == [errno.EMFILE] * 2


def test_pts_shm_open_39_40_names(ns: Namespace) -> None:
    longest = ns.name()
    for wrong in ("/" + "x" * 256, "", "/", "/a/b"):
        with pytest.raises(InvalidArgument):
            PosixSharedMemory.create(wrong, 1)
    with PosixSharedMemory.create(longest + "x" * (255 - len(longest)), 1) as memory:
        assert len(str(memory.name)) == 255
