"""Channels between processes, for each way to start and to end a process."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import Channel, Char, Int, PeerGone, Struct, Timeout, WouldBlock, pair
from ipckit._native import INLINE_MAX
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace


class Stu(Struct):
    name: Char[32]
    age: Int


ECHO = """
    from ipckit import Channel
    with Channel.open(args[0]) as there, Channel.open(args[1]) as back:
        for value in there:
            if value == b"end":
                break
            back.send(value[::-1])
"""


def test_a_new_interpreter_answers(ns: Namespace, spawn: Callable[..., Child]) -> None:
    with Channel.create(ns.name()) as there, Channel.create(ns.name()) as back:
        spawn(ECHO, there.name, back.name)
        for size in (1, 100, 20_000, 1 << 20):
            there.send(b"a" + bytes(size))
            assert back.receive(timeout=60) == bytes(size) + b"a"
        there.send(b"end")


def test_a_type_that_differs_shows_in_the_other_process(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    code = """
        from ipckit import Channel, Char, Int, LayoutMismatch, Long, Struct
        class Stu(Struct):
            name: Char[32]
            age: Long
        try:
            Channel.open(args[0], Stu)
        except LayoutMismatch as exc:
            result = str(exc)
    """
    with Channel.create(ns.name(), Stu) as channel:
        text = spawn(code, channel.name).result
    assert "int age;" in text
    assert "long age;" in text


def test_a_forked_child_is_a_peer_of_its_own(ns: Namespace) -> None:
    with Channel.create(ns.name(), Stu) as channel, Channel.create(ns.name()) as done:
        pid = os.fork()
        if pid == 0:
            ok = not channel.owner
            for age in range(100):
                channel.send(Stu("child", age))
            ok = ok and channel.peers()[-1].pid == os.getpid()
            done.receive()
            os._exit(0 if ok else 1)
        assert [channel.receive(timeout=60).age for _ in range(100)] == list(range(100))
        assert {each.pid for each in channel.peers()} == {os.getpid(), pid}
        done.send(b"seen")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert [each.pid for each in channel.peers()] == [os.getpid()]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_anonymous_channels_are_passed_to_children(
    method: str, spawn: Callable[..., Child]
) -> None:
    code = """
        import multiprocessing
        from operator import methodcaller
        from ipckit import Channel
        context = multiprocessing.get_context(args[0])
        with Channel.anonymous(str, peer_gone="wait") as channel:
            # A function of ipckit, because a spawned child can't import this source.
            child = context.Process(target=methodcaller("send", "from the child"), args=(channel,))
            child.start()
            result = channel.receive(timeout=60)
            child.join()
            assert child.exitcode == 0
    """
    assert spawn(code, method, options=()).result == "from the child"


def test_a_channel_crosses_a_socket() -> None:
    near, far = pair("seqpacket")
    with near, far, Channel.anonymous(Stu) as channel:
        near.send_handle(channel)
        with far.receive_handle(Channel, type=Stu) as other:
            other.send(Stu("amy", 20))
            assert channel.receive() == Stu("amy", 20)
            assert not other.owner


# -- peers that are gone ---------------------------------------------------------------------------

SENDER = """
    from ipckit import Channel
    from ipckit.testing import step
    channel = Channel.open(args[0])
    for number in range(args[1]):
        channel.send(b"%d" % number)
    step.tell("sent")
    step.expect("end")
    channel.close()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_all_messages_are_received_before_peer_gone(
    killed: bool,  # noqa: FBT001
    ns: Namespace,
    spawn: Callable[..., Child],
) -> None:
    with Channel.create(ns.name()) as channel:
        child = spawn(SENDER, channel.name, 3)
        child.expect("sent")
        if killed:
            child.kill()
        else:
            child.tell("end")
            child.wait()
        assert [channel.receive(timeout=60) for _ in range(3)] == [b"0", b"1", b"2"]
        with pytest.raises(PeerGone, match="last sender is gone"):
            channel.receive(timeout=60)
        with pytest.raises(WouldBlock):
            channel.receive(timeout=0)
        assert list(channel) == []  # iteration ends there


def test_iteration_takes_all_messages_and_ends(ns: Namespace, spawn: Callable[..., Child]) -> None:
    with Channel.create(ns.name()) as channel:
        child = spawn(SENDER, channel.name, 500)
        child.tell("end")
        assert [int(each) for each in channel] == list(range(500))
        child.expect("sent")


def test_a_blocked_sender_learns_that_the_last_receiver_died(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    code = """
        from ipckit import Channel, PeerGone
        from ipckit.testing import step
        channel = Channel.open(args[0])
        channel.receive()
        step.tell("took one")
        channel.receive()
        step.tell("took another")
        step.expect("never")
    """
    with Channel.create(ns.name(), capacity=2) as channel:
        child = spawn(code, channel.name)
        channel.send(b"1")
        child.expect("took one")
        child.wait_blocked("shared_futex")
        child.kill()
        channel.send_many([b"2", b"3"])
        with pytest.raises(PeerGone, match="last receiver is gone"):
            channel.send(b"4", timeout=60)
        assert [channel.receive(), channel.receive()] == [b"2", b"3"]


def test_receive_waits_for_the_first_sender(ns: Namespace, spawn: Callable[..., Child]) -> None:
    with Channel.create(ns.name()) as channel:
        with pytest.raises(Timeout):
            channel.receive(timeout=0.2)
        child = spawn(SENDER, channel.name, 1)
        assert channel.receive(timeout=60) == b"0"
        child.expect("sent")
        child.tell("end")


def test_peer_gone_wait_waits_for_a_new_peer(ns: Namespace, spawn: Callable[..., Child]) -> None:
    with Channel.create(ns.name(), peer_gone="wait") as channel:
        for _ in range(2):
            child = spawn(SENDER, channel.name, 1)
            child.expect("sent")
            child.kill()
            assert channel.receive(timeout=60) == b"0"
        with pytest.raises(Timeout):
            channel.receive(timeout=0.2)


def test_loans_and_views_of_a_dead_peer_are_reclaimed(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    code = """
        from ipckit import Channel, WouldBlock
        from ipckit.testing import step
        channel = Channel.open(args[0])
        views = [channel.receive_view() for _ in range(3)]
        loans = []
        try:
            while True:
                loans.append(channel.loan(int(args[1]), timeout=0))
        except WouldBlock:
            step.tell("holds" if len(loans) >= 5 else len(loans))
        step.expect("never")
    """
    size = INLINE_MAX + 1  # of messages in blocks
    with Channel.create(ns.name(), size=10 * size, capacity=10, peer_gone="wait") as channel:
        channel.send_many([bytes(size)] * 3)
        child = spawn(code, channel.name, size)
        child.expect("holds")
        assert channel.stats().bytes_used >= 8 * size
        with pytest.raises(WouldBlock):
            channel.send(bytes(channel.longest), timeout=0)
        child.kill()
        for number in range(30):
            channel.send(bytes([number]) * channel.longest, timeout=60)
            assert channel.receive()[0] == number
        assert channel.stats().bytes_used == 0


def test_control_c_ends_a_wait(ns: Namespace, spawn: Callable[..., Child]) -> None:
    code = """
        from ipckit import Channel
        channel = Channel.open(args[0])
        try:
            channel.receive()
        except KeyboardInterrupt:
            result = "interrupted"
        channel.close()
    """
    with Channel.create(ns.name()) as channel:
        child = spawn(code, channel.name)
        child.wait_blocked("shared_futex")
        os.kill(child.pid, signal.SIGINT)
        assert child.result == "interrupted"


def test_a_signal_delivered_to_another_thread_ends_a_wait(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    # Like a signal that arrives just before the call sleeps: it does not interrupt the sleep.
    code = """
        import os, signal, threading, time
        from ipckit import Channel

        class Rung(Exception):
            pass

        def ring(*_):
            raise Rung

        def bell():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(1000)

        signal.signal(signal.SIGUSR1, ring)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        result = []
        with Channel.open(args[0]) as channel:
            channel.send(b"it is full")
            waits = [
                lambda: channel.send(b"more"),
                lambda: channel.loan(100),
                channel.receive_many,
                lambda: channel.receive(timeout=60),
            ]
            for wait in waits:
                threading.Thread(target=bell, daemon=True).start()
                try:
                    wait()
                    result.append("it got through")
                except Rung:
                    result.append("rung")
                if len(result) == 2:
                    channel.receive()
    """
    with Channel.create(ns.name(), capacity=1) as channel:
        child = spawn(code, channel.name)
        assert child.result == ["rung"] * 4


def test_a_fork_in_a_signal_handler_adds_a_receiver(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    code = """
        import os, signal
        from ipckit import Channel

        def fork(*_):
            global forked
            forked = os.fork() == 0

        signal.signal(signal.SIGALRM, fork)
        channel = Channel.open(args[0])
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        result = channel.receive(timeout=60)
        if forked:
            os._exit(0)
        os.wait()
    """
    with Channel.create(ns.name()) as channel:
        child = spawn(code, channel.name)
        deadline = time.monotonic() + 30
        while len(channel.peers()) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        channel.send(b"one")
        channel.send(b"two")
        assert child.result in {b"one", b"two"}
        assert len(channel) == 0


def test_many_senders_and_receivers(ns: Namespace, spawn: Callable[..., Child]) -> None:
    send = """
        from ipckit import Channel
        with Channel.open(args[0]) as channel:
            for number in range(args[2]):
                channel.send(b"%d %d" % (args[1], number))
    """
    take = """
        from ipckit import Channel
        with Channel.open(args[0], peer_gone="wait") as channel:
            result = [value for value in iter(channel.receive, b"end")]
    """
    each = 2000
    with Channel.create(ns.name(), capacity=64) as channel:
        takers = [spawn(take, channel.name) for _ in range(2)]
        senders = [spawn(send, channel.name, k, each) for k in range(2)]
        for child in senders:
            child.wait()
        for _ in takers:
            channel.send(b"end")
        found = [[tuple(map(int, value.split())) for value in child.result] for child in takers]
    assert sorted(found[0] + found[1]) == [(k, n) for k in range(2) for n in range(each)]
    for one in found:
        for k in range(2):  # in the order in which they were sent
            numbers = [n for sender, n in one if sender == k]
            assert numbers == sorted(numbers)


def test_frames_in_place_between_processes(ns: Namespace, spawn: Callable[..., Child]) -> None:
    code = """
        import numpy as np
        from ipckit import Channel
        frame = np.dtype((np.uint8, (120, 160)))
        with Channel.open(args[0], frame) as channel:
            for number in range(100):
                with channel.loan() as slot:
                    slot.array[...] = number
                    slot.send()
    """
    frame = np.dtype((np.uint8, (120, 160)))
    with Channel.create(ns.name(), frame, capacity=3) as channel:
        spawn(code, channel.name)
        for number in range(100):
            with channel.receive_view(timeout=60) as view:
                assert np.all(view.array == number)


def test_a_thread_of_a_forking_process_stays_a_peer() -> None:
    context: Any = get_context("fork")
    with Channel.anonymous() as channel:
        child = context.Process(target=channel.receive)
        child.start()
        wait_blocked(child.pid, "shared_futex")
        channel.send(b"x")
        child.join()
        assert child.exitcode == 0
        child.close()
        assert len(channel.peers()) == 1
