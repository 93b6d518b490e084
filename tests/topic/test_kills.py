"""Publishers and subscribers that are killed: the others go on, and get what they were promised."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from ipckit import PeerGone, Timeout, Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

    Spawn = Callable[..., Child]

SIZE = 1 << 20

PEER = """
from ipckit import PeerGone, Timeout, Topic
from ipckit.testing import step
topic = Topic.open(args[0])
"""
SUBSCRIBER = (
    PEER
    + """
with topic.subscribe(**args[1]) as messages:
    views = [messages.receive_view() for _ in range(args[2])]
    step.tell("ready")
    step.hear()
    for view in views:
        view.release()
    step.tell([messages.receive() for _ in range(len(messages))])
    step.hear()
"""
)
PUBLISHER = PEER + "for each in args[1]: topic.publish(each)\nstep.tell('published')\nstep.hear()"


@pytest.fixture
def topic(ns: Namespace) -> Iterator[Topic[bytes]]:
    with Topic.create(ns.name(), capacity=16, history=16, size=SIZE) as made:
        yield made
        made.unlink(missing_ok=True)


# -- chaos -----------------------------------------------------------------------------------------

# Forks two publishers, a recorder that is not killed, and three subscribers of other kinds. Kills
# all but the recorder, one after the other, and checks their records.
CHAOS = """
import random, time
from chaos import Crew, Log, body, number_of
from ipckit import PeerGone, Timeout, Topic

name, kills, seed = args[0], args[1], args[2]
inherited = Topic.open(name)
LENGTHS = [8, 60, 2000, 20 * 1024]

def publish(topic, life, log):
    number = life << 32
    while not crew.stage:
        number += 1
        length = random.choice(LENGTHS)
        try:
            if random.random() < 0.5:
                topic.publish(body(number, length), timeout=0.05)
            else:
                with topic.loan(length, timeout=0.05) as loan:
                    loan.buf[:] = body(number, length)
                    loan.send(timeout=0.05)
        except Timeout:
            continue
        log.note(number)

def record(topic, life, log, **options):
    kept = []
    with topic.subscribe(**options) as messages:
        while True:
            last_turn = crew.stage == 2
            try:
                view = messages.receive_view(timeout=0.05)
            except (Timeout, PeerGone):
                if last_turn:
                    break
                continue
            log.note(number_of(view.buf))
            kept.append(view)
            if len(kept) > random.randrange(4):
                random.shuffle(kept)
                for each in kept:
                    number_of(each.buf)  # still whole
                kept.clear()
            del view
        assert options or messages.lost == 0
        for each in kept:
            each.release()

PLACES = [
    (publish, {}), (publish, {}), (record, {"when_full": "drop_oldest", "depth": 1}),
    (record, {"when_full": "drop_oldest"}), (record, {"depth": 4}), (record, {}),
]
logs = [Log() for _ in range(len(PLACES) + kills)]

def work(place, life):
    publishes_or_records, options = PLACES[place]
    topic = inherited if random.random() < 0.5 else Topic.open(name)
    publishes_or_records(topic, life, logs[life - 1], **options)
    topic.close()

crew = Crew(work, seed)
random.seed(seed)
crew.start(5)
while not inherited.subscribers():
    time.sleep(0.01)
for place in range(5):
    crew.start(place)
crew.kill_some(kills, places=5, pause=0.03)
crew.stop([0, 1], stage=1)
crew.stop([2, 3, 4, 5], stage=2)  # subscribers once all is published

records = [(PLACES[place][0], log.read()) for place, log in zip(crew.places, logs)]
published = [numbers for work, numbers in records if work is publish]
recorded, *others = [numbers for work, numbers in records if work is record]
place_of = {number: place for place, number in enumerate(recorded)}
assert len(place_of) == len(recorded), "a message came twice"
lost = {number for numbers in published for number in numbers} - set(recorded)
assert not lost, f"{len(lost)} messages are lost"
assert len(recorded) > kills, len(recorded)
for numbers in published:  # those of one publisher are in its order
    places = [place_of[number] for number in numbers]
    assert places == sorted(places)
for numbers in others:  # all see one order
    places = [place_of[number] for number in numbers]
    assert places == sorted(set(places)), "another order"
assert inherited.subscribers() == []
inherited.publish(b"." * 20000)  # frees what nobody needs
inherited.close()
result = (len(recorded), len(others))
"""


def test_the_recorder_gets_all_messages_when_others_are_killed(
    topic: Topic[bytes], spawn: Spawn
) -> None:
    spawn(CHAOS, topic.name, 25, 1).wait(60)
    check_no_memory_is_lost(topic)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_the_recorder_gets_all_messages_in_a_thousand_kills(
    topic: Topic[bytes], spawn: Spawn, seed: int
) -> None:
    spawn(CHAOS, topic.name, 1500, seed).wait(400)
    check_no_memory_is_lost(topic)


def check_no_memory_is_lost(topic: Topic[bytes]) -> None:
    """Fill the whole memory with the longest messages."""
    with topic.subscribe(history=0, depth=2) as messages:
        for _ in range(20):
            for _ in range(2):
                topic.publish(b"x" * (topic.longest // 2), timeout=0)
            assert len(messages.receive_many()) == 2


# -- killed ----------------------------------------------------------------------------------------


def test_a_killed_subscriber_frees_the_publisher(topic: Topic[bytes], spawn: Spawn) -> None:
    subscriber = spawn(SUBSCRIBER, topic.name, {}, 0)
    subscriber.expect("ready")
    for _ in range(16):
        topic.publish(b"x")
    with pytest.raises(Timeout, match=rf"subscriber pid {subscriber.pid} .* has 16 unread"):
        topic.publish(b"y", timeout=0.01)
    subscriber.kill()
    topic.publish(b"y", timeout=10)
    assert topic.subscribers() == []


def test_a_waiting_publisher_goes_on_when_the_subscriber_is_killed(
    topic: Topic[bytes], spawn: Spawn
) -> None:
    subscriber = spawn(SUBSCRIBER, topic.name, {"depth": 1}, 0)
    subscriber.expect("ready")
    publisher = spawn(PUBLISHER, topic.name, [b"1", b"2"])
    publisher.wait_blocked("shared_futex")
    subscriber.kill()
    publisher.expect("published")
    publisher.tell("end")
    publisher.wait()


def test_the_views_of_a_killed_subscriber_are_freed(topic: Topic[bytes], spawn: Spawn) -> None:
    big = b"x" * topic.longest
    for _ in range(2):
        topic.publish(big)
    subscriber = spawn(SUBSCRIBER, topic.name, {"when_full": "drop_oldest"}, 2)
    subscriber.expect("ready")
    with pytest.raises(Timeout):  # with which message of big it happens depends on the memory
        topic.publish_many([big] * 16, timeout=0.1)
    subscriber.kill()
    for _ in range(16):
        topic.publish(big, timeout=10)


def test_other_subscribers_keep_the_views_that_a_killed_one_had_too(
    topic: Topic[bytes], spawn: Spawn
) -> None:
    big = b"x" * (topic.longest // 2)
    topic.publish(big)
    subscriber = spawn(SUBSCRIBER, topic.name, {}, 1)
    with topic.subscribe(when_full="drop_oldest") as own:
        view = own.receive_view()
        subscriber.expect("ready")
        subscriber.kill()
        for number in range(20):
            topic.publish(bytes([number]) * len(big), timeout=10)
        assert view.buf == big


def test_a_killed_publisher_leaves_whole_messages_and_its_last_is_the_end(
    topic: Topic[bytes], spawn: Spawn
) -> None:
    topic.subscribe().close()  # so that this handle does not count as a publisher
    publisher = spawn(PUBLISHER, topic.name, [b"1", b"2" * 5000])
    with topic.subscribe(history=0) as messages:
        publisher.expect("published")
        publisher.kill()
        assert sorted(messages)[-1] == b"2" * 5000
        with pytest.raises(PeerGone):
            messages.receive()


@pytest.mark.parametrize("waiting", ["receive()", "receive_view()", "__iter__().__next__()"])
def test_a_waiting_subscriber_is_told_that_the_last_publisher_was_killed(
    topic: Topic[bytes], spawn: Spawn, waiting: str
) -> None:
    topic.subscribe().close()
    publisher = spawn(PUBLISHER, topic.name, [b"1"])
    publisher.expect("published")
    code = f"topic.subscribe(history=0).{waiting}"
    ends = "StopIteration" if "iter" in waiting else "PeerGone"
    body = f"try:\n    {code}\nexcept {ends}:\n    step.tell('gone')\nstep.hear()"
    subscriber = spawn(PEER + body, topic.name)
    subscriber.wait_blocked("shared_futex")
    publisher.kill()
    subscriber.expect("gone")
    subscriber.kill()


def test_sixty_four_killed_subscribers_leave_their_places(
    topic: Topic[bytes], spawn: Spawn
) -> None:
    fill = PEER + "all = [topic.subscribe() for _ in range(64)]\nstep.tell('ready')\nstep.hear()"
    for _ in range(3):
        subscriber = spawn(fill, topic.name)
        subscriber.expect("ready")
        assert len(topic.subscribers()) == 64
        subscriber.kill()
        assert topic.subscribers() == []


# -- stopped ---------------------------------------------------------------------------------------


def test_publishers_do_not_wait_for_a_stopped_subscriber_that_drops(
    topic: Topic[bytes], spawn: Spawn
) -> None:
    subscriber = spawn(SUBSCRIBER, topic.name, {"when_full": "drop_oldest", "history": 0}, 0)
    subscriber.expect("ready")
    os.kill(subscriber.pid, signal.SIGSTOP)
    try:
        for number in range(1000):
            topic.publish(b"%d" % number, timeout=0)
        (facts,) = topic.subscribers()
        assert (facts.unread, facts.lost) == (16, 984)
    finally:
        os.kill(subscriber.pid, signal.SIGCONT)
    subscriber.tell("go on")
    subscriber.expect([b"%d" % number for number in range(984, 1000)])
    subscriber.tell("end")
    subscriber.wait()


def test_a_stopped_subscriber_is_not_dead(topic: Topic[bytes], spawn: Spawn) -> None:
    subscriber = spawn(SUBSCRIBER, topic.name, {"history": 0}, 0)
    subscriber.expect("ready")
    os.kill(subscriber.pid, signal.SIGSTOP)
    try:
        for number in range(16):
            topic.publish(b"%d" % number, timeout=0)
        with pytest.raises(Timeout, match="has 16 unread"):
            topic.publish(b"x", timeout=0.5)
    finally:
        os.kill(subscriber.pid, signal.SIGCONT)
    subscriber.tell("go on")
    subscriber.expect([b"%d" % number for number in range(16)])
    topic.publish(b"x", timeout=10)
    subscriber.tell("end")
    subscriber.wait()
