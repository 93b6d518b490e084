"""Long messages are in blocks of a pool: which memory they get, and what keeps it from others."""

from __future__ import annotations

import mmap
import os
import random
import struct
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import Channel, Char, Corrupt, Struct, Timeout, WouldBlock
from ipckit._native import INLINE_MAX
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

LONG = INLINE_MAX + 1
FRAME = np.dtype((np.uint8, (LONG,)))
WINDOW = 4 << 20  # POOL_WINDOW_BYTES of native/ring/blocks.h: a channel keeps to this much memory
GRANULE = 4096
TAIL, SENDERS_TAIL = 256, 144  # offsets in native/ring/channel_layout.h


def address_of(message: Any) -> int:
    """The address of the first byte of a loan or a view."""
    return int(np.frombuffer(message.buf, np.uint8).ctypes.data)


def frame(number: int) -> Any:
    return np.full(LONG, number, np.uint8)


# -- which memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [LONG, 65_536, 1 << 20])
def test_messages_in_lockstep_keep_to_a_window(size: int) -> None:
    kind = np.dtype((np.uint8, (size,)))
    with Channel.anonymous(kind, capacity=min(1024, (32 << 20) // size)) as channel:
        addresses = set()
        for number in range(1000):
            with channel.loan(timeout=0) as slot:
                addresses.add(address_of(slot))
                slot.buf[0] = number % 256
                slot.send(timeout=0)
            with channel.receive_view(timeout=0) as view:
                assert view.buf[0] == number % 256
        assert max(addresses) - min(addresses) <= WINDOW + size


@pytest.mark.parametrize("kept", [1, 10])
def test_messages_of_any_size_keep_to_a_window_beside_views(kept: int) -> None:
    dice = random.Random(kept)
    with Channel.anonymous(size=64 << 20) as channel:
        views = []
        for _ in range(kept):
            channel.send(bytes(10_000))
            views.append(channel.receive_view())
        addresses = []
        for _ in range(2000):
            size = dice.randrange(LONG, 300_000)
            with channel.loan(size, timeout=0) as slot:
                addresses.append(address_of(slot))
                slot.send(timeout=0)
            channel.receive_view(timeout=0).release()
        assert max(addresses) - min(addresses) <= WINDOW + (kept + 1) * 300_000


def test_a_long_queue_is_followed_by_the_window_again() -> None:
    kind = np.dtype((np.uint8, (1 << 20,)))
    with Channel.anonymous(kind, capacity=32) as channel:
        first = address_of(channel.loan())  # cancelled at once
        for _ in range(32):
            channel.loan(timeout=0).send(timeout=0)
        for _ in range(32):
            channel.receive_view(timeout=0).release()
        for _ in range(20):
            slot = channel.loan(timeout=0)
            address = address_of(slot)
            slot.cancel()
        assert 0 <= address - first <= WINDOW


def test_granules_of_a_pool_are_used_again_whole() -> None:
    dice = random.Random(4)
    with Channel.anonymous(size=1 << 20) as channel:
        slots: list[Any] = []
        for _ in range(2000):
            if slots and dice.random() < 0.5:
                slots.pop(dice.randrange(len(slots))).cancel()
            else:
                size = dice.choice([LONG, 20_000, 100_000])
                try:
                    slot = channel.loan(size, timeout=0)
                except WouldBlock:
                    slots.clear()
                    continue
                slot.array[:] = len(slots)
                slots.append(slot)
            ranges = sorted((address_of(slot), slot.nbytes) for slot in slots)
            ends = [address + nbytes for address, nbytes in ranges]
            starts = [address for address, _ in ranges]
            assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
        for slot in slots:
            slot.cancel()
        assert channel.stats().bytes_used == 0
        for _ in range(3):  # the whole pool in two messages
            halves = [channel.loan(channel.longest, timeout=0) for _ in range(2)]
            del halves


def test_bytes_in_use_are_those_of_blocks() -> None:
    with Channel.anonymous(size=1 << 20) as channel:
        assert channel.stats().bytes_used == 0
        slot = channel.loan(LONG)
        one = channel.stats().bytes_used
        assert LONG <= one < LONG + GRANULE
        slot.send()
        assert one <= channel.stats().bytes_used < one + 100  # and a short record
        view = channel.receive_view()
        assert channel.stats().bytes_used == one
        view.release()
        assert channel.stats().bytes_used == 0


# -- how much --------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_a_channel_has_one_block_more_than_its_capacity(capacity: int) -> None:
    with Channel.anonymous(FRAME, capacity=capacity) as channel:
        slots = [channel.loan(timeout=0) for _ in range(capacity + 1)]
        assert len({address_of(slot) for slot in slots}) == capacity + 1
        with pytest.raises(WouldBlock):
            channel.loan(timeout=0)
        with pytest.raises(WouldBlock):
            channel.send(frame(0), timeout=0)
        for number, slot in enumerate(slots[1:]):
            slot.array[:] = number
            slot.send(timeout=0)
        with pytest.raises(WouldBlock):
            slots[0].send(timeout=0)
        assert [each[-1] for each in channel.receive_many()] == list(range(capacity))
        slots[0].send(timeout=0)


def test_a_view_pins_its_own_block_only() -> None:
    with Channel.anonymous(FRAME, capacity=4) as channel:
        channel.send(frame(255))
        kept = channel.receive_view()
        for number in range(1000):
            channel.send(frame(number % 255), timeout=0)
            assert channel.receive(timeout=0)[-1] == number % 255
        for number in range(4):  # as many as the capacity
            channel.send(frame(number), timeout=0)
        assert len(channel.receive_many()) == 4
        assert kept.array.min() == kept.array.max() == 255


def test_a_view_of_bytes_pins_its_own_block_only() -> None:
    with Channel.anonymous(size=16 * GRANULE) as channel:
        channel.send(b"\xff" * LONG)
        kept = channel.receive_view()
        for number in range(1000):
            data = bytes([number % 255]) * (LONG + number * 10)
            channel.send(data, timeout=0)
            assert channel.receive(timeout=0) == data
        assert bytes(kept) == b"\xff" * LONG


@pytest.mark.parametrize("wait_to_send", [False, True])
@pytest.mark.parametrize("payload", [FRAME, bytes])
def test_a_full_pool_waits_for_the_release_of_a_view(payload: Any, *, wait_to_send: bool) -> None:
    options: Any = {"capacity": 1} if payload is FRAME else {"size": 2 * LONG}
    with Channel.anonymous(payload, **options) as channel:
        size = channel.longest
        value: Any = frame(1) if payload is FRAME else b"\1" * size
        channel.send(value)
        views = [channel.receive_view()]
        channel.send(value)
        views.append(channel.receive_view())
        loans = []
        with pytest.raises(WouldBlock):  # noqa: PT012 - as often as it takes
            while True:
                loans.append(channel.loan(None if payload is FRAME else LONG, timeout=0))
        with pytest.raises(WouldBlock, match=r"the channel is full.*loans, views and deliveries"):
            channel.send(value, timeout=0)
        with pytest.raises(Timeout, match="loans, views and deliveries"):
            channel.send(value, timeout=0.01)

        def wait() -> None:
            if wait_to_send:
                channel.send(value, timeout=60)
            else:
                channel.loan(None if payload is FRAME else size, timeout=60).send(timeout=60)

        thread = threading.Thread(target=wait)
        thread.start()
        wait_blocked(os.getpid(), "shared_futex")
        views.pop().release()
        thread.join()
        assert len(channel.receive(timeout=0)) == size
        del loans


def test_a_pool_of_a_dead_senders_loans_has_room_again(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    code = """
        import numpy as np
        from ipckit import Channel
        from ipckit.testing import step
        channel = Channel.open(args[0], np.dtype((np.uint8, (int(args[1]),))))
        loans = [channel.loan(timeout=0) for _ in range(4)]
        step.tell("has them")
        step.expect("never")
    """
    with Channel.create(ns.name(), FRAME, capacity=3) as channel:
        for _ in range(3):
            child = spawn(code, channel.name, LONG)
            child.expect("has them")
            with pytest.raises(WouldBlock):
                channel.loan(timeout=0)
            child.kill()
            channel.loan(timeout=60).cancel()
            assert channel.stats().bytes_used == 0


# -- loans -----------------------------------------------------------------------------------------


def test_loans_are_sent_in_place_in_any_order() -> None:
    dice = random.Random(6)
    with Channel.anonymous(FRAME, capacity=20) as channel:
        for _ in range(20):
            slots = [(number, channel.loan(timeout=0)) for number in range(20)]
            dice.shuffle(slots)
            sent = []
            for number, slot in slots:
                slot.array[:] = number
                sent.append((number, address_of(slot)))
                slot.send(timeout=0)
            found = []
            for _ in range(20):
                with channel.receive_view(timeout=0) as view:
                    found.append((view.array[-1], address_of(view)))
            assert found == sent


def test_short_messages_are_sent_by_loan_in_any_order() -> None:
    with Channel.anonymous(capacity=3) as channel:
        slots = [channel.loan(INLINE_MAX, timeout=0) for _ in range(10)]  # no message yet
        assert channel.stats().bytes_used == 0
        for number in (9, 0, 4):
            assert not any(slots[number].buf)
            slots[number].write(bytes([number]) * INLINE_MAX)
            slots[number].send(timeout=0)
        with pytest.raises(WouldBlock):
            slots[1].send(timeout=0)
        with pytest.raises(WouldBlock):
            channel.loan(1, timeout=0)
        assert [channel.receive()[-1] for _ in range(3)] == [9, 0, 4]
        slots[1].send(timeout=0)


def test_several_threads_lend_send_and_keep_views() -> None:
    each, threads = 300, 4
    with Channel.anonymous(size=1 << 20, capacity=16) as channel:

        def send(seed: int) -> None:
            dice = random.Random(seed)
            for number in range(each):
                size = dice.choice([10, INLINE_MAX, LONG, 50_000])
                if dice.random() < 0.3:
                    channel.send(bytes([number % 256]) * size, timeout=60)
                    continue
                with channel.loan(size, timeout=60) as slot:
                    slot.array[:] = number % 256
                    slot.send(timeout=60)

        errors = []

        def receive(seed: int) -> None:
            dice = random.Random(seed)
            kept: list[Any] = []
            for _ in range(each):
                kept.append(channel.receive_view(timeout=60))
                if dice.random() < 0.7 or len(kept) > 3:
                    view = kept.pop(dice.randrange(len(kept)))
                    if view.array.min() != view.array.max():
                        errors.append("torn")
                    view.release()

        workers = [threading.Thread(target=send, args=(n,)) for n in range(threads)]
        workers += [threading.Thread(target=receive, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not errors
        assert (len(channel), channel.stats().bytes_used) == (0, 0)


@pytest.mark.parametrize("size", [1, LONG, 50_000])
@pytest.mark.parametrize("timeout", [0, 60])
def test_a_sender_reports_corrupt_memory(size: int, timeout: float) -> None:
    with Channel.anonymous() as channel:
        slot = channel.loan(size)
        with mmap.mmap(channel.memory_fd, 1 << 12) as memory:
            for offset in (TAIL, SENDERS_TAIL):
                struct.pack_into("=Q", memory, offset, 2**64 - 1)
        with pytest.raises(Corrupt):
            channel.send(bytes(size), timeout=timeout)
        with pytest.raises(Corrupt):
            slot.send(timeout=timeout)


# -- sizes -----------------------------------------------------------------------------------------


class Below(Struct):
    text: Char[INLINE_MAX - 1]


class Exact(Struct):
    text: Char[INLINE_MAX]


class Above(Struct):
    text: Char[INLINE_MAX + 1]


SIZES = [INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1]
STRUCTS = dict(zip(SIZES, (Below, Exact, Above), strict=True))


class Kind:
    """A payload type at the limit: how a value of it is made, sent in place, and compared."""

    def __init__(self, payload: Any, value: Any, data: bytes, shape: Any) -> None:
        self.payload, self.value, self.data, self.shape = payload, value, data, shape

    def is_value(self, found: Any) -> bool:
        if isinstance(self.value, np.ndarray):
            return bool(np.array_equal(found, self.value))
        return bool(found == self.value)


def kind_of(name: str, size: int) -> Kind:
    data = bytes(index % 95 + 32 for index in range(size))
    array = np.frombuffer(data, np.uint8)
    match name:
        case "bytes":
            return Kind(bytes, data, data, size)
        case "str":
            return Kind(str, data.decode(), data, size)
        case "dtype":
            return Kind(np.dtype(np.uint8), array, data, size)
        case "shaped":
            return Kind(np.dtype((np.uint8, (size,))), array, data, None)
        case _:
            return Kind(STRUCTS[size], STRUCTS[size](data.decode()), data, None)


def sends(channel: Channel[Any], kind: Kind) -> None:
    channel.send(kind.value, timeout=0)


def sends_many(channel: Channel[Any], kind: Kind) -> None:
    channel.send_many([kind.value], timeout=0)


def sends_a_loan(channel: Channel[Any], kind: Kind) -> None:
    with channel.loan(kind.shape, timeout=0) as slot:
        slot.write(kind.data)
        slot.send(timeout=0)


def sends_a_part_of_a_loan(channel: Channel[Any], kind: Kind) -> None:
    shape = None if kind.shape is None else kind.shape + 1000
    with channel.loan(shape, timeout=0) as slot:
        slot.write(kind.data)
        slot.send(len(kind.data), timeout=0)


def receives(channel: Channel[Any], kind: Kind) -> None:
    assert kind.is_value(channel.receive(timeout=0))


def receives_a_view(channel: Channel[Any], kind: Kind) -> None:
    with channel.receive_view(timeout=0) as view:
        assert bytes(view) == kind.data
        assert kind.is_value(view.value)


def receives_into(channel: Channel[Any], kind: Kind) -> None:
    buffer = bytearray(len(kind.data) + 5)
    assert channel.receive_into(buffer, timeout=0) == len(kind.data)
    assert buffer == kind.data + bytes(5)


def receives_many(channel: Channel[Any], kind: Kind) -> None:
    found = channel.receive_many(1, timeout=0)
    if isinstance(kind.value, Struct):
        assert found.tobytes() == kind.data
    elif isinstance(kind.value, np.ndarray):
        assert kind.is_value(np.ravel(found))
    else:
        assert found == [kind.value]


def takes(channel: Channel[Any], kind: Kind) -> None:
    with channel.take(timeout=0) as delivery:
        assert bytes(delivery) == kind.data
        assert kind.is_value(delivery.value)


SEND = [sends, sends_many, sends_a_loan, sends_a_part_of_a_loan]
RECEIVE = [receives, receives_a_view, receives_into, receives_many, takes]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["bytes", "str", "dtype", "shaped", "Struct"])
@pytest.mark.parametrize("receive", RECEIVE)
@pytest.mark.parametrize("send", SEND)
def test_messages_at_the_limit_arrive(send: Any, receive: Any, name: str, size: int) -> None:
    kind = kind_of(name, size)
    if send is sends_many and name == "dtype":
        pytest.skip("send_many of an array sends each element")
    with Channel.anonymous(kind.payload, capacity=3) as channel:
        for count in (1, 3):
            for _ in range(count):
                send(channel, kind)
            assert len(channel) == count
            for _ in range(count):
                receive(channel, kind)
