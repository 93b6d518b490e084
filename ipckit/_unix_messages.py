"""Messages over a UNIX socket: bytes, descriptors and credentials, both ways."""

from __future__ import annotations

import errno
import socket
import time
from array import array
from socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET
from typing import TYPE_CHECKING, Any, Final

from ipckit._deadline import Deadline
from ipckit._sock_io import NO_SIGNAL, NO_WAIT, READABLE, WRITABLE, late, partly, repeat, wait
from ipckit._unix_address import checked_address, for_kernel, shown
from ipckit._unix_base import Endpoint
from ipckit._unix_control import (
    accepted,
    checked_max_fds,
    controls,
    numbers_of,
    room_for,
    send_error,
    sort_out,
)
from ipckit._unix_packet import Descriptors, Packet
from ipckit.errors import InvalidArgument, IpcError, Timeout, WouldBlock, from_errno

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from typing_extensions import Buffer

    from ipckit._unix_address import Address
    from ipckit._unix_control import Cmsg

# Plain numbers: each operation on an enumeration's costs as much as a system call.
MSG_CMSG_CLOEXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
MSG_CTRUNC: Final = int(socket.MSG_CTRUNC)
MSG_TRUNC: Final = int(socket.MSG_TRUNC)
_CUT: Final = MSG_CTRUNC | MSG_TRUNC
_POLLRDHUP: Final = 0x2000
_LONGEST_PAUSE: Final = 1e-3
_new_packet: Final = Packet.__new__


class Messages(Endpoint):
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
        self._recv = sock.recv
        self._send = sock.send
        self._recvmsg = sock.recvmsg
        self._sendmsg = sock.sendmsg
        self._room: int | None = None
        self._rooms: dict[int, int] = {}  # of control buffers, by how many descriptors
        self._allow_uids = None if allow_uids is None else frozenset(allow_uids)
        self._stream = self._kind == "stream"
        # A message longer than the buffer is told by one byte more; a stream has no such thing.
        self._extra = 0 if self._stream else 1
        credentials = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED))
        named = self._kind == "dgram" and bool(sock.getsockname())
        self._plain = not credentials and not named and allow_uids is None

    # -- sending and receiving ---------------------------------------------------------------------

    def send(
        self,
        data: Buffer,
        *,
        fds: Iterable[Any] = (),
        credentials: bool = False,
        to: Address | None = None,
        timeout: float | None = None,
    ) -> None:
        """Send bytes, and descriptors with them.

        A stream takes any number of bytes; the other kinds keep each call's apart as one message.

        Args:
            data: bytes, or any contiguous buffer.
            fds: up to 253 descriptors: numbers, or whatever has `fileno`. The receiver gets
                duplicates; these stay the caller's. On a stream they need a byte to go with.
            credentials: send this process's pid, real uid and gid along, for the kernel to check.
            to: a datagram's receiver, where the socket is not connected.
            timeout: seconds to wait for room; None waits for ever, 0 not at all.

        Raises:
            PeerGone: the other side is closed. SIGPIPE is never sent.
            Timeout: there was no room until the deadline. Where part of a stream's bytes had been
                sent by then, the message says how many.
            WouldBlock: there is no room, with a timeout of 0.
            MessageTooLong: a message larger than the send buffer (SO_SNDBUF) takes.
            LimitReached: more than 253 descriptors, or more under way than RLIMIT_NOFILE.
            InvalidArgument: descriptors without a byte on a stream, or one that is not open.
            NotFound: no socket has the address `to`.
            ClosedHandle: the handle is closed.

        See sendmsg(2) and unix(7).
        """
        if isinstance(data, bytes) and timeout is None and not credentials and to is None:
            try:
                if not fds:
                    sent = self._send(data, NO_SIGNAL)
                elif data:
                    passed = (SOL_SOCKET, SCM_RIGHTS, array("i", fds))
                    sent = self._sendmsg((data,), (passed,), NO_SIGNAL)
                else:
                    sent = -1
            except (BlockingIOError, TypeError, OverflowError):
                sent = -1  # the long way tells what is wrong, or gets round it
            except OSError as exc:
                raise self._send_error(exc, len(data), fds) from None
            if sent == len(data):
                return
            if sent >= 0:
                data, fds = data[sent:], ()
        self._send_slowly(data, fds, credentials, to, timeout)

    def _send_slowly(
        self,
        data: Buffer,
        fds: Iterable[Any],
        credentials: bool,  # noqa: FBT001 - as it came
        to: Address | None,
        timeout: float | None,
    ) -> None:
        deadline = Deadline(timeout)
        view, numbers, extra = self._prepared(data, fds, credentials=credentials)
        if to is not None:
            with for_kernel(checked_address(to)) as name:
                self._attempt(view, numbers, deadline, extra, name)
            return
        sent = 0
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
        pause = 20e-6
        waited = not deadline.expired
        while True:
            try:
                return self._socket.sendmsg([view], extra, NO_WAIT, name)
            except BlockingIOError:
                if deadline.expired:
                    message = "the receiver's queue is full (net.unix.max_dgram_qlen)"
                    raise late(
                        deadline, op="send", target=self._target, waited=waited, message=message
                    ) from None
            # poll tells nothing of a receiver that the socket is not connected to.
            remaining = deadline.remaining
            time.sleep(pause if remaining is None else min(pause, remaining))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def receive(
        self, max_bytes: int = 65536, *, max_fds: int = 0, timeout: float | None = None
    ) -> Packet:
        """Receive a message; on a stream, what has come.

        Descriptors that come unasked are closed. On a stream, one call gives no bytes beyond
        those that descriptors came with. The end is a packet with `eof`. An empty seqpacket
        message is told from it, except one that its sender sent right before it closed; with
        `pass_credentials` that one is told too.

        Args:
            max_bytes: the most bytes to take, 1 or more. What is longer is cut, and `truncated`
                says so; on a stream the rest comes with the next call.
            max_fds: how many descriptors are welcome, up to 253.
            timeout: seconds to wait; None waits for ever, 0 not at all.

        Returns:
            The packet, which owns the descriptors that came.

        Raises:
            Timeout: nothing came until the deadline.
            WouldBlock: nothing is there, with a timeout of 0.
            PeerGone: the other side closed with bytes of ours unread, or nobody receives what a
                connected datagram socket sent.
            MessageTooLong: more descriptors came than `max_fds`; all are closed.
            LimitReached: the process has no room for the descriptors that came (RLIMIT_NOFILE);
                all are closed, and the message is gone.
            InvalidArgument: `max_bytes` or `max_fds` is out of range.
            ClosedHandle: the handle is closed.

        See recvmsg(2), MSG_CMSG_CLOEXEC, and unix(7).
        """
        if timeout is None and self._plain:
            if max_fds:
                return self._receive_fds(max_bytes, max_fds)
            try:
                data = self._recv(max_bytes + self._extra)
            except BlockingIOError:
                pass  # somebody who shares the socket made it non-blocking
            except OSError as exc:
                raise self._receive_error(exc) from None
            except (ValueError, OverflowError, MemoryError):
                raise self._size_error(max_bytes) from None
            else:
                if 0 < len(data) <= max_bytes:
                    packet = _new_packet(Packet)
                    packet.data = data
                    return packet
                return self._ended(data, max_bytes)
        return self._receive_slowly(max_bytes, checked_max_fds(max_fds), timeout)

    def _receive_fds(self, max_bytes: int, max_fds: int) -> Packet:
        """`receive` without a deadline, for the message that has nothing but descriptors."""
        room = self._rooms.get(max_fds)
        if room is None:
            checked_max_fds(max_fds)
            room = self._rooms[max_fds] = room_for(self._socket, max_fds)
        try:
            data, cmsgs, told, _ = self._recvmsg(max_bytes, room, MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return self._receive_slowly(max_bytes, max_fds, None)
        except OSError as exc:
            raise self._receive_error(exc) from None
        except (ValueError, OverflowError, MemoryError):
            raise self._size_error(max_bytes) from None
        if len(cmsgs) == 1 and not told & _CUT:
            level, kind, raw = cmsgs[0]
            if level == SOL_SOCKET and kind == SCM_RIGHTS and len(raw) <= max_fds * 4:
                packet = _new_packet(Packet)
                packet.data = data
                packet.fds = Descriptors(array("i", raw))
                return packet
        return self._sorted(data, cmsgs, told, None, max_bytes, max_fds)

    def _ended(self, data: bytes, max_bytes: int) -> Packet:
        if data:
            return Packet(data[:max_bytes], truncated=True)
        if max_bytes == 0 and self._stream:
            return Packet(data)
        return Packet(data, eof=self._is_end())

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
        if self._room is None:
            self._room = room_for(self._socket, 0)
        # The sum is what a buffer for each needs: the kernel pads the last one too.
        room = self._room + (CMSG_SPACE(max_fds * 4) if max_fds else 0)
        sock, flags = self._socket, NO_WAIT | MSG_CMSG_CLOEXEC
        try:
            data, cmsgs, told, sender = repeat(
                sock,
                READABLE,
                deadline,
                lambda: sock.recvmsg(max_bytes, room, flags),
                op="recv",
                target=self._target,
            )
        except IpcError:
            raise
        except OSError as exc:
            raise self._receive_error(exc) from None
        packet = self._sorted(data, cmsgs, told, sender, max_bytes, max_fds)
        if self._allow_uids is not None and (
            packet.credentials is None or packet.credentials.uid not in self._allow_uids
        ):
            packet.close()
            return None
        return packet

    def _sorted(  # noqa: PLR0917 - what recvmsg gave, and what was asked
        self,
        data: bytes,
        cmsgs: list[Cmsg],
        told: int,
        sender: object,
        max_bytes: int,
        max_fds: int,
    ) -> Packet:
        numbers, credentials = sort_out(cmsgs)
        cut = bool(told & MSG_CTRUNC)
        fds = accepted(numbers, max_fds=max_fds, cut=cut, target=self._target)
        packet = Packet(
            data,
            fds,
            credentials=credentials,
            truncated=bool(told & MSG_TRUNC),
            address=shown(sender),
        )
        if not data and not cmsgs and not (max_bytes == 0 and self._stream):
            asked = bool(self._room) and self._kind == "seqpacket"
            packet.eof = self._is_end() if not asked else not packet.truncated
        return packet

    def _size_error(self, max_bytes: int) -> InvalidArgument:
        message = f"max_bytes is {max_bytes}; it takes 0 to 2**31 - 1, and what memory has"
        return InvalidArgument(message, errno=errno.EINVAL, op="recv", target=self._target)

    def _send_error(self, exc: OSError, size: int, fds: Iterable[Any]) -> OSError:
        if exc.errno is None:
            return exc  # a signal's handler raised it
        self._check_open("send")
        return send_error(exc, self._target, size=size, numbers=numbers_of(fds))

    def _receive_error(self, exc: OSError) -> OSError:
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
        self._room = None
        self._rooms.clear()
        named = self._kind == "dgram" and bool(self._socket.getsockname())
        self._plain = not value and not named and self._allow_uids is None
