"""Attacks with arguments that are garbage, huge, or act while they are taken; see `memory_attacks`.

Each gets a directory of its own, and does what must end in an exception or in nothing at all.
"""

# ruff: noqa: B023 - the calls are made before the loop goes on
from __future__ import annotations

import contextlib
import functools
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from memory_attacks import Stu, memories, reuse

from ipckit import _native
from ipckit.shm import MappedFile, Memory, SharedStruct

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = mmap.PAGESIZE
GARBAGE: tuple[Any, ...] = (
    *(None, "x", b"x", 1.5, -1, 0, 1, 2**31, 2**31 - 1, 2**63 - 1, 2**63, 2**64, -(2**63), 2**200),
    *(object(), [], (), int, float("nan"), PAGE, PAGE - 1),
)
WRONG = (TypeError, ValueError, OSError, BufferError, IndexError, OverflowError, MemoryError)


class Trick:
    """A number that does something on its way into C."""

    def __init__(self, value: int, act: Callable[[], object]) -> None:
        self.value, self.act = value, act

    def __index__(self) -> int:
        self.act()
        return self.value


def numbers_that_close(place: Path) -> None:
    for memory in memories(place):
        kept: list[Any] = []
        mapping = memory._mapping

        def act(memory: Memory = memory, kept: list[Any] = kept) -> None:
            memory.close()
            kept.append(reuse())

        def number(value: int, act: Callable[[], None] = act) -> Any:
            return Trick(value, act)

        advise = functools.partial(_native.madvise, mapping, 0, PAGE)
        if isinstance(memory, MappedFile):
            advise = memory.advise  # type: ignore[assignment]
        with pytest.raises(ValueError, match="closed"):
            advise(number(mmap.MADV_DONTNEED))
        assert all(each.count(b"x") == len(each) for each in kept[0]), (
            "somebody's memory was emptied"
        )


def numbers_that_close_in_each_place(place: Path) -> None:
    calls: list[Callable[[Any, Any], object]] = [
        lambda m, n: m.view(n(0), 8),
        lambda m, n: m.view(0, n(8)),
        lambda m, n: m.read(n(0), 8),
        lambda m, n: m.read(0, n(8)),
        lambda m, n: m.write(n(0), b"12345678"),
        lambda m, n: _native.msync(m, n(0), 8, 4),
        lambda m, n: _native.msync(m, 0, n(8), 4),
        lambda m, n: _native.msync(m, 0, 8, n(4)),
        lambda m, n: _native.madvise(m, n(0), 8, 4),
        lambda m, n: _native.madvise(m, 0, n(8), 4),
        lambda m, n: _native.madvise(m, 0, 8, n(4)),
        lambda m, n: _native.mprotect(m, n(3)),
    ]
    for call in calls:
        for memory in memories(place):
            mapping = memory._mapping

            def number(value: int, memory: Memory = memory) -> Any:
                return Trick(value, memory.close)

            with pytest.raises(ValueError, match="closed"):
                call(mapping, number)
            memory.close()
            with contextlib.suppress(FileNotFoundError):
                (place / "file").unlink()


def fields_that_close(place: Path) -> None:
    for memory in memories(place):
        view: Any = memory.view(Stu)
        view.age = Trick(7, memory.close)
        assert view.age == 7
        del view
        assert memory._mapping.exports == 0


def exporters_that_close(place: Path) -> None:
    class Source:
        def __init__(self, memory: Memory) -> None:
            self.memory = memory

        def __buffer__(self, _flags: int) -> memoryview:
            self.memory.close()
            return memoryview(b"12345678")

    for memory in memories(place):
        source: Any = Source(memory)
        with pytest.raises((TypeError, ValueError)):
            memory.write(source)  # TypeError before Python 3.12, which does not know __buffer__
        with pytest.raises((TypeError, ValueError)):
            memory._mapping.write(0, source)
        with pytest.raises((TypeError, ValueError)):
            SharedStruct(source, Stu)


def garbage_for_every_function(place: Path) -> None:
    memory = MappedFile.create(place / "file", PAGE)
    mapping = memory._mapping
    functions = [_native.mmap, _native.msync, _native.madvise, _native.mprotect, _native.shmget]
    functions += [_native.shmat, _native.shm_stat, _native.shm_info, _native.shared_struct_size]
    functions += [_native.shm_set, mapping.view, mapping.read, mapping.write, mapping.close]
    functions += [_native.SharedStruct, _native.Mapping, _native.View]
    known: list[Any] = [*GARBAGE, mapping, mapping.view(0, 8), memory, Stu, Stu("x", 1), memory.buf]
    state = np.random.default_rng(3)
    made = []
    for function in functions:
        for count in range(7):
            for _ in range(60):
                args = [known[i] for i in state.integers(len(known), size=count)]
                if function is _native.mmap and count == 5:
                    args[2] = min(args[2], 1 << 20) if isinstance(args[2], int) else args[2]
                if function is _native.shmget and count == 3:
                    args[2] = 0  # would make segments
                with contextlib.suppress(*WRONG):
                    made.append(function(*args))
    for each in made:
        if isinstance(each, _native.Mapping):
            each.close()
    with contextlib.suppress(ValueError):
        memory.close()


def huge_sizes_and_offsets(place: Path) -> None:
    huge = (2**31, 2**32, 2**62, 2**63 - 1, 2**63 - PAGE, 2**63, 2**64, -1, -(2**63))
    for memory in memories(place):
        for big in huge:
            calls: tuple[Callable[[], object], ...] = (
                lambda big=big: memory.read(1, big),
                lambda big=big: memory.read(big),
                lambda big=big: memory.write(b"x", big),
                lambda big=big: memory.array("u1", 1, offset=big),
                lambda big=big: memory.array("u1", big),
                lambda big=big: memory.array("V16", (big, big)),
                lambda big=big: memory.array("u1", (big, 2), offset=1),
                lambda big=big: memory.view(Stu, offset=big),
                lambda big=big: memory.shared(Stu, offset=big),
                lambda big=big: SharedStruct(memory.buf, Stu, big),
                lambda big=big: memory._mapping.view(big, 1),
                lambda big=big: memory._mapping.view(1, big),
                lambda big=big: memory._mapping.read(1, big),
                lambda big=big: memory._mapping.write(big, b"x"),
            )
            for call in calls:
                with pytest.raises((ValueError, IndexError)):
                    call()
            with contextlib.suppress(ValueError):
                assert memory.array("u1", (0, big)).size == 0


def objects_never_live_in_memory(place: Path) -> None:
    nested = np.dtype([("a", "u1"), ("b", [("c", "O")])])
    dtypes: list[Any] = ["O", object, nested, np.dtype(("O", (2,))), "V0", "U0", np.dtype([])]
    if hasattr(np.dtypes, "StringDType"):
        dtypes.append(np.dtypes.StringDType())  # its elements are pointers
    for memory in memories(place):
        for dtype in dtypes:
            with pytest.raises(TypeError):
                memory.array(dtype)
