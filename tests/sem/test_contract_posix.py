"""What only a POSIX semaphore has: a file in /dev/shm, which may hold anything."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import posix_ipc
import pytest
from semaphore_files import semaphore_file

import ipckit
from ipckit import PosixSemaphore, _native

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

HIGHEST = 2**31 - 1

# In a child: open and use what stands under a name, which must be refused and not crash.
REFUSED = """
from pathlib import Path
from ipckit import Corrupt, PosixSemaphore
result = []
name, contents = args
path = Path("/dev/shm/sem." + name[1:])
for data in contents:
    path.write_bytes(data)
    for verb in (PosixSemaphore.open, PosixSemaphore.open_or_create):
        try:
            with verb(name).lifetime() as sem:
                sem.release()
                sem.acquire(timeout=0)
                sem.acquire(timeout=0.01)
        except Corrupt as exc:
            assert exc.target == f"semaphore {name}"
            result.append((exc.op, str(exc)))
        else:
            raise AssertionError(data)
    assert path.read_bytes() == data
"""

NONE = [
    b"\xff" * 32,
    bytes(32),  # the word that says "between processes" is missing
    bytes(range(32)),
    bytes(8) + b"U" * 24,
    struct.pack("<IIII16x", 0, 1, 0x55555555, 0),  # a waiter to be woken
    struct.pack("<IIII16x", 1, 0, 0, 0),
    struct.pack("<IIII16x", 2**31, 0, 128, 0),  # a value that is none
]


# -- files that are not semaphores -----------------------------------------------------------------


def test_a_file_of_another_size_is_corrupt_and_no_bus_error(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    name, sizes = ns.name(), [0, 1, 31, 33, 4096]
    found = spawn(REFUSED, name, [b"\x80" * size for size in sizes]).result
    assert [op for op, _ in found] == ["sem_open"] * 2 * len(sizes)
    for place, (_, text) in enumerate(found):
        assert f"it has {sizes[place // 2]:,} bytes instead of 32" in text
    ns.clear()


def test_a_file_of_the_right_size_that_holds_none_is_corrupt_and_no_abort(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    name = ns.name()
    found = spawn(REFUSED, name, NONE).result
    assert [op for op, _ in found] == ["sem_getvalue"] * 2 * len(NONE)
    assert all("but is not one" in text for _, text in found)
    ns.clear()


def test_one_that_is_spoiled_in_use_is_corrupt(ns: Namespace, spawn: Callable[..., Child]) -> None:
    code = """
        from ipckit import Corrupt, PosixSemaphore
        with PosixSemaphore.open(args[0]).lifetime() as sem:
            with open(args[1], "r+b") as file:
                file.write(bytes(8) + b"U" * 24)
            result = []
            waits = [lambda t=t: sem.acquire(timeout=t) for t in (None, 0, 600)]
            for call in (sem.release, *waits, lambda: sem.value):
                try:
                    call()
                except Corrupt as exc:
                    result.append(exc.op)
    """
    name = ns.name()
    with PosixSemaphore.create(name).lifetime():
        child = spawn(dedent(code), name, str(semaphore_file(name)))
        assert child.result == ["sem_post", *["sem_wait"] * 3, "sem_getvalue"]


def test_a_directory_a_link_a_pipe_and_a_socket_are_corrupt(ns: Namespace) -> None:
    name = ns.name()
    path = semaphore_file(name)
    with PosixSemaphore.create(ns.name()).lifetime() as other:
        makers: list[Callable[[], object]] = [
            path.mkdir,
            lambda: path.symlink_to(semaphore_file(other.name)),
            lambda: os.mkfifo(path),
        ]
        for make in makers:
            make()
            for verb in (PosixSemaphore.open, PosixSemaphore.open_or_create):
                with pytest.raises(ipckit.Corrupt, match=r"not a semaphore|not hold one"):
                    verb(name)
            with pytest.raises(ipckit.AlreadyExists):
                PosixSemaphore.create(name)
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            with pytest.raises(ipckit.Corrupt, match="not a semaphore"):
                PosixSemaphore.open(name)
            path.unlink()
        assert other.value == 1


# -- values ----------------------------------------------------------------------------------------


def test_the_highest_value_overflows_and_says_so(ns: Namespace) -> None:
    with PosixSemaphore.create(ns.name(), HIGHEST - 1).lifetime() as sem:
        sem.release()
        with pytest.raises(ipckit.LimitReached, match=f"its highest value, {HIGHEST}") as caught:
            sem.release()
        assert caught.value.errno == errno.EOVERFLOW
        assert sem.value == HIGHEST
        sem.acquire(timeout=0)
        assert sem.value == HIGHEST - 1


@pytest.mark.parametrize("value", [-1, HIGHEST + 1, 2**64])
def test_a_value_out_of_range_makes_nothing(ns: Namespace, value: int) -> None:
    name = ns.name()
    with pytest.raises(ipckit.InvalidArgument, match=f"value must be 0 to .*, not {value}"):
        PosixSemaphore.create(name, value)
    assert not semaphore_file(name).exists()


def test_its_value_cannot_be_set(ns: Namespace) -> None:
    with PosixSemaphore.create(ns.name()).lifetime() as sem:
        with pytest.raises(AttributeError):
            sem.value = 3  # type: ignore[misc]
        assert sem.value == 1


def test_it_is_the_semaphore_that_the_c_library_opens(ns: Namespace) -> None:
    with PosixSemaphore.create(ns.name(), 2).lifetime() as sem:
        other = posix_ipc.Semaphore(str(sem.name))
        other.acquire()
        assert sem.value == 1
        sem.release()
        assert other.value == 2
        other.close()


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "fits"), [(251, True), (252, False), (255, False)])
def test_a_name_has_at_most_251_bytes(length: int, fits: bool) -> None:  # noqa: FBT001
    name = "/" + f"ipckit-test-{os.getpid()}-".ljust(length, "x")
    if fits:
        with PosixSemaphore.create(name).lifetime() as sem:
            assert semaphore_file(name).exists()
            assert sem.name == name
        return
    calls: list[Callable[[str], object]] = [
        PosixSemaphore.create,
        PosixSemaphore.open,
        PosixSemaphore.open_or_create,
    ]
    for call in calls:
        with pytest.raises(ipckit.InvalidArgument) as caught:
            call(name)
        assert caught.value.errno == errno.ENAMETOOLONG


def test_the_length_counts_bytes_and_not_letters() -> None:
    with pytest.raises(ipckit.InvalidArgument, match="252"):
        PosixSemaphore.create("/" + "é" * 126)


@pytest.mark.parametrize("name", ["", "/", "gate/x", "/a/b", "/a\0b", "/.", "/.."])
def test_a_name_that_can_be_none(name: str) -> None:
    with pytest.raises(ipckit.InvalidArgument):
        PosixSemaphore.create(name)
    with pytest.raises(ipckit.InvalidArgument):
        PosixSemaphore.open(name)


# -- identity --------------------------------------------------------------------------------------


def test_an_owner_does_not_unlink_what_another_made_under_its_name(ns: Namespace) -> None:
    name = ns.name()
    with PosixSemaphore.create(name, 1).lifetime() as first:
        first_other = PosixSemaphore.open(name)
        first_other.unlink()
        first_other.close()
        second = PosixSemaphore.create(name, 5)
        first.acquire(timeout=0)  # the first lives on without a name
        assert (first.value, second.value) == (0, 5)
        assert first.owner
    assert semaphore_file(name).exists()
    with PosixSemaphore.open(name).lifetime() as found:
        assert found.value == 5
    second.unlink()
    second.close()


def test_one_that_vanishes_while_it_is_made_is_not_found(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _native.sem_create
    vanished: list[str] = []

    def vanish(name: str, mode: int, value: int) -> None:
        real(name, mode, value)
        if len(vanished) < 2:
            posix_ipc.unlink_semaphore(name)
            vanished.append(name)

    monkeypatch.setattr(_native, "sem_create", vanish)
    name = ns.name()
    with pytest.raises(ipckit.NotFound):
        PosixSemaphore.create(name)
    # Who only wants it, whoever made it, makes it again.
    with PosixSemaphore.open_or_create(name, 3, timeout=60).lifetime() as sem:
        assert (sem.owner, sem.value) == (True, 3)
    assert vanished == [name, name]


def test_open_or_create_gives_up_at_its_deadline(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = ns.name()

    def occupied(*_: Any) -> Any:
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(_native, "sem_create", occupied)
    with pytest.raises(ipckit.Timeout, match="repeatedly created and unlinked it"):
        PosixSemaphore.open_or_create(name, timeout=0)


# -- modes and times -------------------------------------------------------------------------------


@pytest.mark.usefixtures("root")
def test_the_umask_has_no_say_for_nobody_either(spawn: Callable[..., Child]) -> None:
    code = """
        import os
        from ipckit import PosixSemaphore
        result = []
        for umask in (0, 0o77, 0o177, 0o277, 0o777):
            os.umask(umask)
            for mode in (0o600, 0o666, 0o400, 0):
                with PosixSemaphore.create(mode=mode).lifetime() as sem:
                    status = os.stat("/dev/shm/sem." + sem.name[1:])
                    with sem:
                        result.append((status.st_mode & 0o7777 == mode, sem.value))
    """
    assert spawn(dedent(code), user="nobody", imports=["ipckit"]).result == [(True, 0)] * 20


def test_it_leaves_no_descriptor_open(ns: Namespace) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with PosixSemaphore.create(ns.name()).lifetime() as sem:
        assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
        assert stat.S_IMODE(semaphore_file(sem.name).stat().st_mode) == 0o600


def test_deadlines_are_on_the_monotonic_clock() -> None:
    libc = os.confstr("CS_GNU_LIBC_VERSION")
    assert libc is not None
    version = tuple(map(int, libc.split()[1].split(".")))
    assert PosixSemaphore.monotonic == (version >= (2, 30))


# -- the native base, misused ----------------------------------------------------------------------


def test_the_native_base_without_a_handle_refuses() -> None:
    class Bare(_native.PosixSemaphoreBase):
        pass

    for make in (Bare, lambda: Bare.__new__(Bare), _native.PosixSemaphoreBase):
        bare: Any = make()
        for call in (bare.acquire, bare.release, bare.__enter__, bare.__exit__):
            with pytest.raises(AttributeError):
                call()
        with pytest.raises(AttributeError):
            _ = bare.value
        for junk in (None, 1, b"x" * 64, bare):
            with pytest.raises(ValueError, match="room for a semaphore"):
                bare._attach(junk)
        with pytest.raises(TypeError):
            bare._attach()


def test_a_handle_that_was_never_initialised_does_nothing() -> None:
    sem = PosixSemaphore.__new__(PosixSemaphore)
    for call in (sem.acquire, sem.release, sem.close, sem.unlink):
        with pytest.raises(AttributeError):
            call()
    assert "AttributeError" in repr(sem)


def test_a_mapping_too_small_or_aslant_is_refused() -> None:
    # A page has room, its last 31 bytes have not.
    page = _native.mmap(-1, 0, 4096, 3, 0x21)
    sem = _native.PosixSemaphoreBase()
    sem._attach(page)
    small = _native.mmap(-1, 0, 31, 3, 0x21)
    with pytest.raises(ValueError, match="room for a semaphore"):
        sem._attach(small)
    for mapping in (page, small):
        mapping.close()
