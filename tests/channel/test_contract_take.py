"""Messages that are taken, and acknowledged or given back, in one process."""

from __future__ import annotations

import gc
import mmap
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
    Corrupt,
    Delivery,
    Int,
    InvalidArgument,
    LayoutMismatch,
    PeerGone,
    Struct,
    Timeout,
    WouldBlock,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace

FRAME = np.dtype((np.uint16, (3, 4)))
LARGE = np.dtype((np.uint8, (100, 200)))
SHORT, LONG = b"short", b"long" * 5000


class Stu(Struct):
    name: Char[32]
    age: Int


def take_while_there_is_memory(channel: Channel[Any], timeout: float = 0) -> list[Delivery]:
    """Take messages, and acknowledge none, until the channel has no memory for another one."""
    taken = []
    with pytest.raises((WouldBlock, Timeout), match="no memory to take the next"):  # noqa: PT012
        while True:
            taken.append(channel.take(timeout))
    return taken


def values(channel: Channel[Any]) -> list[Any]:
    """Receive all messages that wait."""
    found = []
    while len(channel):
        found.append(channel.receive(timeout=0))
    return found


# -- values ----------------------------------------------------------------------------------------

TYPED: list[tuple[Any, Any]] = [
    (bytes, b""),
    (bytes, b"x"),
    (bytes, b"y" * 4096),
    (bytes, b"z" * 4097),
    (bytes, LONG),
    (str, "grüße"),
    (str, "ß" * 9000),
    (Stu, Stu("amy", 20)),
    (np.dtype(np.int32), np.arange(5, dtype=np.int32)),
    (np.dtype(np.int32), np.arange(50_000, dtype=np.int32)),
    (FRAME, np.arange(12, dtype=np.uint16).reshape(3, 4)),
    (LARGE, np.ones((100, 200), np.uint8)),
]


@pytest.mark.parametrize(("kind", "value"), TYPED)
def test_a_message_of_each_type(kind: Any, value: Any) -> None:
    with Channel.anonymous(kind, capacity=4) as channel:
        for again in range(3):
            channel.send(value)
            delivery = channel.take()
            assert np.array_equal(delivery.value, value)
            assert delivery.nbytes == len(delivery) == delivery.buf.nbytes == len(bytes(delivery))
            assert delivery.buf.readonly
            array = delivery.array
            assert not array.flags.writeable
            assert array.nbytes == delivery.nbytes
            assert delivery.redelivered == 0
            del array
            if again == 1:
                delivery.requeue()
                delivery = channel.take()
                assert np.array_equal(delivery.value, value)
                assert delivery.redelivered == 1
            delivery.ack()
            assert channel.stats().bytes_used == channel.stats().taken == len(channel) == 0


def test_a_value_is_decoded_when_it_is_read() -> None:
    with Channel.anonymous(str) as channel:
        with channel.loan(2) as slot:
            slot.buf[:] = b"\xff\xff"
            slot.send()
        delivery = channel.take()
        with pytest.raises(LayoutMismatch):
            _ = delivery.value
        assert bytes(delivery) == b"\xff\xff"
        delivery.requeue()
        with pytest.raises(LayoutMismatch):
            channel.receive()
        assert len(channel) == 0


def test_messages_of_a_batch() -> None:
    """They share one record."""
    records = np.zeros(5, Stu.dtype)
    records["age"] = np.arange(5)
    with Channel.anonymous(Stu, capacity=10) as channel:
        channel.send_many(records)
        first = channel.take()
        assert channel.receive().age == 1
        third = channel.take()
        assert [first.value.age, third.value.age] == [0, 2]
        third.requeue()
        first.requeue()
        assert channel.receive_many()["age"].tolist() == [0, 2, 3, 4]


# -- acknowledge, give back ------------------------------------------------------------------------


def test_a_block_acknowledges_and_an_exception_gives_back() -> None:
    with Channel.anonymous() as channel:
        channel.send(b"job")
        with pytest.raises(ZeroDivisionError), channel.take():
            _ = 1 / 0
        with pytest.raises(KeyboardInterrupt), channel.take():
            raise KeyboardInterrupt
        with channel.take() as delivery:
            assert delivery.redelivered == 2
        assert len(channel) == 0
        assert channel.stats().taken == 0


def test_calls_inside_of_a_block_have_the_last_word() -> None:
    with Channel.anonymous() as channel:
        channel.send(b"job")
        with channel.take() as delivery:
            delivery.requeue()
        assert len(channel) == 1
        with channel.take() as delivery, suppress(ZeroDivisionError):
            delivery.ack()
            _ = 1 / 0
        assert len(channel) == channel.stats().taken == 0


def test_a_delivery_ends_once() -> None:
    with Channel.anonymous() as channel:
        for end in (Delivery.ack, Delivery.requeue):
            channel.send(b"job")
            delivery = channel.take()
            end(delivery)
            for use in (
                Delivery.ack,
                Delivery.requeue,
                lambda each: each.redelivered,
                lambda each: each.value,
                lambda each: each.array,
                lambda each: each.buf,
                bytes,
                len,
            ):
                with pytest.raises(ClosedHandle, match="acknowledged or given back"):
                    use(delivery)
            assert "acknowledged or given back" in repr(delivery)
            assert delivery
        assert values(channel) == [b"job"]


def test_errors_name_the_call_and_the_channel(ns: Namespace) -> None:
    with Channel.create(ns.name()) as channel:
        assert channel.name is not None
        channel.send(b"job")
        delivery = channel.take()
        assert repr(delivery) == f"<Delivery of channel {channel.name[1:]}, 3 bytes, redelivered 0>"
        delivery.ack()
        for op in ("ack", "requeue"):
            with pytest.raises(ClosedHandle) as caught:
                getattr(delivery, op)()
            assert str(caught.value).startswith(f"{op} on channel {channel.name[1:]}: ")
        with pytest.raises(WouldBlock, match=r"^take on channel .*: no message waits$"):
            channel.take(0)
        with pytest.raises(Timeout, match=r"^take on channel .*: no message came within 0\.01 s$"):
            channel.take(timeout=0.01)
        with pytest.raises(InvalidArgument, match="timeout must be"):
            channel.take(-1)
        with pytest.raises(TypeError):
            channel.take("1")  # type: ignore[arg-type]
        channel.unlink()
    with pytest.raises(ClosedHandle, match=r"^take on channel"):
        channel.take()


def test_a_dropped_delivery_is_given_back() -> None:
    with Channel.anonymous() as channel:
        channel.send(b"job")
        channel.take()
        gc.collect()
        with channel.take() as delivery:
            assert delivery.redelivered == 1


@pytest.mark.parametrize("text", [SHORT, LONG])
def test_an_array_keeps_what_was_acknowledged(text: bytes) -> None:
    with Channel.anonymous(size=1 << 16) as channel:
        channel.send(text)
        delivery = channel.take()
        array = delivery.array
        delivery.ack()
        assert channel.stats().taken == len(channel) == 0
        assert channel.stats().bytes_used > 0
        for _ in range(50):
            channel.send(b"other" * 2000)
            channel.receive()
        assert array.tobytes() == text
        del array
        assert channel.stats().bytes_used == 0


@pytest.mark.parametrize("text", [SHORT, LONG])
def test_an_array_delays_giving_back(text: bytes) -> None:
    with Channel.anonymous(size=1 << 16) as channel:
        channel.send(text)
        delivery = channel.take()
        arrays = [delivery.array, delivery.array]
        delivery.requeue()
        for _ in range(2):
            assert (len(channel), channel.stats().taken) == (0, 1)
            arrays.pop()
        assert (len(channel), channel.stats().taken) == (1, 0)
        assert channel.take().redelivered == 1


# -- order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", [b"", b"-" * 5000])
def test_given_back_messages_come_first_in_their_order(tail: bytes) -> None:
    with Channel.anonymous() as channel:
        for number in range(8):
            channel.send(b"%d" % number + tail)
        taken = [channel.take() for _ in range(6)]
        taken[1].ack()
        for each in (5, 0, 3):
            taken[each].requeue()
        again = channel.take()
        assert again.value[:1] == b"0"
        again.requeue()
        taken[2].requeue()
        assert [value[:1] for value in values(channel)] == [b"0", b"2", b"3", b"5", b"6", b"7"]
        taken[4].requeue()
        channel.send(b"8")
        assert [value[:1] for value in values(channel)] == [b"4", b"8"]


def test_a_returned_message_keeps_its_place_when_it_is_taken_again() -> None:
    with Channel.anonymous() as channel:
        for number in range(3):
            channel.send(b"%d" % number)
        first, second = channel.take(), channel.take()
        first.requeue()
        again = channel.take()
        second.requeue()
        again.requeue()
        with channel.take() as delivery:
            assert (delivery.value, delivery.redelivered) == (b"0", 2)
        with channel.take() as delivery:
            assert (delivery.value, delivery.redelivered) == (b"1", 1)
        with channel.take() as delivery:
            assert (delivery.value, delivery.redelivered) == (b"2", 0)


def receive_into(channel: Channel[bytes]) -> bytes:
    buffer = bytearray(100_000)
    return bytes(buffer[: channel.receive_into(buffer, timeout=0)])


RECEIVES: dict[str, Callable[[Channel[bytes]], bytes]] = {
    "receive": lambda channel: channel.receive(timeout=0),
    "receive_into": receive_into,
    "receive_view": lambda channel: bytes(channel.receive_view(timeout=0)),
    "receive_many": lambda channel: channel.receive_many(1, timeout=0)[0],
    "iteration": lambda channel: next(iter(channel)),
    "take": lambda channel: acknowledged(channel.take(0)),
}


def acknowledged(delivery: Delivery) -> bytes:
    with delivery:
        return bytes(delivery.value)


@pytest.mark.parametrize("text", [SHORT, LONG])
@pytest.mark.parametrize("how", RECEIVES)
def test_each_way_of_receiving_gets_returned_messages(how: str, text: bytes) -> None:
    receive = RECEIVES[how]
    with Channel.anonymous() as channel:
        for number in range(3):
            channel.send(b"%d" % number + text)
        first, second = channel.take(), channel.take()
        first.requeue()
        assert receive(channel) == b"0" + text
        assert receive(channel) == b"2" + text
        with pytest.raises(WouldBlock):
            channel.receive(timeout=0)
        second.requeue()
        assert receive(channel) == b"1" + text
        assert channel.stats().bytes_used == channel.stats().taken == len(channel) == 0


def test_receive_many_gets_returned_ones_and_the_rest() -> None:
    with Channel.anonymous() as channel:
        channel.send_many([b"0", b"1", b"2", b"3"])
        taken = [channel.take() for _ in range(3)]
        for each in taken:
            each.requeue()
        assert channel.receive_many() == [b"0", b"1", b"2", b"3"]


def test_a_descriptor_reports_a_returned_message() -> None:
    with Channel.anonymous() as channel:
        fd = channel.fileno()
        channel.send(b"job")
        assert select.select([fd], [], [], 10)[0]
        delivery = channel.take(0)
        assert not select.select([fd], [], [], 0)[0]
        delivery.requeue()
        assert select.select([fd], [], [], 10)[0]
        channel.take(0).ack()
        with pytest.raises(WouldBlock):
            channel.take(0)
        assert not select.select([fd], [], [], 0)[0]


# -- state -----------------------------------------------------------------------------------------


def test_what_is_taken_counts() -> None:
    with Channel.anonymous() as channel:
        channel.send_many([b"0", b"1", b"2"])
        taken = [channel.take(), channel.take()]
        stats = channel.stats()
        assert (stats.messages, stats.taken, len(channel)) == (1, 2, 1)
        taken[0].requeue()
        stats = channel.stats()
        assert (stats.messages, stats.taken, len(channel)) == (2, 1, 2)
        assert "2 of 1024 messages" in repr(channel)
        taken[1].ack()
        assert channel.stats().taken == 0


def test_taken_messages_leave_their_places_to_others() -> None:
    """Neither what is taken nor what was given back counts against the capacity."""
    with Channel.anonymous(capacity=2, size=1 << 20) as channel:
        taken = []
        for number in range(10):
            channel.send(b"%d" % number, timeout=0)
            taken.append(channel.take())
        channel.send_many([b"a", b"b"], timeout=0)
        with pytest.raises(WouldBlock):
            channel.send(b"c", timeout=0)
        for each in taken:
            each.requeue()
        assert len(channel) == 12
        assert values(channel) == [*(b"%d" % number for number in range(10)), b"a", b"b"]


def test_overwriting_drops_returned_messages_first() -> None:
    with Channel.anonymous(capacity=2, overwrite=True) as channel:
        channel.send_many([b"0", b"1"])
        kept, returned = channel.take(), channel.take()
        returned.requeue()
        for number in range(2, 6):
            channel.send(b"%d" % number, timeout=0)
        assert (kept.value, channel.stats().taken) == (b"0", 1)
        assert channel.stats().dropped in {2, 3}
        assert values(channel)[-2:] == [b"4", b"5"]
        kept.requeue()
        assert values(channel) == [b"0"]


def test_overwriting_does_not_drop_what_is_taken() -> None:
    with Channel.anonymous(LARGE, capacity=2, overwrite=True) as channel:
        frames = [np.full((100, 200), number, np.uint8) for number in range(9)]
        channel.send(frames[0])
        with channel.take() as kept:
            for each in frames:
                channel.send(each, timeout=0)
            assert kept.array.max() == 0
        assert channel.receive().max() in {7, 8}


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_take_without_memory_waits_for_some(*, overwrite: bool) -> None:
    with Channel.anonymous(size=1 << 16, overwrite=overwrite) as channel:
        for number in range(100):
            channel.send(b"%d" % number)
        taken = take_while_there_is_memory(channel)
        assert 16 <= len(taken) < 30
        with pytest.raises(Timeout, match=r"no memory to take the next message for 0\.05 s"):
            channel.take(0.05)
        assert len(channel) == 100 - len(taken)
        timer = threading.Timer(0.05, taken[3].ack)
        timer.start()
        with channel.take(60) as delivery:
            assert delivery.value == b"%d" % len(taken)
        timer.join()
        for each in taken:
            if each is not taken[3]:
                each.requeue()
        want = [b"%d" % number for number in range(100) if number not in {3, len(taken)}]
        assert values(channel) == want
        assert channel.stats().dropped == 0


def test_a_receive_needs_no_memory() -> None:
    with Channel.anonymous(size=1 << 16) as channel:
        channel.send_many([b"x"] * 100)
        taken = take_while_there_is_memory(channel)
        assert channel.receive(timeout=0) == b"x"
        assert len(taken) > 0


def test_a_short_message_before_long_ones_that_fill_the_memory_can_be_taken() -> None:
    with Channel.anonymous(size=1 << 16) as channel:
        channel.send(b"short")
        for _ in range(2):
            channel.send(bytes(30_000), timeout=0)
        with pytest.raises(WouldBlock):
            channel.send(bytes(30_000), timeout=0)
        with channel.take(0) as delivery:
            assert delivery.value == b"short"
        with channel.take(0) as delivery:
            assert delivery.nbytes == 30_000


@pytest.mark.parametrize("kind", [Stu, FRAME, LARGE])
def test_as_many_can_be_taken_as_the_channel_has_messages(kind: Any) -> None:
    with Channel.anonymous(kind, capacity=5) as channel:
        with channel.loan() as slot:
            slot.buf[:] = bytes(slot.nbytes)
            slot.send()
        value = channel.receive()
        for _ in range(5):
            channel.send(value, timeout=0)
        taken = [channel.take(0) for _ in range(5)]
        channel.send(value, timeout=0)
        taken.append(channel.take(0))
        assert channel.stats().taken == 6


# -- the other side --------------------------------------------------------------------------------


def test_peer_gone_comes_when_nothing_can_be_given_back(ns: Namespace) -> None:
    with Channel.create(ns.name()) as channel, Channel.open(str(channel.name)) as worker:
        with Channel.open(str(channel.name)) as sender:
            sender.send(b"job")
        other = worker.take()
        with pytest.raises(Timeout):
            channel.take(timeout=0.1)  # the worker may give it back
        with pytest.raises(Timeout):
            channel.receive(timeout=0.1)
        timer = threading.Timer(0.05, other.requeue)
        timer.start()
        mine = channel.take(timeout=60)
        timer.join()
        with pytest.raises(PeerGone):
            channel.take(timeout=60)  # no other process has taken a message
        timer = threading.Timer(0.05, mine.ack)
        timer.start()
        with pytest.raises(PeerGone, match="last sender is gone"):
            worker.take(timeout=60)
        timer.join()
        assert list(channel) == []
        channel.unlink()


def test_an_acknowledgement_ends_the_wait_of_all_others(ns: Namespace) -> None:
    """Also of those that leave the checks of the peers to others."""
    with Channel.create(ns.name()) as channel, Channel.open(str(channel.name)) as worker:
        with Channel.open(str(channel.name)) as sender:
            sender.send(b"job")
        delivery = worker.take()
        ended: list[str] = []

        def wait(policy: Any) -> None:
            with Channel.open(str(channel.name), peer_gone=policy) as mine:
                try:
                    mine.take(timeout=0.8 if policy == "wait" else 60)
                except (PeerGone, Timeout) as exc:
                    ended.append(type(exc).__name__)

        threads = [threading.Thread(target=wait, args=(each,)) for each in ("wait", "raise")]
        threads[0].start()
        threads[1].start()
        with pytest.raises(Timeout):
            channel.take(timeout=0.3)
        delivery.ack()
        for thread in threads:
            thread.join()
        assert ended == ["PeerGone", "Timeout"]
        channel.unlink()


def test_messages_that_wait_for_memory_are_no_end(ns: Namespace) -> None:
    with Channel.create(ns.name(), size=1 << 16) as channel:
        with Channel.open(str(channel.name)) as sender:
            sender.send_many([b"x"] * 40)
        taken = take_while_there_is_memory(channel, timeout=0.05)
        for each in taken:
            each.ack()
        assert len(list(channel)) == 40 - len(taken)
        channel.unlink()


# -- close, fork, threads --------------------------------------------------------------------------


@pytest.mark.parametrize("text", [SHORT, LONG])
def test_deliveries_outlive_their_handle(ns: Namespace, text: bytes) -> None:
    with Channel.create(ns.name()) as channel:
        worker = Channel.open(str(channel.name))
        channel.send_many([b"0" + text, b"1" + text, b"2" + text])
        taken = [worker.take() for _ in range(3)]
        worker.close()
        assert channel.stats().taken == 3
        taken[0].ack()
        taken[1].requeue()
        assert taken[2].value == b"2" + text
        assert channel.receive() == b"1" + text
        taken.clear()
        with channel.take() as delivery:
            assert (delivery.value, delivery.redelivered) == (b"2" + text, 1)
        assert len(channel.peers()) == 1
        channel.unlink()


@pytest.mark.parametrize("text", [SHORT, LONG])
def test_a_forked_child_can_read_only(text: bytes) -> None:
    with Channel.anonymous() as channel:
        channel.send(text)
        delivery = channel.take()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                assert delivery.value == text
                for use in (Delivery.ack, Delivery.requeue, lambda each: each.redelivered):
                    with pytest.raises(ClosedHandle, match="another process has taken"):
                        use(delivery)
                assert "taken by another process" in repr(delivery)
                with pytest.raises(ClosedHandle), delivery:
                    pass
                del delivery
                gc.collect()
                with pytest.raises(WouldBlock):
                    channel.take(0)
                channel.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert (delivery.value, delivery.redelivered) == (text, 0)
        assert (channel.stats().taken, len(channel)) == (1, 0)
        delivery.ack()


def test_one_thread_takes_and_another_acknowledges() -> None:
    with Channel.anonymous(size=1 << 22) as channel:
        done: list[int] = []
        taken: list[Delivery] = []
        ready = threading.Semaphore(0)

        def finish() -> None:
            for turn in range(300):
                ready.acquire()
                delivery = taken.pop(0)
                if turn % 3 == 0 and delivery.redelivered == 0:
                    delivery.requeue()
                else:
                    done.append(int(bytes(delivery)[:4]))
                    delivery.ack()

        def send() -> None:
            for number in range(1, 301):
                channel.send(b"%4d" % number + b"." * (number % 2 * 5000))

        threads = [threading.Thread(target=each) for each in (finish, send)]
        for thread in threads:
            thread.start()
        for _ in range(300):
            taken.append(channel.take(60))
            ready.release()
        for thread in threads:
            thread.join()
        done.extend(int(value[:4]) for value in values(channel))
        assert sorted(done) == list(range(1, 301))


def test_an_invalid_state_is_corrupt(ns: Namespace) -> None:
    """Another process can write to the memory; a wrong length is found before it is used."""
    with Channel.create(ns.name(), capacity=4) as channel:
        channel.send(LONG)
        channel.take().requeue()
        with mmap.mmap(channel.memory_fd, 0) as memory:
            length = len(LONG).to_bytes(8, "little")
            place = memory.find(length, 20480)
            while place >= 0:
                memory[place : place + 8] = (1 << 40).to_bytes(8, "little")
                place = memory.find(length, place + 8)
            with pytest.raises(Corrupt):
                channel.take(0)
        channel.unlink()
