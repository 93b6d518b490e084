"""The end of a subscription or a topic: closed, dropped, and with views that live longer."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import ClosedHandle, Topic, WouldBlock, _native
from ipckit.channel import Loan, View
from ipckit.testing import wait_blocked
from ipckit.topic import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace


def test_a_subscription_stays_open_when_the_topic_is_closed(ns: Namespace) -> None:
    topic = Topic.create(ns.name(), str)
    messages = topic.subscribe()
    with Topic.open(str(topic.name), str) as other:
        topic.unlink()
        topic.close()
        assert not messages.closed
        other.publish("to those who are left")
        assert messages.receive(timeout=5) == "to those who are left"
        assert len(other.subscribers()) == 1
    with messages:
        assert messages.fileno() >= 0
    assert messages.closed
    messages.close()


def test_a_closed_subscription_is_not_waited_for() -> None:
    with Topic.anonymous(capacity=1) as topic, topic.subscribe() as messages:
        topic.publish(b"1")
        with pytest.raises(WouldBlock):
            topic.publish(b"2", timeout=0)
        publisher = threading.Thread(target=lambda: topic.publish(b"2", timeout=60))
        publisher.start()
        wait_blocked(os.getpid(), "shared_futex")
        messages.close()
        publisher.join()
        assert topic.stats().published == 2
        assert topic.subscribers() == []


def test_views_outlive_their_subscription_and_topic() -> None:
    with Topic.anonymous() as topic:
        with topic.subscribe() as messages:
            topic.publish(b"long " * 2000)
            view = messages.receive_view()
            array = view.array
        for number in range(3000):
            topic.publish(b"%d" % number * 5000, timeout=0)
    assert bytes(view) == array.tobytes() == b"long " * 2000
    view.release()


def test_dropping_an_open_subscription_warns_and_leaves() -> None:
    with Topic.anonymous(capacity=1) as topic:
        messages = topic.subscribe()
        with pytest.warns(ResourceWarning, match="unclosed <Subscription to anonymous topic, 0 un"):  # noqa: PT031
            del messages
            gc.collect()
        assert topic.subscribers() == []
        topic.publish(b"1", timeout=0)
        topic.publish(b"2", timeout=0)


def test_a_subscription_does_not_pickle() -> None:
    with Topic.anonymous() as topic, topic.subscribe() as messages:
        for call in (pickle.dumps, copy.copy):
            with pytest.raises(TypeError, match=r"call topic\.subscribe\(\) in this process"):
                call(messages)  # type: ignore[operator]
        with pytest.raises(TypeError, match=r"has no public constructor; use Topic\.subscribe"):
            Subscription()  # type: ignore[call-arg]


def test_methods_of_closed_handles_raise() -> None:
    topic = Topic.anonymous()
    messages = topic.subscribe()
    calls: list[Callable[[], Any]] = [
        messages.receive,
        messages.receive_view,
        messages.receive_many,
        lambda: messages.receive_into(bytearray(5)),
        messages.fileno,
        lambda: len(messages),
        lambda: messages.lost,
        lambda: messages.capacity,
        lambda: messages.longest,
        lambda: next(iter(messages)),
        messages.__enter__,
        lambda: topic.publish(b""),
        lambda: topic.publish_many([b""]),
        lambda: topic.loan(1),
        topic.subscribe,
        topic.space_fileno,
        topic.stats,
        topic.subscribers,
        topic.publishers,
        lambda: topic.capacity,
        lambda: topic.history,
        lambda: topic.longest,
        lambda: topic.memory_fd,
        lambda: pickle.dumps(topic),
        topic.__enter__,
    ]
    messages.close()
    topic.close()
    for call in calls:
        with pytest.raises(ClosedHandle):
            call()
    assert (messages.when_full, messages.depth, bool(messages)) == ("wait", 1024, True)


def test_native_objects_without_a_topic_do_not_crash() -> None:
    bare, subscription = _native.TopicBase(), _native.SubscriptionBase()
    for call in (
        lambda: bare.publish(b""),
        lambda: bare.loan(1),
        lambda: bare.capacity,
        subscription.receive,
        lambda: len(subscription),
        lambda: subscription.lost,
    ):
        with pytest.raises(AttributeError):  # _explain_ring, which Topic defines
            call()
    with pytest.raises(ValueError, match="never opened"):
        subscription.receive_view()
    bare._detach()
    subscription._detach()
    with Topic.anonymous() as topic, topic.subscribe() as messages:
        assert topic._lock_holder(_native.POLL_ITEMS) == (0, 0)
        with pytest.raises(TypeError, match="before"):
            messages._subscribe(topic, False, 1, 0, False, 0, None)  # noqa: FBT003
        with pytest.raises(ValueError, match="before"):
            messages._set_in_place(Loan, View, 1, 0)
        with pytest.raises(TypeError, match="TopicBase"):
            _native.SubscriptionBase()._subscribe(messages, False, 1, 0, False, 0, None)  # type: ignore[arg-type]  # noqa: FBT003


def test_an_error_names_the_method_that_was_called() -> None:
    topic = Topic.anonymous()
    topic.close()
    with pytest.raises(ClosedHandle) as caught:
        topic.publishers()
    assert caught.value.op == "publishers"
