"""Records of a hostile sender: many descriptors, too few rights, leases, memory that can be cut."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import (
    AccessDenied,
    Channel,
    Corrupt,
    InvalidArgument,
    IpcError,
    MemFd,
    PeerGone,
    PosixSharedMemory,
    Timeout,
    Topic,
    UnixListener,
    UnixSocket,
    WouldBlock,
    aio,
    connect,
    listen,
    pair,
)
from ipckit._core import fd_access as rights
from ipckit._core.deadline import Deadline
from ipckit._sockets.transfer import first_allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Namespace

ARRAY, HANDLE = b"ipckitA1", b"ipckitH1"
SHRINK = 0x2


@pytest.fixture(params=["stream", "seqpacket"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[UnixSocket, UnixSocket]]:
    first, second = pair(request.param)
    with first, second:
        yield first, second


@pytest.fixture
def fds() -> Iterator[list[int]]:
    """Descriptors that are closed at the end."""
    numbers: list[int] = []
    yield numbers
    for number in numbers:
        os.close(number)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def record(facts: object, magic: bytes) -> bytes:
    text = json.dumps(facts).encode()
    return struct.pack("<8sI", magic, len(text)) + text


def memfd(fds: list[int], size: int = 4096, seals: int = SHRINK) -> int:
    fd = os.memfd_create("hostile", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fds.append(fd)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.mark.parametrize("what", ["receive_array", "receive_handle"])
@pytest.mark.parametrize("count", [2, 20])
def test_a_record_brings_one_descriptor_however_it_is_cut(what: str, count: int) -> None:
    first, second = pair()
    with first, second, open(os.devnull) as null:  # noqa: PTH123
        before = descriptors()
        whole = record({"pad": "x" * count}, ARRAY if what == "receive_array" else HANDLE)
        held: list[int] = []
        # A look at the numbers between two reads: the record is in pieces of one byte each.
        read = second._receive_once

        def look(*args: Any) -> Any:
            held.append(descriptors() - before)
            return read(*args)

        second._receive_once = look  # type: ignore[method-assign]
        for place in range(len(whole)):
            first.send(whole[place : place + 1], fds=[null] if place < count else ())
        with pytest.raises(Corrupt, match=f"{count} descriptors with one record"):
            getattr(second, what)(timeout=5)
        assert descriptors() == before
        # The stream is in step: the next record is whole.
        first.send_array(np.arange(3))
        assert list(second.receive_array(timeout=5)) == [0, 1, 2]


def test_an_event_loop_refuses_the_same() -> None:
    async def main() -> None:
        first, second = pair()
        with first, second, open(os.devnull) as null:  # noqa: PTH123
            before = descriptors()
            for byte in record({}, ARRAY):
                first.send(bytes([byte]), fds=[null])
            with pytest.raises(Corrupt, match="descriptors with one record"):
                await aio.wrap(second).receive_array(timeout=5)
            assert descriptors() - before <= 3  # the loop's own
            first.send_array(np.arange(3))
            assert list(await aio.wrap(second).receive_array(timeout=5)) == [0, 1, 2]

    asyncio.run(main())


def test_the_descriptors_of_an_unfinished_record_are_not_kept() -> None:
    first, second = pair()
    with first, second, open(os.devnull) as null:  # noqa: PTH123
        before = descriptors()
        start = struct.pack("<8sI", HANDLE, 32000)
        for place in range(200):
            first.send(start[place : place + 1] or b"{", fds=[null])
        with pytest.raises(Timeout):
            second.receive_handle(timeout=0.01)
        assert descriptors() == before


def test_a_sender_that_drips_does_not_outlive_the_deadline() -> None:
    first, second = pair()
    stop = threading.Event()

    def drip() -> None:
        with suppress(IpcError):
            first.send(struct.pack("<8sI", ARRAY, 32000))
            while not stop.is_set():
                first.send(b" ", timeout=1)

    with first, second:
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises((Timeout, Corrupt)):
                second.receive_array(timeout=0.02)
        finally:
            stop.set()
            second.close()
            thread.join()


def test_the_deadline_counts_between_pieces_that_are_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = pair()
    with first, second:
        first.send(record({"x": "y" * 300}, ARRAY))
        looks = iter([False, False, True])
        monkeypatch.setattr(Deadline, "expired", property(lambda _: next(looks, True)))
        monkeypatch.setattr(second, "receive", lambda *_, **__: UnixSocket.receive(second, 1))
        with pytest.raises(Timeout):
            second.receive_array(timeout=5)


# -- peers that are not allowed --------------------------------------------------------------------


def test_peers_that_are_not_allowed_do_not_outlive_the_deadline(ns: Namespace) -> None:
    path = ns.path()
    with (
        listen(path, "dgram", allow_uids=[os.getuid() + 1]) as receiver,
        connect(path, "dgram") as sender,
    ):
        for _ in range(5):
            sender.send(b"x", timeout=0)
        with pytest.raises(WouldBlock):
            receiver.receive(timeout=0)
        with pytest.raises(Timeout):
            receiver.receive(timeout=0.01)


@pytest.mark.parametrize(("timeout", "error"), [(0, WouldBlock), (0.001, Timeout)])
def test_a_stream_of_refused_things_has_an_end(timeout: float, error: type[IpcError]) -> None:
    with pytest.raises(error, match="not allowed"):
        first_allowed(lambda: None, Deadline(timeout), op="accept", target="x")


# -- rights that the sender did not have -----------------------------------------------------------


def opened(fds: list[int], path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_CLOEXEC)
    fds.append(fd)
    return fd


CLASSES: list[Any] = [Channel, Topic, PosixSharedMemory, MemFd]


@pytest.mark.parametrize("cls", CLASSES)
def test_no_right_is_gained(
    both: tuple[UnixSocket, UnixSocket], ns: Namespace, fds: list[int], cls: Any
) -> None:
    first, second = both
    before = descriptors()
    handle = {
        Channel: lambda: Channel.create(ns.name(), bytes),
        Topic: lambda: Topic.create(ns.name(), bytes),
        PosixSharedMemory: lambda: PosixSharedMemory.create(ns.name(), 4096),
        MemFd: lambda: MemFd.create("x", 4096),
    }[cls]()
    with handle:
        own = handle.memory_fd if cls in {Channel, Topic} else handle.fileno()
        for flags, error in (
            (os.O_PATH, (InvalidArgument, Corrupt)),
            (os.O_RDONLY, AccessDenied),
            (os.O_WRONLY, AccessDenied),
        ):
            fd = opened(fds, f"/proc/self/fd/{own}", flags)
            if cls is MemFd and flags == os.O_RDONLY:
                with pytest.raises(AccessDenied):
                    MemFd.from_fd(fd, readonly=False)
            else:
                with pytest.raises(error):
                    cls.from_fd(fd)
                assert os.fstat(fd).st_size  # still the caller's, and open
            first.send(record({"class": cls.__name__}, HANDLE), fds=[fd])
            if cls is MemFd and flags == os.O_RDONLY:
                with second.receive_handle(cls, timeout=5) as found:
                    assert found.readonly
            else:
                with pytest.raises(error):
                    second.receive_handle(cls, timeout=5)
    while fds:
        os.close(fds.pop())
    assert descriptors() == before


@pytest.mark.parametrize("cls", [UnixSocket, UnixListener])
def test_a_socket_by_its_path_is_no_socket(
    both: tuple[UnixSocket, UnixSocket], ns: Namespace, fds: list[int], cls: Any
) -> None:
    path = ns.path()
    with listen(path):
        fd = opened(fds, str(path), os.O_PATH)
        both[0].send(record({"class": cls.__name__}, HANDLE), fds=[fd])
        with pytest.raises(Corrupt):
            both[1].receive_handle(timeout=5)


@pytest.mark.parametrize("cls", [Channel, Topic, PosixSharedMemory])
def test_files_that_are_no_memory(
    both: tuple[UnixSocket, UnixSocket], ns: Namespace, fds: list[int], cls: Any
) -> None:
    path = ns.path()
    path.write_bytes(bytes(8192))
    reader, writer = os.pipe()
    fds += [reader, writer]
    numbers = {
        "not in memory": opened(fds, str(path), os.O_RDWR),
        "a pipe": writer,
        "a socket": both[0].fileno(),
        "a directory": opened(fds, str(path.parent), os.O_RDONLY),
    }
    for what, fd in numbers.items():
        if what == "not in memory":
            with suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_GET_SEALS)
                continue  # the directory of the tests is a tmpfs itself
        both[0].send(record({"class": cls.__name__}, HANDLE), fds=[fd])
        with pytest.raises(Corrupt, match=what):
            both[1].receive_handle(timeout=5)


def test_a_lease_holds_up_nobody(
    both: tuple[UnixSocket, UnixSocket], ns: Namespace, fds: list[int]
) -> None:
    path = Path("/dev/shm") / ns.name()[1:]  # noqa: S108
    fd = opened(fds, str(path), os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.fchmod(fd, 0o600)
    os.ftruncate(fd, 1 << 20)
    old = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        both[0].send(record({"class": "Channel"}, HANDLE), fds=[fd])
        with pytest.raises(Corrupt, match="lease"):
            both[1].receive_handle(timeout=5)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    finally:
        signal.signal(signal.SIGIO, old)
        path.unlink()


# -- memory that its sender can cut ----------------------------------------------------------------


@pytest.mark.parametrize("cls", CLASSES)
def test_memory_without_the_seal_is_refused(
    both: tuple[UnixSocket, UnixSocket], fds: list[int], cls: Any
) -> None:
    before = descriptors()
    fd = memfd(fds, 1 << 16, seals=0)
    both[0].send(record({"class": cls.__name__}, HANDLE), fds=[fd])
    with pytest.raises(Corrupt, match="SHRINK"):
        both[1].receive_handle(timeout=5)
    with pytest.raises(InvalidArgument, match="SHRINK"):
        cls.from_fd(fd)
    assert descriptors() == before + 1


def test_sealed_memory_passes(both: tuple[UnixSocket, UnixSocket], fds: list[int]) -> None:
    both[0].send(record({"class": "PosixSharedMemory"}, HANDLE), fds=[memfd(fds)])
    with both[1].receive_handle(PosixSharedMemory, timeout=5) as memory:
        assert memory.size == 4096


def test_named_objects_and_anonymous_channels_still_cross(
    both: tuple[UnixSocket, UnixSocket], ns: Namespace
) -> None:
    makers: list[Callable[[], Any]] = [
        lambda: Channel.create(ns.name(), bytes),
        lambda: Channel.anonymous(bytes),
    ]
    for make in makers:
        with make() as channel:
            both[0].send_handle(channel)
            with both[1].receive_handle(Channel, timeout=5) as other:
                channel.send(b"through")
                assert other.receive(timeout=5) == b"through"


def test_memory_that_others_can_cut_takes_the_callers_word(
    both: tuple[UnixSocket, UnixSocket], ns: Namespace
) -> None:
    with PosixSharedMemory.create(ns.name(), 4096, mode=0o622) as memory:
        both[0].send_handle(memory)
        with pytest.raises(AccessDenied, match="0o622"):
            both[1].receive_handle(timeout=5)
        both[0].send_handle(memory)
        with both[1].receive_handle(owner_uid=os.getuid(), timeout=5) as other:
            assert other.size == 4096  # type: ignore[attr-defined]
        both[0].send_handle(memory)
        with pytest.raises(TypeError, match="owner_uid"):
            both[1].receive_handle(owner_uid="root", timeout=5)


def test_memory_of_another_user_takes_the_callers_word(
    both: tuple[UnixSocket, UnixSocket], ns: Namespace, root: None
) -> None:
    del root
    with PosixSharedMemory.create(ns.name(), 4096) as memory:
        os.fchown(memory.fileno(), 65534, 65534)
        both[0].send_handle(memory)
        with pytest.raises(AccessDenied, match=r"65534.*owner_uid=65534"):
            both[1].receive_handle(timeout=5)
        both[0].send_handle(memory)
        with both[1].receive_handle(owner_uid=65534, timeout=5) as other:
            assert other.size == 4096  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("owner", "mode", "trusted", "refused"),
    [
        (1000, 0o600, None, False),
        (0, 0o644, None, False),
        (1000, 0o660, None, True),
        (1000, 0o602, None, True),
        (1001, 0o600, None, True),
        (1001, 0o666, 1001, False),
        (1001, 0o600, 1002, True),
    ],
)
def test_whose_memory_is_trusted(
    owner: int, mode: int, trusted: int | None, *, refused: bool
) -> None:
    assert bool(rights._distrust(owner, mode, {0, 1000}, trusted)) is refused


# -- sizes -----------------------------------------------------------------------------------------


def test_an_announced_size_is_not_allocated_before_its_bytes_come() -> None:
    first, second = pair()
    with first, second:
        first.send(struct.pack("<8sI", ARRAY, 32768) + b"{")
        first.close()
        with pytest.raises(PeerGone, match="32767 bytes"):
            second.receive_array(timeout=5)


def test_memory_larger_than_the_address_space(
    both: tuple[UnixSocket, UnixSocket], fds: list[int]
) -> None:
    seals = SHRINK | 0x4 | 0x8
    size = 2**62 - 4096
    before = descriptors()
    fd = memfd(fds, size, seals)
    facts = {"dtype": "|u1", "shape": [size], "order": "C", "size": size}
    both[0].send(record(facts, ARRAY), fds=[fd])
    with pytest.raises(IpcError):
        both[1].receive_array(timeout=5)
    assert descriptors() == before + 1


def test_plain_sockets_pass_one_descriptor_at_most(fds: list[int]) -> None:
    first, second = pair("dgram")
    with first, second:
        fds.append(os.dup(0))
        first.send(record({}, ARRAY), fds=[fds[0]] * 3)
        with pytest.raises(IpcError):
            second.receive_array(timeout=5)
        assert isinstance(first.socket, socket.socket)
