"""Generator methods: their items, back-pressure, errors, and the ways in which they end."""

from __future__ import annotations

import gc
import os
import threading
import time
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from ipckit import ClosedHandle, PeerGone, RemoteError, Timeout
from ipckit.rpc import Client, CurrentCall, RemoteStream, Service, current

if TYPE_CHECKING:
    from collections.abc import Callable

    Serve = Callable[..., Client]

AHEAD = 64  # items that a method runs ahead of the iteration


@dataclass
class Item:
    number: int
    name: str


def count(limit: int) -> Iterator[int]:
    yield from range(limit)


def nothing() -> Iterator[int]:
    return
    yield


class Source:
    """Generator methods that tell the test what happens to them."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[CurrentCall] = SimpleQueue()
        self.ended: SimpleQueue[str] = SimpleQueue()
        self.yielded = 0
        self.go = threading.Event()

    def endless(self) -> Iterator[int]:
        """Yield numbers until the generator is closed."""
        self.calls.put(current())
        try:
            while True:
                self.yielded += 1
                yield self.yielded
        except GeneratorExit:
            self.ended.put("closed")
            raise
        finally:
            self.ended.put("cancelled" if current().cancelled else "not cancelled")

    def one_and_wait(self) -> Iterator[int]:
        """Yield a number, and wait for the test before the next."""
        yield 1
        assert self.go.wait(60)
        yield 2


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    yield made
    made.go.set()


# -- items -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 1, AHEAD, AHEAD + 1, 1000])
def test_the_items_of_a_generator(serve: Serve, limit: int) -> None:
    client = serve(count)
    stream = client.call("count", limit, timeout=60)
    assert type(stream) is RemoteStream
    assert iter(stream) is stream
    assert not stream.closed
    assert "open" in repr(stream)
    assert list(stream) == list(range(limit))
    assert stream.closed
    assert "closed" in repr(stream)
    assert list(stream) == []
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("kind", [Iterator, Iterable, Generator])
def test_annotations_of_generators(serve: Serve, kind: Any) -> None:
    def items() -> Any:
        yield 1
        yield 2

    items.__annotations__["return"] = kind[int, None, None] if kind is Generator else kind[int]
    assert list(serve(items).call("items", timeout=60)) == [1, 2]


ITEMS: list[tuple[Any, list[Any]]] = [
    (str, ["", "grüße", "x" * 10_000]),
    (int | None, [1, None, 2**64 - 1]),
    (Item, [Item(1, "a"), Item(2, "b")]),
    (list[Item], [[Item(1, "a")], []]),
]


@pytest.mark.parametrize(("kind", "items"), ITEMS)
def test_items_of_each_type(serve: Serve, kind: Any, items: list[Any]) -> None:
    def produce() -> Any:
        yield from items

    produce.__annotations__["return"] = Iterator[kind]
    assert list(serve(produce).call("produce", timeout=60)) == items


@pytest.mark.parametrize("size", [0, 100, 100_000, 1_000_000])
def test_arrays_as_items(serve: Serve, size: int) -> None:
    """The longest do not fit into the memory of a stream."""

    def frames(size: int, number: int) -> Iterator[npt.NDArray[np.float64]]:
        frame = np.empty(size)
        for each in range(number):
            frame[:] = each
            yield frame  # the same array; what was sent is a copy

    stream = serve(frames).call("frames", size, 10, timeout=60)
    kept = list(stream)
    assert [each.shape for each in kept] == [(size,)] * 10
    assert all(np.all(each == number) for number, each in enumerate(kept))
    assert all(each.flags.writeable for each in kept)


def test_arguments_of_generators(serve: Serve) -> None:
    def between(start: int, stop: int = 5, *, step: int = 1) -> Iterator[int]:
        yield from range(start, stop, step)

    client = serve(between)
    assert list(client.call("between", 3, timeout=60)) == [3, 4]
    assert list(client.call("between", start=0, step=2, timeout=60)) == [0, 2, 4]
    assert list(client.between(0, 2)) == [0, 1]
    with pytest.raises(TypeError, match="needs start"):
        client.between()
    with pytest.raises(TypeError, match="start: Expected `int`"):
        client.between("a")


def test_streams_at_the_same_time(serve: Serve) -> None:
    """Each generator has a thread of its own, so that one worker serves them all."""
    client = serve(count)
    streams = [client.call("count", 300, timeout=60) for _ in range(5)]
    assert list(zip(*streams, strict=True)) == [(each,) * 5 for each in range(300)]


def test_calls_during_an_iteration(serve: Serve) -> None:
    def double(x: int) -> int:
        return 2 * x

    client = serve(count, double)
    got = [client.call("double", each, timeout=60) for each in client.count(200)]
    assert got == list(range(0, 400, 2))


def test_a_future_of_a_stream(serve: Serve) -> None:
    client = serve(count)
    futures = [client.submit("count", 100, timeout=60) for _ in range(5)]
    assert [list(each.result(60)) for each in futures] == [list(range(100))] * 5


# -- ends ------------------------------------------------------------------------------------------


def test_the_method_waits_for_the_client(serve: Serve, source: Source) -> None:
    client = serve(source.endless)
    with client.call("endless", timeout=60) as stream:
        assert [next(stream) for _ in range(3)] == [1, 2, 3]
        while source.yielded < AHEAD:
            os.sched_yield()
        for expected in range(4, 500):
            assert next(stream) == expected
            assert source.yielded <= expected + AHEAD + 2
    assert source.ended.get(timeout=60) == "closed"


def close(stream: RemoteStream) -> None:
    stream.close()
    stream.close()


def leave(stream: RemoteStream) -> None:
    with pytest.raises(KeyError), stream:
        raise KeyError


@pytest.mark.parametrize("end", [close, leave])
@pytest.mark.parametrize("taken", [0, 1, 200])
def test_a_client_that_stops(
    serve: Serve, source: Source, end: Callable[[RemoteStream], None], taken: int
) -> None:
    client = serve(source.endless)
    stream = client.call("endless", timeout=60)
    call = source.calls.get(timeout=60)
    for _ in range(taken):
        next(stream)
    assert not call.cancelled
    end(stream)
    assert call.cancelled
    assert source.ended.get(timeout=60) == "closed"
    assert source.ended.get(timeout=60) == "cancelled"
    assert stream.closed
    assert list(stream) == []


def test_a_stream_that_is_dropped(serve: Serve, source: Source) -> None:
    client = serve(source.endless)
    for each in client.call("endless", timeout=60):
        if each == 5:
            break
    gc.collect()
    assert source.ended.get(timeout=60) == "closed"


def test_a_future_of_a_stream_that_is_cancelled(serve: Serve, source: Source) -> None:
    client = serve(source.endless, count)
    future = client.submit("endless")
    if not future.cancel():  # it came at once
        future.result(60).close()
    assert list(client.call("count", 3, timeout=60)) == [0, 1, 2]


def again_if_late(act: Callable[[], Any]) -> Any:
    """Return what a function returns, calling it again after a Timeout: the machine is busy."""
    while True:
        with suppress(Timeout):
            return act()


def test_an_item_that_is_late(serve: Serve, source: Source) -> None:
    """The stream stays open, and the next attempt gets the item."""
    client = serve(source.one_and_wait)
    stream = again_if_late(lambda: client.call("one_and_wait", timeout=0.1))
    assert again_if_late(lambda: next(stream)) == 1
    with pytest.raises(Timeout, match=r"no item within 0\.1 s"):
        next(stream)
    assert not stream.closed
    source.go.set()
    assert again_if_late(lambda: next(stream)) == 2
    stream.close()


def test_an_exception_between_items(serve: Serve) -> None:
    def fail(after: int) -> Iterator[int]:
        yield from range(after)
        message = "too many"
        raise LookupError(message)

    client = serve(fail)
    for after in (0, 1, 100):
        stream = client.call("fail", after, timeout=60)
        got: list[int] = []
        with pytest.raises(RemoteError, match="LookupError: too many") as caught:
            got.extend(map(next, [stream] * (after + 1)))
        assert got == list(range(after))
        assert "raise LookupError(message)" in caught.value.traceback
        assert "fail" in str(caught.value)
        assert stream.closed


def test_an_item_that_is_of_another_type(serve: Serve) -> None:
    def wrong() -> Iterator[int]:
        yield 1
        yield "two"  # type: ignore[misc]

    stream = serve(wrong).call("wrong", timeout=60)
    assert next(stream) == 1
    with pytest.raises(RemoteError, match="Expected `int`, got `str`") as caught:
        next(stream)
    assert caught.value.type_name == "TypeError"


def test_a_generator_that_raises_when_it_is_closed(serve: Serve) -> None:
    def stubborn() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise ValueError

    client = serve(stubborn, nothing)
    with client.call("stubborn", timeout=60) as stream:
        assert next(stream) == 1
    assert list(client.call("nothing", timeout=60)) == []


def test_a_client_that_is_closed_ends_its_streams(
    service: Service, serve: Serve, source: Source
) -> None:
    serve(source.endless)
    client = Client.open(service.name)
    stream = client.call("endless", timeout=60)
    assert next(stream) == 1
    client.close()
    stream.close()
    assert source.ended.get(timeout=60) == "closed"
    with pytest.raises(ClosedHandle):
        client.call("endless")


def test_a_service_that_is_closed_during_a_stream(service: Service, serve: Serve) -> None:
    """The generator, which has a thread of its own, goes on until its client has all."""
    client = serve(count)
    stream = client.call("count", 1000, timeout=60)
    assert next(stream) == 0
    service.close()
    assert list(stream) == list(range(1, 1000))
    with pytest.raises(PeerGone):
        client.call("count", 1, timeout=60)


def test_a_forked_child_leaves_the_stream_to_its_parent(serve: Serve) -> None:
    stream = serve(count).call("count", 300, timeout=60)
    assert next(stream) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
        pid = os.fork()
    if pid == 0:
        stream.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert list(stream) == list(range(1, 300))


def found_by_threads(stream: Any) -> list[int]:
    """The items that three threads get, sorted."""
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.extend(stream)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found)


def test_threads_that_share_a_stream(serve: Serve) -> None:
    stream = serve(count).call("count", 2000, timeout=60)
    assert found_by_threads(stream) == list(range(2000))


def test_a_thread_that_has_the_end_is_slow(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has closed its end then, and other threads wait for items."""
    item_in = RemoteStream.item_in

    def slow_at_the_end(stream: Any, view: Any) -> Any:
        try:
            return item_in(stream, view)
        except StopIteration:
            time.sleep(0.2)  # others find the server gone meanwhile, unless they wait
            raise

    monkeypatch.setattr(RemoteStream, "item_in", slow_at_the_end)
    stream = serve(count).call("count", 10, timeout=60)
    assert found_by_threads(stream) == list(range(10))


def test_many_streams_one_after_the_other(serve: Serve) -> None:
    """More than a client has places for calls."""
    client = serve(count)
    for each in range(300):
        with client.call("count", 5, timeout=60) as stream:
            if each % 2:
                assert next(stream) == 0
            else:
                assert list(stream) == [0, 1, 2, 3, 4]
