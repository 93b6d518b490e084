"""Peers with one publisher and many subscribers: pyzmq and msgq. The channel has iceoryx2's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from channel.lane import Lane, depth, fresh_name
from channel.peers_memory import Iceoryx2, Iceoryx2Blocking
from channel.peers_packages import Socket

if TYPE_CHECKING:
    from collections.abc import Callable

# Imports are late, because any peer may be missing.
# ruff: noqa: PLC0415


class ZeroMq(Socket):
    """A PUB socket of pyzmq and SUB sockets, over ipc://. PUB drops messages for a full queue."""

    name = "pyzmq PUB"
    module = "zmq"
    package = "pyzmq"
    loses = True

    def _socket(self, kind: str) -> Any:
        import zmq

        context = zmq.Context()
        socket = context.socket(getattr(zmq, kind))
        socket.set_hwm(depth(self.size))
        socket.linger = 0
        self._kept += (context, socket)
        return socket

    def sender(self) -> Callable[[bytes], object]:
        """Return the peer's own method."""
        socket = self._socket("PUB" if self.loses else "XPUB")
        if not self.loses:
            socket.xpub_nodrop = True
        socket.bind(self._address)
        return socket.send  # type: ignore[no-any-return]

    def receiver(self) -> Callable[[], bytes]:
        """Return the peer's own method."""
        socket = self._socket("SUB")
        socket.connect(self._address)
        socket.subscribe(b"")
        return socket.recv  # type: ignore[no-any-return]


class ZeroMqNoDrop(ZeroMq):
    """The same with an XPUB socket and its option NODROP, so that the publisher waits."""

    name = "pyzmq XPUB, NODROP"
    loses = False


class MsgQ(Lane):
    """openpilot's msgq. A subscriber that is overtaken loses all unread messages."""

    name = "msgq"
    module = "msgq"
    package = "msgq-ipc"
    loses = True

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._name = fresh_name()
        self._kept: list[Any] = []

    def _room(self) -> int:
        """Return the bytes of the shared memory; a message has a header of 8 bytes."""
        return (self.size + 16) * depth(self.size)

    def sender(self) -> Callable[[bytes], object]:
        """Return the peer's own method."""
        import msgq

        self._kept.append(msgq.pub_sock(self._name, segment_size=self._room()))
        return self._kept[-1].send  # type: ignore[no-any-return]

    def receiver(self) -> Callable[[], bytes]:
        """Return the peer's own method."""
        import msgq

        self._kept.append(msgq.sub_sock(self._name, segment_size=self._room()))
        return self._kept[-1].receive  # type: ignore[no-any-return]

    def close(self) -> None:
        """Remove its file."""
        Path(f"/dev/shm/msgq_{self._name}").unlink(missing_ok=True)  # noqa: S108 - its place


USUAL: tuple[type[Lane], ...] = (Iceoryx2, Iceoryx2Blocking, ZeroMq, MsgQ)
LANES = (*USUAL, ZeroMqNoDrop)
SLEEPING: tuple[type[Lane], ...] = (Iceoryx2Blocking, ZeroMqNoDrop, MsgQ)
