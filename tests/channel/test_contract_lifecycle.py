"""The state of a channel's handle, and its end: closed, dropped, pickled."""

from __future__ import annotations

import gc
import os
import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from message_types import Stu

from ipckit import Channel, ClosedHandle, Timeout
from ipckit.channel import Loan, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace


def test_stats_and_peers(ns: Namespace) -> None:
    with Channel.create(ns.name(), capacity=7, size=1000) as channel:
        assert (len(channel), bool(channel), channel.capacity) == (0, True, 7)
        channel.send_many([b"1", b"22"])
        channel.receive()
        stats = channel.stats()
        assert (stats.messages, stats.capacity, stats.dropped) == (1, 7, 0)
        assert (stats.sent, stats.received) == (2, 1)
        assert 0 < stats.bytes_used < stats.size
        with Channel.open(channel.name or "") as other:
            mine, theirs = channel.peers()
            assert (mine.self, theirs.self) == (True, False)
            assert (mine.pid, theirs.pid) == (os.getpid(), os.getpid())
            assert (mine.creator, mine.sender, mine.receiver) == (True, True, True)
            assert (theirs.creator, theirs.sender, theirs.receiver) == (False, False, False)
            assert mine.since <= theirs.since
            assert [each.self for each in other.peers()] == [False, True]
        assert len(channel.peers()) == 1


def test_repr(ns: Namespace) -> None:
    with Channel.create(ns.name(), Stu, capacity=7) as channel:
        channel.send(Stu("x", 1))
        assert repr(channel) == (
            f"<Channel channel {(channel.name or '')[1:]}, 1 of 7 messages of Stu, open, owner>"
        )
    assert "closed" in repr(channel)
    with Channel.anonymous() as channel:
        assert repr(channel).startswith("<Channel anonymous channel, 0 of 1024")


def test_methods_of_a_closed_handle_raise() -> None:
    channel = Channel.anonymous()
    channel.close()
    channel.close()
    calls: list[Callable[[], Any]] = [
        channel.receive,
        channel.receive_view,
        channel.receive_many,
        lambda: channel.send(b""),
        lambda: channel.send_many([b""]),
        lambda: channel.loan(1),
        channel.fileno,
        channel.space_fileno,
        channel.stats,
        channel.peers,
        lambda: len(channel),
        lambda: channel.capacity,
        lambda: channel.longest,
        lambda: channel.memory_fd,
        lambda: pickle.dumps(channel),
        lambda: next(iter(channel)),
        channel.__enter__,
    ]
    for call in calls:
        with pytest.raises(ClosedHandle):
            call()
    assert channel.closed


def test_dropping_an_open_handle_warns_and_does_not_unlink(ns: Namespace) -> None:
    name = ns.name()
    channel = Channel.create(name)
    with pytest.warns(ResourceWarning, match="unclosed <Channel"):  # noqa: PT031
        del channel
        gc.collect()
    Channel.open(name).adopt().__exit__(None, None, None)


def test_a_handle_pickles_by_its_name(ns: Namespace) -> None:
    with (
        Channel.create(ns.name(), Stu, peer_gone="wait", spin=0) as channel,
        pickle.loads(pickle.dumps(channel)) as other,  # noqa: S301 - just made
    ):
        assert not other.owner
        channel.send(Stu("amy", 20))
        assert other.receive() == Stu("amy", 20)


def test_native_objects_without_a_channel_do_not_crash() -> None:
    from ipckit import _native  # noqa: PLC0415 - private

    bare = _native.ChannelBase()
    for call in (bare.receive, lambda: bare.send(b""), lambda: len(bare)):
        with pytest.raises(AttributeError):  # _explain_ring, which Channel defines
            call()
    bare._detach()
    with pytest.raises(TypeError):
        _native.LeaseHolder()
    with pytest.raises(TypeError):
        _native.Lease()
    with pytest.raises(AttributeError):
        bare.loan(1)
    with pytest.raises(ValueError, match="never opened"):
        bare.receive_view()
    with Channel.anonymous() as channel:
        for lend in (channel._take, lambda holder, _: channel._lend(holder, 1, 0)):
            with pytest.raises(TypeError, match="LeaseHolder"):
                lend(object, 0)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="before"):
            channel._set_in_place(Loan, View, 1, 0)


class _Closes:
    """A timeout whose conversion to seconds closes a channel, from the given call on."""

    def __init__(self, channel: Channel[Any], times: int) -> None:
        self.channel, self.times = channel, times

    def __float__(self) -> float:
        self.times -= 1
        if self.times == 0:
            self.channel.close()
        return 0.05


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_timeout_that_closes_the_channel(times: int) -> None:
    for call in (
        lambda channel, wait: channel.receive(timeout=wait),
        lambda channel, wait: channel.receive_view(timeout=wait),
        lambda channel, wait: channel.send(b"x", timeout=wait),
        lambda channel, wait: channel.loan(1, timeout=wait),
    ):
        with Channel.anonymous(bytes, capacity=1) as channel:
            if call.__code__.co_names[0] in {"send", "loan"}:
                channel.send(b"full")
            with pytest.raises((ClosedHandle, Timeout)):
                call(channel, _Closes(channel, times))


def test_a_timeout_whose_truth_value_raises() -> None:
    class Neither:
        def __float__(self) -> float:
            return 0.2

        def __bool__(self) -> bool:
            raise RuntimeError("neither")

    with Channel.anonymous() as channel, pytest.raises(RuntimeError, match="neither"):
        channel.receive(timeout=Neither())  # type: ignore[arg-type]


def test_a_finalizer_that_closes_the_channel_while_its_peers_are_listed() -> None:
    class Finalized:
        def __init__(self, channel: Channel[bytes]) -> None:
            self.me, self.channel = self, channel

        def __del__(self) -> None:
            self.channel.close()

    before = gc.get_threshold()
    channel = Channel.anonymous()
    list_peers = channel._peers
    try:
        gc.disable()
        Finalized(channel)
        # Lists and tuples from the interpreter's free lists would not run the collector.
        kept = [[[] for _ in range(200)], [tuple([index] * 8) for index in range(3000)]]
        gc.set_threshold(1)
        gc.enable()
        rows = list_peers()
    finally:
        gc.set_threshold(*before)
        gc.enable()
    gc.collect()
    assert channel.closed
    assert len(kept) == 2
    assert [row[-1] for row in rows] == [1]


def test_a_finalizer_that_closes_the_channel_it_is_called_from() -> None:
    class Finalized:
        def __init__(self, channel: Channel[Stu]) -> None:
            self.me, self.channel = self, channel

        def __del__(self) -> None:
            self.channel.close()

    before = gc.get_threshold()
    try:
        for _ in range(50):
            channel = Channel.anonymous(Stu)
            channel.send(Stu("amy", 20))
            gc.disable()
            Finalized(channel)  # creating the next tracked object runs the collector
            gc.set_threshold(1)
            gc.enable()
            with suppress(ClosedHandle):
                assert channel.receive() == Stu("amy", 20)
            gc.set_threshold(*before)
            gc.collect()
            assert channel.closed
    finally:
        gc.enable()
        gc.set_threshold(*before)
