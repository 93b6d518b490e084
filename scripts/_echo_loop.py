"""What the echo servers keep in their event loop: clients that are echoed, or datagrams."""

from __future__ import annotations

import socket
from typing import Any, Final

from _loop import FD_SETSIZE, POLLERS, READ, TURN, WRITE, Acceptor, Loop, Member

CHUNK: Final = 65536
OUTPUT_BOUND: Final = 4 * CHUNK  # a client that leaves more than this unread is not read


class Client(Member):
    """Echoes a stream, and keeps at most `OUTPUT_BOUND` and a chunk of it."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._out = bytearray()
        self._ended = False

    def wants(self) -> int:
        """To read until the end, but not while much waits to be written."""
        read = not self._ended and len(self._out) < OUTPUT_BOUND
        return (READ if read else 0) | (WRITE if self._out else 0)

    def turn(self, loop: Loop) -> None:
        """Echo up to a number of chunks."""
        try:
            for _ in range(TURN if loop.poller.edge else 1):
                if self._out and self.writable:
                    self._send(self._out)
                if self.readable and self.wants() & READ:
                    self._receive()
                if not self.can_go():
                    break
        except OSError:
            # The client is gone, and nobody is there to read what is left.
            loop.drop(self)
            return
        if self._ended and not self._out:
            loop.drop(self)
        elif not loop.poller.edge:
            # With nothing to write the poller does not tell; a write that fails does.
            self.writable = not self._out

    def _receive(self) -> None:
        try:
            data = self.sock.recv(CHUNK)
        except BlockingIOError:
            self.readable = False
            return
        if not data:
            self._ended = True
        elif self._out:
            self._out += data
        else:
            self._send(data)

    def _send(self, data: bytes | bytearray) -> None:
        try:
            sent = self.sock.send(data) if self.writable else 0
        except BlockingIOError:
            self.writable = False
            sent = 0
        if data is self._out:
            del self._out[:sent]
        elif sent < len(data):
            self._out += memoryview(data)[sent:]


class Datagrams(Member):
    """Echoes datagrams; while one cannot be sent, none is read."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._waiting: tuple[bytes, Any] | None = None

    def wants(self) -> int:
        """To write the one that waits, else to read."""
        return READ if self._waiting is None else WRITE

    def turn(self, loop: Loop) -> None:
        """Echo some datagrams."""
        for _ in range(TURN if loop.poller.edge else 1):
            try:
                if self._waiting is None:
                    self._waiting = self.sock.recvfrom(CHUNK)
            except BlockingIOError:
                self.readable = False
                return
            try:
                self.sock.sendto(*self._waiting)
            except BlockingIOError:
                self.writable = False
                return
            except OSError:
                pass  # an address that takes no answer, such as port 0
            self._waiting = None


def serve(model: str, sock: socket.socket) -> None:
    """Echo on a socket that listens, or is bound for datagrams, for ever."""
    poller = POLLERS[model]()
    if sock.fileno() >= poller.limit:
        message = f"select takes no descriptor above {FD_SETSIZE - 1}; use --model poll or epoll"
        raise ValueError(message)
    loop = Loop(poller)
    loop.add(Datagrams(sock) if sock.type == socket.SOCK_DGRAM else Acceptor(sock, Client))
    loop.run()
