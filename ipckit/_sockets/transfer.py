"""Waiting, sending and receiving on any stream or datagram socket, with one kind of deadline.

Whether a socket blocks is a property that all processes share who have it, so nothing here
changes it: each call says by MSG_DONTWAIT that it shall not wait, and poll waits.

The methods of a socket that gevent or eventlet has patched wait by themselves, without an end, and
`select.poll` is gone under eventlet. So poll is native, and what a patched socket (it is not a
`_socket.socket`) shall do is done natively on its descriptor.
"""

from __future__ import annotations

import _socket
import errno
import socket
from typing import TYPE_CHECKING, Any, Final, Protocol

import ipckit._native as native
from ipckit._core.deadline import Deadline
from ipckit._payload.dtypes import check_array
from ipckit.errors import IpcError, PeerGone, Timeout, WouldBlock, from_errno

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from typing_extensions import Buffer

    T = TypeVar("T")

# Plain numbers: each operation on an enumeration's costs as much as a system call.
_NO_WAIT: Final = int(socket.MSG_DONTWAIT) | int(socket.MSG_NOSIGNAL)
READABLE: Final = 0x1  # POLLIN; eventlet takes parts of the module select away
WRITABLE: Final = 0x4  # POLLOUT
_REFUSED_MOST: Final = 64  # things of peers that are not allowed, in a call that does not wait


class HasSocket(Protocol):
    """What has a socket of the standard library inside, such as `UnixSocket`."""

    @property
    def socket(self) -> socket.socket:
        """The socket."""
        ...


def plain(sock: socket.socket | HasSocket) -> socket.socket:
    """The standard library's socket, for itself or for a handle of ipckit's.

    Raises:
        TypeError: it is neither.
    """
    # A patched module has another class `socket` than the sockets that were made before.
    kinds = (socket.socket, _socket.socket)
    found: Any = sock if isinstance(sock, kinds) else getattr(sock, "socket", None)
    if not isinstance(found, kinds):
        message = f"sock is a UnixSocket or a socket.socket, not {type(sock).__name__}"
        raise TypeError(message)
    if hasattr(found, "do_handshake"):
        message = "sock speaks TLS, and framing works on the bytes below it; "
        message += "feed what its recv gives to a Framing"
        raise TypeError(message)
    return found  # type: ignore[return-value]


def describe(sock: socket.socket) -> str:
    """A socket for messages."""
    return "a closed socket" if sock.fileno() < 0 else f"socket {sock.fileno()}"


def deadline_of(sock: socket.socket, timeout: float | None) -> Deadline:
    """The deadline of one call: its own, or the one that the socket was given."""
    own = sock.gettimeout()
    return Deadline(own if timeout is None and own else timeout)


def gone(message: str, *, op: str, target: str) -> PeerGone:
    """The error for a stream that ended where more was due."""
    return PeerGone(message, errno=errno.ECONNRESET, op=op, target=target)


def late(deadline: Deadline, *, op: str, target: str, waited: bool, message: str = "") -> IpcError:
    """The error for a deadline that passed; `WouldBlock` where no wait was asked for."""
    if not waited:
        return WouldBlock(
            message or "it could not be done at once", errno=errno.EAGAIN, op=op, target=target
        )
    del deadline
    return Timeout(message or "the deadline passed", errno=errno.ETIMEDOUT, op=op, target=target)


def wait(sock: socket.socket, events: int, deadline: Deadline) -> bool:
    """Sleep until a socket is ready, or failed; False where the deadline came first.

    Raises:
        ClosedHandle: the socket is closed.
    """
    number = sock.fileno()
    if number < 0:
        raise from_errno(errno.EBADF, op="poll", message="the socket is closed")
    return native.socket_poll(number, events, deadline.remaining)


def repeat(
    sock: socket.socket,
    events: int,
    deadline: Deadline,
    attempt: Callable[[], T],
    *,
    op: str,
    target: str = "",
) -> T:
    """Try something that does not wait until it works, or the deadline passes.

    Raises:
        Timeout: the deadline passed.
        WouldBlock: the deadline had no time, and it could not be done at once.
        OSError: what else `attempt` raises.
    """
    waited = not deadline.expired
    while True:
        try:
            return attempt()
        except BlockingIOError:
            pass
        if not waited or not wait(sock, events, deadline):
            raise late(deadline, op=op, target=target or describe(sock), waited=waited) from None


def admitted(take: Callable[[], T | None], deadline: Deadline, *, op: str, target: str) -> T:
    """Take things until one is not None, as it is for a peer that is not allowed.

    Peers that are not allowed could keep this busy for ever: each has the next thing ready. So
    the deadline counts for those too, and without time to wait only so many are looked at.

    Raises:
        Timeout: only such things came until the deadline.
        WouldBlock: only such things were there, and the deadline had no time.
        OSError: what else `take` raises.
    """
    waited = not deadline.expired
    refused = 0
    while (taken := take()) is None:
        refused += 1
        if deadline.expired and (waited or refused >= _REFUSED_MOST):
            message = "only peers came that are not allowed"
            raise late(deadline, op=op, target=target, waited=waited, message=message)
    return taken


def receive_into(sock: socket.socket, view: memoryview, deadline: Deadline) -> int:
    """Receive what is there, at least one byte; 0 at the end of the stream.

    Raises:
        IpcError: by errno; Timeout and WouldBlock among them.
    """
    return failing_as(
        "recv",
        sock,
        lambda: repeat(sock, READABLE, deadline, lambda: receive_now(sock, view), op="recv"),
    )


def receive_now(sock: socket.socket, view: Buffer, flags: int = 0) -> int:
    """Receive what is there; 0 at the end of the stream.

    Raises:
        BlockingIOError: nothing is there.
        OSError: as the kernel has it.
    """
    if isinstance(sock, _socket.socket):  # a subclass may have its own
        return sock.recv_into(view, 0, flags | _NO_WAIT)
    return native.socket_recv(sock.fileno(), view, flags)


def send_now(sock: socket.socket, data: Buffer) -> int:
    """Send what there is room for, without SIGPIPE, which may have its default action again.

    Raises:
        BlockingIOError: there is no room.
        OSError: as the kernel has it.
    """
    if isinstance(sock, _socket.socket):
        return sock.send(data, _NO_WAIT)
    return native.socket_send(sock.fileno(), data, 0)


def failing_as(op: str, sock: socket.socket, act: Callable[[], T]) -> T:
    """What `act` gives, with a plain OSError as the IpcError of its errno."""
    try:
        return act()
    except IpcError:
        raise
    except OSError as exc:
        if exc.errno is None:
            raise  # a signal's handler raised it
        raise from_errno(exc.errno, op=op, target=describe(sock)) from None


def send_all(sock: socket.socket, data: Buffer, deadline: Deadline) -> None:
    """Send all the bytes on a stream.

    Raises:
        Timeout: the deadline passed; the message says how many bytes were sent by then.
        IpcError: by errno.
    """
    check_array(data)
    view = memoryview(data).cast("B")
    sent = 0
    waited = not deadline.expired
    while sent < len(view):
        rest = view[sent:]
        try:
            sent += failing_as(
                "send",
                sock,
                lambda rest=rest: repeat(  # type: ignore[misc]
                    sock, WRITABLE, deadline, lambda: send_now(sock, rest), op="send"
                ),
            )
        except (Timeout, WouldBlock) as exc:
            if sent:
                raise partly(sent, len(view), exc, waited=waited) from None
            raise


def partly(sent: int, size: int, exc: IpcError, *, waited: bool) -> IpcError:
    """The error for a deadline in the middle of what was to be sent or received."""
    error = late(
        Deadline(0),
        op=exc.op,
        target=exc.target,
        waited=waited,
        message=f"the deadline passed after {sent:,} of {size:,} bytes",
    )
    error.hint = "the two sides are out of step now: close the stream"
    return error
