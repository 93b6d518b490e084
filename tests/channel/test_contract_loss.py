"""No exception loses a message: it stays in the channel or is in the exception."""

from __future__ import annotations

import copy
import signal
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import PosixMessageQueue, SysVMessageQueue
from ipckit.channel import Channel
from ipckit.codec import Codec
from ipckit.errors import LayoutMismatch, PeerGone, WouldBlock
from ipckit.structs import Int, Struct
from ipckit.testing import Child

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace


class Number(Struct):
    n: Int


class Fragile(Codec[bytes]):
    """A codec that raises the given exception for b"bad"."""

    size = None
    accepts = bytes
    fingerprint = "fragile"
    name = "fragile"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, data: bytes) -> bytes:
        if data == b"bad":
            raise self.error
        return data


class LateError(Exception):
    pass


OWN: list[Exception] = [KeyError("no such field"), StopIteration(), PeerGone("its own", errno=32)]
PASSED: list[BaseException] = [MemoryError(), KeyboardInterrupt(), SystemExit(3)]


def calls(channel: Channel[bytes]) -> list[Callable[[], Any]]:
    return [
        lambda: channel.receive(timeout=0),
        lambda: next(iter(channel)),
        lambda: list(channel),
        lambda: channel.receive_many(timeout=0),
        lambda: channel.receive_many(1),
    ]


@pytest.mark.parametrize("error", OWN)
def test_a_codecs_own_exception_is_a_mismatch_that_has_the_bytes(error: Exception) -> None:
    error = copy.copy(error)  # a kept exception would keep its frames, and the handles in them
    with Channel.create(None, Fragile(error)) as channel:
        for call in calls(channel):
            channel.send(b"bad")
            with pytest.raises(LayoutMismatch) as caught:
                call()
            assert (caught.value.raw, caught.value.__cause__) == (b"bad", error)
            assert len(channel) == 0
        channel.send(b"bad")
        with channel.receive_view() as view:
            with pytest.raises(LayoutMismatch) as caught:
                _ = view.value
            assert (caught.value.raw, bytes(view)) == (b"bad", b"bad")


@pytest.mark.parametrize("error", PASSED)
def test_memory_errors_and_interrupts_pass_with_the_bytes(error: BaseException) -> None:
    with Channel.create(None, Fragile(error)) as channel:
        for call in calls(channel):
            channel.send(b"bad")
            with pytest.raises(type(error)) as caught:
                call()
            assert caught.value is error
            assert error.raw == b"bad"  # type: ignore[attr-defined]
            del error.raw  # type: ignore[attr-defined]
    for kind in (SysVMessageQueue, PosixMessageQueue):
        with kind.create(None, Fragile(error)) as queue:  # type: ignore[attr-defined]
            queue.send(b"ok")
            queue.send(b"bad")
            with pytest.raises(type(error)) as caught:
                queue.drain()
            assert [each.value for each in caught.value.received] == [b"ok"]  # type: ignore[attr-defined]
            assert caught.value.raw == b"bad"  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [*OWN, *PASSED])
def test_receive_many_gives_what_it_had_received(error: BaseException) -> None:
    with Channel.create(None, Fragile(error)) as channel:
        for each in (b"1", b"2", b"bad", b"4"):
            channel.send(each)
        with pytest.raises((LayoutMismatch, type(error))) as caught:
            channel.receive_many()
        assert caught.value.received == (b"1", b"2")  # type: ignore[attr-defined]
        assert caught.value.raw == b"bad"  # type: ignore[attr-defined]
        assert channel.receive_many() == [b"4"]


# -- interruptions ---------------------------------------------------------------------------------


def interrupt_after(name: str, times: int) -> Callable[[Any, str, Any], None]:
    """A profile function that raises just after a native call returned, as a signal handler can."""
    left = times

    def profile(_frame: Any, event: str, function: Any) -> None:
        nonlocal left
        if event == "c_return" and getattr(function, "__name__", "") == name:
            left -= 1
            if left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    return profile


@pytest.mark.parametrize(
    ("rows", "name", "times"), [(False, "_send_one", 3), (True, "_send_batch", 1)]
)
def test_sent_is_right_between_a_native_call_and_the_next_line(
    rows: bool,  # noqa: FBT001 - pytest gives it by name
    name: str,
    times: int,
) -> None:
    values: Any = np.zeros(5, Number.dtype) if rows else [Number(i) for i in range(5)]
    with Channel.create(None, Number) as channel:
        sys.setprofile(interrupt_after(name, times))
        try:
            with pytest.raises(KeyboardInterrupt) as caught:
                channel.send_many(values)
        finally:
            sys.setprofile(None)
        assert caught.value.sent == len(channel) == (5 if rows else 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("payload", "values", "name"),
    [
        (bytes, [b"1", b"2", b"3"], "_receive_to"),
        (Number, [Number(1), Number(2), Number(3)], "_receive_batch"),
    ],
)
def test_received_is_right_between_a_native_call_and_the_next_line(
    payload: Any, values: list[Any], name: str
) -> None:
    with Channel.create(None, payload) as channel:
        channel.send_many(values)
        sys.setprofile(interrupt_after(name, 1))
        try:
            with pytest.raises(KeyboardInterrupt) as caught:
                channel.receive_many()
        finally:
            sys.setprofile(None)
        assert len(caught.value.received) + len(channel) == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [LateError(), KeyboardInterrupt()])
@pytest.mark.parametrize("rows", [False, True])
def test_sent_is_right_if_a_signal_ends_the_wait_for_room(
    error: BaseException,
    rows: bool,  # noqa: FBT001
) -> None:
    def handler(*_: object) -> None:
        raise error

    values: Any = np.zeros(50, Number.dtype) if rows else [Number(i) for i in range(50)]
    old = signal.signal(signal.SIGALRM, handler)
    try:
        with Channel.create(None, Number, capacity=10) as channel:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(type(error)) as caught:
                channel.send_many(values)
            assert caught.value.sent == len(channel) == 10  # type: ignore[attr-defined]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_sent_counts_up_to_a_value_that_cannot_be_sent() -> None:
    def values() -> Any:
        yield b"1"
        yield b"2"
        raise SystemExit

    with Channel.create() as channel:
        with pytest.raises(SystemExit) as caught:
            channel.send_many(values())
        assert caught.value.sent == 2  # type: ignore[attr-defined]
        with pytest.raises(TypeError) as wrong:
            channel.send_many([b"3", 4])  # type: ignore[list-item]
        assert wrong.value.sent == 1  # type: ignore[attr-defined]


# -- no memory -------------------------------------------------------------------------------------

SIZE = 64 << 20
PIXELS = np.dtype((np.uint8, (SIZE,)))


class Large(Struct):
    n: Int


# In a new interpreter: the heap of one that has run other tests may have so much free memory.
SHORT_OF_MEMORY = """
import resource
from ipckit import Channel
name, payload, method, limit = args
with Channel.open(name, payload) as channel:
    with open("/proc/self/statm") as statm:
        limit += int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        getattr(channel, method)(timeout=0)
    except MemoryError:
        result = len(channel)
"""


@pytest.mark.parametrize(
    ("payload", "method"), [(bytes, "receive"), (PIXELS, "receive"), (PIXELS, "receive_many")]
)
def test_a_message_for_which_there_is_no_memory_still_waits(
    ns: Namespace, payload: Any, method: str
) -> None:
    size = 5 * SIZE if payload is bytes else None
    with Channel.create(ns.name(), payload, capacity=2, size=size) as channel:
        channel.send(bytes(SIZE) if payload is bytes else np.zeros(SIZE, np.uint8))
        with Child(SHORT_OF_MEMORY, channel.name, payload, method, SIZE // 2) as child:
            assert child.result == 1
        found = getattr(channel, method)(timeout=0)
        assert len(found[0] if method == "receive_many" else found) == SIZE
        with pytest.raises(WouldBlock):
            channel.receive(timeout=0)


def test_an_error_of_a_codec_says_where_the_message_is() -> None:
    with Channel.anonymous(Fragile(ValueError("no"))) as channel:
        channel.send(b"bad")
        delivery = channel.take()
        with pytest.raises(LayoutMismatch, match=r"value .*: no; the message is in buf") as caught:
            _ = delivery.value
        assert caught.value.raw == b"bad" == bytes(delivery)
        delivery.requeue()
        with pytest.raises(LayoutMismatch, match=r"receive .*: no; the message has left") as caught:
            channel.receive()
        assert caught.value.raw == b"bad"
