"""UNIX sockets beside the standard library's, and arrays beside multiprocessing.Pipe."""

from __future__ import annotations

import os
import socket
import threading
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import Row, compare, compare_slow

from ipckit import pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE = 64 * 2**20


def messages() -> Iterator[Row]:
    """Yield the rows for one message over seqpacket."""
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with first, second:
        ours_first, ours_second = pair("seqpacket")
        with ours_first, ours_second:
            for size in (8, 1024):
                data = bytes(size)

                def theirs(data: bytes = data) -> None:
                    first.send(data)
                    second.recv(65536)

                def ours(data: bytes = data) -> None:
                    ours_first.send(data)
                    ours_second.receive()

                yield compare(f"seqpacket, {size} B", "socket.send/recv", theirs, ours, 1.15)


def descriptors() -> Iterator[Row]:
    """Yield the row for one descriptor, passed and closed."""
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    passed = os.open("/dev/null", os.O_RDONLY)
    with first, second:
        ours_first, ours_second = pair("seqpacket")
        with ours_first, ours_second:

            def theirs() -> None:
                socket.send_fds(first, [b"x"], [passed])
                os.close(socket.recv_fds(second, 65536, 1)[1][0])

            def ours() -> None:
                ours_first.send(b"x", fds=[passed])
                ours_second.receive(max_fds=1).close()

            yield compare("one descriptor", "socket.send_fds/recv_fds", theirs, ours, 1.3)
    os.close(passed)


def arrays() -> Iterator[Row]:
    """Yield the row for an array of 64 MiB, passed and read."""
    source = np.arange(SIZE // 8, dtype=np.float64)
    total = source.sum()

    def beside(send: Callable[[], object], receive: Callable[[], Any]) -> None:
        sender = threading.Thread(target=send)
        sender.start()
        if receive().sum() != total:
            message = "the received array is garbled"
            raise ValueError(message)
        sender.join()

    receiver, sender = Pipe(duplex=False)
    ours_first, ours_second = pair("seqpacket")
    with receiver, sender, ours_first, ours_second:
        yield compare_slow(
            "a 64 MiB array, and its sum",
            "multiprocessing.Pipe",
            lambda: beside(lambda: sender.send(source), receiver.recv),
            lambda: beside(lambda: ours_first.send_array(source), ours_second.receive_array),
            1 / 3,
        )


def rows() -> Iterator[Row]:
    """Yield each comparison as soon as it is measured."""
    yield from messages()
    yield from descriptors()
    yield from arrays()
