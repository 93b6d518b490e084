"""UnixListener: a UNIX socket that accepts connections, and the file that leads to it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Self

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.descriptors import descriptor_error
from ipckit._core.directory_entry import directory_of, unlink_path
from ipckit._core.handle import checked_mode
from ipckit._core.public import public
from ipckit._sockets.address import (
    TYPES,
    Abstract,
    Address,
    Kind,
    checked_address,
    checked_type,
    describe,
    for_kernel,
)
from ipckit._sockets.endpoint import (
    Endpoint,
    Identity,
    file_at,
    identity_of,
    is_listening,
    wrapped,
)
from ipckit._sockets.socket import UnixSocket, peer_of
from ipckit._sockets.waiting import READABLE, admitted, repeat
from ipckit.errors import AlreadyExists, InvalidArgument, IpcError, from_errno

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator
    from pathlib import Path

_LOCK_SECONDS: Final = 0.25  # a listener holds it for a millisecond or so
_PATIENCE: Final = 1.0  # seconds: who has bound listens by then, on a busy machine too


@public("ipckit.unixsock")
class UnixListener(Endpoint):
    """A UNIX socket that others connect to.

    Make one with `listen`, `inherited` or `from_fd`. Its `socket` is non-blocking, for whatever
    process shares it: several may accept, each waits with poll, and one gets the connection.
    Iterating over it accepts for ever.

    A `listen` elsewhere on the same path connects to see whether somebody listens, and closes at
    once: such a connection is accepted like any other, and its first `receive` is the end.
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
            message = f"descriptor {sock.fileno()} does not listen"
            raise InvalidArgument(message, errno=errno.EINVAL, op="from_fd")
        return construct(cls, sock)

    @property
    def allow_uids(self) -> frozenset[int] | None:
        """The users whose connections are accepted; None for all. Settable."""
        return self._allow_uids

    @allow_uids.setter
    def allow_uids(self, value: Collection[int] | None) -> None:
        self._allow_uids = None if value is None else frozenset(value)

    def accept(self, *, timeout: float | None = None) -> UnixSocket:
        """The next connection.

        One from a user who is not allowed is closed at once, and the next is waited for.

        Args:
            timeout: seconds to wait; None waits for ever, 0 not at all.

        Raises:
            Timeout: nobody connected until the deadline.
            WouldBlock: nobody waits, with a timeout of 0.
            LimitReached: RLIMIT_NOFILE is used up; the connection goes on waiting.
            ClosedHandle: the handle is closed.

        See accept(2).
        """
        deadline = Deadline(timeout)
        return admitted(
            lambda: self._accept_one(deadline), deadline, op="accept", target=self._target
        )

    def _accept_one(self, deadline: Deadline) -> UnixSocket | None:
        """One connection; None for one that is not allowed."""
        self._check_open("accept")
        try:
            number = repeat(
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
        sock = wrapped(number, TYPES[self._kind])
        try:
            if self._allow_uids is None or peer_of(sock).uid in self._allow_uids:
                made = construct(UnixSocket, sock)
                made._label = f"connection of {self._label}"  # noqa: SLF001 - its own kind
                return made
        except BaseException:
            sock.close()
            raise
        sock.close()
        return None

    def __iter__(self) -> Iterator[UnixSocket]:
        while True:
            yield self.accept()


def listen(
    address: Address,
    kind: Kind = "stream",
    *,
    backlog: int = socket.SOMAXCONN,
    mode: int = 0o600,
    allow_uids: Collection[int] | None = None,
) -> UnixListener | UnixSocket:
    """Bind a socket; see `ipckit.unixsock.listen`."""
    number = checked_type(kind)
    where = checked_address(address)
    checked_mode(mode)
    backlog = int_argument("backlog", backlog)
    if not 0 <= backlog < 2**31:
        message = f"backlog is {backlog}; it takes 0 to 2**31 - 1"
        raise InvalidArgument(message, errno=errno.EINVAL, op="listen")
    allowed = None if allow_uids is None else frozenset(allow_uids)
    try:
        sock = socket.socket(socket.AF_UNIX, number)
    except OSError as exc:
        raise descriptor_error(exc.errno or errno.EIO, op="socket") from None
    try:
        if sock.gettimeout() is not None:  # socket.setdefaulttimeout is not for us
            sock.settimeout(None)
        if allowed is not None and kind == "dgram":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        if isinstance(where, Abstract):
            with for_kernel(where) as name:
                _bind(sock, name, where)
            _begin(sock, kind, backlog)
            path = None
        else:
            _bind_file(sock, where, kind, backlog, mode)
            path = where
        file = None if path is None else file_at(path)
        try:
            owner = path is not None
            if kind == "dgram":
                return construct(UnixSocket, sock, owner=owner, path=path, allow_uids=allowed)
            return construct(UnixListener, sock, owner=owner, path=path, allow_uids=allowed)
        except BaseException:
            if path is not None and file is not None and file == file_at(path):
                with suppress(OSError):
                    path.unlink()
            raise
    except BaseException:
        sock.close()
        raise


def _begin(sock: socket.socket, kind: Kind, backlog: int) -> None:
    if kind != "dgram":
        sock.listen(backlog)


def _bind(sock: socket.socket, name: str | bytes, where: Path | Abstract) -> None:
    try:
        sock.bind(name)
    except OSError as exc:
        error = from_errno(exc.errno or errno.EIO, op="bind", target=describe(where))
        if error.errno == errno.EADDRINUSE:
            error.strerror = "somebody listens there already"
            error.hint = "connect to it, or stop it first"
        elif error.errno == errno.ENOENT:
            error.strerror = "its directory does not exist"
        raise error from None


def _bind_file(sock: socket.socket, path: Path, kind: Kind, backlog: int, mode: int) -> None:
    # The file gets its mode from the socket's, less the umask: never more than was asked for.
    os.fchmod(sock.fileno(), mode)
    # From bind to listen the file looks stale to others: nobody probes meanwhile.
    with _locked(path) as alone, for_kernel(path, binding=True) as name:
        try:
            _bind(sock, name, path)
        except AlreadyExists:
            _remove_stale(path, kind, patience=0.0 if alone else _PATIENCE)
            _bind(sock, name, path)
        made = file_at(path)
        try:
            if made is not None:
                _give_mode(path, made, mode)
            _begin(sock, kind, backlog)
        except BaseException:
            with suppress(OSError):
                if made is not None:
                    unlink_path(path, lambda status: identity_of(status) == made)
            raise


def _give_mode(path: Path, made: Identity, mode: int) -> None:
    """Set the mode of a socket's file, if the path leads to that file still."""
    try:
        with directory_of(path) as directory:
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            held = os.open(path.name, flags, dir_fd=directory)
    except OSError:
        return  # it was removed: there is nothing to protect
    try:
        status = os.fstat(held)
        if identity_of(status) == made and status.st_mode & 0o777 != mode:
            # chmod(2) of the path would follow a link that was put there meanwhile.
            os.chmod(f"/proc/self/fd/{held}", mode)  # noqa: PTH101 - no path of a file
    except OSError as exc:
        raise from_errno(exc.errno or errno.EIO, op="chmod", target=describe(path)) from None
    finally:
        os.close(held)


@contextmanager
def _locked(path: Path) -> Generator[bool]:
    """Hold a socket's directory against other listeners; false where it can't be had.

    Whoever may read a directory may lock it, in /tmp any user and for as long as he likes: the
    lock spares listeners a wait, and none depends on it.
    """
    try:
        held = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno == errno.EACCES:
            yield False
            return
        raise from_errno(exc.errno or errno.EIO, op="bind", target=describe(path)) from None
    try:
        yield any(_got_lock(held) for _ in Deadline(_LOCK_SECONDS).looks())
    finally:
        # Closing alone would leave it locked if another thread has forked meanwhile: the child has
        # the same file description, for as long as it lives.
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_UN)
        os.close(held)


def _got_lock(held: int) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody has it, or a file system without locks
        return False
    return True


def _remove_stale(path: Path, kind: Kind, *, patience: float) -> None:
    """Remove a socket file that nobody listens behind.

    Args:
        path: the file.
        kind: of socket.
        patience: how many seconds ago it must have been made; a younger one may have an owner
            that is about to listen.

    Raises:
        AlreadyExists: somebody does, or it is no socket.
    """
    found = file_at(path)
    if found is None:
        if os.path.lexists(path):
            message = "there is a file that is no socket"
            raise AlreadyExists(message, errno=errno.EEXIST, op="bind", target=describe(path))
        return
    age = time.time() - found[2] / 1e9
    for _ in Deadline(min(max(0.0, patience - age), patience)).looks():
        if not _refused(path, kind):
            message = "somebody listens there already"
            hint = "connect to it, or stop it first"
            raise AlreadyExists(
                message, errno=errno.EADDRINUSE, op="bind", target=describe(path), hint=hint
            )
    with suppress(FileNotFoundError):
        unlink_path(path, lambda status: identity_of(status) == found)


def _refused(path: Path, kind: Kind) -> bool:
    """Whether nobody answers behind a socket file.

    Raises:
        AlreadyExists: this user may not ask.
    """
    with socket.socket(socket.AF_UNIX, checked_type(kind)) as probe, for_kernel(path) as name:
        probe.setblocking(False)  # noqa: FBT003 - a full backlog is an answer
        try:
            probe.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except PermissionError:
            message = "there is another user's socket, and no right to see whether he listens"
            raise AlreadyExists(
                message, errno=errno.EADDRINUSE, op="bind", target=describe(path)
            ) from None
        except OSError:
            return False  # EAGAIN: it is busy; EPROTOTYPE: it is of another kind
    return False
