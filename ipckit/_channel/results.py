"""What a channel's native calls found, as errors."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit._core.deadline import checked_timeout
from ipckit._core.descriptors import descriptor_error
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
    from_errno,
)

if TYPE_CHECKING:
    from ipckit.errors import IpcError

_PLACES: Final = "256 processes have used the channel and are alive, and it has no more places"


def ring_error(
    result: int, op: str, target: str, timeout: float | None, *, longest: int, holder: int
) -> IpcError:
    """The error for what an operation on a ring gave.

    Args:
        result: what it gave; OK stands for a timeout that is none.
        op: the method that was called.
        target: the channel, for the message.
        timeout: what the caller said.
        longest: bytes that a message may have.
        holder: the process that has the lock that the call needs; 0 if it is not known.
    """
    if result == native.RING_CLOSED:
        return closed_handle(op, target)
    if result == native.RING_OK:
        checked_timeout(timeout)
        message = f"timeout is {timeout!r}; it takes seconds, or None to wait for ever"
        return InvalidArgument(message, errno=errno.EINVAL, op=op, target=target)
    if result == native.RING_TOO_LONG:
        message = f"a message may have {longest:,} bytes at most"
        hint = "create the channel with a larger size; a message may take half of it"
        return MessageTooLong(message, errno=errno.EMSGSIZE, op=op, target=target, hint=hint)
    if result == native.RING_BUSY:
        return _lock_taken(op, target, timeout, holder)
    if result == native.RING_NO_PLACE:
        return LimitReached(_PLACES, errno=errno.EUSERS, op=op, target=target)
    return _waited(result, op, target, timeout)


def _lock_taken(op: str, target: str, timeout: float | None, holder: int) -> IpcError:
    """The error of a call that needed a lock that another process kept."""
    process = f"process {holder}" if holder else "another process"
    hint = "a process that is stopped in the middle of a call keeps it until it continues (SIGCONT)"
    if timeout == 0:
        message = f"{process} has the channel's lock"
        return WouldBlock(message, errno=errno.EAGAIN, op=op, target=target, hint=hint)
    message = f"{process} had the channel's lock for {timeout} s"
    return Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target, hint=hint)


def errno_error(code: int, op: str, target: str) -> IpcError:
    """The error for an errno of taking a place among the peers, or of making a descriptor."""
    if code == errno.EUSERS:
        return LimitReached(_PLACES, errno=code, op=op, target=target)
    if code == errno.EAGAIN:
        message = "no thread can be started for the descriptor; see RLIMIT_NPROC and pids.max"
        return LimitReached(message, errno=code, op=op, target=target)
    if code == errno.EUCLEAN:
        message = "the channel's file was cut short, or holds no channel of this version"
        return Corrupt(message, errno=code, op=op, target=target)
    if code == errno.ENOENT:
        message = "/proc is not mounted, and a channel is opened through /proc/self/fd"
        return from_errno(code, op=op, target=target, message=message)
    return descriptor_error(code, op=op, target=target)


def undecodable(exc: BaseException, raw: object, target: str) -> BaseException:
    """What to raise for what a codec raised, with the message's bytes as its ``raw``.

    A codec's own exception becomes the cause of a LayoutMismatch. MemoryError, and what is no
    Exception, such as KeyboardInterrupt, stay what they are.
    """
    if isinstance(exc, Exception) and not isinstance(exc, (LayoutMismatch, MemoryError)):
        error = LayoutMismatch(
            f"{type(exc).__name__}: {exc}", errno=errno.EBADMSG, op="receive", target=target
        )
        error.hint = "the message is taken; its bytes are in this exception's .raw"
        error.__cause__ = exc
        exc = error
    attach(exc, "raw", raw)
    return exc


def attach(exc: BaseException, name: str, value: object) -> None:
    """Give an exception a fact, unless its class refuses attributes."""
    with suppress(Exception):
        setattr(exc, name, value)


def _waited(result: int, op: str, target: str, timeout: float | None) -> IpcError:
    """The error of a call that waited for the other side in vain, or met what no peer writes."""
    sending = not op.startswith("receive")
    if result in {native.RING_EMPTY, native.RING_FULL}:
        message = "the channel is full" if sending else "no message waits"
        return WouldBlock(message, errno=errno.EAGAIN, op=op, target=target)
    if result == native.RING_TIMEOUT:
        full = f"the channel was full for {timeout} s"
        message = full if sending else f"no message came within {timeout} s"
        return Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target)
    if result == native.RING_GONE:
        full = "it is full, and the last receiver is gone"
        message = full if sending else "it is empty, and the last sender is gone"
        hint = 'peer_gone="wait" waits for somebody new'
        return PeerGone(message, errno=errno.EPIPE, op=op, target=target, hint=hint)
    message = "the shared memory was overwritten, or its file was cut short"
    return Corrupt(message, errno=errno.EUCLEAN, op=op, target=target)
