"""The echo servers' members of the event loop: clients of a stream, or datagrams."""

from __future__ import annotations

import socket
from typing import Any, Final

from _loop import FD_SETSIZE, POLLERS, READ, TURN, WRITE, Acceptor, Loop, Member

CHUNK: Final = 65536
OUTPUT_BOUND: Final = 4 * CHUNK  # while a client leaves more than this unread, it is not read


class Client(Member):
    """Echoes a stream, and buffers at most `OUTPUT_BOUND` and one chunk."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._out = bytearray()
        self._ended = False

    def wants(self) -> int:
        """Read until the end, except while much output waits."""
        read = not self._ended and len(self._out) < OUTPUT_BOUND
        return (READ if read else 0) | (WRITE if self._out else 0)

    def turn(self, loop: Loop) -> None:
        """Echo a limited number of chunks."""
        try:
            for _ in range(TURN if loop.poller.edge else 1):
                if self._out and self.writable:
                    self._send(self._out)
                if self.readable and self.wants() & READ:
                    self._receive()
                if not self.can_go():
                    break
        except OSError:
            # The client has gone: the rest of the output has no reader.
            loop.drop(self)
            return
        if self._ended and not self._out:
            loop.drop(self)
        elif not loop.poller.edge:
            # Without output the poller does not watch for room: assume it until a write fails.
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
    """Echoes datagrams. While one cannot be sent, it reads no more."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._waiting: tuple[bytes, Any] | None = None

    def wants(self) -> int:
        """Write the waiting datagram, or else read."""
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
                pass  # an address that cannot receive, such as port 0
            self._waiting = None


def serve(model: str, sock: socket.socket) -> None:
    """Echo for ever on a listening socket, or on a bound datagram socket."""
    poller = POLLERS[model]()
    if sock.fileno() >= poller.limit:
        message = f"select accepts no descriptor above {FD_SETSIZE - 1}; use --model poll or epoll"
        raise ValueError(message)
    loop = Loop(poller)
    loop.add(Datagrams(sock) if sock.type == socket.SOCK_DGRAM else Acceptor(sock, Client))
    loop.run()
