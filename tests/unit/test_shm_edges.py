"""Corners of shared memory that a user met."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import MappedFile, PosixSharedMemory, SysVSharedMemory

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
        assert Path(f"/dev/shm{name}").exists()
