"""Calls that return a Future at once: results, cancellation, deadlines, callbacks."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future, wait
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest
from rpc_methods import Gate, add, nothing

from ipckit import Timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.rpc import Client

    Serve = Callable[..., Client]


def test_futures(serve: Serve) -> None:
    client = serve(add, workers=2)
    futures = [client.submit("add", each, 1) for each in range(1000)]
    assert [each.result(60) for each in futures] == list(range(1, 1001))
    assert not wait(futures, timeout=60).not_done


def test_more_futures_than_the_table_has_places(serve: Serve, gate: Gate) -> None:
    client = serve(gate.hold)
    futures = [client.submit("hold", each) for each in range(255)]
    more: list[Future[Any]] = []
    thread = threading.Thread(
        target=lambda: more.extend(client.submit("hold", each) for each in range(255, 300))
    )
    thread.start()
    gate.go.set()
    thread.join()
    assert [each.result(60) for each in [*futures, *more]] == list(range(300))


def test_a_future_that_is_cancelled(serve: Serve, gate: Gate) -> None:
    client = serve(gate.until_cancelled, add)
    future = client.submit("until_cancelled")
    gate.begun.get(timeout=60)
    assert future.cancel()
    assert gate.ended.get(timeout=60)
    with pytest.raises(CancelledError):
        future.result(60)
    assert client.submit("add", 1, 2).result(60) == 3


def test_a_future_whose_deadline_passes(serve: Serve, gate: Gate) -> None:
    client = serve(gate.until_cancelled, nothing)
    client.call("nothing", timeout=60)
    while gate.begun.empty():  # a call that has not begun is not run at all
        future = client.submit("until_cancelled", timeout=0.05)
        with pytest.raises(Timeout, match=r"no result within 0\.05 s"):
            future.result(60)
    assert gate.ended.get(timeout=60)


def test_a_callback_that_calls(serve: Serve) -> None:
    client = serve(add)
    found: SimpleQueue[int] = SimpleQueue()
    client.submit("add", 1, 2).add_done_callback(
        lambda future: found.put(client.call("add", future.result(), 10, timeout=60))
    )
    assert found.get(timeout=60) == 13


def test_calls_beside_futures(serve: Serve, gate: Gate) -> None:
    """The thread of the Futures and the calls of this thread take turns to receive."""
    client = serve(gate.hold, add, workers=2)
    held = client.submit("hold", 1)
    gate.begun.get(timeout=60)
    for each in range(500):
        assert client.call("add", each, 1, timeout=60) == each + 1
    gate.go.set()
    assert held.result(60) == 1
