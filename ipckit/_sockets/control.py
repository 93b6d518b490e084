"""Control messages: descriptors and credentials beside the bytes, with no leak on any way out."""

from __future__ import annotations

import errno
import resource
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.limits import descriptors_exhausted, soft_limit, sysctl
from ipckit._sockets.packet import Descriptors
from ipckit.errors import InvalidArgument, IpcError, LimitReached, MessageTooLong, from_errno

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CROWDED: Final = 2  # control messages left no room for a descriptor

# What the native recvmsg gives: bytes, descriptors, (pid, uid, gid), flags, which control messages
# came (0 for none, 1 for some, CROWDED), address.
Received = tuple[bytes, Descriptors, tuple[int, int, int] | None, int, int, str | bytes | None]


def numbers_of(fds: Iterable[Any]) -> list[int]:
    """Descriptors as numbers, from numbers and from what has `fileno`.

    Raises:
        TypeError: one is neither.
        LimitReached: they are more than a message carries.
    """
    found: list[int] = []
    for each in fds:
        number = each if type(each) is int else getattr(each, "fileno", lambda: None)()
        try:
            number = int_argument("a descriptor", number)
        except TypeError:
            message = f"a descriptor is an int or has fileno(), unlike {type(each).__name__}"
            raise TypeError(message) from None
        if not 0 <= number < 2**31:
            message = f"descriptor {number} can't be one"
            raise InvalidArgument(message, errno=errno.EBADF, op="sendmsg")
        found.append(number)
    if len(found) > native.SCM_MAX_FD:
        message = f"{len(found)} descriptors exceed what one message carries ({native.SCM_MAX_FD})"
        raise LimitReached(
            message, errno=errno.EINVAL, op="sendmsg", hint="send them in several messages"
        )
    return found


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


def checked_max_fds(max_fds: int) -> int:
    """How many descriptors are welcome.

    Raises:
        TypeError: not an integer.
        InvalidArgument: out of range.
    """
    max_fds = int_argument("max_fds", max_fds)
    if not 0 <= max_fds <= native.SCM_MAX_FD:
        message = f"max_fds is {max_fds}; it takes 0 to {native.SCM_MAX_FD}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="recvmsg")
    return max_fds


def check_fds(
    fds: Descriptors, *, max_fds: int, cut: bool, crowded: bool = False, target: str
) -> None:
    """Close descriptors that are not welcome, and say why.

    Args:
        fds: what came.
        max_fds: how many are welcome; with 0, those that come are closed and nothing is said.
        cut: whether the kernel had to leave some out (MSG_CTRUNC).
        crowded: whether other control messages took the room.
        target: the socket, for messages.

    Raises:
        MessageTooLong: more came than are welcome.
        LimitReached: the kernel left some out; the message has the cause.
    """
    count = len(fds)
    if count <= max_fds and not (cut and max_fds):
        return
    # The number is free again once they are closed.
    exhausted = cut and descriptors_exhausted()
    fds.close()
    if max_fds == 0:
        return
    if count > max_fds:
        message = f"it came with more descriptors than max_fds ({max_fds}); all of them are closed"
        raise MessageTooLong(
            message,
            errno=errno.EMSGSIZE,
            op="recvmsg",
            target=target,
            hint=f"receive with a larger max_fds, up to {native.SCM_MAX_FD}",
        )
    code, cause, hint = _why_cut(exhausted=exhausted, crowded=crowded)
    message = f"only {count} of its descriptors found room: {cause}; those that came are closed, "
    message += "the message is gone"
    raise LimitReached(message, errno=code, op="recvmsg", target=target, hint=hint)


def _why_cut(*, exhausted: bool, crowded: bool) -> tuple[int, str, str]:
    """Why the kernel left descriptors out: an errno, the cause, and what to do."""
    if exhausted:
        limit = soft_limit(resource.RLIMIT_NOFILE)
        cause = f"the process has {limit} open of the {limit} that RLIMIT_NOFILE allows"
        return errno.EMFILE, cause, "close some, or raise it with ulimit -n"
    if crowded:
        cause = "other control messages, which the socket's options ask for, took the room"
        hint = "unset options of the socket, such as SO_PASSSEC or SO_TIMESTAMP"
        return errno.ENOBUFS, cause, hint
    cause = "the kernel refused the others, though the process has descriptors free"
    hint = "a security module (SELinux, AppArmor) may forbid them; see its audit log"
    return errno.EACCES, cause, hint
