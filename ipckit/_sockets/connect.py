"""UNIX sockets: bytes, descriptors, credentials, arrays and handles between local processes."""

from __future__ import annotations

import _socket
import errno
import socket
from typing import TYPE_CHECKING, Final, Literal, overload

from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.descriptors import descriptor_error
from ipckit._core.public import public
from ipckit._sockets import listener
from ipckit._sockets.address import (
    Abstract,
    Address,
    Kind,
    checked_address,
    checked_type,
    describe,
    for_kernel,
)
from ipckit._sockets.endpoint import wrapped
from ipckit._sockets.socket import UnixSocket
from ipckit._sockets.waiting import late
from ipckit.errors import InvalidArgument, from_errno

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from ipckit._sockets.listener import UnixListener

_SHORTEST: Final = 1e-6  # 0 would mean no timeout to the kernel


@public("ipckit.unixsock")
def pair(kind: Kind = "stream") -> tuple[UnixSocket, UnixSocket]:
    """Two sockets connected to each other, for a parent and its child, or to hand one on.

    Args:
        kind: ``"stream"`` for bytes without bounds, ``"seqpacket"`` for messages and an end,
            ``"dgram"`` for messages.

    Raises:
        LimitReached: RLIMIT_NOFILE is used up.
        InvalidArgument: there is no such kind.

    See socketpair(2).
    """
    number = checked_type(kind)
    try:
        first, second = socket.socketpair(socket.AF_UNIX, number)
    except OSError as exc:
        raise descriptor_error(exc.errno or errno.EIO, op="socketpair") from None
    try:
        for sock in (first, second):
            _unlimited(sock)
        return construct(UnixSocket, first), construct(UnixSocket, second)
    except BaseException:
        first.close()
        second.close()
        raise


@public("ipckit.unixsock")
def connect(address: Address, kind: Kind = "stream", *, timeout: float | None = None) -> UnixSocket:
    """Connect to a listener, or to a bound datagram socket.

    Args:
        address: a path of any length, or `Abstract`.
        kind: the listener's kind.
        timeout: seconds to wait while the listener's backlog is full.

    Raises:
        NotFound: there is no such file.
        PeerGone: nobody listens there; the file is stale, or the abstract name nobody's.
        AccessDenied: the file's mode forbids it; connecting takes write permission.
        Timeout: the backlog was full until the deadline.
        WouldBlock: it is full, with a timeout of 0.
        InvalidArgument: the listener is of another kind, or the address can't be one.
        LimitReached: RLIMIT_NOFILE is used up.

    See connect(2) and unix(7).
    """
    where, number = checked_address(address), checked_type(kind)
    deadline = Deadline(timeout)
    try:
        # The class that gevent and eventlet leave alone: theirs waits for a full backlog by itself,
        # without an end.
        raw = _socket.socket(socket.AF_UNIX, number)
    except OSError as exc:
        raise descriptor_error(exc.errno or errno.EIO, op="socket") from None
    try:
        raw.settimeout(None)  # socket.setdefaulttimeout is not for us
        with for_kernel(where) as name:
            _connect(raw, name, where, deadline)
    except BaseException:
        raw.close()
        raise
    sock = wrapped(raw.detach(), number)
    try:
        made = construct(UnixSocket, sock)
        made._label = f"connection to {describe(where)}"  # noqa: SLF001 - its own kind
        return made  # noqa: TRY300 - an exception here too closes the socket
    except BaseException:
        sock.close()
        raise


def _unlimited(sock: socket.socket) -> None:
    if sock.gettimeout() is not None:  # socket.setdefaulttimeout is not for us
        sock.settimeout(None)


def _connect(
    sock: _socket.socket, name: str | bytes, where: Path | Abstract, deadline: Deadline
) -> None:
    waited = not deadline.expired
    while True:
        try:
            _connect_once(sock, name, deadline)
            # After a signal's handler Python takes the wait for done; the kernel knows better.
            sock.getpeername()
        except BlockingIOError:
            if deadline.expired:
                message = "its backlog is full: nobody accepts fast enough"
                raise late(
                    deadline, op="connect", target=describe(where), waited=waited, message=message
                ) from None
        except OSError as exc:
            if exc.errno != errno.ENOTCONN:
                raise _connect_error(exc, where) from None
        else:
            return


def _connect_once(sock: _socket.socket, name: str | bytes, deadline: Deadline) -> None:
    """Connect, waiting in the kernel: no poll tells when a UNIX listener's backlog has room."""
    remaining = deadline.remaining
    if remaining == 0:
        sock.setblocking(False)  # noqa: FBT003 - the library's signature
        try:
            sock.connect(name)
        finally:
            sock.setblocking(True)  # noqa: FBT003
        return
    if remaining is None:
        sock.connect(name)
        return
    _limit_sending(sock, max(_SHORTEST, remaining))
    try:
        sock.connect(name)
    finally:
        _limit_sending(sock, 0)


def _limit_sending(sock: _socket.socket, seconds: float) -> None:
    import struct  # noqa: PLC0415

    whole = min(int(seconds), 2**31)
    value = struct.pack("ll", whole, int((seconds - int(seconds)) * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


def _connect_error(exc: OSError, where: Path | Abstract) -> OSError:
    error = from_errno(exc.errno or errno.EIO, op="connect", target=describe(where))
    if error.errno == errno.ENOENT:
        error.strerror = "no such socket file"
        error.hint = "its server has not started yet, or has ended"
    elif error.errno == errno.ECONNREFUSED:
        error.strerror = "nobody listens there"
        if not isinstance(where, Abstract):
            error.hint = "the file is stale: its server ended without unlinking it"
    elif error.errno == errno.EPROTOTYPE:
        message = "a socket of another kind is there: stream, dgram and seqpacket don't mix"
        return InvalidArgument(
            message, errno=errno.EPROTOTYPE, op="connect", target=describe(where)
        )
    elif error.errno == errno.EACCES:
        error.hint = "connecting takes write permission on the file, and search on its directories"
    return error


@overload
def listen(
    address: Address,
    kind: Literal["stream", "seqpacket"] = ...,
    *,
    backlog: int = ...,
    mode: int = ...,
    allow_uids: Collection[int] | None = ...,
) -> UnixListener: ...
@overload
def listen(
    address: Address,
    kind: Literal["dgram"],
    *,
    backlog: int = ...,
    mode: int = ...,
    allow_uids: Collection[int] | None = ...,
) -> UnixSocket: ...
@overload
def listen(
    address: Address,
    kind: Kind,
    *,
    backlog: int = ...,
    mode: int = ...,
    allow_uids: Collection[int] | None = ...,
) -> UnixListener | UnixSocket: ...
@public("ipckit.unixsock")
def listen(
    address: Address,
    kind: Kind = "stream",
    *,
    backlog: int = socket.SOMAXCONN,
    mode: int = 0o600,
    allow_uids: Collection[int] | None = None,
) -> UnixListener | UnixSocket:
    """Make a socket that others connect or send to; it owns its file.

    A socket file that a crash left behind is replaced, once a probe showed that nobody listens
    behind it. The probe is a connection, closed at once: whoever listens there accepts it, and its
    first `receive` is the end. Two that replace one file at a time find out by a lock on its
    directory (flock); where somebody else holds that, a file counts as left behind only when it
    was made a second ago.

    Args:
        address: a path of any length, or `Abstract`. The last part of a path above 107 bytes has
            about 85 at most, since it goes behind the name of a descriptor of its directory.
        kind: ``"stream"`` or ``"seqpacket"`` for a `UnixListener`; ``"dgram"`` for a bound
            `UnixSocket`, whose packets have their sender's `address`.
        backlog: how many connections may wait; the kernel takes no more than net.core.somaxconn.
        mode: the file's permission bits, whatever the umask; connecting takes write. An abstract
            name has none: all processes of the network namespace may connect.
        allow_uids: accept these users' connections only, or their datagrams.

    Raises:
        AlreadyExists: somebody listens there, or a file that is no socket is there.
        NotFound: the directory does not exist.
        AccessDenied: the directory may not be written.
        LimitReached: RLIMIT_NOFILE is used up.
        InvalidArgument: an argument is out of range, or the last part of the path is too long.

    See bind(2), listen(2) and unix(7).
    """
    return listener.listen(address, kind, backlog=backlog, mode=mode, allow_uids=allow_uids)
