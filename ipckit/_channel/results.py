"""The exceptions for what a channel's native calls return.

`ring_error` is for the result of an operation on the ring, `errno_error` for an errno, and
`undecodable` for an exception of a codec. The native code calls them through the methods
`_explain_ring`, `_explain_errno` and `_undecodable` of `Channel`.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit._core.deadline import checked_timeout
from ipckit._core.descriptors import descriptor_error
from ipckit._core.files import no_proc, proc_missing
from ipckit._core.handle import closed_handle
from ipckit.errors import (
    Corrupt,
    InvalidArgument,
    LayoutMismatch,
    LimitReached,
    MessageTooLong,
    PeerGone,
    Timeout,
    WouldBlock,
)

if TYPE_CHECKING:
    from ipckit.errors import IpcError

# The errno of a result that has one; any other result means that the memory is corrupt.
_ERRNO: Final = {native.RING_NO_PLACE: errno.EUSERS}
_HELD: Final = "no message waits: loans, views and deliveries hold the memory"


def ring_error(
    result: int,
    op: str,
    target: str,
    timeout: float | None,
    *,
    longest: int,
    holder: int,
    held: bool,
) -> IpcError:
    """Return the exception for the result of an operation on the ring.

    Args:
        result: the result. RING_OK means that the timeout is invalid and nothing was tried.
        op: the method that was called.
        target: the channel.
        timeout: the method's argument.
        longest: the bytes that a message can have.
        holder: the process that holds the lock that the call needs; 0 if it is unknown.
        held: whether the channel is full although no message waits.
    """
    if result == native.RING_CLOSED:
        return closed_handle(op, target)
    if result == native.RING_OK:
        checked_timeout(timeout)  # raises the usual error for the values that Python rejects too
        message = f"timeout must be 0 or more seconds, or None to wait for ever, not {timeout!r}"
        return InvalidArgument(message, errno=errno.EINVAL, op=op, target=target)
    if result == native.RING_TOO_LONG:
        message = f"the message is longer than {longest:,} bytes, the limit of this channel"
        hint = "create the channel with a larger size; one message can use half of it"
        return MessageTooLong(message, errno=errno.EMSGSIZE, op=op, target=target, hint=hint)
    if result == native.RING_BUSY:
        return _lock_held(op, target, timeout, holder)
    if result in {native.RING_EMPTY, native.RING_FULL, native.RING_TIMEOUT, native.RING_GONE}:
        return _not_ready(result, op, target, timeout, _HELD if held else "")
    return errno_error(_ERRNO.get(result, errno.EUCLEAN), op, target)


def _lock_held(op: str, target: str, timeout: float | None, holder: int) -> IpcError:
    """Return the exception for a call that needed a lock that another process holds."""
    process = f"process {holder}" if holder else "another process"
    hint = "a process that was stopped inside a call holds the lock until it continues (SIGCONT)"
    if timeout == 0:
        message = f"{process} holds the channel's lock"
        return WouldBlock(message, errno=errno.EAGAIN, op=op, target=target, hint=hint)
    message = f"{process} held the channel's lock for {timeout} s"
    return Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target, hint=hint)


def is_receiving(op: str) -> bool:
    """Return whether a method takes a message; otherwise it sends one."""
    return op == "take" or op.startswith("receive")


def _not_ready(result: int, op: str, target: str, timeout: float | None, hint: str) -> IpcError:
    """Return the exception for a call that found the channel empty, or full."""
    receiving = is_receiving(op)
    if receiving and result == native.RING_FULL:
        return _no_memory_to_take(op, target, timeout)
    if result == native.RING_TIMEOUT:
        message = f"the channel was full for {timeout} s"
        if receiving:
            message = f"no message came within {timeout} s"
        return Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target, hint=hint)
    if result == native.RING_GONE:
        message = "the channel is full, and the last receiver is gone"
        if receiving:
            message = "the channel is empty, and the last sender is gone"
        hint = 'with peer_gone="wait", the call waits for a new peer'
        return PeerGone(message, errno=errno.EPIPE, op=op, target=target, hint=hint)
    message = "no message waits" if receiving else "the channel is full"
    return WouldBlock(message, errno=errno.EAGAIN, op=op, target=target, hint=hint)


def _no_memory_to_take(op: str, target: str, timeout: float | None) -> IpcError:
    """Return the exception for a `take` that found a message and no memory to keep it."""
    hint = "acknowledge messages that were taken, or create the channel with a larger size"
    if timeout == 0:
        message = "there is no memory to take the next message"
        return WouldBlock(message, errno=errno.EAGAIN, op=op, target=target, hint=hint)
    message = f"there was no memory to take the next message for {timeout} s"
    return Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target, hint=hint)


def buffer_too_small(length: int, room: int, target: str) -> IpcError:
    """Return the exception for a message of `length` bytes and a buffer of `room` bytes."""
    message = f"the next message has {length:,} bytes, and the buffer has {room:,}"
    hint = "the message is still in the channel; receive it with a larger buffer"
    return MessageTooLong(
        message, errno=errno.EMSGSIZE, op="receive_into", target=target, hint=hint
    )


def errno_error(code: int, op: str, target: str) -> IpcError:
    """Return the exception for an errno of becoming a peer, or of opening a descriptor."""
    if code == errno.EUSERS:
        message = f"the channel has the maximum of {native.CHANNEL_PEERS} live peers"
        return LimitReached(message, errno=code, op=op, target=target)
    if code == errno.EAGAIN:
        message = "can't start the descriptor's thread; see RLIMIT_NPROC and pids.max"
        return LimitReached(message, errno=code, op=op, target=target)
    if code == errno.EUCLEAN:
        message = "the channel's memory was overwritten or truncated, or is of another version"
        return Corrupt(message, errno=code, op=op, target=target)
    if code == errno.ENOENT and proc_missing():  # the memory is opened through /proc/self/fd
        return no_proc(op=op, target=target)
    return descriptor_error(code, op=op, target=target)


def undecodable(
    exc: BaseException, raw: object, target: str, *, in_place: bool = False
) -> BaseException:
    """Return the exception to raise for an exception of a codec.

    It is a LayoutMismatch, whose cause is `exc`. A MemoryError, and an exception that is not an
    `Exception`, such as KeyboardInterrupt, is returned itself. Each gets the attribute ``raw``.

    Args:
        exc: the exception that the codec raised.
        raw: the bytes of the message. It was taken from the channel, so they must not be lost.
        target: the channel.
        in_place: whether a view or a delivery still has the message.
    """
    if isinstance(exc, Exception) and not isinstance(exc, (LayoutMismatch, MemoryError)):
        message = f"{type(exc).__name__}: {exc}"
        op, place = ("value", "is in buf") if in_place else ("receive", "has left the channel")
        hint = f"the message {place}; its bytes are in the exception's attribute raw"
        error = LayoutMismatch(message, errno=errno.EBADMSG, op=op, target=target, hint=hint)
        error.__cause__ = exc
        exc = error
    attach(exc, "raw", raw)
    return exc


def attach(exc: BaseException, name: str, value: object) -> None:
    """Set an attribute of an exception, unless the exception's class refuses it."""
    with suppress(Exception):
        setattr(exc, name, value)
