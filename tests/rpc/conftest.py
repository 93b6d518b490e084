"""A service that threads of this process serve, its client, and methods that a test holds."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from rpc_methods import Gate

from ipckit.rpc import Client, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Namespace


@pytest.fixture
def name(ns: Namespace) -> str:
    return ns.name()[1:]


@pytest.fixture
def service(name: str) -> Iterator[Service]:
    """A service that nothing serves yet."""
    with Service.create(name) as made:
        yield made
        made.unlink(missing_ok=True)


@pytest.fixture
def serve(service: Service) -> Iterator[Callable[..., Client]]:
    """Registers functions, serves them in threads, and returns a client.

    At the end the service is closed, and the threads must have ended.
    """
    with ExitStack() as stack:

        def start(*functions: Callable[..., Any], workers: int = 1, **options: Any) -> Client:
            for each in functions:
                service.method(each, **options)
            thread = threading.Thread(target=service.serve, kwargs={"workers": workers})
            stack.callback(thread.join)
            stack.callback(service.close)
            thread.start()
            return stack.enter_context(Client.open(service.name))

        yield start


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Methods that wait until the test, or its end, lets them go on."""
    made = Gate()
    yield made
    made.go.set()
