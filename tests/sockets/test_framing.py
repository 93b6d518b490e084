"""Message boundaries: however a stream is cut, the frames are the same."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipckit import (
    DelimitedFrames,
    FixedFrames,
    Framed,
    Framing,
    InvalidArgument,
    LengthPrefixed,
    MessageTooLong,
    PeerGone,
    Timeout,
    WouldBlock,
    pair,
    read_exactly,
    read_line,
    write_all,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FRAMES = st.lists(st.binary(max_size=12).filter(lambda b: b"\r\n" not in b and b[-1:] != b"\r"))
KINDS: dict[str, Callable[[], Framing]] = {
    "delimited": lambda: DelimitedFrames(b"\r\n", max_size=12),
    "prefixed": lambda: LengthPrefixed(">H", max_size=12),
}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=list(KINDS))


@each_kind
@given(frames=FRAMES, data=st.data())
def test_any_cut_gives_the_same_frames(
    make: Callable[[], Framing], frames: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(map(make().encode, frames))
    places = st.lists(st.integers(0, len(stream)))
    cuts = sorted({0, len(stream), *data.draw(places)})
    framing = make()
    found: list[bytes] = []
    for start, stop in pairwise(cuts):
        found += framing.feed(stream[start:stop])
    framing.end()
    assert found == frames
    assert framing.pending == 0


@each_kind
@given(frames=FRAMES)
def test_byte_by_byte_and_an_end_at_every_byte(
    make: Callable[[], Framing], frames: list[bytes]
) -> None:
    framing, found, ends = make(), list[bytes](), {0}
    for frame in frames:
        ends.add(max(ends) + len(framing.encode(frame)))
    for place, byte in enumerate(b"".join(map(framing.encode, frames))):
        found += framing.feed(bytes([byte]))
        if place + 1 in ends:
            framing.end()
        else:
            with pytest.raises(PeerGone, match="missing"):
                framing.end()
    assert found == frames


@given(count=st.integers(0, 5), rest=st.integers(0, 6), step=st.integers(1, 9))
def test_fixed_frames(count: int, rest: int, step: int) -> None:
    stream = bytes(range(count * 7 + rest))
    framing, found = FixedFrames(7), list[bytes]()
    for start in range(0, len(stream), step):
        found += framing.feed(stream[start : start + step])
    assert found == [stream[place * 7 : place * 7 + 7] for place in range(count)]
    assert framing.pending == rest
    if rest:
        with pytest.raises(PeerGone, match=f"{7 - rest} of 7 bytes were missing"):
            framing.end()


@each_kind
def test_a_frame_of_the_most_bytes_passes_and_one_more_does_not(
    make: Callable[[], Framing],
) -> None:
    framing = make()
    assert framing.feed(framing.encode(b"x" * 12)) == [b"x" * 12]
    with pytest.raises(MessageTooLong, match="13"):
        framing.encode(b"x" * 13)
    good, long = framing.encode(b"ab"), b"x" * 13 + b"\r\n"
    if isinstance(framing, LengthPrefixed):
        long = struct.pack(">H", 13)
    assert framing.feed(good + long) == [b"ab"]  # what was good is not lost
    for _ in range(2):
        with pytest.raises(MessageTooLong, match="13"):
            framing.feed(b"")
    with pytest.raises(MessageTooLong):
        framing.end()
    framing.reset()
    assert framing.feed(good) == [b"ab"]


def test_a_line_without_end_is_refused_as_soon_as_it_is_too_long() -> None:
    framing = DelimitedFrames(b"\r\n", max_size=4)
    assert framing.feed(b"abcd\r") == []
    assert framing.feed(b"\nabcd") == [b"abcd"]
    with pytest.raises(MessageTooLong, match="5 or more"):
        framing.feed(b"ef")


def test_what_can_not_be_a_frame() -> None:
    with pytest.raises(InvalidArgument, match="delimiter"):
        DelimitedFrames(b"\n").encode(b"a\nb")
    with pytest.raises(InvalidArgument, match="early"):
        DelimitedFrames(b"aa").encode(b"ba")
    with pytest.raises(InvalidArgument, match="must have 7 bytes, not 6"):
        FixedFrames(7).encode(b"123456")
    with pytest.raises(MessageTooLong):
        FixedFrames(7).encode(b"12345678")
    for wrong in (
        lambda: FixedFrames(0),
        lambda: DelimitedFrames(b""),
        lambda: LengthPrefixed("d"),
    ):
        with pytest.raises(InvalidArgument):
            wrong()
    with pytest.raises(MessageTooLong):
        LengthPrefixed(">b").feed(b"\xff")
    assert LengthPrefixed("B").max_size == 255


def test_framed_over_a_socket_to_its_end() -> None:
    first, second = pair()
    with Framed(first, LengthPrefixed()) as sender, Framed(second, LengthPrefixed()) as receiver:
        sender.send(b"one")
        sender.send(b"")
        assert (receiver.receive(), receiver.receive()) == (b"one", b"")
        with pytest.raises(WouldBlock):
            receiver.receive(timeout=0)
        first.send(b"\0\0\0\3ab")
        with pytest.raises(Timeout):
            receiver.receive(timeout=0.01)
        first.send(b"c\0\0\0\1d")
        first.shutdown("write")
        assert list(receiver) == [b"abc", b"d"]
        with pytest.raises(PeerGone, match="between two frames"):
            receiver.receive()


def test_framed_says_what_was_missing_at_the_end() -> None:
    first, second = pair()
    with first, Framed(second, LengthPrefixed()) as receiver:
        first.send(b"\0\0\0\5ab")
        first.close()
        with pytest.raises(PeerGone, match="3 of 5 bytes were missing"):
            list(receiver)


def test_framed_closes_a_stream_that_is_out_of_step() -> None:
    first, second = pair()
    with first, Framed(second, DelimitedFrames(max_size=3)) as receiver:
        first.send(b"abc\nabcd\n")
        assert receiver.receive() == b"abc"
        with pytest.raises(MessageTooLong):
            receiver.receive()
        assert second.closed


def test_read_exactly_and_its_errors() -> None:
    first, second = pair()
    with first, second:
        first.send(b"abcdefgh")
        assert read_exactly(second, 3) == b"abc"
        assert read_exactly(second, 0) == b""
        with pytest.raises(Timeout, match="after 5 of 6 bytes"):
            read_exactly(second, 6, timeout=0.01)
        with pytest.raises(WouldBlock):
            read_exactly(second, 1, timeout=0)
        with pytest.raises(InvalidArgument):
            read_exactly(second, -1)
        first.send(b"xy")
        first.close()
        with pytest.raises(PeerGone, match="3 of 5 bytes missing"):
            read_exactly(second, 5)


def test_write_all_passes_more_than_the_buffers_take() -> None:
    first, second = socket.socketpair()
    data = bytes(range(256)) * 8192
    with first, second:
        with pytest.raises(Timeout, match="of 2,097,152 bytes"):
            write_all(first, data, timeout=0.01)
        first.close()
    first, second = socket.socketpair()
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(read_exactly(second, len(data))))
    with first, second:
        reader.start()
        write_all(first, memoryview(data))
        reader.join()
        assert found == [data]
        second.close()
        with pytest.raises(PeerGone):
            write_all(first, b"x")


def test_read_line_leaves_the_rest_to_others() -> None:
    first, second = pair()
    with first, second:
        first.send(b"one\n\ntwo")
        assert [read_line(second), read_line(second)] == [b"one\n", b"\n"]
        assert second.receive().data == b"two"
        first.send(b"abc")
        with pytest.raises(Timeout, match="after 3 bytes of a line"):
            read_line(second, timeout=0.01)
        first.send(b"xyz")
        first.shutdown("write")
        with pytest.raises(PeerGone, match="3 bytes had come"):
            read_line(second)
        assert read_line(second) == b""


def test_read_line_of_the_most_bytes() -> None:
    first, second = pair()
    with first, second:
        first.send(b"abc\nabcd\n")
        assert read_line(second, max_size=4) == b"abc\n"
        with pytest.raises(MessageTooLong):
            read_line(second, max_size=4)
        assert second.closed


def test_frames_need_a_stream() -> None:
    first, second = pair("seqpacket")
    with first, second, pytest.raises(InvalidArgument, match="stream"):
        Framed(first, FixedFrames(1))


def test_an_announced_size_takes_no_memory_before_its_bytes_come() -> None:
    first, second = pair()
    with first, second:
        first.send(b"abc")
        first.close()
        with pytest.raises(PeerGone, match="missing"):
            read_exactly(second, 2**62, timeout=5)


def test_bytes_below_tls_are_no_frames() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    near, far = socket.socketpair()
    with far, context.wrap_socket(near, do_handshake_on_connect=False) as secure:
        for call in (lambda: Framed(secure, FixedFrames(1)), lambda: read_exactly(secure, 1)):
            with pytest.raises(TypeError, match="TLS"):
                call()
