"""What all UNIX sockets have: a socket of the standard library, and perhaps a file."""

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
from ipckit._sockets.address import KINDS, Kind, describe, shown
from ipckit.errors import InvalidArgument, NotFound, from_errno

if TYPE_CHECKING:
    from ipckit._sockets.address import Address

SOCKET_CAPS: Final = Capabilities(
    pollable=True, timed=True, priorities=False, typed_receive=False, unlink_destroys_now=False
)

Identity = tuple[int, int, int]


def file_at(path: Path) -> Identity | None:
    """What tells the socket file at a path from any later one; None where there is none."""
    try:
        return identity_of(path.lstat())
    except OSError:
        return None


def identity_of(status: os.stat_result) -> Identity | None:
    """What tells a socket's file from any later one; None if the file is no socket."""
    # An inode number is used again at once on some file systems, with another time.
    identity = (status.st_dev, status.st_ino, status.st_mtime_ns)
    return identity if stat.S_ISSOCK(status.st_mode) else None


def adopt_socket(fd: int) -> socket.socket:
    """A socket object over a descriptor that came from elsewhere, and which it takes over.

    Raises:
        InvalidArgument: it is no UNIX socket of a kind that ipckit knows; the descriptor is
            still the caller's.
    """
    checked_fd(fd)
    made: socket.socket | None = None
    try:
        made = _socket_of(fd)
        if made.family != socket.AF_UNIX or int(made.type) not in KINDS:
            message = f"descriptor {fd} is a socket of {made.family!r} and {made.type!r}, "
            message += "not of UNIX"
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
        message = f"descriptor {fd} is no socket"
        raise InvalidArgument(message, errno=exc.errno or errno.ENOTSOCK, op="from_fd") from None


def wrapped(fd: int, number: int) -> socket.socket:
    """A socket object that blocks, over a new UNIX socket of a type, which it takes over."""
    try:
        made = socket.socket(socket.AF_UNIX, number, 0, fd)
    except BaseException:
        os.close(fd)
        raise
    if made.gettimeout() is not None:  # socket.setdefaulttimeout is not for us
        made.settimeout(None)
    return made


def is_listening(sock: socket.socket) -> bool:
    """Whether a socket accepts connections."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


class Endpoint(Handle):
    """A UNIX socket of any kind."""

    caps = SOCKET_CAPS

    def __init__(
        self, sock: socket.socket, *, owner: bool = False, path: Path | None = None
    ) -> None:
        self._socket = sock
        self._kind: Kind = KINDS[int(sock.type)]
        if path is None:
            named = shown(sock.getsockname())
            if isinstance(named, str) and named.startswith("/") and "/proc/self/" not in named:
                path = Path(named)
        self._path = path
        self._file = None if path is None else file_at(path)
        self._label = describe(path if path is not None else shown(sock.getsockname()))
        super().__init__(owner=owner)

    @classmethod
    def _adopted(cls, sock: socket.socket) -> Self:
        return construct(cls, sock)

    @property
    def kind(self) -> Kind:
        """Stream, dgram or seqpacket."""
        return self._kind

    @property
    def address(self) -> Address | None:
        """What the socket is bound to: a path, an abstract name, or None.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("getsockname")
        return str(self._path) if self._path is not None else shown(self._socket.getsockname())

    @property
    def socket(self) -> socket.socket:
        """The standard library's socket inside, which stays the handle's.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("socket")
        return self._socket

    def fileno(self) -> int:
        """The descriptor, which stays the handle's.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("fileno")
        return self._socket.fileno()

    def _told_path(self, text: str) -> None:
        """Take a path for the socket's own, as far as the kernel's name for it bears it out."""
        named, path = shown(self._socket.getsockname()), Path(text)
        if isinstance(named, str) and path.is_absolute() and Path(named).name == path.name:
            self._path, self._file, self._label = path, file_at(path), describe(path)

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        try:
            self._socket.close()
        except OSError:  # somebody else closed it: nothing is left to let go of
            self._socket.detach()

    def _failed(self) -> bool:
        return self._socket.fileno() < 0  # closed, or the caller's again

    def _still_ours(self) -> bool:
        return self._path is None or self._file == file_at(self._path)

    def _remove(self) -> None:
        if self._path is None or self._file is None:
            message = "it has no file to unlink"
            raise NotFound(message, errno=errno.ENOENT, op="unlink", target=self._target)
        try:
            if unlink_path(self._path, lambda status: identity_of(status) == self._file):
                return
        except OSError as exc:
            if exc.errno not in {errno.ENOENT, errno.ENOTDIR}:
                code = exc.errno or errno.EIO
                raise from_errno(code, op="unlink", target=self._target) from None
        message = "its file is gone, or another socket's by now"
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
        """Take over a descriptor that came from elsewhere; never owns the socket's file.

        Where this fails, the descriptor is still the caller's.

        Args:
            fd: the descriptor of a UNIX socket.

        Raises:
            InvalidArgument: it is something else.
        """
        sock: socket.socket | None = None
        try:
            sock = adopt_socket(fd)
            return cls._adopted(sock)
        except BaseException:
            if sock is not None:
                sock.detach()
            raise
