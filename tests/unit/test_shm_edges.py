"""Corners of shared memory that a user met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ipckit import InvalidArgument, MappedFile, PosixSharedMemory, SysVSharedMemory

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
