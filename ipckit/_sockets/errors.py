"""The errors of UNIX sockets: an errno, and what the mechanism knows about its cause."""

from __future__ import annotations

import errno
import resource
import stat
from typing import TYPE_CHECKING, Final

from ipckit._core.limits import soft_limit, sysctl
from ipckit._core.unix_diag import is_bound
from ipckit._sockets.address import Abstract, describe
from ipckit.errors import InvalidArgument, IpcError, PeerGone, Timeout, WouldBlock, from_errno

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

LISTENED_ON: Final = "a process already listens there"
LISTENED_ON_HINT: Final = "connect to it, or stop it first"
_FILE_TYPES: Final = (
    (stat.S_ISREG, "regular file"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISLNK, "symbolic link"),
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)
CUT_MESSAGE: Final = "the stream stopped inside a message: close it"


def stream_ended(message: str, *, op: str, target: str) -> PeerGone:
    """Return the error for a stream that ended before all expected bytes had come."""
    return PeerGone(message, errno=errno.ECONNRESET, op=op, target=target)


def deadline_passed(
    *, op: str, target: str, waited: bool, message: str = "", hint: str = ""
) -> Timeout | WouldBlock:
    """Return Timeout, or WouldBlock if the call was not to wait.

    Args:
        op: the call.
        target: the socket.
        waited: whether the call had a timeout other than 0.
        message: what could not be done.
        hint: what to do about it.
    """
    if waited:
        text = message or "the deadline passed"
        return Timeout(text, errno=errno.ETIMEDOUT, op=op, target=target, hint=hint)
    text = message or "the call would have to wait"
    return WouldBlock(text, errno=errno.EAGAIN, op=op, target=target, hint=hint)


def interrupted(
    done: int, size: int, exc: IpcError, *, waited: bool, hint: str = CUT_MESSAGE
) -> Timeout | WouldBlock:
    """Return the error for a deadline that passed after a part of a stream's bytes.

    Args:
        done: bytes that were sent or received.
        size: bytes that were to be sent or received.
        exc: the error of the last attempt.
        waited: whether the call had a timeout other than 0.
        hint: what follows from it.
    """
    message = f"the deadline passed after {done:,} of {size:,} bytes"
    return deadline_passed(op=exc.op, target=exc.target, waited=waited, message=message, hint=hint)


def bind_error(exc: OSError, where: Path | Abstract) -> IpcError:
    """Return the error for a failed bind(2)."""
    code = exc.errno or errno.EIO
    message = hint = ""
    if code == errno.EADDRINUSE:
        message, hint = LISTENED_ON, LISTENED_ON_HINT
    elif code == errno.ENOENT:
        message = "its directory does not exist"
    return from_errno(code, op="bind", target=describe(where), message=message, hint=hint)


def not_a_socket(status: os.stat_result) -> str:
    """Return the message for a path that leads to a file of another type."""
    found = next((name for is_type, name in _FILE_TYPES if is_type(status.st_mode)), "file")
    return f"the path exists, and is not a socket: it is a {found}"


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def connect_error(exc: OSError, where: Path | Abstract) -> IpcError:
    """Return the error for a failed connect(2)."""
    code = exc.errno or errno.EIO
    target = describe(where)
    message = hint = ""
    if code == errno.ENOENT:
        message = "no such socket file"
        hint = "its server has not started yet, or has exited"
    elif code == errno.ECONNREFUSED:
        message = "no process listens there"
        if not isinstance(where, Abstract):
            status = _status(where)
            if status is not None and not stat.S_ISSOCK(status.st_mode):
                return InvalidArgument(
                    not_a_socket(status), errno=errno.ENOTSOCK, op="connect", target=target
                )
            if status is not None and is_bound(status):
                message = "a process has bound the socket, but does not accept connections"
                hint = "it has not called listen yet, or has shut the socket down"
            else:
                hint = "the file is stale: its server exited without unlinking it"
    elif code == errno.EPROTOTYPE:
        message = "the socket there is of another kind: stream, dgram and seqpacket don't mix"
        return InvalidArgument(message, errno=code, op="connect", target=target)
    elif code == errno.EACCES:
        hint = "connecting needs write permission on the file, and search permission on "
        hint += "its directories"
    return from_errno(code, op="connect", target=target, message=message, hint=hint)


def send_error(exc: OSError, target: str, *, size: int, numbers: Sequence[int]) -> IpcError:
    """Return the error for a failed sendmsg(2).

    Args:
        exc: as the extension raised it.
        target: the socket.
        size: bytes of the message.
        numbers: the descriptors that were to go with it.
    """
    code = exc.errno or errno.EIO
    message = hint = ""
    if code == errno.ETOOMANYREFS:
        limit = soft_limit(resource.RLIMIT_NOFILE)
        message = (
            "too many descriptors of this user are in transit, sent but not yet received: the "
        )
        message += f"limit is RLIMIT_NOFILE ({limit}); or sockets sent over sockets nest too deep"
        hint = "let the receivers receive them first, or raise the limit with ulimit -n"
    elif code == errno.EMSGSIZE:
        message = f"a message of {size:,} bytes exceeds the socket's send buffer"
        hint = f"raise SO_SNDBUF, up to net.core.wmem_max ({sysctl('net.core.wmem_max')}); "
        hint += "or send a memfd, as send_array does"
    elif code == errno.EBADF and numbers:
        message = f"one of the descriptors {list(numbers)} is not open"
        return InvalidArgument(message, errno=code, op="sendmsg", target=target)
    elif code in {errno.EPIPE, errno.ECONNRESET}:
        message = "the peer closed its end"
    elif code == errno.ENOTCONN:
        message = "the socket is not connected, and the message has no address"
    elif code == errno.ECONNREFUSED:
        message = "no process receives there"
    return from_errno(code, op="send", target=target, message=message, hint=hint)


def receive_error(exc: OSError, target: str) -> IpcError:
    """Return the error for a failed recvmsg(2)."""
    code = exc.errno or errno.EIO
    message = ""
    if code == errno.ECONNRESET:
        message = "the peer closed its end before it had read all bytes"
    elif code == errno.ENOTCONN:
        message = "the socket is not connected"
    return from_errno(code, op="recv", target=target, message=message)


def shutdown_error(exc: OSError, target: str) -> IpcError:
    """Return the error for a failed shutdown(2)."""
    # ENOTCONN: the peer closed its end before.
    code = errno.ECONNRESET if exc.errno == errno.ENOTCONN else exc.errno or errno.EIO
    return from_errno(code, op="shutdown", target=target)
