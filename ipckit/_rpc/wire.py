"""The messages between clients and services: calls, replies and the items of streams.

A message consists of a head and a body, which is a value in MessagePack. If the value contains
arrays, each array is a part after the body. Then the number of parts and their sizes follow the
head, and each part begins at a multiple of 64 bytes. The body is the first part. If a message is
too long for the channel, it is sent in shared memory, and the message in the channel only contains
the name of that memory.
"""

from __future__ import annotations

import errno
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

import ipckit._native as native
from ipckit._core.lazy_numpy import np
from ipckit._rpc.names import is_spare, target_of
from ipckit._shm.posix import PosixSharedMemory
from ipckit.errors import Corrupt, IpcError, LimitReached, MessageTooLong

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from ipckit._channel.channel import Channel

    Parts: TypeAlias = list[Buffer]  # the body, then the arrays

# kind, flags, method, slot, revision of the service, unused, client, call
CALL: Final = struct.Struct("=BBHIIIQQ")
# All fields but the last, which are equal in all calls of one client, method and slot; the call.
CALL_START: Final = struct.Struct("=24sQ")
# kind, flags, unused, slot, call
REPLY: Final = struct.Struct("=BBHIQ")
REPLY_START: Final = struct.Struct("=8sQ")
# kind, flags, unused
ITEM: Final = struct.Struct("=BB6x")

# The first byte of a message.
CALL_KIND: Final = 0xC1  # MessagePack uses this byte for nothing
RESULT: Final = 0xA1
ERROR: Final = 0xA2  # an exception of the method
REFUSED: Final = 0xA3  # the service did not run the method; the body says why
STALE: Final = 0xA4  # the client has the methods of another revision of the service
ORPHANED: Final = 0xA5  # the server that took the call exited
END: Final = 0xA6  # the end of a stream

# Flags.
PARTS: Final = 1  # the message has parts
ELSEWHERE: Final = 2  # the body is the name of the shared memory that contains the message
BY_NAME: Final = 4  # the arguments are a map of names, because one in the middle is omitted

DESCRIBE: Final = 0xFFFF  # the number of the method that describes the service
VERSION: Final = 1  # the version of this protocol, in the reply to DESCRIBE

# The table of a client's calls has two words for each slot. The first word is the number of the
# call, or 0 if the client waits for none. The second word is the token of the server that runs the
# call, or 0 before a server has taken it.
SLOTS: Final = 256
TABLE_BYTES: Final = SLOTS * 16

_COUNT: Final = struct.Struct("=Q")
_ALIGN: Final = 64
_PARTS_MAX: Final = 1 << 20
# A copy of up to this many bytes takes less time than releasing the GIL for it.
_SHORT_COPY: Final = 1 << 16


def post(
    channel: Channel[bytes],
    head: Callable[[int], bytes],
    value: bytes | Parts,
    timeout: float | None,
    spare: Callable[[], str],
) -> PosixSharedMemory | None:
    """Send a message.

    Args:
        channel: the channel.
        head: returns the message's head for its flags.
        value: the body, or the body and the arrays.
        timeout: seconds to wait while the channel is full.
        spare: returns the name of shared memory for a message that is too long for the channel.

    Returns:
        The shared memory, if it was needed. The receiver unlinks it. If the receiver may be dead,
        the caller must unlink it.

    Raises:
        LimitReached: there is no memory for the message.
        IpcError: the message can't be sent; see `Channel.send`.
    """
    if isinstance(value, bytes):
        try:
            channel.send(head(0) + value, timeout=timeout)
        except MessageTooLong:
            return _post_elsewhere(channel, head, [head(0), value], timeout, spare)
        return None
    pieces = _framed(head(PARTS), value)
    size = sum(memoryview(piece).nbytes for piece in pieces)
    if size <= native.INLINE_MAX:
        channel.send(b"".join(pieces), timeout=timeout)
    elif size <= channel.longest:
        with channel.loan(size, timeout=timeout) as loan:
            _copy(loan.buf, pieces)
            loan.send(timeout=timeout)
    else:
        return _post_elsewhere(channel, head, pieces, timeout, spare)
    return None


def _framed(head: bytes, parts: Parts) -> list[Buffer]:
    """Return the pieces of a message with parts, with the padding between them."""
    sizes = [memoryview(part).nbytes for part in parts]
    pieces: list[Buffer] = [head + struct.pack(f"={len(sizes) + 1}Q", len(sizes), *sizes)]
    at = len(head) + _COUNT.size * (len(sizes) + 1)
    for part, size in zip(parts, sizes, strict=True):
        if padding := -at % _ALIGN:
            pieces.append(bytes(padding))
        pieces.append(part)
        at += padding + size
    return pieces


def _copy(memory: memoryview, pieces: list[Buffer]) -> None:
    at = 0
    for piece in pieces:
        data = memoryview(piece)
        if data.nbytes <= _SHORT_COPY:
            memory[at : at + data.nbytes] = data
        else:  # numpy releases the GIL
            target = np.frombuffer(memory, np.uint8, data.nbytes, at)
            target[:] = np.frombuffer(data, np.uint8)
        at += data.nbytes


def _post_elsewhere(
    channel: Channel[bytes],
    head: Callable[[int], bytes],
    pieces: list[Buffer],
    timeout: float | None,
    spare: Callable[[], str],
) -> PosixSharedMemory:
    name = spare()
    size = sum(memoryview(piece).nbytes for piece in pieces)
    memory = PosixSharedMemory.create(name, size)
    try:
        with memory.buf as buffer:
            _copy(buffer, pieces)
        channel.send(head(ELSEWHERE) + name.encode(), timeout=timeout)
    except BaseException:
        memory.unlink(missing_ok=True)
        raise
    finally:
        memory.close()
    return memory


def opened(
    message: memoryview, flags: int, head: int, service: str
) -> tuple[memoryview, Sequence[memoryview]]:
    """Return the body and the parts of a message that `post` sent.

    Args:
        message: the message.
        flags: the flags in its head.
        head: the size of its head in bytes.
        service: the name of the service.

    Returns:
        The body and a sequence of the other parts, which can be empty. All are memoryviews of the
        message, or of the shared memory that contains it and stays mapped for them.

    Raises:
        Corrupt: no process of ipckit sent this message.
        LimitReached: RLIMIT_NOFILE is reached.
    """
    if flags & ELSEWHERE:
        message = _memory_of(message[head:], service)
        flags = message[1] if message.nbytes >= head else 0
    if not flags & PARTS:
        return message[head:], ()
    try:
        (count,) = _COUNT.unpack_from(message, head)
        if not 0 < count <= _PARTS_MAX:
            raise corrupt(service)
        sizes = struct.unpack_from(f"={count}Q", message, head + _COUNT.size)
    except struct.error:
        raise corrupt(service) from None
    at = head + _COUNT.size * (count + 1)
    parts: list[memoryview] = []
    for size in sizes:
        at += -at % _ALIGN
        if at + size > message.nbytes:
            raise corrupt(service)
        parts.append(message[at : at + size])
        at += size
    return parts[0], parts[1:]


def _memory_of(body: memoryview, service: str) -> memoryview:
    """Map the shared memory that contains a message, and unlink it."""
    try:
        name = bytes(body).decode()
        if not is_spare(name, service):  # a forged message must not make it unlink another object
            raise corrupt(service)
        memory = PosixSharedMemory.open(name, readonly=True)
    except LimitReached:
        raise
    except (IpcError, UnicodeDecodeError):
        raise corrupt(service) from None
    with suppress(IpcError):
        memory.unlink(missing_ok=True)
    view = memory.buf
    memory.close()  # the memory stays mapped for the view
    return view


def discard(message: Buffer, head: int, service: str) -> None:
    """Remove the shared memory of a message that will not be read, if it has any."""
    view = memoryview(message)
    if view.nbytes >= head and view[1] & ELSEWHERE:
        with suppress(IpcError):  # the message was read before
            _memory_of(view[head:], service)


def corrupt(service: str) -> Corrupt:
    """Return the error for a message that no process of ipckit sent."""
    message = "a message was overwritten, or no process of ipckit sent it"
    return Corrupt(message, errno=errno.EUCLEAN, op="receive", target=target_of(service))
