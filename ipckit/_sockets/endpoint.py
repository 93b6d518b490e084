"""The base of all UNIX socket handles: a socket of the standard library, and its file if any."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from ipckit._core.construct import construct
from ipckit._core.descriptors import checked_fd, duplicate_for_child, reopened
from ipckit._core.directory_entry import unlink_path
from ipckit._core.handle import Capabilities, Handle
from ipckit._sockets.address import KINDS, describe, from_kernel
from ipckit._sockets.transfer import without_timeout
from ipckit.errors import InvalidArgument, NotFound, from_errno

if TYPE_CHECKING:
    from ipckit._core.socket_paths import Kind
    from ipckit._sockets.address import Address

SOCKET_CAPS: Final = Capabilities(
    pollable=True, timed=True, priorities=False, typed_receive=False, unlink_destroys_now=False
)

Identity = tuple[int, int, int]


def file_at(path: Path) -> Identity | None:
    """Return the identity of the socket file at a path; None if there is no socket file."""
    try:
        return identity_of(path.lstat())
    except OSError:
        return None


def identity_of(status: os.stat_result) -> Identity | None:
    """Return the identity of a socket file, which no later file has; None for any other file."""
    # Some file systems reuse an inode number at once; the modification time differs then.
    identity = (status.st_dev, status.st_ino, status.st_mtime_ns)
    return identity if stat.S_ISSOCK(status.st_mode) else None


def adopt_socket(fd: int) -> socket.socket:
    """Return a socket object over a caller's descriptor; on success the object owns it.

    Raises:
        InvalidArgument: the descriptor is not a UNIX socket, or not of a kind that ipckit knows.
    """
    checked_fd(fd)
    made: socket.socket | None = None
    try:
        made = _socket_of(fd)
        if made.family != socket.AF_UNIX or int(made.type) not in KINDS:
            message = (
                f"descriptor {fd} is not a UNIX socket: its family is {made.family!r} and its "
            )
            message += f"type {made.type!r}"
            raise InvalidArgument(message, errno=errno.EAFNOSUPPORT, op="from_fd")  # noqa: TRY301
        os.set_inheritable(fd, False)  # noqa: FBT003 - the library's signature
        return made  # noqa: TRY300 - an exception here too closes the socket
    except BaseException:
        if made is not None:
            made.detach()
        raise


def _socket_of(fd: int) -> socket.socket:
    try:
        return socket.socket(fileno=fd)
    except OSError as exc:
        message = f"descriptor {fd} is not a socket"
        raise InvalidArgument(message, errno=exc.errno or errno.ENOTSOCK, op="from_fd") from None


def blocking_socket(fd: int, number: int) -> socket.socket:
    """Return a blocking socket object over a new descriptor, which it owns; closed on failure."""
    try:
        made = socket.socket(socket.AF_UNIX, number, 0, fd)
    except BaseException:
        os.close(fd)
        raise
    return without_timeout(made)


def is_listening(sock: socket.socket) -> bool:
    """Whether a socket is listening."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


class Endpoint(Handle):
    """A UNIX socket of any kind: its address, its file and its lifecycle."""

    caps = SOCKET_CAPS

    def __init__(
        self,
        sock: socket.socket,
        *,
        owner: bool = False,
        path: Path | None = None,
        label: str = "",
    ) -> None:
        self._socket = sock
        self._kind: Kind = KINDS[int(sock.type)]
        name = from_kernel(sock.getsockname())
        # A path below /proc/self/fd is how ipckit binds a long path.
        if path is None and isinstance(name, str):
            path = Path(name) if name.startswith("/") and "/proc/self/" not in name else None
        self._path = path
        self._file = None if path is None else file_at(path)
        self._label = label or describe(name if path is None else path)
        super().__init__(owner=owner)

    @classmethod
    def _adopted(cls, sock: socket.socket) -> Self:
        return construct(cls, sock)

    @property
    def kind(self) -> Kind:
        """``"stream"``, ``"dgram"`` or ``"seqpacket"``."""
        return self._kind

    @property
    def address(self) -> Address | None:
        """The path or abstract name that the socket is bound to, or None.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("getsockname")
        return (
            str(self._path) if self._path is not None else from_kernel(self._socket.getsockname())
        )

    @property
    def socket(self) -> socket.socket:
        """The standard library's socket inside; the handle closes it.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("socket")
        return self._socket

    def fileno(self) -> int:
        """Return the descriptor; the handle closes it.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("fileno")
        return self._socket.fileno()

    def _accept_path(self, text: str) -> None:
        """Accept a sender's word for the path of the socket, if its last part matches the kernel's.

        The kernel knows only the descriptor's path for a socket that was bound to a long path.
        """
        name, path = from_kernel(self._socket.getsockname()), Path(text)
        if isinstance(name, str) and path.is_absolute() and Path(name).name == path.name:
            self._path, self._file, self._label = path, file_at(path), describe(path)

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        try:
            self._socket.close()
        except OSError:  # the descriptor is closed already
            self._socket.detach()

    def _failed(self) -> bool:
        return self._socket.fileno() < 0  # closed, or returned to the caller of `from_fd`

    def _still_ours(self) -> bool:
        return self._path is None or self._file == file_at(self._path)

    def _remove(self) -> None:
        if self._path is None or self._file is None:
            message = "the socket has no file to unlink"
            raise NotFound(message, errno=errno.ENOENT, op="unlink", target=self._target)
        try:
            if unlink_path(self._path, lambda status: identity_of(status) == self._file):
                return
        except OSError as exc:
            if exc.errno not in {errno.ENOENT, errno.ENOTDIR}:
                code = exc.errno or errno.EIO
                raise from_errno(code, op="unlink", target=self._target) from None
        message = "its file was removed, or another socket has its path now"
        raise NotFound(message, errno=errno.ENOENT, op="unlink", target=self._target)

    @property
    def _target(self) -> str:
        return self._label

    def _size_text(self) -> str:
        return self._kind

    def _reopen_args(self) -> tuple[Any, ...]:
        return (duplicate_for_child(self._socket.fileno()),)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        return reopened(args[0].detach(), cls.from_fd)

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Create a handle over an existing descriptor; it never owns the socket's file.

        On success the handle owns the descriptor. On an error the caller still owns it.

        Args:
            fd: the descriptor of a UNIX socket.

        Raises:
            TypeError: `fd` is not an int.
            InvalidArgument: the descriptor is not a UNIX socket, or not one of this class.

        Example:
            >>> import socket
            >>> from ipckit import unixsock
            >>> a, b = socket.socketpair()
            >>> with unixsock.UnixSocket.from_fd(a.detach()) as sock, b:
            ...     sock.send(b"hello")
            ...     b.recv(99)
            b'hello'
        """
        sock: socket.socket | None = None
        try:
            sock = adopt_socket(fd)
            return cls._adopted(sock)
        except BaseException:
            if sock is not None:
                sock.detach()
            raise
