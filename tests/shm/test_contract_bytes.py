"""Reading and writing bytes, and memory that can only be read."""

from __future__ import annotations

import contextlib
import os
import pickle
from typing import Any

import numpy as np
import pytest

from ipckit import (
    AccessDenied,
    InvalidArgument,
)
from ipckit.shm import MemFd, Memory
from ipckit.structs import Char, Int, Struct

SIZE = 5000


class Stu(Struct):
    name: Char[32]
    age: Int


def test_read_and_write(memory: Memory) -> None:
    assert memory.write(b"hello", 10) == 5
    assert memory.read(5, 10) == b"hello"
    assert memory.read(None, 4999) == b"\0"
    assert memory.read(0, SIZE) == memory.read(None, SIZE) == b""
    assert memory.write(b"", SIZE) == 0
    assert memory.write(Stu("amy", 20), 100) == 36
    assert memory.write(np.arange(3, dtype="<i4"), 200) == 12
    assert memory.read(12, 200) == np.arange(3, dtype="<i4").tobytes()
    assert memory.write(memory.buf[100:200], 150) == 100  # overlapping
    assert memory.read(36, 150) == bytes(Stu("amy", 20))
    big = os.urandom(SIZE)
    memory.write(big)
    assert memory.read() == big == bytes(memory.buf)


def test_what_is_not_inside_is_refused(memory: Memory) -> None:
    cases: list[Any] = [(1, SIZE), (SIZE + 1, 0), (-1, 0), (1, -1), (1, 2**64), (2**64, 0)]
    for n, offset in cases:
        with pytest.raises(InvalidArgument, match="not inside"):
            memory.read(n, offset)
        with pytest.raises(InvalidArgument, match="not inside"):
            memory.array("u1", n, offset=offset) if n >= 0 else memory.read(n, offset)
        if 0 <= n <= SIZE + 1:
            with pytest.raises(InvalidArgument, match="not inside"):
                memory.write(bytes(n), offset)
        assert memory.read() == bytes(SIZE)


def test_write_takes_bytes(memory: Memory) -> None:
    cases: list[Any] = ["text", 5, None, [1]]
    for data in cases:
        with pytest.raises(TypeError):
            memory.write(data)


def test_write_takes_contiguous_bytes(memory: Memory) -> None:
    with pytest.raises((ValueError, BufferError)):
        memory.write(np.zeros((4, 4))[:, ::2])
    assert memory.read() == bytes(SIZE)


def test_read_only_memory_is_read_only_in_every_way(shared: Any) -> None:
    with shared.create() as memory, shared.again(memory, readonly=True) as reader:
        memory.write(b"hello")
        assert reader.readonly
        assert "read-only" in repr(reader)
        assert reader.read(5) == b"hello"
        assert reader.buf.readonly
        assert not reader.array("u1").flags.writeable
        with pytest.raises(AccessDenied, match="read-only"):
            reader.write(b"x")
        with pytest.raises(TypeError):
            reader.buf[0] = 1
        with pytest.raises(ValueError, match="read-only"):
            reader.array("u1")[0] = 1
        with pytest.raises((TypeError, ValueError)):
            reader.view(Stu).age = 1
        assert memory.read(5) == b"hello"
        with pickle_of(shared, reader) as again:
            assert again is None or again.readonly


def pickle_of(kind: Any, memory: Any) -> Any:
    """A pickled copy; None of a kind that pickles only into a child."""
    return contextlib.nullcontext() if kind.cls is MemFd else pickle.loads(pickle.dumps(memory))  # noqa: S301
