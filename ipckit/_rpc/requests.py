"""Open the channel for the calls of a service, with errors that speak of the service."""

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
        hint: what to do if it does not exist.
        peer_gone: see `Channel.open`.

    Raises:
        NotFound: there is no service of that name.
        AccessDenied: the service belongs to another user.
        LimitReached: RLIMIT_NOFILE is reached, or the service has 256 clients and servers.
        IpcError: as for `Channel.open`.
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
    """Return the error for a channel that has no room, from that of the channel.

    Args:
        service: the name of the service.
        exc: the error of the channel; any but ENOSPC is returned unchanged.
        what: what has the memory, with the call that takes its size.
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
    """Return the error for a service that belongs to another user, from that of its channel."""
    hint = "only processes of the same user can call or serve it"
    code, target = exc.errno or errno.EACCES, target_of(service)
    return AccessDenied(str(exc.strerror), errno=code, op="open", target=target, hint=hint)
