"""What only mapped files have: modes, offsets, flushing, rights, and files that others cut."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import AccessDenied, InvalidArgument, IpcError, NotFound
from ipckit.shm import MappedFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

PAGE = mmap.PAGESIZE
TEXT = bytes(i % 251 for i in range(3 * PAGE + 100))


@pytest.fixture
def path(ns: Namespace) -> Path:
    made = ns.path()
    made.write_bytes(TEXT)
    return made


def test_reading_is_the_default_and_leaves_the_file_alone(path: Path) -> None:
    path.chmod(0o400)
    with MappedFile.open(path) as memory:
        assert (memory.mode, memory.readonly, memory.path) == ("r", True, str(path))
        assert memory.read() == TEXT
        with pytest.raises(AccessDenied):
            memory.protect("r+")
        with pytest.raises(InvalidArgument, match=r"'r\+' can be resized"):
            memory.resize(9 * PAGE)


def test_writing_reaches_the_file_and_private_writing_does_not(path: Path) -> None:
    with MappedFile.open(path, mode="r+") as memory:
        memory.write(b"hello", 100)
        assert path.read_bytes()[100:105] == b"hello"
    with MappedFile.open(path, mode="private") as memory:
        memory.write(b"HELLO", 100)
        assert memory.read(5, 100) == b"HELLO"
        memory.flush()
        with pytest.raises(InvalidArgument, match="only a file"):
            memory.resize(9 * PAGE)
        with pytest.raises(InvalidArgument):
            memory.__reduce__()
    assert path.read_bytes()[100:105] == b"hello"


def test_any_offset_and_size_inside_the_file(path: Path) -> None:
    for offset in (0, 1, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, len(TEXT) - 1):
        with MappedFile.open(path, offset=offset) as memory:
            assert (memory.offset, memory.size) == (offset, len(TEXT) - offset)
            assert memory.read() == TEXT[offset:]
            assert memory.address % PAGE == offset % PAGE
        for size in (1, min(PAGE, len(TEXT) - offset)):
            with MappedFile.open(path, mode="r+", offset=offset, size=size) as memory:
                assert memory.read() == TEXT[offset : offset + size]
                memory.flush(size - 1, 1)


@pytest.mark.parametrize(
    ("offset", "size"),
    [
        *[(0, len(TEXT) + 1), (len(TEXT), None), (len(TEXT), 1), (len(TEXT) - 1, 2), (2**40, 1)],
        *[(-1, None), (0, 0), (0, -1), (2**63, None), (2**63, 1), (0, 2**63), (2**70, 2**70)],
    ],
)
def test_past_the_end_of_the_file_is_refused(path: Path, offset: int, size: int | None) -> None:
    with pytest.raises(InvalidArgument):
        MappedFile.open(path, offset=offset, size=size)


def test_an_empty_file_has_nothing_to_map(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(InvalidArgument, match="0 bytes"):
        MappedFile.open(path)


@pytest.mark.parametrize("mode", ["r", "r+", "private"])
def test_only_regular_files_are_mapped(path: Path, mode: Any) -> None:
    os.mkfifo(path.with_suffix(".fifo"))
    for wrong in (path.parent, path.with_suffix(".fifo"), "/dev/null"):
        with pytest.raises(InvalidArgument, match="not a regular file"):
            MappedFile.open(wrong, mode=mode)
    with pytest.raises(NotFound):
        MappedFile.open(path.with_suffix(".none"), mode=mode)
    with pytest.raises(InvalidArgument):
        MappedFile.open("a\0b", mode=mode)
    for bad in ("w", "", None):
        with pytest.raises(InvalidArgument, match="mode must be"):
            MappedFile.open(path, mode=bad)  # type: ignore[arg-type]


def test_no_link_is_followed_where_anybody_may_write(path: Path) -> None:
    link = path.with_suffix(".link")
    link.symlink_to(path)
    MappedFile.open(link).close()
    path.parent.chmod(0o1777)
    with pytest.raises(InvalidArgument, match="symbolic link") as caught:
        MappedFile.open(link)
    assert caught.value.errno == errno.ELOOP
    MappedFile.open(path).close()
    with pytest.raises(FileExistsError):
        MappedFile.create(link, PAGE)
    path.parent.chmod(0o700)


def test_create_takes_its_file_back_where_it_fails(ns: Namespace) -> None:
    path = ns.path()
    with pytest.raises((IpcError, OverflowError)):
        MappedFile.create(path, 2**62)
    assert not path.exists()
    with pytest.raises(NotFound):
        MappedFile.create(path / "deeper", PAGE)


def test_flush_over_a_range(path: Path) -> None:
    with MappedFile.open(path, mode="r+", offset=100) as memory:
        for wait in (True, False):
            for invalidate in (True, False):
                for offset, size in ((0, None), (PAGE + 5, 10), (memory.size, 0), (1, 0)):
                    memory.flush(offset, size, wait=wait, invalidate=invalidate)
        for offset, size in ((-1, None), (0, memory.size + 1), (memory.size + 1, 0), (0, -1)):
            with pytest.raises(InvalidArgument):
                memory.flush(offset, size)


def test_protect_takes_and_gives_rights(path: Path) -> None:
    with MappedFile.open(path, mode="r+") as memory:
        memory.protect("r")
        assert memory.readonly
        array = memory.array("u1")
        assert not array.flags.writeable
        memory.protect("r+")  # more rights take nothing from anybody
        assert not array.flags.writeable
        memory.write(b"x")
        with pytest.raises(IpcError) as caught:
            memory.protect("none")
        assert caught.value.errno == errno.EBUSY
        del array
        memory.protect("none")
        for call in (memory.read, lambda: memory.buf, lambda: memory.array("u1")):
            with pytest.raises(IpcError) as caught:
                call()
            assert caught.value.errno == errno.EACCES
        with pytest.raises(AccessDenied):
            memory.write(b"x")
        for wrong in ("", "w", "rw", None):
            with pytest.raises(InvalidArgument):
                memory.protect(wrong)  # type: ignore[arg-type]
        memory.protect("r")
        assert memory.read(1) == b"x"


def test_advice(path: Path) -> None:
    with MappedFile.open(path, mode="r+", offset=10) as memory:
        for word in ("normal", "sequential", "RANDOM", "willneed", "dontneed", mmap.MADV_NORMAL):
            memory.advise(word, 5, 100)
        for wrong in ("", "nonsense", "remove", "dontfork", "hwpoison", 99999, -1, 2**40, 2**80):
            with pytest.raises(InvalidArgument):
                memory.advise(wrong)
        for offset, size in ((-1, None), (0, memory.size + 1)):
            with pytest.raises(InvalidArgument):
                memory.advise("normal", offset, size)
        with pytest.raises(TypeError):
            memory.advise(1.5)  # type: ignore[arg-type]
        assert memory.read() == TEXT[10:]


def test_growing_grows_the_file_where_it_is_too_short(path: Path) -> None:
    with MappedFile.open(path, mode="r+", offset=100, size=50) as memory:
        array = memory.array("u1")
        memory.resize(60)
        assert path.stat().st_size == len(TEXT)
        assert memory.read() == TEXT[100:160]
        memory.resize(len(TEXT))
        assert path.stat().st_size == len(TEXT) + 100
        assert memory.read() == TEXT[100:] + bytes(100)
        memory.write(b"!")
        assert array[0] == ord("!")
        assert len(array) == 50


def test_shrinking_has_to_be_asked_for(path: Path) -> None:
    with MappedFile.open(path, mode="r+") as memory:
        with pytest.raises(InvalidArgument, match="SIGBUS"):
            memory.resize(100)
        view = memory.buf
        with pytest.raises(IpcError) as caught:
            memory.resize(100, shrink=True)
        assert caught.value.errno == errno.EBUSY
        view.release()
        memory.resize(100, shrink=True)
        assert path.read_bytes() == memory.read() == TEXT[:100]


def test_a_cut_file_is_stale(path: Path) -> None:
    with MappedFile.open(path) as memory:
        assert not memory.stale
        os.truncate(path, len(TEXT) - 1)
        assert memory.stale
        os.truncate(path, len(TEXT))
        assert not memory.stale
        path.unlink()
        assert not memory.stale
        path.write_bytes(b"another")
        assert not memory.stale
    with MappedFile.anonymous(PAGE) as anonymous:
        assert not anonymous.stale


def test_another_file_of_the_path_is_left_alone(ns: Namespace) -> None:
    path = ns.path()
    with MappedFile.create(path, PAGE) as memory:
        path.unlink()
        path.write_bytes(b"another")
        with pytest.raises(InvalidArgument, match="another file"):
            memory.resize(2 * PAGE)
        assert memory.owner
    assert path.read_bytes() == b"another"


# -- rights ----------------------------------------------------------------------------------------


def test_a_read_only_private_mapping(path: Path) -> None:
    path.write_bytes(b"text" * 100)
    path.chmod(0o400)
    with MappedFile.open(path, mode="private", readonly=True) as memory:
        assert (memory.mode, memory.readonly, memory.read(4)) == ("private", True, b"text")
        with pytest.raises(AccessDenied, match="read-only"):
            memory.write(b"x")
        assert not memory.array("u1").flags.writeable
        maps = Path("/proc/self/maps").read_text()
        (line,) = [each for each in maps.splitlines() if each.endswith(str(path))]
        assert line.split()[1] == "r--p"
    with MappedFile.open(path, readonly=True) as memory:
        assert (memory.mode, memory.readonly) == ("r", True)
    with MappedFile.open(path, mode="private") as memory:
        assert not memory.readonly
    with pytest.raises(InvalidArgument, match="readonly=True"):
        MappedFile.open(path, mode="r+", readonly=True)
    with pytest.raises(TypeError, match="readonly must be a bool"):
        MappedFile.open(path, readonly=1)  # type: ignore[arg-type]


def test_a_hint_names_only_what_open_takes() -> None:
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, 4096)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        with pytest.raises(AccessDenied, match='mode="r" reads it') as caught:
            MappedFile.open(f"/proc/self/fd/{fd}", mode="r+")
        assert "readonly=True asks" not in caught.value.hint
    finally:
        os.close(fd)


@pytest.mark.usefixtures("root")
def test_a_file_that_may_only_be_read(path: Path, spawn: Callable[..., Child]) -> None:
    path.write_bytes(b"text" * 100)
    path.chmod(0o444)
    shared = Path("/dev/shm") / path.name  # noqa: S108 - another user can't reach the test's own
    shared.write_bytes(b"text")
    shared.chmod(0o444)
    code = """
        from ipckit import AccessDenied, MappedFile
        (path,) = args
        with MappedFile.open(path, mode="private", readonly=True) as memory:
            result = [memory.read(4)]
        try:
            MappedFile.open(path, mode="r+")
        except AccessDenied as exc:
            result.append(exc.hint)
    """
    try:
        child = spawn(code, str(shared), user="nobody", imports=["ipckit"])
        text, hint = child.result
    finally:
        shared.unlink()
    assert text == b"text"
    assert 'mode="r"' in hint
