"""Hands one memory of each kind to a child of multiprocessing; run by `Child` with the method."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Any

from ipckit.shm import MappedFile, MemFd, PosixSharedMemory, SysVSharedMemory

SIZE = 5000


def change(memories: list[Any]) -> None:
    for memory in memories:
        with memory:
            if memory.read(5) != b"hello" or memory.owner or memory.size != SIZE:
                sys.exit(3)
            memory.array("u1")[-1] = 7


def main(method: str) -> list[tuple[str, bytes]]:
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        memories: list[Any] = [
            SysVSharedMemory.create(size=SIZE),
            SysVSharedMemory.create(size=SIZE, unlink_after_attach=True),
            PosixSharedMemory.create(size=SIZE),
            PosixSharedMemory.create(size=SIZE),
            MemFd.create("hand over", SIZE),
            MappedFile.create(Path(place) / "file", SIZE),
        ]
        if method == "fork":
            memories.append(MappedFile.anonymous(SIZE))
        for memory in memories:
            stack.enter_context(memory).write(b"hello")
        memories[2].unlink()
        child = multiprocessing.get_context(method).Process(target=change, args=(memories,))  # type: ignore[attr-defined]
        child.start()
        child.join()
        if child.exitcode != 0:
            sys.exit(4)
        child.close()
        return [(type(memory).__name__, memory.read(1, SIZE - 1)) for memory in memories]


if __name__ == "__main__":
    result = main(sys.argv[1])
