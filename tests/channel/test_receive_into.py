"""`Channel.receive_into`: the bytes of a message in the caller's buffer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import (
    Channel,
    ClosedHandle,
    InvalidArgument,
    MessageTooLong,
    PeerGone,
    Timeout,
    WouldBlock,
)
from ipckit._native import INLINE_MAX
from ipckit.structs import Int, Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

# Around the limits: of small messages, of those in the ring, and of copies with the GIL.
SIZES = [1, 40, 41, 1024, INLINE_MAX, INLINE_MAX + 1, 16384, 16385, 100_000]


class Point(Struct):
    x: Int
    y: Int


@pytest.fixture
def channel() -> Iterator[Channel[bytes]]:
    with Channel.anonymous(bytes, capacity=16) as made:
        yield made


@pytest.mark.parametrize("size", [0, *SIZES])
def test_the_bytes_and_their_number(channel: Channel[bytes], size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    for room in (size, size + 7):
        buffer = bytearray(b"\xee" * room)
        channel.send(data)
        assert channel.receive_into(buffer) == size
        assert buffer == data + b"\xee" * (room - size)
    assert len(channel) == 0
    assert channel.stats().bytes_used == 0


@pytest.mark.parametrize("size", SIZES)
def test_a_message_that_does_not_fit_stays(channel: Channel[bytes], size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    channel.send(data)
    channel.send(b"next")
    buffer = bytearray(size - 1)
    for _ in range(2):
        with pytest.raises(
            MessageTooLong, match=f"has {size:,} bytes, and the buffer has {size - 1:,}"
        ):
            channel.receive_into(buffer, timeout=0)
    assert buffer == bytes(size - 1)
    assert len(channel) == 2
    assert channel.receive() == data
    buffer = bytearray(4)
    assert channel.receive_into(buffer) == 4
    assert buffer == b"next"


def test_records_of_one_batch_are_messages() -> None:
    with Channel.anonymous(Point, capacity=16) as channel:
        channel.send_many([Point(1, 2), Point(3, 4)])
        channel.send_many(np.array([(5, 6), (7, 8)], Point.dtype))
        memory = np.zeros(2, np.int32)
        found = []
        for _ in range(4):
            assert channel.receive_into(memory) == 8
            found.append(tuple(memory))
        assert found == [(1, 2), (3, 4), (5, 6), (7, 8)]
        channel.send(Point(9, 9))
        with pytest.raises(MessageTooLong):
            channel.receive_into(bytearray(7))
        assert channel.receive() == Point(9, 9)


def test_loans_are_messages(channel: Channel[bytes]) -> None:
    later, first = channel.loan(50_000), channel.loan(10)
    first.buf[:] = b"f" * 10
    first.send()
    later.buf[:] = b"l" * 50_000
    later.send()
    buffer = bytearray(50_000)
    assert channel.receive_into(buffer) == 10
    assert buffer[:10] == b"f" * 10
    assert channel.receive_into(buffer) == 50_000
    assert buffer == b"l" * 50_000


@pytest.mark.parametrize(
    "buffer",
    [b"constant", memoryview(bytearray(20))[::2], np.zeros((4, 4))[:, 1], "text", None, 5],
    ids=["readonly", "steps", "column", "text", "none", "int"],
)
def test_other_buffers_are_refused(channel: Channel[bytes], buffer: Any) -> None:
    channel.send(b"x")
    with pytest.raises(TypeError):
        channel.receive_into(buffer)
    assert channel.receive() == b"x"


def test_arguments(channel: Channel[bytes]) -> None:
    receive_into: Any = channel.receive_into
    with pytest.raises(TypeError):
        receive_into()
    with pytest.raises(TypeError):
        receive_into(bytearray(1), 1)
    with pytest.raises(TypeError):
        receive_into(bytearray(1), time=1)
    with pytest.raises(TypeError):
        receive_into(bytearray(1), timeout="soon")
    with pytest.raises(InvalidArgument):
        receive_into(bytearray(1), timeout=-1)


def test_it_waits_as_receive_does(channel: Channel[bytes]) -> None:
    buffer = bytearray(8)
    with pytest.raises(WouldBlock):
        channel.receive_into(buffer, timeout=0)
    with pytest.raises(Timeout):
        channel.receive_into(buffer, timeout=0.01)
    timer = threading.Timer(0.05, channel.send, [b"late"])
    timer.start()
    assert channel.receive_into(buffer) == 4
    assert buffer[:4] == b"late"
    timer.join()
    channel.close()
    with pytest.raises(ClosedHandle):
        channel.receive_into(buffer)
    assert len(buffer) == 8
    buffer.append(1)  # the buffer was released


def test_the_last_sender_exits(ns: Namespace, spawn: Callable[..., Child]) -> None:
    with Channel.create(name := ns.name()) as channel:
        child = spawn(
            """
            import sys
            from ipckit import Channel
            with Channel.open(sys.argv[1]) as channel:
                channel.send(b"only")
            """,
            name,
        )
        child.finish()
        buffer = bytearray(8)
        assert channel.receive_into(buffer) == 4
        with pytest.raises(PeerGone):
            channel.receive_into(buffer, timeout=30)
        channel.unlink()


def test_the_descriptor_tells_the_truth(channel: Channel[bytes]) -> None:
    fd = channel.fileno()
    import select  # noqa: PLC0415 - this test's alone

    def readable() -> bool:
        return bool(select.select([fd], [], [], 0)[0])

    channel.send(b"long")
    while not readable():  # a thread writes it
        pass
    with pytest.raises(MessageTooLong):
        channel.receive_into(bytearray(2), timeout=0)
    assert readable()
    channel.receive_into(bytearray(4))
    assert not readable()
