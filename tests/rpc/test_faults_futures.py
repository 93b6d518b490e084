"""Futures of calls that are cancelled, and clients that are closed."""

from __future__ import annotations

import concurrent.futures
import gc
import threading
from collections.abc import Iterator  # noqa: TC003 - methods have it in annotations
from typing import TYPE_CHECKING, Any

import pytest

from ipckit.rpc import Client, Service

if TYPE_CHECKING:
    from ipckit._rpc.link import WaitingCall
    from ipckit.testing import Namespace


@pytest.fixture
def client(ns: Namespace) -> Iterator[Client]:
    released = threading.Event()

    def wait() -> int:
        released.wait(30)
        return 1

    def one() -> int:
        return 1

    def count(n: int) -> Iterator[int]:
        yield from range(n)

    name = ns.name()
    with Service.create(name) as service:
        for each in (wait, one, count):
            service.method(each)
        thread = threading.Thread(target=service.serve, kwargs={"workers": 2})
        thread.start()
        try:
            with Client.open(name) as client:
                yield client
        finally:
            released.set()
            service.close()
            thread.join()


def test_wait_for_a_future_that_was_cancelled_before(client: Client) -> None:
    future = client.submit("wait")
    assert future.cancel()
    assert concurrent.futures.wait([future], timeout=10).done == {future}


def test_wait_for_a_future_that_is_cancelled_meanwhile(client: Client) -> None:
    future = client.submit("wait")
    timer = threading.Timer(0.02, future.cancel)
    timer.start()
    assert list(concurrent.futures.as_completed([future], timeout=10)) == [future]
    timer.join()


def test_cancelled_futures_return_each_slot_once(client: Client) -> None:
    for _ in range(100):
        futures = [client.submit(method, timeout=30) for method in ("one", "one")]
        futures.append(client.submit("count", 1, timeout=30))
        for future in futures:
            future.cancel()
        concurrent.futures.wait(futures, timeout=30)
    del future, futures
    gc.collect()  # a stream whose Future was cancelled meanwhile is closed when it is deleted
    assert client.call("one", timeout=30) == 1
    link = client._link
    assert link is not None
    slots = [link._slots.get_nowait() for _ in range(link._slots.qsize())]
    assert len(slots) == len(set(slots))
    assert len(slots) >= 254  # a stream may not be deleted yet


def test_the_thread_of_a_closed_client_ends(client: Client) -> None:
    assert client.submit("one", timeout=30).result(30) == 1
    client.close()
    for thread in threading.enumerate():
        if thread.name == "ipckit-calls":
            thread.join(3)
            assert not thread.is_alive()


def test_a_reply_that_comes_while_its_call_is_submitted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.submit("one", timeout=30).result(30) == 1  # the thread is idle now
    begin = client.begin

    def begin_and_receive(*args: Any) -> WaitingCall:
        """Send a call, and receive its reply as another thread that leads would."""
        call = begin(*args)
        while call.reply is None:
            call.link.drain()
        return call

    monkeypatch.setattr(client, "begin", begin_and_receive)
    for _ in range(10):  # the thread is idle again, or has not yet found that it is
        assert client.submit("one").result(30) == 1
