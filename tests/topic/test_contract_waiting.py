"""How long publishers and subscribers wait, what wakes them, and what a timeout says."""

from __future__ import annotations

import errno
import os
import select
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from message_types import Stu

from ipckit import ClosedHandle, InvalidArgument, MessageTooLong, Timeout, Topic, WouldBlock
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.channel import View
    from ipckit.topic import Subscription


@pytest.mark.parametrize("spin", [0, 2000])
def test_timeouts(spin: int) -> None:
    with Topic.anonymous(capacity=2, spin=spin) as topic, topic.subscribe() as messages:
        for call in (messages.receive, messages.receive_view, messages.receive_many):
            with pytest.raises(WouldBlock, match="no message waits"):
                call(timeout=0)
            with pytest.raises(Timeout, match=r"within 0\.01 s"):
                call(timeout=0.01)
        topic.publish_many([b"1", b"2"])
        for publish in (
            lambda **kw: topic.publish(b"3", **kw),
            lambda **kw: topic.publish(bytes(10_000), **kw),
            lambda **kw: topic.loan(3, **kw),
            lambda **kw: topic.publish_many([b"3"], **kw),
        ):
            with pytest.raises(WouldBlock, match=rf"pid {os.getpid()} \(.+\) has 2 unread") as info:
                publish(timeout=0)
            assert info.value.errno == errno.EAGAIN
            assert info.value.target == "anonymous topic"
            with pytest.raises(Timeout, match=r"full for 0\.0\d* s: subscriber pid") as late:
                publish(timeout=0.01)
            assert late.value.errno == errno.ETIMEDOUT
        assert messages.receive_many() == [b"1", b"2"]  # nobody got the others
        assert topic.stats().published == 2


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1"])
def test_a_timeout_out_of_range(timeout: Any) -> None:
    error = TypeError if isinstance(timeout, str) else InvalidArgument
    with Topic.anonymous() as topic, topic.subscribe() as messages:
        calls: list[Callable[[], Any]] = [
            lambda: messages.receive(timeout=timeout),
            lambda: messages.receive_view(timeout=timeout),
            lambda: messages.receive_many(timeout=timeout),
            lambda: messages.receive_into(bytearray(1), timeout=timeout),
            lambda: topic.publish(b"", timeout=timeout),
            lambda: topic.loan(1, timeout=timeout),
            lambda: topic.publish_many([b""], timeout=timeout),
            lambda: topic.subscribe(timeout=timeout),
        ]
        for call in calls:
            with pytest.raises(error):
                call()
        assert topic.stats().published == 0
        assert topic.stats().subscribers == 1


@pytest.mark.parametrize("type", [bytes, Stu])
def test_a_timeout_is_checked_also_if_nothing_is_waited_for(type: Any) -> None:
    value = b"" if type is bytes else Stu("amy", 20)
    with Topic.anonymous(type) as topic, topic.subscribe() as messages:
        topic.publish(value)
        for wrong in (-1, float("nan")):
            with pytest.raises(InvalidArgument, match="timeout must be"):
                messages.receive_many(timeout=wrong)
        with pytest.raises(TypeError, match="timeout must be"):
            messages.receive_many(timeout="1")  # type: ignore[arg-type]
        assert len(messages) == 1


def test_a_publisher_names_the_slowest_of_those_it_waits_for() -> None:
    with (
        Topic.anonymous(capacity=9) as topic,
        topic.subscribe(when_full="drop_oldest"),
        topic.subscribe(),
        topic.subscribe(depth=5) as slowest,
    ):
        topic.publish_many([b"1", b"2"])
        with topic.subscribe(depth=3):
            topic.publish_many([b"3", b"4", b"5"])
            with pytest.raises(WouldBlock, match="has 5 unread"):
                topic.publish(b"6", timeout=0)
            slowest.receive()
            # It has 4 unread, and the one without a depth has 5; neither is waited for.
            with pytest.raises(WouldBlock, match="has 3 unread"):
                topic.publish(b"6", timeout=0)
        topic.publish(b"6", timeout=0)


def test_the_name_of_the_program_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"bad\x1b[2J\xff\n")
    with Topic.anonymous(capacity=1) as topic, topic.subscribe():
        topic.publish(b"1")
        with pytest.raises(WouldBlock, match=r"\(bad\\x1b\[2J\\udcff\) has 1 unread"):
            topic.publish(b"2", timeout=0)

    def gone(_: Path) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", gone)
    with Topic.anonymous(capacity=1) as topic, topic.subscribe():
        topic.publish(b"1")
        with pytest.raises(WouldBlock, match=rf"subscriber pid {os.getpid()} has 1 unread"):
            topic.publish(b"2", timeout=0)


def test_memory_that_views_and_loans_hold_is_said_to_be_held() -> None:
    kind = np.dtype((np.uint8, (10_000,)))
    frame = np.zeros(10_000, np.uint8)
    with Topic.anonymous(kind, capacity=2) as topic, topic.subscribe() as frames:
        views: list[View] = []
        for _ in range(4):
            topic.publish(frame, timeout=0)
            views.append(frames.receive_view(timeout=0))
        with pytest.raises(Timeout, match="views or loans hold the memory; release them"):
            topic.publish(frame, timeout=0.01)
        views.pop().release()
        loan = topic.loan(timeout=0)
        with pytest.raises(WouldBlock, match="views or loans hold the memory"):
            topic.loan(timeout=0)
        loan.cancel()
        topic.publish(frame, timeout=0)
    with (
        Topic.anonymous(size=100_000) as topic,
        topic.subscribe(),
        pytest.raises(WouldBlock, match="has 3 unread"),  # although its depth is 1024
    ):
        topic.publish_many([bytes(30_000)] * 9, timeout=0)


def test_close_wakes_threads_that_wait_in_the_subscription() -> None:
    errors: list[BaseException] = []

    def wait(messages: Subscription[bytes]) -> None:
        try:
            messages.receive()
        except ClosedHandle as exc:
            errors.append(exc)

    with Topic.anonymous() as topic:
        messages = topic.subscribe()
        thread = threading.Thread(target=wait, args=(messages,))
        thread.start()
        wait_blocked(os.getpid(), "shared_futex")
        messages.close()
        thread.join()
    assert len(errors) == 1


def test_threads_that_wait_are_woken() -> None:
    found: list[bytes] = []
    with Topic.anonymous(capacity=1) as topic, topic.subscribe() as one, topic.subscribe() as two:
        receivers = [
            threading.Thread(target=lambda each=each: found.append(each.receive()))
            for each in (one, two)
        ]
        for thread in receivers:
            thread.start()
        wait_blocked(os.getpid(), "shared_futex")
        topic.publish(b"woken")
        for thread in receivers:
            thread.join()
        topic.publish(b"full")
        publisher = threading.Thread(target=lambda: topic.publish(b"next"))
        publisher.start()
        wait_blocked(os.getpid(), "shared_futex")
        assert one.receive() == b"full"
        assert two.receive() == b"full"
        publisher.join()
        assert one.receive() == two.receive() == b"next"
    assert found == [b"woken", b"woken"]


def test_a_message_goes_to_one_of_the_threads_of_a_subscription() -> None:
    found: list[int] = []
    with Topic.anonymous(np.dtype("i8"), capacity=50) as topic, topic.subscribe() as numbers:

        def receive() -> None:
            with_end = iter(numbers)
            while (number := int(next(with_end)[0])) >= 0:
                found.append(number)

        threads = [threading.Thread(target=receive) for _ in range(3)]
        for thread in threads:
            thread.start()
        topic.publish_many(np.arange(3000), timeout=60)
        topic.publish_many(np.full(3, -1), timeout=60)
        for thread in threads:
            thread.join()
    assert sorted(found) == list(range(3000))


def test_descriptors_tell_when_to_call() -> None:
    with Topic.anonymous(capacity=1) as topic, topic.subscribe() as messages:
        items, space = messages.fileno(), topic.space_fileno()
        assert items == messages.fileno()
        assert select.select([messages], [], [], 0)[0] == []
        topic.publish(b"1")
        assert select.select([messages], [], [], 30)[0] == [messages]
        with pytest.raises(WouldBlock):
            topic.publish(b"2", timeout=0)
        assert select.select([space], [], [], 0)[0] == []
        assert messages.receive(timeout=0) == b"1"
        # The thread that makes it readable can be late; then a call makes it unreadable.
        if select.select([messages], [], [], 0)[0]:
            with pytest.raises(WouldBlock):
                messages.receive(timeout=0)
        assert select.select([messages], [], [], 0)[0] == []
        assert select.select([space], [], [], 30)[0] == [space]
        topic.publish(b"2", timeout=0)


class _Closes:
    """A timeout whose conversion to seconds closes a handle, from the given call on."""

    def __init__(self, handle: Any, times: int) -> None:
        self.handle, self.times = handle, times

    def __float__(self) -> float:
        self.times -= 1
        if self.times == 0:
            self.handle.close()
        return 0.05


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_timeout_that_closes_the_handle(times: int) -> None:
    calls: list[tuple[bool, Callable[[Any, Any], Any]]] = [
        (False, lambda messages, wait: messages.receive(timeout=wait)),
        (False, lambda messages, wait: messages.receive_view(timeout=wait)),
        (False, lambda messages, wait: messages.receive_many(timeout=wait)),
        (True, lambda topic, wait: topic.publish(b"x", timeout=wait)),
        (True, lambda topic, wait: topic.publish(bytes(10_000), timeout=wait)),
        (True, lambda topic, wait: topic.loan(1, timeout=wait)),
    ]
    for publishes, call in calls:
        with Topic.anonymous(bytes, capacity=1) as topic, topic.subscribe() as messages:
            if publishes:
                topic.publish(b"full")
            handle: Any = topic if publishes else messages
            with pytest.raises((ClosedHandle, Timeout)):
                call(handle, _Closes(handle, times))
    topic = Topic.anonymous()
    with pytest.raises(ClosedHandle):
        topic.subscribe(timeout=_Closes(topic, 1))  # type: ignore[arg-type]


def test_a_message_that_is_too_long_does_not_wait() -> None:
    with Topic.anonymous(size=10_000, capacity=4) as topic, topic.subscribe() as messages:
        topic.publish(bytes(5000))
        for call in (
            lambda: topic.publish(bytes(5001)),
            lambda: topic.loan(5001),
            lambda: topic.publish_many([bytes(5001)]),
        ):
            with pytest.raises(MessageTooLong, match="the limit of this topic") as info:
                call()
            assert info.value.errno == errno.EMSGSIZE
        with pytest.raises(MessageTooLong, match="the message is still in the topic"):
            messages.receive_into(bytearray(4999))
        buffer = bytearray(5000)
        assert messages.receive_into(buffer) == 5000
