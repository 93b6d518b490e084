"""Control messages: descriptors and credentials beside the bytes, with no leak on any way out."""

from __future__ import annotations

import array
import errno
import os
import resource
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ipckit._limits import descriptors_exhausted, soft_limit, sysctl
from ipckit._unix_packet import Descriptors
from ipckit.errors import InvalidArgument, IpcError, LimitReached, MessageTooLong, from_errno

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SCM_MAX_FD: Final = 253  # the kernel's own limit for one message
_SO_PASSSEC: Final = 34
_SO_PASSPIDFD: Final = 76
_UCRED: Final = struct.Struct("iII")
_SECURITY_MAX: Final = 256
_FD_SIZE: Final = 4

# What the native recvmsg gives: bytes, descriptors, (pid, uid, gid), flags, whether control
# messages came, address.
Received = tuple[bytes, Descriptors, tuple[int, int, int] | None, int, bool, str | bytes | None]


def numbers_of(fds: Iterable[Any]) -> list[int]:
    """Descriptors as numbers, from numbers and from what has `fileno`.

    Raises:
        TypeError: one is neither.
        LimitReached: they are more than a message carries.
    """
    found: list[int] = []
    for each in fds:
        number = each if type(each) is int else getattr(each, "fileno", lambda: None)()
        if isinstance(number, bool) or not isinstance(number, int):
            message = f"a descriptor is an int or has fileno(), unlike {type(each).__name__}"
            raise TypeError(message)
        if not 0 <= number < 2**31:
            message = f"descriptor {number} can't be one"
            raise InvalidArgument(message, errno=errno.EBADF, op="sendmsg")
        found.append(number)
    if len(found) > SCM_MAX_FD:
        message = f"{len(found)} descriptors exceed what one message carries ({SCM_MAX_FD})"
        raise LimitReached(
            message, errno=errno.EINVAL, op="sendmsg", hint="send them in several messages"
        )
    return found


def controls(numbers: Sequence[int], *, credentials: bool) -> list[tuple[int, int, Any]]:
    """The control messages that carry descriptors, and this process's credentials."""
    made: list[tuple[int, int, Any]] = []
    if numbers:
        made.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers)))
    if credentials:
        own = _UCRED.pack(os.getpid(), os.getuid(), os.getgid())
        made.append((socket.SOL_SOCKET, socket.SCM_CREDENTIALS, own))
    return made


def send_error(exc: OSError, target: str, *, size: int, numbers: Sequence[int]) -> IpcError:
    """The error for a message that could not be sent, with the limit that was met."""
    code = exc.errno or errno.EIO
    message = hint = ""
    if code == errno.ETOOMANYREFS:
        limit = soft_limit(resource.RLIMIT_NOFILE)
        message = "this user has more descriptors under way in sockets, sent and not yet received, "
        message += f"than RLIMIT_NOFILE ({limit}) allows, or sockets in sockets nest too deep"
        hint = "let the receivers take theirs first, or raise it with ulimit -n"
    elif code == errno.EMSGSIZE:
        message = f"a message of {size:,} bytes exceeds what the socket's send buffer takes"
        hint = f"raise SO_SNDBUF, up to net.core.wmem_max ({sysctl('net.core.wmem_max')}); "
        hint += "or send a memfd, as send_array does"
    elif code == errno.EBADF and numbers:
        message = f"one of the descriptors {list(numbers)} is not open"
        return InvalidArgument(message, errno=code, op="sendmsg", target=target)
    elif code in {errno.EPIPE, errno.ECONNRESET}:
        message = "the peer closed its end"
    elif code == errno.ENOTCONN:
        message = "it is not connected, and a message to nobody goes nowhere"
    elif code == errno.ECONNREFUSED:
        message = "nobody receives there"
    return from_errno(code, op="send", target=target, message=message, hint=hint)


def room_for(sock: socket.socket, max_fds: int) -> int:
    """The control buffer for so many descriptors, and all else that the socket asks for.

    Who set an option by hand, or systemd for us, gets that control message too; without room
    for it the kernel would cut off the descriptors, which come last.
    """
    room = socket.CMSG_SPACE(max_fds * _FD_SIZE) if max_fds else 0
    for option, size in (
        (socket.SO_PASSCRED, _UCRED.size),
        (_SO_PASSSEC, _SECURITY_MAX),
        (_SO_PASSPIDFD, _FD_SIZE),
    ):
        with suppress(OSError):  # an older kernel
            if sock.getsockopt(socket.SOL_SOCKET, option):
                room += socket.CMSG_SPACE(size)
    return room


def checked_max_fds(max_fds: int) -> int:
    """How many descriptors are welcome.

    Raises:
        TypeError: not an integer.
        InvalidArgument: out of range.
    """
    if isinstance(max_fds, bool) or not isinstance(max_fds, int):
        message = f"max_fds is an int, not {type(max_fds).__name__}"
        raise TypeError(message)
    if not 0 <= max_fds <= SCM_MAX_FD:
        message = f"max_fds is {max_fds}; it takes 0 to {SCM_MAX_FD}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="recvmsg")
    return max_fds


def check_fds(fds: Descriptors, *, max_fds: int, cut: bool, target: str) -> None:
    """Close descriptors that are not welcome, and say why.

    Args:
        fds: what came.
        max_fds: how many are welcome; with 0, those that come are closed and nothing is said.
        cut: whether the kernel had to leave some out (MSG_CTRUNC).
        target: the socket, for messages.

    Raises:
        MessageTooLong: more came than are welcome.
        LimitReached: the process has no room for them.
    """
    count = len(fds)
    if count <= max_fds and not (cut and max_fds):
        return
    limit = soft_limit(resource.RLIMIT_NOFILE)
    full = max_fds > count and descriptors_exhausted()
    used = limit if full else "fewer"
    fds.close()
    if max_fds == 0:
        return
    if count >= max_fds:
        message = f"it came with more descriptors than max_fds ({max_fds}); all of them are closed"
        raise MessageTooLong(
            message,
            errno=errno.EMSGSIZE,
            op="recvmsg",
            target=target,
            hint=f"receive with a larger max_fds, up to {SCM_MAX_FD}",
        )
    message = f"only {count} of its descriptors found room: the process has {used} open "
    message += (
        f"of the {limit} that RLIMIT_NOFILE allows; those that came are closed, the message is gone"
    )
    raise LimitReached(
        message,
        errno=errno.EMFILE,
        op="recvmsg",
        target=target,
        hint="close some, or raise it with ulimit -n",
    )
