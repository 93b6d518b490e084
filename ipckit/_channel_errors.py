"""What a channel's native calls found, as errors."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ipckit._deadline import checked_timeout
from ipckit._handle import closed_handle
from ipckit.errors import (
    Corrupt,
    InvalidArgument,
    LayoutMismatch,
    MessageTooLong,
    PeerGone,
    Timeout,
    WouldBlock,
)

if TYPE_CHECKING:
    from ipckit.errors import IpcError

# native/ring.h: ring_result
OK: Final = 0
EMPTY: Final = 1
FULL: Final = 2
TOO_LONG: Final = 4
TIMEOUT: Final = 6
GONE: Final = 8
CLOSED: Final = 9


def ring_error(result: int, op: str, target: str, timeout: float | None, longest: int) -> IpcError:
    """The error for what an operation on a ring gave.

    Args:
        result: what it gave; OK stands for a timeout that is none.
        op: the method that was called.
        target: the channel, for the message.
        timeout: what the caller said.
        longest: bytes that a message may have.
    """
    if result == CLOSED:
        return closed_handle(op, target)
    if result == OK:
        checked_timeout(timeout)
        message = f"timeout is {timeout!r}; it takes seconds, or None to wait for ever"
        return InvalidArgument(message, errno=errno.EINVAL, op=op, target=target)
    if result == TOO_LONG:
        message = f"a message may have {longest:,} bytes at most"
        hint = "create the channel with a larger size; a message may take half of it"
        return MessageTooLong(message, errno=errno.EMSGSIZE, op=op, target=target, hint=hint)
    waited = _waited(result, op, target, timeout)
    if waited is not None:
        return waited
    message = "somebody overwrote the shared memory, or was stopped in the middle of a call"
    return Corrupt(message, errno=errno.EUCLEAN, op=op, target=target)


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


def _waited(result: int, op: str, target: str, timeout: float | None) -> IpcError | None:
    """The error of a call that waited for the other side in vain."""
    sending = not op.startswith("receive")
    if result in {EMPTY, FULL}:
        message = "the channel is full" if sending else "no message waits"
        return WouldBlock(message, errno=errno.EAGAIN, op=op, target=target)
    if result == TIMEOUT:
        full = f"the channel was full for {timeout} s"
        message = full if sending else f"no message came within {timeout} s"
        return Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target)
    if result == GONE:
        full = "it is full, and the last receiver is gone"
        message = full if sending else "it is empty, and the last sender is gone"
        hint = 'peer_gone="wait" waits for somebody new'
        return PeerGone(message, errno=errno.EPIPE, op=op, target=target, hint=hint)
    return None
