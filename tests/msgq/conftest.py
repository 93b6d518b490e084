"""Queues of both classes, and a call to act beside a blocked one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from queue_kinds import Kind
from sleeping_calls import Beside

from ipckit import PosixMessageQueue, SysVMessageQueue
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Namespace


@pytest.fixture(params=[SysVMessageQueue, PosixMessageQueue], ids=["sysv", "posix"])
def kind(request: pytest.FixtureRequest, ns: Namespace) -> Kind:
    """Run a test once for each class of queue."""
    return Kind(request.param, ns)


@pytest.fixture
def queue(kind: Kind) -> Iterator[Any]:
    """A queue of each class."""
    with kind.create() as made:
        yield made


@pytest.fixture
def posix_queue(ns: Namespace) -> Iterator[PosixMessageQueue[bytes]]:
    """A small queue: two messages of eight bytes fill it."""
    with PosixMessageQueue.create(ns.name(), max_messages=2, max_size=8) as made:
        yield made


@pytest.fixture
def sysv_queue() -> Iterator[SysVMessageQueue[bytes]]:
    """A queue without a key."""
    with SysVMessageQueue.create() as made:
        yield made


@pytest.fixture
def meanwhile() -> Callable[..., Beside]:
    """``with meanwhile(calls, act):`` calls `act` when a thread here sleeps in a call."""

    def make(calls: tuple[str, ...], act: Callable[[], object]) -> Beside:
        def run() -> None:
            wait_blocked(os.getpid(), *calls)
            act()

        return Beside(run)

    return make
