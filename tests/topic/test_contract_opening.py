"""How a topic is created and opened: names, options, files, sizes, and the end of its name."""

from __future__ import annotations

import os
import pickle
import stat
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from message_types import Stu
from shm_files import file_of, shm

from ipckit import (
    AlreadyExists,
    Capabilities,
    Channel,
    Corrupt,
    Handle,
    InvalidArgument,
    LayoutMismatch,
    NotFound,
    Topic,
    WouldBlock,
)
from ipckit._topic.shape import shape_for
from ipckit.codec import codec_for

if TYPE_CHECKING:
    from ipckit.testing import Namespace


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
    assert not file_of("topic", name).exists()


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
        assert file_of("topic", name).exists()
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
    path = file_of("topic", ns.name())
    name = path.name.removeprefix("ipckit-topic.")
    try:
        for contents in (b"", bytes(100_000)):
            path.write_bytes(contents)
            with pytest.raises(Corrupt, match="not a topic"):
                Topic.open(name)
        with Channel.create(ns.name()) as channel:
            path.write_bytes(file_of("channel", str(channel.name)).read_bytes())
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
            assert shm() - before == {file_of("topic", str(topic.name)).name}
            assert stat.S_IMODE(file_of("topic", str(topic.name)).stat().st_mode) == mode
    assert shm() == before


def test_the_longest_name() -> None:
    with Topic.create("x" * 242) as topic:
        assert file_of("topic", "x" * 242).exists()
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
