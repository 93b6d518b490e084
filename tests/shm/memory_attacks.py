"""Attacks on the memory, one a function, each run in a fork of `memory_worker.py`.

Each gets a directory of its own, and does what must end in an exception or in nothing at all.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import mmap
import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import IpcError, _native
from ipckit.shm import MappedFile, MemFd, Memory, PosixSharedMemory, Seal, SharedStruct
from ipckit.shm import SysVSharedMemory as SysV
from ipckit.structs import Char, Int, Struct
from ipckit.testing import step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGE = mmap.PAGESIZE


class Stu(Struct):
    name: Char[32]
    age: Int


def memories(place: Path, size: int = 4 * PAGE) -> Iterator[Memory]:
    """One of each kind; nothing of them is left behind."""
    yield SysV.create(size=size, unlink_after_attach=True)
    posix = PosixSharedMemory.create(size=size)
    posix.unlink()
    yield posix
    yield MemFd.create("attack", size)
    yield MappedFile.create(place / "file", size)
    yield MappedFile.anonymous(size)


def reuse() -> list[bytearray]:
    """Take memory, so that what was unmapped by mistake is somebody's by now."""
    return [bytearray(b"x" * (256 * 1024)) for _ in range(40)]


def busy(call: Callable[[], object]) -> None:
    with pytest.raises(IpcError) as caught:
        call()
    assert caught.value.errno == errno.EBUSY


def views_outlive_their_handles(place: Path) -> None:
    for memory in memories(place):
        views = [memory.array("u1"), memory.buf, memory.view(Stu), memory.array(Stu)[1:].T]
        shared = memory.shared(Stu, offset=64)
        shared.store(Stu("amy", 20))
        memory.close()
        del memory
        gc.collect()
        reuse()
        for view in views:
            bytes(view)
        assert shared.load() == Stu("amy", 20)
        views[0][-1] = 5


def a_memoryview_closes_its_exporter(place: Path) -> None:
    for memory in memories(place):
        view = memory.buf
        assert not hasattr(view.obj, "close")
        exporter: Any = memory._mapping
        exporter.close()
        exporter.close()
        assert memory.closed
        with pytest.raises(ValueError, match="closed"):
            _ = memory.buf
        view[-1] = 1
        view.release()
        with pytest.raises(ValueError, match="closed"):
            memoryview(exporter)
        with pytest.raises(ValueError, match="closed"):
            _ = exporter.address


def bases_of_arrays(place: Path) -> None:
    for memory in memories(place):
        array: Any = memory.array("<i4")
        base: Any = array.base
        twin, flat = np.frombuffer(base, "u1"), np.asarray(base)
        look = memoryview(base)
        look.release()
        for name in ("close", "release", "__release_buffer__"):
            assert not hasattr(base, name)
        with pytest.raises(TypeError):
            type(base)()
        with pytest.raises(TypeError):
            type(base).__new__(type(base))
        with pytest.raises((ValueError, TypeError, AttributeError)):
            array.base = None
        array.__setstate__((1, (2,), np.dtype("u1"), False, b"ab"))
        memory.close()
        del memory, array, base, look
        gc.collect()
        reuse()
        twin[-1], flat[0] = 7, 7


def arrays_of_mappings(place: Path) -> None:
    for memory in memories(place):
        mapping: Any = memory._mapping
        arrays = [np.frombuffer(mapping, "u1"), np.asarray(mapping), np.array(mapping, copy=False)]
        arrays.append(np.frombuffer(mapping.view(8, 8), "u1"))
        chars = (ctypes.c_char * 16).from_buffer(mapping)
        memory.close()
        del memory, mapping
        gc.collect()
        for array in arrays:
            array[0] = array[-1]
        chars[0] = b"x"


def readonly_memory_stays_so(place: Path) -> None:
    path = place / "file"
    MappedFile.create(path, PAGE).close()
    memory = MappedFile.open(path)
    array: Any = memory.array("u1")
    for attack in (
        lambda: array.setflags(write=True),
        lambda: setattr(array.flags, "writeable", True),
        lambda: array.__setitem__(0, 1),
        lambda: array[::2].setflags(write=True),
        lambda: memory.buf.__setitem__(0, 1),
        lambda: memory.buf.cast("i").__setitem__(0, 1),
        lambda: setattr(memory.view(Stu), "age", 1),
        lambda: memory.shared(Stu).store(Stu("x", 1)),
        lambda: memory.array(Stu)["age"].__setitem__(0, 1),
        lambda: memory.write(b"x"),
        lambda: memory._mapping.write(0, b"x"),
        lambda: memory.protect("r+"),
        lambda: (ctypes.c_char * 4).from_buffer(memory._mapping),  # type: ignore[arg-type]
        lambda: os.readv(os.open("/dev/zero", os.O_RDONLY), [memory.buf]),
    ):
        with pytest.raises((ValueError, TypeError, OSError, BufferError)):
            attack()


def rights_are_kept_while_somebody_looks(place: Path) -> None:
    memory = MappedFile.create(place / "file", 4 * PAGE)
    for view in (memory.array("u1"), memory.buf, memory.view(Stu), memory.shared(Stu, offset=PAGE)):
        for word in ("none", "r"):
            busy(lambda word=word: memory.protect(word))  # type: ignore[misc]
        if not isinstance(view, SharedStruct):
            memoryview(view).cast("B")[0] = 1
    del view
    gc.collect()
    memory.protect("none")
    for look in (
        lambda: memory.buf,
        lambda: memory.array("u1"),
        lambda: memory.view(Stu),
        lambda: memory.shared(Stu),
        memory.read,
        lambda: memory.write(b"x"),
        lambda: memoryview(memory._mapping),  # type: ignore[arg-type]
        lambda: memory._mapping.view(0, 1),
        lambda: memory._mapping.read(0, 1),
        lambda: memory._mapping.write(0, b"x"),
    ):
        with pytest.raises((OSError, BufferError, TypeError)):
            look()
    memory.protect("r+")
    memory.write(b"x")


def subclasses_and_bare_objects(place: Path) -> None:
    class Mine(SharedStruct[Stu]):
        rest: Any

        def _contended(self, _holder: int) -> None:
            raise KeyError

    for cls in (SharedStruct, Mine, _native.SharedStruct):
        for attack in (lambda cls=cls: cls.__new__(cls), lambda cls=cls: object.__new__(cls)):
            with pytest.raises(TypeError):
                attack()
    for memory in memories(place):
        mine = Mine(memory.buf, Stu, 64)
        mine.rest = [mine, memory]
        mine.store(Stu("amy", 20))
        memory.write(b"\1", 64 + 16)  # another writer is at it
        with pytest.raises(KeyError):
            mine.store(Stu("amy", 21))
        memory.close()
        del memory, mine
        gc.collect()
    for kind in (SysV, PosixSharedMemory, MemFd, MappedFile):
        bare: Any = kind.__new__(kind)
        repr(bare)
        for name in ("buf", "read", "size", "address", "close", "closed"):
            with contextlib.suppress(AttributeError):
                found = getattr(bare, name)
                if callable(found):
                    found()
        del bare


def handles_that_meet_in_one_file(place: Path) -> None:
    posix = PosixSharedMemory.create(size=16 * PAGE)
    try:
        path = "/dev/shm" + str(posix.name)  # noqa: S108
        part = MappedFile.open(path, mode="r+", offset=8 * PAGE, size=PAGE)
        array = part.array("u1")
        busy(lambda: posix.resize(8 * PAGE, shrink=True))
        array[0] = 1
        del array
        busy(lambda: posix.resize(8 * PAGE, shrink=True))
        assert part.read(1) == b"\1"
        assert posix.size == 16 * PAGE
        posix.resize(9 * PAGE, shrink=True)
        part.close()
        other = PosixSharedMemory.open(str(posix.name))
        busy(lambda: posix.resize(PAGE, shrink=True))
        other.read()
        other.close()
        view = posix.buf
        busy(lambda: posix.resize(PAGE, shrink=True))
        view[-1] = 1
        posix.close()
        with PosixSharedMemory.open(str(posix.name)) as last:
            busy(lambda: last.resize(PAGE, shrink=True))
            view[-1] = 2
    finally:
        posix.unlink()
    first, second = MappedFile.create(place / "file", 4 * PAGE), MappedFile.open(place / "file")
    busy(lambda: first.resize(PAGE, shrink=True))
    second.read()
    second.close()
    first.resize(PAGE, shrink=True)
    assert (place / "file").stat().st_size == PAGE


def a_thread_reads_what_another_cuts(place: Path) -> None:
    sys.setswitchinterval(1e-6)
    posix = PosixSharedMemory.create(size=64 * PAGE)
    posix.unlink()
    for memory in (posix, MappedFile.create(place / "file", 64 * PAGE)):
        rounds: list[int] = []

        def read(memory: Memory = memory, rounds: list[int] = rounds) -> None:
            while len(rounds) < 100:
                with contextlib.suppress(ValueError):
                    memory.read()
                with contextlib.suppress(ValueError):
                    memory.array("u1")[-1] = 1

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        while len(rounds) < 100:
            rounds.append(1)
            with contextlib.suppress(OSError):
                memory.resize(PAGE, shrink=True)
            memory.resize(64 * PAGE)
        for thread in threads:
            thread.join()


def threads_close_while_others_look(place: Path) -> None:
    sys.setswitchinterval(1e-6)
    data = bytes(1 << 20)
    for _ in range(3):
        for memory in memories(place, 1 << 20):
            started = threading.Barrier(4)

            def look(call: Callable[[], object], started: threading.Barrier = started) -> None:
                started.wait()
                with contextlib.suppress(ValueError, OSError):
                    for _ in range(10):
                        call()

            calls = (
                memory.read,
                lambda memory=memory: memory.write(data),
                lambda memory=memory: memory.array("u1").sum(),
            )
            threads = [threading.Thread(target=look, args=(call,)) for call in calls]
            for thread in threads:
                thread.start()
            started.wait()
            memory.close()
            for thread in threads:
                thread.join()
            assert memory._mapping.exports == 0
        (place / "file").unlink()


def forks_in_the_middle(place: Path) -> None:
    for memory in memories(place, 1 << 20):
        array, rounds = memory.array("u1"), 8
        threads = [
            threading.Thread(target=lambda m=memory: [m.read() for _ in range(50)]) for _ in "ab"
        ]
        for thread in threads:
            thread.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads, on purpose
            children = []
            for _ in range(rounds):
                child = os.fork()
                if child == 0:
                    memory.close()
                    array[-1] = 1
                    del array
                    gc.collect()
                    os._exit(0)
                children.append(child)
        for thread in threads:
            thread.join()
        for child in children:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert array[-1] == 1


def seals_with_views(place: Path) -> None:
    del place
    memory = MemFd.create("attack", PAGE, seal=0)
    array = memory.array("u1")
    busy(lambda: memory.seal(Seal.WRITE))
    array[0] = 1
    del array
    memory.seal(Seal.WRITE)
    with pytest.raises((ValueError, OSError)):
        memory.array("u1")[0] = 2


def cycles_through_buffers(place: Path) -> None:
    for memory in memories(place):
        for kind in (Stu.from_buffer, lambda view: SharedStruct(view, Stu, 64)):
            for front in (True, False):
                view = memory.buf
                made: Any = kind(view)
                ring: list[Any] = [made, view] if front else [view, made]
                ring.append(ring)
                del made, view, ring
                gc.collect()
        array = memory.array("u1")
        ring = [array, memoryview(array), memory, memory._mapping]
        ring.append(ring)
        mapping = memory._mapping
        memory.close()
        del array, ring, memory
        gc.collect()
        assert mapping.exports == 0


def views_at_the_end_of_the_interpreter(place: Path) -> None:
    kept = [(each, each.array("u1"), each.buf, each.shared(Stu)) for each in memories(place)]
    for memory, *_ in kept:
        memory.close()

    class Late:
        def __del__(self, kept: Any = kept, touch: Any = bytes) -> None:
            for _, array, buf, shared in kept:
                touch(array)
                touch(buf)
                shared.load()

    pid = os.fork()
    if pid == 0:
        step.detach()
        late: list[Any] = [Late()]
        late.append(late)  # so that the last collection of all finds it
        for name in [name for name in sys.modules if name.startswith("ipckit")]:
            del sys.modules[name]
        raise SystemExit(0)  # through the whole of the interpreter's end
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
