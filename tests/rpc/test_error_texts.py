"""The errors of services and clients say which method of which service failed, and what to do."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from ipckit import AccessDenied, AlreadyExists, LimitReached, NotFound, PeerGone, Timeout, aio
from ipckit.rpc import Client, Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from ipckit.testing import Namespace


@contextmanager
def connected(ns: Namespace, **options: int) -> Iterator[tuple[Service, Client]]:
    """A service that no process serves yet, and a client."""
    with Service.create(ns.name(), **options) as service:

        @service.method
        def half(x: float) -> float:
            return x / 2

        with Client.open(service.name) as client:
            yield service, client


@contextmanager
def served(service: Service) -> Iterator[None]:
    thread = threading.Thread(target=service.serve)
    thread.start()
    try:
        yield
    finally:
        service.close()
        thread.join()


def test_a_timeout_before_the_methods_are_known(ns: Namespace) -> None:
    with connected(ns) as (service, client):
        text = f"call half on service {service.name}: no result in time"
        with pytest.raises(Timeout, match=f"^{text}$"):
            client.call("half", 1.0, timeout=0.01)
        with pytest.raises(Timeout, match=f"^{text}$"):
            client.submit("half", 1.0, timeout=0.01)
        with pytest.raises(Timeout, match=f"^{text}$"):
            asyncio.run(aio.wrap(client).call("half", 1.0, timeout=0.01))


def test_a_timeout_because_too_many_calls_wait(ns: Namespace) -> None:
    with connected(ns, capacity=1) as (service, client), Client.open(service.name) as other:
        with pytest.raises(Timeout):
            other.call("half", 1.0, timeout=0.001)  # its question stays in the channel
        text = f"call half on service {service.name}: the service took no call in time"
        with pytest.raises(Timeout, match=f"^{text}$"):
            client.call("half", 1.0, timeout=0.01)
        with pytest.raises(Timeout, match=f"^{text}$"):
            asyncio.run(aio.wrap(client).call("half", 1.0, timeout=0.01))


def test_a_service_that_has_closed(ns: Namespace) -> None:
    with connected(ns) as (service, client):
        with served(service):
            assert client.call("half", 3.0, timeout=60) == 1.5
        text = f"^call half on service {service.name}: the service has closed or died$"
        with pytest.raises(PeerGone, match=text):
            client.call("half", 3.0, timeout=60)
        with pytest.raises(PeerGone, match=text):
            client.call("half", x=3.0, timeout=60)


def test_services_that_exist_and_do_not(ns: Namespace) -> None:
    name = ns.name()[1:]
    with pytest.raises(NotFound) as missing:
        Service.open(name)
    assert str(missing.value) == (
        f"open on service {name}: no process has created a service of that name; "
        f"create it with Service.create({name!r})"
    )
    with Service.create(name), pytest.raises(AlreadyExists) as found:
        Service.create(name)
    assert str(found.value) == (
        f"create on service {name}: the service already exists, and this process has it open; "
        f'open it with Service.open("{name}"), or use open_or_create'
    )


def test_too_many_clients(ns: Namespace) -> None:
    with connected(ns) as (service, _), ExitStack() as clients:
        text = f"^open on service {service.name}: the service has the maximum of 256 clients"

        def open_many() -> None:
            for _ in range(256):
                clients.enter_context(Client.open(service.name))

        with pytest.raises(LimitReached, match=text):
            open_many()


@pytest.mark.usefixtures("root")
def test_a_service_of_another_user(ns: Namespace) -> None:
    with connected(ns) as (service, _):
        path = f"/dev/shm/ipckit.rpc.{service.name}"  # noqa: S108
        os.chown(path, 65534, -1)
        for opens in (Client.open, Service.open, Service.open_or_create):
            with pytest.raises(AccessDenied) as denied:
                opens(service.name)
            text = str(denied.value)
            assert text.startswith(f"open on service {service.name}: the owner is nobody")
            assert text.endswith("; only processes of the same user can call or serve it")
        os.chown(path, 0, -1)


def test_too_many_arguments(ns: Namespace) -> None:
    text = r"half: takes 1 argument, not 2$"
    with (
        connected(ns) as (service, client),
        served(service),
        pytest.raises(TypeError, match=text),
    ):
        client.call("half", 1.0, 2.0, timeout=60)


def test_an_annotation_that_is_imported_for_type_checkers_only(ns: Namespace) -> None:
    def cents(x: Decimal) -> int:
        return int(x * 100)

    text = r"'Decimal' is not defined.*import it at run time"
    with connected(ns) as (service, _), pytest.raises(TypeError, match=text):
        service.method(cents)


def test_no_room_for_a_service_or_a_client(ns: Namespace) -> None:
    name, size = ns.name(), 1 << 39
    for create in (Service.create, Service.open_or_create):
        with pytest.raises(LimitReached) as full:
            create(name, size=size)
        text = str(full.value)
        assert text.startswith(f"create on service {name[1:]}: no room for ")
        assert "takes up to twice its size in /dev/shm; pass a smaller size" in text
    text = r"Client\.open takes up to twice its size"
    with (
        connected(ns) as (service, _),
        Client.open(service.name, size=size) as client,
        pytest.raises(LimitReached, match=text),
    ):
        client.call("half", 1.0, timeout=60)
