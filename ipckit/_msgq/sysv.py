"""System V message queues."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.limits import sysctl
from ipckit._core.public import public
from ipckit._msgq.stat import QUEUES
from ipckit._msgq.sysv_errors import (
    peek_too_long,
    receive_error,
    send_error,
)
from ipckit._msgq.sysv_object import SysVQueueObject
from ipckit._native import BadArgument, CallFailed, msgrcv, msgsnd
from ipckit._payload.types import T
from ipckit.errors import InvalidArgument, Removed

if TYPE_CHECKING:
    from ipckit._payload.codecs import Codec

_MOST_BYTES: Final = 2**31  # kernel.msgmax is an int


@public("ipckit.msgq")
class SysVMessageQueue(SysVQueueObject[T]):
    """A System V message queue: the kernel keeps typed messages until somebody takes them.

    Make one with `create`, `open`, `open_or_create` or `from_id`. Each takes the payload type:
    `bytes`, `str`, a `Struct`, a ctypes structure, a numpy dtype, a msgspec struct, a `Codec`,
    or a mapping ``{message type: payload type}`` for a queue that carries several.

    A wait with a deadline looks again after pauses that grow from 20 microseconds to 1
    millisecond, because Linux has no timed msgsnd or msgrcv; a wait without one sleeps in the
    kernel. A closed handle does not wake a call that another thread is waiting in.

    See sysvipc(7), msgget(2), msgop(2) and msgctl(2).
    """

    _factories = "SysVMessageQueue.create, open, open_or_create or from_id"

    def send(self, value: T, mtype: int | None = None, *, timeout: float | None = None) -> None:
        """Put one message at the end of the queue.

        Args:
            value: the payload.
            mtype: the message type, 1 to 2**63 - 1. By default 1; on a queue that was opened
                with a mapping, the type that the value's class stands under.
            timeout: seconds to wait while the queue is full; 0 does not wait, None waits for ever.

        Raises:
            TypeError: the value is not of the payload type; nothing was sent.
            MessageTooLong: longer than kernel.msgmax, or than the queue's `max_bytes`.
            WouldBlock: full, and `timeout` is 0 (EAGAIN).
            Timeout: full until the deadline.
            Removed: the queue was removed, before or meanwhile.
            AccessDenied: no write permission.
            InvalidArgument: `mtype` or `timeout` is out of range.
            ClosedHandle: the handle is closed.

        See msgop(2).
        """
        if value.__class__ is self._direct:
            data: Any = value
            number = 1 if mtype is None else mtype
        else:
            data, number = self._encoded(value, mtype)
        try:
            msgsnd(self._id, number, data, timeout)
        except (CallFailed, BadArgument) as exc:
            raise send_error(self, exc, data, timeout) from None

    def receive(
        self,
        select: int | type[Any] = 0,
        *,
        exclude: bool = False,
        truncate: bool = False,
        max_size: int | None = None,
        timeout: float | None = None,
    ) -> native.Message[T]:
        """Take one message.

        Args:
            select: which one: 0 the first; n > 0 the first of type n; n < 0 the first of the
                lowest type that is at most abs(n); a payload class of the queue's mapping, the
                first of its type.
            exclude: with ``select`` n > 0, the first of any type but n (MSG_EXCEPT).
            truncate: cut a message that is longer than `max_size`, and say so in the message's
                ``.truncated`` (MSG_NOERROR).
            max_size: the most bytes to take; by default a cut message has the payload type's
                size, and any other is taken whole.
            timeout: seconds to wait while no such message is there; 0 does not wait, None waits
                for ever.

        Returns:
            The message, with ``.value``, ``.mtype`` and ``.truncated``.

        Raises:
            WouldBlock: no such message, and `timeout` is 0 (ENOMSG).
            Timeout: no such message until the deadline.
            MessageTooLong: longer than `max_size`, without `truncate`; it stays in the queue.
            LayoutMismatch: its bytes are no payload of the queue's type; ``.raw`` has them.
            Removed: the queue was removed, before or meanwhile.
            AccessDenied: no read permission.
            InvalidArgument: `select`, `max_size` or `timeout` is out of range.
            ClosedHandle: the handle is closed.

        See msgop(2).
        """
        if exclude or truncate or max_size is not None or type(select) is not int:
            return self._receive_chosen(select, exclude, truncate, max_size, timeout)
        try:
            raw = msgrcv(self._id, select, 0, self._room, timeout, self._record)
        except (CallFailed, BadArgument) as exc:
            raw = self._receive_after(exc, select, 0, timeout)
        return raw if raw.value.__class__ is self._direct else self._decode_one(raw)

    def peek(self, index: int = 0) -> native.Message[T]:
        """A copy of a message that stays in the queue (MSG_COPY).

        Args:
            index: its place in the queue, from 0.

        Raises:
            WouldBlock: the queue has no message at that place (ENOMSG).
            MessageTooLong: longer than kernel.msgmax, which was lowered since; `receive` takes it.
            LayoutMismatch: its bytes are no payload of the queue's type.
            InvalidArgument: `index` is negative.
            IpcError: with errno ENOSYS, the kernel lacks CONFIG_CHECKPOINT_RESTORE; else as
                `receive`.
        """
        if index < 0:
            message = f"index is {index}; it takes 0 or more"
            raise InvalidArgument(message, errno=errno.EINVAL, op="msgrcv", target=self._target)
        flags = native.MSG_COPY | native.IPC_NOWAIT
        try:
            raw = msgrcv(self._id, index, flags, self._room, 0, self._record)
        except (OSError, ValueError) as exc:
            try:
                raw = self._receive_after(exc, index, flags, 0)
            except Removed:
                if QUEUES.find(self._id) is None:
                    raise
                # MSG_COPY says EINVAL for this, as for a queue that is gone.
                raise peek_too_long(self) from None
        return raw if raw.value.__class__ is self._direct else self._decode_one(raw)

    def _receive_chosen(
        self,
        select: int | type[Any],
        exclude: bool,  # noqa: FBT001 - `receive` takes it by keyword
        truncate: bool,  # noqa: FBT001
        max_size: int | None,
        timeout: float | None,
    ) -> native.Message[T]:
        number = self._number_of(select) if isinstance(select, type) else select
        number = int_argument("select", number, "an int or a payload class")
        flags = native.MSG_EXCEPT if exclude else 0
        limit = max_size
        if truncate and limit is None:
            limit = None if self._codec is None else self._codec.size
        if limit is None:
            return self._receive_flagged(number, flags, timeout)
        if not 0 <= limit < _MOST_BYTES:
            message = f"max_size is {limit}; it takes 0 to {_MOST_BYTES - 1} bytes"
            raise InvalidArgument(message, errno=errno.EINVAL, op="msgrcv", target=self._target)
        raw: native.Message[Any]
        # One byte more than is wanted shows whether there was more.
        room, flags = (limit + 1, flags | native.MSG_NOERROR) if truncate else (limit, flags)
        try:
            raw = msgrcv(self._id, number, flags, room, timeout, self._record)
        except (CallFailed, BadArgument) as exc:
            raise receive_error(self, exc, number, timeout, room=room) from None
        if isinstance(raw.value, bytes) and len(raw.value) > limit:
            raw = native.message(raw.value[:limit], raw.mtype, 0, True)  # noqa: FBT003
        return raw if raw.value.__class__ is self._direct else self._decode_one(raw)

    def _receive_flagged(self, number: int, flags: int, timeout: float | None) -> native.Message[T]:
        try:
            raw = msgrcv(self._id, number, flags, self._room, timeout, self._record)
        except (CallFailed, BadArgument) as exc:
            raw = self._receive_after(exc, number, flags, timeout)
        return raw if raw.value.__class__ is self._direct else self._decode_one(raw)

    def _receive_after(
        self, exc: OSError | ValueError, select: Any, flags: int, timeout: float | None
    ) -> native.Message[Any]:
        """Go on after a failed msgrcv: with a larger buffer after E2BIG, else by raising."""
        while isinstance(exc, OSError) and exc.errno == errno.E2BIG:
            # kernel.msgmax was raised since, or lowered below what is queued.
            self._room = max(self._room * 2, sysctl("kernel.msgmax") or 0)
            try:
                return msgrcv(self._id, select, flags, self._room, timeout, self._record)
            except (CallFailed, BadArgument) as again:
                exc = again
        raise receive_error(self, exc, select, timeout) from None

    def _encoded(self, value: Any, mtype: int | None) -> tuple[Any, int]:
        """A value as bytes, and the message type that it goes under."""
        if self._codec is not None:
            return self._codec.encode(value), 1 if mtype is None else mtype
        number = self._number_for(value) if mtype is None else mtype
        return self._codec_for_number(number).encode(value), number

    def _decode_one(self, raw: native.Message[bytes]) -> native.Message[T]:
        codec = self._codec or self._codecs.get(raw.mtype)
        if codec is None:
            known = ", ".join(f"{number}: {c.name}" for number, c in self._codecs.items())
            problem = f"no payload type for message type {raw.mtype} (there are {known})"
            self._mismatch(raw, TypeError(problem))
        return self._decode(raw, codec)

    def _number_for(self, value: object) -> int:
        numbers = [n for n, codec in self._codecs.items() if type(value) is codec.accepts]
        numbers = numbers or [
            n for n, codec in self._codecs.items() if isinstance(value, codec.accepts)
        ]
        return self._only(numbers, f"a value of type {type(value).__name__}")

    def _number_of(self, payload: type[Any]) -> int:
        if not isinstance(self._payload, Mapping):
            message = "a class selects only on a queue that was opened with a mapping of types"
            raise TypeError(message)
        numbers = [n for n, each in self._payload.items() if each is payload]
        return self._only(numbers, payload.__name__)

    def _only(self, numbers: list[int], what: str) -> int:
        if len(numbers) == 1:
            return numbers[0]
        known = ", ".join(f"{number}: {codec.name}" for number, codec in self._codecs.items())
        problem = "several message types take" if numbers else "no message type takes"
        message = f"{problem} {what}; the queue's are {known}"
        raise TypeError(message)

    def _codec_for_number(self, number: int) -> Codec[Any]:
        codec = self._codecs.get(number)
        if codec is None:
            known = ", ".join(map(str, self._codecs))
            message = f"message type {number!r} is not one of this queue's: {known}"
            raise InvalidArgument(message, errno=errno.EINVAL, op="msgsnd", target=self._target)
        return codec
