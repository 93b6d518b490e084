"""Messages in place: loans and views, and arrays that outlive them and the channel."""

from __future__ import annotations

import gc
import os
import select
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import (
    Channel,
    Char,
    ClosedHandle,
    Int,
    InvalidArgument,
    MessageTooLong,
    Struct,
    Timeout,
    WouldBlock,
)
from ipckit._native import INLINE_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace

FRAME = np.dtype((np.uint16, (3, 4)))
LONG = INLINE_MAX + 1000  # bytes of a message in a block; a short one is copied


class Stu(Struct):
    name: Char[32]
    age: Int


def test_a_frame_is_written_and_read_in_place() -> None:
    with Channel.anonymous(FRAME, capacity=2) as channel:
        for number in range(9):
            with channel.loan() as slot:
                assert slot.array.shape == (3, 4)
                slot.array[...] = number
                slot.send()
            with channel.receive_view() as view:
                array = view.array
                assert (array.shape, array.dtype) == ((3, 4), np.dtype(np.uint16))
                assert np.all(array == number)
                assert not array.flags.writeable
                assert view.nbytes == len(view) == len(bytes(view)) == 24
                assert view.buf.readonly
                del array
            assert channel.stats().bytes_used == 0


def test_a_loan_is_sent_without_a_copy() -> None:
    with Channel.anonymous(size=1 << 20) as channel:
        with channel.loan(LONG) as slot:
            address = slot.array.ctypes.data
            slot.array[:] = 7
            slot.send()
        with channel.receive_view() as view:
            assert view.array.ctypes.data == address
            assert view.array.sum() == 7 * LONG


def test_a_struct_in_place() -> None:
    with Channel.anonymous(Stu, capacity=3) as channel:
        with channel.loan() as slot:
            slot.value.name, slot.value.age = "amy", 20
            slot.send()
        with channel.receive_view() as view:
            assert view.value == Stu("amy", 20)
            with pytest.raises((TypeError, ValueError, BufferError)):
                view.value.age = 5
            assert view.array["age"][0] == 20


def test_bytes_of_any_length_and_shape() -> None:
    with Channel.anonymous() as channel:
        for shape, want in ((5, (5,)), ((2, 3), (2, 3)), (0, (0,)), ((), ())):
            with channel.loan(shape) as slot:
                assert slot.array.shape == want
                slot.array[...] = 1
                slot.send()
            value = channel.receive()
            assert value == b"\1" * int(np.prod(want))
        with channel.loan(3) as slot:
            slot.buf[:] = b"abc"
            with pytest.raises(TypeError, match="use array or buf"):
                _ = slot.value
            slot.send()
        with channel.receive_view() as view:
            assert (view.value, bytes(view)) == (b"abc", b"abc")
    with Channel.anonymous(str) as text:
        text.send("grüße")
        assert text.receive_view().value == "grüße"


PAST_CACHE = 8 << 20  # native/ring/copy.h: from here on, a copy bypasses the cache


@pytest.mark.parametrize(
    ("size", "offset"),
    [
        (0, 0),
        (1, 99),
        (16384, 3),
        (16385, 7),
        (PAST_CACHE - 1, 0),
        (PAST_CACHE, 0),
        (PAST_CACHE + 127, 1),
        (PAST_CACHE + 300, 33),
    ],
)
def test_bytes_are_written_where_they_belong(size: int, offset: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    with Channel.anonymous(size=40 << 20) as channel, channel.loan(offset + size + 9) as slot:
        slot.array[:] = 5
        slot.write(data, offset)
        slot.send()
        with channel.receive_view() as view:
            found = view.array
            assert np.array_equal(found[offset : offset + size], data)
            assert np.all(found[:offset] == 5)
            assert np.all(found[offset + size :] == 5)
            del found


def test_an_array_is_written_whole() -> None:
    with Channel.anonymous(FRAME, capacity=2) as frames, frames.loan() as slot:
        frame = np.arange(12, dtype=np.uint16).reshape(3, 4)
        slot.write(frame)
        slot.send()
        assert np.array_equal(frames.receive(), frame)


def test_invalid_arguments_of_write() -> None:
    with Channel.anonymous(size=1 << 20) as channel:
        slot = channel.loan(10)
        for data, offset in ((b"x" * 11, 0), (b"x", 10), (b"", 11), (b"x", -1), (b"x", 1 << 62)):
            with pytest.raises(InvalidArgument, match=r"do not fit|offset must be"):
                slot.write(data, offset)
        with pytest.raises(TypeError):
            slot.write("text")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="can't be had"):
            slot.write(np.zeros((4, 4), np.uint8)[:, ::2])
        slot.write(b"0123456789")
        slot.send()
        with pytest.raises(ClosedHandle):
            slot.write(b"x")
        view = channel.receive_view()
        assert bytes(view) == b"0123456789"
        assert not view._write(b"x", 0)
        assert bytes(view) == b"0123456789"


def test_one_thread_may_send_what_another_writes_in() -> None:
    data = np.full(PAST_CACHE * 4, 7, np.uint8)
    with Channel.anonymous(size=160 << 20) as channel:
        slot = channel.loan(len(data))

        def write() -> None:
            with suppress(ClosedHandle):  # the loan was sent before this thread started
                slot.write(data)

        writer = threading.Thread(target=write)
        writer.start()
        slot.send()
        writer.join()
        assert len(channel.receive()) == len(data)
        assert channel.stats().bytes_used == 0


def test_a_loan_can_be_written_from_its_own_memory() -> None:
    whole = np.random.default_rng(1).integers(0, 256, PAST_CACHE + 5000, np.uint8)
    for size in (100, 20_000, PAST_CACHE + 4000):
        with Channel.anonymous(size=40 << 20) as channel, channel.loan(size + 1000) as slot:
            slot.write(whole[: size + 1000])
            slot.write(slot.buf[:size], 1000)
            slot.send()
            assert channel.receive() == bytes(whole[:1000]) + bytes(whole[:size])


class Meddles:
    """A number that runs code when it is converted to an int."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.what = what

    def __index__(self) -> int:
        self.what()
        return 5

    def __float__(self) -> float:
        self.what()
        return 5.0


def test_an_argument_that_ends_the_loan() -> None:
    with Channel.anonymous(size=1 << 20) as channel:
        for size in (100, LONG):
            slot = channel.loan(size)
            with pytest.raises(ClosedHandle):
                slot.write(b"0123456789", Meddles(slot.cancel))  # type: ignore[arg-type]
            slot = channel.loan(size)
            with pytest.raises(ClosedHandle):
                slot.send(Meddles(slot.cancel))  # type: ignore[arg-type]
            slot = channel.loan(size)
            with pytest.raises(ValueError, match="sent or cancelled"):
                slot.send(timeout=Meddles(slot.cancel))
        assert channel.stats().bytes_used == 0


@pytest.mark.parametrize("size", [5, LONG])
def test_a_forked_child_does_not_write_in_a_loan_of_its_parent(size: int) -> None:
    with Channel.anonymous() as channel:
        slot = channel.loan(size)
        slot.write(b"amy's")
        pid = os.fork()
        if pid == 0:
            try:
                slot.write(b"bob's")
            except ClosedHandle:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        slot.send(5)
        assert channel.receive() == b"amy's"


def test_invalid_loans() -> None:
    with Channel.anonymous() as channel:
        for shape in (None, -1, (2, -3)):
            with pytest.raises(InvalidArgument):
                channel.loan(shape)
        for shape in (channel.longest + 1, 2**64, (2**40, 2**40)):
            with pytest.raises(MessageTooLong):
                channel.loan(shape)
        with pytest.raises(TypeError):
            channel.loan("5")  # type: ignore[arg-type]
    with Channel.anonymous(FRAME, capacity=2) as frames, pytest.raises(InvalidArgument):
        frames.loan((3, 5))


def test_a_loan_that_is_not_sent_is_freed() -> None:
    with Channel.anonymous(size=2 * LONG, capacity=10) as channel:
        for _ in range(50):
            with channel.loan(LONG) as slot:
                slot.buf[:4] = b"lost"
            with pytest.raises(ClosedHandle):
                slot.send()
            with pytest.raises(ClosedHandle):
                _ = slot.array
            slot.cancel()
        slot = channel.loan(LONG)
        del slot
        gc.collect()
        assert (len(channel), channel.stats().bytes_used) == (0, 0)
        with pytest.raises(WouldBlock):
            channel.receive(timeout=0)


@pytest.mark.parametrize("size", [2000, LONG])
def test_loans_are_sent_in_any_order(size: int) -> None:
    with Channel.anonymous(size=100_000, capacity=10) as channel:
        slots = [channel.loan(size) for _ in range(4)]
        for number, slot in enumerate(slots):
            slot.array[:] = number
        channel.send(b"between")
        for number in (2, 0, 3):
            slots[number].send()
        slots[1].cancel()
        with pytest.raises(ClosedHandle):
            slots[2].send()
        found = [channel.receive() for _ in range(4)]
        assert found[0] == b"between"
        assert [each[0] for each in found[1:]] == [2, 0, 3]
        assert channel.stats().bytes_used == 0


def test_arrays_outlive_release_and_close() -> None:
    channel = Channel.anonymous(np.dtype("i8"), size=1 << 20)
    channel.send(np.arange(1000))
    view = channel.receive_view()
    array, part = view.array, view.array[10:20]
    view.release()
    view.release()
    with pytest.raises(ClosedHandle):
        _ = view.array
    assert channel.stats().bytes_used > 8000  # the arrays still use it
    channel.send(np.arange(5))
    assert list(channel.receive()) == [0, 1, 2, 3, 4]
    del array
    channel.close()
    gc.collect()
    assert list(part) == list(range(10, 20))
    del part, view
    gc.collect()


def test_memory_of_a_view_is_never_reused() -> None:
    with Channel.anonymous(size=20 * LONG, capacity=100) as channel:
        kept: list[Any] = []
        sent = 0
        with pytest.raises(WouldBlock):  # noqa: PT012 - as often as it takes
            while True:
                channel.send(bytes([sent % 251]) * LONG, timeout=0)
                sent += 1
                kept.append(channel.receive_view().array)
        assert sent >= 10
        assert all(np.all(array == number % 251) for number, array in enumerate(kept))
        with pytest.raises(Timeout):
            channel.send(bytes(LONG), timeout=0.01)
        del kept[::2]
        channel.send(b"\xff" * LONG, timeout=0)
        assert all(np.all(array == array[0]) and array[0] != 255 for array in kept)
        kept.clear()
        channel.send(bytes(channel.longest), timeout=0)


def test_views_of_short_messages_take_no_memory_of_the_channel() -> None:
    with Channel.anonymous(capacity=3) as channel:
        kept = []
        for number in range(100):
            channel.send(bytes([number]) * INLINE_MAX, timeout=0)
            kept.append(channel.receive_view())
        assert channel.stats().bytes_used == 0
        for number, view in enumerate(kept):
            assert bytes(view) == bytes([number]) * INLINE_MAX
            view.release()


def test_a_loan_with_a_living_array_is_sent_as_a_copy() -> None:
    with Channel.anonymous(size=1 << 20) as channel:
        slot = channel.loan(LONG)
        array = slot.array
        array[:] = 1
        slot.send()
        array[:] = 2  # the message was sent before
        assert set(channel.receive()) == {1}
        assert channel.stats().bytes_used > 0
        del array, slot
        gc.collect()
        assert channel.stats().bytes_used == 0


@pytest.mark.parametrize("size", [10, LONG])
def test_a_loan_is_no_message_until_it_is_sent(size: int) -> None:
    with Channel.anonymous(size=100_000, capacity=2) as channel:
        slot = channel.loan(size)
        slot.write(b"loan")
        channel.send(b"first")
        channel.send(b"second", timeout=0)
        with pytest.raises(WouldBlock):
            channel.loan(size, timeout=0)
        with pytest.raises(WouldBlock):
            slot.send(timeout=0)
        with pytest.raises(Timeout):
            slot.send(4, timeout=0.01)
        assert slot.nbytes == size  # and can be sent later
        assert channel.receive() == b"first"
        slot.send(4, timeout=0)
        assert [channel.receive(), channel.receive()] == [b"second", b"loan"]


# -- the first bytes of a loan ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, INLINE_MAX, INLINE_MAX + 1, 2 * LONG])
@pytest.mark.parametrize("living", [False, True])
def test_the_first_bytes_of_a_loan_are_sent(size: int, *, living: bool) -> None:
    data = bytes(number % 251 for number in range(2 * LONG))
    with Channel.anonymous(size=1 << 20) as channel:
        slot = channel.loan(2 * LONG)
        array = slot.array if living else None
        slot.write(data)
        slot.send(size)
        with pytest.raises(ClosedHandle):
            slot.send(0)
        assert channel.receive() == data[:size]
        del array
        gc.collect()
        assert channel.stats().bytes_used == 0


def test_the_first_elements_of_a_loan_are_sent() -> None:
    with Channel.anonymous(np.dtype("f8"), size=1 << 20) as channel:
        for elements, sent in ((1000, 1000), (1000, 900), (1000, 3), (5, 2), (5, 0)):
            with channel.loan(elements) as slot:
                slot.array[:] = np.arange(elements)
                slot.send(np.int64(sent * 8), timeout=1)  # type: ignore[arg-type]
            assert list(channel.receive()) == list(range(sent))


def test_invalid_numbers_of_bytes_to_send() -> None:
    with Channel.anonymous(np.dtype("f8"), size=1 << 20) as channel:
        for elements in (10, LONG):
            slot = channel.loan(elements)
            for nbytes in (-1, -8, 8 * elements + 8, 7, 1 << 70):
                with pytest.raises(InvalidArgument, match=f"nbytes must be .*, not {nbytes}"):
                    slot.send(nbytes)
            for wrong in ("8", 8.0, True):
                with pytest.raises(TypeError, match="nbytes must be an int"):
                    slot.send(wrong)  # type: ignore[arg-type]
            slot.send(8)
            assert len(channel.receive()) == 1
        slot = channel.loan(1)
        slot.cancel()
        with pytest.raises(ClosedHandle):
            slot.send(-1)


@pytest.mark.parametrize("payload", [FRAME, Stu, np.dtype((np.uint8, (LONG,)))])
def test_messages_of_one_size_are_sent_whole(payload: Any) -> None:
    with Channel.anonymous(payload, capacity=2) as channel:
        size = channel.longest
        for nbytes in (0, size - 4, size - 1):
            with channel.loan() as slot, pytest.raises(InvalidArgument, match=rf"must be {size},"):
                slot.send(nbytes)
        with channel.loan() as slot:
            slot.send(size)
        assert len(channel) == 1


@pytest.mark.parametrize("size", [100, LONG])
def test_closing_with_a_loan_out(size: int) -> None:
    channel = Channel.anonymous()
    slot = channel.loan(size)
    array = slot.array
    channel.close()
    array[:] = 5
    with pytest.raises(ClosedHandle):
        slot.send()
    del slot, array
    gc.collect()


def test_views_in_the_parent_stay_whole_when_a_child_forks(ns: Namespace) -> None:
    with Channel.create(ns.name(), size=100_000, capacity=10) as channel:
        channel.send(bytes([7]) * LONG)
        view = channel.receive_view()
        pid = os.fork()
        if pid == 0:
            view.release()  # frees nothing: it is the view of the parent
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for number in range(100):
            channel.send(bytes([number]) * LONG)
            channel.receive()
        assert set(bytes(view)) == {7}
        view.release()


# -- descriptors -----------------------------------------------------------------------------------


def ready(*fds: int, timeout: float = 0) -> list[int]:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(timeout * 1000)]


def test_fileno_is_readable_when_a_message_waits(ns: Namespace) -> None:
    with Channel.create(ns.name()) as channel, Channel.open(channel.name or "") as other:
        fd = channel.fileno()
        assert channel.fileno() == fd
        assert ready(fd) == []
        other.send(b"1")
        assert ready(fd, timeout=30) == [fd]
        assert select.select([fd], [], [], 0)[0] == [fd]
        with select.epoll() as epoll:
            epoll.register(fd, select.EPOLLIN)
            assert epoll.poll(0) == [(fd, select.EPOLLIN)]
        other.send(b"2")
        assert channel.receive() == b"1"
        assert ready(fd, timeout=30) == [fd]  # a second message waits
        assert channel.receive() == b"2"
        assert ready(fd) == []
        channel.send(b"from itself")
        assert ready(fd, timeout=30) == [fd]


def test_a_descriptor_created_late_is_readable_at_once() -> None:
    with Channel.anonymous() as channel:
        channel.send(b"before")
        assert ready(channel.fileno()) == [channel.fileno()]
        channel.receive()
        assert ready(channel.fileno()) == []


def test_several_polling_receivers_lose_no_message(ns: Namespace) -> None:
    total = 400
    with Channel.create(ns.name(), capacity=16) as channel:
        handles = [Channel.open(channel.name or "") for _ in range(3)]
        got: list[bytes] = []

        def take(handle: Channel[bytes]) -> None:
            fd = handle.fileno()
            while True:
                assert ready(fd, timeout=30), "nothing was told of what waits"
                try:
                    value = handle.receive(timeout=0)
                except WouldBlock:
                    continue  # another receiver was faster
                if value == b"end":
                    return
                got.append(value)

        threads = [threading.Thread(target=take, args=(each,)) for each in handles]
        for each in threads:
            each.start()
        for number in range(total):
            channel.send(b"%d" % number, timeout=30)
        for _ in threads:
            channel.send(b"end", timeout=30)
        for each in threads:
            each.join()
        for handle in handles:
            handle.close()
    assert sorted(map(int, got)) == list(range(total))


def test_space_fileno() -> None:
    with Channel.anonymous(capacity=2) as channel:
        fd = channel.space_fileno()
        sent = 0
        for _ in range(20):
            try:
                while True:
                    channel.send(b"x", timeout=0)
                    sent += 1
            except WouldBlock:
                assert ready(fd) == []
            channel.receive()
            assert ready(fd, timeout=30) == [fd]
        assert sent == 21


@pytest.mark.parametrize("size", [10, LONG])
def test_a_loan_that_finds_no_place_updates_the_descriptor(size: int) -> None:
    with Channel.anonymous(capacity=1) as channel:
        fd = channel.space_fileno()
        slot = channel.loan(size)
        channel.send(b"first")
        for _ in range(3):
            with pytest.raises(WouldBlock):
                slot.send(timeout=0)
            assert ready(fd) == []
        channel.receive()
        assert ready(fd, timeout=30) == [fd]
        slot.send(timeout=0)


def not_ready_after(fd: int, act: Callable[[], object]) -> None:
    """Repeat a call that finds no room, until the descriptor is not readable any more."""
    for _ in range(50):
        with pytest.raises(WouldBlock):
            act()
        if not ready(fd, timeout=0.05):
            return
    pytest.fail("the descriptor is readable all the time")


def test_a_full_pool_updates_the_descriptor() -> None:
    frame = np.zeros(LONG, np.uint8)
    with Channel.anonymous(np.dtype((np.uint8, (LONG,))), capacity=2) as channel:
        fd = channel.space_fileno()
        slots = [channel.loan(timeout=0) for _ in range(3)]
        not_ready_after(fd, lambda: channel.loan(timeout=0))
        slots[1].cancel()
        assert ready(fd, timeout=30) == [fd]
        channel.send(frame, timeout=0)
        not_ready_after(fd, lambda: channel.send(frame, timeout=0))
        view = channel.receive_view()
        not_ready_after(fd, lambda: channel.loan(timeout=0))
        view.release()
        assert ready(fd, timeout=30) == [fd]


def test_a_full_ring_updates_the_descriptor() -> None:
    # There are blocks for long messages, but no room for a record that refers to one.
    with Channel.anonymous(capacity=100_000, size=1 << 17) as channel:
        fd = channel.space_fileno()
        for size in (100, 1):
            with pytest.raises(WouldBlock):  # noqa: PT012 - as often as it takes
                while True:
                    channel.send(bytes(size), timeout=0)
        assert len(channel) < channel.capacity
        not_ready_after(fd, lambda: channel.send(bytes(LONG), timeout=0))
        not_ready_after(fd, lambda: channel.send(bytes(channel.longest), timeout=0))
        while len(channel):
            channel.receive()
        assert ready(fd, timeout=30) == [fd]
        channel.send(bytes(LONG), timeout=0)


def test_receive_view_also_updates_the_descriptor() -> None:
    with Channel.anonymous() as channel:
        fd = channel.fileno()
        channel.send(bytes(LONG))
        with channel.loan(LONG) as slot:
            slot.send()
        assert ready(fd, timeout=30) == [fd]
        channel.receive_view().release()
        assert ready(fd, timeout=30) == [fd]
        channel.receive_view().release()
        assert ready(fd) == []
        channel.send_many([b"1", b"2"])
        assert ready(fd, timeout=30) == [fd]
        assert channel.receive_many() == [b"1", b"2"]
        assert ready(fd) == []
