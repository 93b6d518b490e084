"""Both classes of message queue: the payloads that they carry and refuse."""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from ipckit import (
    Array,
    Char,
    Codec,
    Int,
    LayoutMismatch,
    MessageTooLong,
    Removed,
    Struct,
    Timeout,
    WouldBlock,
)
from ipckit.codec import Pickle
from ipckit.msgq import Message, limits

if TYPE_CHECKING:
    from queue_kinds import Kind


class Stu(Struct):
    name: Char[32]
    age: Int


class Point(Struct):
    at: Array[Int, 2]


class Pair(ctypes.Structure):
    _fields_ = (("first", ctypes.c_short), ("second", ctypes.c_double))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pair) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]


class Login(msgspec.Struct):
    user: str
    tries: int = 0


class Reversed(Codec[str]):
    """A user's codec, which raises an exception of the user's."""

    size = None
    accepts = str
    fingerprint = "reversed"
    name = "reversed text"

    def encode(self, value: str) -> bytes:
        if not isinstance(value, str):
            self._refuse(value)
        return value[::-1].encode()

    def decode(self, data: bytes) -> str:
        if data == b"!":
            message = "an exclamation mark"
            raise KeyError(message)
        return data.decode()[::-1]


def same(left: object, right: object) -> bool:
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return bool(np.array_equal(left, right)) and left.dtype == right.dtype  # type: ignore[attr-defined]
    return left == right and type(left) is type(right)


RECORDS = np.dtype([("id", "<u4"), ("x", "<f8")])
PAYLOADS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    # the payload type, values of it, values that are not
    "bytes": (bytes, [b"", b"\0", b"x" * 100], ["x", 1, None, [1], Login("amy")]),
    "str": (str, ["", "grüße", "\0", "x" * 100], [b"x", 1, None, ["x"]]),
    "Struct": (Stu, [Stu("amy", 20), Stu("", 0)], [Point((1, 2)), b"x" * 36, ("amy", 20), None]),
    "ctypes": (Pair, [Pair(1, 2.5)], [Stu("", 0), b"x" * 16, (1, 2.5)]),
    "dtype": (
        RECORDS,
        [np.array([(1, 2.5), (3, 4.5)], RECORDS), np.empty(0, RECORDS)],
        [b"x" * 12, np.zeros(3), np.zeros((2, 2), RECORDS), [1.0], 1.0],
    ),
    "scalar": (np.float32, [np.arange(5, dtype=np.float32)], [np.zeros(2), 1.0, b"1234"]),
    "msgspec": (Login, [Login("amy", 3), Login("ä" * 40)], [{"user": "amy"}, "amy", Stu("", 0)]),
    "Pickle": (Pickle, [{"any": [1, None]}, "text"], []),
    "Codec": (Reversed, ["abc", ""], [b"abc", 5]),
    "Codec instance": (Reversed(), ["abc"], [b"abc", 5]),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_payloads_arrive_as_they_were_sent(kind: Kind, name: str) -> None:
    payload, values, _ = PAYLOADS[name]
    with kind.create(payload) as queue, kind.again(queue, payload) as other:
        for value in values:
            queue.send(value)
            message = other.receive(timeout=0)
            assert isinstance(message, Message)
            assert same(message.value, value)
            assert not message.truncated


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_wrong_type_is_a_type_error_and_sends_nothing(kind: Kind, name: str) -> None:
    payload, values, wrong = PAYLOADS[name]
    with kind.create(payload) as queue:
        queue.send(values[0])
        for value in wrong:
            for timeout in (None, 0, 5.0):
                with pytest.raises(TypeError) as caught:
                    queue.send(value, timeout=timeout)
                assert not isinstance(caught.value, OSError)
        assert len(queue) == 1
        assert same(queue.receive().value, values[0])


@pytest.mark.parametrize(
    "value",
    [
        bytearray(b"abc"),
        memoryview(b"abc"),
        np.frombuffer(b"abc", np.uint8),
        np.frombuffer(b"abc\0", "<u4"),
        Stu("abc", 1),
        memoryview(bytes(range(6))).cast("B", (2, 3)),
    ],
    ids=["bytearray", "memoryview", "uint8", "uint32", "Struct", "two dimensions"],
)
def test_bytes_queues_accept_any_object_with_a_buffer(queue: Any, value: Any) -> None:
    queue.send(value)
    received = queue.receive(timeout=0).value
    assert type(received) is bytes
    assert received == memoryview(value).tobytes()


@pytest.mark.parametrize(
    "value",
    [memoryview(b"abcdef")[::2], np.arange(9).reshape(3, 3).T, np.arange(9)[::2]],
    ids=["strided view", "transposed", "strided array"],
)
def test_bytes_that_are_not_contiguous_are_a_type_error(queue: Any, value: Any) -> None:
    for timeout in (None, 0, 5.0):
        with pytest.raises(TypeError, match="contiguous"):
            queue.send(value, timeout=timeout)
    assert len(queue) == 0


def test_a_bytearray_can_be_resized_after_it_was_sent_or_refused(kind: Kind) -> None:
    data = bytearray(b"x" * 8)
    with kind.create(**kind.room(1, 8)) as queue:
        queue.send(data)
        with pytest.raises(WouldBlock):
            queue.send(data, timeout=0)
        with pytest.raises(Timeout):
            queue.send(data, timeout=0.001)
        with pytest.raises(MessageTooLong):
            queue.send(data * 2)
        data.append(1)  # BufferError if some call kept the buffer


def test_text_that_is_not_utf8_encodable_is_refused(kind: Kind) -> None:
    with kind.create(str) as queue:
        with pytest.raises(UnicodeEncodeError):
            queue.send("\ud800")
        assert len(queue) == 0


UNDECODABLE: dict[str, tuple[Any, bytes]] = {
    "Struct, short": (Stu, b"x" * 35),
    "Struct, long": (Stu, b"x" * 37),
    "Struct, none": (Stu, b""),
    "ctypes": (Pair, b"x"),
    "dtype": (RECORDS, b"x" * 13),
    "str": (str, b"\xff\xfe"),
    "msgspec": (Login, b"\xc1"),
    "msgspec, another": (Login, msgspec.msgpack.encode({"user": 5})),
    "Pickle": (Pickle, b"no pickle"),
    "Codec": (Reversed, b"!"),
}


@pytest.mark.parametrize("name", UNDECODABLE)
def test_bytes_of_another_type_come_with_the_error(kind: Kind, name: str) -> None:
    payload, data = UNDECODABLE[name]
    with kind.create() as raw, kind.again(raw, payload) as queue:
        raw.send(data, 7)
        with pytest.raises(LayoutMismatch) as caught:
            queue.receive(timeout=0)
        error = caught.value
        assert isinstance(error, TypeError)
        assert error.raw == data
        assert (error.mtype, error.priority) == ((7, 0) if kind.sysv else (0, 7))
        assert error.received == ()
        assert error.op == "receive"
        assert "attribute raw" in error.hint
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (copy.raw, copy.mtype, copy.priority) == (data, error.mtype, error.priority)
        assert len(queue) == 0


def test_drain_keeps_the_messages_before_one_that_cannot_be_decoded(kind: Kind) -> None:
    with kind.create() as raw, kind.again(raw, str) as queue:
        for data in (b"one", b"two", b"\xff", b"four"):
            raw.send(data)
        with pytest.raises(LayoutMismatch) as caught:
            queue.drain()
        assert [message.value for message in caught.value.received] == ["one", "two"]
        assert caught.value.raw == b"\xff"
        assert [message.value for message in queue.drain()] == ["four"]
        assert queue.drain() == []


def test_drain_returns_what_it_received_before_the_queue_was_removed(kind: Kind) -> None:
    class Remover(Reversed):
        """A codec that removes the queue while it decodes the first message."""

        def decode(self, data: bytes) -> str:
            queue.unlink(missing_ok=True)
            return super().decode(data)

    with kind.create(Remover()) as queue:
        queue.send("one")
        queue.send("two")
        taken = [message.value for message in queue.drain()]
        assert taken == (["one"] if kind.cls.caps.unlink_destroys_now else ["one", "two"])
        if kind.cls.caps.unlink_destroys_now:
            with pytest.raises(Removed):
                queue.drain()


def test_drain_receives_no_more_than_the_queue_had_at_its_beginning(kind: Kind) -> None:
    class Refill(Reversed):
        def decode(self, data: bytes) -> str:
            queue.send("more", timeout=0)
            return super().decode(data)

    with kind.create(Refill) as queue:
        queue.send("one")
        queue.send("two")
        assert [message.value for message in queue.drain()] == ["one", "two"]
        assert len(queue) == 2


def test_iteration_takes_message_after_message(kind: Kind) -> None:
    with kind.create(str) as queue:
        messages = iter(queue)
        for text in ("one", "two", "three"):
            queue.send(text)
            assert next(messages).value == text
        assert len(queue) == 0


@pytest.mark.parametrize("data", [b"", b"\0"])
def test_the_shortest_messages(queue: Any, data: bytes) -> None:
    queue.send(data)
    queue.send(b"after")
    assert len(queue) == 2
    assert [message.value for message in queue.drain()] == [data, b"after"]


def test_the_longest_message_and_one_byte_more(kind: Kind, queue: Any) -> None:
    most = limits().msgmax if kind.sysv else queue.max_size
    data = os.urandom(most)
    queue.send(data)
    assert queue.receive(timeout=0).value == data
    for timeout in (None, 0, 5):
        with pytest.raises(MessageTooLong) as caught:
            queue.send(data + b"x", timeout=timeout)
        assert caught.value.errno == errno.EMSGSIZE
        text = str(caught.value)
        assert f"{most + 1:,}" in text
        assert ("kernel.msgmax" if kind.sysv else "max_size") in text
        assert str(most) in text
    assert len(queue) == 0


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8191, 8192])
def test_sizes_around_the_thresholds_of_the_code(queue: Any, size: int) -> None:
    """Up to 8 KiB the buffer is on the stack. POSIX receives depend on half of that too."""
    first, second = os.urandom(size), os.urandom(size)
    for timeout in (None, 0, 5):
        queue.send(first, timeout=timeout)
        queue.send(second, timeout=timeout)
        assert queue.receive(timeout=timeout).value == first
        assert queue.receive(timeout=timeout).value == second


def test_a_message_that_fills_its_buffer_is_not_overwritten_by_the_next(kind: Kind) -> None:
    """A received bytes object never changes, whatever is received later."""
    with kind.create(**kind.room(4, 64)) as queue:
        kept = []
        for letter in (b"a", b"b", b"c"):
            queue.send(letter * 64)
            kept.append(queue.receive(timeout=0).value)
        queue.send(b"d")
        kept.append(queue.receive(timeout=0).value)
        assert kept == [b"a" * 64, b"b" * 64, b"c" * 64, b"d"]
