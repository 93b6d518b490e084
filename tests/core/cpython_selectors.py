"""CPython's tests of selectors, run on ipckit's handles; imported in a child only."""

from __future__ import annotations

import os
import secrets
import unittest
from typing import TYPE_CHECKING, Any

from test import test_selectors as original

import ipckit
from tests.core.cpython_run import every_test, run

if TYPE_CHECKING:
    from collections.abc import Collection


class Socket(ipckit.UnixSocket):
    """A UnixSocket with the one call of a socket that the tests make besides `send`."""

    def recv(self, size: int) -> bytes:
        """`receive`."""
        return self.receive(size, timeout=0).data


class Queue(ipckit.PosixMessageQueue[bytes]):
    """A POSIX queue with a socket's call."""

    def recv(self, _size: int) -> bytes:
        """`receive`."""
        return self.receive(timeout=0).value


class Channel(ipckit.Channel[bytes]):
    """A channel with a socket's call."""

    def recv(self, _size: int) -> bytes:
        """`receive`."""
        return self.receive(timeout=0)


class Sockets(original.BaseSelectorTestCase):
    def make_socketpair(self) -> tuple[Any, Any]:
        first, second = ipckit.pair()
        with first, second:
            ends = [Socket.from_fd(os.dup(each.fileno())) for each in (first, second)]
        for end in ends:
            self.addCleanup(end.close)  # type: ignore[attr-defined]
        return ends[0], ends[1]


class Queues(original.BaseSelectorTestCase):
    def make_socketpair(self) -> tuple[Any, Any]:
        name = f"/ipckit-selectors-{os.getpid()}-{secrets.token_hex(4)}"
        writer = Queue.create(name, max_messages=2, max_size=64)
        self.addCleanup(writer.close)  # type: ignore[attr-defined]
        try:
            reader = Queue.open(name)
        finally:
            writer.unlink()
        self.addCleanup(reader.close)  # type: ignore[attr-defined]
        return reader, writer


class Channels(original.BaseSelectorTestCase):
    def make_socketpair(self) -> tuple[Any, Any]:
        writer = Channel.anonymous(capacity=2)
        self.addCleanup(writer.close)  # type: ignore[attr-defined]
        reader = Channel.from_fd(os.dup(writer.memory_fd))
        self.addCleanup(reader.close)  # type: ignore[attr-defined]
        return reader, writer


def _classes() -> list[type[unittest.TestCase]]:
    made = []
    for pairs in (Sockets, Queues, Channels):
        for kind in ("Select", "Poll", "Epoll"):
            selector = getattr(original.selectors, f"{kind}Selector")
            name = f"{pairs.__name__}{kind}Test"
            made.append(type(name, (pairs, unittest.TestCase), {"SELECTOR": selector}))
    return made


def outcomes(cut: Collection[str]) -> dict[str, str]:
    """How each test ends."""
    return run(every_test(*_classes()), cut)
