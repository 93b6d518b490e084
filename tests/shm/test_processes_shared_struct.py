"""SharedStruct between real interpreters: whole structs, dead and stopped writers, other types."""

from __future__ import annotations

import os
import pickle
import platform
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import InvalidArgument, LayoutMismatch, WouldBlock
from ipckit._core import processes
from ipckit.shm import MappedFile, MemFd, Memory, PosixSharedMemory, SharedStruct
from ipckit.structs import Bytes, Char, Int, Struct, UInt64
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

WRITER = 16  # where the header has the token of who is storing
COUNT = 24


class Stu(Struct):
    name: Char[32]
    age: Int


class Whole(Struct):
    number: UInt64
    rest: Bytes[1021]


@pytest.fixture
def memory() -> Iterator[MemFd]:
    with MemFd.create("struct", 8192) as made:
        yield made


def word(memory: Memory, offset: int) -> int:
    return int.from_bytes(memory.read(8, offset), sys.byteorder)


def forge(memory: Memory, token: int) -> None:
    """As if the process of a token were just storing."""
    memory.write(token.to_bytes(8, sys.byteorder), WRITER)


STORE = """
    from ipckit import WouldBlock
    from ipckit.shm import PosixSharedMemory
    from ipckit.structs import Bytes, Struct, UInt64
    from ipckit.testing import step

    class Whole(Struct):
        number: UInt64
        rest: Bytes[1021]

    name, number, times = args
    with PosixSharedMemory.open(name) as memory:
        shared = memory.shared(Whole, offset=64)
        step.tell("ready")
        step.expect("go")
        blocked = stores = 0
        while stores < times:
            value = number * 1_000_000 + stores
            try:
                shared.store(Whole(value, bytes([value % 251]) * 1021))
                stores += 1
            except WouldBlock:
                blocked += 1
        result = stores
        del shared
"""


def test_no_load_is_torn_while_others_store(ns: Namespace, spawn: Callable[..., Child]) -> None:
    with PosixSharedMemory.create(ns.name(), 4096) as memory:
        shared = memory.shared(Whole, offset=64)
        children = [spawn(STORE, str(memory.name), i, 4000) for i in (1, 2)]
        for child in children:
            child.expect("ready")
        for child in children:
            child.tell("go")
        last = {1: -1, 2: -1}
        while shared.count < 8000:
            seen = shared.load()
            assert seen.rest == bytes([seen.number % 251]) * 1021
            writer, number = divmod(seen.number, 1_000_000)
            if writer:
                assert number >= last[writer], "an older struct after a newer one"
                last[writer] = number
        assert [child.result for child in children] == [4000, 4000]
        assert shared.count == 8000
        assert word(memory, 64 + WRITER) == 0


HOLD = """
    from ipckit._core import processes
    from ipckit.testing import step

    step.tell(processes.token())
    step.hear()
"""


def test_store_never_waits_for_who_is_stopped_and_takes_over_from_the_dead(
    memory: MemFd, spawn: Callable[..., Child]
) -> None:
    shared = memory.shared(Stu)
    shared.store(Stu("amy", 20))
    child = spawn(HOLD)
    token = child.hear()
    forge(memory, token)
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    with pytest.raises(WouldBlock, match=f"process {child.pid} is storing"):
        shared.store(Stu("bob", 21))
    assert shared.load() == Stu("amy", 20)
    assert word(memory, WRITER) == token
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    shared.store(Stu("bob", 21))  # it is a zombie: nobody has waited for it
    assert shared.load() == Stu("bob", 21)
    assert word(memory, WRITER) == 0
    child.kill()
    forge(memory, token)
    shared.store(Stu("cat", 22))
    assert (shared.load(), shared.count) == (Stu("cat", 22), 3)


def test_what_a_killed_writer_began_is_never_seen(memory: MemFd) -> None:
    shared = memory.shared(Stu)
    for age in range(1, 6):
        shared.store(Stu("amy", age))
        # The slot of the next store, half filled by one who died before it moved the counter.
        memory.write(b"\xff" * 20, 32 + (age + 1) % 2 * 40)
        forge(memory, _token(pid=0))
        assert shared.load() == Stu("amy", age)
    shared.store(Stu("bob", 9))
    assert shared.load() == Stu("bob", 9)


def _token(*, pid: int, namespace: int | None = None) -> int:
    own = processes.token()
    space = own >> 26 & 0xFFFF if namespace is None else namespace
    return pid << 42 | space << 26 | own & 0x3FFFFFF


def test_a_pid_that_is_used_again_is_another_process(memory: MemFd) -> None:
    shared = memory.shared(Stu)
    forge(memory, processes.token() ^ 1)  # this pid, another start
    shared.store(Stu("amy", 20))
    assert shared.load() == Stu("amy", 20)


def test_a_process_of_another_pid_namespace_is_never_taken_for_dead(memory: MemFd) -> None:
    shared = memory.shared(Stu)
    own = processes.token() >> 26 & 0xFFFF
    for namespace in {own ^ 1, 0}:
        token = _token(pid=4_000_000, namespace=namespace)
        assert not processes.is_dead(token)
        forge(memory, token)
        with pytest.raises(WouldBlock, match="process 4000000 is storing"):
            shared.store(Stu("amy", 20))
    assert processes.is_dead(_token(pid=4_000_000))


def test_nobody_judges_from_an_unknown_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_namespace", lambda: 0)
    assert not processes.is_dead(_token(pid=4_000_000, namespace=0))


@pytest.mark.parametrize("offset", [100_000, 1])
def test_a_process_of_another_time_namespace_is_judged_as_any(memory: MemFd, offset: int) -> None:
    unshare = ["unshare", "--time", "--boottime", str(offset), "--fork"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this run may not make time namespaces")
    code = """
import sys
from ipckit._core import processes
print(processes.token(), processes.is_dead(int(sys.argv[1])), flush=True)
sys.stdin.read()
"""
    shared = memory.shared(Stu)
    shared.store(Stu("amy", 20))
    with subprocess.Popen(
        [*unshare, sys.executable, "-c", code, str(processes.token())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        token, dead = other.stdout.readline().split()
        assert dead == b"False", "this process lives, seen from there"
        forge(memory, int(token))
        with pytest.raises(WouldBlock, match="is storing"):
            shared.store(Stu("bob", 21))
        assert word(memory, WRITER) == int(token)
        other.stdin.close()
        other.wait()
    shared.store(Stu("bob", 21))
    assert shared.load() == Stu("bob", 21)


@pytest.mark.parametrize(
    ("apart", "same", "offset", "dead"),
    [
        (0, True, 0, False),
        (1, True, 0, True),
        (-1, True, 0, True),
        (1, False, 0, False),
        (-1, False, 0, False),
        (2, False, 0, True),
        (0, False, 500, True),
        (500, False, 500, False),
        (500, True, 0, True),
        (500, True, None, False),
    ],
)
def test_starts_are_compared_as_the_initial_namespace_counts(
    monkeypatch: pytest.MonkeyPatch, apart: int, *, same: bool, offset: int | None, dead: bool
) -> None:
    token = processes.token()
    seen = processes._stat_of(os.getpid())
    assert seen is not None
    later = replace(seen, start=seen.start + apart)
    monkeypatch.setattr(processes, "_stat_of", lambda _: later)
    monkeypatch.setattr(processes, "_time_offset", lambda: offset)
    names = iter(["time:[1]", "time:[1]" if same else "time:[2]"])
    monkeypatch.setattr(processes, "_time_namespace", lambda *_: next(names))
    assert processes.is_dead(token) is dead


def test_a_process_that_does_not_know_its_offset_is_never_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "_time_offset", lambda: None)
    token = processes.token()
    monkeypatch.undo()
    assert not processes.is_dead(token ^ 1)
    assert processes.pid_of(token) == os.getpid()


@pytest.mark.usefixtures("root")
def test_a_process_that_proc_hides_is_not_dead(spawn: Callable[..., Child]) -> None:
    child = spawn(
        """
        import ctypes, os, subprocess
        from ipckit._core import processes
        from ipckit.testing import drop_privileges

        subprocess.run(["mount", "-t", "proc", "-o", "hidepid=2", "proc", "/proc"], check=True)
        ends, tokens = os.pipe(), os.pipe()
        other = os.fork()
        if other == 0:
            os.close(ends[1])
            os.write(tokens[1], str(processes.token()).encode())
            os.read(ends[0], 1)
            os._exit(0)
        token = int(os.read(tokens[0], 100))
        drop_privileges()
        ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: /proc/self is its own again
        hidden = not os.path.exists(f"/proc/{other}")
        alive = processes.is_dead(token)
        os.close(ends[1])
        os.waitpid(other, 0)
        result = hidden, alive, processes.is_dead(token)
        """,
        sandbox=Sandbox(ipc=False),
    )
    assert child.result == (True, False, True)


def test_a_process_whose_main_thread_ended_is_not_dead() -> None:
    number = {"x86_64": 60, "aarch64": 93}[platform.machine()]
    code = f"""
import ctypes, os, sys, threading
from ipckit._core import processes
print(processes.token(), flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()
ctypes.CDLL(None).syscall({number}, 0)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        token = int(other.stdout.readline())
        stat = Path(f"/proc/{other.pid}/stat")
        while ") Z " not in stat.read_text():
            os.sched_yield()
        assert not processes.is_dead(token)
        other.stdin.close()
        other.wait()
    assert processes.is_dead(token)


def test_a_forked_child_is_a_writer_of_its_own(spawn: Callable[..., Child]) -> None:
    child = spawn(
        """
        import os
        from ipckit import _native
        from ipckit._core import processes
        from ipckit.shm import MappedFile
        from ipckit.structs import Int, Struct

        class One(Struct):
            n: Int

        memory = MappedFile.anonymous(4096)
        shared = memory.shared(One)
        class Told(type(shared)):
            def _contended(self, holder):
                raise KeyError(holder)
        told = Told(memory.buf, One)
        os.environ["PARENT"] = str(processes.token())
        pid = os.fork()
        if pid == 0:
            shared.store(One(5))
            good = processes.token() != int(os.environ["PARENT"])
            good &= processes.pid_of(processes.token()) == os.getpid()
            # The parent is alive: its turn is not taken over by its child.
            memory.write(int(os.environ["PARENT"]).to_bytes(8, "little"), 16)
            try:
                told.store(One(6))
            except KeyError as exc:
                good &= exc.args[0] == int(os.environ["PARENT"])
            else:
                good = False
            os._exit(0 if good else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        result = status, shared.load().n
        del shared, told
        memory.close()
        """
    )
    assert child.result == (0, 5)


def test_another_layout_is_refused_and_both_are_shown(memory: MemFd) -> None:
    class Other(Struct):
        name: Char[32]
        size: Int

    memory.shared(Stu).store(Stu("amy", 20))
    with pytest.raises(LayoutMismatch) as caught:
        memory.shared(Other)
    text = str(caught.value)
    assert f"36 bytes with fingerprint {Stu.fingerprint[:16]}" in text
    assert f"Other of 36 bytes with fingerprint {Other.fingerprint[:16]}" in text
    memory.shared(Other, offset=SharedStruct.bytes_for(Stu)).store(Other("x", 1))
    assert memory.shared(Stu).load() == Stu("amy", 20)


def test_the_memory_is_laid_out_as_documented(memory: MemFd) -> None:
    shared = memory.shared(Stu, offset=8)
    assert SharedStruct.bytes_for(Stu) == 32 + 2 * 40
    shared.store(Stu("amy", 20))
    shared.store(Stu("bob", 21))
    fingerprint, size, writer, count = struct.unpack("=4Q", memory.read(32, 8))
    assert (fingerprint, size) == (int(Stu.fingerprint[:16], 16), 36)
    assert (writer, count) == (0, 2)
    assert memory.read(40, 8 + 32) == bytes(Stu("bob", 21)) + bytes(4)
    assert memory.read(40, 8 + 72) == bytes(Stu("amy", 20)) + bytes(4)


@pytest.mark.parametrize("offset", [1, 4, 12, -8, 8192 - 104, 8192, 2**70])
def test_a_place_that_does_not_fit_is_refused(memory: MemFd, offset: int) -> None:
    with pytest.raises(InvalidArgument):
        memory.shared(Stu, offset=offset)
    with pytest.raises(InvalidArgument):
        SharedStruct(memory.buf, Stu, offset)
    assert memory.read() == bytes(8192)


@pytest.mark.parametrize("wrong", [int, "Stu", None, Stu("x", 1)])
def test_what_is_no_struct_class_is_refused(memory: MemFd, wrong: Any) -> None:
    for call in (memory.shared, memory.view, lambda each: SharedStruct(memory.buf, each)):
        with pytest.raises(TypeError, match="Struct class"):
            call(wrong)


def test_read_only_memory_can_be_loaded_from(ns: Namespace) -> None:
    path = ns.path()
    with MappedFile.create(path, 4096) as memory, MappedFile.open(path) as reader:
        fresh = reader.shared(Stu)
        assert (fresh.load(), fresh.count) == (Stu("", 0), 0)
        memory.shared(Stu).store(Stu("amy", 20))
        assert fresh.load() == Stu("amy", 20)
        with pytest.raises(TypeError, match="read-only"):
            fresh.store(Stu("bob", 21))
        assert not fresh.take_over(1)

        class Other(Struct):
            n: Int

        with pytest.raises(LayoutMismatch):
            reader.shared(Other)
        frozen = reader.array("u1")
        assert SharedStruct(frozen, Stu).load() == Stu("amy", 20)


def test_store_takes_the_class_and_nothing_else(memory: MemFd) -> None:
    class Sub(Stu):
        pass

    shared = memory.shared(Stu)
    for wrong in (None, ("amy", 20), bytes(36), Whole(1, b""), Sub("amy", 20), np.zeros(36, "u1")):
        with pytest.raises(TypeError):
            shared.store(wrong)  # type: ignore[arg-type]
    assert shared.count == 0
    live = memory.view(Stu, offset=4096)
    live.name, live.age = "amy", 20
    shared.store(live)
    live.age = 21
    assert shared.load() == Stu("amy", 20)


def test_any_header_can_be_met(memory: MemFd) -> None:
    shared = memory.shared(Stu)
    random = np.random.default_rng(1)
    for _ in range(300):
        memory.write(random.bytes(8), COUNT)
        memory.write(random.bytes(40 * 2), 32)
        shared.load().age  # noqa: B018 - whatever it is
        before = shared.count
        shared.store(Stu("amy", 20))
        assert shared.count == (before + 1) % 2**64
        assert shared.load() == Stu("amy", 20)


def test_a_shared_struct_is_not_pickled(memory: MemFd) -> None:
    with pytest.raises(TypeError, match="pickle the memory's handle"):
        pickle.dumps(memory.shared(Stu))
