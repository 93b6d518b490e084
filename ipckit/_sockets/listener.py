"""`listen` and UnixListener: binding a UNIX socket, replacing a stale file, accepting."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal, Self, final, overload

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.descriptors import descriptor_error
from ipckit._core.directory_entry import directory_of, unlink_path
from ipckit._core.handle import checked_mode
from ipckit._core.public import public
from ipckit._core.socket_paths import SOCKET_TYPES
from ipckit._core.unix_diag import is_bound
from ipckit._sockets.address import Abstract, checked_address, checked_type, describe, for_kernel
from ipckit._sockets.endpoint import Endpoint, blocking_socket, file_at, identity_of, is_listening
from ipckit._sockets.errors import LISTENED_ON, LISTENED_ON_HINT, bind_error, not_a_socket
from ipckit._sockets.peer import peer_of
from ipckit._sockets.socket import UnixSocket
from ipckit._sockets.transfer import READABLE, first_allowed, retry, without_timeout
from ipckit.errors import AlreadyExists, InvalidArgument, IpcError, from_errno

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator
    from pathlib import Path

    from ipckit._core.socket_paths import Kind
    from ipckit._sockets.address import Address
    from ipckit._sockets.endpoint import Identity

_LOCK_SECONDS: Final = 0.25  # a listener holds the lock for about a millisecond
_PATIENCE: Final = 1.0  # seconds from bind to listen at most, on a busy machine too


@public("ipckit.unixsock")
@final
class UnixListener(Endpoint):
    """A UNIX socket that accepts connections.

    `listen`, `inherited` and `from_fd` create one. Its `socket` is non-blocking in every process
    that shares it: several processes may accept, each waits with poll, and one of them gets the
    connection. Iteration accepts connections for ever.

    A `listen` for the same path in another process connects, to find out whether a process listens
    there, and closes the connection at once. Such a connection is accepted like any other, and its
    first `receive` returns a packet with `eof`.

    Example:
        >>> from ipckit import unixsock
        >>> with unixsock.listen("/tmp/greeter.sock") as listener:
        ...     client = unixsock.connect("/tmp/greeter.sock")
        ...     with listener.accept(timeout=5) as server, client:
        ...         server.send(b"hello")
        ...         client.receive().data
        b'hello'

    See unix(7).
    """

    _factories = "listen or from_fd"
    _passed_as = "UnixListener"

    def __init__(
        self,
        sock: socket.socket,
        *,
        owner: bool = False,
        path: Path | None = None,
        allow_uids: Collection[int] | None = None,
    ) -> None:
        self._allow_uids = None if allow_uids is None else frozenset(allow_uids)
        sock.setblocking(False)  # noqa: FBT003 - the library's signature
        super().__init__(sock, owner=owner, path=path)

    @classmethod
    def _adopted(cls, sock: socket.socket) -> Self:
        if not is_listening(sock):
            message = f"descriptor {sock.fileno()} is not a listening socket"
            raise InvalidArgument(message, errno=errno.EINVAL, op="from_fd")
        return construct(cls, sock)

    @property
    def allow_uids(self) -> frozenset[int] | None:
        """The user ids whose connections are accepted; None for all users. Settable."""
        return self._allow_uids

    @allow_uids.setter
    def allow_uids(self, value: Collection[int] | None) -> None:
        self._allow_uids = None if value is None else frozenset(value)

    def accept(self, *, timeout: float | None = None) -> UnixSocket:
        """Accept the next connection.

        A connection from a user who is not in `allow_uids` is closed at once, and `accept` waits
        for the next.

        Args:
            timeout: seconds to wait; None (the default) waits for ever, 0 not at all.

        Returns:
            The connection.

        Raises:
            Timeout: no process connected before the deadline.
            WouldBlock: no connection waits, with a timeout of 0.
            LimitReached: the process has no descriptor left (RLIMIT_NOFILE); the connection stays
                in the backlog.
            ClosedHandle: the handle is closed.

        See accept(2).
        """
        deadline = Deadline(timeout)
        return first_allowed(
            lambda: self._accept_one(deadline), deadline, op="accept", target=self._target
        )

    def _accept_one(self, deadline: Deadline) -> UnixSocket | None:
        """Accept one connection; return None if its user is not allowed."""
        self._check_open("accept")
        try:
            number = retry(
                self._socket,
                READABLE,
                deadline,
                lambda: native.socket_accept(self._socket.fileno()),
                op="accept",
                target=self._target,
            )
        except IpcError:
            raise
        except OSError as exc:
            self._check_open("accept")
            code = exc.errno or errno.EIO
            raise descriptor_error(code, op="accept", target=self._target) from None
        sock = blocking_socket(number, SOCKET_TYPES[self._kind])
        try:
            if self._allow_uids is None or peer_of(sock).uid in self._allow_uids:
                return construct(UnixSocket, sock, label=f"connection of {self._label}")
        except BaseException:
            sock.close()
            raise
        sock.close()
        return None

    def __iter__(self) -> Iterator[UnixSocket]:
        while True:
            yield self.accept()


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
    """Create a socket that other processes connect or send to; it owns its file.

    If a socket file is there already, `listen` connects to it. If no process listens on it, the
    file is stale, and `listen` replaces it. A process that does listen accepts that connection, and
    its first `receive` on it returns a packet with `eof`. Two processes that replace the same file
    take turns by a lock on its directory (flock). If another process keeps the lock, a file counts
    as stale only if it was created a second ago or earlier.

    Args:
        address: a path of any length, or `Abstract`. The last part of a path of more than 107 bytes
            may have about 85, because it follows the name of a descriptor of its directory.
        kind: ``"stream"`` (the default) or ``"seqpacket"`` for a `UnixListener`; ``"dgram"`` for a
            bound `UnixSocket`, whose packets have their sender's `address`.
        backlog: how many connections may wait to be accepted; the kernel's limit is
            net.core.somaxconn.
        mode: the file's permission bits, regardless of the umask; connecting takes write
            permission. An abstract name has no permissions: all processes of the network
            namespace may connect.
        allow_uids: accept connections or datagrams of these users only; by default of all.

    Returns:
        A `UnixListener`, or a `UnixSocket` for datagrams.

    Raises:
        AlreadyExists: a process listens there or has bound the file, or the file is not a socket.
        NotFound: the directory does not exist.
        AccessDenied: the process may not write to the directory.
        LimitReached: the process has no descriptor left (RLIMIT_NOFILE).
        InvalidArgument: an argument is out of range, or the last part of the path is too long.

    Example:
        >>> from ipckit import unixsock
        >>> with unixsock.listen("/tmp/hello.sock") as listener:
        ...     with unixsock.connect("/tmp/hello.sock") as client, listener.accept() as server:
        ...         client.send(b"hello")
        ...         server.receive().data
        b'hello'

    See bind(2), listen(2) and unix(7).
    """
    number = checked_type(kind)
    where = checked_address(address)
    checked_mode(mode)
    backlog = int_argument("backlog", backlog)
    if not 0 <= backlog < 2**31:
        message = f"backlog must be 0 to 2**31 - 1, not {backlog}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="listen")
    allowed = None if allow_uids is None else frozenset(allow_uids)
    try:
        sock = without_timeout(socket.socket(socket.AF_UNIX, number))
    except OSError as exc:
        raise descriptor_error(exc.errno or errno.EIO, op="socket") from None
    try:
        if allowed is not None and kind == "dgram":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        if isinstance(where, Abstract):
            with for_kernel(where) as name:
                _bind(sock, name, where)
            _start_listening(sock, kind, backlog)
            return _handle(sock, kind, None, allowed)
        _bind_file(sock, where, kind, backlog, mode)
        file = file_at(where)
        try:
            return _handle(sock, kind, where, allowed)
        except BaseException:
            if file is not None and file == file_at(where):
                with suppress(OSError):
                    where.unlink()
            raise
    except BaseException:
        sock.close()
        raise


def _handle(
    sock: socket.socket, kind: Kind, path: Path | None, allow_uids: frozenset[int] | None
) -> UnixListener | UnixSocket:
    owner = path is not None
    if kind == "dgram":
        return construct(UnixSocket, sock, owner=owner, path=path, allow_uids=allow_uids)
    return construct(UnixListener, sock, owner=owner, path=path, allow_uids=allow_uids)


def _start_listening(sock: socket.socket, kind: Kind, backlog: int) -> None:
    if kind != "dgram":
        sock.listen(backlog)


def _bind(sock: socket.socket, name: str | bytes, where: Path | Abstract) -> None:
    try:
        sock.bind(name)
    except OSError as exc:
        raise bind_error(exc, where) from None


def _bind_file(sock: socket.socket, path: Path, kind: Kind, backlog: int, mode: int) -> None:
    # bind(2) creates the file with the socket's mode less the umask: never more than asked for.
    os.fchmod(sock.fileno(), mode)
    # Between bind and listen the file looks stale. The lock keeps other listeners from probing it.
    with _locked(path) as locked, for_kernel(path, binding=True) as name:
        try:
            _bind(sock, name, path)
        except AlreadyExists:
            _remove_stale(path, kind, patience=0.0 if locked else _PATIENCE)
            _bind(sock, name, path)
        made = file_at(path)
        try:
            if made is not None:
                _set_mode(path, made, mode)
            _start_listening(sock, kind, backlog)
        except BaseException:
            with suppress(OSError):
                if made is not None:
                    unlink_path(path, lambda status: identity_of(status) == made)
            raise


def _set_mode(path: Path, made: Identity, mode: int) -> None:
    """Set the mode of a socket's file, if the path still leads to that file."""
    try:
        with directory_of(path) as directory:
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            held = os.open(path.name, flags, dir_fd=directory)
    except OSError:
        return  # the file was removed
    try:
        status = os.fstat(held)
        if identity_of(status) == made and status.st_mode & 0o777 != mode:
            # chmod(2) of the path would follow a link that another process put there.
            os.chmod(f"/proc/self/fd/{held}", mode)  # noqa: PTH101 - /proc, not a file
    except OSError as exc:
        raise from_errno(exc.errno or errno.EIO, op="chmod", target=describe(path)) from None
    finally:
        os.close(held)


@contextmanager
def _locked(path: Path) -> Generator[bool]:
    """Lock a socket's directory against other listeners; yield False if that fails.

    Any process that may read a directory may lock it for as long as it likes, in /tmp a process of
    any user. So no listener depends on the lock: it only saves a wait.
    """
    try:
        held = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno == errno.EACCES:
            yield False
            return
        raise from_errno(exc.errno or errno.EIO, op="bind", target=describe(path)) from None
    try:
        yield any(_try_lock(held) for _ in Deadline(_LOCK_SECONDS).looks())
    finally:
        # Closing alone would leave it locked if another thread forked: the child keeps the same
        # open file description until it exits.
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_UN)
        os.close(held)


def _try_lock(held: int) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the file system has no locks
        return False
    return True


def _remove_stale(path: Path, kind: Kind, *, patience: float) -> None:
    """Remove a socket file on which no process listens.

    Args:
        path: the file.
        kind: of socket.
        patience: the least age of the file, in seconds. The process that created a younger file
            may be about to listen.

    Raises:
        AlreadyExists: a process listens or has bound it, or the file is not a socket.
    """
    found = file_at(path)
    if found is None:
        with suppress(FileNotFoundError):
            message = not_a_socket(path.lstat())
            hint = "use another path, or remove the file"
            raise AlreadyExists(
                message, errno=errno.EEXIST, op="bind", target=describe(path), hint=hint
            )
        return
    age = time.time() - found[2] / 1e9
    for _ in Deadline(min(max(0.0, patience - age), patience)).looks():
        if not _has_no_listener(path, kind):
            raise AlreadyExists(
                LISTENED_ON,
                errno=errno.EADDRINUSE,
                op="bind",
                target=describe(path),
                hint=LISTENED_ON_HINT,
            )
    with suppress(FileNotFoundError):
        unlink_path(path, lambda status: identity_of(status) == found)


def _has_no_listener(path: Path, kind: Kind) -> bool:
    """Whether no process listens on a socket file.

    Raises:
        AlreadyExists: this user may not connect to it.
    """
    with socket.socket(socket.AF_UNIX, checked_type(kind)) as probe, for_kernel(path) as name:
        probe.setblocking(False)  # noqa: FBT003 - a full backlog is an answer too
        try:
            probe.connect(name)
        except FileNotFoundError:
            return True
        except ConnectionRefusedError:
            # A process that has bound it may be about to listen, or refuses for another reason.
            try:
                return not is_bound(path.lstat())
            except FileNotFoundError:
                return True
        except PermissionError:
            message = "permission denied while checking for a listener on another user's socket"
            raise AlreadyExists(
                message, errno=errno.EADDRINUSE, op="bind", target=describe(path)
            ) from None
        except OSError:
            return False  # EAGAIN: its backlog is full; EPROTOTYPE: it is of another kind
    return False
