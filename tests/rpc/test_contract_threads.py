"""Several threads that call, and several that serve."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from rpc_methods import add, greet, nothing

from ipckit import NotFound
from ipckit.rpc import Client, Service

if TYPE_CHECKING:
    from collections.abc import Callable

    Serve = Callable[..., Client]


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_that_share_a_client(serve: Serve, workers: int) -> None:
    def echo(x: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return x

    client = serve(add, echo, workers=workers)
    wrong: list[Any] = []

    def call_on(seed: int) -> None:
        for each in range(100):
            if client.call("add", seed, each, timeout=60) != seed + each:
                wrong.append((seed, each))
            got = client.call("echo", np.full(each * 10, seed), timeout=60)
            if not np.array_equal(got, np.full(each * 10, seed)):
                wrong.append((seed, each, "array"))

    threads = [threading.Thread(target=call_on, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_workers_run_at_the_same_time(serve: Serve) -> None:
    barrier = threading.Barrier(3)

    def meet() -> int:
        return barrier.wait(60) * 0

    client = serve(meet, workers=3)
    futures = [client.submit("meet") for _ in range(3)]
    assert [each.result(60) for each in futures] == [0, 0, 0]


def test_one_worker_runs_one_call_at_a_time(serve: Serve) -> None:
    inside: list[int] = []

    def alone(x: int) -> int:
        inside.append(x)
        time.sleep(0)
        assert inside == [x]
        inside.clear()
        return x

    client = serve(alone)
    futures = [client.submit("alone", each) for each in range(200)]
    assert [each.result(60) for each in futures] == list(range(200))


def test_two_clients_and_two_services_of_one_name(service: Service, serve: Serve) -> None:
    ran: list[str] = []

    def first() -> None:
        ran.append("first")

    def second() -> None:
        ran.append("second")

    barrier = threading.Barrier(2)

    def both() -> int:
        return barrier.wait(60) * 0

    client = serve(both)
    with Service.open(service.name) as other, Client.open(service.name) as another:
        assert not other.owner
        other.method(both)
        thread = threading.Thread(target=other.serve)
        thread.start()
        futures = [each.submit("both") for each in (client, another)]
        assert [each.result(60) for each in futures] == [0, 0]
        other.close()
        thread.join()
        service.method(nothing)
        assert another.call("nothing", timeout=60) is None


def test_servers_of_other_methods(service: Service, serve: Serve) -> None:
    """A client that meets the other server asks again for the methods."""
    client = serve(add)
    assert client.call("add", 1, 2, timeout=60) == 3
    with Service.open(service.name) as other:
        other.method(greet)
        thread = threading.Thread(target=other.serve)
        thread.start()
        service.close()  # only the other one is left
        with pytest.raises(NotFound, match="it has: greet"):
            client.call("add", 1, 2, timeout=60)
        assert client.call("greet", "amy", timeout=60) == "hello amy."
        other.close()
        thread.join()


def test_a_method_that_calls_its_own_service(serve: Serve) -> None:
    def outer(x: int) -> int:
        return int(client.call("add", x, 1, timeout=60))

    client = serve(outer, add, workers=2)
    assert client.call("outer", 1, timeout=60) == 2
