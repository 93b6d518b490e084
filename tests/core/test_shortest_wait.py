"""A wait that is over before the first attempt ends with Timeout, as each other wait does."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import (
    Channel,
    Int,
    PosixMessageQueue,
    PosixSemaphore,
    Struct,
    SysVMessageQueue,
    SysVSemaphoreSet,
    Timeout,
    Topic,
    WouldBlock,
    pair,
)
from ipckit.unixsock import connect, listen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Namespace

    Call = Callable[[float], object]

SHORTEST = 1e-9


class Job(Struct):
    number: Int


def filled(send: Callable[..., object], *args: object) -> None:
    """Send until there is no more room."""
    with suppress(WouldBlock):
        while True:
            send(*args, timeout=0)


# Calls that would have to wait, each with a function of its timeout.


def on_queues_and_semaphores(stack: ExitStack, ns: Namespace) -> Iterator[tuple[str, Call]]:
    enter = stack.enter_context

    queue = enter(SysVMessageQueue.create(ns.key()))
    yield "SysV receive", lambda t: queue.receive(timeout=t)
    full = enter(SysVMessageQueue.create(ns.key()))
    filled(full.send, bytes(4096))
    yield "SysV send", lambda t: full.send(bytes(4096), timeout=t)

    posix = enter(PosixMessageQueue.create(ns.name(), max_messages=1))
    yield "mq receive", lambda t: posix.receive(timeout=t)
    busy = enter(PosixMessageQueue.create(ns.name(), max_messages=1))
    busy.send(b"x")
    yield "mq send", lambda t: busy.send(b"x", timeout=t)

    semaphores = enter(SysVSemaphoreSet.create(ns.key(), values=[0]))
    yield "SysV acquire", lambda t: semaphores[0].acquire(timeout=t)
    semaphore = PosixSemaphore.create(ns.name(), value=0)
    stack.callback(semaphore.close)
    stack.callback(semaphore.unlink)
    yield "POSIX acquire", lambda t: semaphore.acquire(timeout=t)


def on_sockets(stack: ExitStack, ns: Namespace) -> Iterator[tuple[str, Call]]:
    enter = stack.enter_context
    for kind in ("stream", "seqpacket", "dgram"):
        one, other = map(enter, pair(kind))
        yield f"{kind} receive", lambda t, other=other: other.receive(timeout=t)
        first, second = map(enter, pair(kind))
        filled(first.send, bytes(4096))
        yield f"{kind} send", lambda t, first=first: first.send(bytes(4096), timeout=t)
        del one, second
    path = ns.path()
    listener = enter(listen(path, backlog=1))
    yield "accept", lambda t: listener.accept(timeout=t)
    with suppress(WouldBlock):
        while True:
            enter(connect(path, timeout=0))
    yield "connect", lambda t: connect(path, timeout=t)


def on_channels_and_topics(stack: ExitStack, ns: Namespace) -> Iterator[tuple[str, Call]]:
    enter = stack.enter_context
    channel = enter(Channel.create(ns.name(), Job, capacity=2, peer_gone="wait"))
    yield "channel receive", lambda t: channel.receive(timeout=t)
    yield "channel receive_many", lambda t: channel.receive_many(timeout=t)
    yield "channel take", lambda t: channel.take(timeout=t)
    crowded = enter(Channel.create(ns.name(), Job, capacity=2, peer_gone="wait"))
    filled(crowded.send, Job(1))
    yield "channel send", lambda t: crowded.send(Job(1), timeout=t)
    yield "channel send_many", lambda t: crowded.send_many([Job(1)] * 3, timeout=t)

    jobs = np.zeros(3, Job.dtype)
    yield "channel send_many of an array", lambda t: crowded.send_many(jobs, timeout=t)

    topic = enter(Topic.create(ns.name(), Job, capacity=2, peer_gone="wait"))
    slow = enter(topic.subscribe(when_full="wait"))
    idle = enter(topic.subscribe(when_full="drop_oldest"))
    yield "topic receive", lambda t: idle.receive(timeout=t)
    yield "topic receive_many", lambda t: idle.receive_many(timeout=t)
    filled(topic.publish, Job(1))
    yield "topic publish", lambda t: topic.publish(Job(1), timeout=t)
    yield "topic publish_many", lambda t: topic.publish_many([Job(1)] * 3, timeout=t)
    yield "topic publish_many of an array", lambda t: topic.publish_many(jobs, timeout=t)
    del slow


@pytest.mark.parametrize("calls", [on_queues_and_semaphores, on_sockets, on_channels_and_topics])
def test_a_wait_of_a_nanosecond_ends_with_timeout(
    calls: Callable[[ExitStack, Namespace], Iterator[tuple[str, Call]]], ns: Namespace
) -> None:
    wrong: dict[str, Any] = {}
    with ExitStack() as stack:
        for name, call in calls(stack, ns):
            for _ in range(20):
                try:
                    wrong[name] = call(SHORTEST)
                except Timeout:
                    continue
                except Exception as exc:
                    wrong[name] = exc
                break
            with pytest.raises(WouldBlock):
                call(0)
    assert wrong == {}
