"""Many messages in one call: `send_many` and `receive_many`."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from message_types import Big, Stu

from ipckit import Channel, InvalidArgument, Timeout, WouldBlock


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
