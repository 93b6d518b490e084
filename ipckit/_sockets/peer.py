"""The process at the other end of a UNIX socket, by its credentials."""

from __future__ import annotations

from typing import NamedTuple

from ipckit._core.public import public


@public("ipckit.unixsock")
class Peer(NamedTuple):
    """Who made the other end of a connection; see unix(7), SO_PEERCRED.

    It tells of the moment of `connect` or `listen`, or of `pair`: who was handed the socket
    later is not in it.

    Attributes:
        pid: the process id, as this process's pid namespace counts; 0 where it is not in it.
        uid: the effective user id.
        gid: the effective group id.
        pidfd: a descriptor of the process, which stays the socket's and is closed with it; it
            can't come to mean another process, as a pid can. None on kernels before 6.5, and
            where the process is gone and reaped on kernels before 6.18.
    """

    pid: int
    uid: int
    gid: int
    pidfd: int | None
