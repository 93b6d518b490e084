"""`pair` and `connect`: connected UNIX sockets."""

from __future__ import annotations

import _socket
import errno
import socket
import struct
from typing import TYPE_CHECKING, Final

from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.descriptors import descriptor_error
from ipckit._core.public import public
from ipckit._sockets.address import checked_address, checked_type, describe, for_kernel
from ipckit._sockets.endpoint import blocking_socket
from ipckit._sockets.errors import connect_error, deadline_passed
from ipckit._sockets.socket import UnixSocket
from ipckit._sockets.transfer import without_timeout

if TYPE_CHECKING:
    from pathlib import Path

    from ipckit._core.socket_paths import Kind
    from ipckit._sockets.address import Abstract, Address

_SHORTEST: Final = 1e-6  # seconds: for the kernel, 0 means no timeout


@public("ipckit.unixsock")
def pair(kind: Kind = "stream") -> tuple[UnixSocket, UnixSocket]:
    """Create two sockets that are connected to each other, for a parent and its child process.

    Args:
        kind: ``"stream"`` (the default) for a stream of bytes; ``"seqpacket"`` for messages, with
            `Packet.eof` after the peer closes its end; ``"dgram"`` for messages, without it.

    Returns:
        The two ends.

    Raises:
        LimitReached: the process has no descriptor left (RLIMIT_NOFILE).
        InvalidArgument: there is no such kind.

    Example:
        >>> from ipckit import unixsock
        >>> a, b = unixsock.pair()
        >>> with a, b:
        ...     a.send(b"ping")
        ...     b.receive(timeout=5).data
        b'ping'

    See socketpair(2).
    """
    number = checked_type(kind)
    try:
        first, second = socket.socketpair(socket.AF_UNIX, number)
    except OSError as exc:
        raise descriptor_error(exc.errno or errno.EIO, op="socketpair") from None
    try:
        for sock in (first, second):
            without_timeout(sock)
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
        kind: the listener's kind; by default ``"stream"``.
        timeout: seconds to wait while the listener's backlog is full; None (the default) waits for
            ever, 0 not at all.

    Returns:
        The connected socket.

    Raises:
        NotFound: there is no such file.
        PeerGone: no process listens there: the file is stale, or the abstract name is unused.
        AccessDenied: the file's mode forbids it; connecting takes write permission.
        Timeout: the backlog was full until the deadline.
        WouldBlock: the backlog is full, with a timeout of 0.
        InvalidArgument: the listener is of another kind, or the address is invalid.
        LimitReached: the process has no descriptor left (RLIMIT_NOFILE).

    Example:
        >>> from ipckit import unixsock
        >>> unixsock.connect("/tmp/no-server.sock")
        Traceback (most recent call last):
        ...
        ipckit.errors.NotFound: connect on UNIX socket /tmp/no-server.sock: no such socket file; ...

    See connect(2) and unix(7).
    """
    where, number = checked_address(address), checked_type(kind)
    deadline = Deadline(timeout)
    try:
        # Not `socket.socket`, which gevent and eventlet replace: their class waits for a full
        # backlog by itself, without a deadline.
        raw = _socket.socket(socket.AF_UNIX, number)
    except OSError as exc:
        raise descriptor_error(exc.errno or errno.EIO, op="socket") from None
    try:
        raw.settimeout(None)  # undoes socket.setdefaulttimeout
        with for_kernel(where) as name:
            _connect(raw, name, where, deadline)
    except BaseException:
        raw.close()
        raise
    sock = blocking_socket(raw.detach(), number)
    try:
        return construct(UnixSocket, sock, label=f"connection to {describe(where)}")
    except BaseException:
        sock.close()
        raise


def _connect(
    sock: _socket.socket, name: str | bytes, where: Path | Abstract, deadline: Deadline
) -> None:
    waited = deadline.waits
    while True:
        try:
            _connect_once(sock, name, deadline)
            # If a signal handler ran, connect may return before the socket is connected.
            sock.getpeername()
        except BlockingIOError:
            if deadline.expired:
                message = "its backlog is full: the listener accepts too slowly"
                raise deadline_passed(
                    op="connect", target=describe(where), waited=waited, message=message
                ) from None
        except OSError as exc:
            if exc.errno != errno.ENOTCONN:
                raise connect_error(exc, where) from None
        else:
            return


def _connect_once(sock: _socket.socket, name: str | bytes, deadline: Deadline) -> None:
    """Connect, waiting in the kernel: poll does not report room in a UNIX listener's backlog."""
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
    whole = min(int(seconds), 2**31)
    value = struct.pack("ll", whole, int((seconds - int(seconds)) * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
