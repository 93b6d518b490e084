"""UnixSocket: messages, descriptors, credentials, arrays and handles between two processes."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, final

import ipckit._native as native
from ipckit._core.deadline import Deadline
from ipckit._core.descriptors import Descriptor
from ipckit._core.handle import Handle
from ipckit._core.public import public
from ipckit._payload.dtypes import byte_view
from ipckit._sockets import records
from ipckit._sockets.address import checked_address, for_kernel, from_kernel
from ipckit._sockets.control import check_fds, checked_max_fds, numbers_of
from ipckit._sockets.endpoint import Endpoint
from ipckit._sockets.errors import (
    deadline_passed,
    interrupted,
    receive_error,
    send_error,
    shutdown_error,
    stream_ended,
)
from ipckit._sockets.packet import Credentials, Descriptors, Packet
from ipckit._sockets.peer import Peer, peer_of, pidfd_of
from ipckit._sockets.transfer import READABLE, WRITABLE, first_allowed, retry, wait
from ipckit.errors import InvalidArgument, IpcError, Timeout, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt
    from typing_extensions import Buffer

    from ipckit._sockets.address import Address
    from ipckit._sockets.packet import Received

H = TypeVar("H", bound=Handle)

# Plain numbers: each operation on an enumeration's costs as much as a system call.
_MSG_CTRUNC: Final = int(socket.MSG_CTRUNC)
_MSG_TRUNC: Final = int(socket.MSG_TRUNC)
_POLLRDHUP: Final = 0x2000
_HOW: Final = {"read": socket.SHUT_RD, "write": socket.SHUT_WR, "both": socket.SHUT_RDWR}


@public("ipckit.unixsock")
@final
class UnixSocket(native.UnixSocketBase, Endpoint):
    """A UNIX socket that sends and receives: one end of a connection, or a datagram socket.

    `pair`, `connect`, `UnixListener.accept` and `from_fd` create one; `listen` creates a bound
    datagram socket.

    Example:
        >>> from ipckit import unixsock
        >>> a, b = unixsock.pair("seqpacket")
        >>> with a, b:
        ...     a.send(b"hello")
        ...     b.receive().data
        b'hello'

    See unix(7).
    """

    _factories = "pair, connect, UnixListener.accept or from_fd"
    _passed_as = "UnixSocket"

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
        label: str = "",
    ) -> None:
        self._pidfd: Descriptor | None = None
        super().__init__(sock, owner=owner, path=path, label=label)
        self._allow_uids = None if allow_uids is None else frozenset(allow_uids)
        self._stream = self._kind == "stream"
        self._attach(sock.fileno, Packet, Descriptors, self._stream)
        self._update_bytes_only()

    # -- sending: the calls that the extension leaves to Python ------------------------------------

    def _send_in_python(  # noqa: PLR0917 - as the extension calls it
        self,
        data: Buffer,
        fds: Iterable[Any],
        credentials: bool,  # noqa: FBT001 - as the caller of `send` gave it
        to: Address | None,
        timeout: float | None,
        sent: int,
    ) -> None:
        """Do the rest of a `send` after its first `sent` bytes, with which the descriptors went."""
        deadline = Deadline(timeout)
        view, numbers = self._checked_message(data, fds, credentials=credentials)
        if to is not None:
            with for_kernel(checked_address(to)) as name:
                self._send_once(view, numbers, deadline, name, credentials=credentials)
            return
        if sent:
            numbers, credentials = [], False
        waited = deadline.waits
        while True:
            try:
                sent += self._send_once(view[sent:], numbers, deadline, credentials=credentials)
            except (Timeout, WouldBlock) as exc:
                if sent:
                    raise interrupted(sent, len(view), exc, waited=waited) from None
                raise
            if sent >= len(view):
                return
            numbers, credentials = [], False  # they went with the first bytes

    def _checked_message(
        self, data: Buffer, fds: Iterable[Any], *, credentials: bool
    ) -> tuple[memoryview, list[int]]:
        """Return the bytes and the descriptors to send."""
        self._check_open("send")
        view = byte_view(data)
        if not view.c_contiguous:
            message = "data must be a contiguous buffer; bytes(data) creates one"
            raise InvalidArgument(message, errno=errno.EINVAL, op="send", target=self._target)
        view = view.cast("B") if view.nbytes else memoryview(b"")
        numbers = numbers_of(fds)
        if self._stream and not view and (numbers or credentials):
            message = "on a stream, descriptors and credentials need at least one byte of data"
            raise InvalidArgument(message, errno=errno.EINVAL, op="send", target=self._target)
        return view, numbers

    def _send_once(
        self,
        view: memoryview,
        numbers: list[int],
        deadline: Deadline,
        name: str | bytes | None = None,
        *,
        credentials: bool,
    ) -> int:
        """Send as much as one sendmsg(2) takes, and return how many bytes that was."""
        to = None if name is None else os.fsencode(name)

        def attempt() -> int:
            return self._sendmsg(view, numbers, credentials, to)

        try:
            if to is not None:
                return self._send_to(attempt, deadline)
            return retry(self._socket, WRITABLE, deadline, attempt, op="send", target=self._target)
        except IpcError:
            raise
        except OSError as exc:
            raise self._send_error(exc, (len(view), numbers)) from None

    def _send_to(self, attempt: Callable[[], int], deadline: Deadline) -> int:
        waited = deadline.waits
        # poll reports nothing about a receiver to which the socket is not connected.
        for _ in deadline.looks():
            try:
                return attempt()
            except BlockingIOError:
                pass
        message = "the receiver's queue is full (net.unix.max_dgram_qlen)"
        raise deadline_passed(op="send", target=self._target, waited=waited, message=message)

    def _send_error(self, exc: OSError, sent: tuple[int, Iterable[Any] | None]) -> OSError:
        """Return the error of a failed send of so many bytes and these descriptors."""
        if exc.errno is None:
            return exc  # from a signal's handler
        self._check_open("send")
        size, fds = sent
        return send_error(exc, self._target, size=size, numbers=numbers_of(fds or ()))

    # -- receiving: the calls that the extension leaves to Python ----------------------------------

    def _receive_in_python(self, max_bytes: int, max_fds: int, timeout: float | None) -> Packet:
        self._check_open("recvmsg")
        deadline = Deadline(timeout)
        return first_allowed(
            lambda: self._receive_once(max_bytes, max_fds, deadline),
            deadline,
            op="recv",
            target=self._target,
        )

    def __iter__(self) -> Iterator[Packet]:
        """Receive packets until the end, with all their descriptors.

        The last packet, with `eof`, is left out.
        """
        while not (packet := self.receive(max_fds=native.SCM_MAX_FD)).eof:
            yield packet

    def _receive_once(self, max_bytes: int, max_fds: int, deadline: Deadline) -> Packet | None:
        """Return one packet, or None if its sender is not allowed."""
        if not 0 <= max_bytes < 2**31:
            raise self._size_error(max_bytes)
        checked_max_fds(max_fds)
        try:
            try:
                received = self._recvmsg(max_bytes)
            except BlockingIOError:
                received = retry(
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
            raise self._receive_error(exc) from None
        packet = self._packet_of(received, max_bytes, max_fds)
        if self._allow_uids is not None and (
            packet.credentials is None or packet.credentials.uid not in self._allow_uids
        ):
            packet.close()
            return None
        return packet

    def _packet_of(self, received: Received, max_bytes: int, max_fds: int) -> Packet:
        """Return what the extension received as a packet, unless its descriptors are refused."""
        data, fds, sender, flags, control, address = received
        check_fds(
            fds,
            max_fds=max_fds,
            cut=bool(flags & _MSG_CTRUNC),
            crowded=control == native.CONTROL_CROWDED,
            target=self._target,
        )
        packet = Packet(
            data,
            fds,
            credentials=None if sender is None else Credentials(*sender),
            truncated=bool(flags & _MSG_TRUNC),
            address=from_kernel(address),
        )
        if not data and not control and not (max_bytes == 0 and self._stream):
            # With SO_PASSCRED each message has credentials, so that one without is the end.
            has_sender = self._kind == "seqpacket" and self.pass_credentials
            packet.eof = not packet.truncated if has_sender else self._is_at_end()
        return packet

    def _empty_packet(self) -> Packet:
        """Return the packet for a receive of no bytes; the extension calls it."""
        return Packet(b"", eof=self._is_at_end())

    def _is_at_end(self) -> bool:
        """Whether a receive of no bytes means the end, and not an empty message."""
        if self._kind == "dgram":
            return False
        if self._stream:
            return True
        return wait(self._socket, _POLLRDHUP, Deadline(0))

    def _size_error(self, max_bytes: int) -> InvalidArgument:
        message = (
            f"max_bytes must be 0 to 2**31 - 1, and fit into the free memory; it is {max_bytes}"
        )
        return InvalidArgument(message, errno=errno.EINVAL, op="recv", target=self._target)

    def _receive_error(self, exc: OSError, context: None = None) -> OSError:
        """Return the error of a failed receive; the extension passes `context`."""
        del context
        if exc.errno is None:
            return exc  # from a signal's handler
        self._check_open("recv")
        return receive_error(exc, self._target)

    # -- credentials and the socket inside ---------------------------------------------------------

    @property
    def pass_credentials(self) -> bool:
        """Whether each packet has its sender's credentials; settable.

        Messages that were sent before it was set may come without credentials.

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
        self._update_bytes_only()

    def _update_bytes_only(self) -> None:
        """Tell the extension whether a packet needs neither the sender's address nor its uid."""
        has_address = self._kind == "dgram" and bool(self._socket.getsockname())
        self._bytes_only = (
            not self.pass_credentials and not has_address and self._allow_uids is None
        )

    @property
    def socket(self) -> socket.socket:
        """The standard library's socket inside; the handle closes it.

        Raises:
            ClosedHandle: the handle is closed.
        """
        inside = super().socket
        self._exposed = True  # the caller may set SO_PASSCRED on it
        return inside

    # -- arrays and handles ------------------------------------------------------------------------

    def send_array(self, array: npt.ArrayLike, *, timeout: float | None = None) -> None:
        """Send a numpy array in sealed memory, which the receiver maps instead of copying.

        Args:
            array: of any shape and layout, and any dtype of numpy without Python objects, or of
                ml_dtypes.
            timeout: seconds to wait for room; None (the default) waits for ever, 0 not at all.

        Raises:
            TypeError: the dtype contains Python objects, or belongs to another package; or the
                array is of a subclass of ndarray other than memmap and recarray.
            LimitReached: there is no memory or descriptor left.
            IpcError: as `send`.

        Example:
            >>> import numpy as np
            >>> from ipckit import unixsock
            >>> a, b = unixsock.pair()
            >>> with a, b:
            ...     a.send_array(np.arange(4))
            ...     b.receive_array()
            array([0, 1, 2, 3])

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

        The seals guarantee that the memory neither changes nor shrinks. It is unmapped with the
        last array over it.

        Args:
            timeout: seconds to wait; None (the default) waits for ever, 0 not at all.

        Raises:
            Corrupt: the peer sent something other than an array, or its memory is not sealed.
            LayoutMismatch: the dtype belongs to ml_dtypes, which is not installed here, or is too
                old; ``.raw`` has the bytes of the array.
            PeerGone: the stream ended.
            IpcError: as `receive`.
        """
        with self._receive_record(records.ARRAY, timeout) as packet:
            return records.array_in(records.decode(packet.data), packet.fds)

    def send_handle(self, handle: Handle, *, timeout: float | None = None) -> None:
        """Send a handle, of which the peer receives a copy of the same class.

        Args:
            handle: a PosixMessageQueue, PosixSharedMemory, MemFd, Channel, Topic, UnixSocket or
                UnixListener. It stays open, and an owner stays the owner. To move the ownership of
                a socket's file, `disown` it here and `adopt` the copy there.
            timeout: seconds to wait for room; None (the default) waits for ever, 0 not at all.

        Raises:
            TypeError: it is not a handle, or handles of its class have no descriptor to pass.
            IpcError: as `send`.

        Example:
            >>> from ipckit import MemFd, unixsock
            >>> a, b = unixsock.pair()
            >>> with a, b, MemFd.create("frame", 4096) as memory:
            ...     a.send_handle(memory)
            ...     with b.receive_handle(MemFd) as copy:
            ...         copy.size
            4096
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
        """Receive a handle that `send_handle` sent; it does not own the object.

        Args:
            expected: the class that you expect; by default any. If it is a subclass of what was
                sent, the handle is an instance of the subclass.
            timeout: seconds to wait; None (the default) waits for ever, 0 not at all.
            options: for the class's `from_fd`, such as a queue's payload type as ``type=Stu``. A
                PosixSharedMemory, Channel or Topic also takes ``owner_uid=``: a user whose memory
                is accepted although that user could truncate it.

        Raises:
            LayoutMismatch: the peer sent a handle of another class.
            Corrupt: the peer sent something other than a handle, or the descriptor does not match
                the class, or it is memory that the peer could truncate.
            AccessDenied: the descriptor gives fewer rights than the class needs, or other users can
                write to the memory, or it belongs to another user.
            PeerGone: the stream ended.
            IpcError: as `receive` and `from_fd`.
        """
        with self._receive_record(records.HANDLE, timeout) as packet:
            facts = records.decode(packet.data)
            made: H = records.handle_in(facts, expected, packet.fds, options)
            return made

    def _receive_record(self, magic: bytes, timeout: float | None) -> Packet:
        """Receive the JSON text of a record, with its descriptors."""
        if self._stream:
            return self._receive_stream_record(magic, Deadline(timeout))
        size = records.PREFIX.size
        packet = self.receive(size + records.MAX_TEXT, max_fds=1, timeout=timeout)
        try:
            if packet.eof:
                message = "the peer closed its end"
                raise stream_ended(message, op="recv", target=self._target)  # noqa: TRY301
            length = records.text_size(packet.data[:size], magic)
            packet.data = packet.data[size:]
            if len(packet.data) != length:
                raise records.corrupt(  # noqa: TRY301 - every error closes the packet
                    f"{len(packet.data)} bytes instead of {length}"
                )
        except BaseException:
            packet.close()
            raise
        return packet

    def _receive_stream_record(self, magic: bytes, deadline: Deadline) -> Packet:
        waited = deadline.waits
        partial = records.PartialRecord()
        try:
            while size := partial.missing(magic):
                has_bytes = bool(partial)
                if has_bytes and waited and deadline.expired:
                    # A sender of one byte at a time always has the next byte ready.
                    raise deadline_passed(op="recv", target=self._target, waited=True)  # noqa: TRY301
                try:
                    packet = self.receive(size, max_fds=1, timeout=deadline.remaining)
                except WouldBlock as exc:
                    raise deadline_passed(
                        op=exc.op, target=exc.target, waited=waited or has_bytes
                    ) from None
                partial.add(packet, size, self._target)
        except BaseException:
            partial.fds.close()
            raise
        return partial.packet()

    # -- the other side ----------------------------------------------------------------------------

    @property
    def peer(self) -> Peer:
        """The process that created the other end.

        Raises:
            IpcError: the socket is not connected (errno ENOTCONN).
            ClosedHandle: the handle is closed.

        Example:
            >>> import os
            >>> from ipckit import unixsock
            >>> a, b = unixsock.pair()
            >>> with a, b:
            ...     a.peer.pid == os.getpid()
            True

        See unix(7), SO_PEERCRED, and SO_PEERPIDFD in Linux 6.5.
        """
        self._check_open("getsockopt")
        pid, uid, gid = peer_of(self._socket)
        if self._pidfd is None:
            self._pidfd = Descriptor(pidfd_of(self._socket))
        number = self._pidfd.number
        return Peer(pid, uid, gid, None if number < 0 else number)

    def shutdown(self, how: Literal["read", "write", "both"] = "both") -> None:
        """End one direction or both, for every process that has this socket.

        After ``"write"`` the peer reads what was sent, then the end, and can still answer. `close`
        differs: it closes the socket in this process only, and the peer reads the end when the last
        process has closed it.

        Args:
            how: which direction.

        Raises:
            InvalidArgument: `how` is none of the three.
            PeerGone: the peer has closed its end already.
            ClosedHandle: the handle is closed.

        See shutdown(2).
        """
        self._check_open("shutdown")
        if how not in _HOW:
            message = f'how must be "read", "write" or "both", not {how!r}'
            raise InvalidArgument(message, errno=errno.EINVAL, op="shutdown", target=self._target)
        try:
            self._socket.shutdown(_HOW[how])
        except OSError as exc:
            raise shutdown_error(exc, self._target) from None

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        super()._release()
        if self._pidfd is not None:
            self._pidfd.close()
