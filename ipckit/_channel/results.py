"""The exceptions for what the native calls of channels and topics return.

`ring_error` is for the result of an operation on the ring, `errno_error` for an errno, and
`undecodable` for an exception of a codec. The native code calls them through the methods of
`RingErrors`, a base of the public classes.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Final

import ipckit._native as native
from ipckit._core import processes
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
    from ipckit._channel.kind import Kind
    from ipckit.errors import IpcError

# The errno of a result that has one; any other result means that the memory is corrupt.
_ERRNO: Final = {native.RING_NO_PLACE: errno.EUSERS}


class RingErrors:
    """The methods that create the exceptions of a handle; the native code calls them."""

    _kind: ClassVar[Kind]

    if TYPE_CHECKING:  # the handle has them

        @property
        def _target(self) -> str: ...
        @property
        def longest(self) -> int:
            """The maximum bytes of a message."""
            ...

        def _lock_holder(self, which: int, /) -> tuple[int, int]: ...

    def _explain_ring(self, result: int, op: str, timeout: float | None) -> IpcError:
        """Return the exception for a result of an operation on the ring."""
        if getattr(self, "_closed", False):  # a constructor has not set it yet
            result = native.RING_CLOSED
        longest = self.longest if result == native.RING_TOO_LONG else 0
        holder = self._lock_owner(op) if result == native.RING_BUSY else 0
        full = result in {native.RING_FULL, native.RING_TIMEOUT} and not is_receiving(op)
        hint = self._hint_if_full() if full else ""
        return ring_error(
            self._kind,
            result,
            op,
            self._target,
            timeout,
            longest=longest,
            holder=holder,
            hint=hint,
        )

    def _lock_owner(self, op: str) -> int:
        """Return the process that holds the lock that a method needs; 0 if it is unknown."""
        pid, token = self._lock_holder(native.POLL_ITEMS if is_receiving(op) else native.POLL_SPACE)
        return processes.pid_of(token) or pid

    def _hint_if_full(self) -> str:
        """Return a hint for a call that found no room for its message."""
        return ""

    def _explain_too_long(self, length: int, room: int) -> IpcError:
        """Return the exception for `receive_into` with a small buffer."""
        return buffer_too_small(self._kind, length, room, self._target)

    def _explain_errno(self, code: int, op: str) -> IpcError:
        """Return the exception for an errno."""
        return errno_error(self._kind, code, op, self._target)

    def _undecodable(self, exc: BaseException, raw: object) -> BaseException:
        """Return the exception for an exception of the codec."""
        return undecodable(exc, raw, self._kind, self._target)


def ring_error(
    kind: Kind,
    result: int,
    op: str,
    target: str,
    timeout: float | None,
    *,
    longest: int,
    holder: int,
    hint: str,
) -> IpcError:
    """Return the exception for the result of an operation on the ring.

    Args:
        kind: whether the object is a channel or a topic.
        result: the result. RING_OK means that the timeout is invalid and nothing was tried.
        op: the method that was called.
        target: the object.
        timeout: the method's argument.
        longest: the bytes that a message can have.
        holder: the process that holds the lock that the call needs; 0 if it is unknown.
        hint: the hint for a call that found no room.
    """
    if result == native.RING_CLOSED:
        return closed_handle(op, target)
    if result == native.RING_OK:
        checked_timeout(timeout)  # raises the usual error for the values that Python rejects too
        message = f"timeout must be 0 or more seconds, or None to wait for ever, not {timeout!r}"
        return InvalidArgument(message, errno=errno.EINVAL, op=op, target=target)
    if result == native.RING_TOO_LONG:
        message = f"the message is longer than {longest:,} bytes, the limit of this {kind.word}"
        hint = f"create the {kind.word} with a larger size; one message can use half of it"
        return MessageTooLong(message, errno=errno.EMSGSIZE, op=op, target=target, hint=hint)
    if result == native.RING_BUSY:
        return _lock_held(kind, op, target, timeout, holder)
    if result in {native.RING_EMPTY, native.RING_FULL, native.RING_TIMEOUT, native.RING_GONE}:
        return _not_ready(kind, result, op, target, timeout, hint=hint)
    return errno_error(kind, _ERRNO.get(result, errno.EUCLEAN), op, target)


def _lock_held(kind: Kind, op: str, target: str, timeout: float | None, holder: int) -> IpcError:
    """Return the exception for a call that needed a lock that another process holds."""
    process = f"process {holder}" if holder else "another process"
    hint = "a process that was stopped inside a call holds the lock until it continues (SIGCONT)"
    if timeout == 0:
        message = f"{process} holds the {kind.word}'s lock"
        return WouldBlock(message, errno=errno.EAGAIN, op=op, target=target, hint=hint)
    message = f"{process} held the {kind.word}'s lock for {timeout} s"
    return Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target, hint=hint)


def is_receiving(op: str) -> bool:
    """Return whether a method takes a message; otherwise it sends one."""
    return op == "take" or op.startswith("receive")


def _not_ready(
    kind: Kind, result: int, op: str, target: str, timeout: float | None, *, hint: str
) -> IpcError:
    """Return the exception for a call that found no message, or no room for its message."""
    receiving = is_receiving(op)
    if receiving and result == native.RING_FULL:
        return _no_memory_to_take(op, target, timeout)
    empty_or_full = result in {native.RING_EMPTY, native.RING_FULL}
    # The wait of a call that does several steps can be over before the last one.
    if result == native.RING_TIMEOUT or (empty_or_full and timeout != 0):
        message = f"the {kind.word} was full for {timeout} s"
        if receiving:
            message = f"no message came within {timeout} s"
        return Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target, hint=hint)
    if result == native.RING_GONE:
        message, peer = f"the {kind.word} is full, and the last receiver is gone", "receiver"
        if receiving:
            message = f"the {kind.word} is empty, and the last {kind.sender} is gone"
            peer = kind.sender
        hint = f'with peer_gone="wait", the call waits for a new {peer}'
        return PeerGone(message, errno=errno.EPIPE, op=op, target=target, hint=hint)
    message = "no message waits" if receiving else f"the {kind.word} is full"
    return WouldBlock(message, errno=errno.EAGAIN, op=op, target=target, hint=hint)


def _no_memory_to_take(op: str, target: str, timeout: float | None) -> IpcError:
    """Return the exception for a `take` that found a message and no memory to keep it."""
    hint = "acknowledge messages that were taken, or create the channel with a larger size"
    if timeout == 0:
        message = "there is no memory to take the next message"
        return WouldBlock(message, errno=errno.EAGAIN, op=op, target=target, hint=hint)
    message = f"there was no memory to take the next message for {timeout} s"
    return Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target, hint=hint)


def buffer_too_small(kind: Kind, length: int, room: int, target: str) -> IpcError:
    """Return the exception for a message of `length` bytes and a buffer of `room` bytes."""
    message = f"the next message has {length:,} bytes, and the buffer has {room:,}"
    hint = f"the message is still in the {kind.word}; receive it with a larger buffer"
    return MessageTooLong(
        message, errno=errno.EMSGSIZE, op="receive_into", target=target, hint=hint
    )


def errno_error(kind: Kind, code: int, op: str, target: str) -> IpcError:
    """Return the exception for an errno of becoming a peer, or of opening a descriptor."""
    if code == errno.EUSERS:
        message = f"the {kind.word} has the maximum of {native.CHANNEL_PEERS} live peers"
        return LimitReached(message, errno=code, op=op, target=target)
    if code == errno.EAGAIN:
        message = "can't start the descriptor's thread; see RLIMIT_NPROC and pids.max"
        return LimitReached(message, errno=code, op=op, target=target)
    if code == errno.EUCLEAN:
        message = f"the {kind.word}'s memory was overwritten or truncated, or is of another version"
        return Corrupt(message, errno=code, op=op, target=target)
    if code == errno.ENOENT and proc_missing():  # the memory is opened through /proc/self/fd
        return no_proc(op=op, target=target)
    return descriptor_error(code, op=op, target=target)


def undecodable(
    exc: BaseException, raw: object, kind: Kind, target: str, *, in_place: bool = False
) -> BaseException:
    """Return the exception to raise for an exception of a codec.

    It is a LayoutMismatch, whose cause is `exc`. A MemoryError, and an exception that is not an
    `Exception`, such as KeyboardInterrupt, is returned itself. Each gets the attribute ``raw``.

    Args:
        exc: the exception that the codec raised.
        raw: the bytes of the message. It was taken already, so they must not be lost.
        kind: whether it came from a channel or a topic.
        target: the channel or topic.
        in_place: whether a view or a delivery still has the message.
    """
    if isinstance(exc, Exception) and not isinstance(exc, (LayoutMismatch, MemoryError)):
        message = f"{type(exc).__name__}: {exc}"
        op, place = ("value", "is in buf") if in_place else ("receive", f"has left the {kind.word}")
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
