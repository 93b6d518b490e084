"""How clients and services are opened, and what closing them ends."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest
from rpc_methods import Gate, add

from ipckit import (
    AlreadyExists,
    ClosedHandle,
    InvalidArgument,
    NotFound,
    PeerGone,
    RemoteError,
    Timeout,
)
from ipckit.rpc import Client, Service

if TYPE_CHECKING:
    from collections.abc import Callable

    Serve = Callable[..., Client]
    Begin = Callable[..., Any]


# -- open ------------------------------------------------------------------------------------------


def test_open(name: str) -> None:
    with pytest.raises(NotFound, match="open_or_wait"):
        Client.open(name)
    with pytest.raises(Timeout):
        Client.open_or_wait(name, timeout=0.02)
    with pytest.raises(NotFound):
        Service.open(name)
    with Service.create(name) as service:
        with pytest.raises(AlreadyExists):
            Service.create(name)
        with Service.open_or_create(name) as again:
            assert (service.owner, again.owner) == (True, False)
        Client.open(name).close()
        Client.open_or_wait(name, timeout=0).close()
    with Service.open_or_create(name) as service:
        assert service.owner
        assert service.name == name


def test_open_or_wait_until_there_is_a_service(name: str, begin: Begin) -> None:
    opening = begin(Client.open_or_wait, name, timeout=60)
    with Service.create(name), opening.result() as client:
        assert client.name == name


@pytest.mark.parametrize("wrong", ["", "a/b", "x" * 191, "a\0b"])
def test_names_that_are_invalid(wrong: str) -> None:
    for make in (Service.create, Service.open, Client.open, Client.open_or_wait):
        with pytest.raises(InvalidArgument):
            make(wrong)


@pytest.mark.parametrize("wrong", [5, None, b"name"])
def test_names_of_other_types(wrong: Any) -> None:
    for make in (Service.create, Service.open, Client.open, Client.open_or_wait):
        with pytest.raises(TypeError):
            make(wrong)


def test_the_mode_of_the_objects(serve: Serve) -> None:
    """Only processes of the same user, and root, can call the service."""
    client = serve(add)
    client.call("add", 1, 2, timeout=60)
    modes = {
        each.name: each.stat().st_mode & 0o777
        for each in os.scandir("/dev/shm")  # noqa: S108
        if client.name in each.name
    }
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}


# -- close -----------------------------------------------------------------------------------------


def test_a_client_that_is_closed(serve: Serve) -> None:
    client = serve(add)
    assert client.call("add", 1, 2, timeout=60) == 3
    assert "open" in repr(client)
    client.close()
    client.close()
    assert client.closed
    assert "closed" in repr(client)
    for act in (
        lambda: client.call("add", 1, 2),
        lambda: client.call("add", 1, 2, timeout=1),
        lambda: client.submit("add", 1, 2),
        lambda: client.add(1, 2),
        lambda: pickle.dumps(client),
    ):
        with pytest.raises(ClosedHandle):
            act()


def test_a_client_that_is_closed_while_calls_wait(serve: Serve, gate: Gate, begin: Begin) -> None:
    client = serve(gate.hold, workers=3)
    client_2 = Client.open(client.name)
    calls = [begin(client_2.call, "hold", 1), begin(client_2.call, "hold", 2)]
    future = client_2.submit("hold", 3)
    told = [gate.begun.get(timeout=60) for _ in range(3)]
    client_2.close()
    for call in calls:
        with pytest.raises(ClosedHandle):
            call.result()
    with pytest.raises(ClosedHandle):
        future.result(60)
    assert all(each.cancelled for each in told)
    gate.go.set()
    assert [gate.ended.get(timeout=60) for _ in range(3)] == [True] * 3
    assert client.call("hold", 4, timeout=60) == 4


def test_a_service_that_is_closed_while_a_call_runs(
    service: Service, serve: Serve, gate: Gate, begin: Begin
) -> None:
    """The call is ended first; one that waits for a server fails."""
    client = serve(gate.hold)
    running = begin(client.call, "hold", 1)
    gate.begun.get(timeout=60)
    waiting = client.submit("hold", 2)
    service.close()
    gate.go.set()
    assert running.result() == 1
    with pytest.raises(PeerGone):
        waiting.result(60)
    with pytest.raises(PeerGone):
        client.call("hold", 3, timeout=60)


def test_a_method_that_closes_its_service(service: Service, name: str) -> None:
    def stop() -> str:
        service.close()
        return "stopped"

    service.method(stop)
    thread = threading.Thread(target=service.serve)
    thread.start()
    with Client.open(name) as client:
        assert client.call("stop", timeout=60) == "stopped"
        thread.join()
        with pytest.raises(PeerGone):
            client.call("stop", timeout=60)
    with pytest.raises(ClosedHandle):
        service.serve()


def test_serve_again_after_it_was_interrupted(service: Service) -> None:
    stop = [True]

    def leave() -> None:
        if stop.pop() if stop else False:
            raise KeyboardInterrupt

    service.method(leave)

    def run() -> None:
        with pytest.raises(KeyboardInterrupt):
            service.serve()
        service.serve()

    thread = threading.Thread(target=run)
    thread.start()
    with Client.open(service.name) as client:
        with pytest.raises(RemoteError, match="KeyboardInterrupt"):
            client.call("leave", timeout=60)
        while True:
            try:
                assert client.call("leave", timeout=60) is None
            except PeerGone:  # nothing serves it for a moment
                continue
            break
    service.close()
    thread.join()


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_out_of_range(service: Service, workers: int) -> None:
    with pytest.raises(InvalidArgument, match="workers must be 1 or more"):
        service.serve(workers=workers)


@pytest.mark.parametrize("workers", ["1", 1.5, True, None])
def test_workers_of_other_types(service: Service, workers: Any) -> None:
    with pytest.raises(TypeError):
        service.serve(workers=workers)


def test_a_client_that_is_dropped(serve: Serve) -> None:
    """Its channel goes with it; the fixtures look for leftovers."""
    client = serve(add)
    dropped = Client.open(client.name)
    assert dropped.call("add", 1, 2, timeout=60) == 3
    with pytest.warns(ResourceWarning):  # noqa: PT031 - it may be in a cycle
        del dropped
        gc.collect()
    assert client.call("add", 1, 2, timeout=60) == 3
