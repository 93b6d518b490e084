"""Message queues beside sysv_ipc and posix_ipc: a send and a receive, in one process."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import posix_ipc
import sysv_ipc
from harness import Row, compare

from ipckit import Char, Int, PosixMessageQueue, Struct, SysVMessageQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = (8, 64, 1024, 8192)


class Stu(Struct):
    """A struct of 36 bytes."""

    name: Char[32]
    age: Int


def sysv_bytes() -> Iterator[Row]:
    """Yield the rows for bytes through a System V queue."""
    with SysVMessageQueue.create() as queue:
        peer = sysv_ipc.MessageQueue(queue.key, max_message_size=8192)
        for size in SIZES:
            data = bytes(size)

            def theirs(data: bytes = data) -> None:
                peer.send(data, True, type=1)  # noqa: FBT003 - the peer's signature
                peer.receive()

            def ours(data: bytes = data) -> None:
                queue.send(data)
                queue.receive()

            yield compare(f"System V, bytes, {size} B", "sysv_ipc", theirs, ours, 1.0)


def sysv_struct() -> Iterator[Row]:
    """Yield the row for a struct through a System V queue, with its fields read at the end."""
    layout = struct.Struct("32si")
    with SysVMessageQueue.create() as raw, SysVMessageQueue.create(type=Stu) as queue:
        peer = sysv_ipc.MessageQueue(raw.key, max_message_size=8192)

        def theirs() -> tuple[str, int]:
            peer.send(layout.pack(b"amy", 20), True, type=1)  # noqa: FBT003 - the peer's signature
            name, age = layout.unpack(peer.receive()[0])
            return name.rstrip(b"\0").decode(), age

        def ours() -> tuple[str, int]:
            queue.send(Stu("amy", 20))
            stu = queue.receive().value
            return stu.name, stu.age

        yield compare("System V, struct, 36 B", "sysv_ipc + struct", theirs, ours, 1.0)


def posix_bytes() -> Iterator[Row]:
    """Yield the rows for bytes through a POSIX queue."""
    with PosixMessageQueue.create() as queue:
        peer = posix_ipc.MessageQueue(str(queue.name))
        for size in SIZES:
            data = bytes(size)

            def theirs(data: bytes = data) -> None:
                peer.send(data)
                peer.receive()

            def ours(data: bytes = data) -> None:
                queue.send(data)
                queue.receive()

            yield compare(f"POSIX, bytes, {size} B", "posix_ipc", theirs, ours, 1.15)
        peer.close()


def rows() -> Iterator[Row]:
    """Yield each comparison as soon as it is measured."""
    yield from sysv_bytes()
    yield from sysv_struct()
    yield from posix_bytes()


_LATE = """
import sys, time
from ipckit import SysVMessageQueue
with SysVMessageQueue.open(int(sys.argv[1])) as queue:
    time.sleep(float(sys.argv[2]))
    queue.send(b"at last")
"""


def waiting_costs() -> Iterator[tuple[str, float]]:
    """Yield the share of one core that a waiting receive uses."""
    seconds = 3.0
    for what, timeout in (("receive(), blocked", None), ("receive(timeout=60)", 60.0)):
        with SysVMessageQueue.create() as queue:
            sender = subprocess.Popen([sys.executable, "-c", _LATE, str(queue.key), str(seconds)])
            start, cpu = time.monotonic(), time.process_time()
            queue.receive(timeout=timeout)
            share = (time.process_time() - cpu) / (time.monotonic() - start)
            sender.wait()
        yield f"System V {what}", share
