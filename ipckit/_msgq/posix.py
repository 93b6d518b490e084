"""POSIX message queues."""

from __future__ import annotations

import errno
import signal
from typing import TYPE_CHECKING, Any

import ipckit._native as native
from ipckit._core.deadline import checked_timeout
from ipckit._core.handle import closed_handle
from ipckit._core.public import public
from ipckit._msgq.notify import Notifier
from ipckit._msgq.posix_object import PosixMessageQueueAttributes, PosixQueueObject
from ipckit._native import BadArgument, CallFailed, mq_receive, mq_send
from ipckit._payload.types import T
from ipckit.errors import (
    AccessDenied,
    InvalidArgument,
    IpcError,
    MessageTooLong,
    from_errno,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PosixMessageQueue", "PosixMessageQueueAttributes"]


@public("ipckit.msgq")
class PosixMessageQueue(PosixQueueObject[T]):
    """A POSIX message queue: the kernel hands out messages by priority, then by age.

    Make one with `create`, `open`, `open_or_create` or `from_fd`. Each takes the payload type:
    `bytes`, `str`, a `Struct`, a ctypes structure, a numpy dtype, a msgspec struct or a `Codec`.

    The descriptor (`fileno`) works with select, poll, epoll and asyncio. Deadlines are on the
    monotonic clock, so that setting the time of day moves none. A closed handle does not wake a
    call that another thread is waiting in.

    See mq_overview(7).
    """

    _factories = "PosixMessageQueue.create, open, open_or_create or from_fd"

    _passed_as = "PosixMessageQueue"

    def send(self, value: T, priority: int = 0, *, timeout: float | None = None) -> None:
        """Put one message into the queue, behind those of its priority.

        Args:
            value: the payload.
            priority: 0 to 32767; the highest leaves first.
            timeout: seconds to wait while the queue is full; 0 does not wait, None waits for ever.

        Raises:
            TypeError: the value is not of the payload type; nothing was sent.
            MessageTooLong: longer than the queue's `max_size`.
            WouldBlock: full, and `timeout` is 0.
            Timeout: full until the deadline.
            AccessDenied: the handle is readonly.
            InvalidArgument: `priority` or `timeout` is out of range.
            ClosedHandle: the handle is closed.

        See mq_send(3).
        """
        data: Any = value
        if value.__class__ is not self._direct:
            data = self._codec.encode(value)  # type: ignore[union-attr] # only a mapping has none
        if timeout is not None:
            checked_timeout(timeout)
        try:
            mq_send(self._calls, data, priority, timeout)
        except (CallFailed, BadArgument) as exc:
            raise self._error("mq_send", exc, timeout, data) from None

    def receive(self, *, timeout: float | None = None) -> native.Message[T]:
        """Take the oldest message of the highest priority.

        Args:
            timeout: seconds to wait while the queue is empty; 0 does not wait, None waits for
                ever.

        Returns:
            The message, with ``.value`` and ``.priority``.

        Raises:
            WouldBlock: empty, and `timeout` is 0.
            Timeout: empty until the deadline.
            LayoutMismatch: its bytes are no payload of the queue's type; ``.raw`` has them.
            AccessDenied: the handle is writeonly.
            InvalidArgument: `timeout` is out of range.
            ClosedHandle: the handle is closed.

        See mq_receive(3).
        """
        if timeout is not None:
            checked_timeout(timeout)
        try:
            raw = mq_receive(self._calls, self._max_size, timeout, self._record)
        except CallFailed as exc:
            raise self._error("mq_receive", exc, timeout) from None
        if raw.value.__class__ is self._direct:
            return raw
        return self._decode(raw, self._codec)  # type: ignore[arg-type] # only a mapping has none

    def _take(self) -> native.Message[T] | None:
        """`receive` without waiting; None where it can't be done, and `receive` would say why."""
        try:
            raw = mq_receive(self._calls, self._max_size, 0, self._record)
        except CallFailed:
            return None
        if raw.value.__class__ is self._direct:
            return raw
        return self._decode(raw, self._codec)  # type: ignore[arg-type] # only a mapping has none

    def notify(self, callback: Callable[[], object] | int | None, *, repeat: bool = False) -> None:
        """Ask to be told once when a message comes to the empty queue; None asks no more.

        One process at a time can ask. The kernel tells nobody while some process waits in
        `receive`, and the registration ends with the telling, and when this process closes any
        of its handles of the queue. Who also has something else to
        wait for does better with `fileno` and a selector.

        Args:
            callback: called without arguments in a thread of this handle's; or the number of a
                signal that the kernel sends.
            repeat: register again before each call, so that no message between is missed; not
                for signals.

        Raises:
            AlreadyExists: somebody has registered (EBUSY).
            InvalidArgument: the signal's number is out of range, or `repeat` with a signal.
            ClosedHandle: the handle is closed.

        See mq_notify(3).
        """
        self._check_open("mq_notify")
        number = callback if isinstance(callback, int) else None
        known = callback is None or number is not None or callable(callback)
        if isinstance(callback, bool) or not known:
            message = f"notify takes a callable, a signal or None, not {callback!r}"
            raise TypeError(message)
        if number is not None and not 1 <= number <= signal.SIGRTMAX:
            message = f"the signal is {number}; it takes 1 to {int(signal.SIGRTMAX)}"
            raise InvalidArgument(message, errno=errno.EINVAL, op="mq_notify")
        if repeat and not callable(callback):
            message = "repeat goes with a callable; a signal's handler can call notify again"
            raise InvalidArgument(message, errno=errno.EINVAL)
        previous, self._notifier = self._notifier, None
        if previous is not None:
            previous.stop()
        try:
            if callback is None:
                native.mq_notify_signal(self._fd, 0)
            elif number is not None:
                native.mq_notify_signal(self._fd, number)
            elif callable(callback):
                self._notifier = Notifier(self._fd, callback, repeat=repeat)
        except OSError as exc:
            hint = "one process at a time can register" if exc.errno == errno.EBUSY else ""
            raise from_errno(
                exc.errno or errno.EIO, op="mq_notify", target=self._target, hint=hint
            ) from None

    # -- errors ------------------------------------------------------------------------------------

    def _error(
        self, op: str, exc: OSError | ValueError, timeout: float | None, data: Any = b""
    ) -> IpcError:
        if not isinstance(exc, OSError):
            checked_timeout(timeout)
            return InvalidArgument(str(exc), errno=errno.EINVAL, op=op, target=self._target)
        if self._closed:
            return closed_handle(op, self._target)
        sending = op == "mq_send"
        code = exc.errno or errno.EIO
        if code == errno.EBADF and self._access:
            message = f"the handle was opened {self._access}"
            return AccessDenied(message, errno=code, op=op, target=self._target)
        message = hint = ""
        if code == errno.EAGAIN:
            message = "the queue is full" if sending else "no message waits"
        elif code == errno.ETIMEDOUT:
            message = f"the queue was full for {timeout} s"
            if not sending:
                message = f"no message came within {timeout} s"
        elif code == errno.EMSGSIZE:
            size = memoryview(data).nbytes
            message = f"a message of {size:,} bytes exceeds the queue's max_size ({self._max_size})"
            hint = f"create the queue with max_size={size} or more"
            return MessageTooLong(message, errno=code, op=op, target=self._target, hint=hint)
        return from_errno(code, op=op, target=self._target, message=message, hint=hint)
