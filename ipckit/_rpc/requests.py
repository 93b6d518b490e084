"""Open the channel for the calls of a service, with error messages that name the service."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ipckit._channel.channel import Channel
from ipckit._rpc.names import channel_of, target_of
from ipckit.errors import AccessDenied, LimitReached, NotFound

if TYPE_CHECKING:
    from typing import Literal


def open_requests(
    service: str, *, hint: str, peer_gone: Literal["raise", "wait"] = "raise"
) -> Channel[bytes]:
    """Open the channel for the calls of a service.

    Args:
        service: the name of the service.
        hint: the hint of the error if the service does not exist.
        peer_gone: see `Channel.open`.

    Raises:
        NotFound: there is no service of that name.
        AccessDenied: the service belongs to another user.
        LimitReached: RLIMIT_NOFILE is reached, or the service has 256 clients and servers.
        IpcError: the channel can't be opened for another reason; see `Channel.open`.
    """
    target = target_of(service)
    try:
        return Channel.open(channel_of(service), peer_gone=peer_gone)
    except NotFound:
        message = "no process has created a service of that name"
        raise NotFound(message, errno=errno.ENOENT, op="open", target=target, hint=hint) from None
    except AccessDenied as exc:
        raise access_denied(service, exc) from None
    except LimitReached as exc:
        if exc.errno != errno.EUSERS:
            raise
        message = "the service has the maximum of 256 clients and servers"
        raise LimitReached(message, errno=errno.EUSERS, op="open", target=target) from None


def no_memory(service: str, exc: LimitReached, what: str) -> LimitReached:
    """Return the error for a channel that does not fit into /dev/shm, with a hint.

    Args:
        service: the name of the service.
        exc: the error of the channel. It is returned unchanged if its errno is not ENOSPC.
        what: the call that needs the memory, for the hint, such as "Service.create".
    """
    if exc.errno != errno.ENOSPC:
        return exc
    hint = (
        f"{what} takes up to twice its size in /dev/shm; pass a smaller size, or give /dev/shm "
        "more room (docker run --shm-size=1g, or an emptyDir of medium Memory in Kubernetes)"
    )
    target = target_of(service)
    return LimitReached(
        str(exc.strerror), errno=errno.ENOSPC, op="create", target=target, hint=hint
    )


def access_denied(service: str, exc: AccessDenied) -> AccessDenied:
    """Return the error for a service of another user, from the error of its channel."""
    hint = "only processes of the same user can call or serve it"
    code, target = exc.errno or errno.EACCES, target_of(service)
    return AccessDenied(str(exc.strerror), errno=code, op="open", target=target, hint=hint)
