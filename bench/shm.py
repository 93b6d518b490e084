"""Shared memory beside multiprocessing and ctypes, and the growth of a reader's memory."""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from multiprocessing import shared_memory
from typing import TYPE_CHECKING

import numpy as np
from harness import Row, compare_expressions, compare_slow

from ipckit import Char, Int, PosixSharedMemory, Struct, SysVSharedMemory

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 64 * 2**20


class Stu(Struct):
    """A struct of 36 bytes."""

    name: Char[32]
    age: Int


class CtypesStu(ctypes.Structure):
    """The same struct for ctypes."""

    _fields_ = (("name", ctypes.c_char * 32), ("age", ctypes.c_int))


def same(found: object, wanted: object) -> None:
    """Check a result, so that only correct code is timed."""
    if found != wanted:
        message = f"expected {wanted}, got {found}"
        raise ValueError(message)


def large_array() -> Iterator[Row]:
    """Yield the rows for a 64 MiB array that one handle fills and another reads."""
    source = np.arange(SIZE // 8, dtype=np.float64)
    total = source.sum()

    def theirs() -> None:
        first = shared_memory.SharedMemory(create=True, size=SIZE)
        np.ndarray(source.shape, source.dtype, first.buf)[:] = source
        second = shared_memory.SharedMemory(first.name)
        same(np.ndarray(source.shape, source.dtype, second.buf).sum(), total)
        second.close()
        first.close()
        first.unlink()

    def ours() -> None:
        with PosixSharedMemory.create(size=SIZE) as first:
            first.array(source.dtype)[:] = source
            with PosixSharedMemory.open(str(first.name)) as second:
                same(second.array(source.dtype).sum(), total)

    peer = "multiprocessing"
    yield compare_slow("POSIX shm, 64 MiB: make to read", peer, theirs, ours, 1.0)

    kept = shared_memory.SharedMemory(create=True, size=SIZE)
    np.ndarray(source.shape, source.dtype, kept.buf)[:] = source

    def attach_theirs() -> None:
        memory = shared_memory.SharedMemory(kept.name)
        same(np.ndarray(source.shape, source.dtype, memory.buf).sum(), total)
        memory.close()

    def attach_ours() -> None:
        with PosixSharedMemory.open(f"/{kept.name}") as memory:
            same(memory.array(source.dtype).sum(), total)

    yield compare_slow("POSIX shm, 64 MiB: attach, read", peer, attach_theirs, attach_ours, 1.1)
    kept.close()
    kept.unlink()


def structs() -> Iterator[Row]:
    """Yield the rows for whole structs beside an empty C call, and fields beside ctypes'."""
    with SysVSharedMemory.create(size=4096) as segment:
        shared = segment.shared(Stu, offset=64)
        amy = Stu("amy", 20)
        shared.store(amy)
        stu, peer = segment.view(Stu), CtypesStu.from_buffer(segment.buf)
        stu.name, stu.age = "amy", 20
        names: dict[str, object] = {
            "load": shared.load,
            "store": shared.store,
            "noargs": gc.isenabled,
            "onearg": callable,
            "amy": amy,
            "stu": stu,
            "peer": peer,
        }
        call = "an empty C call"
        what = f"SharedStruct.load(), {Stu.size} B"
        yield compare_expressions(what, call, "noargs()", "load()", 5.0, names=names)
        what = f"SharedStruct.store(), {Stu.size} B"
        yield compare_expressions(what, call, "onearg(amy)", "store(amy)", 5.0, names=names)
        what = "seg.view(Stu).age"
        yield compare_expressions(what, "ctypes", "peer.age", "stu.age", 1.0, names=names)
        what = "seg.view(Stu).age = 20"
        yield compare_expressions(what, "ctypes", "peer.age = 20", "stu.age = 20", 1.0, names=names)
        what, decoded = "seg.view(Stu).name, a str", "peer.name.decode()"
        yield compare_expressions(
            what, "ctypes and decode()", decoded, "stu.name", 1.0, names=names
        )
        del names, peer, stu, shared


def rows() -> Iterator[Row]:
    """Yield each comparison as soon as it is measured."""
    yield from large_array()
    yield from structs()


_READER = """
import json, sys
import numpy as np
from ipckit import PosixSharedMemory

def grown():
    with open("/proc/self/smaps_rollup") as file:
        fields = dict(line.split(":") for line in file if ":" in line and "-" not in line)
    size = lambda name: int(fields[name].split()[0])
    return size("Rss") - size("Anonymous"), size("Anonymous")

name = sys.argv[1]
with PosixSharedMemory.open(name) as memory:  # loads all code before the measurement
    memory.array(np.uint8)[::4096].sum()
    memory.array(np.uint8)[:4096] = 1
grown()
for what in ("nothing", "the first 16 MiB, reading", "all, reading", "1,000 pages, writing",
             "1,000 pages, reading"):
    before = grown()
    with PosixSharedMemory.open(name) as memory:
        array = memory.array(np.uint8)
        touched = 0
        if "16 MiB" in what:
            array[: 2**24].max()
            touched = 2**14
        elif "all" in what:
            array.max()
            touched = array.size // 1024
        elif "writing" in what:
            array[: 1000 * 65536 : 65536] = 7
            touched = 4000
        elif "reading" in what:
            array[: 1000 * 65536 : 65536].max()
            touched = 4000
        after = grown()
        del array
    print(json.dumps([what, touched, after[0] - before[0], after[1] - before[1]]), flush=True)
"""


def memory_costs() -> Iterator[tuple[str, int, int, int]]:
    """Measure the growth of another process's resident size when it reads shared memory.

    Yields:
        A description of the pages that it touches, and in KiB: the size of these pages, the shared
        pages mapped then, and its own memory. When a page is read, Linux also maps the pages around
        it, up to 64 KiB, if they are already in memory; that uses no memory.
    """
    with PosixSharedMemory.create(size=SIZE) as memory:
        memory.array(np.uint8)[:] = 1
        command = [sys.executable, "-c", _READER, str(memory.name)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            for line in reader.stdout or ():
                what, touched, mapped, own = json.loads(line)
                yield what, touched, mapped, own
