"""The sockets and files that the process which started this one left open for it."""

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
    """A descriptor that whoever started this process left open for it.

    Attributes:
        name: what it is called (systemd's FileDescriptorName=), or ``"unknown"``.
        handle: what it is: a UnixListener or UnixSocket; any other socket as the standard
            library's; a POSIX queue as a PosixMessageQueue of bytes; all else as an unbuffered
            file.
    """

    name: str
    handle: UnixListener | UnixSocket | socket.socket | PosixMessageQueue[bytes] | io.FileIO


@public("ipckit.unixsock")
def inherited(*, unset: bool = True) -> list[Inherited]:
    """Take over the descriptors that systemd, or who does as it does, passed to this process.

    Args:
        unset: remove LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES from the environment, so that a
            child takes nothing for its own; a second call then finds none.

    Returns:
        Each with its name, in order; none where the environment speaks of another process.

    Raises:
        InvalidArgument: LISTEN_FDS is no number, or counts descriptors that are not open.

    See sd_listen_fds(3).
    """
    told = {name: os.environ.get(name) for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    try:
        mine = told["LISTEN_PID"] is not None and int(told["LISTEN_PID"]) == os.getpid()
        count = int(told["LISTEN_FDS"] or 0)
    except ValueError:
        message = f"LISTEN_PID={told['LISTEN_PID']} and LISTEN_FDS={told['LISTEN_FDS']} are numbers"
        raise InvalidArgument(message, errno=errno.EINVAL, op="sd_listen_fds") from None
    if not mine or not count:
        return []
    names = (told["LISTEN_FDNAMES"] or "").split(":")
    numbers = range(_FIRST_FD, _FIRST_FD + count)
    for fd in numbers:  # all or none
        try:
            os.set_inheritable(fd, False)  # noqa: FBT003 - the library's signature
        except OSError:
            message = f"LISTEN_FDS={count}, and descriptor {fd} is not open"
            raise InvalidArgument(message, errno=errno.EBADF, op="sd_listen_fds") from None
    if unset:
        for name in told:
            os.environ.pop(name, None)
    return [
        Inherited(names[place] if place < len(names) and names[place] else "unknown", _known(fd))
        for place, fd in enumerate(numbers)
    ]


def _known(
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
