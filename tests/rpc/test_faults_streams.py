"""Streams that end in an unusual way."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator  # noqa: TC003 - methods have it in annotations
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import ClosedHandle, LimitReached, RemoteError, Timeout, aio
from ipckit._core.files import SHM
from ipckit._rpc.caller import Caller
from ipckit.codec import Pickle
from ipckit.rpc import Client, Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace


@pytest.fixture
def name(ns: Namespace) -> str:
    return ns.name()


@contextmanager
def served(service: Service) -> Iterator[None]:
    thread = threading.Thread(target=service.serve)
    thread.start()
    try:
        yield
    finally:
        service.close()
        thread.join(30)
        assert not thread.is_alive()


def files_of(name: str) -> list[str]:
    part = name.strip("/")
    return [each for each in os.listdir(SHM) if part in each]  # noqa: PTH208 - names


def count(n: int) -> Iterator[int]:
    yield from range(n)


def fail(n: int) -> Iterator[int]:
    yield n
    raise ValueError(n)


def leave(n: int) -> Iterator[int]:
    yield n
    raise SystemExit(n)


def test_a_stream_is_closed_after_an_exception(name: str) -> None:
    with Service.create(name) as service:
        service.method(fail)
        service.method(leave)
        with served(service), Client.open(name) as client:
            for method in ("fail", "leave"):
                stream = client.call(method, 3, timeout=10)
                assert next(stream) == 3
                with pytest.raises(RemoteError, match=r"ValueError|SystemExit"):
                    next(stream)
                assert stream.closed
                assert list(stream) == []


@pytest.mark.anyio
async def test_a_stream_in_an_event_loop_is_closed_after_an_exception(name: str) -> None:
    with Service.create(name) as service:
        service.method(fail)
        with served(service):
            async with aio.wrap(Client.open(name)) as client:
                stream = await client.call("fail", 3, timeout=10)
                assert await anext(stream) == 3
                with pytest.raises(RemoteError, match="ValueError"):
                    await anext(stream)
                assert [item async for item in stream] == []


def test_a_call_of_a_stale_stream_leaves_nothing(name: str) -> None:
    with Service.create(name) as service:
        service.method(count)
        with served(service), Client.open(name) as client:
            assert list(client.call("count", 2, timeout=10)) == [0, 1]
            before = len(files_of(name))
            service.method(fail)  # what the client knows of the methods is stale now
            assert list(client.call("count", 2, timeout=10)) == [0, 1]
            assert len(files_of(name)) == before
            service.method(leave)
            assert list(client.submit("count", 2, timeout=10).result(10)) == [0, 1]
            assert len(files_of(name)) == before
            link = client._link
            assert link is not None
            assert link._slots.qsize() == 255


def test_arguments_that_a_generator_function_refuses(name: str) -> None:
    with Service.create(name) as service:
        service.method(count, codec=Pickle)
        with served(service), Client.open(name) as client:
            stream = client.call("count", 1, 2, 3, timeout=10)
            with pytest.raises(RemoteError, match="TypeError"):
                next(stream)


def test_a_server_that_cannot_open_the_stream(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        message = "no descriptors"
        raise LimitReached(message, errno=24, op="open")

    monkeypatch.setattr(Caller, "open_stream", refuse)
    with Service.create(name) as service:
        service.method(count)
        with (
            served(service),
            Client.open(name) as client,
            pytest.raises(RemoteError, match="LimitReached"),
        ):
            client.call("count", 1, timeout=10)


def test_two_threads_iterate(name: str) -> None:
    with Service.create(name) as service:
        service.method(count)
        with served(service), Client.open(name) as client:
            for _ in range(20):
                stream = client.call("count", 50, timeout=10)
                found: list[int] = []
                errors: list[BaseException] = []

                def iterate(stream: Any = stream, found: Any = found, errors: Any = errors) -> None:
                    try:
                        found.extend(stream)
                    except BaseException as exc:
                        errors.append(exc)

                threads = [threading.Thread(target=iterate) for _ in range(2)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert errors == []
                assert sorted(found) == list(range(50))


def test_close_in_another_thread_ends_the_iteration(name: str) -> None:
    begun, end = threading.Event(), threading.Event()

    def wait() -> Iterator[int]:
        begun.set()
        end.wait(30)
        yield 1

    with Service.create(name) as service:
        service.method(wait)
        with served(service), Client.open(name) as client:
            stream = client.call("wait")
            assert begun.wait(30)
            closing = threading.Timer(0.05, stream.close)
            closing.start()
            with suppress(ClosedHandle):
                assert list(stream) == []
            closing.join()
            end.set()


def test_a_call_ends_once(name: str) -> None:
    with Service.create(name) as service:
        service.method(count)
        with served(service), Client.open(name) as client:
            link = client._connect()
            for _ in range(300):
                call = link.begin()
                link.end(call)
                link.end(call)
            assert link._slots.qsize() == 255
            assert list(client.call("count", 2, timeout=10)) == [0, 1]


# A client that is killed: before it received an item, or in the middle.
KILLED = """
from ipckit.rpc import Client
from ipckit.testing import step
client = Client.open(args[0])
stream = client.call("endless", args[2], timeout=30)
for _ in range(args[1]):
    next(stream)
step.tell("ready")
step.hear()
"""


@pytest.mark.parametrize("received", [0, 1, 200])
@pytest.mark.parametrize("size", [10, 3_000_000])
def test_killed_client(name: str, spawn: Callable[..., Child], received: int, size: int) -> None:
    closed = threading.Event()

    def endless(size: int) -> Iterator[bytes]:
        try:
            while True:
                yield bytes(size)
        finally:
            closed.set()

    with Service.create(name) as service:
        service.method(endless)
        with served(service):
            child = spawn(KILLED, name, min(received, 3 if size > 10 else received), size)
            child.expect("ready")
            child.kill()
            assert closed.wait(30)
            for thread in threading.enumerate():
                if thread.name == "ipckit-stream":
                    thread.join(30)
        assert [each for each in files_of(name) if each != f"ipckit.rpc.{name.strip('/')}"] == []


# A client that is killed before a server took a call of it.
UNKNOWN = """
from ipckit.rpc import Client
from ipckit.testing import step
client = Client.open(args[0])
client._connect()
step.tell("ready")
step.hear()
"""


@pytest.mark.parametrize("while_serving", [False, True])
def test_client_that_was_killed_before_its_first_call(
    name: str, spawn: Callable[..., Child], *, while_serving: bool
) -> None:
    with Service.create(name) as service:
        service.method(count)
        with served(service):
            child = spawn(UNKNOWN, name)
            child.expect("ready")
            child.kill()
            if while_serving:  # a new client has the server look
                with Client.open(name) as client:
                    assert list(client.call("count", 1, timeout=10)) == [0]
                    left = [each for each in files_of(name) if each.startswith("rpc.")]
                    assert len(left) == 1
        assert [each for each in files_of(name) if each != f"ipckit.rpc.{name.strip('/')}"] == []


def test_long_items_and_replies_that_nobody_reads_are_removed(name: str) -> None:
    sent, go = threading.Event(), threading.Event()

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(3_000_000)

    def few() -> Iterator[bytes]:
        for _ in range(3):
            yield bytes(3_000_000)
        sent.set()

    def late() -> bytes:
        go.wait(30)
        return bytes(3_000_000)

    with Service.create(name) as service:
        for each in (endless, few, late, count):
            service.method(each)
        with served(service), Client.open(name) as client:
            with client.call("endless", timeout=10) as stream:
                next(stream)
            with client.call("few", timeout=10) as stream:
                assert sent.wait(30)
            with pytest.raises(Timeout):
                client.call("late", timeout=0.01)
            go.set()
            for thread in threading.enumerate():
                if thread.name == "ipckit-stream":
                    thread.join(30)
            assert list(client.call("count", 1, timeout=10)) == [0]
            long = [each for each in files_of(name) if each.startswith("rpc.")]
            assert len(long) == 1  # the table of calls
