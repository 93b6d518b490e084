"""Every kind of shared memory behind one face, so that one test speaks of all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit.shm import MappedFile, MemFd, PosixSharedMemory, SysVSharedMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Namespace

SIZE = 5000


class Kind:
    """One kind of memory: how a test makes, finds and looks for an object of it."""

    def __init__(self, cls: type[Any], ns: Namespace, *, anonymous: bool = False) -> None:
        self.cls, self.ns, self.anonymous = cls, ns, anonymous
        self.named = cls is not MemFd and not anonymous
        self.has_fd = cls in {MemFd, PosixSharedMemory}

    def address(self) -> Any:
        if self.cls is SysVSharedMemory:
            return self.ns.key()
        if self.cls is PosixSharedMemory:
            return self.ns.name()
        return self.ns.path()

    def create(self, size: Any = SIZE, at: Any = None, **options: Any) -> Any:
        if self.anonymous:
            return MappedFile.anonymous(size)
        if self.cls is MemFd:
            return MemFd.create("contract", size, **options)
        return self.cls.create(self.address() if at is None else at, size, **options)

    def open(self, at: Any, *, readonly: bool = False) -> Any:
        if self.cls is MappedFile:
            return MappedFile.open(at, mode="r" if readonly else "r+")
        return self.cls.open(at, readonly=readonly)

    def again(self, memory: Any, *, readonly: bool = False) -> Any:
        """Another handle of the same memory."""
        if self.cls is SysVSharedMemory:
            return SysVSharedMemory.from_id(memory.id, readonly=readonly)
        if self.cls is MemFd:
            return MemFd.from_fd(os.dup(memory.fileno()), readonly=readonly)
        if self.cls is PosixSharedMemory:
            return PosixSharedMemory.open(str(memory.name), readonly=readonly)
        return self.open(memory.path, readonly=readonly)

    def mode_of(self, memory: Any) -> int:
        if self.cls is SysVSharedMemory:
            return int(memory.stat().mode)
        path = memory.path if self.cls is MappedFile else f"/dev/shm{memory.name}"  # noqa: S108
        return Path(path).stat().st_mode & 0o777


KINDS = {
    "sysv": SysVSharedMemory,
    "posix": PosixSharedMemory,
    "memfd": MemFd,
    "file": MappedFile,
    "anonymous": MappedFile,
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, ns: Namespace) -> Kind:
    return Kind(KINDS[request.param], ns, anonymous=request.param == "anonymous")


@pytest.fixture(params=["sysv", "posix", "file"])
def named(request: pytest.FixtureRequest, ns: Namespace) -> Kind:
    """A kind that is found by a key, a name or a path."""
    return Kind(KINDS[request.param], ns)


@pytest.fixture(params=["sysv", "posix", "memfd", "file"])
def shared(request: pytest.FixtureRequest, ns: Namespace) -> Kind:
    """A kind that another process can find."""
    return Kind(KINDS[request.param], ns)


@pytest.fixture
def memory(kind: Kind) -> Iterator[Any]:
    with kind.create() as made:
        yield made


@pytest.fixture
def kinds(ns: Namespace) -> Callable[[str], Kind]:
    """Any kind by its name."""
    return lambda name: Kind(KINDS[name], ns, anonymous=name == "anonymous")
