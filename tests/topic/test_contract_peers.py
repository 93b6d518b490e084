"""Subscribers and publishers: how many fit, what a topic says of them, and when they are gone."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from message_types import Stu

from ipckit import LimitReached, PeerGone, Timeout, Topic, WouldBlock

if TYPE_CHECKING:
    from ipckit.testing import Namespace


# -- subscribers and publishers --------------------------------------------------------------------


def test_the_64_places_for_subscribers() -> None:
    with Topic.anonymous(str, capacity=2) as topic, ExitStack() as stack:
        all_of_them = [stack.enter_context(topic.subscribe()) for _ in range(64)]
        with pytest.raises(LimitReached, match="the topic has the maximum of 64 subscribers"):
            topic.subscribe()
        topic.publish("to all")
        assert [each.receive(timeout=5) for each in all_of_them] == ["to all"] * 64
        all_of_them[7].close()
        with topic.subscribe() as another:
            topic.publish("again")
            assert another.receive() == "again"
        assert topic.stats().subscribers == 63


def test_the_256_places_for_peers(ns: Namespace) -> None:
    with Topic.create(ns.name()) as first, ExitStack() as stack:
        for _ in range(63):
            stack.enter_context(first.subscribe())
        others = [stack.enter_context(Topic.open(str(first.name))) for _ in range(192)]
        for call in (first.subscribe, lambda: Topic.open(str(first.name))):
            with pytest.raises(LimitReached, match="the topic has the maximum of 256 live peers"):
                call()
        others[0].close()
        first.subscribe().close()


def test_stats_subscribers_and_publishers(ns: Namespace) -> None:
    with (
        Topic.create(ns.name(), capacity=7, history=3, size=1000) as topic,
        Topic.open(str(topic.name)) as other,
        other.subscribe() as slow,
        topic.subscribe(when_full="drop_oldest", depth=2) as latest,
    ):
        assert (topic.capacity, topic.history, topic.longest) == (7, 3, 500)
        assert (slow.when_full, slow.depth, slow.capacity, slow.longest) == ("wait", 7, 7, 500)
        assert (latest.when_full, latest.depth, latest.lost) == ("drop_oldest", 2, 0)
        assert topic.publishers() == []
        topic.publish_many([b"1", b"22", b"333"])
        other.publish(b"4444")
        assert slow.receive() == b"1"
        stats = topic.stats()
        assert (stats.messages, stats.capacity, stats.history) == (4, 7, 3)
        assert (stats.published, stats.subscribers, stats.publishers, stats.lost) == (4, 2, 2, 2)
        assert 0 < stats.bytes_used < stats.size
        assert other.stats() == stats
        first, second = topic.subscribers()
        assert (first.pid, first.policy, first.depth) == (os.getpid(), "wait", 7)
        assert (first.unread, first.lost, first.received, first.self) == (3, 0, 1, True)
        assert (second.policy, second.depth, second.unread) == ("drop_oldest", 2, 2)
        assert (second.lost, second.received) == (2, 0)
        assert latest.lost == 2
        mine, theirs = topic.publishers()
        assert (mine.pid, mine.published, mine.creator, mine.self) == (os.getpid(), 3, True, True)
        assert (theirs.published, theirs.creator, theirs.self) == (1, False, False)
        assert first.since >= theirs.since >= mine.since > 0
        assert [each.self for each in other.publishers()] == [False, True]


def test_repr(ns: Namespace) -> None:
    with Topic.create(ns.name(), Stu, capacity=7) as topic, topic.subscribe() as messages:
        name = str(topic.name)[1:]
        topic.publish(Stu("x", 1))
        assert repr(topic) == (
            f"<Topic topic {name}, messages of Stu, 1 published, 1 subscriber, open, owner>"
        )
        assert repr(messages) == f"<Subscription to topic {name}, 1 unread, 0 lost>"
    assert "closed" in repr(topic)
    assert repr(messages) == f"<Subscription to topic {name}, closed>"
    with Topic.anonymous() as topic:
        assert repr(topic).startswith(
            "<Topic anonymous topic, messages of bytes, 0 published, 0 su"
        )


# -- publishers that are gone ----------------------------------------------------------------------


def test_the_creator_counts_as_a_publisher_only_if_it_published(ns: Namespace) -> None:
    with Topic.create(ns.name()) as topic, topic.subscribe() as messages:
        with pytest.raises(Timeout):  # waits for the first publisher
            messages.receive(timeout=0.01)
        with Topic.open(str(topic.name)) as publisher:
            publisher.publish(b"1")
        assert messages.receive(timeout=60) == b"1"
        with pytest.raises(
            PeerGone, match=r"topic is empty, and the last publisher is gone.*a new publisher"
        ):
            messages.receive(timeout=60)
        with pytest.raises(WouldBlock):
            messages.receive(timeout=0)
        assert list(messages) == []
        topic.publish(b"2")
        assert messages.receive(timeout=60) == b"2"
        with pytest.raises(Timeout):
            messages.receive(timeout=0.01)


def test_a_handle_that_only_subscribed_is_not_a_publisher(ns: Namespace) -> None:
    with (
        Topic.create(ns.name()) as topic,
        Topic.open(str(topic.name)) as reader,
        reader.subscribe() as messages,
        topic.subscribe(peer_gone="wait") as patient,
    ):
        with Topic.open(str(topic.name)) as publisher, Topic.open(str(topic.name)):
            publisher.publish(b"1")
        assert messages.receive() == b"1"
        assert patient.receive() == b"1"
        with pytest.raises(PeerGone):
            messages.receive(timeout=60)
        with pytest.raises(Timeout):
            patient.receive(timeout=0.01)
        with Topic.open(str(topic.name)), pytest.raises(Timeout):  # it may still publish
            messages.receive(timeout=0.01)
        with pytest.raises(PeerGone):
            messages.receive(timeout=60)


def test_peer_gone_of_the_topic_is_that_of_its_subscriptions(ns: Namespace) -> None:
    with (
        Topic.create(ns.name(), peer_gone="wait") as topic,
        topic.subscribe() as patient,
        topic.subscribe(peer_gone="raise") as messages,
    ):
        with Topic.open(str(topic.name)) as publisher:
            publisher.publish(b"1")
        assert [each.receive() for each in (patient, messages)] == [b"1", b"1"]
        with pytest.raises(Timeout):
            patient.receive(timeout=0.01)
        with pytest.raises(PeerGone):
            messages.receive(timeout=60)


def test_an_iteration_that_ended_stays_ended(ns: Namespace) -> None:
    with Topic.create(ns.name(), str) as topic, topic.subscribe() as words:
        with Topic.open(str(topic.name), str) as publisher:
            publisher.publish_many(["one", "two"])
            messages = iter(words)
            assert iter(messages) is messages
            assert next(messages) == "one"
        assert list(messages) == ["two"]
        topic.publish("three")
        assert list(messages) == []
        assert next(iter(words)) == "three"
