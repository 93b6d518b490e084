"""Services and clients in processes that are killed or stopped, and in each way to start one."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from ipckit import PeerGone, Timeout
from ipckit.rpc import Client, CurrentCall, Service, current

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child

    Spawn = Callable[..., Child]
    Serve = Callable[..., Client]

SERVER = """
import os, time
from collections.abc import Iterator
from ipckit.rpc import Service, current
from ipckit.testing import step

service = Service.open(args[0])

@service.method
def pid() -> int:
    return os.getpid()

@service.method
def hold(x: int) -> int:
    step.tell(x)
    step.expect("go")
    return x

@service.method
def until_cancelled() -> None:
    step.tell("begun")
    while not current().cancelled:
        time.sleep(0.001)
    step.tell("cancelled")

@service.method
def numbers() -> Iterator[int]:
    try:
        number = 0
        while True:
            yield number
            number += 1
    finally:
        step.tell("ended")

@service.method
def wait_for_ever() -> Iterator[int]:
    yield 0
    step.hear()

@service.method
def stop() -> None:
    service.close()

service.serve()
"""
CLIENT = """
from ipckit.rpc import Client
from ipckit.testing import step
client = Client.open(args[0])
"""


def files_of(name: str) -> set[str]:
    """The objects of a service and its clients."""
    return {each.name for each in Path("/dev/shm").iterdir() if name in each.name}  # noqa: S108


@dataclass
class Point:
    x: int
    y: int


# -- servers ---------------------------------------------------------------------------------------


def test_a_server_in_another_process(service: Service, spawn: Spawn) -> None:
    server = spawn(SERVER, service.name)
    with Client.open(service.name) as client:
        assert client.call("pid", timeout=60) == server.pid
        futures = [client.submit("pid", timeout=60) for _ in range(100)]
        assert {each.result() for each in futures} == {server.pid}
        with client.call("numbers", timeout=60) as numbers:
            assert [next(numbers) for _ in range(200)] == list(range(200))
        server.expect("ended")
        client.call("stop", timeout=60)
        assert server.wait(60) == 0
        with pytest.raises(PeerGone):
            client.call("pid", timeout=60)


def test_a_server_that_is_killed_while_it_runs_a_call(service: Service, spawn: Spawn) -> None:
    server = spawn(SERVER, service.name)
    with Client.open(service.name) as client:
        futures = [client.submit("hold", each, timeout=60) for each in range(3)]
        server.expect(0)
        server.kill()
        with pytest.raises(PeerGone, match=f"process {server.pid} died while it ran the call"):
            futures[0].result(60)
        for future in futures[1:]:
            with pytest.raises(PeerGone):
                future.result(60)
        with pytest.raises(PeerGone):
            client.call("pid", timeout=60)
        other = spawn(SERVER, service.name)
        while True:  # until it serves
            try:
                assert client.call("pid", timeout=60) == other.pid
            except PeerGone:
                continue
            break
        other.terminate()


def test_a_call_of_a_killed_server_is_not_run_by_another(service: Service, spawn: Spawn) -> None:
    servers = [spawn(SERVER, service.name) for _ in range(2)]
    with Client.open(service.name) as client:
        futures = [client.submit("hold", each, timeout=60) for each in range(2)]
        told = [each.hear() for each in servers]
        assert sorted(told) == [0, 1]
        waiting = client.submit("hold", 5, timeout=60)
        servers[0].kill()
        with pytest.raises(PeerGone):  # at once, while the other server is busy
            futures[told[0]].result(60)
        servers[1].tell("go")
        assert futures[told[1]].result(60) == told[1]
        # The next calls that it runs: the one that waited, and no other.
        servers[1].expect(5)
        servers[1].tell("go")
        assert waiting.result(60) == 5
        assert client.call("pid", timeout=60) == servers[1].pid
        servers[1].terminate()


def test_a_call_that_a_killed_server_had_not_taken(service: Service, spawn: Spawn) -> None:
    """Another server runs it."""
    stopped, other = (spawn(SERVER, service.name) for _ in range(2))
    with Client.open(service.name) as client:
        futures = {each: client.submit("hold", each, timeout=60) for each in range(2)}
        told = stopped.hear(), other.hear()
        stopped.send_signal(signal.SIGSTOP)
        waiting = client.submit("hold", 7, timeout=60)
        stopped.kill()
        other.tell("go")
        assert futures[told[1]].result(60) == told[1]
        with pytest.raises(PeerGone):
            futures[told[0]].result(60)
        other.expect(7)
        other.tell("go")
        assert waiting.result(60) == 7
        other.terminate()


def test_a_server_that_is_killed_during_a_stream(service: Service, spawn: Spawn) -> None:
    server = spawn(SERVER, service.name)
    with Client.open(service.name) as client:
        stream = client.call("wait_for_ever", timeout=60)
        assert next(stream) == 0
        server.kill()
        with pytest.raises(PeerGone, match="wait_for_ever"):
            next(stream)
        assert stream.closed
        assert list(stream) == []


def test_a_server_that_is_stopped(service: Service, spawn: Spawn) -> None:
    """A call whose deadline passed in the meantime is not run."""
    server = spawn(SERVER, service.name)
    with Client.open(service.name) as client:
        assert client.call("pid", timeout=60) == server.pid
        server.send_signal(signal.SIGSTOP)
        with pytest.raises(Timeout, match="hold"):
            client.call("hold", 1, timeout=0.05)
        future = client.submit("hold", 2, timeout=60)
        server.send_signal(signal.SIGCONT)
        server.expect(2)
        server.tell("go")
        assert future.result(60) == 2
        server.terminate()


def test_a_service_whose_only_server_leaves(service: Service, spawn: Spawn) -> None:
    server = spawn(SERVER, service.name)
    with Client.open(service.name) as client:
        first = client.submit("hold", 1, timeout=60)
        server.expect(1)
        second = client.submit("pid", timeout=60)
        server.terminate()
        for future in (first, second):
            with pytest.raises(PeerGone):
                future.result(60)


# -- clients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["client.call('hold')", "client.submit('hold'); step.hear()"])
def test_a_client_that_is_killed_while_it_waits(serve: Serve, spawn: Spawn, code: str) -> None:
    begun: SimpleQueue[CurrentCall] = SimpleQueue()

    def hold() -> None:
        begun.put(call := current())
        while not call.cancelled:
            os.sched_yield()

    def nothing() -> None:
        pass

    client = serve(hold, nothing)
    killed = spawn(CLIENT + code, client.name)
    call = begun.get(timeout=60)
    assert not call.cancelled
    killed.kill()
    client.call("nothing", timeout=60)  # the worker is free again
    assert call.cancelled
    with Client.open(client.name) as other:  # a server looks for dead clients when one comes
        other.call("nothing", timeout=60)
    assert len(files_of(client.name)) == 3  # of the service and this client


def test_a_client_that_is_killed_during_a_stream(service: Service, spawn: Spawn) -> None:
    server = spawn(SERVER, service.name)
    code = "stream = client.call('numbers'); next(stream); step.tell('in it'); step.hear()"
    client = spawn(CLIENT + code, service.name)
    client.expect("in it")
    client.kill()
    server.expect("ended")
    with Client.open(service.name) as other:
        assert other.call("pid", timeout=60) == server.pid
        assert len(files_of(service.name)) == 3
        other.call("stop", timeout=60)


def test_a_client_that_is_killed_with_long_messages(service: Service, spawn: Spawn) -> None:
    """The service removes the shared memory of its arguments too, and that of its results."""

    def echo(data: bytes) -> bytes:
        return data

    service.method(echo)
    code = """
client.call("echo", bytes(3 << 20))
for _ in range(2):
    client.submit("echo", bytes(3 << 20))
step.tell("sent")
step.hear()
"""
    child = spawn(CLIENT + "step.expect('serve')" + code, service.name)
    thread = threading.Thread(target=service.serve)
    thread.start()
    try:
        child.tell("serve")
        child.expect("sent")
        child.kill()
        for _ in range(2):
            with Client.open(service.name) as client:
                assert client.call("echo", b"x", timeout=60) == b"x"
    finally:
        service.close()
        thread.join()
    assert files_of(service.name) == {f"ipckit.rpc.{service.name}"}


def test_a_client_that_is_stopped_does_not_delay_others(serve: Serve, spawn: Spawn) -> None:
    def echo(x: int) -> int:
        return x

    client = serve(echo)
    code = """
step.tell(client.call("echo", 1))
while True:
    client.call("echo", 2)
"""
    stopped = spawn(CLIENT + code, client.name)
    stopped.expect(1)
    stopped.send_signal(signal.SIGSTOP)
    for each in range(100):
        assert client.call("echo", each, timeout=60) == each
    stopped.kill()


def test_a_reply_to_a_stopped_client(service: Service, spawn: Spawn) -> None:
    """The reply that came in the meantime is its result."""
    server = spawn(SERVER, service.name)
    code = "step.tell('ready')\nresult = client.call('hold', 1, timeout=60)"
    client = spawn(CLIENT + code, service.name)
    client.expect("ready")
    server.expect(1)
    client.send_signal(signal.SIGSTOP)
    server.tell("go")
    client.send_signal(signal.SIGCONT)
    assert client.result == 1
    server.terminate()


# -- ways to start a process -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_client_as_an_argument(name: str, spawn: Spawn, method: str) -> None:
    """It is pickled, except to a forked child."""
    code = """
import multiprocessing, threading
from operator import methodcaller
from ipckit.rpc import Client, Service
context = multiprocessing.get_context(args[0])
noted = []
def note(x: int) -> None:
    noted.append(x)
with Service.create(args[1]) as service:
    service.method(note)
    thread = threading.Thread(target=service.serve)
    thread.start()
    with Client.open(args[1]) as client:
        client.call("note", 1, timeout=60)
        # A function of the library, because a spawned child can't import this source.
        child = context.Process(target=methodcaller("call", "note", 2, timeout=60), args=(client,))
        child.start()
        child.join()
        assert child.exitcode == 0
        client.call("note", 3, timeout=60)
    service.close()
    thread.join()
result = noted
"""
    assert spawn(code, method, name, options=()).result == [1, 2, 3]


def test_classes_that_only_the_service_has(serve: Serve, spawn: Spawn) -> None:
    def swapped(point: Point) -> Point:
        return Point(point.y, point.x)

    name = serve(swapped).name
    code = """
point = client.call("swapped", {"x": 1, "y": 2}, timeout=60)
again = client.call("swapped", point, timeout=60)
try:
    client.call("swapped", {"x": 1})
except TypeError as exc:
    error = str(exc)
result = (type(point).__name__, point.x, point.y, again.x, again.y, error)
client.close()
"""
    *found, error = spawn(CLIENT + code, name).result
    assert found == ["Point", 2, 1, 1, 2]
    assert "missing required field `y`" in error


def test_a_client_waits_for_a_service_of_another_process(name: str, spawn: Spawn) -> None:
    code = """
from ipckit.rpc import Service
from ipckit.testing import step
step.expect("create")
with Service.create(args[0]) as service:
    @service.method
    def stop(x: int) -> int:
        service.close()
        return x
    service.serve()
"""
    child = spawn(code, name)
    with pytest.raises(Timeout):
        Client.open_or_wait(name, timeout=0)
    child.tell("create")
    with Client.open_or_wait(name, timeout=60) as client:
        assert client.call("stop", 5, timeout=60) == 5
    assert child.wait(60) == 0
    assert files_of(name) == set()


@pytest.mark.usefixtures("root")
def test_another_user_can_not_call(service: Service, spawn: Spawn) -> None:
    code = """
from ipckit import AccessDenied
from ipckit.rpc import Client, Service
result = []
for open in (Client.open, Service.open):
    try:
        open(args[0])
    except AccessDenied as exc:
        result.append(str(exc))
"""
    child = spawn(code, service.name, user="nobody", imports=("ipckit.rpc", "numpy", "msgspec"))
    assert len(child.result) == 2
