"""Peers of a channel that are killed, stopped, forked or interrupted at the worst moment."""

from __future__ import annotations

import mmap
import os
import random
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Channel, PeerGone, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

    Spawn = Callable[..., Child]

SHM = Path("/dev/shm")  # noqa: S108 - where channels live
SIZE = 1 << 20

PEER = """
import os
from ipckit import Channel, PeerGone, Timeout
from ipckit.testing import step
channel = Channel.open(args[0], peer_gone=args[1], spin=args[2])
"""
SENDER = PEER + "for each in args[3]: channel.send(each)\nstep.tell('sent')\nstep.hear()"
RECEIVER = PEER + "step.tell(channel.receive())\nstep.hear()"
RECEIVES_ON = (
    PEER
    + """
try:
    while True:
        step.tell(channel.receive())
except PeerGone as exc:
    step.tell(exc.strerror)
"""
)


@pytest.fixture
def name(ns: Namespace) -> str:
    return ns.name()


@pytest.fixture
def channel(name: str) -> Iterator[Channel[bytes]]:
    with Channel.create(name, capacity=8, size=SIZE) as made:
        yield made


# -- chaos -----------------------------------------------------------------------------------------

# Forks two senders and two receivers, kills one after the other, and checks their records.
CHAOS = """
import random
import numpy  # before the forks: the children need it for loans, and importing it takes long
from chaos import Crew, Log, body, number_of
from ipckit import Channel, PeerGone, Timeout, WouldBlock

name, kills, seed = args[0], args[1], args[2]
inherited = Channel.open(name)
try:
    inherited.receive(timeout=0)  # so that it counts as a receiver, not as a sender
except WouldBlock:
    pass
LENGTHS = [8, 60, 2000, 6000, 100 * 1024]

def send_on(channel, life):
    number, loans = life << 32, []
    while not crew.stage:
        number += 1
        data = body(number, random.choice(LENGTHS))
        try:
            if random.random() < 0.5:
                channel.send(data, timeout=0.05)
            else:
                slot = channel.loan(len(data), timeout=0.05)
                loans.append(slot)
                slot.buf[:] = data
                slot.send(timeout=0.05)
        except (Timeout, PeerGone):
            loans.clear()
            continue
        sent.note(number)
        if random.random() < 0.2:
            try:
                loans.append(channel.loan(5000, timeout=0.01))
            except (Timeout, PeerGone):
                pass
        del loans[:-2]

def receive_on(channel, life):
    views, last = [], {}
    while True:
        last_turn = crew.stage == 2
        try:
            if random.random() < 0.5:
                number = number_of(channel.receive(timeout=0.05))
            else:
                view = channel.receive_view(timeout=0.05)
                number = number_of(view.buf)
                views.append(view)
        except Timeout:
            views.clear()
            continue
        except PeerGone:
            views.clear()
            if last_turn:
                return
            continue
        received.note(number)
        assert last.get(number >> 32, 0) < number, "out of order"
        last[number >> 32] = number
        if len(views) > 3:
            del views[random.randrange(3)]

def work(place, life):
    channel = inherited if random.random() < 0.5 else Channel.open(name)
    (send_on if place < 2 else receive_on)(channel, life)
    channel.close()

sent, received = Log(), Log()
crew = Crew(work, seed)
random.seed(seed)
for place in range(4):
    crew.start(place)
killed = crew.kill_some(kills, places=4, pause=0.06)
receivers_killed = killed.count(2) + killed.count(3)
crew.stop([0, 1], stage=1)
crew.stop([2, 3], stage=2)  # the receivers once all is sent

arrived = received.read()
assert len(set(arrived)) == len(arrived), "a message came twice"
lost = set(sent.read()) - set(arrived)
assert len(lost) <= receivers_killed, f"{len(lost)} messages lost by {receivers_killed} deaths"
assert len(arrived) > kills, len(arrived)
# The memory of dead peers is reclaimed, so the channel has as much room as a new one.
capacity = inherited.capacity
whole = b"x" * inherited.longest
for _ in range(3):
    inherited.send(whole, timeout=10)
    assert inherited.receive(timeout=10) == whole
for _ in range(capacity):
    inherited.send(b"", timeout=10)
try:
    inherited.send(b"", timeout=0)
except WouldBlock:
    pass
else:
    raise AssertionError("more than its capacity")
inherited.receive_many()
assert inherited.stats().bytes_used == 0
inherited.close()
"""


def test_messages_of_other_peers_survive_kills(name: str, spawn: Spawn) -> None:
    with Channel.create(name, capacity=64, size=16 * SIZE) as made:
        spawn(CHAOS, name, 20, 1).wait(60)
        made.unlink()


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_channel_survives_hundreds_of_kills(name: str, spawn: Spawn, seed: int) -> None:
    with Channel.create(name, capacity=64, size=16 * SIZE) as made:
        spawn(CHAOS, name, 1500, seed).wait(400)
        made.unlink()


# -- no call waits for a dead peer -----------------------------------------------------------------


@pytest.mark.parametrize("spin", [0, 2000])
def test_a_receiver_gets_all_that_was_sent_and_then_peer_gone(
    name: str, channel: Channel[bytes], spawn: Spawn, spin: int
) -> None:
    messages = [b"one", b"two" * 50_000, b"three"]
    sender = spawn(SENDER, name, "raise", spin, messages)
    sender.expect("sent")
    sender.kill()
    assert [channel.receive(timeout=10) for _ in messages] == messages
    with pytest.raises(PeerGone, match="last sender is gone"):
        channel.receive(timeout=60)
    with pytest.raises(PeerGone):
        channel.receive_view(timeout=60)
    assert list(channel) == []
    channel.unlink()


def test_a_sleeping_receiver_gets_peer_gone(
    name: str, channel: Channel[bytes], spawn: Spawn
) -> None:
    receiver = spawn(RECEIVES_ON, name, "raise", 0)
    sender = spawn(SENDER, name, "raise", 0, [b"one"])
    sender.expect("sent")
    receiver.expect(b"one")
    receiver.wait_blocked("shared_futex")
    sender.kill()
    receiver.expect("the channel is empty, and the last sender is gone")
    receiver.wait()
    channel.unlink()


def test_a_sleeping_sender_gets_peer_gone(name: str, channel: Channel[bytes], spawn: Spawn) -> None:
    receiver = spawn(RECEIVER, name, "raise", 0)
    code = PEER + "channel.send(b'x')\nstep.hear()\n"
    code += (
        "try:\n    while True: channel.send(b'y')\nexcept PeerGone as exc: step.tell(exc.strerror)"
    )
    sender = spawn(code, name, "raise", 0)
    receiver.expect(b"x")
    sender.tell("go on")
    sender.wait_blocked("shared_futex")
    receiver.kill()
    sender.expect("the channel is full, and the last receiver is gone")
    sender.wait()
    assert len(channel) == channel.capacity  # for later receivers
    channel.unlink()


def test_peer_gone_wait_receives_from_a_new_sender(
    name: str, channel: Channel[bytes], spawn: Spawn
) -> None:
    receiver = spawn(RECEIVES_ON, name, "wait", 0)
    for text in (b"one", b"two"):
        sender = spawn(SENDER, name, "raise", 0, [text])
        sender.expect("sent")
        receiver.expect(text)
        receiver.wait_blocked("shared_futex")
        sender.kill()
    with pytest.raises(Timeout):
        _wait_for(name)
    receiver.wait_blocked("shared_futex")
    receiver.kill()
    channel.unlink()


def _wait_for(name: str) -> None:
    with Channel.open(name, peer_gone="wait") as patient:
        patient.receive(timeout=0.2)


def test_calls_wait_for_the_first_peer(name: str, channel: Channel[bytes], spawn: Spawn) -> None:
    receiver = spawn(RECEIVER, name, "raise", 0)
    receiver.wait_blocked("shared_futex")
    with pytest.raises(Timeout):
        channel.receive(timeout=0.15)
    channel.send(b"here I am")
    receiver.expect(b"here I am")
    receiver.tell("end")
    receiver.wait()
    channel.unlink()


def test_the_last_peer_that_closes_is_gone(
    name: str, channel: Channel[bytes], spawn: Spawn
) -> None:
    code = PEER + "channel.send(b'bye')\nchannel.close()\nstep.tell('closed')\nstep.hear()"
    sender = spawn(code, name, "raise", 0)
    sender.expect("closed")
    assert channel.receive(timeout=10) == b"bye"
    with pytest.raises(PeerGone):
        channel.receive(timeout=60)
    sender.tell("end")
    sender.wait()
    channel.unlink()


def test_a_dead_parent_is_gone_although_its_child_lives(
    name: str, channel: Channel[bytes], spawn: Spawn
) -> None:
    code = PEER + "channel.send(b'x')\nif os.fork() == 0:\n    step.tell(os.getpid())\nstep.hear()"
    parent = spawn(code, name, "raise", 0)
    child = parent.hear()
    # Kill the parent only. The child still has the inherited descriptor.
    os.kill(parent.pid, signal.SIGKILL)
    assert channel.receive(timeout=10) == b"x"
    with pytest.raises(PeerGone):
        channel.receive(timeout=60)
    os.kill(child, signal.SIGKILL)
    parent.kill()
    channel.unlink()


# -- stopped, interrupted -------------------------------------------------------------------------


def test_a_stopped_peer_is_not_gone(name: str, channel: Channel[bytes], spawn: Spawn) -> None:
    receiver = spawn(RECEIVES_ON, name, "raise", 0)
    channel.send(b"first")
    receiver.expect(b"first")
    receiver.wait_blocked("shared_futex")
    receiver.send_signal(signal.SIGSTOP)
    for _ in range(channel.capacity):
        channel.send(b"more")
    with pytest.raises(Timeout):
        channel.send(b"too much", timeout=0.2)
    receiver.send_signal(signal.SIGCONT)
    for _ in range(channel.capacity):
        receiver.expect(b"more")
    channel.send(b"again", timeout=10)
    receiver.expect(b"again")
    channel.close()
    receiver.expect("the channel is empty, and the last sender is gone")
    receiver.wait()
    channel.unlink()


@pytest.mark.parametrize("spin", [0, 1_000_000])
@pytest.mark.parametrize("call", ["receive()", "receive_view()", "send(b'y')", "loan(1)"])
def test_control_c_ends_the_wait(
    name: str, channel: Channel[bytes], spawn: Spawn, call: str, spin: int
) -> None:
    full = call.startswith(("send", "loan"))
    if full:
        for _ in range(channel.capacity):
            channel.send(b"x")
    code = (
        PEER + f"step.tell('ready')\ntry: channel.{call}\nexcept KeyboardInterrupt: step.tell(1)\n"
    )
    code += "if args[3]: channel.receive()\nchannel.send(b'works')"
    waiter = spawn(code, name, "wait", spin, full)
    waiter.expect("ready")
    waiter.wait_blocked("shared_futex")
    waiter.send_signal(signal.SIGINT)
    waiter.expect(1)
    waiter.wait()
    assert channel.receive_many(timeout=10)[-1] == b"works"
    channel.unlink()


# -- garbage ---------------------------------------------------------------------------------------

VICTIM = """
import random
from ipckit import *
channel = Channel.open(args[0], peer_gone="wait")
random.seed(args[1])
kept = []
said = {}
for _ in range(args[2]):
    timeout = random.choice([0.002, 0.01])
    try:
        match random.randrange(7):
            case 0: channel.send(b"x" * random.choice([0, 9, 2000, 20000]), timeout=timeout)
            case 1: channel.receive(timeout=timeout)
            case 2: kept.append(channel.receive_view(timeout=timeout))
            case 3:
                slot = channel.loan(random.choice([1, 3000, 30000]), timeout=timeout)
                slot.buf[:] = b"z" * len(slot)
                if random.random() < 0.7: slot.send(timeout=timeout)
                else: kept.append(slot)
            case 4: channel.receive_many(3, timeout=timeout)
            case 5: len(channel), channel.stats(), repr(channel)
            case 6: sum(sum(bytes(each.buf)) for each in kept)
    except (Corrupt, WouldBlock, Timeout, MessageTooLong, LayoutMismatch, PeerGone) as exc:
        said[type(exc).__name__] = said.get(type(exc).__name__, 0) + 1
    del kept[random.randrange(4):]
result = said
"""


def scribble_until(over: threading.Event, memory: Any, peaceful: bytes) -> None:
    """Write numbers over the header, the peers and the rest, and restore them a little later."""
    chance = random.Random(7)
    words = len(memory) // 8
    while not over.wait(0.0005):
        for _ in range(20):
            at = chance.choice([chance.randrange(128 // 8, 640 // 8), chance.randrange(16, words)])
            number = chance.choice([0, 1, 7, 1 << 24, (1 << 64) - 1, chance.getrandbits(64)])
            memory[at * 8 : at * 8 + 8] = (number >> chance.randrange(40)).to_bytes(8, "little")
        over.wait(0.0005)
        memory[128 : len(peaceful)] = peaceful[128:]


def test_overwritten_memory_raises_errors_and_never_crashes(name: str, spawn: Spawn) -> None:
    with Channel.create(name, capacity=8, size=100_000) as made:
        path = SHM / f"ipckit.{name.removeprefix('/')}"
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            victims = [spawn(VICTIM, name, seed, 600) for seed in range(2)]
            peaceful, over = memory[:], threading.Event()
            scribbler = threading.Thread(target=scribble_until, args=(over, memory, peaceful))
            scribbler.start()
            try:
                for victim in victims:
                    victim.wait(100)
            finally:
                over.set()
                scribbler.join()
        said = {**victims[0].result, **victims[1].result}
        assert said.get("Corrupt", 0) > 0
        made.unlink()
