"""Message queues under hundreds of kills: no message is torn, duplicated or lost unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ipckit import PosixMessageQueue, SysVMessageQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

# One interpreter forks the victims, because starting an interpreter for each would take most of the
# time. A victim reports each message in a line to a pipe; one write of a line is atomic.
KILLER = """
import os, random, select, signal, sys, zlib
from ipckit import PosixMessageQueue, SysVMessageQueue, WouldBlock
KIND, WHERE, ROUNDS = args
CLASS = SysVMessageQueue if KIND == "sysv" else PosixMessageQueue

def encode(who, number):
    text = b"%d %d " % (who, number) + b"x" * (number % 40)
    return b"%08x " % zlib.crc32(text) + text

def decode(data):
    crc, _, text = data.partition(b" ")
    assert int(crc, 16) == zlib.crc32(text), data
    who, number, _ = text.split(b" ")
    return int(who), int(number)

def victim(act, queue):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            act(queue, lambda who, number: os.write(writer, b"%d %d\\n" % (who, number)))
            os._exit(0)
        except BaseException as exc:
            os.write(2, repr(exc).encode())
            os._exit(9)
    os.close(writer)
    return pid, reader

def kill_after(pid, reader, lines):
    # Kills the victim at some moment after that many lines, and returns all lines.
    text = b""
    while text.count(b"\\n") < lines and (more := os.read(reader, 65536)):
        text += more
    os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    while more := os.read(reader, 65536):
        text += more
    os.close(reader)
    return [tuple(map(int, line.split())) for line in text.splitlines()]

def send_all(who):
    def act(queue, note):
        number = 0
        while True:
            queue.send(encode(who, number), timeout=random.choice([None, 600]))
            note(who, number)
            number += 1
    return act

def receive_all(queue, note):
    while True:
        note(*decode(queue.receive(timeout=random.choice([None, 600])).value))
"""


class Kind:
    def __init__(self, name: str, ns: Namespace) -> None:
        self.name = name
        self.where: Any = ns.key() if name == "sysv" else ns.name()
        self.queue: Any = (
            SysVMessageQueue.create(self.where, max_bytes=512)
            if name == "sysv"
            else PosixMessageQueue.create(self.where, max_messages=8, max_size=64)
        )


@pytest.fixture(params=["sysv", "posix"])
def kind(request: pytest.FixtureRequest, ns: Namespace) -> Iterator[Kind]:
    made = Kind(request.param, ns)
    with made.queue:
        yield made


def test_hundreds_of_killed_senders(kind: Kind, spawn: Callable[..., Child]) -> None:
    code = """
queue = CLASS.open(WHERE)
for who in range(ROUNDS):
    pid, reader = victim(send_all(who), queue)
    got = [decode(queue.receive().value) for _ in range(random.randrange(30))]
    sent = kill_after(pid, reader, 0)
    try:
        while True:
            got.append(decode(queue.receive(timeout=0).value))
    except WouldBlock:
        pass
    # Whole messages in their order: all that were reported, and at most one more.
    assert got == [(who, number) for number in range(len(got))], (who, got)
    assert len(got) - len(sent) in (0, 1), (who, len(got), len(sent))
queue.close()
"""
    spawn(KILLER + code, kind.name, kind.where, 300).wait(300)
    assert len(kind.queue) == 0


def test_hundreds_of_killed_receivers(kind: Kind, spawn: Callable[..., Child]) -> None:
    code = """
def quiet(queue, note):
    for number in range(10**9):
        queue.send(encode(0, number))
queue = CLASS.open(WHERE)
sender, reader = victim(quiet, queue)
# Each receiver may have died with one message that it had not reported.
expected, lost, killed_since = 0, 0, 0
for _ in range(ROUNDS):
    pid, lines = victim(receive_all, queue)
    for who, number in kill_after(pid, lines, random.randrange(20)):
        assert 0 <= number - expected <= killed_since, (number, expected, killed_since)
        lost += number - expected
        expected, killed_since = number + 1, 0
    killed_since += 1
assert lost <= ROUNDS
kill_after(sender, reader, 0)
rest = []
try:
    while True:
        rest.append(decode(queue.receive(timeout=0).value)[1])
except WouldBlock:
    pass
assert not rest or 0 <= rest[0] - expected <= killed_since, (rest[0], expected, killed_since)
assert not rest or rest == list(range(rest[0], rest[-1] + 1))
queue.close()
result = expected
"""
    child = spawn(KILLER + code, kind.name, kind.where, 300)
    child.wait(300)
    assert child.result > 300
    assert len(kind.queue) == 0


def test_many_senders_while_receivers_are_killed(kind: Kind, spawn: Callable[..., Child]) -> None:
    # Four senders run to their end while receivers are killed. No message is received twice, none
    # is torn, and each missing one was lost by a killed receiver.
    code = """
COUNT = 5000
def numbered(who):
    def act(queue, note):
        for number in range(COUNT):
            queue.send(encode(who, number))
        note(who, COUNT)
    return act
def receive_some(queue, note):
    # A fixed number, or the other receiver of the pair could wait for ever.
    for _ in range(80):
        note(*decode(queue.receive(timeout=random.choice([None, 600])).value))
    signal.pause()
queue = CLASS.open(WHERE)
senders = [victim(numbered(who), queue) for who in range(4)]
seen, kills = [], 0
# If fewer messages are left, a receiver could wait for ever.
while len(seen) < 4 * COUNT - kills - 400:
    pair = [victim(receive_some, queue) for _ in range(2)]
    for pid, lines in pair:
        reported = kill_after(pid, lines, random.randrange(80))
        for who in range(4):
            order = [number for each, number in reported if each == who]
            assert order == sorted(order)
        seen += reported
        kills += 1
# This process receives the rest, so that the senders reach their end.
waiting = {reader: pid for pid, reader in senders}
while waiting:
    try:
        seen.append(decode(queue.receive(timeout=0.01).value))
    except TimeoutError:
        pass
    for reader in select.select(list(waiting), [], [], 0)[0]:
        os.close(reader)
        assert os.waitpid(waiting.pop(reader), 0)[1] == 0
try:
    while True:
        seen.append(decode(queue.receive(timeout=0).value))
except WouldBlock:
    pass
assert len(set(seen)) == len(seen), "a message was received twice"
missing = {(who, number) for who in range(4) for number in range(COUNT)} - set(seen)
assert len(missing) <= kills, (len(missing), kills)
queue.close()
result = len(seen), kills
"""
    child = spawn(KILLER + code, kind.name, kind.where, 0)
    child.wait(300)
    seen, kills = child.result
    assert seen > 19000
    assert kills >= 200
