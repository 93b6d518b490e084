"""A peer that is stopped, or that forks, inside a call: the effect on the other peers."""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from forks import forked, reap

from ipckit import Channel, Corrupt, LimitReached, MessageTooLong, Timeout, WouldBlock, aio
from ipckit._native import INLINE_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

    Spawn = Callable[..., Child]

RECEIVERS, SENDERS = 1, 2  # the side whose lock is held
LOCK_WORDS = {RECEIVERS: 384, SENDERS: 128}  # see docs/layout.md
LONG = INLINE_MAX + 1000  # bytes of a message in a block
TRIES = 20_000
PLACES = 256


@pytest.fixture
def name(ns: Namespace) -> str:
    return ns.name()


class Busy:
    """A forked child that repeats an operation on a channel until it is stopped."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                while True:
                    act()
            finally:
                os._exit(1)

    def stop_with_the_lock(self, channel: Channel[Any], which: int) -> None:
        """Stop the child while it holds a lock."""
        for _ in range(TRIES):
            self._wait_for_progress(channel)
            for _ in range(random.randrange(2000)):  # to stop it at another instruction
                pass
            os.kill(self.pid, signal.SIGSTOP)
            os.waitpid(self.pid, os.WUNTRACED)
            if channel._lock_holder(which)[0] == self.pid:
                return
            self.go_on()
        pytest.fail("it never has the lock when it is stopped")

    def _wait_for_progress(self, channel: Channel[Any]) -> None:
        """Wait until the child has run, which takes a while if others use the processors."""
        before = self._count(channel)
        while self._count(channel) == before:
            os.sched_yield()

    def _count(self, channel: Channel[Any]) -> int:
        return sum(peer.sent + peer.received for peer in channel.peers() if peer.pid == self.pid)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def wait_in_futex(thread: threading.Thread) -> None:
    """Wait until a thread sleeps in a call on a channel."""
    while "futex" not in Path(f"/proc/self/task/{thread.native_id}/wchan").read_text():
        pass


def quietly(act: Callable[[], object]) -> Callable[[], None]:
    def attempt() -> None:
        with suppress(WouldBlock):
            act()

    return attempt


@pytest.fixture
def busy() -> Iterator[Callable[[Callable[[], object]], Busy]]:
    children: list[Busy] = []

    def start(act: Callable[[], object]) -> Busy:
        children.append(Busy(quietly(act)))
        return children[-1]

    yield start
    for child in children:
        with suppress(ProcessLookupError, ChildProcessError):
            child.kill()


class Holder:
    """A forked child that is stopped while it holds a lock, and that can be continued.

    The test writes the child into the lock's word. To catch a child that truly has the lock, it
    would have to be stopped at random again and again. What the child does then, it does as any
    holder: it takes the lock and gives it up.
    """

    def __init__(self, channel: Channel[Any], which: int, then: Callable[[], object]) -> None:
        self._word = LOCK_WORDS[which]
        self._memory = mmap.mmap(channel.memory_fd, 0)
        joined, self._told = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                channel.peers()  # becomes a peer
                os.write(joined[1], b"x")
                os.read(self._told[0], 1)
                quietly(then)()
                status = 0
            finally:
                os._exit(status)
        os.read(joined[0], 1)
        for each in joined:
            os.close(each)
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)
        struct.pack_into("=I", self._memory, self._word, self._owner())
        assert channel._lock_holder(which)[0] == self.pid

    def _owner(self) -> int:
        """The value of a lock that the child holds: its place, and the generation of the place."""
        for place in range(PLACES):
            generation, _, _, _, _, pid = struct.unpack_from("=6I", self._memory, 1024 + 64 * place)
            if pid == self.pid:
                return int(place + 1 | generation << 9)
        message = "the child is no peer"
        raise AssertionError(message)

    def go_on(self) -> None:
        struct.pack_into("=I", self._memory, self._word, 0)
        os.kill(self.pid, signal.SIGCONT)
        os.write(self._told[1], b"x")
        assert ended_well(self.pid)
        self._memory.close()
        for each in self._told:
            os.close(each)


def sends_and_receives(channel: Channel[bytes]) -> Callable[[], None]:
    def act() -> None:
        # The child sends and receives, so that the channel does not stay full or empty.
        with suppress(WouldBlock):
            channel.send(
                bytes(INLINE_MAX), timeout=0
            )  # copied under the lock; a block would not be
        channel.receive(timeout=0)

    return act


# -- stopped ---------------------------------------------------------------------------------------


def test_a_stopped_sender_blocks_senders_until_their_timeout(
    name: str, busy: Callable[[Callable[[], object]], Busy]
) -> None:
    with Channel.create(name, capacity=64) as channel, Channel.open(name) as other:
        child = busy(sends_and_receives(channel))
        child.stop_with_the_lock(other, SENDERS)
        with pytest.raises(
            WouldBlock, match=f"process {child.pid} holds the channel's lock"
        ) as once:
            other.send(b"x", timeout=0)
        assert "SIGCONT" in str(once.value)
        with pytest.raises(Timeout, match=f"process {child.pid} held the channel's lock for"):
            other.send(b"x", timeout=0.05)
        with suppress(Timeout):
            while True:
                other.receive(timeout=0.05)  # a message of the child: receivers are not blocked
        child.go_on()
        other.send(b"after", timeout=60)


def test_releasing_a_view_does_not_wait_for_a_stopped_receiver(name: str) -> None:
    with Channel.create(name, capacity=8) as channel, Channel.open(name) as other:
        channel.send(bytes(LONG))
        view = other.receive_view()
        assert other.stats().bytes_used >= LONG
        holder = Holder(channel, RECEIVERS, lambda: channel.receive(timeout=0))
        try:
            view.release()  # does not wait
            assert not other.stats().bytes_used
        finally:
            holder.go_on()


def test_cancelling_a_loan_does_not_wait_for_a_stopped_sender(name: str) -> None:
    with Channel.create(name, capacity=2, size=1 << 16) as channel, Channel.open(name) as other:
        loan = other.loan(LONG)
        holder = Holder(channel, SENDERS, lambda: channel.send(b"1", timeout=0))
        try:
            loan.cancel()  # does not wait
            assert not other.stats().bytes_used
        finally:
            holder.go_on()
        other.send(b"2", timeout=60)  # as many as the capacity
        assert [other.receive(timeout=0) for _ in range(2)] == [b"1", b"2"]


@pytest.mark.parametrize("size", [1, LONG, 100_000])
@pytest.mark.parametrize(
    ("which", "overwrite"), [(RECEIVERS, False), (RECEIVERS, True), (SENDERS, False)]
)
def test_a_polling_sender_uses_no_cpu_while_a_peer_is_stopped(
    name: str, which: int, size: int, *, overwrite: bool
) -> None:
    # With overwrite, the sender needs the lock of the receivers to drop a message.
    made = Channel.create(name, capacity=2, overwrite=overwrite)
    with made as channel, Channel.open(name) as other:
        room = other.space_fileno()
        takes_receive_lock = partial(channel.receive, timeout=0)
        takes_send_lock = partial(channel.send, b"", timeout=0)
        holder = Holder(
            channel, which, takes_receive_lock if which == RECEIVERS else takes_send_lock
        )
        try:
            with suppress(WouldBlock):
                while True:
                    other.send(bytes(size), timeout=0)
            for _ in range(50):
                if not select.select([room], [], [], 0.1)[0]:
                    break
                with pytest.raises(WouldBlock):
                    other.send(bytes(size), timeout=0)
            else:
                pytest.fail("the descriptor is readable all the time")
        finally:
            holder.go_on()
        assert select.select([room], [], [], 60)[0]
        other.send(bytes(size), timeout=60)


def test_an_event_loop_runs_while_a_sender_is_stopped(
    name: str, busy: Callable[[Callable[[], object]], Busy]
) -> None:
    async def main() -> None:
        face = aio.wrap(other)
        with pytest.raises(Timeout):
            await face.send(b"x", timeout=0.05)
        waiting = asyncio.create_task(face.send(b"when it goes on"))
        await asyncio.sleep(0)
        child.go_on()
        await waiting

    with Channel.create(name, capacity=64) as channel, Channel.open(name) as other:
        child = busy(sends_and_receives(channel))
        child.stop_with_the_lock(other, SENDERS)
        asyncio.run(main())


# -- forked ----------------------------------------------------------------------------------------


def ended_well(pid: int) -> bool:
    return reap(pid) == 0


def test_a_child_that_closes_its_copy_is_no_peer_even_if_the_parent_was_in_a_call(
    name: str, meanwhile_in_receive: Callable[[Channel[bytes]], threading.Thread]
) -> None:
    with Channel.create(name) as channel, Channel.open(name) as other:
        kept = channel.loan(
            10
        )  # belongs to the parent; closing the child's copy does not affect it
        thread = meanwhile_in_receive(channel)
        reader, writer = os.pipe()
        stop_reader, stop_writer = os.pipe()

        def act() -> None:
            os.close(stop_writer)
            other.close()
            channel.send(b"of the child")
            channel.close()
            for each in Path("/proc/self/fd").iterdir():
                with suppress(FileNotFoundError):  # the descriptor of the directory itself
                    assert "ipckit." not in str(each.readlink())
            os.write(writer, b"closed")
            os.read(stop_reader, 1)

        pid = forked(act)
        os.close(stop_reader)
        os.close(writer)
        assert os.read(reader, 6) == b"closed"
        assert pid not in {peer.pid for peer in other.peers()}
        os.close(stop_writer)
        os.close(reader)
        assert ended_well(pid)
        thread.join()
        kept.cancel()


@pytest.fixture
def meanwhile_in_receive() -> Callable[[Channel[bytes]], threading.Thread]:
    def start(channel: Channel[bytes]) -> threading.Thread:
        thread = threading.Thread(target=channel.receive)
        thread.start()
        wait_in_futex(thread)
        return thread

    return start


class Forking:
    """A timeout whose n-th conversion to seconds forks."""

    def __init__(self, look: int) -> None:
        self.pid = -1
        self._looks = look

    def __float__(self) -> float:
        self._looks -= 1
        if self._looks == 0:
            self.pid = os.fork()
        return 60.0


@pytest.mark.parametrize("look", [1, 2])
@pytest.mark.parametrize("size", [100, 20_000])
def test_a_timeout_that_forks_receives_in_both_processes(name: str, look: int, size: int) -> None:
    with Channel.create(name) as channel:
        for number in range(2):
            channel.send(bytes([number]) * size)
        timeout: Any = Forking(look)
        found = status = None
        try:
            found = channel.receive(timeout=timeout)
            status = 0 if found in {b"\0" * size, b"\1" * size} else 2
        finally:
            if timeout.pid == 0:
                os._exit(3 if status is None else status)
        assert status == 0
        assert timeout.pid == -1 or ended_well(timeout.pid)


def test_a_child_forked_in_a_call_continues_it_as_a_receiver(name: str) -> None:
    pids: list[int] = []

    def fork(*_: object) -> None:
        pids.append(os.fork())

    with Channel.create(name) as channel, Channel.open(name) as other:
        before = signal.signal(signal.SIGALRM, fork)

        def help_on() -> None:
            """Send when the child has become a receiver, while it is still in its first call."""
            while not any(peer.pid != os.getpid() and peer.receiver for peer in other.peers()):
                os.sched_yield()
            other.send(b"1")
            other.send(b"2")

        thread = threading.Thread(target=help_on)
        thread.start()
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        found = b""
        try:
            found = channel.receive()
        finally:
            if pids == [0]:
                mine = [peer for peer in channel.peers() if peer.self]
                good = found in {b"1", b"2"} and mine[0].receiver and not mine[0].sender
                os._exit(not good)
        signal.signal(signal.SIGALRM, before)
        thread.join()
        assert found in {b"1", b"2"}
        assert ended_well(pids[0])
        assert not len(channel)


def test_a_child_that_only_reads_the_state_is_no_peer(name: str) -> None:
    with Channel.create(name) as channel:
        channel.send(b"x")

        def act() -> None:
            assert len(channel) == 1
            assert "1 of 1024" in repr(channel)
            assert channel.capacity == 1024
            os.write(writer, b"looked")
            os.read(stop_reader, 1)
            assert [peer.self for peer in channel.peers()] == [False, True]

        reader, writer = os.pipe()
        stop_reader, stop_writer = os.pipe()
        pid = forked(act)
        assert os.read(reader, 6) == b"looked"
        assert len(channel.peers()) == 1
        os.write(stop_writer, b"x")
        assert ended_well(pid)
        for each in (reader, writer, stop_reader, stop_writer):
            os.close(each)


def test_a_child_without_a_free_place_gets_limit_reached(name: str) -> None:
    with Channel.create(name) as channel:
        others = [Channel.open(name) for _ in range(PLACES - 1)]

        def act() -> None:
            for call in (channel.receive, lambda: channel.send(b"x"), channel.fileno):
                with pytest.raises(LimitReached, match="256"):
                    call()

        assert ended_well(forked(act))
        with pytest.raises(LimitReached, match="256"):
            Channel.open(name)
        for each in others:
            each.close()


def test_the_error_for_no_descriptors_names_the_limit(name: str) -> None:
    with Channel.create(name) as channel:

        def act() -> None:
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            for call in (channel.receive, channel.fileno, channel.peers):
                with pytest.raises(LimitReached, match="RLIMIT_NOFILE"):
                    call()

        assert ended_well(forked(act))


# -- descriptors -----------------------------------------------------------------------------------

TELLS = """
from ipckit import Channel
with Channel.open(sys.argv[1]) as channel:
    channel.send(b"from another network namespace")
"""


@pytest.mark.usefixtures("root")
def test_a_descriptor_works_across_network_namespaces(name: str) -> None:
    with Channel.create(name) as channel:
        assert not select.select([channel.fileno()], [], [], 0)[0]
        subprocess.run(
            ["unshare", "--net", sys.executable, "-c", "import sys" + TELLS, name], check=True
        )
        assert select.select([channel.fileno()], [], [], 60)[0]
        assert channel.receive(timeout=0) == b"from another network namespace"


def test_other_users_can_not_reach_a_descriptor(name: str) -> None:
    with Channel.create(name) as channel:
        channel.fileno()
        assert "ipckit-channel" not in Path("/proc/net/unix").read_text()
        assert str(Path(f"/proc/self/fd/{channel.fileno()}").readlink()) == "anon_inode:[eventfd]"


def test_a_descriptor_is_readable_when_a_peer_died(name: str) -> None:
    with Channel.create(name) as channel:
        reader, writer = os.pipe()

        def act() -> None:
            channel.send(b"x")
            os.write(writer, b"sent")
            signal.pause()

        pid = forked(act)
        assert os.read(reader, 4) == b"sent"
        assert channel.receive() == b"x"
        assert not channel._check_peers(sending=False)
        channel.fileno()
        with pytest.raises(WouldBlock):
            channel.receive(timeout=0)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert select.select([channel.fileno()], [], [], 60)[0]
        assert channel._check_peers(sending=False)
        os.close(reader)
        os.close(writer)


def test_a_message_that_is_too_long_leaves_the_descriptor_for_room_readable(name: str) -> None:
    with Channel.create(name, capacity=8) as channel:
        room = channel.space_fileno()
        assert select.select([room], [], [], 0)[0]
        with pytest.raises(MessageTooLong):
            channel.send(bytes(channel.longest + 1), timeout=0)
        assert select.select([room], [], [], 0)[0]


# -- truncated -------------------------------------------------------------------------------------


def test_state_of_a_truncated_file_is_corrupt(name: str) -> None:
    channel = Channel.create(name)
    path = Path(f"/dev/shm/ipckit.{name[1:]}")  # noqa: S108 - where channels live
    os.truncate(path, 0)
    for look in (lambda: len(channel), channel.stats, channel.peers):
        with pytest.raises(Corrupt, match="truncated"):
            look()
    assert "Corrupt" in repr(channel)
    channel.close()
    path.unlink()


def test_waiting_on_a_truncated_file_is_corrupt(name: str) -> None:
    found: list[Corrupt] = []
    channel = Channel.create(name)
    path = Path(f"/dev/shm/ipckit.{name[1:]}")  # noqa: S108 - where channels live

    def wait() -> None:
        try:
            channel.receive()
        except Corrupt as exc:
            found.append(exc)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_in_futex(thread)
    os.truncate(path, 0)
    thread.join()
    assert found
    channel.close()
    path.unlink()
