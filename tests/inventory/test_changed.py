"""An object that changes between the survey and the removal is not removed."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import (
    NotFound,
    PosixMessageQueue,
    PosixSharedMemory,
    SysVMessageQueue,
    SysVSharedMemory,
    inventory,
)
from ipckit._inventory import files, sockets

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._inventory.judge import Verdict
    from ipckit.inventory import IpcObject, Kind
    from ipckit.testing import Namespace

NEXT_ID = Path("/proc/sys/kernel/msg_next_id")


def look(kind: Kind, address: str) -> IpcObject:
    (found,) = [each for each in inventory.survey([kind]).objects if each.address == address]
    return found


@pytest.fixture
def dead(ns: Namespace, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A socket's file that no process is behind, in a directory of its own."""
    ns.directory.chmod(0o755)
    base = ns.directory / "a" / "b"  # so deep that gc of another worker does not find it
    path = base / "d" / "s"
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(sockets, "_DIRECTORIES", (os.fspath(base),))
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.fspath(path))
    return path


@pytest.mark.parametrize("force", [False, True])
def test_a_directory_that_became_a_link_leads_to_no_removal(dead: Path, *, force: bool) -> None:
    item = look("socket", f"socket:{dead}")
    protected = dead.parent.parent / "protected"
    protected.mkdir()
    (protected / "s").write_text("another user's")
    dead.parent.rename(dead.parent.parent / "moved")
    dead.parent.symlink_to(protected)
    with pytest.raises(NotFound):
        inventory.remove(item, force=force)
    assert (protected / "s").read_text() == "another user's"


def test_a_directory_that_becomes_a_link_during_the_check_is_not_followed(
    dead: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = look("socket", f"socket:{dead}")
    base = dead.parent.parent
    protected = base / "protected"
    protected.mkdir()
    (protected / "s").write_text("another user's")
    answers = sockets.answers

    def swap(path: Path) -> bool | None:
        told = answers(path)
        dead.parent.rename(base / "moved")
        dead.parent.symlink_to(protected)
        return told

    monkeypatch.setattr(sockets, "answers", swap)
    inventory.remove(item)
    assert (protected / "s").read_text() == "another user's"
    assert not (base / "moved" / "s").exists()  # which is what was judged


@pytest.mark.usefixtures("root")
def test_a_link_of_another_user_is_not_followed_to_the_same_file(dead: Path) -> None:
    item = look("socket", f"socket:{dead}")
    dead.parent.rename(dead.parent.parent / "moved")
    dead.parent.symlink_to(dead.parent.parent / "moved")
    os.lchown(dead.parent, 65534, 65534)
    with pytest.raises(NotFound, match="symbolic link"):
        inventory.remove(item)
    assert dead.exists()


def test_a_file_that_replaces_it_during_the_check_stays(
    dead: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = look("socket", f"socket:{dead}")

    def swap(path: Path) -> bool | None:
        del path
        dead.rename(dead.with_name("old"))
        dead.write_text("precious")
        return False

    monkeypatch.setattr(sockets, "answers", swap)
    with pytest.raises(NotFound):
        inventory.remove(item)
    assert dead.read_text() == "precious"


def test_a_probe_does_not_follow_a_directory_that_became_a_link(
    dead: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protected = dead.parent.parent / "protected"
    protected.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(protected / "s"))
        server.listen()
        server.settimeout(0)
        judge = sockets._verdict

        def swap(path: Path, status: os.stat_result) -> Verdict:
            if path == dead:
                dead.parent.rename(dead.parent.parent / "moved")
                dead.parent.symlink_to(protected)
            return judge(path, status)

        monkeypatch.setattr(sockets, "_verdict", swap)
        listed = inventory.survey(["socket"]).objects
        assert dead.parent.is_symlink()
        assert os.fspath(dead) not in {each.name for each in listed}
        with pytest.raises(BlockingIOError):
            server.accept()  # a service that starts on demand would start


def test_a_later_socket_with_the_same_inode_number_stays(dead: Path) -> None:
    # A disk's file system gives the number of the file that was removed last to the next one.
    item = look("socket", f"socket:{dead}")
    os.utime(dead, ns=(0, dead.stat().st_mtime_ns + 1))
    with pytest.raises(NotFound):
        inventory.remove(item)
    assert dead.exists()


@pytest.mark.parametrize("make", [PosixSharedMemory, PosixMessageQueue])
def test_a_later_object_with_the_same_name_stays(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    memory = make is PosixSharedMemory
    sizes = {"size": 100} if memory else {"max_messages": 1, "max_size": 10}
    name = ns.name()
    make.create(name, **sizes).disown().close()
    kind: Kind = "posix-segment" if memory else "posix-queue"
    item = look(kind, f"{inventory.PREFIXES[kind]}:{name}")
    is_alone = files.is_alone

    def remove() -> None:
        with make.open(name) as found:
            found.unlink()

    def swap(fd: int | None) -> bool | None:
        remove()
        make.create(name, **sizes).disown().close()
        return is_alone(fd)

    monkeypatch.setattr(files, "is_alone", swap)
    with pytest.raises(NotFound):
        inventory.remove(item)
    monkeypatch.undo()
    remove()


def again_as_nobody(make: Callable[[], Any]) -> None:
    """Make an object in a child that is another user."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setuid(65534)
            make().disown().close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.usefixtures("root")
def test_a_later_queue_with_the_same_id_stays(ns: Namespace) -> None:
    if "IPCKIT_TEST_UNSHARED" not in os.environ or not NEXT_ID.exists():
        pytest.skip("takes an IPC namespace of its own, and CONFIG_CHECKPOINT_RESTORE")
    key = ns.key()
    queue = SysVMessageQueue.create(key)
    ident = queue.id
    queue.close()
    item = look("sysv-queue", f"q:{ident}")
    queue.unlink()
    NEXT_ID.write_text(str(ident))
    # The same id and key, most often in the same second: only its maker is another one.
    again_as_nobody(lambda: SysVMessageQueue.create(key))
    with pytest.raises(NotFound):
        inventory.remove(item, force=True)
    with SysVMessageQueue.from_id(ident) as other:
        other.unlink()


def test_the_identity_of_a_segment_includes_its_creator(ns: Namespace) -> None:
    with SysVSharedMemory.create(ns.key(), 100) as segment:
        item = look("sysv-segment", f"m:{segment.id}")
        assert os.getpid() in item.identity
        with pytest.raises(NotFound):
            inventory.remove(replace(item, identity=(*item.identity[:-1], 1)), force=True)
