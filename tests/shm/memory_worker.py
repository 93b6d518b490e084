"""The interpreter that the hunt for crashes runs in: one fork for each hunt or attack.

The test tells ``("begin",)``, then what to do step by step, then ``("end",)``. A fork does it,
and this process tells how the fork ended where it ended early. Run by `Child`.
"""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import runpy
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ipckit.shm import MappedFile, MemFd, Memory, PosixSharedMemory, SharedStruct, SysVSharedMemory
from ipckit.structs import Char, Double, Int, Struct
from ipckit.testing import step

PAGE = mmap.PAGESIZE
SIZES = (1, 37, 64, PAGE, PAGE + 1, 3 * PAGE, 3 * PAGE + 100, 1 << 18)
DTYPES = ("u1", "<i2", "<f8", "c16", "S3", "V5", [("a", "u1"), ("b", "<i4")], "M8[s]")
WORDS = ("none", "r", "r+")
ADVICE = (
    "normal",
    "dontneed",
    "willneed",
    "sequential",
    "remove",
    "free",
    "dontfork",
    "wipeonfork",
)
# What a call may raise that was asked for something that can't be.
EXPECTED = (OSError, ValueError, TypeError, BufferError, NotImplementedError, IndexError)


class Stu(Struct):
    name: Char[32]
    age: Int


class Point(Struct):
    x: Double
    y: Double


def touch(view: Any) -> None:
    """Read the first and the last byte that a view shows, and write them where it lets one."""
    if isinstance(view, SharedStruct):
        view.load()
        return
    with memoryview(view) as whole:
        if not whole.nbytes or not whole.c_contiguous:
            np.asarray(view).tobytes()
            return
        with whole.cast("B") if whole.format else memoryview(b"-") as flat:
            first, last = flat[0], flat[-1]
            if not flat.readonly:
                flat[0], flat[-1] = first, last


class World:
    """Handles, and views into their memory; each step is a method and takes three numbers."""

    def __init__(self, names: list[str], keys: list[int], paths: list[str]) -> None:
        self.names, self.keys, self.paths = names, keys, paths
        self.handles: list[Any] = []
        self.views: list[Any] = []

    def handle(self, a: int) -> Any:
        if not self.handles:
            self.create(a, a, a)
        return self.handles[a % len(self.handles)]

    def look(self, a: int) -> Any:
        if not self.views:
            self.array(a, 0, 0)
        return self.views[a % len(self.views)]

    def create(self, a: int, b: int, c: int) -> None:
        size = SIZES[b % len(SIZES)]
        kind = a % 7
        if kind == 0:
            key = self.keys[c % len(self.keys)]
            made: Memory = SysVSharedMemory.open_or_create(key, size)
        elif kind == 1:
            made = SysVSharedMemory.create(size=size, unlink_after_attach=True)
        elif kind == 2:
            made = PosixSharedMemory.open_or_create(self.names[c % len(self.names)], size)
        elif kind == 3:
            made = MemFd.create("hunt", size, seal=c % 32)
        elif kind == 4:
            made = MappedFile.anonymous(size)
        elif kind == 5:
            made = MappedFile.create(self.paths[c % len(self.paths)], size)
        else:
            made = MappedFile.open("/dev/shm" + self.names[c % len(self.names)], mode="r+")  # noqa: S108
        self.handles.append(made)

    def again(self, a: int, b: int, c: int) -> None:
        old = self.handle(a)
        readonly = bool(b % 2)
        if isinstance(old, SysVSharedMemory):
            address = self.handle(c).address if b % 3 == 0 else None
            new: Memory = SysVSharedMemory.from_id(old.id, readonly=readonly, address=address)
        elif isinstance(old, PosixSharedMemory):
            new = PosixSharedMemory.from_fd(os.dup(old.fileno()), readonly=readonly)
        elif isinstance(old, MemFd):
            new = MemFd.from_fd(os.dup(old.fileno()), require_seals=0)
        else:
            mode = ("r", "r+", "private")[b % 3]
            new = MappedFile.open(old.path or "-", mode=mode, offset=c * 7 % 9000)  # type: ignore[arg-type]
        self.handles.append(new)

    def remap(self, a: int, b: int, _c: int) -> None:
        old = self.handle(a)
        key = self.keys[b % len(self.keys)]
        self.handles.append(SysVSharedMemory.open(key, address=old.address, remap=True))

    def close(self, a: int, _b: int, _c: int) -> None:
        self.handle(a).close()

    def unlink(self, a: int, _b: int, _c: int) -> None:
        self.handle(a).unlink(missing_ok=True)

    def forget(self, a: int, _b: int, _c: int) -> None:
        if self.handles:
            self.handles.pop(a % len(self.handles))

    def array(self, a: int, b: int, c: int) -> None:
        offset = (0, 1, 8, 64, PAGE, 2**40, -1)[c % 7]
        shape = (None, 0, 1, 16, (2, 3), (4096,), 2**62)[c // 7 % 7]
        self.views.append(self.handle(a).array(DTYPES[b % len(DTYPES)], shape, offset=offset))

    def struct(self, a: int, b: int, c: int) -> None:
        self.views.append(self.handle(a).view(Stu if b % 2 else Point, offset=c % 50))

    def shared(self, a: int, b: int, c: int) -> None:
        self.views.append(self.handle(a).shared(Stu if b % 2 else Point, offset=c % 4 * 8))

    def store(self, a: int, b: int, _c: int) -> None:
        self.look(a).store(Stu("x" * (b % 20), b) if b % 2 else Point(b, b))

    def buf(self, a: int, _b: int, _c: int) -> None:
        self.views.append(self.handle(a).buf)

    def slice(self, a: int, b: int, c: int) -> None:
        self.views.append(self.look(a)[b % 100 : c % 5000 : 1 + b % 3])

    def reshape(self, a: int, _b: int, _c: int) -> None:
        self.views.append(np.asarray(self.look(a)).reshape(-1, 1).T)

    def retype(self, a: int, b: int, _c: int) -> None:
        self.views.append(np.asarray(self.look(a)).view(DTYPES[b % len(DTYPES)]))

    def memoryview(self, a: int, _b: int, _c: int) -> None:
        self.views.append(memoryview(self.look(a)))

    def release(self, a: int, _b: int, _c: int) -> None:
        if self.views:
            self.views.pop(a % len(self.views)).release()

    def base(self, a: int, _b: int, _c: int) -> None:
        # Down to what ipckit made. (A memoryview that numpy put there is numpy's to keep.)
        found = self.look(a).base
        while isinstance(found, np.ndarray):
            found = found.base
        self.views.append(memoryview(found))

    def exporter_close(self, a: int, _b: int, _c: int) -> None:
        self.look(a).obj.close()

    def frombuffer(self, a: int, b: int, _c: int) -> None:
        self.views.append(np.frombuffer(self.look(a), DTYPES[b % len(DTYPES)]))

    def from_mapping(self, a: int, _b: int, _c: int) -> None:
        self.views.append(np.asarray(self.handle(a)._mapping))

    def writeable(self, a: int, _b: int, _c: int) -> None:
        self.look(a).setflags(write=True)

    def drop(self, a: int, _b: int, _c: int) -> None:
        if self.views:
            self.views.pop(a % len(self.views))

    def cycle(self, a: int, _b: int, _c: int) -> None:
        ring = [self.look(a), self.handle(a)]
        ring.append(ring)

    def gc(self, _a: int, _b: int, _c: int) -> None:
        gc.collect()

    def protect(self, a: int, b: int, _c: int) -> None:
        self.handle(a).protect(WORDS[b % 3])

    def resize(self, a: int, b: int, c: int) -> None:
        self.handle(a).resize(SIZES[b % len(SIZES)], shrink=bool(c % 2))

    def refresh(self, a: int, _b: int, _c: int) -> None:
        self.handle(a).refresh()

    def seal(self, a: int, b: int, _c: int) -> None:
        self.handle(a).seal(b % 32)

    def advise(self, a: int, b: int, c: int) -> None:
        self.handle(a).advise(ADVICE[b % len(ADVICE)], c % 9000)

    def flush(self, a: int, b: int, c: int) -> None:
        self.handle(a).flush(c % 9000, wait=bool(b % 2))

    def read(self, a: int, b: int, c: int) -> None:
        self.handle(a).read(b % 9000, c % 9000)

    def write(self, a: int, b: int, c: int) -> None:
        self.handle(a).write(self.look(b), c % 9000)

    def lock(self, a: int, b: int, _c: int) -> None:
        handle = self.handle(a)
        (handle.lock if b % 2 else handle.unlock)()

    def pickle(self, a: int, _b: int, _c: int) -> None:
        old = self.handle(a)
        if not isinstance(old, MemFd):  # that starts a server thread, for good
            self.handles.append(pickle.loads(pickle.dumps(old)))  # noqa: S301 - its own

    def fork(self, a: int, b: int, _c: int) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                if b % 2:
                    self.handles[:] = []
                    self.touch_all()
                self.views[a % (len(self.views) or 1) :] = []
                gc.collect()
                self.touch_all()
            finally:
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            os.kill(os.getpid(), -status if status < 0 else signal.SIGABRT)

    def touch_all(self) -> None:
        for view in list(self.views):
            try:
                touch(view)
            except EXPECTED:
                continue
        for handle in list(self.handles):
            try:
                handle.write(handle.read(1, handle.size - 1), handle.size - 1)
            except EXPECTED:
                continue

    def do(self, name: str, a: int, b: int, c: int) -> str:
        try:
            getattr(self, name)(a, b, c)
        except EXPECTED as exc:
            said = type(exc).__name__
        except AttributeError:
            said = "AttributeError"  # not every view or handle has every method
        else:
            said = "done"
        self.touch_all()
        return said


def work(names: list[str], keys: list[int], paths: list[str]) -> None:
    warnings.simplefilter("ignore", ResourceWarning)
    world = World(names, keys, paths)
    while (told := step.hear()) != "end":
        step.tell(world.do(*told))
    while world.handles:
        handle = world.handles.pop()
        handle.unlink(missing_ok=True)
        handle.close()
    del world
    gc.collect()
    step.tell("end")


def serve() -> None:
    """Fork for each hunt or attack, until the test says ``stop``."""
    while (told := step.hear()) != "stop":
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                if told[0] == "hunt":
                    work(*told[1:])
                else:
                    runpy.run_path(told[1])[told[2]](Path(told[3]))
                    step.tell("end")
                status = 0
            except SystemExit:
                raise  # an attack on the interpreter's end
            except BaseException:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            step.tell(("died", status))


if __name__ == "__main__":
    serve()
