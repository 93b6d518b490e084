"""Peers over the kernel: pipes, sockets, and the message queues of System V and POSIX."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import socket
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from channel.lane import Lane, depth, fresh_name

if TYPE_CHECKING:
    from collections.abc import Callable

_CONTEXT = multiprocessing.get_context("spawn")
_SO_SNDBUFFORCE = 32  # socket(7); the socket module has no name for it
_BUFFER = 2**22


class MultiprocessingPipe(Lane):
    """multiprocessing.Pipe in its faster form: one-way, and bytes without pickle."""

    name = "multiprocessing.Pipe"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._ends = _CONTEXT.Pipe(duplex=False)

    def sender(self) -> Callable[[bytes], object]:
        """Return the peer's own method."""
        return self._ends[1].send_bytes

    def receiver(self) -> Callable[[], bytes]:
        """Return the peer's own method."""
        return self._ends[0].recv_bytes

    def close(self) -> None:
        """Close this process's ends."""
        for end in self._ends:
            end.close()


class MultiprocessingQueue(Lane):
    """multiprocessing.Queue, which pickles every message."""

    name = "multiprocessing.Queue"
    shared = True

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._queue: Any = _CONTEXT.Queue(maxsize=min(depth(size), 32767))

    def sender(self) -> Callable[[bytes], object]:
        """Return the peer's own method."""
        return self._queue.put

    def receiver(self) -> Callable[[], bytes]:
        """Return the peer's own method."""
        return self._queue.get

    def close(self) -> None:
        """Close this process's ends."""
        self._queue.close()
        self._queue.join_thread()


class Pipe(Lane):
    """os.pipe with a large buffer. All messages have one size, so none needs a header."""

    name = "os.pipe"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._ends = _CONTEXT.Pipe(duplex=False)
        with suppress(OSError):  # beyond fs.pipe-max-size: keep the default
            fcntl.fcntl(self._ends[1].fileno(), fcntl.F_SETPIPE_SZ, 2**20)

    def sender(self) -> Callable[[bytes], object]:
        """Return a function that sends, with one system call if the pipe has room."""
        return partial(os.write, self._ends[1].fileno())

    def receiver(self) -> Callable[[], bytes]:
        """Return a function that receives, with one system call if that returns all."""
        read = partial(os.read, self._ends[0].fileno())
        size = self.size
        if size <= 4096:  # pipe(7): a write up to PIPE_BUF is atomic
            return partial(read, size)

        def receive() -> bytes:
            data = read(size)
            if len(data) == size:
                return data
            parts = [data]
            left = size - len(data)
            while left > 0:
                parts.append(read(left))
                left -= len(parts[-1])
            return b"".join(parts)

        return receive

    def close(self) -> None:
        """Close this process's ends."""
        for end in self._ends:
            end.close()


class _SocketPair(Lane):
    kind: socket.SocketKind

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._ends = socket.socketpair(socket.AF_UNIX, self.kind)
        try:
            self._ends[0].setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER)
        except PermissionError:
            self._ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)

    def close(self) -> None:
        """Close this process's ends."""
        for end in self._ends:
            end.close()


class SeqPacket(_SocketPair):
    """A pair of SOCK_SEQPACKET sockets."""

    name = "socketpair SEQPACKET"
    kind = socket.SOCK_SEQPACKET
    shared = True
    largest = 2**20

    def sender(self) -> Callable[[bytes], object]:
        """Return the peer's own method."""
        return self._ends[0].send

    def receiver(self) -> Callable[[], bytes]:
        """Return the peer's own method."""
        return partial(self._ends[1].recv, self.size)


class Stream(_SocketPair):
    """A pair of SOCK_STREAM sockets, with messages of one size."""

    name = "socketpair STREAM"
    kind = socket.SOCK_STREAM

    def sender(self) -> Callable[[bytes], object]:
        """Return the peer's own method."""
        return self._ends[0].sendall

    def receiver(self) -> Callable[[], bytes]:
        """Return the peer's own method."""
        return partial(self._ends[1].recv, self.size, socket.MSG_WAITALL)


class SysV(Lane):
    """sysv_ipc's message queue."""

    name = "sysv_ipc"
    module = package = "sysv_ipc"
    shared = True
    largest = 8192  # kernel.msgmax

    def __init__(self, size: int) -> None:
        import sysv_ipc  # noqa: PLC0415 - a peer may be missing

        super().__init__(size)
        self._key = sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX).key

    def _open(self) -> Any:
        import sysv_ipc  # noqa: PLC0415 - a peer may be missing

        return sysv_ipc.MessageQueue(self._key, max_message_size=self.size)

    def sender(self) -> Callable[[bytes], object]:
        """Return the peer's own method; the type is 1 by default."""
        return self._open().send

    def receiver(self) -> Callable[[], bytes]:
        """Return the peer's own method, without the type that it also returns."""
        receive = self._open().receive
        return lambda: receive()[0]

    def close(self) -> None:
        """Remove the queue."""
        self._open().remove()


class Posix(Lane):
    """posix_ipc's message queue."""

    name = "posix_ipc"
    module = package = "posix_ipc"
    shared = True
    largest = 8192  # fs.mqueue.msgsize_max

    def __init__(self, size: int) -> None:
        import posix_ipc  # noqa: PLC0415 - a peer may be missing

        super().__init__(size)
        self._name = f"/{fresh_name()}"
        queue = posix_ipc.MessageQueue(
            self._name, posix_ipc.O_CREX, max_messages=10, max_message_size=size
        )
        queue.close()

    def _open(self) -> Any:
        import posix_ipc  # noqa: PLC0415 - a peer may be missing

        return posix_ipc.MessageQueue(self._name)

    def sender(self) -> Callable[[bytes], object]:
        """Return the peer's own method."""
        return self._open().send

    def receiver(self) -> Callable[[], bytes]:
        """Return the peer's own method, without the priority that it also returns."""
        receive = self._open().receive
        return lambda: receive()[0]

    def close(self) -> None:
        """Remove the queue."""
        import posix_ipc  # noqa: PLC0415 - a peer may be missing

        posix_ipc.unlink_message_queue(self._name)


LANES: tuple[type[Lane], ...] = (
    MultiprocessingPipe,
    MultiprocessingQueue,
    SysV,
    Posix,
    SeqPacket,
    Stream,
    Pipe,
)
