"""Processes that take messages and are killed or stopped before they acknowledge them."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Channel, PeerGone, Timeout, WouldBlock, aio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

    Spawn = Callable[..., Child]

SIZE = 1 << 20

PEER = """
import os
from ipckit import Channel, PeerGone, Timeout
from ipckit.testing import step
channel = Channel.open(args[0], peer_gone=args[1])
"""
SENDER = PEER + "for each in args[2]: channel.send(each)\nstep.tell('sent')\nstep.hear()"
TAKER = (
    PEER
    + """
taken = []
while len(taken) < args[2]:
    taken.append(channel.take())
    step.tell((taken[-1].value, taken[-1].redelivered))
while True:
    end, index = step.hear()
    getattr(taken.pop(index), end)()
    step.tell("done")
"""
)


@pytest.fixture
def name(ns: Namespace) -> str:
    return ns.name()


@pytest.fixture
def channel(name: str) -> Iterator[Channel[bytes]]:
    with Channel.create(name, capacity=64, size=SIZE) as made:
        yield made
        made.unlink()


def job(number: int) -> bytes:
    """A message in the ring, or in a block."""
    return b"%d" % number + b"." * (number % 2 * 6000)


# -- chaos -----------------------------------------------------------------------------------------

# Forks a sender and three takers, kills one after the other, and checks their records.
CHAOS = """
import random
from chaos import Crew, Log, body, number_of
from ipckit import Channel, PeerGone, Timeout, WouldBlock

name, kills, seed = args[0], args[1], args[2]
inherited = Channel.open(name)
try:
    inherited.take(0)  # so that it counts as a receiver, not as a sender
except WouldBlock:
    pass
LENGTHS = [8, 60, 2000, 20 * 1024]

def send_on(channel, life):
    number = life << 32
    while not crew.stage:
        number += 1
        try:
            channel.send(body(number, random.choice(LENGTHS)), timeout=0.05)
        except (Timeout, PeerGone):
            continue
        sent.note(number)

def take_on(channel, life):
    taken = []
    while True:
        last_turn = crew.stage == 2
        try:
            delivery = channel.take(0.05)
        except Timeout:
            finish(taken)
            continue
        except PeerGone:
            if last_turn and not taken:
                return
            finish(taken)  # this may give some back, so take again
            continue
        delivered.note(number_of(delivery.buf), delivery.redelivered)
        taken.append(delivery)
        del delivery  # a dropped one is given back with its last reference
        if len(taken) > random.randrange(6):
            finish(taken)

def finish(taken):
    random.shuffle(taken)
    while taken:
        delivery, what = taken.pop(), random.random()
        if what < 0.6:
            done.note(number_of(delivery.buf), delivery.redelivered)
            delivery.ack()
        elif what < 0.8:
            delivery.requeue()
        del delivery

def work(place, life):
    channel = inherited if random.random() < 0.5 else Channel.open(name)
    (send_on if place == 0 else take_on)(channel, life)
    channel.close()

sent, delivered, done = Log(), Log(), Log()
crew = Crew(work, seed)
random.seed(seed)
for place in range(4):
    crew.start(place)
crew.kill_some(kills, places=4, pause=0.03)
crew.stop([0], stage=1)
crew.stop([1, 2, 3], stage=2)  # the takers once all is sent

def pairs(log):
    numbers = log.read()
    return list(zip(numbers[::2], numbers[1::2]))

sent, delivered, done = sent.read(), pairs(delivered), pairs(done)
assert len(set(delivered)) == len(delivered), "a delivery came twice without a larger count"
lost = set(sent) - {number for number, _ in done}
assert not lost, f"{len(lost)} messages are lost"
assert len(done) > kills, len(done)
assert max(count for _, count in delivered) > 0
# An acknowledged message never comes again: only a death between its note and ack allows that.
again = len(done) - len({number for number, _ in done})
assert again <= 6 * kills, again
stats = inherited.stats()
assert (stats.taken, stats.messages, stats.bytes_used) == (0, 0, 0), stats
inherited.close()
result = (len(sent), len(delivered), len(done), max(count for _, count in delivered))
"""


def test_no_message_is_lost_when_takers_are_killed(channel: Channel[bytes], spawn: Spawn) -> None:
    spawn(CHAOS, channel.name, 25, 1).wait(60)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_no_message_is_lost_in_hundreds_of_kills(
    channel: Channel[bytes], spawn: Spawn, seed: int
) -> None:
    spawn(CHAOS, channel.name, 1500, seed).wait(400)


# -- killed ----------------------------------------------------------------------------------------


def test_each_death_of_a_taker_counts(channel: Channel[bytes], spawn: Spawn) -> None:
    channel.send(b"poison")
    for count in range(5):
        taker = spawn(TAKER, channel.name, "wait", 1)
        taker.expect((b"poison", count))
        taker.kill()
    with channel.take(10) as delivery:
        assert (delivery.value, delivery.redelivered) == (b"poison", 5)


def test_the_messages_of_dead_takers_come_first_in_order(
    channel: Channel[bytes], spawn: Spawn
) -> None:
    for number in range(8):
        channel.send(job(number))
    first = spawn(TAKER, channel.name, "raise", 3)
    for number in range(3):
        first.expect((job(number), 0))
    second = spawn(TAKER, channel.name, "raise", 3)
    for number in range(3, 6):
        second.expect((job(number), 0))
    first.tell(("ack", 1))
    first.expect("done")
    second.kill()
    with channel.take(10) as delivery:
        assert (delivery.value, delivery.redelivered) == (job(3), 1)
    first.kill()
    found = []
    for _ in range(6):
        with channel.take(10) as delivery:
            found.append((delivery.value, delivery.redelivered))
    assert found == [(job(each), 1) for each in (0, 2, 4, 5)] + [(job(each), 0) for each in (6, 7)]
    assert channel.stats().bytes_used == 0


def test_a_timeout_of_0_finds_the_messages_of_a_dead_taker(
    channel: Channel[bytes], spawn: Spawn
) -> None:
    for number in range(2):
        channel.send(job(number))
    taker = spawn(TAKER, channel.name, "raise", 1)
    taker.expect((job(0), 0))
    taker.kill()
    found = [(each.value, each.redelivered) for each in [channel.take(0), channel.take(0)]]
    assert found == [(job(0), 1), (job(1), 0)]


@pytest.mark.parametrize("call", ["receive()", "take().value", "receive_view().value"])
def test_a_sleeping_receiver_gets_the_message_of_a_dead_taker(
    channel: Channel[bytes], spawn: Spawn, call: str
) -> None:
    channel.send(job(1))
    taker = spawn(TAKER, channel.name, "wait", 1)
    taker.expect((job(1), 0))
    receiver = spawn(PEER + f"step.tell(channel.{call})", channel.name, "raise")
    receiver.wait_blocked("shared_futex")
    taker.kill()
    receiver.expect(job(1))
    receiver.wait()


def test_an_event_loop_gets_the_message_of_a_dead_taker(
    channel: Channel[bytes], spawn: Spawn
) -> None:
    channel.send(job(1))
    taker = spawn(TAKER, channel.name, "wait", 1)
    taker.expect((job(1), 0))

    async def main() -> None:
        waiting = asyncio.create_task(aio.wrap(channel).take(timeout=30))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        taker.kill()
        with await waiting as delivery:
            assert (delivery.value, delivery.redelivered) == (job(1), 1)

    asyncio.run(main())


def test_receivers_wait_for_a_taker_and_then_get_peer_gone(
    channel: Channel[bytes], spawn: Spawn
) -> None:
    sender = spawn(SENDER, channel.name, "raise", [job(1), job(2)])
    sender.expect("sent")
    taker = spawn(TAKER, channel.name, "raise", 2)
    taker.expect((job(1), 0))
    taker.expect((job(2), 0))
    iterates = "for each in channel: step.tell(each)\nstep.tell('end')"
    receiver = spawn(PEER + iterates, channel.name, "raise")
    waits = "async def main():\n    async for each in aio.wrap(channel): step.tell(each)\n"
    waits += "asyncio.run(main())\nstep.tell('end')"
    loop = spawn("import asyncio\nfrom ipckit import aio\n" + PEER + waits, channel.name, "raise")
    sender.kill()
    with pytest.raises(Timeout):
        channel.take(0.2)
    taker.tell(("ack", 0))
    taker.expect("done")
    with pytest.raises(Timeout):
        channel.take(0.2)
    receiver.wait_blocked("shared_futex")
    taker.tell(("ack", 0))  # and the taker lives on
    taker.expect("done")
    with pytest.raises(PeerGone):
        channel.take(60)
    receiver.expect("end")
    loop.expect("end")
    receiver.wait()
    loop.wait()
    taker.kill()


def test_peer_gone_wait_takes_what_a_dead_taker_had(channel: Channel[bytes], spawn: Spawn) -> None:
    sender = spawn(SENDER, channel.name, "raise", [job(1)])
    sender.expect("sent")
    taker = spawn(TAKER, channel.name, "wait", 1)
    taker.expect((job(1), 0))
    patient = spawn(TAKER, channel.name, "wait", 2)
    patient.wait_blocked("shared_futex")
    sender.kill()
    taker.kill()
    patient.expect((job(1), 1))
    channel.send(job(2))
    patient.expect((job(2), 0))
    patient.kill()


def test_a_taker_that_exits_gives_its_messages_back(channel: Channel[bytes], spawn: Spawn) -> None:
    channel.send(job(1))
    channel.send(job(2))
    code = PEER + "taken = [channel.take(), channel.take()]\nos._exit(0)"
    spawn(code, channel.name, "raise").wait()
    found = [(each.value, each.redelivered) for each in [channel.take(), channel.take()]]
    assert found == [(job(1), 1), (job(2), 1)]


@pytest.mark.parametrize("way", ["os._exit(0)", "sys.exit()", "os.kill(os.getpid(), 9)"])
def test_the_exit_of_a_forked_child_gives_nothing_back(
    channel: Channel[bytes], spawn: Spawn, way: str
) -> None:
    channel.send(job(1))
    code = f"import sys\n{PEER}delivery = channel.take()\npid = os.fork()\nif pid == 0: {way}\n"
    code += "os.waitpid(pid, 0)\nstep.tell('child ended')\nstep.hear()\ndelivery.ack()"
    parent = spawn(code, channel.name, "raise")
    parent.expect("child ended")
    with pytest.raises(WouldBlock):
        channel.take(0)
    assert channel.stats().taken == 1
    parent.tell("go on")
    parent.wait()
    assert channel.stats().bytes_used == channel.stats().taken == len(channel) == 0


def test_a_dead_parent_gives_back_although_its_child_lives(
    channel: Channel[bytes], spawn: Spawn
) -> None:
    channel.send(job(1))
    code = PEER + "delivery = channel.take()\n"
    code += "if os.fork() == 0:\n    step.tell(os.getpid())\nstep.hear()"
    parent = spawn(code, channel.name, "raise")
    child = parent.hear()
    os.kill(parent.pid, signal.SIGKILL)
    with channel.take(10) as delivery:
        assert (delivery.value, delivery.redelivered) == (job(1), 1)
    os.kill(child, signal.SIGKILL)
    parent.kill()


# -- stopped ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["ack", "requeue"])
def test_a_stopped_taker_keeps_its_messages(
    channel: Channel[bytes], spawn: Spawn, end: str
) -> None:
    for number in range(3):
        channel.send(job(number))
    taker = spawn(TAKER, channel.name, "raise", 2)
    taker.expect((job(0), 0))
    taker.expect((job(1), 0))
    taker.send_signal(signal.SIGSTOP)
    with channel.take(10) as delivery:
        assert delivery.value == job(2)
    with pytest.raises(Timeout):
        channel.take(0.3)
    assert channel.stats().taken == 2
    taker.tell((end, 0))
    taker.send_signal(signal.SIGCONT)
    taker.expect("done")
    want: Any = [(job(0), 1)] if end == "requeue" else []
    found = []
    while len(channel):
        with channel.take(10) as delivery:
            found.append((delivery.value, delivery.redelivered))
    assert found == want
    taker.send_signal(signal.SIGSTOP)
    taker.kill()
    with channel.take(10) as delivery:
        assert (delivery.value, delivery.redelivered) == (job(1), 1)


def test_control_c_ends_the_wait_of_a_take(channel: Channel[bytes], spawn: Spawn) -> None:
    channel.send(job(1))
    code = PEER + "kept = channel.take()\nstep.tell('ready')\ntry: channel.take()\n"
    code += "except KeyboardInterrupt: step.tell('interrupted')\nkept.requeue()"
    taker = spawn(code, channel.name, "wait")
    taker.expect("ready")
    taker.wait_blocked("shared_futex")
    taker.send_signal(signal.SIGINT)
    taker.expect("interrupted")
    taker.wait()
    assert channel.take(10).redelivered == 1
    assert channel.receive(timeout=10) == job(1)


def test_control_c_ends_the_wait_for_memory(name: str, spawn: Spawn) -> None:
    with Channel.create(name, size=1 << 16) as channel:
        for _ in range(64):
            channel.send(b"x")
        code = PEER + "kept = []\ntry:\n    while True:\n        kept.append(channel.take())\n"
        code += "        step.tell(len(kept))\nexcept KeyboardInterrupt: step.tell('interrupted')"
        taker = spawn(code, name, "wait")
        for count in range(1, 18):
            taker.expect(count)
        taker.wait_blocked("shared_futex")
        taker.send_signal(signal.SIGINT)
        taker.expect("interrupted")
        taker.wait()
        assert len(channel.receive_many(timeout=10)) == 64
        channel.unlink()
