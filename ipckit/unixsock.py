"""UNIX sockets: bytes, descriptors, credentials, arrays and handles between local processes."""

from ipckit._sockets.address import Abstract
from ipckit._sockets.connect import connect, pair
from ipckit._sockets.inherited import Inherited, inherited
from ipckit._sockets.listener import UnixListener, listen
from ipckit._sockets.packet import Credentials, Descriptors, Packet
from ipckit._sockets.peer import Peer
from ipckit._sockets.socket import UnixSocket

__all__ = [
    "Abstract",
    "Credentials",
    "Descriptors",
    "Inherited",
    "Packet",
    "Peer",
    "UnixListener",
    "UnixSocket",
    "connect",
    "inherited",
    "listen",
    "pair",
]
