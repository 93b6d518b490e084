"""Peers from PyPI that copy: messaging libraries, and queues in shared memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channel.lane import Lane, depth, fresh_name

if TYPE_CHECKING:
    from collections.abc import Callable

# Imports are late, because any peer may be missing.
# ruff: noqa: PLC0415

_NO_TIME = 3600.0  # faster-fifo needs a timeout; the bench's own limit is shorter


def _address(scheme: str) -> tuple[str, Path]:
    path = Path(tempfile.gettempdir()) / fresh_name()
    return f"{scheme}://{path}", path


class Socket(Lane):
    """A lane over sockets that have a file."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._address, self._path = _address("ipc")
        self._kept: list[Any] = []

    def close(self) -> None:
        """Remove the socket file."""
        self._path.unlink(missing_ok=True)


class ZeroMq(Socket):
    """A pair of PAIR sockets of pyzmq, over ipc://."""

    name = "pyzmq PAIR"
    module = "zmq"
    package = "pyzmq"

    def _socket(self) -> Any:
        import zmq

        context = zmq.Context()
        socket = context.socket(zmq.PAIR)
        socket.set_hwm(depth(self.size))
        socket.linger = 0
        self._kept += (context, socket)
        return socket

    def sender(self) -> Callable[[bytes], object]:
        """Return the peer's own method."""
        socket = self._socket()
        socket.connect(self._address)
        return socket.send  # type: ignore[no-any-return]

    def receiver(self) -> Callable[[], bytes]:
        """Return the peer's own method."""
        socket = self._socket()
        socket.bind(self._address)
        return socket.recv  # type: ignore[no-any-return]


class Nng(Socket):
    """A pair of Pair0 sockets of pynng, over ipc://."""

    name = "pynng Pair0"
    module = package = "pynng"

    def sender(self) -> Callable[[bytes], object]:
        """Return the peer's own method."""
        import pynng

        socket = pynng.Pair0(send_buffer_size=min(depth(self.size), 8192))
        socket.dial(self._address, block=False)
        self._kept.append(socket)
        return socket.send

    def receiver(self) -> Callable[[], bytes]:
        """Return the peer's own method."""
        import pynng

        socket = pynng.Pair0(
            recv_buffer_size=min(depth(self.size), 8192), recv_max_size=2 * self.size + 64
        )
        socket.listen(self._address)
        self._kept.append(socket)
        return socket.recv


def as_it_is(message: Any) -> Any:
    """Return the message unchanged; replaces pickle in a peer that would pickle bytes."""
    return message


class FasterFifo(Lane):
    """faster-fifo without pickle, one message a call."""

    name = "faster-fifo"
    module = "faster_fifo"
    package = "faster-fifo"
    shared = True

    def __init__(self, size: int) -> None:
        import faster_fifo

        super().__init__(size)
        self._queue = faster_fifo.Queue(
            max_size_bytes=(size + 16) * depth(size), loads=bytes, dumps=as_it_is
        )

    def __getstate__(self) -> dict[str, Any]:
        import faster_fifo_reduction  # noqa: F401 - with it, the queue can be pickled

        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        import faster_fifo_reduction  # noqa: F401 - with it, the queue can be unpickled

        self.__dict__.update(state)

    def sender(self) -> Callable[[bytes], object]:
        """Return the peer's own method."""
        put = self._queue.put
        return lambda message: put(message, True, _NO_TIME)  # noqa: FBT003 - the peer's signature

    def receiver(self) -> Callable[[], bytes]:
        """Return the peer's own method."""
        get = self._queue.get
        return lambda: get(True, _NO_TIME)

    def close(self) -> None:
        """Close this process's queue."""
        self._queue.close()


class FasterFifoBatched(FasterFifo):
    """faster-fifo without pickle, 64 messages a call."""

    name = "faster-fifo, batched"
    batched = True
    shared = False

    def sender(self) -> Callable[[list[bytes]], object]:
        """Return the peer's own method."""
        put = self._queue.put_many
        return lambda messages: put(messages, True, _NO_TIME)  # noqa: FBT003 - the peer's signature

    def receiver(self) -> Callable[[], list[bytes]]:
        """Return the peer's own method."""
        get = self._queue.get_many
        return lambda: get(True, _NO_TIME)


class HyperQ(Lane):
    """hyperq's queue of bytes."""

    name = "hyperq"
    module = package = "hyperq"
    shared = True

    def __init__(self, size: int) -> None:
        import hyperq

        super().__init__(size)
        page = 4096
        room = (size + 16) * depth(size)
        self._name = fresh_name()
        self._owner: Any = hyperq.BytesHyperQ(room // page * page + page, self._name)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_owner": None}  # its handles cannot be pickled

    def _open(self) -> Any:
        import hyperq

        return hyperq.BytesHyperQ(self._name)

    def sender(self) -> Callable[[bytes], object]:
        """Return the peer's own method."""
        return self._open().put  # type: ignore[no-any-return]

    def receiver(self) -> Callable[[], bytes]:
        """Return the peer's own method."""
        return self._open().get  # type: ignore[no-any-return]

    def close(self) -> None:
        """Release the queue; its creator removes it."""
        self._owner = None


class ZeroQ(Lane):
    """zeroq with a deep queue."""

    name = "zeroq, deep"
    module = package = "zeroq"
    shared = True

    def __init__(self, size: int) -> None:
        import zeroq

        super().__init__(size)
        self._name = fresh_name()
        slots = 1 << (depth(size).bit_length() - 1)  # a power of two
        self._owner: Any = zeroq.Queue(self._name, size, slots)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_owner": None}  # its handles cannot be pickled

    def _open(self) -> Any:
        import zeroq

        return zeroq.Queue(self._name, create=False)

    def sender(self) -> Callable[[bytes], object]:
        """Return the peer's own method."""
        return self._open().put  # type: ignore[no-any-return]

    def receiver(self) -> Callable[[], bytes]:
        """Return the peer's own method."""
        return self._open().get  # type: ignore[no-any-return]

    def close(self) -> None:
        """Release the queue; its creator removes it."""
        self._owner.close()


LANES: tuple[type[Lane], ...] = (ZeroMq, Nng, FasterFifo, FasterFifoBatched, HyperQ, ZeroQ)
