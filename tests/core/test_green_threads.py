"""Sockets, queues and files where gevent or eventlet has patched the standard library."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

# How each patches. "taken" stands for both on machines that have neither: what they take away is
# taken away by hand.
PATCHES = {
    "taken": "import select; del select.poll, select.epoll",
    "eventlet": "import warnings; warnings.simplefilter('ignore'); import eventlet; "
    "eventlet.monkey_patch()",
    "gevent": "from gevent import monkey; monkey.patch_all()",
}
CALLS = """
    import ipckit, os, socket
    from ipckit import (
        DelimitedFrames, Framed, LengthPrefixed, PosixMessageQueue, Timeout, WouldBlock, connect,
        listen, pair, read_exactly, read_line,
    )

    path, _ = args
    wrong = []

    def fails(what, error, call):
        try:
            call()
        except error:
            return
        except BaseException as exc:
            wrong.append((what, repr(exc)))
            return
        wrong.append((what, "nothing was raised"))

    def fill(send):
        while True:
            send()

    for kind in ("stream", "dgram", "seqpacket"):
        first, second = pair(kind)
        with first, second:
            fails(kind, Timeout, lambda: second.receive(timeout=0.01))
            fails(kind, WouldBlock, lambda: second.receive(timeout=0))
            first.send(b"x", fds=[0], timeout=1)
            with second.receive(max_fds=1, timeout=1) as packet:
                if (packet.data, len(packet.fds)) != (b"x", 1):
                    wrong.append((kind, packet))
            second.pass_credentials = True
            first.send(b"x", credentials=True)
            if second.receive().credentials.pid != os.getpid():
                wrong.append((kind, "credentials"))
            fails(kind, WouldBlock, lambda: fill(lambda: first.send(bytes(9999), timeout=0)))
            fails(kind, Timeout, lambda: fill(lambda: first.send(bytes(9999), timeout=0.01)))

    with listen(path, backlog=0) as listener:
        fails("accept", Timeout, lambda: listener.accept(timeout=0.01))
        fails("accept", WouldBlock, lambda: listener.accept(timeout=0))
        client = connect(path, timeout=1)
        fails("connect", Timeout, lambda: connect(path, timeout=0.01))
        fails("connect", WouldBlock, lambda: connect(path, timeout=0))
        server = listener.accept(timeout=1)
        with Framed(client, LengthPrefixed()) as near, Framed(server, LengthPrefixed()) as far:
            fails("framed", Timeout, lambda: far.receive(timeout=0.01))
            fails("framed", WouldBlock, lambda: far.receive(timeout=0))
            near.send(b"hello", timeout=1)
            if far.receive(timeout=1) != b"hello":
                wrong.append("framed")
            fails("framed", Timeout, lambda: fill(lambda: near.send(bytes(9999), timeout=0.01)))

    with socket.create_server(("127.0.0.1", 0)) as tcp:
        with socket.create_connection(tcp.getsockname()) as near, tcp.accept()[0] as far:
            near.sendall(b"line and more")
            fails("tcp", Timeout, lambda: read_line(far, timeout=0.01))
            fails("tcp", Timeout, lambda: read_exactly(far, 2, timeout=0.01))
            near.sendall(b"ends" + bytes([10]))
            if Framed(far, DelimitedFrames()).receive(timeout=1) != b"ends":
                wrong.append("tcp")

    with PosixMessageQueue.create() as queue:
        fails("queue", Timeout, lambda: queue.receive(timeout=0.01))
    result = wrong
"""


def run(patch: str, order: str, spawn: Callable[..., Child], ns: Namespace, code: str) -> object:
    if patch != "taken" and importlib.util.find_spec(patch) is None:
        pytest.skip(f"{patch} is not installed")
    lines = ["import ipckit", PATCHES[patch]]
    head = "\n    ".join(lines if order == "after" else lines[::-1])
    return spawn(f"    {head}\n{code}", str(ns.path()), order).result


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("patch", PATCHES)
def test_deadlines_hold_under_green_threads(
    patch: str, order: str, spawn: Callable[..., Child], ns: Namespace
) -> None:
    assert run(patch, order, spawn, ns, CALLS) == []


GEVENT = """
    import gevent
    from ipckit import Channel, PeerGone, PosixMessageQueue, Timeout, Topic, pair
    from gevent import select as green_select

    def receive(handle):
        while True:
            try:
                return handle.receive(timeout=0.001)
            except Timeout:
                green_select.select([handle.fileno()], [], [], 0.1)

    with Channel.create() as channel, Topic.create() as topic, topic.subscribe() as messages:
        waiting = [gevent.spawn(receive, each) for each in (channel, messages)]
        gevent.sleep(0)
        channel.send(b"to the channel")
        topic.publish(b"to the topic")
        assert [each.get(timeout=30) for each in waiting] == [b"to the channel", b"to the topic"]
        with Channel.open(channel.name) as reader:
            waiting = gevent.spawn(receive, reader)
            gevent.sleep(0)
            channel.close()  # the last sender
            try:
                waiting.get(timeout=30)
            except PeerGone as exc:
                gone = exc
        assert gone

    with PosixMessageQueue.create() as queue:
        turns = []
        pool = gevent.get_hub().threadpool
        waiting = gevent.spawn(lambda: pool.apply(queue.receive))
        ticking = gevent.spawn(lambda: [turns.append(gevent.sleep(0)) for _ in range(5)])
        ticking.join()
        queue.send(b"from the hub")
        value = waiting.get(timeout=30).value
        first, second = pair()
        with first, second:
            def polled():
                green_select.select([second.fileno()], [], [])
                return second.receive(timeout=0).data
            other = gevent.spawn(polled)
            gevent.sleep(0)
            first.send(b"by fileno")
            result = len(turns), value, other.get(timeout=30)
    gevent.get_hub().threadpool.kill()
"""


def test_the_documented_behaviour_under_gevent(spawn: Callable[..., Child], ns: Namespace) -> None:
    assert run("gevent", "before", spawn, ns, GEVENT) == (5, b"from the hub", b"by fileno")


EVENTLET = """
    import eventlet
    from eventlet import hubs, tpool
    from ipckit import Channel, PosixMessageQueue, Timeout, pair

    def receive(handle):
        while True:
            try:
                return handle.receive(timeout=0.001)
            except Timeout:
                hubs.trampoline(handle.fileno(), read=True)

    with Channel.create() as channel:
        waiting = eventlet.spawn(receive, channel)
        eventlet.sleep(0)
        channel.send(b"to the channel")
        assert waiting.wait() == b"to the channel"

    with PosixMessageQueue.create() as queue:
        turns = []
        waiting = eventlet.spawn(lambda: tpool.execute(queue.receive))
        ticking = eventlet.spawn(lambda: [turns.append(eventlet.sleep(0)) for _ in range(5)])
        ticking.wait()
        queue.send(b"from the hub")
        value = waiting.wait().value
        first, second = pair()
        with first, second:
            def polled():
                hubs.trampoline(second.fileno(), read=True)
                return second.receive(timeout=0).data
            other = eventlet.spawn(polled)
            eventlet.sleep(0)
            first.send(b"by fileno")
            result = len(turns), value, other.wait()
    tpool.killall()
"""


def test_the_documented_behaviour_under_eventlet(
    spawn: Callable[..., Child], ns: Namespace
) -> None:
    assert run("eventlet", "before", spawn, ns, EVENTLET) == (5, b"from the hub", b"by fileno")
