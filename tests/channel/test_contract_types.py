"""The types of messages: what goes through unchanged, and what a mismatch says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from message_types import VALUES, Note, Point, Stu

from ipckit import Channel, LayoutMismatch
from ipckit.codec import Codec, Pickle

if TYPE_CHECKING:
    from ipckit.testing import Namespace


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
