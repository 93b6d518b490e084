"""Messages over a UNIX socket: bytes, descriptors and credentials, both ways."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, Final

from ipckit import _native
from ipckit._deadline import Deadline
from ipckit._dtypes import check_array
from ipckit._sock_io import NO_WAIT, READABLE, WRITABLE, late, partly, repeat, wait
from ipckit._unix_address import checked_address, for_kernel, shown
from ipckit._unix_base import Endpoint
from ipckit._unix_control import (
    check_fds,
    checked_max_fds,
    controls,
    numbers_of,
    room_for,
    send_error,
)
from ipckit._unix_packet import Credentials, Descriptors, Packet
from ipckit.errors import InvalidArgument, IpcError, Timeout, WouldBlock, from_errno

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from typing_extensions import Buffer

    from ipckit._unix_address import Address
    from ipckit._unix_control import Received

# Plain numbers: each operation on an enumeration's costs as much as a system call.
MSG_CTRUNC: Final = int(socket.MSG_CTRUNC)
MSG_TRUNC: Final = int(socket.MSG_TRUNC)
_POLLRDHUP: Final = 0x2000


class Messages(_native.UnixSocketBase, Endpoint):
    """A UNIX socket that sends and receives."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        owner: bool = False,
        path: Path | None = None,
        allow_uids: Collection[int] | None = None,
    ) -> None:
        super().__init__(sock, owner=owner, path=path)
        self._rooms: dict[int, int] = {}  # of control buffers, by how many descriptors
        self._allow_uids = None if allow_uids is None else frozenset(allow_uids)
        self._stream = self._kind == "stream"
        self._attach(sock.fileno, Packet, Descriptors, self._stream)
        credentials = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED))
        named = self._kind == "dgram" and bool(sock.getsockname())
        self._plain = not credentials and not named and allow_uids is None

    # -- sending and receiving: what the native base leaves to Python ------------------------------

    def _send_slowly(  # noqa: PLR0917 - as the native base calls it
        self,
        data: Buffer,
        fds: Iterable[Any],
        credentials: bool,  # noqa: FBT001 - as it came
        to: Address | None,
        timeout: float | None,
        sent: int,
    ) -> None:
        """`send`, after the first `sent` bytes, and the descriptors with them."""
        deadline = Deadline(timeout)
        view, numbers, extra = self._prepared(data, fds, credentials=credentials)
        if to is not None:
            with for_kernel(checked_address(to)) as name:
                self._attempt(view, numbers, deadline, extra, name)
            return
        if sent:
            extra = []
        waited = not deadline.expired
        while True:
            try:
                sent += self._attempt(view[sent:], numbers, deadline, extra)
            except (Timeout, WouldBlock) as exc:
                if sent:
                    raise partly(sent, len(view), exc, waited=waited) from None
                raise
            if sent >= len(view):
                return
            extra, numbers = [], []  # they went with the first bytes

    def _prepared(
        self, data: Buffer, fds: Iterable[Any], *, credentials: bool
    ) -> tuple[memoryview, list[int], list[Any]]:
        """What is to be sent: the bytes, the descriptors, and their control messages."""
        self._check_open("send")
        check_array(data)
        view = memoryview(data)
        if not view.c_contiguous:
            message = "data is a contiguous buffer; bytes(data) makes one"
            raise InvalidArgument(message, errno=errno.EINVAL, op="send", target=self._target)
        view = view.cast("B") if view.nbytes else memoryview(b"")
        numbers = numbers_of(fds)
        if self._stream and not view and (numbers or credentials):
            message = "on a stream, descriptors and credentials need a byte to go with"
            raise InvalidArgument(message, errno=errno.EINVAL, op="send", target=self._target)
        return view, numbers, controls(numbers, credentials=credentials)

    def _attempt(
        self,
        view: memoryview,
        numbers: list[int],
        deadline: Deadline,
        extra: list[Any],
        name: str | bytes | None = None,
    ) -> int:
        try:
            if name is not None:
                return self._send_to(view, extra, name, deadline)
            return repeat(
                self._socket,
                WRITABLE,
                deadline,
                lambda: self._socket.sendmsg([view], extra, NO_WAIT),
                op="send",
                target=self._target,
            )
        except IpcError:
            raise
        except OSError as exc:
            raise self._send_error(exc, len(view), numbers) from None

    def _send_to(
        self, view: memoryview, extra: list[Any], name: str | bytes, deadline: Deadline
    ) -> int:
        waited = not deadline.expired
        # poll tells nothing of a receiver that the socket is not connected to.
        for _ in deadline.looks():
            try:
                return self._socket.sendmsg([view], extra, NO_WAIT, name)
            except BlockingIOError:
                pass
        message = "the receiver's queue is full (net.unix.max_dgram_qlen)"
        raise late(deadline, op="send", target=self._target, waited=waited, message=message)

    def _ended(self) -> Packet:
        """The packet for no bytes at all."""
        return Packet(b"", eof=self._is_end())

    def _is_end(self) -> bool:
        if self._kind == "dgram":
            return False
        if self._stream:
            return True
        return wait(self._socket, _POLLRDHUP, Deadline(0))

    def _receive_slowly(self, max_bytes: int, max_fds: int, timeout: float | None) -> Packet:
        self._check_open("recvmsg")
        deadline = Deadline(timeout)
        while True:
            packet = self._receive_message(max_bytes, max_fds, deadline)
            if packet is not None:
                return packet

    def _receive_message(self, max_bytes: int, max_fds: int, deadline: Deadline) -> Packet | None:
        """One packet; None for one whose sender is not allowed."""
        if not 0 <= max_bytes < 2**31:
            raise self._size_error(max_bytes)
        room = self._rooms.get(max_fds)
        if room is None:
            # The sum is what a buffer for each needs: the kernel pads the last one too.
            room = room_for(self._socket, checked_max_fds(max_fds))
            self._rooms[max_fds] = room
        try:
            try:
                found = self._recvmsg(max_bytes, room)
            except BlockingIOError:
                found = repeat(
                    self._socket,
                    READABLE,
                    deadline,
                    lambda: self._recvmsg(max_bytes, room),
                    op="recv",
                    target=self._target,
                )
        except IpcError:
            raise
        except MemoryError:
            raise self._size_error(max_bytes) from None
        except OSError as exc:
            raise self._explain_receive(exc) from None
        packet = self._sorted(found, max_bytes, max_fds)
        if self._allow_uids is not None and (
            packet.credentials is None or packet.credentials.uid not in self._allow_uids
        ):
            packet.close()
            return None
        return packet

    def _sorted(self, found: Received, max_bytes: int, max_fds: int) -> Packet:
        data, fds, sender, told, controlled, address = found
        check_fds(fds, max_fds=max_fds, cut=bool(told & MSG_CTRUNC), target=self._target)
        packet = Packet(
            data,
            fds,
            credentials=None if sender is None else Credentials(*sender),
            truncated=bool(told & MSG_TRUNC),
            address=shown(address),
        )
        if not data and not controlled and not (max_bytes == 0 and self._stream):
            # Where each message says who sent it, one that says nothing is none.
            tells = self._kind == "seqpacket" and bool(self._room_beside_fds())
            packet.eof = not packet.truncated if tells else self._is_end()
        return packet

    def _room_beside_fds(self) -> int:
        if 0 not in self._rooms:
            self._rooms[0] = room_for(self._socket, 0)
        return self._rooms[0]

    def _size_error(self, max_bytes: int) -> InvalidArgument:
        message = f"max_bytes is {max_bytes}; it takes 0 to 2**31 - 1, and what memory has"
        return InvalidArgument(message, errno=errno.EINVAL, op="recv", target=self._target)

    def _send_error(self, exc: OSError, size: int, fds: Iterable[Any]) -> OSError:
        if exc.errno is None:
            return exc  # a signal's handler raised it
        self._check_open("send")
        return send_error(exc, self._target, size=size, numbers=numbers_of(fds))

    def _explain_send(self, exc: OSError, context: tuple[int, Iterable[Any] | None]) -> OSError:
        """Called by the native `send` that failed."""
        return self._send_error(exc, context[0], context[1] or ())

    def _explain_receive(self, exc: OSError, context: None = None) -> OSError:
        """Called by the native `receive` that failed."""
        del context
        if exc.errno is None:
            return exc  # a signal's handler raised it
        self._check_open("recv")
        message = ""
        if exc.errno == errno.ECONNRESET:
            message = "the peer closed its end with bytes unread"
        elif exc.errno == errno.ENOTCONN:
            message = "it is not connected"
        return from_errno(exc.errno or errno.EIO, op="recv", target=self._target, message=message)

    @property
    def pass_credentials(self) -> bool:
        """Whether each packet says who sent it; settable.

        What was sent before it was set may come without.

        Raises:
            ClosedHandle: the handle is closed.

        See unix(7), SO_PASSCRED.
        """
        self._check_open("getsockopt")
        return bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED))

    @pass_credentials.setter
    def pass_credentials(self, value: bool) -> None:
        self._check_open("setsockopt")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, int(value))
        self._rooms.clear()
        named = self._kind == "dgram" and bool(self._socket.getsockname())
        self._plain = not value and not named and self._allow_uids is None
