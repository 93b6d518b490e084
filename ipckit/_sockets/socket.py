"""UnixSocket: messages, descriptors, credentials, arrays and handles between two processes."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from ipckit._core.deadline import Deadline
from ipckit._core.descriptors import Descriptor
from ipckit._core.handle import Handle
from ipckit._core.public import public
from ipckit._sockets import records
from ipckit._sockets.messages import Messages
from ipckit._sockets.packet import Credentials, Packet
from ipckit._sockets.peer import Peer
from ipckit._sockets.waiting import gone, late
from ipckit.errors import InvalidArgument, IpcError, WouldBlock, from_errno

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import numpy.typing as npt


H = TypeVar("H", bound=Handle)

_SO_PEERPIDFD: Final = 77  # Linux 6.5
_UCRED: Final = struct.Struct("iII")
_NOBODY: Final = 0xFFFFFFFF
_HOW: Final = {"read": socket.SHUT_RD, "write": socket.SHUT_WR, "both": socket.SHUT_RDWR}


@public("ipckit.unixsock")
class UnixSocket(Messages):
    """One end of a UNIX socket, connected or for datagrams.

    Make one with `pair`, `connect`, `UnixListener.accept`, `from_fd`, or for datagrams with
    `listen`. See unix(7).
    """

    _factories = "pair, connect, UnixListener.accept or from_fd"

    _passed_as = "UnixSocket"

    def __init__(
        self,
        sock: socket.socket,
        *,
        owner: bool = False,
        path: Path | None = None,
        allow_uids: Collection[int] | None = None,
    ) -> None:
        self._pidfd: Descriptor | None = None
        super().__init__(sock, owner=owner, path=path, allow_uids=allow_uids)

    # -- arrays and handles ------------------------------------------------------------------------

    def send_array(self, array: npt.ArrayLike, *, timeout: float | None = None) -> None:
        """Send a numpy array as sealed memory, which the receiver maps and does not copy.

        Args:
            array: of any shape and layout, and any dtype without Python objects.
            timeout: seconds to wait for room.

        Raises:
            TypeError: the dtype holds Python objects.
            LimitReached: no memory or descriptor is left.
            IpcError: as `send`.

        See memfd_create(2).
        """
        self._check_open("send_array")
        record, memory = records.array_out(array)
        if memory is None:
            self.send(record, timeout=timeout)
            return
        with memory:
            self.send(record, fds=(memory.fileno(),), timeout=timeout)

    def receive_array(self, *, timeout: float | None = None) -> npt.NDArray[Any]:
        """Receive an array that `send_array` sent: read-only, over the sender's sealed memory.

        The memory can neither change nor be cut; it goes with the last array over it.

        Args:
            timeout: seconds to wait.

        Raises:
            Corrupt: what came is no array, or its memory is not sealed.
            PeerGone: the stream ended.
            IpcError: as `receive`.
        """
        with self._receive_record(records.ARRAY, timeout) as packet:
            return records.array_in(records.decode(packet.data), packet.fds)

    def send_handle(self, handle: Handle, *, timeout: float | None = None) -> None:
        """Send a handle's object to the other side, where it is a handle of the same class.

        Args:
            handle: a PosixMessageQueue, PosixSharedMemory, MemFd, UnixSocket or UnixListener. It
                stays open and its owner stays the owner; `disown` it and `adopt` the other one
                to move a socket's file with it.
            timeout: seconds to wait for room.

        Raises:
            TypeError: handles of that class have no descriptor.
            IpcError: as `send`.
        """
        self._check_open("send_handle")
        record, fd = records.handle_out(handle)
        self.send(record, fds=(fd,), timeout=timeout)

    def receive_handle(
        self,
        expected: type[H] = Handle,  # type: ignore[assignment]
        *,
        timeout: float | None = None,
        **options: Any,
    ) -> H:
        """Receive a handle that `send_handle` sent; it owns nothing but its descriptor.

        Args:
            expected: the class that is due; by default any.
            timeout: seconds to wait.
            options: for the class's `from_fd`, such as a queue's payload type as ``type=Stu``. For
                a PosixSharedMemory or a Channel also ``owner_uid=``, a user whose memory is
                accepted although that user could cut it.

        Raises:
            LayoutMismatch: another class came.
            Corrupt: what came is no handle, or not what it says, or is memory that the sender
                could cut.
            AccessDenied: the descriptor gives fewer rights than the class needs, or the memory
                belongs to another user or can be written by other users.
            PeerGone: the stream ended.
            IpcError: as `receive`, and as `from_fd`.
        """
        with self._receive_record(records.HANDLE, timeout) as packet:
            facts = records.decode(packet.data)
            made: H = records.handle_in(facts, expected, packet.fds, options)
            return made

    def _receive_record(self, magic: bytes, timeout: float | None) -> Packet:
        """A record's JSON, with its descriptors."""
        size = records.PREFIX.size
        if not self._stream:
            packet = self.receive(size + records.TEXT_MAX, max_fds=1, timeout=timeout)
            try:
                if packet.eof:
                    raise gone("the peer closed", op="recv", target=self._target)  # noqa: TRY301
                length = records.text_size(packet.data[:size], magic)
                packet.data = packet.data[size:]
                if len(packet.data) != length:
                    raise records.corrupt(f"{len(packet.data)} bytes where {length} were due")  # noqa: TRY301 - the packet is closed on all ways out
            except BaseException:
                packet.close()
                raise
            return packet
        deadline = Deadline(timeout)
        waited = not deadline.expired
        partial = records.Partial()
        try:
            while size := partial.missing(magic):
                if waited and deadline.expired:
                    # A sender that drips has a byte ready for each turn.
                    raise late(deadline, op="recv", target=self._target, waited=True)  # noqa: TRY301
                got = bool(partial)
                try:
                    packet = self.receive(size, max_fds=1, timeout=deadline.remaining)
                except WouldBlock as exc:
                    raise late(deadline, op=exc.op, target=exc.target, waited=got) from None
                partial.add(packet, size, self._target)
        except BaseException:
            partial.fds.close()
            raise
        return partial.packet()

    # -- the other side ----------------------------------------------------------------------------

    @property
    def peer(self) -> Peer:
        """Who made the other end.

        Raises:
            IpcError: with errno ENOTCONN, the socket has no one other end.
            ClosedHandle: the handle is closed.

        See unix(7), SO_PEERCRED, and SO_PEERPIDFD in Linux 6.5.
        """
        self._check_open("getsockopt")
        pid, uid, gid = peer_of(self._socket)
        if self._pidfd is None:
            self._pidfd = Descriptor(_pidfd_of(self._socket))
        number = self._pidfd.number
        return Peer(pid, uid, gid, None if number < 0 else number)

    def shutdown(self, how: Literal["read", "write", "both"] = "both") -> None:
        """End one direction or both, for every process that has this socket.

        After ``"write"`` the other side reads what was sent, then the end, and can still answer.
        `close` differs: it lets go of this process's hold alone, and the other side sees the end
        only when the last process has closed.

        Args:
            how: which direction.

        Raises:
            InvalidArgument: `how` is none of the three.
            PeerGone: the other side is gone already.
            ClosedHandle: the handle is closed.

        See shutdown(2).
        """
        self._check_open("shutdown")
        if how not in _HOW:
            message = f'how is {how!r}; it takes "read", "write" or "both"'
            raise InvalidArgument(message, errno=errno.EINVAL, op="shutdown", target=self._target)
        try:
            self._socket.shutdown(_HOW[how])
        except OSError as exc:
            code = errno.ECONNRESET if exc.errno == errno.ENOTCONN else exc.errno or errno.EIO
            raise from_errno(code, op="shutdown", target=self._target) from None

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        super()._release()
        if self._pidfd is not None:
            self._pidfd.close()


def peer_of(sock: socket.socket) -> Credentials:
    """The credentials of the other end of a connection.

    Raises:
        IpcError: with errno ENOTCONN, there is none.
    """
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    found = Credentials(*_UCRED.unpack(raw))
    if found.pid == 0 and found.uid == _NOBODY:
        message = "it is connected to nobody"
        raise IpcError(message, errno=errno.ENOTCONN, op="getsockopt", target="UNIX socket")
    return found


def _pidfd_of(sock: socket.socket) -> int:
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        # ENOPROTOOPT or EINVAL before Linux 6.5; EINVAL or ESRCH for a peer that was reaped. A
        # pidfd_open of the pid would do no better than the pid: it may be another's by now.
        return -1
