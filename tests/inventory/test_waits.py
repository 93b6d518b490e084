"""What processes hold and wait on, for how long, and which processes can end a wait."""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import socket
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import (
    Channel,
    PosixMessageQueue,
    PosixSemaphore,
    PosixSharedMemory,
    SysVMessageQueue,
    SysVSemaphoreSet,
    Topic,
    inventory,
)
from ipckit._core.blocked_calls import Call, call_of
from ipckit._core.files import SHM
from ipckit._inventory import sleep_clock
from ipckit._inventory.blockers import blockers_of_peer
from ipckit._inventory.sleep_clock import SleepClock
from ipckit.inventory import IpcObject, Peer, Process, ProcessSurvey, ProcessUse, Survey, Wait
from ipckit.testing import Child, wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace

# One process whose threads wait in all the ways that `targets` knows.
WAITER = """
    import ctypes, fcntl, mmap, os, select, selectors, socket, threading
    from ipckit import *
    from ipckit.testing import step

    names, queue_id, set_id, listener, directory = args
    libc = ctypes.CDLL(None, use_errno=True)
    queue, semaphores = SysVMessageQueue.from_id(queue_id), SysVSemaphoreSet.from_id(set_id)
    posix = PosixMessageQueue.open(names["mq"])
    semaphore = PosixSemaphore.open(names["sem"])
    empty, full = Channel.open(names["empty"]), Channel.open(names["full"])
    topic = Topic.open(names["topic"])
    file = open("/dev/shm" + names["shm"], "r+b")
    memory = mmap.mmap(file.fileno(), 4096)
    mutex = ctypes.c_char.from_buffer(memory)

    def connected():
        client = socket.socket(socket.AF_UNIX)
        client.connect(listener)
        return client

    accepting = socket.socket(socket.AF_UNIX)
    accepting.bind("\\0" + names["accepting"])
    accepting.listen()
    busy = socket.socket(socket.AF_UNIX)  # its backlog is full
    busy.bind("\\0" + names["busy"])
    busy.listen(0)
    first = socket.socket(socket.AF_UNIX)
    first.connect("\\0" + names["busy"])
    clients = [connected() for _ in range(3)]
    watched = select.epoll()
    watched.register(clients[1].fileno(), select.EPOLLIN)

    def fill():
        while True:
            full.send(b"message")

    def connect_again():
        socket.socket(socket.AF_UNIX).connect("\\0" + names["busy"])

    waits = [
        queue.receive,
        lambda: queue.receive(5, timeout=1000),
        lambda: semaphores.op([SemOp(0, -1), SemOp(1, -1)]),
        semaphores[2].wait_zero,
        lambda: posix.receive(timeout=1000),
        posix.receive,
        semaphore.acquire,
        empty.receive,
        fill,
        accepting.accept,
        connect_again,
        lambda: clients[0].recv(1),
        watched.poll,
        lambda: select.select([clients[2]], [], []),
        lambda: fcntl.flock(file, fcntl.LOCK_EX),
        lambda: libc.pthread_mutex_lock(ctypes.byref(mutex)),
        topic.subscribe().receive,
    ]
    for each in waits:
        threading.Thread(target=each, daemon=True).start()
    step.tell("started")
    step.hear()
"""
WAITS = 17
CALLS = (
    *("msgrcv", "semop", "poll", "mq_timedreceive", "shared_futex", "accept", "connect"),
    *("recvfrom", "epoll_wait", "select", "flock"),
)


def locked_mutex(memory: mmap.mmap) -> ctypes.c_char:
    """Put a locked pthread mutex that processes can share at the start of some memory."""
    libc = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(64)
    mutex = ctypes.c_char.from_buffer(memory)
    assert libc.pthread_mutexattr_init(attributes) == 0
    assert libc.pthread_mutexattr_setpshared(attributes, 1) == 0
    assert libc.pthread_mutex_init(ctypes.byref(mutex), attributes) == 0
    assert libc.pthread_mutex_lock(ctypes.byref(mutex)) == 0
    return mutex


def seen(pid: int) -> ProcessUse:
    return inventory.survey_processes().processes[pid]


def until(condition: Callable[[ProcessUse], bool], pid: int) -> ProcessUse:
    """Look at a process until a condition holds, for the waits that no system call shows."""
    deadline = time.monotonic() + 10
    while True:
        found = seen(pid)
        if condition(found):
            return found
        assert time.monotonic() < deadline, found


def all_are_seen(found: ProcessUse) -> bool:
    """Whether every wait of WAITER is seen. A channel notes one after it has lasted for 40 ms."""
    return len(found.waits) == WAITS and all(each.waits_for != "change" for each in found.waits)


def test_each_way_to_wait(ns: Namespace, spawn: Callable[..., Child]) -> None:  # noqa: PLR0915
    names = {each: ns.name() for each in ("mq", "sem", "shm")}
    names |= {each: ns.name()[1:] for each in ("empty", "full", "topic", "accepting", "busy")}
    listener = str(ns.path(".sock"))
    with (
        SysVMessageQueue.create(None) as queue,
        SysVSemaphoreSet.create(None, [1, 0, 1]) as semaphores,
        PosixMessageQueue.create(names["mq"]) as posix,
        closing(PosixSemaphore.create(names["sem"], 0)) as semaphore,
        Channel.create(names["empty"]) as empty,
        Channel.create(names["full"], capacity=2) as full,
        Topic.create(names["topic"]) as topic,
        PosixSharedMemory.create(names["shm"], 4096) as shm,
        socket.socket(socket.AF_UNIX) as server,
        Path(SHM, names["shm"][1:]).open("r+b") as file,
    ):
        queue.send(b"x")
        queue.receive()
        empty.send(b"x")
        empty.receive()
        topic.publish(b"x")
        semaphores[1].release()
        semaphores[1].acquire()
        semaphores[2].release()
        fcntl.flock(file, fcntl.LOCK_EX)
        mutex = locked_mutex(mmap.mmap(file.fileno(), 4096))
        server.bind(listener)
        server.listen()
        server.settimeout(30)
        child = spawn(WAITER, names, queue.id, semaphores.id, listener, str(ns.directory))
        accepted = [server.accept()[0] for _ in range(3)]
        child.expect("started")
        wait_blocked(child.pid, *CALLS[:1])
        for call in CALLS:
            wait_blocked(child.pid, call)
        blocked = time.monotonic()
        found = until(all_are_seen, child.pid)
        elapsed = time.monotonic() - blocked
        child.kill()
        del mutex
        for each in (queue, semaphores, posix, semaphore, empty, full, topic, shm):
            each.unlink()
        for connection in accepted:
            connection.close()

    q, s = f"q:{queue.id}", f"s:{semaphores.id}"
    mq, shm_address = f"mq:{names['mq']}", f"shm:{names['shm']}"
    unix = f"socket:{listener}"
    waits = {(each.address, each.waits_for, each.call, each.index): each for each in found.waits}
    me = os.getpid()
    expected = {
        (q, "message", "msgrcv", None): [(me, "sent last")],
        (q, "message", "sleep", None): [(me, "sent last")],
        (s, "semaphore", "semop", 1): [(me, "changed it last")],
        (s, "zero", "semop", 2): [(me, "changed it last")],
        (mq, "message", "poll", None): [(me, "has it open")],
        (mq, "message", "mq_timedreceive", None): [(me, "has it open")],
        (f"sem:{names['sem']}", "semaphore", "futex", None): [(me, "has it mapped")],
        (f"channel:{names['empty']}", "message", "futex", None): [(me, "sender")],
        (f"channel:{names['full']}", "room", "futex", None): [
            (me, "has it open, has not sent or received")
        ],
        (f"socket:@{names['accepting']}", "connection", "accept", None): [],
        (f"socket:@{names['busy']}", "connection", "connect", None): [(child.pid, "listens")],
        (unix, "data", "recvfrom", None): [(me, "is at the other end")],
        (unix, "data", "epoll_wait", None): [(me, "is at the other end")],
        (unix, "data", "select", None): [(me, "is at the other end")],
        (shm_address, "lock", "flock", None): [(me, "locked it")],
        (shm_address, "lock", "futex", None): [(me, "owns the mutex")],
        (f"topic:{names['topic']}", "message", "futex", None): [(me, "publisher")],
    }
    assert {
        key: [(each.pid, each.how) for each in wait.blockers] for key, wait in waits.items()
    } == expected
    assert {each.bound for each in found.waits if each.call in {"epoll_wait", "select"}} <= {
        "at least"
    }
    assert waits[q, "message", "sleep", None].bound == "about"
    assert all(each.pid == child.pid for each in found.waits)
    exact = waits[q, "message", "msgrcv", None]
    assert exact.tid not in {0, child.pid}
    if exact.seconds is not None:  # the kernel has CONFIG_SCHED_DEBUG
        assert elapsed - 0.1 <= exact.seconds <= 60
        assert exact.bound == ""
    held = {each.address: each.how for each in found.holds}
    assert set(held) >= {mq, shm_address, f"socket:@{names['accepting']}"}
    assert "receiver" in held[f"channel:{names['empty']}"]
    assert "sender" in held[f"channel:{names['full']}"]
    assert "subscriber" in held[f"topic:{names['topic']}"]
    assert (found.parent, found.state, found.seen) == (me, "sleeping", True)
    json.dumps(found.as_dict())


# -- who can end a wait ----------------------------------------------------------------------------


def peer(pid: int, *roles: str, **fields: Any) -> Peer:
    rest: dict[str, Any] = {"waits": "", "waiting": None, "since": 0.0, "sent": 0, "received": 0}
    return Peer(pid=pid, command=f"p{pid}", roles=roles, **(rest | fields))


def ring(kind: Any, *peers: Peer) -> IpcObject:
    return IpcObject(kind, "a", None, 1, 0, 0, "", "", 0o600, 1, peers=peers)


@pytest.mark.parametrize(
    ("kind", "waiting", "others", "blockers"),
    [
        ("channel", peer(1, "sender", waits="room"), [peer(2, "receiver")], {2: "receiver"}),
        ("channel", peer(1, "sender", waits="room"), [peer(2, "sender"), peer(3)], {3: "has it"}),
        (
            "channel",
            peer(1, "sender", waits="room"),
            [peer(2, "receiver", blocks=3, stopped=True), peer(3)],
            {2: "holds the memory of 3 messages, stopped"},
        ),
        ("channel", peer(1, "receiver", waits="message"), [peer(2, "receiver")], {}),
        (
            "channel",
            peer(1, "receiver", waits="lock"),
            [peer(2, "receiver", locks=("receive",)), peer(3, "sender"), peer(4)],
            {2: "holds the receive lock"},
        ),
        (
            "topic",
            peer(1, "publisher", waits="room"),
            [
                peer(2, "subscriber", policy="wait", unread=4),
                peer(3, "subscriber", policy="wait", unread=0),
                peer(4, "subscriber", policy="drop_oldest", unread=4),
            ],
            {2: "subscriber, 4 unread"},
        ),
        ("topic", peer(1, "subscriber", waits="message"), [peer(2, "publisher")], {2: "publisher"}),
        # Another thread of the same process.
        ("channel", peer(1, "sender", waits="room"), [peer(1, "receiver")], {1: "receiver"}),
    ],
)
def test_the_peers_that_can_end_a_wait(
    kind: str, waiting: Peer, others: list[Peer], blockers: dict[int, str]
) -> None:
    found = blockers_of_peer(ring(kind, *others, waiting), waiting)
    assert [each.pid for each in found] == list(blockers)
    assert all(each.how.startswith(blockers[each.pid]) for each in found)


def use(pid: int, *waits: Wait, **fields: Any) -> ProcessUse:
    plain = ProcessUse(pid, 1, 0, "root", f"p{pid}", f"p{pid}", "sleeping", 1, 0.0, seen=True)
    return replace(plain, waits=waits, **fields)


def on(pid: int, *blockers: int) -> Wait:
    processes = tuple(Process(each, f"p{each}", "sender", alive=each < 9) for each in blockers)
    return Wait(pid, pid, "channel:a", "channel", "message", "futex", blockers=processes)


def test_edges_and_participants() -> None:
    uses = [use(1), use(2, on(2, 3)), use(3, on(3, 2, 3), on(3)), use(4), use(5, on(5, 4, 9))]
    found = ProcessSurvey({each.pid: each for each in uses}, Survey((), (), 0.0))
    edges = inventory.edges(found)
    assert [(each.waiter, each.holder.pid) for each in edges] == [(2, 3), (3, 2), (5, 4), (5, 9)]
    assert [each.holder.alive for each in edges] == [True, True, True, False]
    assert [each.pid for each in found.participants] == [2, 3, 4, 5]


# -- /proc -----------------------------------------------------------------------------------------

TAIL = " 0x7ffd13ad67b0 0x7f6f5371a308"


@pytest.mark.parametrize(
    ("machine", "line", "call"),
    [
        ("x86_64", "202 0x10 0x80 0x2 0x0 0x0 0x0" + TAIL, ("futex", 0x10)),
        ("aarch64", "98 0x10 0x80 0x2 0x0 0x0 0x0" + TAIL, ("futex", 0x10)),
        ("x86_64", "271 0x10 0x1 0x0 0x0 0x8 0x0" + TAIL, ("poll", 0x10)),
        ("aarch64", "73 0x10 0x1 0x0 0x0 0x8 0x0" + TAIL, ("poll", 0x10)),
        ("aarch64", "202 0x3 0x0 0x0 0x0 0x0 0x0" + TAIL, ("accept", 3)),
        ("x86_64", "19 0x3 0x0 0x0 0x0 0x0 0x0" + TAIL, ("read", 3)),
        # A 32-bit program, in which 240 is futex.
        ("x86_64", "243 0x3 0x0 0x0 0x0 0x0 0x0 0xffc01230 0xf7f01230", None),
        ("x86_64", "35 0x3 0x0 0x0 0x0 0x0 0x0" + TAIL, None),
        ("riscv64", "98 0x3 0x0 0x0 0x0 0x0 0x0" + TAIL, None),
        ("x86_64", "running", None),
        ("x86_64", "-1 0x7ffd13ad67b0 0x7f6f5371a308", None),
        ("x86_64", "", None),
    ],
)
def test_calls(machine: str, line: str, call: tuple[str, int] | None) -> None:
    found = call_of(line + "\n", machine)
    assert (found and (found.name, found.arguments[0])) == call
    assert found is None or isinstance(found, Call)


def test_a_clock_for_threads_that_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stop = SleepClock(), threading.Event()
    started = time.monotonic()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        slept = clock.slept(os.getpid(), thread.native_id)
        assert slept is None or 0 <= slept <= time.monotonic() - started + 0.1
        # A processor on which this process may not run has an unknown clock.
        monkeypatch.setattr(os, "sched_setaffinity", lambda *_: (_ for _ in ()).throw(OSError()))
        assert SleepClock().slept(os.getpid(), thread.native_id) is None
        # A kernel without CONFIG_SCHED_DEBUG.
        monkeypatch.setattr(sleep_clock, "_last_ran", lambda _: None)
        assert clock.slept(os.getpid(), thread.native_id) is None
    finally:
        stop.set()
        thread.join()
