"""Descriptors that come in the wrong number, at the wrong time or with the wrong words: no leak."""

from __future__ import annotations

import array
import json
import os
import random
import resource
import select
import signal
import socket
import struct
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import (
    Corrupt,
    Handle,
    InvalidArgument,
    IpcError,
    LayoutMismatch,
    LimitReached,
    MemFd,
    MessageTooLong,
    PosixSharedMemory,
    UnixSocket,
    WouldBlock,
    pair,
)
from ipckit._sockets.records import HANDLE, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

SO_PASSSEC, SO_PASSPIDFD = 34, 76


@pytest.fixture(params=["stream", "dgram", "seqpacket"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[UnixSocket, UnixSocket]]:
    first, second = pair(request.param)
    with first, second:
        yield first, second


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """RLIMIT_NOFILE such that so many more descriptors can be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.dup(0) for _ in range(count + 1)]  # the lowest numbers, in order
    for number in free:
        os.close(number)
    limit = free[-1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_descriptors_are_the_packets_and_close_on_exec(
    both: tuple[UnixSocket, UnixSocket], null: int
) -> None:
    first, second = both
    before = descriptors()
    for timeout in (None, 5):
        first.send(b"x", fds=[null] * 3, timeout=timeout)
        with second.receive(max_fds=3, timeout=timeout) as packet:
            assert not any(map(os.get_inheritable, packet.fds))
            taken = packet.fds.take(1)
            assert len(packet.fds) == 2
            with pytest.raises(InvalidArgument):
                packet.fds.take(5)
        os.close(taken)
        assert list(packet.fds) == []
        first.send(b"x", fds=[null])
        second.receive(max_fds=1, timeout=timeout)  # dropped
        assert descriptors() == before


def test_253_pass_and_254_do_not(both: tuple[UnixSocket, UnixSocket], null: int) -> None:
    first, second = both
    first.send(b"x", fds=[null] * 253)
    with second.receive(max_fds=253) as packet:
        assert len(packet.fds) == 253
    for timeout in (None, 1):
        with pytest.raises(LimitReached, match="253"):
            first.send(b"x", fds=[null] * 254, timeout=timeout)


def test_descriptors_that_are_not_open(both: tuple[UnixSocket, UnixSocket]) -> None:
    for timeout in (None, 1):
        with pytest.raises(InvalidArgument, match="not open"):
            both[0].send(b"x", fds=[2**30], timeout=timeout)
        with pytest.raises(InvalidArgument, match="must be 0 to 2"):
            both[0].send(b"x", fds=[-1], timeout=timeout)


def test_a_stream_needs_a_byte_to_go_with(null: int) -> None:
    first, second = pair()
    with first, second:
        with pytest.raises(InvalidArgument, match="need at least one byte"):
            first.send(b"", fds=[null])
        first.send(b"abc", fds=[null])
        first.send(b"def")
        with second.receive(max_fds=1) as packet:  # what has descriptors is a barrier
            assert (packet.data, len(packet.fds)) == (b"abc", 1)
        assert second.receive().data == b"def"


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_more_than_are_welcome(both: tuple[UnixSocket, UnixSocket], null: int, count: int) -> None:
    first, second = both
    before = descriptors()
    for timeout in (None, 1):
        first.send(b"x", fds=[null] * (count + 3), timeout=timeout)
        with pytest.raises(MessageTooLong, match=f"more descriptors than max_fds \\({count}\\)"):
            second.receive(max_fds=count, timeout=timeout)
        assert descriptors() == before


def test_unasked_descriptors_are_closed(both: tuple[UnixSocket, UnixSocket], null: int) -> None:
    first, second = both
    before = descriptors()
    second.pass_credentials = True
    for credentials in (True, False):
        second.pass_credentials = credentials
        for timeout in (None, 1):
            first.send(b"x", fds=[null] * 5)
            packet = second.receive(timeout=timeout)
            assert (packet.data, list(packet.fds)) == (b"x", [])
            assert descriptors() == before


def test_no_room_for_them_names_the_limit(both: tuple[UnixSocket, UnixSocket], null: int) -> None:
    first, second = both
    before = descriptors()
    for timeout in (None, 1):
        for room in (0, 2):
            first.send(b"x", fds=[null] * 4)
            with room_for(room), pytest.raises(LimitReached) as caught:
                second.receive(max_fds=4, timeout=timeout)
            assert f"only {room} of the message's descriptors" in str(caught.value)
            assert "RLIMIT_NOFILE" in str(caught.value)
            assert descriptors() == before


def test_other_control_messages_in_any_order(
    both: tuple[UnixSocket, UnixSocket], null: int
) -> None:
    first, second = both
    second.pass_credentials = True
    for option in (SO_PASSSEC, SO_PASSPIDFD):
        try:
            second.socket.setsockopt(socket.SOL_SOCKET, option, 1)
        except OSError:
            continue  # an older kernel
    before = descriptors()
    own = struct.pack("iII", os.getpid(), os.getuid(), os.getgid())
    parts = [
        (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null])),
        (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, own),
        (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null])),
    ]
    for order in ((0, 1), (1, 0), (0, 1, 2), (1, 0, 2), (0, 2, 1)):
        first.socket.sendmsg([b"x"], [parts[place] for place in order])
        with second.receive(max_fds=2) as packet:
            assert len(packet.fds) == len(order) - 1
            assert packet.credentials == struct.unpack("iII", own)
        assert descriptors() == before


def test_thousands_of_failing_receives_leak_nothing(
    both: tuple[UnixSocket, UnixSocket], null: int
) -> None:
    first, second = both
    chance = random.Random(7)
    before, failed = descriptors(), 0
    for turn in range(3000):
        second.pass_credentials = bool(turn & 1)
        first.send(b"x" * chance.randrange(1, 9), fds=[null] * chance.randrange(6))
        calls: list[Callable[[], Any]] = [
            lambda: second.receive(max_fds=chance.randrange(4)),
            lambda: second.receive(max_fds=2, timeout=1),
            second.receive_array,
            second.receive_handle,
        ]
        try:
            if second.kind == "stream":
                calls[chance.randrange(2)]()
            else:
                calls[chance.randrange(4)]()
        except IpcError:
            failed += 1
    assert failed > 500
    assert descriptors() == before


def test_a_handler_that_raises_leaks_nothing(
    both: tuple[UnixSocket, UnixSocket], null: int
) -> None:
    class Enough(Exception):  # noqa: N818 - no error
        pass

    raised = 0

    def handler(*_: object) -> None:
        nonlocal raised
        raised += 1
        raise Enough

    def receive_often() -> None:
        for _ in range(30):
            first.send(b"x", fds=[null] * 3)
            second.receive(max_fds=3, timeout=1)
            first.send(b"x", fds=[null] * 3)
            second.receive(max_fds=3)

    first, second = both
    before = descriptors()
    old = signal.signal(signal.SIGALRM, handler)
    try:
        for turn in range(2000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 20e-6 + turn % 300 * 1e-6)
                receive_often()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Enough:
                pass
            while True:  # what it had no time to receive
                try:
                    second.receive(timeout=0)
                except WouldBlock:
                    break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert raised > 100
    assert descriptors() == before


def test_what_is_passed_can_be_used(
    both: tuple[UnixSocket, UnixSocket], spawn: Callable[..., Child]
) -> None:
    first, second = both

    def over(*passed: Any) -> list[int]:
        first.send(b"x", fds=passed)
        with second.receive(max_fds=len(passed), timeout=60) as packet:
            return packet.fds.take_all()

    child = spawn("from ipckit.testing import step; step.expect('end')")
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        counter = os.eventfd(5)
        process = os.pidfd_open(child.pid)
        near = stack.enter_context(socket.create_connection(server.getsockname()))
        far = stack.enter_context(server.accept()[0])
        numbers = over(counter, process, near, server)
        for each in (counter, process, *numbers[:2]):
            stack.callback(os.close, each)
        near.close()

        connection = stack.enter_context(socket.socket(fileno=numbers[2]))
        connection.sendall(b"as before")
        assert far.recv(100) == b"as before"

        listener = stack.enter_context(socket.socket(fileno=numbers[3]))
        server.close()
        with (
            socket.create_connection(listener.getsockname()) as client,
            listener.accept()[0] as accepted,
        ):
            client.sendall(b"a new one")
            assert accepted.recv(100) == b"a new one"

        os.eventfd_write(numbers[0], 2)
        assert os.eventfd_read(counter) == 7

        ended = select.poll()
        ended.register(numbers[1])
        assert ended.poll(0) == []
        signal.pidfd_send_signal(numbers[1], signal.SIGKILL)
        assert ended.poll(60_000) == [(numbers[1], select.POLLIN)]
        child.wait(expect=-signal.SIGKILL)


def test_too_many_under_way(spawn: Callable[..., Child]) -> None:
    code = """
        import resource, os
        from ipckit import LimitReached, pair
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        first, second = pair("seqpacket")
        with first, second:
            result = ""
            try:
                for _ in range(1000):
                    first.send(b"x", fds=[first] * 50, timeout=0)
            except LimitReached as exc:
                result = str(exc)
    """
    if os.geteuid() == 0:
        child = spawn(code, user="nobody", imports=["ipckit", "resource"])
    else:
        child = spawn(code)
    assert "in transit" in child.result
    assert "RLIMIT_NOFILE (64)" in child.result


# -- records of a hostile peer ---------------------------------------------------------------------

GOOD = {"dtype": "<f8", "shape": [2, 4], "order": "C", "size": 64}
BAD: list[dict[str, Any]] = [
    {"dtype": "|O"},
    {"dtype": "O"},
    {"dtype": 3},
    {"dtype": None},
    {"dtype": []},
    {"dtype": "<f77"},
    {"dtype": "<U9999999999"},
    {"dtype": "|V0"},
    {"dtype": {"names": ["a"], "formats": ["|O"], "offsets": [0], "itemsize": 8}},
    {"dtype": {"names": ["a"], "formats": ["<f8"], "offsets": [-8], "itemsize": 8}},
    {"dtype": {"names": ["a"], "formats": ["<f8"], "offsets": [8], "itemsize": 8}},
    {"dtype": {"names": ["a"], "formats": ["<f8"], "offsets": [2**70], "itemsize": 8}},
    {"dtype": {"names": ["a", "a"], "formats": ["<f4"] * 2, "offsets": [0, 4], "itemsize": 8}},
    {"dtype": {"names": [3], "formats": ["<f8"], "offsets": [0], "itemsize": 8}},
    {"dtype": {"names": "a", "formats": ["<f8"], "offsets": [0], "itemsize": -8}},
    {"dtype": {"names": ["a"], "formats": "f", "offsets": None, "itemsize": 8}},
    {"dtype": {"base": "<f8", "shape": [2**40, 2**40]}},
    {"dtype": {"base": "<f8", "shape": [-1]}},
    {"dtype": {"base": "<f8"}},
    {"shape": [8, 2]},
    {"shape": [-2, -4]},
    {"shape": [2**62, 2**62]},
    {"shape": [2**61, 4, 0], "size": 0},
    {"shape": [2.0, 4]},
    {"shape": [True, 8]},
    {"shape": "24"},
    {"shape": [1] * 40 + [8]},
    {"order": "K"},
    {"order": ["C"]},
    {"size": 63},
    {"size": "64"},
    {"size": -64},
    {"size": 2**63, "shape": [2**60]},
    {"size": 1600, "shape": [200]},
    {"shape": [0], "size": 0},
]


def record(facts: object, magic: bytes = b"ipckitA1") -> bytes:
    text = json.dumps(facts).encode()
    return struct.pack("<8sI", magic, len(text)) + text


def sealed(size: int = 64) -> MemFd:
    memory = MemFd.create("hostile", size)
    memory.seal(0x1 | 0x2 | 0x4 | 0x8)
    return memory


@pytest.mark.parametrize("change", BAD, ids=lambda change: json.dumps(change)[:60])
def test_hostile_arrays_are_corrupt(
    both: tuple[UnixSocket, UnixSocket], change: dict[str, Any]
) -> None:
    first, second = both
    with sealed() as memory:
        first.send(record({**GOOD, **change}), fds=[memory])
    with pytest.raises(Corrupt):
        second.receive_array(timeout=5)


def test_the_good_one_passes(both: tuple[UnixSocket, UnixSocket]) -> None:
    with sealed() as memory:
        both[0].send(record(GOOD), fds=[memory])
    assert (both[1].receive_array(timeout=5) == np.zeros((2, 4))).all()


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 30000, b'{"dtype":' * 3000, b"{}"],
    ids=range(9),
)
def test_hostile_texts_are_corrupt(both: tuple[UnixSocket, UnixSocket], text: bytes) -> None:
    first, second = both
    for magic, receive in (
        (b"ipckitA1", second.receive_array),
        (b"ipckitH1", second.receive_handle),
    ):
        with sealed() as memory:
            first.send(struct.pack("<8sI", magic, len(text)) + text, fds=[memory])
        with pytest.raises(Corrupt):
            receive(timeout=5)


def test_dtypes_that_nest_too_deep(both: tuple[UnixSocket, UnixSocket]) -> None:
    nested: Any = "<f8"
    for _ in range(100):
        nested = {"base": nested, "shape": [1]}
    with sealed() as memory:
        both[0].send(record({**GOOD, "dtype": nested}), fds=[memory])
    with pytest.raises(Corrupt, match="deep"):
        both[1].receive_array(timeout=5)


def test_lengths_that_lie(both: tuple[UnixSocket, UnixSocket]) -> None:
    both[0].send(struct.pack("<8sI", b"ipckitA1", 2**32 - 1) + b"{}")
    with pytest.raises(Corrupt):
        both[1].receive_array(timeout=5)


def test_memory_that_is_not_safe(both: tuple[UnixSocket, UnixSocket], null: int) -> None:
    first, second = both
    before = descriptors()
    with MemFd.create("open", 64) as writable:
        first.send(record(GOOD), fds=[writable])
        with pytest.raises(Corrupt, match="seal"):
            second.receive_array(timeout=5)
    first.send(record(GOOD), fds=[null])
    with pytest.raises(Corrupt, match="memfd"):
        second.receive_array(timeout=5)
    first.send(record(GOOD))
    with pytest.raises(Corrupt, match="0 descriptors"):
        second.receive_array(timeout=5)
    assert descriptors() == before


def test_handles_that_are_none(both: tuple[UnixSocket, UnixSocket], null: int) -> None:
    first, second = both
    before = descriptors()
    names = ["MemFd", "UnixSocket", "UnixListener", "PosixMessageQueue", "PosixSharedMemory"]
    for name in [*names, "Handle", "__class__", 3, None, ["MemFd"]]:
        first.send(record({"class": name, "readonly": 1, "path": 3}, b"ipckitH1"), fds=[null])
        with pytest.raises(Corrupt):
            second.receive_handle(timeout=5)
    assert descriptors() == before


class Frame(PosixSharedMemory):
    """Shared memory of a subclass."""


@pytest.mark.parametrize("expected", [Frame, PosixSharedMemory, Handle])
def test_a_subclass_passes_as_itself_and_as_its_base(
    both: tuple[UnixSocket, UnixSocket], ns: Namespace, expected: type[Handle]
) -> None:
    with Frame.create(ns.name(), 64) as memory:
        both[0].send_handle(memory)
        with both[1].receive_handle(expected, timeout=5) as copy:
            assert type(copy) is (Frame if expected is Frame else PosixSharedMemory)
            assert isinstance(copy, PosixSharedMemory)
            assert copy.size == memory.size


def test_a_handle_of_another_kind_is_refused(both: tuple[UnixSocket, UnixSocket]) -> None:
    with MemFd.create("other", 64) as memory:
        both[0].send_handle(memory)
        with pytest.raises(LayoutMismatch):
            both[1].receive_handle(Frame, timeout=5)


def test_an_unknown_kind_of_handle_is_corrupt(both: tuple[UnixSocket, UnixSocket]) -> None:
    with open(os.devnull) as null:  # noqa: PTH123
        both[0].send(encode(HANDLE, {"class": "Telegraph"}), fds=[null])
        with pytest.raises(Corrupt, match="Telegraph"):
            both[1].receive_handle(timeout=5)
