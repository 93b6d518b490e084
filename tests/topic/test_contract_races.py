"""What a subscriber gets while publishers drop the message that it is about to receive."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import MessageTooLong, Timeout, Topic, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

    Spawn = Callable[..., Child]

# Two of these lengths are copied under the subscriber's lock; the third is in a block.
SHORT, INLINE, BLOCK = b"a" * 41, b"b" * 3000, b"c" * 9000

# Publishes messages of different lengths as fast as it can until it is killed.
PUBLISHER = """
from ipckit import Topic
from ipckit.testing import step
topic = Topic.open(args[0])
step.tell("ready")
while True:
    for each in args[1]:
        topic.publish(each)
"""


@pytest.fixture
def topic(ns: Namespace) -> Iterator[Topic[bytes]]:
    with Topic.create(ns.name(), capacity=64, size=1 << 20) as made:
        yield made
        made.unlink(missing_ok=True)


@pytest.mark.parametrize("long", [INLINE, BLOCK], ids=["inline", "block"])
def test_a_message_that_came_later_is_not_copied_over_the_end_of_a_buffer(
    topic: Topic[bytes], spawn: Spawn, long: bytes
) -> None:
    publisher = spawn(PUBLISHER, topic.name, [SHORT, long])
    memory = bytearray(16384)
    room = memoryview(memory)[:64]
    with topic.subscribe(when_full="drop_oldest", depth=1) as messages:
        publisher.expect("ready")
        fitted = 0
        for _ in range(20_000):
            try:
                fitted += messages.receive_into(room, timeout=10) == len(SHORT)
            except MessageTooLong:
                messages.receive(timeout=10)
            assert not memory[64] | memory[2900] | memory[8900]
        assert fitted
        publisher.kill()


@pytest.mark.parametrize("kind", ["receive", "receive_view", "receive_many"])
def test_messages_of_different_lengths_are_whole(
    topic: Topic[bytes], spawn: Spawn, kind: str
) -> None:
    publisher = spawn(PUBLISHER, topic.name, [SHORT, INLINE, BLOCK])
    with topic.subscribe(when_full="drop_oldest", depth=1) as messages:
        publisher.expect("ready")
        for _ in range(10_000):
            found: Any = getattr(messages, kind)(timeout=10)
            for each in found if kind == "receive_many" else [found]:
                assert bytes(each) in {SHORT, INLINE, BLOCK}
        publisher.kill()


def test_receive_many_takes_the_beginning_of_a_loan_for_this_subscriber_only() -> None:
    with (
        Topic.anonymous(np.dtype("f8")) as topic,
        topic.subscribe() as one,
        topic.subscribe() as two,
    ):
        topic.publish(np.array([1.0]))
        with topic.loan(1000) as loan:
            loan.array[0] = 2.0
            loan.send(8)
        topic.publish(np.array([3.0]))
        for each in (one, two):
            assert list(each.receive_many()) == [1.0, 2.0, 3.0]
            with pytest.raises(WouldBlock):
                each.receive(timeout=0)
        assert [each.unread for each in topic.subscribers()] == [0, 0]


def test_a_publisher_is_told_that_a_loan_became_a_message(topic: Topic[bytes]) -> None:
    with Topic.open(str(topic.name)) as other:
        loans = [other.loan(topic.longest) for _ in range(2)]
        fd = topic.space_fileno()
        with pytest.raises(WouldBlock):
            topic.publish(b"x" * topic.longest, timeout=0)
        with pytest.raises(Timeout):
            topic.publish(b"x" * topic.longest, timeout=0.01)
        assert not select.select([fd], [], [], 0)[0]
        for each in loans:
            each.send()
        assert select.select([fd], [], [], 5)[0]
        topic.publish(b"x" * topic.longest, timeout=0)


# The test of a timeout's truth forks; the child goes on with the parent's subscription.
FORKS = """
import os
from ipckit import ClosedHandle, Timeout, Topic

class Forking(float):
    def __bool__(self):
        global child
        child = os.fork()
        return True

topic = Topic.anonymous()
with topic.subscribe() as messages:
    try:
        messages.receive(timeout=Forking(0.05))
    except Timeout:
        assert child, "the child waited for the parent's messages"
    except ClosedHandle:
        assert not child
        os._exit(7)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 7, status
topic.close()
"""


def test_a_child_that_is_forked_inside_receive_is_told(spawn: Spawn) -> None:
    spawn(FORKS).wait()
