"""How long `send` and `receive` wait, what wakes them, and when they do not wait."""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Channel, ClosedHandle, InvalidArgument, MessageTooLong, Timeout, WouldBlock
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Namespace


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
