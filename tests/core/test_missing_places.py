"""Systems without /dev/shm, without /proc, or without O_TMPFILE in the file system."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

import ipckit
from ipckit import Channel, MappedFile, PosixSemaphore, PosixSharedMemory, Topic, WouldBlock
from ipckit._core import files
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

IMPORTS = ["ipckit", "subprocess"]
SHM = Path("/dev/shm")  # noqa: S108

# Each call in each condition: the class and the text of its error, or what it gave.
CALLS = """
    import os, subprocess
    from ipckit import *

    CALLS = {
        "shm create": lambda: PosixSharedMemory.create("/x", 10),
        "shm create unnamed": lambda: PosixSharedMemory.create(size=10),
        "shm open": lambda: PosixSharedMemory.open("/x"),
        "shm open_or_create": lambda: PosixSharedMemory.open_or_create("/x", 10, timeout=None),
        "sem create": lambda: PosixSemaphore.create("/x", 1),
        "sem open": lambda: PosixSemaphore.open("/x"),
        "sem open_or_create": lambda: PosixSemaphore.open_or_create("/x", 1, timeout=None),
        "channel create": lambda: Channel.create("x", size=4096),
        "channel open": lambda: Channel.open("x"),
        "channel open_or_create": lambda: Channel.open_or_create("x", size=4096, timeout=None),
        "topic create": lambda: Topic.create("x", size=4096),
        "topic open": lambda: Topic.open("x"),
        "topic open_or_create": lambda: Topic.open_or_create("x", size=4096, timeout=None),
    }

    def errors():
        seen = {}
        for name, call in CALLS.items():
            try:
                made = call()
            except Exception as exc:
                seen[name] = (type(exc).__name__, str(exc))
            else:
                made.unlink()
                made.close()
                seen[name] = ("", "")
        return seen

    def mount(*words):
        subprocess.run(["mount", *words], check=True)
"""


def seen_in(spawn: Callable[..., Child], code: str, **options: Any) -> Any:
    source = dedent(CALLS) + dedent(code)
    return spawn(source, sandbox=Sandbox(), imports=IMPORTS, **options).result


@pytest.mark.usefixtures("root")
def test_without_dev_shm_each_call_says_so_and_ends(spawn: Callable[..., Child]) -> None:
    code = """
        mount("-t", "tmpfs", "tmpfs", "/dev")
        result = [errors()]
        open("/dev/shm", "w").close()
        result.append(errors())
        os.unlink("/dev/shm")
        os.symlink("/nowhere", "/dev/shm")
        result.append(errors())
        # What needs none works.
        Channel.anonymous().close()
        Topic.anonymous().close()
        MemFd.create("x", 10).close()
        subprocess.run(["umount", "/dev"], check=True)
    """
    for seen in seen_in(spawn, code):
        for call, (kind, text) in seen.items():
            assert kind == "NotFound", (call, text)
            assert "/dev/shm is missing" in text, (call, text)  # noqa: S108
            assert "mount -t tmpfs" in text, (call, text)
            assert "need" in text, (call, text)


@pytest.mark.usefixtures("root")
def test_a_read_only_dev_shm_is_named(spawn: Callable[..., Child]) -> None:
    code = """
        mount("-o", "remount,ro", "/dev/shm")
        result = errors()
    """
    for call, (kind, text) in seen_in(spawn, code).items():
        if call.endswith("open"):
            assert kind == "NotFound", call
        else:
            assert "/dev/shm is read-only" in text, (call, text)  # noqa: S108
            assert "remount,rw" in text, call


@pytest.mark.usefixtures("root")
def test_a_dev_shm_that_this_user_may_not_write_is_named(spawn: Callable[..., Child]) -> None:
    code = """
        result = []
        for mode in (0o755, 0o700):
            os.chmod("/dev/shm", mode)
            os.seteuid(65534)
            result.append(errors())
            os.seteuid(0)
    """
    readable, closed = seen_in(spawn, code)
    for call, (kind, text) in readable.items():
        assert kind == ("NotFound" if call.endswith("open") else "AccessDenied"), (call, text)
        assert call.endswith("open") or "may not write /dev/shm" in text, (call, text)
    for call, (kind, text) in closed.items():
        assert kind == "AccessDenied", (call, text)
        assert "/dev/shm, which belongs to root (uid 0) and has the mode 0700" in text, call  # noqa: S108


@pytest.mark.usefixtures("root")
def test_without_proc_what_needs_it_says_so_and_the_rest_works(spawn: Callable[..., Child]) -> None:
    code = """
        import socket
        channel, topic = Channel.anonymous(), Topic.anonymous()
        given = os.dup(channel.memory_fd)
        mount("-t", "tmpfs", "tmpfs", "/proc")
        result = errors()
        def note(name, call):
            try:
                call().close()
            except Exception as exc:
                result[name] = (type(exc).__name__, str(exc))
            else:
                result[name] = ("", "")
        memory, queue = PosixSharedMemory.create("/y", 10), PosixMessageQueue.create("/y")
        long = "/dev/shm/" + "d" * 60 + "/" + "e" * 50
        os.mkdir(os.path.dirname(long))
        note("anonymous", Channel.anonymous)
        note("channel from_fd", lambda: Channel.from_fd(given))
        note("topic anonymous", Topic.anonymous)
        note("topic subscribe", topic.subscribe)
        with MemFd.create("x", 10) as memfd:
            note("memfd from_fd", lambda: MemFd.from_fd(os.dup(memfd.fileno())))
        note("shm from_fd", lambda: PosixSharedMemory.from_fd(os.dup(memory.fileno())))
        note("queue from_fd", lambda: PosixMessageQueue.from_fd(os.dup(queue.fileno())))
        from ipckit import unixsock
        note("long path", lambda: unixsock.listen(long))
        os.fstat(given)
        for each in (memory, queue):
            each.unlink()
            each.close()
        subprocess.run(["umount", "/proc"], check=True)
        channel.close()
        topic.close()
        os.close(given)
    """
    seen = seen_in(spawn, code)
    channels = {"channel create", "channel open_or_create", "anonymous", "channel from_fd"}
    channels |= {"topic create", "topic open_or_create", "topic anonymous", "topic subscribe"}
    for call, (kind, text) in seen.items():
        if call in channels | {"long path"}:
            assert "/proc, which is not mounted" in text, (call, kind, text)
        elif call.endswith(" open"):
            assert kind == "NotFound", call
            assert "no such" in text, call
        else:
            assert kind == "", (call, text)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EISDIR])
def test_a_file_system_without_o_tmpfile(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(code, os.strerror(code))
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    name = ns.name()
    before = set(os.listdir(SHM))  # noqa: PTH208
    with Channel.create(name, mode=0o640) as channel:
        assert set(os.listdir(SHM)) - before == {f"ipckit.{name[1:]}"}  # noqa: PTH208
        assert os.fstat(channel.memory_fd).st_mode & 0o7777 == 0o640
        with pytest.raises(ipckit.AlreadyExists):
            Channel.create(name)
        with Channel.open(name) as other:
            other.send(b"x")
        assert channel.receive() == b"x"
    assert set(os.listdir(SHM)) == before  # noqa: PTH208


# -- a lease, which `ipckit ls` and `gc` hold while they look --------------------------------------


@pytest.fixture
def leased() -> Iterator[Callable[[str], Callable[[], None]]]:
    """Take a lease on a file, as `ipckit ls` does; the result ends it."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)

    def lease(path: str) -> Callable[[], None]:
        fd = os.open(path, os.O_RDONLY)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        return lambda: os.close(fd)

    yield lease
    signal.signal(signal.SIGIO, before)


def kinds(ns: Namespace) -> list[tuple[Callable[[], Any], str, Callable[[], Any]]]:
    """How each is made, its file, and how it is opened."""
    name, path = ns.name(), ns.path("file")
    return [
        (lambda: Channel.create(name), f"/dev/shm/ipckit.{name[1:]}", lambda: Channel.open(name)),  # noqa: S108
        (
            lambda: Topic.create(name),
            f"/dev/shm/ipckit-topic.{name[1:]}",  # noqa: S108
            lambda: Topic.open(name),
        ),
        (
            lambda: PosixSemaphore.create(name),
            f"/dev/shm/sem.{name[1:]}",  # noqa: S108
            lambda: PosixSemaphore.open(name),
        ),
        (
            lambda: PosixSharedMemory.create(name, 10),
            f"/dev/shm{name}",  # noqa: S108
            lambda: PosixSharedMemory.open(name),
        ),
        (
            lambda: MappedFile.create(path, 10),
            str(path),
            lambda: MappedFile.open(path),
        ),
    ]


def test_opening_waits_for_the_end_of_a_lease(ns: Namespace, leased: Any) -> None:
    for create, path, call in kinds(ns):
        made = create()
        made.close()
        end = leased(path)
        refused = threading.Event()
        opened: list[Any] = []

        def run(call: Callable[[], Any] = call, opened: list[Any] = opened) -> None:
            opened.append(call())

        thread = threading.Thread(target=run)
        thread.start()
        try:
            # F_GETLEASE tells what the lease is to become once another process wants the file.
            while not refused.is_set():
                probe = os.open(path, os.O_PATH)
                os.close(probe)
                if not thread.is_alive() or _wanted(end):
                    refused.set()
            assert thread.is_alive()
        finally:
            end()
            thread.join()
        opened[0].close()
        made.unlink()


def _wanted(end: Callable[[], None]) -> bool:
    (cell,) = end.__closure__ or ()
    return fcntl.fcntl(cell.cell_contents, fcntl.F_GETLEASE) != fcntl.F_WRLCK


def test_a_lease_that_does_not_end_is_an_error_that_says_so(
    ns: Namespace, leased: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_LEASE_SECONDS", 0.0)
    for create, path, call in kinds(ns):
        made = create()
        made.close()
        end = leased(path)
        try:
            with pytest.raises(WouldBlock, match="lease"):
                call()
        finally:
            end()
        made.unlink()
