"""Descriptors in control messages: check those to send, and refuse those that are not wanted.

No error leaks a descriptor.
"""

from __future__ import annotations

import errno
import resource
from typing import TYPE_CHECKING, Any

from ipckit._core.arguments import int_argument
from ipckit._core.limits import descriptors_exhausted, soft_limit
from ipckit._native import SCM_MAX_FD
from ipckit.errors import InvalidArgument, LimitReached, MessageTooLong

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipckit._sockets.packet import Descriptors


def numbers_of(fds: Iterable[Any]) -> list[int]:
    """Return descriptors as numbers.

    Args:
        fds: numbers, or objects with `fileno`.

    Raises:
        TypeError: an item is neither.
        InvalidArgument: a number is out of range.
        LimitReached: there are more than one message can carry.
    """
    found: list[int] = []
    for each in fds:
        number = each.fileno() if hasattr(each, "fileno") else each
        try:
            number = int_argument("a descriptor", number)
        except TypeError:
            message = f"a descriptor must be an int or have fileno(), not {type(each).__name__}"
            raise TypeError(message) from None
        if not 0 <= number < 2**31:
            message = f"a descriptor must be 0 to 2**31 - 1, not {number}"
            raise InvalidArgument(message, errno=errno.EBADF, op="sendmsg")
        found.append(number)
    if len(found) > SCM_MAX_FD:
        message = f"{len(found)} descriptors exceed what one message can carry ({SCM_MAX_FD})"
        raise LimitReached(
            message, errno=errno.EINVAL, op="sendmsg", hint="send them in several messages"
        )
    return found


def checked_max_fds(max_fds: int) -> int:
    """Return how many descriptors the caller accepts.

    Raises:
        TypeError: `max_fds` is not an integer.
        InvalidArgument: `max_fds` is out of range.
    """
    max_fds = int_argument("max_fds", max_fds)
    if not 0 <= max_fds <= SCM_MAX_FD:
        message = f"max_fds must be 0 to {SCM_MAX_FD}, not {max_fds}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="recvmsg")
    return max_fds


def check_fds(
    fds: Descriptors, *, max_fds: int, cut: bool, crowded: bool = False, target: str
) -> None:
    """Close all descriptors of a message if they are not wanted or not complete.

    Args:
        fds: the descriptors that arrived.
        max_fds: how many the caller accepts. With 0, they are closed without an error.
        cut: whether the kernel dropped some (MSG_CTRUNC).
        crowded: whether other control messages left no room for a descriptor.
        target: the socket, for messages.

    Raises:
        MessageTooLong: more descriptors arrived than the caller accepts.
        LimitReached: the kernel dropped some; the message has the cause.
    """
    count = len(fds)
    if count <= max_fds and not (cut and max_fds):
        return
    # Checked before `close`, which frees descriptors.
    exhausted = cut and descriptors_exhausted()
    fds.close()
    if max_fds == 0:
        return
    if count > max_fds:
        message = f"the message came with more descriptors than max_fds ({max_fds}); all of them "
        message += "are closed"
        raise MessageTooLong(
            message,
            errno=errno.EMSGSIZE,
            op="recvmsg",
            target=target,
            hint=f"receive with a larger max_fds, up to {SCM_MAX_FD}",
        )
    code, cause, hint = _why_cut(exhausted=exhausted, crowded=crowded)
    message = f"the process received only {count} of the message's descriptors, because {cause}; "
    message += "they are closed, and the message is lost"
    raise LimitReached(message, errno=code, op="recvmsg", target=target, hint=hint)


def _why_cut(*, exhausted: bool, crowded: bool) -> tuple[int, str, str]:
    """Return why the kernel dropped descriptors: an errno, the cause, and what to do."""
    if exhausted:
        limit = soft_limit(resource.RLIMIT_NOFILE)
        cause = f"the process has all the descriptors that RLIMIT_NOFILE ({limit}) allows"
        return errno.EMFILE, cause, "close some, or raise the limit with ulimit -n"
    if crowded:
        cause = "other control messages, which options of the socket request, left no room"
        hint = "unset options of the socket, such as SO_PASSSEC or SO_TIMESTAMP"
        return errno.ENOBUFS, cause, hint
    cause = "the kernel refused the others, although the process has free descriptors"
    hint = "a security module (SELinux, AppArmor) may forbid them; see its audit log"
    return errno.EACCES, cause, hint
