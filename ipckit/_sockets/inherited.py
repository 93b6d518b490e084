"""`inherited`: the sockets and files that systemd passed to this process (socket activation)."""

from __future__ import annotations

import errno
import io
import os
import socket
import stat
from typing import Final, NamedTuple

from ipckit._core.public import public
from ipckit._msgq.posix import PosixMessageQueue
from ipckit._sockets.endpoint import is_listening
from ipckit._sockets.listener import UnixListener
from ipckit._sockets.socket import UnixSocket
from ipckit.errors import InvalidArgument

_FIRST_FD: Final = 3  # SD_LISTEN_FDS_START


@public("ipckit.unixsock")
class Inherited(NamedTuple):
    """A descriptor that this process inherited for its use.

    Attributes:
        name: systemd's FileDescriptorName=, or ``"unknown"``.
        handle: a UnixListener or UnixSocket; a `socket.socket` for any other socket; a
            PosixMessageQueue of bytes for a POSIX queue; an unbuffered file for anything else.

    Example:
        >>> from ipckit import inherited
        >>> inherited()  # this process was not started with descriptors
        []
    """

    name: str
    handle: UnixListener | UnixSocket | socket.socket | PosixMessageQueue[bytes] | io.FileIO


@public("ipckit.unixsock")
def inherited(*, unset: bool = True) -> list[Inherited]:
    """Return the descriptors that systemd, or a program with the same protocol, passed.

    Args:
        unset: remove LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES from the environment (the default),
            so that a child process does not use them. A second call returns an empty list then.

    Returns:
        The descriptors with their names, in order; empty if the environment names another process.

    Raises:
        InvalidArgument: LISTEN_FDS is not a number, or it counts descriptors that are not open.

    Example:
        >>> from ipckit import unixsock
        >>> unixsock.inherited()
        []

    See sd_listen_fds(3).
    """
    variables = {
        name: os.environ.get(name) for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    }
    try:
        mine = variables["LISTEN_PID"] is not None and int(variables["LISTEN_PID"]) == os.getpid()
        count = int(variables["LISTEN_FDS"] or 0)
    except ValueError:
        pid, fds = variables["LISTEN_PID"], variables["LISTEN_FDS"]
        message = f"LISTEN_PID is {pid!r} and LISTEN_FDS is {fds!r}; both must be numbers"
        raise InvalidArgument(message, errno=errno.EINVAL, op="sd_listen_fds") from None
    if not mine or not count:
        return []
    names = (variables["LISTEN_FDNAMES"] or "").split(":")
    numbers = range(_FIRST_FD, _FIRST_FD + count)
    for fd in numbers:  # before any of them gets an owner
        try:
            os.set_inheritable(fd, False)  # noqa: FBT003 - the library's signature
        except OSError:
            message = f"LISTEN_FDS is {count}, but descriptor {fd} is not open"
            raise InvalidArgument(message, errno=errno.EBADF, op="sd_listen_fds") from None
    if unset:
        for name in variables:
            os.environ.pop(name, None)
    return [
        Inherited(
            names[place] if place < len(names) and names[place] else "unknown", _handle_of(fd)
        )
        for place, fd in enumerate(numbers)
    ]


def _handle_of(
    fd: int,
) -> UnixListener | UnixSocket | socket.socket | PosixMessageQueue[bytes] | io.FileIO:
    if stat.S_ISSOCK(os.fstat(fd).st_mode):
        sock = socket.socket(fileno=fd)
        if sock.family != socket.AF_UNIX:
            return sock
        listening = is_listening(sock)
        sock.detach()
        return UnixListener.from_fd(fd) if listening else UnixSocket.from_fd(fd)
    try:
        return PosixMessageQueue.from_fd(fd)
    except (OSError, ValueError):
        import fcntl  # noqa: PLC0415

        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        mode = {os.O_RDONLY: "rb", os.O_WRONLY: "wb"}.get(access, "r+b")
        return io.FileIO(fd, mode)
