"""The contract of Topic and Subscription: create and open, state, lifecycle, errors."""

from __future__ import annotations

import copy
import errno
import gc
import os
import pickle
import select
import stat
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import (
    AlreadyExists,
    Capabilities,
    Channel,
    Char,
    ClosedHandle,
    Corrupt,
    Handle,
    Int,
    InvalidArgument,
    LayoutMismatch,
    LimitReached,
    MessageTooLong,
    NotFound,
    PeerGone,
    Struct,
    Timeout,
    Topic,
    WouldBlock,
    _native,
)
from ipckit._topic.shape import shape_for
from ipckit.channel import Loan, View
from ipckit.codec import codec_for
from ipckit.testing import wait_blocked
from ipckit.topic import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace

SHM = Path("/dev/shm")  # noqa: S108 - where topics live


class Stu(Struct):
    name: Char[32]
    age: Int


def shm() -> set[str]:
    return {path.name for path in SHM.iterdir()}


def file_of(name: str) -> Path:
    return SHM / f"ipckit-topic.{name.removeprefix('/')}"


# -- create and open -------------------------------------------------------------------------------


def test_two_handles_of_one_topic(ns: Namespace) -> None:
    name = ns.name()
    with Topic.create(name) as one, Topic.open(name) as two, two.subscribe() as messages:
        assert (one.owner, two.owner) == (True, False)
        assert one.name == two.name == name
        one.publish(b"to all")
        assert messages.receive() == b"to all"
        assert isinstance(one, Handle)
        assert not isinstance(messages, Handle)
        assert Topic.caps == Capabilities(
            pollable=True,
            timed=True,
            priorities=False,
            typed_receive=False,
            unlink_destroys_now=False,
        )
    assert not file_of(name).exists()


def test_create_never_opens_and_open_never_creates(ns: Namespace) -> None:
    name = ns.name()
    with pytest.raises(NotFound, match=r"no such topic.*Topic\.create\("):
        Topic.open(name)
    with Topic.create(name, history=1) as topic:
        topic.publish(b"still there")
        with pytest.raises(AlreadyExists, match=r"the topic already exists.*Topic\.open\("):
            Topic.create(name)
        with topic.subscribe() as messages:
            assert messages.receive() == b"still there"


def test_open_or_create_owns_only_what_it_made(ns: Namespace) -> None:
    name = ns.name()
    with (
        Topic.open_or_create(name, Stu, history=2) as one,
        Topic.open_or_create(name, Stu, history=5, capacity=7) as two,
    ):
        assert (one.owner, two.owner) == (True, False)
        assert (two.history, two.capacity) == (2, 1024)
        with pytest.raises(LayoutMismatch, match=r"char name.* this handle expects bytes"):
            Topic.open_or_create(name, bytes)
        with pytest.raises(InvalidArgument):  # although the topic exists and `history` is ignored
            Topic.open_or_create(name, Stu, history=-1)


def test_a_topic_and_a_channel_of_one_name(ns: Namespace) -> None:
    name = ns.name()
    with Topic.create(name) as topic, Channel.create(name) as channel:
        assert file_of(name).exists()
        topic.publish(b"x")
        assert len(channel) == 0
        with pytest.raises(Corrupt, match="not a topic"):
            Topic.from_fd(channel.memory_fd)
        with pytest.raises(Corrupt, match="not a channel"):
            Channel.from_fd(topic.memory_fd)
    with Topic.create() as one, Topic.create() as two:
        assert one.name is not None
        assert one.name != two.name


def test_a_file_that_is_not_a_topic(ns: Namespace) -> None:
    path = file_of(ns.name())
    name = path.name.removeprefix("ipckit-topic.")
    try:
        for contents in (b"", bytes(100_000)):
            path.write_bytes(contents)
            with pytest.raises(Corrupt, match="not a topic"):
                Topic.open(name)
        with Channel.create(ns.name()) as channel:
            path.write_bytes((SHM / f"ipckit.{str(channel.name)[1:]}").read_bytes())
        with pytest.raises(Corrupt, match="the file is not a topic"):
            Topic.open(name)
        path.unlink()
        path.symlink_to("/etc/passwd")
        with pytest.raises(Corrupt, match="is not a topic"):
            Topic.open(name)
    finally:
        path.unlink()


def test_a_topic_is_one_file_of_mode_0600(ns: Namespace) -> None:
    before = shm()
    for mode in (0o600, 0o660):
        with Topic.create(ns.name(), mode=mode) as topic, topic.subscribe():
            assert shm() - before == {file_of(str(topic.name)).name}
            assert stat.S_IMODE(file_of(str(topic.name)).stat().st_mode) == mode
    assert shm() == before


def test_the_longest_name() -> None:
    with Topic.create("x" * 242) as topic:
        assert file_of("x" * 242).exists()
        assert topic.name == "/" + "x" * 242
    with pytest.raises(InvalidArgument, match="a topic's name must have at most 242 bytes"):
        Topic.create("x" * 243)


@pytest.mark.parametrize(
    "options",
    [
        {"capacity": 0},
        {"capacity": 2**23},
        {"history": -1},
        {"history": 1025},
        {"capacity": 4, "history": 5},
        {"size": 0},
        {"size": 2**40},
        {"type": Stu, "size": 40},
        {"mode": 0o1000},
        {"spin": -1},
        {"peer_gone": "ignore"},
        {"peer_gone": ["wait"]},
    ],
)
def test_an_option_out_of_range(options: dict[str, Any]) -> None:
    before = shm()
    with pytest.raises(InvalidArgument):
        Topic.create(**options)
    assert shm() == before


@pytest.mark.parametrize(
    "options", [{"capacity": 1.5}, {"history": True}, {"history": None}, {"size": "1"}]
)
def test_an_option_of_the_wrong_type(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Topic.create(**options)
    with pytest.raises(TypeError):
        Topic.create(type=int)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"when_full": "overwrite"},
            'when_full must be "wait" or "drop_oldest", not \'overwrite\'',
        ),
        ({"when_full": None}, "when_full"),
        ({"when_full": ["wait"]}, "when_full"),
        ({"depth": 0}, "depth must be 1 to 8, not 0"),
        ({"depth": 9}, "depth must be 1 to 8, not 9"),
        ({"history": -1}, "history must be 0 to 3, not -1"),
        ({"history": 4}, "history must be 0 to 3, not 4"),
        ({"peer_gone": "x"}, "peer_gone"),
        ({"peer_gone": np.zeros(2)}, "peer_gone"),
        ({"spin": -1}, "spin"),
        ({"timeout": -1}, "timeout"),
    ],
)
def test_an_option_of_subscribe_out_of_range(options: dict[str, Any], text: str) -> None:
    with Topic.anonymous(capacity=8, history=3) as topic:
        with pytest.raises(InvalidArgument, match=text):
            topic.subscribe(**options)
        for wrong in ({"depth": 1.5}, {"depth": True}, {"history": "1"}, {"timeout": "1"}):
            with pytest.raises(TypeError):
                topic.subscribe(**wrong)  # type: ignore[arg-type]
        assert topic.subscribers() == []


def test_unlink_removes_the_name_and_open_handles_go_on(ns: Namespace) -> None:
    name = ns.name()
    with Topic.create(name) as old, old.subscribe() as messages:
        old.unlink()
        with pytest.raises(NotFound):
            old.unlink()
        old.unlink(missing_ok=True)
        with Topic.create(name) as new:
            old.publish(b"old")
            assert new.stats().published == 0
            assert messages.receive() == b"old"


def test_an_anonymous_topic_has_no_name() -> None:
    before = shm()
    with Topic.anonymous(Stu, capacity=3) as topic, topic.subscribe() as messages:
        assert topic.name is None
        assert shm() == before
        assert os.readlink(f"/proc/self/fd/{topic.memory_fd}").startswith("/memfd:ipckit-topic")  # noqa: PTH115
        with Topic.from_fd(os.dup(topic.memory_fd), Stu) as other:
            other.publish(Stu("amy", 20))
            assert not other.owner
        assert messages.receive() == Stu("amy", 20)
        with pytest.raises(NotFound, match="an anonymous topic has no name"):
            topic.unlink()
        with pytest.raises(InvalidArgument, match="an anonymous topic can be pickled only"):
            pickle.dumps(topic)
        with pytest.raises(OSError):  # noqa: PT011 - it is sealed against truncation
            os.ftruncate(topic.memory_fd, 0)
        fd = os.dup(topic.memory_fd)
        with pytest.raises(LayoutMismatch):
            Topic.from_fd(fd, bytes)
        os.close(fd)  # still the caller's


def test_a_handle_pickles_by_its_name(ns: Namespace) -> None:
    with (
        Topic.create(ns.name(), Stu, peer_gone="wait", spin=0) as topic,
        topic.subscribe() as messages,
        pickle.loads(pickle.dumps(topic)) as other,  # noqa: S301 - just made
    ):
        assert not other.owner
        other.publish(Stu("amy", 20))
        assert messages.receive() == Stu("amy", 20)


@pytest.mark.parametrize(
    ("item", "most"), [(1, 1024), (4096, 1024), (65_000, 1024), (1080 * 1920 * 3, 9)]
)
def test_a_topic_takes_at_most_64_mib_by_default(item: int, most: int) -> None:
    kind = np.dtype((np.uint8, (item,)))
    with Topic.anonymous(kind) as topic, topic.subscribe() as messages:
        capacity = topic.capacity
        assert most // 2 < capacity <= most
        assert os.fstat(topic.memory_fd).st_size <= 64 << 20
        for number in range(capacity):
            topic.publish(np.full(item, number % 256, np.uint8), timeout=0)
        with pytest.raises(WouldBlock):
            topic.publish(np.zeros(item, np.uint8), timeout=0)
        assert all(messages.receive()[-1] == number % 256 for number in range(capacity))
    # A message larger than half of 64 MiB needs more; there is room for one.
    assert shape_for(codec_for(np.dtype((np.uint8, (1 << 26,)))), None, None).capacity == 1
    assert shape_for(codec_for(bytes), None, None).total <= 64 << 20


def test_a_size_limits_the_capacity_for_long_messages() -> None:
    kind = np.dtype((np.uint8, (65_536,)))
    with Topic.anonymous(kind, size=1 << 20) as topic:
        assert topic.capacity == 14  # of 16 blocks
    with Topic.anonymous(kind, size=1 << 20, capacity=4) as topic:
        assert topic.capacity == 4
        assert topic.stats().size > 1 << 20
    with Topic.anonymous(np.dtype((np.uint8, (1000,))), size=1 << 20) as topic:
        assert topic.capacity == 1024


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


# -- lifecycle of a subscription -------------------------------------------------------------------


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


# -- waiting ---------------------------------------------------------------------------------------


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


def test_an_error_names_the_method_that_was_called() -> None:
    topic = Topic.anonymous()
    topic.close()
    with pytest.raises(ClosedHandle) as caught:
        topic.publishers()
    assert caught.value.op == "publishers"
