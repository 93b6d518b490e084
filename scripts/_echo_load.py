"""The echo client's exchanges: single texts, and a load that is checked byte by byte."""

from __future__ import annotations

import random
import selectors
import socket
from typing import TYPE_CHECKING, Final

from _net import named

if TYPE_CHECKING:
    from _net import Address

_CHUNK: Final = 262_144
_PERIOD: Final = 1_048_573  # a prime, so that a lost or moved piece is detected
_DATAGRAM: Final = 8192
_WINDOW: Final = 8  # datagrams in flight, a number that every socket buffer holds


def _pattern() -> memoryview:
    block = random.Random(1).randbytes(_PERIOD)  # noqa: S311 - a test pattern
    return memoryview(block + block[:_CHUNK])


def _check(pattern: memoryview, at: int, data: memoryview) -> None:
    start = at % _PERIOD
    if data != pattern[start : start + len(data)]:
        message = f"the reply differs from what was sent, in the {len(data)} bytes from {at}"
        raise ValueError(message)


def exchange(sock: socket.socket, address: Address, data: bytes) -> bytes:
    """Send data and receive as much, at the same time, so that no buffer must hold all of it."""
    left = memoryview(data)
    got = bytearray()
    sock.settimeout(0)
    with selectors.DefaultSelector() as selector, named(address):
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while len(got) < len(data):
            ((_, events),) = selector.select()
            if events & selectors.EVENT_WRITE and left:
                left = left[sock.send(left) :]
                if not left:
                    selector.modify(sock, selectors.EVENT_READ)
            if events & selectors.EVENT_READ:
                piece = sock.recv(_CHUNK)
                if not piece:
                    message = f"{address} ended after {len(got)} of {len(data)} bytes"
                    raise ConnectionResetError(message)
                got += piece
    return bytes(got)


def stream_load(sock: socket.socket, address: Address, total: int) -> None:
    """Send a pattern, shut that direction down, and check every byte that comes back."""
    pattern = _pattern()
    sent = got = 0
    sock.settimeout(0)
    buffer = memoryview(bytearray(_CHUNK))
    with selectors.DefaultSelector() as selector, named(address):
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while True:
            ((_, events),) = selector.select()
            if events & selectors.EVENT_WRITE and sent < total:
                start = sent % _PERIOD
                sent += sock.send(pattern[start : start + min(_CHUNK, total - sent)])
                if sent == total:
                    # The server still sends what is in flight, and then closes.
                    sock.shutdown(socket.SHUT_WR)
                    selector.modify(sock, selectors.EVENT_READ)
            if events & selectors.EVENT_READ:
                size = sock.recv_into(buffer)
                if not size:
                    break
                _check(pattern, got, buffer[:size])
                got += size
    if got != total:
        message = f"{address} sent {got} of {total} bytes back"
        raise ConnectionResetError(message)


def datagram_load(sock: socket.socket, address: Address, total: int, timeout: float) -> None:
    """Send numbered datagrams, a few ahead of the replies, and check that each comes back."""
    pattern = _pattern()
    count = -(-total // _DATAGRAM)
    sent = 0
    under_way: set[int] = set()
    sock.settimeout(timeout)
    with named(address):
        while sent < count or under_way:
            while sent < count and len(under_way) < _WINDOW:
                sock.send(_datagram(pattern, sent, total))
                under_way.add(sent)
                sent += 1
            try:
                data = sock.recv(_CHUNK)
            except TimeoutError:
                message = f"{len(under_way)} datagrams did not come back within {timeout:g} s"
                raise ConnectionResetError(message) from None
            number = int.from_bytes(data[:4])
            # Several threads or processes may reply, so the order is not fixed.
            if number not in under_way or data != _datagram(pattern, number, total):
                message = f"datagram {number} came back changed, or twice"
                raise ValueError(message)
            under_way.remove(number)


def _datagram(pattern: memoryview, number: int, total: int) -> bytes:
    size = min(_DATAGRAM, total - number * _DATAGRAM)
    return (number.to_bytes(4) + pattern[number % _PERIOD :][:_DATAGRAM])[: max(size, 4)]
