"""UNIX sockets and framed streams in an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self, final

from ipckit._aio.face import Face, waiters_of
from ipckit._aio.wait_queue import POLLED, Unfinished, Wakeup
from ipckit._core.deadline import Deadline
from ipckit._core.handle import Handle
from ipckit._core.public import public
from ipckit._native import SCM_MAX_FD
from ipckit._sockets import records
from ipckit._sockets.address import checked_address, for_kernel
from ipckit._sockets.control import checked_max_fds
from ipckit._sockets.errors import interrupted
from ipckit._sockets.framed import Framed
from ipckit._sockets.listener import UnixListener
from ipckit._sockets.socket import UnixSocket
from ipckit._sockets.transfer import send_now
from ipckit.errors import Timeout, WouldBlock

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    import numpy.typing as npt
    from typing_extensions import Buffer

    from ipckit._aio.wait_queue import Waiters
    from ipckit._sockets.address import Address
    from ipckit._sockets.packet import Packet

    H = TypeVar("H", bound=Handle)

_NOW: Final = Deadline(0)
_CHUNKS_PER_TURN: Final = 8  # of about 100 KiB each, before the loop runs other tasks
_SEND: Final = "send"
_RECEIVE: Final = "receive"


class _StreamSend:
    """A send on a stream: its bytes, and how many of them are sent.

    An instance is an attempt for `Waiters.call`.

    Args:
        waiters: the stream's waiters, with the rest of a cancelled send.
        sock: the stream.
        view: the bytes.
        first: sends the first bytes and returns how many, for a send with descriptors.
    """

    def __init__(
        self,
        waiters: Waiters,
        sock: socket.socket,
        view: memoryview,
        first: Callable[[], int] | None = None,
    ) -> None:
        self._waiters = waiters
        self._sock = sock
        self._view = view
        self._first = first
        self._sent = 0

    def __call__(self) -> None:
        for _ in range(_CHUNKS_PER_TURN):
            unsent = self._waiters.unsent
            if unsent:
                self._waiters.unsent = unsent[self._send_chunk(unsent) :]
            elif self._first is not None:
                self._sent = self._first()
                self._first = None
            elif self._sent < len(self._view):
                self._sent += self._send_chunk(self._view[self._sent :])
            if self._first is None and self._sent >= len(self._view):
                return
        raise Unfinished

    def _send_chunk(self, view: memoryview) -> int:
        try:
            return send_now(self._sock, view)
        except BlockingIOError as exc:
            raise WouldBlock(
                "the send buffer is full",
                errno=exc.errno or 0,
                op="send",
                target=self._waiters.target(),
            ) from None

    async def run(self, timeout: float | None, wakeup: Wakeup) -> None:
        """Send all bytes; if that ends in between, keep the rest for the next send."""
        try:
            await self._waiters.call(_SEND, self, timeout, wakeup)
        except BaseException as exc:
            if not 0 < self._sent < len(self._view):
                raise
            self._waiters.unsent = memoryview(bytes(self._view[self._sent :]))
            if not isinstance(exc, (Timeout, WouldBlock)):
                raise
            raise interrupted(
                self._sent,
                len(self._view),
                exc,
                waited=isinstance(exc, Timeout),
                hint="the next send sends the rest first",
            ) from None


@public("ipckit.aio")
@final
class Socket(Face[UnixSocket]):
    """A `UnixSocket` in an event loop.

    If a send on a stream is cancelled or its deadline passes, the next call sends the rest first.
    So the stream never lacks a part of a message.

    Example:
        >>> import asyncio
        >>> from ipckit import aio, pair
        >>> async def main():
        ...     a, b = pair()
        ...     async with aio.wrap(a) as near, aio.wrap(b) as far:
        ...         await near.send(b"hello")
        ...         return (await far.receive(timeout=10)).data
        >>> asyncio.run(main())
        b'hello'
    """

    __slots__ = ("_readable", "_writable")

    def __init__(self, handle: UnixSocket) -> None:
        super().__init__(handle, waiters_of(handle))
        stream = handle.kind == "stream"
        self._readable = Wakeup(handle.fileno, parts=stream)
        self._writable = Wakeup(handle.fileno, writing=True, parts=stream)

    async def send(
        self,
        data: Buffer,
        *,
        fds: Iterable[Any] = (),
        credentials: bool = False,
        to: Address | None = None,
        timeout: float | None = None,
    ) -> None:
        """Send bytes, and descriptors with them, as `UnixSocket.send`.

        Args:
            data: bytes, or any contiguous buffer, which must not change during the call.
            fds: up to 253 descriptors: numbers, or objects with `fileno`; they must stay open
                during the call.
            credentials: send this process's pid, real uid and real gid.
            to: a datagram's receiver, if the socket is not connected.
            timeout: seconds to wait for room; None (the default) waits for ever, 0 not at all.

        Raises:
            PeerGone: the peer closed its end.
            Timeout: there was no room until the deadline. If a part of a stream's bytes had been
                sent by then, the message says how many.
            IpcError: as `UnixSocket.send`.

        See sendmsg(2) and unix(7).
        """
        handle = self._handle
        view, numbers = handle._checked_message(data, fds, credentials=credentials)
        if to is not None:
            where = checked_address(to)

            def send_to() -> int:
                with for_kernel(where) as name:
                    return handle._send_once(view, numbers, _NOW, name, credentials=credentials)

            # No descriptor reports room at a receiver to which the socket is not connected.
            await self._waiters.call((_SEND, where), send_to, timeout, POLLED)
            return

        def send() -> int:
            return handle._send_once(view, numbers, _NOW, credentials=credentials)

        if handle.kind == "stream":
            await _StreamSend(self._waiters, handle.socket, view, send).run(timeout, self._writable)
        else:
            await self._waiters.call(_SEND, send, timeout, self._writable)

    async def receive(
        self, max_bytes: int = 65536, *, max_fds: int = 0, timeout: float | None = None
    ) -> Packet:
        """Receive a message, or on a stream the bytes that are there, as `UnixSocket.receive`.

        Args:
            max_bytes: the most bytes to take, 1 or more; by default 64 KiB.
            max_fds: how many descriptors the caller accepts, 0 (the default) to 253.
            timeout: seconds to wait; None (the default) waits for ever, 0 not at all.

        Returns:
            The packet, which owns the descriptors that came; `eof` is set at the end.

        Raises:
            Timeout: nothing came before the deadline.
            WouldBlock: nothing is there, with a timeout of 0.
            IpcError: as `UnixSocket.receive`.

        See recvmsg(2) and unix(7).
        """
        handle = self._handle
        checked_max_fds(max_fds)

        def attempt() -> Packet:
            handle._check_open("recvmsg")
            packet = handle._receive_once(max_bytes, max_fds, _NOW)
            if packet is None:
                raise Unfinished
            return packet

        return await self._waiters.call(_RECEIVE, attempt, timeout, self._readable)

    async def send_array(self, array: npt.ArrayLike, *, timeout: float | None = None) -> None:
        """Send a numpy array in sealed memory, as `UnixSocket.send_array`.

        Copying the array into that memory blocks the event loop: 64 MiB take about 20 ms. For a
        larger array use ``asyncio.to_thread(sock.handle.send_array, array)``.

        Args:
            array: as for `UnixSocket.send_array`.
            timeout: seconds to wait for room; None (the default) waits for ever, 0 not at all.

        Raises:
            IpcError: as `UnixSocket.send_array`.
        """
        self._handle._check_open("send_array")
        record, memory = records.array_out(array)
        if memory is None:
            await self.send(record, timeout=timeout)
            return
        with memory:
            await self.send(record, fds=(memory.fileno(),), timeout=timeout)

    async def receive_array(self, *, timeout: float | None = None) -> npt.NDArray[Any]:
        """Receive an array that `send_array` sent, as `UnixSocket.receive_array`.

        Args:
            timeout: seconds to wait; None (the default) waits for ever, 0 not at all.

        Raises:
            IpcError: as `UnixSocket.receive_array`.
        """
        with await self._record(records.ARRAY, timeout) as packet:
            return records.array_in(records.decode(packet.data), packet.fds)

    async def send_handle(self, handle: Handle, *, timeout: float | None = None) -> None:
        """Send a handle, as `UnixSocket.send_handle`.

        Args:
            handle: a PosixMessageQueue, PosixSharedMemory, MemFd, Channel, Topic, UnixSocket or
                UnixListener; not what `wrap` returned for it.
            timeout: seconds to wait for room; None (the default) waits for ever, 0 not at all.

        Raises:
            IpcError: as `UnixSocket.send_handle`.
        """
        self._handle._check_open("send_handle")
        record, fd = records.handle_out(handle)
        await self.send(record, fds=(fd,), timeout=timeout)

    async def receive_handle(
        self,
        expected: type[H] = Handle,  # type: ignore[assignment]
        *,
        timeout: float | None = None,
        **options: Any,
    ) -> H:
        """Receive a handle that `send_handle` sent, as `UnixSocket.receive_handle`.

        Args:
            expected: the class that you expect; by default any.
            timeout: seconds to wait; None (the default) waits for ever, 0 not at all.
            options: for the class's `from_fd`, such as a queue's payload type as ``type=Stu``.

        Returns:
            The handle itself; `wrap` returns a face of it.

        Raises:
            IpcError: as `UnixSocket.receive_handle`.
        """
        with await self._record(records.HANDLE, timeout) as packet:
            facts = records.decode(packet.data)
            made: H = records.handle_in(facts, expected, packet.fds, options)
            return made

    async def _record(self, magic: bytes, timeout: float | None) -> Packet:
        handle, waiters = self._handle, self._waiters

        def whole() -> Packet:
            return handle._receive_record(magic, 0)

        def parts() -> Packet:
            handle._check_open("recvmsg")
            # A cancelled call may have received the beginning of this record.
            partial = waiters.partial = waiters.partial or records.PartialRecord()
            try:
                while size := partial.missing(magic):
                    packet = handle._receive_once(size, 1, _NOW)
                    if packet is not None:
                        partial.add(packet, size, handle._target)
            except WouldBlock:
                raise
            except BaseException:
                waiters.partial = None
                partial.fds.close()
                raise
            waiters.partial = None
            return partial.packet()

        attempt = parts if handle.kind == "stream" else whole
        return await waiters.call(_RECEIVE, attempt, timeout, self._readable)

    def __aiter__(self) -> Self:
        """Receive packets until the end, with all their descriptors.

        The last packet, with `eof`, is left out.
        """
        return self

    async def __anext__(self) -> Packet:
        packet = await self.receive(max_fds=SCM_MAX_FD)
        if packet.eof:
            raise StopAsyncIteration
        return packet


@public("ipckit.aio")
@final
class Listener(Face[UnixListener]):
    """A `UnixListener` in an event loop; iteration accepts connections for ever.

    Example:
        >>> import asyncio
        >>> from ipckit import aio, connect, listen
        >>> async def main():
        ...     async with aio.wrap(listen("face.sock")) as listener:
        ...         async with aio.wrap(connect("face.sock")) as client:
        ...             async with await listener.accept() as server:
        ...                 await client.send(b"hello")
        ...                 return (await server.receive()).data
        >>> asyncio.run(main())
        b'hello'
    """

    __slots__ = ("_readable",)

    def __init__(self, handle: UnixListener) -> None:
        super().__init__(handle, waiters_of(handle))
        self._readable = Wakeup(handle.fileno)

    async def accept(self, *, timeout: float | None = None) -> Socket:
        """Accept the next connection, as `UnixListener.accept`, and wrap it.

        Args:
            timeout: seconds to wait; None (the default) waits for ever, 0 not at all.

        Raises:
            Timeout: no process connected before the deadline.
            WouldBlock: no connection waits, with a timeout of 0.
            IpcError: as `UnixListener.accept`.

        See accept(2).
        """
        handle = self._handle

        def attempt() -> UnixSocket:
            made = handle._accept_one(_NOW)
            if made is None:
                raise Unfinished
            return made

        return Socket(await self._waiters.call("accept", attempt, timeout, self._readable))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Socket:
        return await self.accept()


@public("ipckit.aio")
@final
class Frames(Face[Framed]):
    """A `Framed` stream in an event loop.

    Cancelling a call never cuts a frame: the next send sends the rest of a cancelled one first, and
    the next receive continues with the bytes of a cancelled one.

    Example:
        >>> import asyncio
        >>> from ipckit import Framed, LengthPrefixed, aio, pair
        >>> async def main():
        ...     a, b = pair()
        ...     async with (
        ...         aio.wrap(Framed(a, LengthPrefixed())) as near,
        ...         aio.wrap(Framed(b, LengthPrefixed())) as far,
        ...     ):
        ...         await near.send(b"a frame")
        ...         return await far.receive()
        >>> asyncio.run(main())
        b'a frame'
    """

    __slots__ = ("_readable", "_writable")

    def __init__(self, handle: Framed) -> None:
        given = handle._given
        super().__init__(handle, waiters_of(given if isinstance(given, Handle) else handle))
        self._readable = Wakeup(handle.fileno, parts=True)
        self._writable = Wakeup(handle.fileno, writing=True, parts=True)

    @property
    def closed(self) -> bool:
        """Whether the socket was closed."""
        return self._handle.fileno() < 0

    async def send(self, frame: Buffer, *, timeout: float | None = None) -> None:
        """Send one frame, as `Framed.send`.

        Args:
            frame: its bytes.
            timeout: seconds to wait for room; None (the default) waits for ever, 0 not at all.

        Raises:
            Timeout: there was no room until the deadline; the message says how much was sent. The
                next send sends the rest first.
            IpcError: as `Framed.send`.
        """
        handle = self._handle
        view = memoryview(handle.framing.encode(frame))
        sock = handle._socket
        await _StreamSend(self._waiters, sock, view).run(timeout, self._writable)

    async def receive(self, *, timeout: float | None = None) -> bytes:
        """Receive the next frame, as `Framed.receive`.

        Args:
            timeout: seconds to wait for the whole frame; None (the default) waits for ever, 0 not
                at all. The next call continues with the bytes that came.

        Raises:
            PeerGone: the stream ended.
            Timeout: the frame was not complete before the deadline.
            IpcError: as `Framed.receive`.
        """
        frame = await self._next(timeout)
        if frame is None:
            raise self._handle._end_error()
        return frame

    async def _next(self, timeout: float | None) -> bytes | None:
        handle = self._handle

        def attempt() -> bytes | None:
            frames = handle._frames
            if not frames:
                handle._feed(b"")
            for _ in range(_CHUNKS_PER_TURN):
                if frames:
                    return frames.popleft()
                if not handle._fill(_NOW):
                    return None
            raise Unfinished

        return await self._waiters.call(_RECEIVE, attempt, timeout, self._readable)

    def __aiter__(self) -> Self:
        """Receive frames until the stream ends; raise PeerGone if it ends inside a frame."""
        return self

    async def __anext__(self) -> bytes:
        frame = await self._next(None)
        if frame is None:
            raise StopAsyncIteration
        return frame
