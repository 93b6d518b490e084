"""Corners of shared memory that a user met."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import InvalidArgument, MappedFile, MemFd, PosixSharedMemory, SysVSharedMemory
from ipckit.testing import Child

if TYPE_CHECKING:
    from ipckit.testing import Namespace


@pytest.mark.parametrize("kind", [SysVSharedMemory, PosixSharedMemory, MappedFile])
def test_an_owner_closed_inside_its_with_block_still_unlinks(kind: Any, ns: Namespace) -> None:
    where = {
        SysVSharedMemory: ns.key,
        PosixSharedMemory: ns.name,
        MappedFile: ns.path,
    }[kind]()
    with kind.create(where, 10) as memory:
        memory.close()
    with pytest.raises(FileNotFoundError):
        kind.open(where)


def test_an_owner_closed_inside_its_with_block_leaves_a_later_object(ns: Namespace) -> None:
    name = ns.name()
    with PosixSharedMemory.create(name, 10) as memory:
        memory.unlink()
        memory.adopt()
        later = PosixSharedMemory.create(name, 20)
        memory.close()
    with later:
        PosixSharedMemory.open(name).close()


def test_advice_that_gives_room_back_is_refused(ns: Namespace) -> None:
    """The next touch takes the room again, and is a SIGBUS where there is none left."""
    with MappedFile.create(ns.path(), 4096) as memory:
        memory.write(b"x")
        for advice in ("remove", 9):
            with pytest.raises(InvalidArgument, match="fatal"):
                memory.advise(advice)
        assert memory.read(1) == b"x"


NO_DESCRIPTOR_LEFT = """
import os, resource
from ipckit import LimitReached, MappedFile, MemFd, PosixSharedMemory

name, path = args
highest = max(int(number) for number in os.listdir("/proc/self/fd"))
makers = [
    lambda: PosixSharedMemory.create(name, 1),
    lambda: PosixSharedMemory.open(name),
    lambda: MemFd.create("label", 1),
    lambda: MappedFile.create(path, 1),
    lambda: MappedFile.open(path),
]
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
kept = []
resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
try:
    while True:
        kept.append(os.open("/", os.O_RDONLY))
except OSError:
    pass
result = []
for make in makers:
    try:
        make()
    except LimitReached as exc:
        result.append(str(exc))
for fd in kept:
    os.close(fd)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    PosixSharedMemory.create(name, 5000)
except LimitReached as exc:
    result.append(str(exc))
result.append(highest + 2)
"""


def test_limits_of_the_process_are_named(ns: Namespace) -> None:
    with Child(NO_DESCRIPTOR_LEFT, ns.name(), str(ns.path())) as child:
        *errors, too_large, limit = child.result
    assert len(errors) == 5
    for error in errors:
        assert f"RLIMIT_NOFILE ({limit})" in error
        assert "ulimit -n" in error
    assert "RLIMIT_FSIZE (1000)" in too_large


def mapped_kib(address: int) -> int:
    """How much of the mapping at an address is in this process's page table."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    start = f"{address:x}-"
    assert any(line.startswith(start) for line in lines)
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))


def test_only_the_maker_has_all_pages_at_once(ns: Namespace) -> None:
    with PosixSharedMemory.create(ns.name(), 2**20) as made:
        assert made.name is not None
        assert mapped_kib(made.address) == 1024
        with PosixSharedMemory.open(made.name) as opened:
            assert mapped_kib(opened.address) == 0
    with MemFd.create("pages", 2**20) as made_memfd:
        assert mapped_kib(made_memfd.address) == 1024
