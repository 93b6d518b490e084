"""`Client.methods`, and what a client that knows no class of the service sees."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator  # noqa: TC003 - annotations of methods
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import trio

from ipckit import PeerGone, RemoteError, WouldBlock, aio
from ipckit.codec import Pickle
from ipckit.rpc import Client
from ipckit.testing import Child

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.rpc import Service


@dataclass
class Point:
    x: int
    y: float = 0.5


def scale(
    x: npt.NDArray[np.float64], by: int | None = None, *, at: dict[str, list[Point]]
) -> tuple[int, ...]:
    return (len(x), by or 0, len(at))


def choose(point: Point) -> Literal["a", "b"]:
    return "a" if point.x else "b"


def number(x: np.int16) -> np.float32:
    return np.float32(x)


def count(limit: int) -> Iterator[Point]:
    yield from map(Point, range(limit))


def anything(*values: Any) -> Any:
    return values


SIGNATURES = {
    "scale": "scale(x: array of float64, by: int | None = ..., at: dict[str, list[Point]])"
    " -> tuple[int, ...]",
    "choose": "choose(point: Point) -> Literal['a', 'b']",
    "number": "number(x: int16) -> float32",
    "count": "count(limit: int) -> stream of Point",
    "anything": "anything(...) -> Any",
}


def test_a_client_lists_the_methods(service: Service, serve: Callable[..., Client]) -> None:
    service.method(anything, codec=Pickle)
    client = serve(scale, choose, number, count)
    assert client.methods(timeout=60) == SIGNATURES
    service.method(len, name="later", codec=Pickle)
    assert "later" in client.methods(timeout=60)
    assert trio.run(aio.wrap(client).methods).keys() == client.methods().keys()


def test_a_call_can_not_but_wait(serve: Callable[..., Client]) -> None:
    ran: list[int] = []

    def note(x: int) -> None:
        ran.append(x)

    client = serve(note)
    for call in (client.call, client.submit):
        with pytest.raises(WouldBlock, match=r"a call has to wait for its result; it was not sent"):
            call("note", 1, timeout=0)
    with pytest.raises(WouldBlock):
        asyncio.run(aio.wrap(client).call("note", 2, timeout=0))
    client.call("note", 3, timeout=60)
    assert ran == [3]


def test_a_value_of_a_wrong_class_is_told_by_the_name(serve: Callable[..., Client]) -> None:
    client = serve(choose)
    with pytest.raises(TypeError, match=r"choose: point: Expected `Point`, got `None`$"):
        client.call("choose", None, timeout=60)
    with pytest.raises(TypeError, match=r"choose: point\.x: Expected `int`, got `str`$"):
        client.call("choose", Point("1"), timeout=60)  # type: ignore[arg-type]


STRANGER = """
from ipckit.rpc import Client
with Client.open(args[0]) as client:
    found = next(client.call("count", 1, timeout=60))
    cls = type(found)
    result = [found.x, found.y, cls.__module__, cls.__qualname__, client.choose(found)]
"""


def test_a_client_without_the_class_gets_one_like_it(
    service: Service, serve: Callable[..., Client]
) -> None:
    serve(count, choose)
    with Child(STRANGER, service.name) as child:
        assert child.result == [0, 0.5, "ipckit.rpc", "Point", "b"]


def test_an_interrupt_ends_aio_serve_as_it_is(service: Service) -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    service.method(interrupted)
    with service, ThreadPoolExecutor() as threads, Client.open(service.name) as client:
        call = threads.submit(client.call, "interrupted")
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(aio.serve(service))
        with pytest.raises((RemoteError, PeerGone)):
            call.result()


def test_many_plain_methods_run_at_once_in_an_event_loop(service: Service) -> None:
    together = threading.Barrier(20)

    def meet() -> int:
        return together.wait(60)

    service.method(meet)

    async def main() -> list[int]:
        serving = asyncio.create_task(aio.serve(service))
        async with aio.wrap(Client.open(service.name)) as client:
            found = await asyncio.gather(*(client.call("meet") for _ in range(20)))
        service.close()
        await serving
        return found

    assert sorted(asyncio.run(main())) == list(range(20))
