"""A stream whose generator raised an exception has ended, as a generator has."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator  # noqa: TC003 - the service reads the annotations
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ipckit import aio
from ipckit.errors import RemoteError
from ipckit.rpc import Client, Service

if TYPE_CHECKING:
    from ipckit.testing import Namespace


def fails() -> Iterator[int]:
    yield 1
    raise ValueError


@contextmanager
def connected(ns: Namespace) -> Iterator[Client]:
    with Service.create(ns.name()) as service:
        service.method(fails)
        thread = threading.Thread(target=service.serve)
        thread.start()
        try:
            with Client.open(service.name) as client:
                yield client
        finally:
            service.close()
            thread.join()


def test_a_stream_ends_with_the_exception_of_its_generator(ns: Namespace) -> None:
    with connected(ns) as client:
        items = client.call("fails", timeout=60)
        assert next(items) == 1
        with pytest.raises(RemoteError):
            next(items)
        assert items.closed
        assert list(items) == []


def test_a_stream_in_an_event_loop_ends_with_it_too(ns: Namespace) -> None:
    async def main(client: Client) -> None:
        items = await aio.wrap(client).call("fails", timeout=60)
        assert await anext(items) == 1
        with pytest.raises(RemoteError):
            await anext(items)
        assert [item async for item in items] == []

    with connected(ns) as client:
        asyncio.run(main(client))
