"""The contract of Channel: create and open, types, waiting, batches, state, lifecycle."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import pickle
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from ipckit import (
    AccessDenied,
    AlreadyExists,
    Capabilities,
    Channel,
    Char,
    ClosedHandle,
    Corrupt,
    Handle,
    Int,
    InvalidArgument,
    LayoutMismatch,
    LimitReached,
    MessageTooLong,
    NotFound,
    Struct,
    Timeout,
    WouldBlock,
)
from ipckit.channel import Loan, View
from ipckit.codec import Codec, Msgpack, Pickle, codec_for
from ipckit.testing import Sandbox, wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

SHM = Path("/dev/shm")  # noqa: S108 - where channels live


class Stu(Struct):
    name: Char[32]
    age: Int


class Big(Struct):
    text: Char[20000]


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


class Note(msgspec.Struct):
    n: int
    text: str = ""


def shm() -> set[str]:
    return {path.name for path in SHM.iterdir()}


def file_of(name: str) -> Path:
    return SHM / f"ipckit.{name.removeprefix('/')}"


# -- create and open -------------------------------------------------------------------------------


def test_two_handles_of_one_channel(ns: Namespace) -> None:
    name = ns.name()
    with Channel.create(name) as one, Channel.open(name) as two:
        assert (one.owner, two.owner) == (True, False)
        assert one.name == two.name == name
        one.send(b"to two")
        assert two.receive() == b"to two"
        two.send(b"to one")
        assert one.receive(timeout=5) == b"to one"
        assert isinstance(one, Handle)
        assert Channel.caps == Capabilities(
            pollable=True,
            timed=True,
            priorities=False,
            typed_receive=False,
            unlink_destroys_now=False,
        )
    assert not file_of(name).exists()


def test_create_never_opens_and_open_never_creates(ns: Namespace) -> None:
    name = ns.name()
    with pytest.raises(NotFound, match=r"Channel\.create\("):
        Channel.open(name)
    with Channel.create(name) as channel:
        with pytest.raises(AlreadyExists, match=r"Channel\.open\("):
            Channel.create(name)
        channel.send(b"still there")
        assert channel.receive() == b"still there"


def test_open_or_create_owns_only_what_it_made(ns: Namespace) -> None:
    name = ns.name()
    with Channel.open_or_create(name, Stu) as one, Channel.open_or_create(name, Stu) as two:
        assert (one.owner, two.owner) == (True, False)
        with pytest.raises(LayoutMismatch):
            Channel.open_or_create(name, bytes)
        with pytest.raises(InvalidArgument):  # although the channel exists and `size` is ignored
            Channel.open_or_create(name, Stu, capacity=0)


def test_create_without_a_name_picks_an_unused_one() -> None:
    with Channel.create() as one, Channel.create() as two:
        assert one.name is not None
        assert one.name != two.name
        with Channel.open(one.name) as other:
            other.send(b"found")
        assert one.receive() == b"found"


def test_a_channel_is_one_file_of_mode_0600(ns: Namespace) -> None:
    before = shm()
    old = os.umask(0)
    try:
        with Channel.create(ns.name()) as channel:
            assert channel.name is not None
            assert shm() - before == {file_of(channel.name).name}
            assert stat.S_IMODE(file_of(channel.name).stat().st_mode) == 0o600
        os.umask(0o777)
        with Channel.create(ns.name(), mode=0o666) as channel:
            assert channel.name is not None
            assert stat.S_IMODE(file_of(channel.name).stat().st_mode) == 0o666
    finally:
        os.umask(old)
    assert shm() == before


@pytest.mark.parametrize("name", ["", "/", "a/b", "a\0b", ".", "..", "x" * 249])
def test_invalid_names(name: str) -> None:
    for make in (Channel.create, Channel.open, Channel.open_or_create):
        with pytest.raises(InvalidArgument):
            make(name)


def test_the_longest_name_and_one_in_utf_8() -> None:
    for name in ("x" * 248, "/grüße"):
        with Channel.create(name) as channel:
            assert file_of(name).exists()
            assert channel.name == "/" + name.removeprefix("/")


@pytest.mark.parametrize(
    "options",
    [
        {"capacity": 0},
        {"capacity": 2**23},
        {"size": 0},
        {"size": 2**40},
        {"type": Stu, "size": 40},
        {"mode": 0o1000},
        {"spin": -1},
        {"spin": 1_000_001},
        {"peer_gone": "ignore"},
        {"peer_gone": ["wait"]},
    ],
)
def test_an_option_out_of_range(options: dict[str, Any]) -> None:
    before = shm()
    with pytest.raises(InvalidArgument):
        Channel.create(**options)
    assert shm() == before


@pytest.mark.parametrize(
    "options",
    [{"capacity": 1.5}, {"capacity": True}, {"size": "1"}, {"mode": "600"}, {"spin": 1.0}],
)
def test_an_option_of_the_wrong_type(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Channel.create(**options)


@pytest.mark.parametrize("payload", [int, object, 5, "bytes", np.dtype(object)])
def test_an_object_that_is_not_a_payload_type(payload: Any) -> None:
    for make in (Channel.create, Channel.anonymous):
        with pytest.raises(TypeError):
            make(type=payload)


def test_unlink_removes_the_name_and_open_handles_go_on(ns: Namespace) -> None:
    name = ns.name()
    with Channel.create(name) as old:
        old.unlink()
        with pytest.raises(NotFound):
            old.unlink()
        old.unlink(missing_ok=True)
        with pytest.raises(NotFound):
            Channel.open(name)
        with Channel.create(name) as new:
            old.send(b"old")
            assert len(new) == 0
            old.adopt()
            old.__exit__(None, None, None)  # must not unlink the new channel's name
            assert file_of(name).exists()


def test_an_anonymous_channel_has_no_name() -> None:
    before = shm()
    with Channel.anonymous(Stu, capacity=3) as channel:
        assert channel.name is None
        assert shm() == before
        channel.send(Stu("amy", 20))
        with Channel.from_fd(os.dup(channel.memory_fd), Stu) as other:
            assert other.receive() == Stu("amy", 20)
            assert not other.owner
        with pytest.raises(NotFound, match="last user"):
            channel.unlink()
        with pytest.raises(InvalidArgument, match="multiprocessing"):
            pickle.dumps(channel)
        with pytest.raises(OSError):  # noqa: PT011 - it is sealed against truncation
            os.ftruncate(channel.memory_fd, 0)


def test_from_fd_takes_the_descriptor_only_if_it_succeeds(ns: Namespace) -> None:
    with Channel.create(ns.name(), Stu) as channel:
        fd = os.dup(channel.memory_fd)
        with pytest.raises(LayoutMismatch):
            Channel.from_fd(fd, bytes)
        with Channel.from_fd(fd, Stu) as other:
            assert other.name == channel.name
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
    with pytest.raises(InvalidArgument):
        Channel.from_fd(fd)
    with pytest.raises(TypeError):
        Channel.from_fd("0")  # type: ignore[call-overload]
    with (SHM / "ipckit.shorter").open("w+b") as file:
        Path(file.name).unlink()
        fd = os.dup(file.fileno())
        with pytest.raises(Corrupt, match="not a channel: it has only"):
            Channel.from_fd(fd)
        os.close(fd)


def test_a_file_that_is_not_a_channel(ns: Namespace) -> None:
    path = file_of(ns.name())
    try:
        path.write_bytes(b"")
        with pytest.raises(Corrupt):
            Channel.open(path.name.removeprefix("ipckit."))
        path.write_bytes(bytes(100_000))
        with pytest.raises(Corrupt):
            Channel.open(path.name.removeprefix("ipckit."))
        path.unlink()
        path.symlink_to("/etc/passwd")
        with pytest.raises(Corrupt):
            Channel.open(path.name.removeprefix("ipckit."))
        path.unlink()
        path.mkdir()
        with pytest.raises(Corrupt):
            Channel.open(path.name.removeprefix("ipckit."))
        path.rmdir()
        os.mkfifo(path)
        with pytest.raises(Corrupt):
            Channel.open(path.name.removeprefix("ipckit."))
    finally:
        path.unlink()


@pytest.mark.usefixtures("root")
def test_a_channel_of_another_user_is_refused(ns: Namespace, spawn: Callable[..., Child]) -> None:
    code = """
        from ipckit import AccessDenied, Channel
        try:
            Channel.open(args[0])
            result = "opened"
        except AccessDenied as exc:
            result = str(exc)
        with Channel.open(args[1]) as channel:
            channel.send(b"from nobody")
        with Channel.create() as own:
            own.send(b"x")
            assert own.receive() == b"x"
    """
    with Channel.create(ns.name()) as mine, Channel.create(ns.name(), mode=0o666) as ours:
        child = spawn(code, mine.name, ours.name, user="nobody", imports=["ipckit"])
        assert "read and to write" in child.result
        assert ours.receive() == b"from nobody"
    assert issubclass(AccessDenied, PermissionError)


@pytest.mark.usefixtures("root")
def test_a_full_dev_shm_is_an_error_with_a_hint(spawn: Callable[..., Child]) -> None:
    code = """
        import os, subprocess
        from ipckit import Channel, LimitReached
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm"], check=True)
        try:
            Channel.create("frames")
        except LimitReached as exc:
            result = str(exc)
        assert os.listdir("/dev/shm") == []
        with Channel.create("small", size=100_000, capacity=10) as channel:
            channel.send(bytes(50_000))
        with Channel.anonymous() as channel:
            channel.send(bytes(1 << 20))
    """
    found = spawn(code, sandbox=Sandbox(mount=True)).result
    assert "are free" in found
    assert "--shm-size" in found
    assert "Channel.anonymous" in found


def test_no_descriptors_left(spawn: Callable[..., Child]) -> None:
    code = """
        import os, resource
        from ipckit import Channel, LimitReached
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        for make in (Channel.create, Channel.anonymous):
            try:
                make()
            except LimitReached as exc:
                assert "RLIMIT_NOFILE" in str(exc), exc
            else:
                raise AssertionError
        os.close(taken.pop())
        result = len(os.listdir("/dev/shm"))
    """
    assert spawn(code).result == len(shm())


def test_the_256_places_for_peers(ns: Namespace) -> None:
    name = ns.name()
    with Channel.create(name) as first:
        others = [Channel.open(name) for _ in range(255)]
        with pytest.raises(LimitReached, match="256"):
            Channel.open(name)
        assert len(first.peers()) == 256
        others.pop().close()
        Channel.open(name).close()
        for each in others:
            each.close()
        assert len(first.peers()) == 1


# -- types -----------------------------------------------------------------------------------------

VALUES: list[tuple[Any, Any]] = [
    (bytes, b"\0abc"),
    (bytes, b""),
    (bytes, bytes(100_000)),
    (str, "grüße"),
    (Stu, Stu("amy", 20)),
    (Big, Big("long " * 3000)),
    (Note, Note(7, "seven")),
    (Msgpack(Note), Note(8)),
    (Pickle, {"any": [1, None]}),
    (codec_for(Stu), Stu("bob", 31)),
]


@pytest.mark.parametrize(("payload", "value"), VALUES)
def test_a_value_comes_out_as_it_went_in(payload: Any, value: Any) -> None:
    with Channel.anonymous(payload, capacity=4) as channel:
        for _ in range(10):  # often enough to wrap around the ring
            channel.send(value)
            found = channel.receive()
            assert found == value
            assert type(found) is type(value)


def test_a_channel_of_bytes_takes_bytes_like_objects() -> None:
    with Channel.anonymous() as channel:
        for value in (bytearray(b"abc"), memoryview(b"abc"), np.frombuffer(b"abc", np.uint8)):
            channel.send(value)  # type: ignore[arg-type]
            assert channel.receive() == b"abc"
        with pytest.raises(TypeError):
            channel.send(memoryview(b"abcdef")[::2])  # type: ignore[arg-type]


def test_ctypes() -> None:
    with Channel.anonymous(Point, capacity=2) as channel:
        channel.send(Point(1, 2.5))
        found = channel.receive()
        assert (found.x, found.y) == (1, 2.5)


def test_arrays_of_any_length_and_of_one_shape() -> None:
    with Channel.anonymous(np.dtype("i4")) as channel:
        for size in (0, 1, 5, 100_000):
            sent = np.arange(size, dtype="i4")
            channel.send(sent)
            found = channel.receive()
            assert np.array_equal(found, sent)
            assert found.flags.writeable
    frame = np.dtype((np.uint8, (4, 5, 3)))
    with Channel.anonymous(frame, capacity=2) as channel:
        image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
        channel.send(image)
        assert np.array_equal(channel.receive(), image)
        for wrong in (image[0], image.reshape(5, 4, 3), image.astype("i4")):
            with pytest.raises(TypeError):
                channel.send(wrong)
    with Channel.anonymous(np.float64) as channel:
        channel.send(np.array([1.5]))
        assert channel.receive()[0] == 1.5


@pytest.mark.parametrize(
    ("payload", "wrong"),
    [(bytes, "text"), (bytes, 5), (str, b"b"), (Stu, b"b"), (Note, Stu("x", 1))],
)
def test_a_value_of_another_type_is_not_sent(payload: Any, wrong: Any) -> None:
    with Channel.anonymous(payload) as channel:
        with pytest.raises(TypeError):
            channel.send(wrong)
        assert len(channel) == 0


TYPES: list[tuple[Any, str]] = [
    (bytes, "bytes"),
    (str, "str"),
    (Stu, "char name[32]; int age;"),
    (Point, "Point(x: c_int, y: c_double) of 16 bytes"),
    (Note, "Note(n: int, text: str) as MessagePack"),
    (np.dtype("i4"), "array of int32"),
    (np.dtype(("u1", (2, 3))), "array of ('u1', (2, 3)) of 6 bytes"),
    (Pickle, "pickle"),
]


@pytest.mark.parametrize(("payload", "text"), TYPES)
def test_the_error_for_another_type_shows_both_types(
    payload: Any, text: str, ns: Namespace
) -> None:
    with Channel.create(ns.name(), payload) as channel:
        assert channel.name is not None
        for other, other_text in TYPES:
            if other is payload:
                Channel.open(channel.name, other).close()
                continue
            with pytest.raises(LayoutMismatch) as info:
                Channel.open(channel.name, other)
            assert text in str(info.value)
            assert other_text in str(info.value)


def test_types_that_only_look_alike(ns: Namespace) -> None:
    class First(Codec[bytes]):
        size, accepts, fingerprint, name = None, bytes, "one", "frame"

        def encode(self, value: Any) -> Any:
            return value

        def decode(self, data: bytes) -> bytes:
            return data

    class Second(First):
        fingerprint = "another"

    with (
        Channel.create(ns.name(), First) as channel,
        pytest.raises(LayoutMismatch, match="look alike"),
    ):
        Channel.open(channel.name or "", Second)


def test_bytes_that_do_not_decode_are_in_the_error(ns: Namespace) -> None:
    with Channel.create(ns.name(), str) as channel, Channel.open(channel.name or "", str) as other:
        with other.loan(2) as slot:
            slot.buf[:] = b"\xff\xfe"
            slot.send()
        with pytest.raises(LayoutMismatch) as info:
            channel.receive()
        assert info.value.raw == b"\xff\xfe"
        assert len(channel) == 0
        channel.send("good")
        with other.loan(1) as slot:
            slot.buf[:] = b"\xff"
            slot.send()
        with pytest.raises(LayoutMismatch) as info:
            channel.receive_many()
        assert info.value.received == ("good",)


# -- waiting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spin", [0, 2000])
def test_timeouts(spin: int) -> None:
    with Channel.anonymous(capacity=2, spin=spin) as channel:
        for call in (channel.receive, channel.receive_view, channel.receive_many):
            with pytest.raises(WouldBlock, match="no message waits"):
                call(timeout=0)
            with pytest.raises(Timeout, match=r"within 0\.01 s"):
                call(timeout=0.01)
        channel.send_many([b"1", b"2"])
        for send in (
            lambda **kw: channel.send(b"3", **kw),
            lambda **kw: channel.loan(3, **kw),
            lambda **kw: channel.send_many([b"3"], **kw),
        ):
            with pytest.raises(WouldBlock, match="full"):
                send(timeout=0)
            with pytest.raises(Timeout, match=r"full for 0\.0"):
                send(timeout=0.01)
        assert channel.receive_many() == [b"1", b"2"]


def test_send_many_times_out_also_between_two_messages() -> None:
    def values() -> Iterator[bytes]:
        yield b"1"
        yield b"2"
        time.sleep(0.05)
        yield b"3"

    with Channel.anonymous(capacity=2) as channel:
        with pytest.raises(Timeout, match=r"full for 0\.01 s") as stopped:
            channel.send_many(values(), timeout=0.01)
        assert stopped.value.sent == 2
        with pytest.raises(WouldBlock):
            channel.send_many(values(), timeout=0)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_out_of_range(timeout: float) -> None:
    with Channel.anonymous() as channel:
        calls: list[Callable[[], Any]] = [
            lambda: channel.receive(timeout=timeout),
            lambda: channel.receive_view(timeout=timeout),
            lambda: channel.receive_many(timeout=timeout),
            lambda: channel.send(b"", timeout=timeout),
            lambda: channel.loan(1, timeout=timeout),
            lambda: channel.send_many([b""], timeout=timeout),
        ]
        for call in calls:
            with pytest.raises(InvalidArgument):
                call()
        with pytest.raises(TypeError):
            channel.receive(timeout="1")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            channel.receive(1)  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            channel.send(b"", wait=1)  # type: ignore[call-arg]
        assert len(channel) == 0


def test_a_thread_that_waits_is_woken() -> None:
    found = []
    with Channel.anonymous(capacity=1) as channel:
        receiver = threading.Thread(target=lambda: found.append(channel.receive()))
        receiver.start()
        wait_blocked(os.getpid(), "shared_futex")
        channel.send(b"woken")
        receiver.join()
        channel.send(b"full")
        sender = threading.Thread(target=lambda: channel.send(b"next"))
        sender.start()
        wait_blocked(os.getpid(), "shared_futex")
        assert channel.receive() == b"full"
        sender.join()
        assert channel.receive() == b"next"
    assert found == [b"woken"]


def test_close_wakes_threads_that_wait_in_the_handle() -> None:
    errors: list[BaseException] = []

    def wait(channel: Channel[bytes]) -> None:
        try:
            channel.receive()
        except ClosedHandle as exc:
            errors.append(exc)

    channel = Channel.anonymous()
    thread = threading.Thread(target=wait, args=(channel,))
    thread.start()
    wait_blocked(os.getpid(), "shared_futex")
    channel.close()
    thread.join()
    assert len(errors) == 1


def test_a_message_that_is_too_long_does_not_wait() -> None:
    with Channel.anonymous(size=10_000, capacity=4) as channel:
        assert channel.longest == 5000
        channel.send(bytes(5000))
        assert channel.receive() == bytes(5000)
        for call in (
            lambda: channel.send(bytes(5001)),
            lambda: channel.send(bytes(1 << 20)),
            lambda: channel.loan(5001),
            lambda: channel.send_many([bytes(5001)]),
        ):
            with pytest.raises(MessageTooLong, match="5,000 bytes") as info:
                call()
            assert info.value.errno == errno.EMSGSIZE
        channel.send(bytes(5000))  # the channel still works


def test_overwrite_counts_the_dropped_messages(ns: Namespace) -> None:
    with Channel.create(ns.name(), capacity=3, overwrite=True) as channel:
        for number in range(10):
            channel.send(b"%d" % number, timeout=0)
        assert channel.stats().dropped == 7
        # `overwrite` is an option of the channel, not of a handle.
        with Channel.open(channel.name or "") as other:
            other.send(b"last")
        assert [channel.receive() for _ in range(3)] == [b"8", b"9", b"last"]
        assert channel.stats().dropped == 8
    with Channel.anonymous(size=100_000, capacity=100, overwrite=True) as channel:
        for number in range(20):
            channel.send(bytes([number]) * 30_000)
        assert channel.receive()[0] > 15


def test_an_iteration_that_ended_stays_ended(ns: Namespace) -> None:
    channel = Channel.create(ns.name(), str, capacity=4)
    with Channel.open(channel.name or "", str) as other:
        other.send("one")
        other.send("two")
        messages = iter(channel)
        assert iter(messages) is messages
        assert next(messages) == "one"
    assert list(messages) == ["two"]  # it ends: the last sender is gone
    with Channel.open(channel.name or "", str) as other:
        other.send("three")
        assert list(messages) == []
        again = iter(channel)
        channel.send("four")
        assert [next(again), next(again)] == ["three", "four"]
        channel.close()
        with pytest.raises(ClosedHandle):
            next(again)
        assert list(again) == []
    channel.unlink()


# -- batches ---------------------------------------------------------------------------------------


def test_a_batch_of_structs_is_an_array() -> None:
    with Channel.anonymous(Stu, capacity=500) as channel:
        records = np.zeros(300, Stu.dtype)
        records["age"] = np.arange(300)
        channel.send_many(records)
        assert len(channel) == 300
        assert channel.receive().age == 0  # single messages of the batch
        found = channel.receive_many(99)
        assert found.dtype == Stu.dtype
        assert list(found["age"]) == list(range(1, 100))
        channel.send(Stu("one", 300))
        channel.send_many([Stu("two", 301)])
        found = channel.receive_many()
        assert list(found["age"]) == list(range(100, 302))
        channel.send_many(records[:0])
        with pytest.raises(WouldBlock):
            channel.receive_many(timeout=0)
        with pytest.raises(TypeError):
            channel.send_many(np.zeros(3, "i4"))
        with pytest.raises(TypeError):
            channel.send_many(np.zeros((3, 2), Stu.dtype))


def test_a_batch_larger_than_the_channel_says_how_many_were_sent() -> None:
    with Channel.anonymous(Stu, capacity=10) as channel:
        with pytest.raises(WouldBlock) as info:
            channel.send_many(np.zeros(25, Stu.dtype), timeout=0)
        assert info.value.sent == 10  # type: ignore[attr-defined]
        with pytest.raises(Timeout) as other:
            channel.send_many([Stu("x", 1)], timeout=0.01)
        assert other.value.sent == 0  # type: ignore[attr-defined]
        assert len(channel.receive_many()) == 10
        with pytest.raises(TypeError) as wrong:
            channel.send_many([Stu("x", 1), Stu("x", 1), b"no"])  # type: ignore[list-item]
        assert wrong.value.sent == 2  # type: ignore[attr-defined]
        assert len(channel) == 2


def test_a_batch_continues_when_there_is_room() -> None:
    got: list[int] = []
    with Channel.anonymous(np.dtype("i8"), capacity=50) as channel:

        def take() -> None:
            while len(got) < 10_000:
                got.extend(channel.receive_many(timeout=30))

        thread = threading.Thread(target=take)
        thread.start()
        channel.send_many(np.arange(10_000), timeout=30)
        thread.join()
    assert got == list(range(10_000))


def test_large_records_in_batches() -> None:
    with Channel.anonymous(Big, capacity=4) as channel:
        records = np.zeros(3, Big.dtype)
        records["text"] = [b"a" * 20000, b"b", b"c" * 19999]
        channel.send_many(records)
        first = channel.receive_many(1)
        assert bytes(first["text"][0]) == b"a" * 20000
        assert [bytes(each["text"])[:1] for each in channel.receive_many()] == [b"b", b"c"]
    frame = np.dtype((np.uint8, (200, 100)))
    with Channel.anonymous(frame, capacity=8) as channel:
        frames = np.random.default_rng(1).integers(0, 256, (5, 200, 100), np.uint8)
        channel.send_many(frames)
        found = channel.receive_many()
        assert found.shape == (5, 200, 100)
        assert np.array_equal(found, frames)
        assert channel.stats().bytes_used == 0
        with pytest.raises(Timeout):
            channel.receive_many(timeout=0.01)


def test_an_array_of_several_elements_is_received_alone() -> None:
    with Channel.anonymous(np.dtype("i4")) as channel:
        channel.send_many(np.arange(3, dtype="i4"))
        channel.send(np.arange(10, dtype="i4"))
        channel.send_many(np.arange(2, dtype="i4"))
        assert [list(channel.receive_many()) for _ in range(3)] == [
            [0, 1, 2],
            list(range(10)),
            [0, 1],
        ]


@pytest.mark.parametrize("most", [0, -1])
def test_max_is_one_or_more(most: int) -> None:
    with Channel.anonymous() as channel:
        with pytest.raises(InvalidArgument):
            channel.receive_many(most)
        with pytest.raises(TypeError):
            channel.receive_many(1.5)  # type: ignore[arg-type]


# -- state and lifecycle ---------------------------------------------------------------------------


def test_stats_and_peers(ns: Namespace) -> None:
    with Channel.create(ns.name(), capacity=7, size=1000) as channel:
        assert (len(channel), bool(channel), channel.capacity) == (0, True, 7)
        channel.send_many([b"1", b"22"])
        channel.receive()
        stats = channel.stats()
        assert (stats.messages, stats.capacity, stats.dropped) == (1, 7, 0)
        assert (stats.sent, stats.received) == (2, 1)
        assert 0 < stats.bytes_used < stats.size
        with Channel.open(channel.name or "") as other:
            mine, theirs = channel.peers()
            assert (mine.self, theirs.self) == (True, False)
            assert (mine.pid, theirs.pid) == (os.getpid(), os.getpid())
            assert (mine.creator, mine.sender, mine.receiver) == (True, True, True)
            assert (theirs.creator, theirs.sender, theirs.receiver) == (False, False, False)
            assert mine.since <= theirs.since
            assert [each.self for each in other.peers()] == [False, True]
        assert len(channel.peers()) == 1


def test_repr(ns: Namespace) -> None:
    with Channel.create(ns.name(), Stu, capacity=7) as channel:
        channel.send(Stu("x", 1))
        assert repr(channel) == (
            f"<Channel channel {(channel.name or '')[1:]}, 1 of 7 messages of Stu, open, owner>"
        )
    assert "closed" in repr(channel)
    with Channel.anonymous() as channel:
        assert repr(channel).startswith("<Channel anonymous channel, 0 of 1024")


def test_methods_of_a_closed_handle_raise() -> None:
    channel = Channel.anonymous()
    channel.close()
    channel.close()
    calls: list[Callable[[], Any]] = [
        channel.receive,
        channel.receive_view,
        channel.receive_many,
        lambda: channel.send(b""),
        lambda: channel.send_many([b""]),
        lambda: channel.loan(1),
        channel.fileno,
        channel.space_fileno,
        channel.stats,
        channel.peers,
        lambda: len(channel),
        lambda: channel.capacity,
        lambda: channel.longest,
        lambda: channel.memory_fd,
        lambda: pickle.dumps(channel),
        lambda: next(iter(channel)),
        channel.__enter__,
    ]
    for call in calls:
        with pytest.raises(ClosedHandle):
            call()
    assert channel.closed


def test_dropping_an_open_handle_warns_and_does_not_unlink(ns: Namespace) -> None:
    name = ns.name()
    channel = Channel.create(name)
    with pytest.warns(ResourceWarning, match="unclosed <Channel"):  # noqa: PT031
        del channel
        gc.collect()
    Channel.open(name).adopt().__exit__(None, None, None)


def test_a_handle_pickles_by_its_name(ns: Namespace) -> None:
    with (
        Channel.create(ns.name(), Stu, peer_gone="wait", spin=0) as channel,
        pickle.loads(pickle.dumps(channel)) as other,  # noqa: S301 - just made
    ):
        assert not other.owner
        channel.send(Stu("amy", 20))
        assert other.receive() == Stu("amy", 20)


def test_native_objects_without_a_channel_do_not_crash() -> None:
    from ipckit import _native  # noqa: PLC0415 - private

    bare = _native.ChannelBase()
    for call in (bare.receive, lambda: bare.send(b""), lambda: len(bare)):
        with pytest.raises(AttributeError):  # _explain_ring, which Channel defines
            call()
    bare._detach()
    with pytest.raises(TypeError):
        _native.LeaseHolder()
    with pytest.raises(TypeError):
        _native.Lease()
    with pytest.raises(AttributeError):
        bare.loan(1)
    with pytest.raises(ValueError, match="never opened"):
        bare.receive_view()
    with Channel.anonymous() as channel:
        for lend in (channel._take, lambda holder, _: channel._lend(holder, 1, 0)):
            with pytest.raises(TypeError, match="LeaseHolder"):
                lend(object, 0)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="before"):
            channel._set_in_place(Loan, View, 1, 0)


class _Closes:
    """A timeout whose conversion to seconds closes a channel, from the given call on."""

    def __init__(self, channel: Channel[Any], times: int) -> None:
        self.channel, self.times = channel, times

    def __float__(self) -> float:
        self.times -= 1
        if self.times == 0:
            self.channel.close()
        return 0.05


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_timeout_that_closes_the_channel(times: int) -> None:
    for call in (
        lambda channel, wait: channel.receive(timeout=wait),
        lambda channel, wait: channel.receive_view(timeout=wait),
        lambda channel, wait: channel.send(b"x", timeout=wait),
        lambda channel, wait: channel.loan(1, timeout=wait),
    ):
        with Channel.anonymous(bytes, capacity=1) as channel:
            if call.__code__.co_names[0] in {"send", "loan"}:
                channel.send(b"full")
            with pytest.raises((ClosedHandle, Timeout)):
                call(channel, _Closes(channel, times))


def test_a_timeout_whose_truth_value_raises() -> None:
    class Neither:
        def __float__(self) -> float:
            return 0.2

        def __bool__(self) -> bool:
            raise RuntimeError("neither")

    with Channel.anonymous() as channel, pytest.raises(RuntimeError, match="neither"):
        channel.receive(timeout=Neither())  # type: ignore[arg-type]


def test_a_finalizer_that_closes_the_channel_while_its_peers_are_listed() -> None:
    class Finalized:
        def __init__(self, channel: Channel[bytes]) -> None:
            self.me, self.channel = self, channel

        def __del__(self) -> None:
            self.channel.close()

    before = gc.get_threshold()
    channel = Channel.anonymous()
    list_peers = channel._peers
    try:
        gc.disable()
        Finalized(channel)
        # Lists and tuples from the interpreter's free lists would not run the collector.
        kept = [[[] for _ in range(200)], [tuple([index] * 8) for index in range(3000)]]
        gc.set_threshold(1)
        gc.enable()
        rows = list_peers()
    finally:
        gc.set_threshold(*before)
        gc.enable()
    gc.collect()
    assert channel.closed
    assert len(kept) == 2
    assert [row[-1] for row in rows] == [1]


def test_a_finalizer_that_closes_the_channel_it_is_called_from() -> None:
    class Finalized:
        def __init__(self, channel: Channel[Stu]) -> None:
            self.me, self.channel = self, channel

        def __del__(self) -> None:
            self.channel.close()

    before = gc.get_threshold()
    try:
        for _ in range(50):
            channel = Channel.anonymous(Stu)
            channel.send(Stu("amy", 20))
            gc.disable()
            Finalized(channel)  # creating the next tracked object runs the collector
            gc.set_threshold(1)
            gc.enable()
            with suppress(ClosedHandle):
                assert channel.receive() == Stu("amy", 20)
            gc.set_threshold(*before)
            gc.collect()
            assert channel.closed
    finally:
        gc.enable()
        gc.set_threshold(*before)
