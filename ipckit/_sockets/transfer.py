"""Waiting, sending and receiving on any stream or datagram socket, with one kind of deadline.

Whether a socket blocks is a property that all processes with that socket share, so this module
never changes it: each call passes MSG_DONTWAIT, and poll waits.

The methods of a socket that gevent or eventlet has patched wait by themselves, without a deadline,
and eventlet removes `select.poll`. So the extension polls, and it also sends and receives on the
descriptor of a patched socket, which is not a `_socket.socket`.
"""

from __future__ import annotations

import _socket
import errno
import socket
from typing import TYPE_CHECKING, Any, Final, Protocol

import ipckit._native as native
from ipckit._core.deadline import Deadline
from ipckit._payload.dtypes import byte_view
from ipckit._sockets.errors import deadline_passed, interrupted
from ipckit.errors import IpcError, Timeout, WouldBlock, from_errno

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from typing_extensions import Buffer

    T = TypeVar("T")

# Plain numbers: each operation on an enumeration's costs as much as a system call.
_NO_WAIT: Final = int(socket.MSG_DONTWAIT) | int(socket.MSG_NOSIGNAL)
READABLE: Final = 0x1  # POLLIN; eventlet removes names from the module select
WRITABLE: Final = 0x4  # POLLOUT
_MAX_REFUSED: Final = 64  # items from peers that are not allowed, in a call with a timeout of 0


class HasSocket(Protocol):
    """An object with a socket of the standard library inside, such as `UnixSocket`."""

    @property
    def socket(self) -> socket.socket:
        """The socket."""
        ...


def socket_inside(sock: socket.socket | HasSocket) -> socket.socket:
    """Return the standard library's socket of a handle, or the argument if it is one.

    Raises:
        TypeError: the argument is neither, or is a TLS socket.
    """
    # After a patch, `socket.socket` is another class than that of the sockets made before.
    kinds = (socket.socket, _socket.socket)
    found: Any = sock if isinstance(sock, kinds) else getattr(sock, "socket", None)
    if not isinstance(found, kinds):
        message = f"sock must be a UnixSocket or a socket.socket, not {type(sock).__name__}"
        raise TypeError(message)
    if hasattr(found, "do_handshake"):
        message = "sock is a TLS socket, and framing would read its encrypted bytes; "
        message += "pass what its recv returns to Framing.feed"
        raise TypeError(message)
    return found  # type: ignore[return-value]


def describe_socket(sock: socket.socket) -> str:
    """Return a socket for messages."""
    return "a closed socket" if sock.fileno() < 0 else f"socket {sock.fileno()}"


def without_timeout(sock: socket.socket) -> socket.socket:
    """Undo `socket.setdefaulttimeout` on a new socket: each call of ipckit has its own timeout."""
    if sock.gettimeout() is not None:
        sock.settimeout(None)
    return sock


def deadline_of(sock: socket.socket, timeout: float | None) -> Deadline:
    """Return the deadline of a call: from its timeout, or else from the socket's own timeout."""
    own = sock.gettimeout()
    return Deadline(own if timeout is None and own else timeout)


def wait(sock: socket.socket, events: int, deadline: Deadline) -> bool:
    """Wait until a socket is ready or has failed; return False if the deadline comes first.

    Raises:
        ClosedHandle: the socket is closed.
    """
    number = sock.fileno()
    if number < 0:
        raise from_errno(errno.EBADF, op="poll", message="the socket is closed")
    return native.socket_poll(number, events, deadline.remaining)


def retry(
    sock: socket.socket,
    events: int,
    deadline: Deadline,
    attempt: Callable[[], T],
    *,
    op: str,
    target: str = "",
) -> T:
    """Call `attempt`, which never waits, until it succeeds or the deadline passes.

    Args:
        sock: the socket to poll between two attempts.
        events: READABLE or WRITABLE.
        deadline: of the whole call.
        attempt: raises BlockingIOError if it would have to wait.
        op: the call, for messages.
        target: the socket, for messages.

    Raises:
        Timeout: the deadline passed.
        WouldBlock: the timeout is 0, and the attempt would have had to wait.
        OSError: any other error of `attempt`.
    """
    waited = deadline.waits
    while True:
        try:
            return attempt()
        except BlockingIOError:
            pass
        if not waited or not wait(sock, events, deadline):
            raise deadline_passed(
                op=op, target=target or describe_socket(sock), waited=waited
            ) from None


def first_allowed(take: Callable[[], T | None], deadline: Deadline, *, op: str, target: str) -> T:
    """Call `take` until it returns an item from a peer that is allowed.

    Peers that are not allowed could keep this loop busy for ever, because each of them has the next
    item ready. So the deadline counts for their items too, and with a timeout of 0 the loop ends
    after 64 of them.

    Args:
        take: returns None for an item from a peer that is not allowed.
        deadline: of the whole call.
        op: the call, for messages.
        target: the socket, for messages.

    Raises:
        Timeout: no other items came before the deadline.
        WouldBlock: no other items were there, with a timeout of 0.
        OSError: any error of `take`.
    """
    waited = deadline.waits
    refused = 0
    while (taken := take()) is None:
        refused += 1
        if deadline.expired and (waited or refused >= _MAX_REFUSED):
            message = "all that came was from peers that are not allowed"
            raise deadline_passed(op=op, target=target, waited=waited, message=message)
    return taken


def receive_into(sock: socket.socket, view: memoryview, deadline: Deadline) -> int:
    """Receive at least one byte, and all that is there; return 0 at the end of the stream.

    Raises:
        IpcError: by errno; also Timeout and WouldBlock.
    """
    return with_ipc_errors(
        "recv",
        sock,
        lambda: retry(sock, READABLE, deadline, lambda: receive_now(sock, view), op="recv"),
    )


def receive_now(sock: socket.socket, view: Buffer, flags: int = 0) -> int:
    """Receive the bytes that are there; return 0 at the end of the stream.

    Raises:
        BlockingIOError: no byte is there.
        OSError: any other error of recv(2).
    """
    if isinstance(sock, _socket.socket):  # false for the sockets of gevent and eventlet
        return sock.recv_into(view, 0, flags | _NO_WAIT)
    return native.socket_recv(sock.fileno(), view, flags)


def send_now(sock: socket.socket, data: Buffer) -> int:
    """Send as many bytes as there is room for, and return how many.

    SIGPIPE is never sent, even if the program has restored its default action.

    Raises:
        BlockingIOError: there is no room.
        OSError: any other error of send(2).
    """
    if isinstance(sock, _socket.socket):
        return sock.send(data, _NO_WAIT)
    return native.socket_send(sock.fileno(), data, 0)


def with_ipc_errors(op: str, sock: socket.socket, act: Callable[[], T]) -> T:
    """Call `act`, and turn a plain OSError of it into the IpcError for its errno."""
    try:
        return act()
    except IpcError:
        raise
    except OSError as exc:
        if exc.errno is None:
            raise  # from a signal's handler
        raise from_errno(exc.errno, op=op, target=describe_socket(sock)) from None


def send_all(sock: socket.socket, data: Buffer, deadline: Deadline) -> None:
    """Send all the bytes on a stream.

    Raises:
        Timeout: the deadline passed; the message says how many bytes were sent.
        IpcError: by errno.
    """
    view = byte_view(data).cast("B")
    sent = 0
    waited = deadline.waits
    while sent < len(view):
        rest = view[sent:]
        try:
            sent += with_ipc_errors(
                "send",
                sock,
                lambda rest=rest: retry(  # type: ignore[misc]
                    sock, WRITABLE, deadline, lambda: send_now(sock, rest), op="send"
                ),
            )
        except (Timeout, WouldBlock) as exc:
            if sent:
                raise interrupted(sent, len(view), exc, waited=waited) from None
            raise
