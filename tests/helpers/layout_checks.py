"""What the tests of docs/layout.md check of the memory of a channel and of a topic alike."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Corrupt, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from layout_page import Memory

    from ipckit import Channel, Topic

    Handle = Channel[Any] | Topic[Any]

# A field of the header, and a value that no valid memory has.
INVALID_SIZES = [
    ("granule", 0),
    ("granule", 100),
    ("granules", 2**24),
    ("arena_units", 1),
    ("capacity", 0),
    ("longest", 2**30),
]


def check_invalid(handle: Handle, memory: Memory, name: str, value: int) -> None:
    """Check that memory with an invalid field is not opened."""
    memory.set_field(name, value)
    fd = os.dup(handle.memory_fd)
    with pytest.raises(Corrupt):
        type(handle).from_fd(fd)
    os.close(fd)


def check_held(
    handle: Handle, memory: Memory, lock: str, call: Callable[..., object], ready: int
) -> None:
    """Check that a call finds out that peer 1 of this process holds a lock.

    The descriptor `ready` tells when the call may succeed.
    """
    word = type(handle).__name__.lower()
    memory.set_field(lock, memory.name(1))
    with pytest.raises(WouldBlock, match=f"process {os.getpid()} holds the {word}'s lock"):
        call(timeout=0)
    assert select.select([ready], [], [], 0)[0] == []  # the holder will signal it
    memory.set_field(lock, 0)
    call(timeout=0)
