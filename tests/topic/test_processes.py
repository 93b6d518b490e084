"""Topics between processes, for each way to start and to end a process."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import Char, ClosedHandle, Int, PeerGone, Struct, Timeout, Topic, WouldBlock, aio, pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace
    from ipckit.topic import Subscription


class Stu(Struct):
    name: Char[32]
    age: Int


SUBSCRIBER = """
    from ipckit import Topic
    from ipckit.testing import step
    topic = Topic.open(args[0])
    with topic.subscribe(**args[1]) as messages:
        step.tell("subscribed")
        found = [message for message in messages]
        result = (len(found), found == [b"%d" % n for n in range(len(found))], messages.lost)
    topic.close()
"""


def test_each_process_gets_every_message(ns: Namespace, spawn: Callable[..., Child]) -> None:
    with Topic.create(ns.name(), capacity=16) as topic:
        children = [spawn(SUBSCRIBER, topic.name, {}) for _ in range(3)]
        for child in children:
            child.expect("subscribed")
        assert {each.pid for each in topic.subscribers()} == {child.pid for child in children}
        assert not any(each.self for each in topic.subscribers())
        for number in range(5000):
            topic.publish(b"%d" % number, timeout=60)
        topic.unlink()
        topic.close()
        assert [child.result for child in children] == [(5000, True, 0)] * 3


def test_large_frames_go_to_each_process_whole(ns: Namespace, spawn: Callable[..., Child]) -> None:
    code = """
        import numpy as np
        from ipckit import Topic
        from ipckit.testing import step
        kind = np.dtype((np.uint8, (100_000,)))
        result = 0
        with Topic.open(args[0], kind) as topic, topic.subscribe(**args[1]) as frames:
            step.tell("subscribed")
            last = -1
            try:
                while True:
                    with frames.receive_view() as view:
                        array = view.array
                        assert array.min() == array.max()
                        del array
                        result += 1
            except OSError as exc:
                assert type(exc).__name__ == "PeerGone", exc
            result = (result, frames.lost)
    """
    kind = np.dtype((np.uint8, (100_000,)))
    with Topic.create(ns.name(), kind, capacity=4) as topic:
        recorder = spawn(code, topic.name, {}, imports=["ipckit", "numpy"])
        options = {"when_full": "drop_oldest", "depth": 1}
        viewer = spawn(code, topic.name, options, imports=["ipckit", "numpy"])
        recorder.expect("subscribed")
        viewer.expect("subscribed")
        for number in range(600):
            topic.publish(np.full(100_000, number % 256, np.uint8), timeout=60)
        topic.unlink()
        topic.close()
        assert recorder.result == (600, 0)
        seen, lost = viewer.result
        assert seen + lost == 600
        assert seen >= 1


def test_many_publishers_and_one_order(ns: Namespace, spawn: Callable[..., Child]) -> None:
    code = """
        from ipckit import Topic
        from ipckit.testing import step
        with Topic.open(args[0]) as topic:
            step.tell("open")
            step.expect("go")
            for number in range(1000):
                topic.publish(b"%d %d" % (args[1], number), timeout=60)
    """
    with Topic.create(ns.name(), capacity=32) as topic, ExitStack() as stack:
        first, second = (stack.enter_context(topic.subscribe()) for _ in range(2))
        children = [spawn(code, topic.name, index) for index in range(2)]
        for child in children:  # so that the first does not end before the second has come
            child.expect("open")
        for child in children:
            child.tell("go")
        found: tuple[list[bytes], list[bytes]] = [], []
        while len(found[0]) < 2000 or len(found[1]) < 2000:
            for subscription, messages in zip((first, second), found, strict=True):
                if len(messages) < 2000:
                    messages.extend(subscription.receive_many(timeout=60))
        assert found[0] == found[1]
        for index in range(2):
            own = [each for each in found[0] if each.startswith(b"%d " % index)]
            assert own == [b"%d %d" % (index, number) for number in range(1000)]


# -- other ways to a child -------------------------------------------------------------------------


def test_a_forked_child_is_a_peer_of_its_own(ns: Namespace) -> None:
    with Topic.create(ns.name(), Stu) as topic, topic.subscribe() as messages:
        pid = os.fork()
        if pid == 0:
            ok = not topic.owner
            for age in range(100):
                topic.publish(Stu("child", age))
            ok = ok and [each.pid for each in topic.publishers()] == [os.getpid()]
            os._exit(0 if ok else 1)
        assert [messages.receive(timeout=60).age for _ in range(100)] == list(range(100))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert topic.publishers() == []


def calls_of(messages: Subscription[bytes]) -> list[Callable[[], Any]]:
    return [
        lambda: messages.receive(timeout=0),
        lambda: messages.receive_view(timeout=0),
        lambda: messages.receive_many(timeout=0),
        lambda: messages.receive_into(bytearray(5), timeout=0),
        lambda: next(iter(messages)),
        lambda: len(messages),
        lambda: messages.lost,
        messages.fileno,
    ]


def test_a_forked_child_can_not_use_its_parents_subscription(ns: Namespace) -> None:
    with Topic.create(ns.name()) as topic, topic.subscribe() as messages:
        topic.publish(b"for the parent")
        messages.fileno()
        pid = os.fork()
        if pid == 0:
            wrong = 0
            for call in calls_of(messages):
                try:
                    call()
                except ClosedHandle as exc:
                    wrong += "belongs to the parent process" not in str(exc)
                    wrong += exc.hint != "call topic.subscribe() in this process"
                else:
                    wrong += 1
            wrong += "ClosedHandle" not in repr(messages)
            messages.close()
            with topic.subscribe() as own:
                topic.publish(b"for both", timeout=0)
                wrong += own.receive(timeout=60) != b"for both"
            os._exit(wrong)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert len(topic.subscribers()) == 1
        assert messages.receive_many(timeout=60) == [b"for the parent", b"for both"]
        assert messages.lost == 0


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_anonymous_topics_are_passed_to_children(method: str, spawn: Callable[..., Child]) -> None:
    code = """
        import multiprocessing
        from operator import methodcaller
        from ipckit import Topic
        context = multiprocessing.get_context(args[0])
        with Topic.anonymous(str, peer_gone="wait") as topic, topic.subscribe() as words:
            # A function of ipckit, because a spawned child can't import this source.
            call = methodcaller("publish", "from the child")
            child = context.Process(target=call, args=(topic,))
            child.start()
            result = words.receive(timeout=60)
            child.join()
            assert child.exitcode == 0
    """
    assert spawn(code, method, options=()).result == "from the child"


def test_a_topic_crosses_a_socket(ns: Namespace) -> None:
    near, far = pair("seqpacket")
    with near, far:
        for topic in (Topic.anonymous(Stu), Topic.create(ns.name(), Stu)):
            with topic, topic.subscribe() as students:
                near.send_handle(topic)
                with far.receive_handle(Topic, type=Stu) as other:
                    other.publish(Stu("amy", 20))
                    assert students.receive() == Stu("amy", 20)
                    assert not other.owner
                    assert other.name == topic.name


def test_what_is_not_a_handle_is_not_sent() -> None:
    near, far = pair()
    with near, far, Topic.anonymous() as topic, topic.subscribe() as messages:
        wrong: list[tuple[Any, str]] = [
            (messages, "takes a handle, not Subscription; send the topic, and subscribe in"),
            (aio.wrap(topic), "takes a handle, not TopicFace; send its attribute handle"),
            (Topic, "takes a handle, not "),
            (topic.memory_fd, "takes a handle, not int$"),
        ]
        for each, text in wrong:
            with pytest.raises(TypeError, match=text):
                near.send_handle(each)


# -- peers that are gone ---------------------------------------------------------------------------

PUBLISHER = """
    from ipckit import Topic
    from ipckit.testing import step
    topic = Topic.open(args[0])
    for number in range(args[1]):
        topic.publish(b"%d" % number)
    step.tell("published")
    step.expect("end")
    topic.close()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_all_messages_are_read_before_peer_gone(
    killed: bool,  # noqa: FBT001
    ns: Namespace,
    spawn: Callable[..., Child],
) -> None:
    with Topic.create(ns.name()) as topic, topic.subscribe() as messages:
        child = spawn(PUBLISHER, topic.name, 3)
        child.expect("published")
        assert [each.pid for each in topic.publishers()] == [child.pid]
        if killed:
            child.kill()
        else:
            child.tell("end")
            child.wait()
        assert topic.publishers() == []
        assert [messages.receive(timeout=60) for _ in range(3)] == [b"0", b"1", b"2"]
        with pytest.raises(PeerGone, match="last publisher is gone"):
            messages.receive(timeout=60)
        assert list(messages) == []


def test_peer_gone_wait_waits_for_a_new_publisher(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    with Topic.create(ns.name()) as topic, topic.subscribe(peer_gone="wait") as messages:
        for _ in range(2):
            child = spawn(PUBLISHER, topic.name, 1)
            child.expect("published")
            child.kill()
            assert messages.receive(timeout=60) == b"0"
        with pytest.raises(Timeout):
            messages.receive(timeout=0.01)


HOLDER = """
    from ipckit import Topic
    from ipckit.testing import step
    topic = Topic.open(args[0])
    messages = topic.subscribe()
    step.tell("subscribed")
    step.expect("look")
    views = [messages.receive_view() for _ in range(args[1])]
    step.tell("holds")
    step.expect("never")
"""


def test_a_killed_subscriber_frees_the_publisher(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    with (
        Topic.create(ns.name(), capacity=4, size=200_000) as topic,
        topic.subscribe() as messages,
    ):
        child = spawn(HOLDER, topic.name, 2)
        child.expect("subscribed")
        for _ in range(4):
            topic.publish(bytes(20_000))
        child.tell("look")
        child.expect("holds")
        assert messages.receive_many() == [bytes(20_000)] * 4
        topic.publish_many([bytes(20_000)] * 2)
        with pytest.raises(WouldBlock, match=rf"subscriber pid {child.pid} \(.+\) has 4 unr"):
            topic.publish(b"one more", timeout=0)
        child.kill()
        for _ in range(2):  # without its views, there is memory for the longest messages
            topic.publish(bytes(20_000), timeout=60)
        assert len(messages.receive_many()) == 4
        for _ in range(20):
            topic.publish(bytes(100_000), timeout=60)
            assert len(messages.receive()) == 100_000
        assert [each.pid for each in topic.subscribers()] == [os.getpid()]
        assert messages.lost == 0


def test_a_publisher_that_waits_goes_on_when_the_subscriber_is_killed(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    code = """
        from ipckit import Topic
        from ipckit.testing import step
        with Topic.open(args[0]) as topic:
            step.tell("begin")
            topic.publish(b"waits", timeout=60)
            result = topic.stats().published
    """
    with Topic.create(ns.name(), capacity=1) as topic:
        holder = spawn(HOLDER, topic.name, 0)
        holder.expect("subscribed")
        topic.publish(b"full")
        publisher = spawn(code, topic.name)
        publisher.expect("begin")
        publisher.wait_blocked("shared_futex")
        holder.kill()
        assert publisher.result == 2
