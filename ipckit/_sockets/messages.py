"""Messages over a UNIX socket: bytes, descriptors and credentials, both ways."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._core.deadline import Deadline
from ipckit._payload.dtypes import check_array
from ipckit._sockets.address import checked_address, for_kernel, shown
from ipckit._sockets.control import CROWDED, check_fds, checked_max_fds, numbers_of, send_error
from ipckit._sockets.endpoint import Endpoint
from ipckit._sockets.packet import Credentials, Descriptors, Packet
from ipckit._sockets.waiting import READABLE, WRITABLE, admitted, late, partly, repeat, wait
from ipckit.errors import InvalidArgument, IpcError, Timeout, WouldBlock, from_errno

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from typing_extensions import Buffer

    from ipckit._sockets.address import Address
    from ipckit._sockets.control import Received

# Plain numbers: each operation on an enumeration's costs as much as a system call.
MSG_CTRUNC: Final = int(socket.MSG_CTRUNC)
MSG_TRUNC: Final = int(socket.MSG_TRUNC)
_POLLRDHUP: Final = 0x2000


class Messages(native.UnixSocketBase, Endpoint):
    """A UNIX socket that sends and receives."""

    if TYPE_CHECKING:  # the extension has them

        def send(
            self,
            data: Buffer,
            *,
            fds: Iterable[Any] = (),
            credentials: bool = False,
            to: Address | None = None,
            timeout: float | None = None,
        ) -> None: ...
        def receive(
            self, max_bytes: int = 65536, *, max_fds: int = 0, timeout: float | None = None
        ) -> Packet: ...
        def _recvmsg(self, size: int, /) -> Received: ...

    def __init__(
        self,
        sock: socket.socket,
        *,
        owner: bool = False,
        path: Path | None = None,
        allow_uids: Collection[int] | None = None,
    ) -> None:
        super().__init__(sock, owner=owner, path=path)
        self._allow_uids = None if allow_uids is None else frozenset(allow_uids)
        self._stream = self._kind == "stream"
        self._attach(sock.fileno, Packet, Descriptors, self._stream)
        self._set_plain()

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
        view, numbers = self._prepared(data, fds, credentials=credentials)
        if to is not None:
            with for_kernel(checked_address(to)) as name:
                self._attempt(view, numbers, deadline, name, credentials=credentials)
            return
        if sent:
            numbers, credentials = [], False
        waited = not deadline.expired
        while True:
            try:
                sent += self._attempt(view[sent:], numbers, deadline, credentials=credentials)
            except (Timeout, WouldBlock) as exc:
                if sent:
                    raise partly(sent, len(view), exc, waited=waited) from None
                raise
            if sent >= len(view):
                return
            numbers, credentials = [], False  # they went with the first bytes

    def _prepared(
        self, data: Buffer, fds: Iterable[Any], *, credentials: bool
    ) -> tuple[memoryview, list[int]]:
        """What is to be sent: the bytes and the descriptors."""
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
        return view, numbers

    def _attempt(
        self,
        view: memoryview,
        numbers: list[int],
        deadline: Deadline,
        name: str | bytes | None = None,
        *,
        credentials: bool,
    ) -> int:
        to = None if name is None else os.fsencode(name)

        def attempt() -> int:
            return self._sendmsg(view, numbers, credentials, to)

        try:
            if to is not None:
                return self._send_to(attempt, deadline)
            return repeat(self._socket, WRITABLE, deadline, attempt, op="send", target=self._target)
        except IpcError:
            raise
        except OSError as exc:
            raise self._send_error(exc, len(view), numbers) from None

    def _send_to(self, attempt: Callable[[], int], deadline: Deadline) -> int:
        waited = not deadline.expired
        # poll tells nothing of a receiver that the socket is not connected to.
        for _ in deadline.looks():
            try:
                return attempt()
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
        return admitted(
            lambda: self._receive_message(max_bytes, max_fds, deadline),
            deadline,
            op="recv",
            target=self._target,
        )

    def _receive_message(self, max_bytes: int, max_fds: int, deadline: Deadline) -> Packet | None:
        """One packet; None for one whose sender is not allowed."""
        if not 0 <= max_bytes < 2**31:
            raise self._size_error(max_bytes)
        checked_max_fds(max_fds)
        try:
            try:
                found = self._recvmsg(max_bytes)
            except BlockingIOError:
                found = repeat(
                    self._socket,
                    READABLE,
                    deadline,
                    lambda: self._recvmsg(max_bytes),
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
        data, fds, sender, told, control, address = found
        cut = bool(told & MSG_CTRUNC)
        check_fds(fds, max_fds=max_fds, cut=cut, crowded=control == CROWDED, target=self._target)
        packet = Packet(
            data,
            fds,
            credentials=None if sender is None else Credentials(*sender),
            truncated=bool(told & MSG_TRUNC),
            address=shown(address),
        )
        if not data and not control and not (max_bytes == 0 and self._stream):
            # Where each message says who sent it, one that says nothing is none.
            tells = self._kind == "seqpacket" and self.pass_credentials
            packet.eof = not packet.truncated if tells else self._is_end()
        return packet

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
        self._set_plain()

    def _set_plain(self) -> None:
        named = self._kind == "dgram" and bool(self._socket.getsockname())
        self._plain = not self.pass_credentials and not named and self._allow_uids is None

    @property
    def socket(self) -> socket.socket:
        """The standard library's socket inside, which stays the handle's.

        Raises:
            ClosedHandle: the handle is closed.
        """
        inside = super().socket
        self._handed_out = True
        return inside
