"""Objects that another process removes between two system calls: which error is raised, if any."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import posix_ipc
import pytest

from ipckit import (
    Channel,
    LimitReached,
    MappedFile,
    NotFound,
    PosixMessageQueue,
    PosixSemaphore,
    PosixSharedMemory,
    Removed,
    SysVMessageQueue,
    SysVSemaphoreSet,
    SysVSharedMemory,
    Timeout,
    Topic,
    _native,
)
from ipckit._channel import memory_handle
from ipckit._core.sysv import Table
from ipckit._msgq import posix as posix_queues
from ipckit._msgq import sysv as sysv_queues
from ipckit._sem import sysv as _sem_sysv
from ipckit._shm import mapped_file as _shm_mapped
from ipckit._shm import posix as _shm_posix
from ipckit._shm import sysv as _shm_sysv

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace


def interpose(
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    before: Callable[[], object],
    *,
    times: int = 1,
) -> None:
    """Have something happen before the first calls of a function."""
    real = getattr(owner, name)
    left = [None] * times

    def call(*args: Any, **options: Any) -> Any:
        if left:
            left.pop()
            before()
        return real(*args, **options)

    monkeypatch.setattr(owner, name, call)


# By class: the size or values, and a function of ours that `open` and `create` call after the get.
SYSV: dict[Any, tuple[tuple[Any, ...], Any, str, Any, str]] = {
    SysVSharedMemory: ((64,), _shm_sysv, "_attach", _shm_sysv, "_attach"),
    SysVMessageQueue: ((), Table, "look", sysv_queues, "sysctl"),
    SysVSemaphoreSet: (([1],), _sem_sysv, "await_initialised", _sem_sysv, "initialise"),
}
sysv = pytest.mark.parametrize("cls", SYSV, ids=lambda cls: cls.__name__)


@sysv
def test_what_goes_while_it_is_opened_is_not_found(
    cls: Any, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, owner, name, *_ = SYSV[cls]
    key = ns.key()
    made = cls.create(key, *arguments)

    def vanish() -> None:
        made.close()  # a segment stays for as long as it is attached
        made.unlink()

    interpose(monkeypatch, owner, name, vanish)
    with pytest.raises(NotFound):
        cls.open(key)


@sysv
def test_what_is_made_again_while_it_is_opened_is_opened(
    cls: Any, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, owner, name, *_ = SYSV[cls]
    key = ns.key()
    made = cls.create(key, *arguments)
    again: list[Any] = []

    def replace() -> None:
        made.close()
        made.unlink()
        with monkeypatch.context() as patch:
            if cls is SysVSharedMemory:
                patch.setattr(_shm_sysv, "_attach", real)
            again.append(cls.create(key, *arguments))

    real = _shm_sysv._attach
    interpose(monkeypatch, owner, name, replace)
    with cls.open(key) as found:
        assert found.id == again[0].id != made.id
        found.unlink()
    again[0].close()


def remove(cls: Any, key: int) -> Callable[[], None]:
    def act() -> None:
        if cls is SysVSharedMemory:
            _native.shm_control(_native.shmget(key, 0, 0), _native.IPC_RMID)
        elif cls is SysVSemaphoreSet:
            _native.sem_get(_native.semget(key, 0, 0), 0, _native.IPC_RMID)
        else:
            SysVMessageQueue.open(key).adopt().unlink()

    return act


@pytest.mark.parametrize("cls", [SysVSharedMemory, SysVSemaphoreSet])
def test_what_goes_while_it_is_made_is_removed_and_open_or_create_makes_it_again(
    cls: Any, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, _, _, owner, name = SYSV[cls]
    key = ns.key()
    interpose(monkeypatch, owner, name, remove(cls, key), times=3)
    with pytest.raises(Removed):
        cls.create(key, *arguments)
    with cls.open_or_create(key, *arguments, timeout=60) as made:
        assert made.owner


def test_a_queue_that_goes_while_it_is_made_is_removed(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ns.key()
    change = SysVMessageQueue._change

    def gone(self: Any, **wanted: int) -> None:
        self.unlink()
        change(self, **wanted)

    monkeypatch.setattr(SysVMessageQueue, "_change", gone)
    with pytest.raises(Removed):
        SysVMessageQueue.create(key, max_bytes=64)


@pytest.mark.parametrize("options", [{"mode": 0o400}, {"unlink_after_attach": True}])
def test_a_segment_that_goes_before_its_mode_or_name_is_changed(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    key = ns.key()
    real = _shm_sysv._attach

    def attach(segment: int, *args: Any, **rest: Any) -> Any:
        mapping = real(segment, *args, **rest)
        _native.shm_control(segment, _native.IPC_RMID)
        return mapping

    monkeypatch.setattr(_shm_sysv, "_attach", attach)
    # Until the last detach the kernel keeps the segment, so that it can still be changed.
    with SysVSharedMemory.create(key, 64, **options) as made:
        made.write(b"x")
        assert made.attached == 1
        made.disown()


# -- a creation that fails -------------------------------------------------------------------------


def out_of_room(*_: object, **__: object) -> None:
    message = "no room"
    raise LimitReached(message, errno=errno.ENOSPC)


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("cls", [PosixSharedMemory, PosixMessageQueue, Channel, Topic, MappedFile])
def test_a_failed_creation_keeps_its_own_error_and_removes_no_other_object(
    cls: Any,
    replaced: bool,  # noqa: FBT001 - a parameter of the test
    ns: Namespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = ns.name()
    where: Any = ns.path("file") if cls is MappedFile else name
    path = Path(
        {
            PosixSharedMemory: f"/dev/shm{name}",  # noqa: S108
            Channel: f"/dev/shm/ipckit.{name[1:]}",  # noqa: S108
            Topic: f"/dev/shm/ipckit-topic.{name[1:]}",  # noqa: S108
        }.get(cls, str(where))
    )

    def fail(*_: object, **__: object) -> None:
        if cls is PosixMessageQueue:
            posix_ipc.unlink_message_queue(name)
        else:
            path.unlink()
            if replaced:
                path.write_bytes(b"another's")
        out_of_room()

    owner, what = {
        PosixSharedMemory: (_shm_posix, "allocate"),
        PosixMessageQueue: (posix_queues, "file_of"),
        Channel: (memory_handle, "map_memory"),
        Topic: (memory_handle, "map_memory"),
        MappedFile: (_shm_mapped, "allocate"),
    }[cls]
    monkeypatch.setattr(owner, what, fail)
    with pytest.raises(LimitReached, match="no room"):
        cls.create(where, *([64] if cls in {PosixSharedMemory, MappedFile} else []))
    if replaced and cls is not PosixMessageQueue:
        assert path.read_bytes() == b"another's"
        path.unlink()


def test_a_semaphore_that_goes_while_its_creation_fails(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = ns.name()

    def fail(*_: object, **__: object) -> None:
        posix_ipc.unlink_semaphore(name)
        out_of_room()

    monkeypatch.setattr(PosixSemaphore, "_mapped", fail)
    with pytest.raises(LimitReached, match="no room"):
        PosixSemaphore.create(name)


# -- paths that stay -------------------------------------------------------------------------------


def test_a_relative_path_is_made_absolute_when_the_handle_is_made(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ns.path("first"), ns.path("second")
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)
    made = MappedFile.create("data", 16)
    found = MappedFile.open(os.path.join(".", "data"), mode="r+")  # noqa: PTH118
    monkeypatch.chdir(second)
    Path("data").write_bytes(b"another's")
    assert made.path == str(first / "data")
    assert str(first / "data") in repr(made)
    assert os.path.samefile(found.path or "", first / "data")  # noqa: PTH121
    found.resize(8192)
    assert (first / "data").stat().st_size == 8192
    os.truncate(first / "data", 4096)
    assert found.stale
    found.close()
    with made:
        pass
    assert not (first / "data").exists()
    assert Path("data").read_bytes() == b"another's"


def test_unlink_leaves_another_file_that_has_the_path(ns: Namespace) -> None:
    path = ns.path("data")
    with MappedFile.create(path, 16) as made:
        path.unlink()
        path.write_bytes(b"another's")
        with pytest.raises(NotFound, match="another object has its name"):
            made.unlink()
        made.unlink(missing_ok=True)
        made.adopt()
    assert path.read_bytes() == b"another's"


def test_a_link_to_the_file_is_what_unlink_removes(ns: Namespace) -> None:
    directory = ns.path("own")
    directory.mkdir()
    with MappedFile.create(directory / "data", 16):
        (directory / "link").symlink_to("data")
        with MappedFile.open(directory / "link") as linked:
            linked.unlink()
        assert sorted(each.name for each in directory.iterdir()) == ["data"]


def test_relative_paths_without_a_current_directory(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ipckit import unixsock  # noqa: PLC0415

    gone = ns.path("gone")
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for call in (
        lambda: MappedFile.create("data", 16),
        lambda: MappedFile.open("data"),
        lambda: unixsock.listen("data"),
        lambda: unixsock.connect("data"),
    ):
        with pytest.raises(NotFound, match="the current directory was removed"):
            call()
    for verb in (lambda: MappedFile.open(""), lambda: MappedFile.create("", 16)):
        with pytest.raises(NotFound):
            verb()


# -- open_or_create ends ---------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.01])
@sysv
def test_open_or_create_ends_when_the_object_comes_and_goes_for_ever(
    cls: Any, ns: Namespace, monkeypatch: pytest.MonkeyPatch, timeout: float
) -> None:
    arguments, _, _, owner, _ = SYSV[cls]
    key = ns.key()
    made = cls.create(key, *arguments)
    gets = {SysVSharedMemory: "_get", SysVMessageQueue: "get_queue", SysVSemaphoreSet: "_semget"}
    get = gets[cls]
    real = getattr(owner, get)

    def found(*args: Any) -> int:
        if not args[-1]:  # the flags, of which `open` passes none
            raise NotFound("no such object", errno=errno.ENOENT)
        return int(real(*args))

    monkeypatch.setattr(owner, get, found)
    with pytest.raises(Timeout, match="repeatedly created and removed it"):
        cls.open_or_create(key, *arguments, timeout=timeout)
    with closing(made):
        made.unlink()
