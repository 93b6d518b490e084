"""What subscribers get: types, order, history, both policies, batches, views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from message_types import VALUES, Note, Point, Stu

from ipckit import LayoutMismatch, Timeout, Topic, WouldBlock

if TYPE_CHECKING:
    from ipckit.testing import Namespace


# -- types -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("payload", "value"), VALUES)
def test_a_value_comes_out_as_it_went_in(payload: Any, value: Any) -> None:
    with (
        Topic.anonymous(payload, capacity=4) as topic,
        topic.subscribe() as one,
        topic.subscribe(when_full="drop_oldest") as two,
    ):
        for _ in range(60):  # often enough to wrap around the arena
            topic.publish(value)
            for each in (one, two):
                found = each.receive()
                assert found == value
                assert type(found) is type(value)
        topic.publish_many([value, value])
        assert [each.receive() for each in (one, two) for _ in range(2)] == [value] * 4


def test_ctypes_and_bytes_like_objects() -> None:
    with Topic.anonymous(Point, capacity=2) as topic, topic.subscribe() as points:
        topic.publish(Point(1, 2.5))
        found = points.receive()
        assert (found.x, found.y) == (1, 2.5)
    with Topic.anonymous() as topic, topic.subscribe() as messages:
        for value in (bytearray(b"abc"), memoryview(b"abc"), np.frombuffer(b"abc", np.uint8)):
            topic.publish(value)  # type: ignore[arg-type]
            assert messages.receive() == b"abc"


def test_arrays_of_any_length_and_of_one_shape() -> None:
    with Topic.anonymous(np.dtype("i4")) as topic, topic.subscribe() as arrays:
        for size in (0, 1, 5, 100_000):
            sent = np.arange(size, dtype="i4")
            topic.publish(sent)
            found = arrays.receive()
            assert np.array_equal(found, sent)
            assert found.flags.writeable
    frame = np.dtype((np.uint8, (4, 5, 3)))
    with Topic.anonymous(frame, capacity=2) as topic, topic.subscribe() as frames:
        image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
        topic.publish(image)
        assert np.array_equal(frames.receive(), image)
        for wrong in (image[0], image.reshape(5, 4, 3), image.astype("i4")):
            with pytest.raises(TypeError):
                topic.publish(wrong)
        assert len(frames) == 0


@pytest.mark.parametrize(
    ("payload", "wrong"),
    [(bytes, "text"), (bytes, 5), (str, b"b"), (Stu, b"b"), (Note, Stu("x", 1))],
)
def test_a_value_of_another_type_is_not_published(payload: Any, wrong: Any) -> None:
    with Topic.anonymous(payload) as topic:
        with pytest.raises(TypeError):
            topic.publish(wrong)
        with pytest.raises(TypeError) as info:
            topic.publish_many([wrong])
        assert info.value.sent == 0  # type: ignore[attr-defined]
        assert topic.stats().published == 0
    with (
        Topic.anonymous(np.dtype("i4")) as topic,
        pytest.raises(TypeError, match="are not messages of this topic"),
    ):
        topic.publish_many(np.zeros(3, "f8"))


def test_bytes_that_do_not_decode_are_in_the_error(ns: Namespace) -> None:
    with Topic.create(ns.name(), str) as topic, topic.subscribe() as words:
        with topic.loan(2) as slot:
            slot.buf[:] = b"\xff\xfe"
            slot.send()
        with pytest.raises(LayoutMismatch) as info:
            words.receive()
        assert info.value.raw == b"\xff\xfe"
        assert len(words) == 0
        topic.publish("good")
        with topic.loan(1) as slot:
            slot.buf[:] = b"\xff"
            slot.send()
        with pytest.raises(LayoutMismatch) as info:
            words.receive_many()
        assert info.value.received == ("good",)
    with Topic.anonymous(Note) as topic, topic.subscribe() as notes:
        with topic.loan(1) as slot:
            slot.buf[:] = b"\xc1"
            slot.send()
        with pytest.raises(LayoutMismatch) as info:
            notes.receive()
        assert info.value.raw == b"\xc1"
    with Topic.create(ns.name(), str) as topic, topic.subscribe() as words:
        with topic.loan(5) as slot:
            slot.buf[:2] = b"\xff\xfe"
            slot.send(2)
        with words.receive_view() as view, pytest.raises(LayoutMismatch):
            _ = view.value


# -- who gets what ---------------------------------------------------------------------------------


def test_publishing_without_subscribers_succeeds() -> None:
    with Topic.anonymous(str, capacity=2) as topic:
        for number in range(100):
            topic.publish(str(number), timeout=0)
        topic.publish_many(["a"] * 100, timeout=0)
        assert topic.stats().published == 200
        with topic.subscribe() as words:  # from now on
            assert len(words) == 0
            topic.publish("now")
            assert words.receive_many() == ["now"]


@pytest.mark.parametrize("payload", [bytes, np.dtype((np.uint8, (5000,)))])
def test_a_new_subscriber_first_gets_the_history(payload: Any) -> None:
    def value(number: int) -> Any:
        return b"%d" % number if payload is bytes else np.full(5000, number, np.uint8)

    def numbers(subscription: Any) -> list[int]:
        found = subscription.receive_many(timeout=0)
        return [int(each) if payload is bytes else int(each[-1]) for each in found]

    with Topic.anonymous(payload, capacity=6, history=4) as topic:
        topic.publish(value(0))
        with topic.subscribe() as messages:  # fewer were published
            assert numbers(messages) == [0]
        for number in range(1, 30):
            topic.publish(value(number))
        for options, expected in (
            ({}, [26, 27, 28, 29]),
            ({"history": 2}, [28, 29]),
            ({"history": 4, "depth": 3}, [27, 28, 29]),
            ({"depth": 1, "when_full": "drop_oldest"}, [29]),
        ):
            with topic.subscribe(**options) as messages:
                assert len(messages) == len(expected)
                assert messages.lost == 0
                assert numbers(messages) == expected
        with topic.subscribe(history=0) as messages:
            assert len(messages) == 0
            topic.publish(value(30))
            assert numbers(messages) == [30]
        # Unread messages of the history count in the depth.
        with topic.subscribe(depth=2) as messages:
            with pytest.raises(WouldBlock, match="has 2 unread"):
                topic.publish(value(31), timeout=0)
            assert numbers(messages) == [29, 30]


def test_drop_oldest_loses_the_oldest_and_counts_them() -> None:
    with (
        Topic.anonymous(str, capacity=8) as topic,
        topic.subscribe(when_full="drop_oldest", depth=3) as three,
        topic.subscribe(when_full="drop_oldest", depth=1) as latest,
        topic.subscribe(when_full="drop_oldest") as eight,
    ):
        for number in range(20):
            topic.publish(str(number), timeout=0)
        assert [len(each) for each in (three, latest, eight)] == [3, 1, 8]
        assert [each.lost for each in (three, latest, eight)] == [17, 19, 12]
        assert latest.receive() == "19"
        assert three.receive_many() == ["17", "18", "19"]
        assert eight.receive_many(3) == ["12", "13", "14"]
        topic.publish_many(["20", "21"])
        assert latest.receive() == "21"
        assert latest.lost == 20
        assert eight.receive_many() == [str(number) for number in range(15, 22)]
        assert [each.lost for each in topic.subscribers()] == [17, 20, 12]
        assert topic.stats().lost == 49


def test_a_subscriber_that_drops_holds_nobody_up_and_one_that_waits_does() -> None:
    with (
        Topic.anonymous(str, capacity=3) as topic,
        topic.subscribe(when_full="drop_oldest") as drops,
        topic.subscribe(depth=2) as waits,
    ):
        topic.publish_many(["1", "2"], timeout=0)
        with pytest.raises(Timeout) as info:
            topic.publish_many(["3", "4"], timeout=0.01)
        assert info.value.sent == 0  # type: ignore[attr-defined]
        assert waits.receive() == "1"
        with pytest.raises(WouldBlock) as full:
            topic.publish_many(["3", "4"], timeout=0)
        assert full.value.sent == 1  # type: ignore[attr-defined]
        assert drops.receive_many() == ["1", "2", "3"]  # not those that were refused
        assert waits.receive_many() == ["2", "3"]
        assert (drops.lost, waits.lost) == (0, 0)


def test_all_subscribers_see_one_order(ns: Namespace) -> None:
    with (
        Topic.create(ns.name(), str) as one,
        Topic.open(str(one.name), str) as two,
        one.subscribe() as first,
        two.subscribe(when_full="drop_oldest") as second,
    ):
        for number in range(50):
            (one, two)[number % 3 % 2].publish(str(number))
        found = first.receive_many()
        assert found == [str(number) for number in range(50)]
        assert second.receive_many() == found


# -- batches ---------------------------------------------------------------------------------------


def test_a_batch_of_structs_is_an_array() -> None:
    with Topic.anonymous(Stu, capacity=500) as topic, topic.subscribe() as students:
        records = np.zeros(300, Stu.dtype)
        records["age"] = np.arange(300)
        topic.publish_many(records)
        assert len(students) == 300
        assert students.receive().age == 0  # single messages of the batch
        found = students.receive_many(99)
        assert found.dtype == Stu.dtype
        assert list(found["age"]) == list(range(1, 100))
        topic.publish_many([Stu("two", 300)])
        assert list(students.receive_many()["age"]) == list(range(100, 301))
        with pytest.raises(WouldBlock):
            students.receive_many(timeout=0)
        with pytest.raises(WouldBlock, match="publish_many on anonymous topic") as info:
            topic.publish_many(np.zeros(600, Stu.dtype), timeout=0)
        assert info.value.sent == len(students) == 500  # type: ignore[attr-defined]


def test_large_records_in_batches() -> None:
    frame = np.dtype((np.uint8, (200, 100)))
    with (
        Topic.anonymous(frame, capacity=8) as topic,
        topic.subscribe() as one,
        topic.subscribe() as two,
    ):
        frames = np.random.default_rng(1).integers(0, 256, (5, 200, 100), np.uint8)
        topic.publish_many(frames)
        for each in (one, two):
            found = each.receive_many()
            assert found.shape == (5, 200, 100)
            assert np.array_equal(found, frames)
    with Topic.anonymous(np.dtype("i4")) as topic, topic.subscribe() as numbers:
        topic.publish_many(np.arange(3, dtype="i4"))
        topic.publish(np.arange(10, dtype="i4"))
        assert [list(numbers.receive_many()) for _ in range(2)] == [[0, 1, 2], list(range(10))]


@pytest.mark.parametrize("most", [0, -1])
def test_max_is_one_or_more(most: int) -> None:
    with Topic.anonymous() as topic, topic.subscribe() as messages:
        with pytest.raises(ValueError, match="max must be 1 or more"):
            messages.receive_many(most)
        with pytest.raises(TypeError):
            messages.receive_many(1.5)  # type: ignore[arg-type]


# -- in place --------------------------------------------------------------------------------------


def test_a_large_message_is_written_once_and_read_by_all_in_place() -> None:
    kind = np.dtype((np.uint8, (1 << 20,)))
    with (
        Topic.anonymous(kind, capacity=4) as topic,
        topic.subscribe() as one,
        topic.subscribe(when_full="drop_oldest", depth=1) as two,
    ):
        with topic.loan() as loan:
            loan.array[:] = 7
            loan.send()
        first, second = one.receive_view(), two.receive_view()
        assert first.nbytes == second.nbytes == 1 << 20
        # The same memory, in the two mappings or in one.
        assert topic.stats().bytes_used == 1 << 20
        array = second.array
        second.release()
        first.release()
        for number in range(20):
            topic.publish(np.full(1 << 20, number, np.uint8), timeout=0)
            one.receive()
        assert array.min() == array.max() == 7  # the array keeps its message
        del array
        with two.receive_view() as view:
            assert int(view.array[0]) == 19
        assert two.lost == 19


def test_a_loan_that_is_cancelled_or_cut() -> None:
    with Topic.anonymous() as topic, topic.subscribe() as messages:
        with topic.loan(10_000) as loan:
            loan.write(b"x" * 10_000)
        with topic.loan(10_000) as loan:
            loan.write(b"y" * 10_000)
            loan.send(5_000)
        with topic.loan(10) as loan:
            loan.buf[:] = b"0123456789"
            loan.send(3, timeout=0)
        assert topic.stats().published == 2
        assert messages.receive_many() == [b"y" * 5_000, b"012"]
    with Topic.anonymous(Stu) as topic, topic.subscribe() as students:
        with topic.loan() as loan:
            loan.value.name, loan.value.age = "amy", 20
            loan.send()
        with students.receive_view() as view:
            assert view.value == Stu("amy", 20)
    with Topic.anonymous(np.dtype("f4")) as topic, topic.subscribe() as arrays:
        with topic.loan((20, 100)) as loan:
            loan.array[:] = 1.5
            loan.send()
        assert arrays.receive().shape == (2000,)


@pytest.mark.parametrize("capacity", [1, 2, 10, 20])
@pytest.mark.parametrize("length", [100, 10_000, 100_000])
def test_a_subscriber_that_loses_messages_keeps_the_last_ones_of_its_depth(
    length: int, capacity: int
) -> None:
    """Making room for a long message drops the oldest message, and no more."""
    block = np.dtype((np.uint8, (length,)))
    with (
        Topic.anonymous(block, capacity=capacity) as topic,
        topic.subscribe(when_full="drop_oldest") as messages,
    ):
        for number in range(4 * capacity):
            topic.publish(np.full(length, number, np.uint8))
            assert len(messages) == min(number + 1, capacity)
        assert messages.lost == 3 * capacity
        kept = [int(each[0]) for each in messages.receive_many()]
        assert kept == list(range(3 * capacity, 4 * capacity))


def test_making_room_for_a_longer_message_drops_only_the_oldest() -> None:
    """The run of memory is chosen by age: not the first one that could become free."""
    with (
        Topic.anonymous(bytes, capacity=100, size=100_000) as topic,
        topic.subscribe(when_full="drop_oldest") as messages,
    ):
        for number in range(50):
            topic.publish(bytes([number]) * 8000)
            assert len(messages) >= min(number + 1, 10)
        topic.publish(bytes([50]) * 20_000)
        assert len(messages) >= 8
        assert [each[0] for each in messages.receive_many()][-8:] == list(range(43, 51))
