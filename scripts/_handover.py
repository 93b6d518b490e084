"""Hand a server's listener to a new server while clients are served.

The old server sends two listeners as descriptors: the one for clients and its own control socket.
From then on both servers may accept. When the new server reports that it is serving, the old one
closes its copies. The backlog belongs to the socket, so no waiting client is lost. If the new
server dies before it reports, the old one continues unchanged.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from _common import say
from _echo_loop import Client
from _loop import POLLERS, Acceptor, Loop, Member

from ipckit import IpcError, unixsock

if TYPE_CHECKING:
    from ipckit.unixsock import UnixListener, UnixSocket

SERVING: Final = b"serving"
_PATIENCE: Final = 30.0  # seconds to wait for the old server


class Server:
    """Echoes until a new server has taken over and the last client has left."""

    def __init__(self, listener: socket.socket, control: UnixListener) -> None:
        self.loop = Loop(POLLERS["epoll"]())
        self.acceptor = Acceptor(listener, Client)
        self.control = Control(control, self)
        self.loop.add(self.acceptor)
        self.loop.add(self.control)

    def step_back(self) -> None:
        """Stop accepting, because the new server accepts now."""
        if self.acceptor.closed:
            return
        self.control.listener.disown()  # the new server uses the file
        self.loop.drop(self.acceptor)
        self.loop.drop(self.control)
        say("handed over")


class Control(Member):
    """The control socket, where the new server asks for the listeners."""

    def __init__(self, listener: UnixListener, server: Server) -> None:
        super().__init__(listener.socket)
        self.listener = listener
        self._server = server

    def close(self) -> None:
        """Close the handle."""
        self.listener.close()

    def turn(self, loop: Loop) -> None:
        """Send the listeners to a server that asks."""
        try:
            successor = self.listener.accept(timeout=0)
        except BlockingIOError:
            return
        try:
            fds = [self._server.acceptor.fileno(), self.fileno()]
            successor.send(b"listeners", fds=fds, timeout=0)
        except IpcError:
            successor.close()
            return
        loop.add(Successor(successor, self._server))


class Successor(Member):
    """The connection to the new server, until it reports SERVING or dies."""

    def __init__(self, connection: UnixSocket, server: Server) -> None:
        super().__init__(connection.socket)
        self._connection = connection
        self._server = server

    def close(self) -> None:
        """Close the handle."""
        self._connection.close()

    def turn(self, loop: Loop) -> None:
        """Step back if the new server reports SERVING."""
        try:
            said = self._connection.receive(64, timeout=0).data
        except BlockingIOError:
            return
        except IpcError:
            said = b""
        loop.drop(self)
        if said == SERVING:
            self._server.step_back()


def take_over(path: str) -> tuple[socket.socket, UnixListener, UnixSocket]:
    """Get the listeners of the server at a control path, and the connection to it."""
    connection = unixsock.connect(path, "seqpacket", timeout=_PATIENCE)
    try:
        with connection.receive(64, max_fds=2, timeout=_PATIENCE) as packet:
            if len(packet.fds) != 2:  # noqa: PLR2004
                message = f"{path} handed over {len(packet.fds)} descriptors, not 2"
                raise ValueError(message)  # noqa: TRY301 - any failure here closes the connection
            control = unixsock.UnixListener.from_fd(packet.fds[1])
            packet.fds.take(1)
            control.adopt()
            return socket.socket(fileno=packet.fds.take()), control, connection
    except BaseException:
        connection.close()
        raise
