"""The process at the other end of a UNIX socket, by its credentials."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final, NamedTuple

from ipckit._core.public import public
from ipckit._sockets.packet import Credentials
from ipckit.errors import IpcError

_SO_PEERPIDFD: Final = 77  # Linux 6.5
_UCRED: Final = struct.Struct("iII")
_NO_UID: Final = 0xFFFFFFFF  # (uid_t) -1


@public("ipckit.unixsock")
class Peer(NamedTuple):
    """The process that created the other end of a connection; see unix(7), SO_PEERCRED.

    The kernel records it at `connect`, `listen` or `pair`. A process that received the socket later
    does not appear here.

    Attributes:
        pid: the process id in this process's pid namespace; 0 if it has none there.
        uid: the effective user id.
        gid: the effective group id.
        pidfd: a descriptor of the process, which belongs to the `UnixSocket` and is closed with it.
            Unlike a pid, it never refers to another process later. None on kernels before 6.5; on
            kernels before 6.18 also if the process exited and was reaped.

    Example:
        >>> import os
        >>> from ipckit import pair
        >>> a, b = pair()
        >>> with a, b:
        ...     a.peer.pid == os.getpid()
        True
    """

    pid: int
    uid: int
    gid: int
    pidfd: int | None


def peer_of(sock: socket.socket) -> Credentials:
    """Return the credentials of the other end of a connection.

    Raises:
        IpcError: the socket is not connected (errno ENOTCONN).
    """
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    found = Credentials(*_UCRED.unpack(raw))
    if found.pid == 0 and found.uid == _NO_UID:
        message = "the socket is not connected"
        raise IpcError(message, errno=errno.ENOTCONN, op="getsockopt", target="UNIX socket")
    return found


def pidfd_of(sock: socket.socket) -> int:
    """Return a new pidfd of the other end's process; -1 if the kernel gives none."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        # ENOPROTOOPT or EINVAL before Linux 6.5; EINVAL or ESRCH for a peer that was reaped. A
        # pidfd_open of the pid would be no safer than the pid, which may be another process's now.
        return -1
