"""Long objects for a ProcessQueue, and how much of its memory holds them."""

from __future__ import annotations

import gc
import mmap
import os
import queue
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

SIZE = 1 << 18  # bytes of a queue
BLOCK = 100_000  # such an object is in a block of the channel
PIECE = 150_000  # such an object has a piece of the spill file
BOTH = pytest.mark.parametrize("size", [BLOCK, PIECE])
HEADER, ENTRY = 1024, 32  # native/ring/spill_table.h
TABLE = 1 << 16  # at most so much memory for the entries that these tests use


def array(value: int, size: int = PIECE) -> Any:
    return np.full(size, value, np.uint8)


def words(found: Any) -> list[int]:
    """The owners of the first pieces, from the table."""
    table = os.pread(found._spill.file.fd, 64 * ENTRY, HEADER)
    return [row[0] for row in struct.iter_unpack("=4Q", table)]


def set_word(found: Any, index: int, word: int) -> None:
    with mmap.mmap(found._spill.file.fd, 1 << 14) as table:
        struct.pack_into("=Q", table, HEADER + ENTRY * index, word)


def held(found: Any) -> int:
    """The number of pieces that are not free, plus 100 if a block of the drained channel is not."""
    gc.collect()
    assert len(found._channel) == 0
    blocks = found._channel.stats().bytes_used != 0
    return sum(word != 0 for word in words(found)) + 100 * blocks


def spilled(found: Any) -> int:
    """The bytes of memory in the spill file, without its table."""
    return os.fstat(found._spill.file.fd).st_blocks * 512 - TABLE


def drained(found: Any) -> list[int]:
    """The values of all objects that wait; each object must be whole."""
    values = []
    with suppress(queue.Empty):
        while True:
            each = found.get_nowait()
            assert np.all(each == each[0])
            values.append(int(each[0]))
    return values
