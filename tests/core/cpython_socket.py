"""CPython's tests of descriptor passing, run on a UnixSocket at one end; imported in a child only.

The other end stays a socket of the standard library.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from test import test_socket as original

from ipckit import UnixSocket
from tests.core.cpython_run import every_test, run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_INT = array.array("i").itemsize
_MOST = 253  # descriptors in a message, SCM_MAX_FD


class Shim:
    """A UnixSocket with the calls of socket.socket that the tests make."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = UnixSocket.from_fd(os.dup(sock.fileno()))
        self._timeout: float | None = None
        self.close = self._socket.close

    def settimeout(self, timeout: float | None) -> None:
        """For `recvmsg`."""
        self._timeout = timeout

    def sendmsg(self, buffers: Iterable[bytes], ancdata: Iterable[Any] = ()) -> int:
        """`UnixSocket.send`, which takes whole descriptors; the kernel wants no others either."""
        fds = array.array("i")
        for level, kind, data in ancdata:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            raw = bytes(data)
            if len(raw) % _INT:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            fds.frombytes(raw)
        message = b"".join(buffers)
        self._socket.send(message, fds=list(fds))
        return len(message)

    def recvmsg(self, size: int, room: int = 0) -> tuple[bytes, list[Any], int, None]:
        """`UnixSocket.receive`, which takes the number of descriptors, not bytes of room."""
        most = min(_MOST, max(0, room - socket.CMSG_LEN(0)) // _INT)
        packet = self._socket.receive(size, max_fds=most, timeout=self._timeout)
        fds = [packet.fds.take(0) for _ in packet.fds]
        control = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())
        return packet.data, [control] if fds else [], 0, None


class SendTest(original.RecvmsgSCMRightsStreamTest):
    """A UnixSocket sends."""

    def clientSetUp(self) -> None:  # noqa: N802
        super().clientSetUp()
        self._shim = Shim(self.serv_conn)

    def clientTearDown(self) -> None:  # noqa: N802
        self._shim.close()
        super().clientTearDown()

    @property
    def cli_sock(self) -> Shim:
        return self._shim


class ReceiveTest(original.RecvmsgSCMRightsStreamTest):
    """A UnixSocket receives."""

    _shim: Shim | None = None

    @property
    def serv_sock(self) -> Shim:
        if self._shim is None:
            self._shim = Shim(self.cli_conn)
            self.addCleanup(self._shim.close)
        return self._shim


def outcomes(cut: Collection[str]) -> dict[str, str]:
    """How each test ends."""
    return run(every_test(SendTest, ReceiveTest), cut)
