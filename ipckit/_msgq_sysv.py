"""System V message queues."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self, overload

import sysv_ipc

from ipckit import _native
from ipckit._deadline import Deadline, checked_timeout
from ipckit._handle import Capabilities, checked_mode
from ipckit._limits import described, sysctl, user_name
from ipckit._msgq_base import MessageQueue, raised_elsewhere
from ipckit._msgq_stat import SysVMessageQueueStat, find_queue, stat_queue
from ipckit._peers import PEER_ERRORS, from_peer
from ipckit._typing import BYTES, T, V
from ipckit.codec import codec_for
from ipckit.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidArgument,
    IpcError,
    MessageTooLong,
    NotFound,
    Removed,
    Timeout,
    from_errno,
)
from ipckit.keys import Key

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from ipckit._typing import AnyPayload, PayloadType, TypeMap
    from ipckit.codec import Codec

_DEFAULT_MSGMAX: Final = 8192
_EITHER_RIGHT: Final = (0o400, 0o200)


class SysVMessageQueue(MessageQueue[T]):
    """A System V message queue: the kernel keeps typed messages until somebody takes them.

    Make one with `create`, `open`, `open_or_create` or `from_id`. Each takes the payload type:
    `bytes`, `str`, a `Struct`, a ctypes structure, a numpy dtype, a msgspec struct, a `Codec`,
    or a mapping ``{message type: payload type}`` for a queue that carries several.

    A wait with a deadline looks again after pauses that grow from 20 microseconds to 1
    millisecond, because Linux has no timed msgsnd or msgrcv; a wait without one sleeps in the
    kernel. A closed handle does not wake a call that another thread is waiting in.

    See sysvipc(7), msgget(2), msgop(2) and msgctl(2).
    """

    caps = Capabilities(
        pollable=False,
        timed=False,
        priorities=False,
        typed_receive=True,
        unlink_destroys_now=True,
    )

    def __init__(self, queue_id: int, key: Key | None, payload: AnyPayload, *, owner: bool) -> None:
        self._ident = queue_id
        self._key = key
        super().__init__(payload, owner=owner)
        self._id = queue_id
        self._room = sysctl("kernel.msgmax") or _DEFAULT_MSGMAX
        self._codecs: dict[int, Codec[Any]] = {}
        if isinstance(payload, Mapping):
            self._codecs = {number: codec_for(each) for number, each in payload.items()}

    # -- making and finding ------------------------------------------------------------------

    @overload
    @classmethod
    def create(
        cls, key: int | None, type: np.dtype[Any], *, mode: int = ..., max_bytes: int | None = ...
    ) -> SysVMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def create(
        cls,
        key: int | None = ...,
        type: PayloadType[V] | TypeMap[V] = ...,
        *,
        mode: int = ...,
        max_bytes: int | None = ...,
    ) -> SysVMessageQueue[V]: ...
    @classmethod
    def create(
        cls,
        key: int | None = None,
        type: AnyPayload = BYTES,
        *,
        mode: int = 0o600,
        max_bytes: int | None = None,
    ) -> SysVMessageQueue[Any]:
        """Make a new queue, which the handle owns.

        Args:
            key: the key to find it by; None picks a free one.
            type: the payload type, or a mapping from message type to payload type.
            mode: permission bits, 0 to 0o777; the umask has no say.
            max_bytes: the most bytes of message text it holds; by default kernel.msgmnb.

        Raises:
            AlreadyExists: there is a queue of that key.
            LimitReached: kernel.msgmni queues exist, memory is short, or `max_bytes` is above
                kernel.msgmnb and the caller lacks CAP_SYS_RESOURCE.
            InvalidArgument: `key`, `mode`, `max_bytes` or a message type is out of range.
            TypeError: `type` is not a payload type.

        See msgget(2).
        """
        checked_payload(type)
        checked_mode(mode)
        while True:
            wanted = Key.random() if key is None else Key(key)
            try:
                queue = _get(wanted, mode, sysv_ipc.IPC_CREX)
                break
            except AlreadyExists:
                if key is not None:
                    raise
        self = cls(queue, wanted, type, owner=True)
        if max_bytes is not None:
            try:
                self.max_bytes = max_bytes
            except BaseException:
                self.unlink(missing_ok=True)
                self.close()
                raise
        return self

    @overload
    @classmethod
    def open(cls, key: int, type: np.dtype[Any]) -> SysVMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open(
        cls, key: int, type: PayloadType[V] | TypeMap[V] = ...
    ) -> SysVMessageQueue[V]: ...
    @classmethod
    def open(cls, key: int, type: AnyPayload = BYTES) -> SysVMessageQueue[Any]:
        """Find a queue by its key; never makes one, never owns it.

        A queue that the caller may only send to, or only receive from, opens.

        Args:
            key: the queue's key.
            type: the payload type, or a mapping from message type to payload type.

        Raises:
            NotFound: there is no queue of that key.
            AccessDenied: the caller may neither send to it nor receive from it.
            InvalidArgument: `key` or a message type is out of range.

        See msgget(2).
        """
        checked_payload(type)
        wanted = Key(key)
        queue = _get(wanted, 0, 0)
        try:
            stat_queue(queue)
        except AccessDenied:
            if not any(_permitted(wanted, right) for right in _EITHER_RIGHT):
                raise _denied("msgget", queue, _describe(queue, wanted)) from None
        return cls(queue, wanted, type, owner=False)

    @overload
    @classmethod
    def open_or_create(
        cls,
        key: int,
        type: np.dtype[Any],
        *,
        mode: int = ...,
        max_bytes: int | None = ...,
        timeout: float | None = ...,
    ) -> SysVMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open_or_create(
        cls,
        key: int,
        type: PayloadType[V] | TypeMap[V] = ...,
        *,
        mode: int = ...,
        max_bytes: int | None = ...,
        timeout: float | None = ...,
    ) -> SysVMessageQueue[V]: ...
    @classmethod
    def open_or_create(
        cls,
        key: int,
        type: AnyPayload = BYTES,
        *,
        mode: int = 0o600,
        max_bytes: int | None = None,
        timeout: float | None = None,
    ) -> SysVMessageQueue[Any]:
        """Find a queue, or make it; the handle owns it only if it made it.

        Args:
            key: the queue's key.
            type: the payload type, or a mapping from message type to payload type.
            mode: permission bits of a queue that is made.
            max_bytes: as in `create`, for a queue that is made.
            timeout: seconds to keep trying while others make and remove it meanwhile.

        Raises:
            Timeout: others made and removed it until the deadline.
            IpcError: as `create` and `open`.
        """
        deadline = Deadline(timeout)
        while True:
            try:
                return cls.create(key, type, mode=mode, max_bytes=max_bytes)
            except AlreadyExists:
                try:
                    return cls.open(key, type)
                except NotFound:
                    if deadline.expired:
                        raise Timeout(
                            "it keeps being made and removed",
                            errno=errno.ETIMEDOUT,
                            op="msgget",
                            target=_describe(None, Key(key)),
                        ) from None

    @overload
    @classmethod
    def from_id(cls, id: int, type: np.dtype[Any]) -> SysVMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def from_id(
        cls, id: int, type: PayloadType[V] | TypeMap[V] = ...
    ) -> SysVMessageQueue[V]: ...
    @classmethod
    def from_id(cls, id: int, type: AnyPayload = BYTES) -> SysVMessageQueue[Any]:
        """Use a queue whose identifier came from elsewhere; never owns it.

        Args:
            id: what msgget gave, in this process or another.
            type: the payload type, or a mapping from message type to payload type.

        Raises:
            NotFound: there is no queue of that id.
            InvalidArgument: `id` is negative.
        """
        checked_payload(type)
        if id < 0:
            message = f"id is {id}; it takes 0 or more"
            raise InvalidArgument(message, errno=errno.EINVAL)
        found = find_queue(id)
        if found is None:
            raise NotFound(
                "no such queue", errno=errno.EINVAL, op="msgctl", target=f"queue id {id}"
            )
        return cls(id, Key(found.key) if found.key else None, type, owner=False)

    # -- facts -------------------------------------------------------------------------------

    @property
    def key(self) -> Key | None:
        """The key that finds the queue; None for one made with IPC_PRIVATE."""
        return self._key

    @property
    def id(self) -> int:
        """The identifier that the kernel gave the queue."""
        return self._ident

    def stat(self) -> SysVMessageQueueStat:
        """What the kernel knows of the queue: every field of msqid_ds.

        Raises:
            Removed: the queue was removed.
            AccessDenied: the caller may not read from the queue.
            ClosedHandle: the handle is closed.

        See msgctl(2), IPC_STAT.
        """
        self._check_open("msgctl")
        try:
            return stat_queue(self._id)
        except AccessDenied:
            raise _denied("msgctl", self._id, self._target) from None

    def __len__(self) -> int:
        return self.stat().qnum

    @property
    def max_bytes(self) -> int:
        """The most bytes of message text that the queue holds (msg_qbytes); settable.

        Setting raises LimitReached above kernel.msgmnb without CAP_SYS_RESOURCE, and
        AccessDenied for those who are neither owner nor creator.
        """
        return self.stat().qbytes

    @max_bytes.setter
    def max_bytes(self, value: int) -> None:
        self._set(qbytes=value)

    def chmod(self, mode: int) -> None:
        """Change who may send (write) and receive (read).

        Args:
            mode: permission bits, 0 to 0o777.

        Raises:
            InvalidArgument: `mode` is out of range.
            AccessDenied: the caller is neither owner nor creator.
        """
        self._set(mode=checked_mode(mode))

    def chown(self, uid: int | None = None, gid: int | None = None) -> None:
        """Give the queue to another user, another group, or both; None leaves as it is.

        Raises:
            InvalidArgument: a number is out of range.
            AccessDenied: the caller is neither owner nor creator.
        """
        self._set(uid=uid, gid=gid)

    def _set(
        self,
        *,
        uid: int | None = None,
        gid: int | None = None,
        mode: int | None = None,
        qbytes: int | None = None,
    ) -> None:
        self._check_open("msgctl")
        now = find_queue(self._id)
        if now is None:
            raise from_errno(errno.EINVAL, op="msgctl", target=self._target)
        try:
            _native.msg_set(
                self._id,
                now.uid if uid is None else uid,
                now.gid if gid is None else gid,
                now.mode if mode is None else mode,
                now.qbytes if qbytes is None else qbytes,
            )
        except ValueError as exc:
            raise InvalidArgument(str(exc), errno=errno.EINVAL, op="msgctl") from None
        except PermissionError as exc:
            may_change = now.may_change()
            if may_change and qbytes is not None:
                message = f"max_bytes of {qbytes:,} exceeds {described('kernel.msgmnb')}"
                raise from_errno(
                    errno.ENOSPC,
                    op="msgctl",
                    target=self._target,
                    message=message,
                    hint=f"as root: sysctl kernel.msgmnb={qbytes}, or run with CAP_SYS_RESOURCE",
                ) from None
            raise _denied("msgctl", self._id, self._target, code=exc.errno) from None
        except OSError as exc:
            raise self._closed_or("msgctl", exc) from None

    # -- messages ----------------------------------------------------------------------------

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
        if self._raw:
            data: Any = value
            number = 1 if mtype is None else mtype
        elif self._codec is not None:
            data = self._codec.encode(value)
            number = 1 if mtype is None else mtype
        else:
            number = self._number_for(value) if mtype is None else mtype
            data = self._codec_for_number(number).encode(value)
        try:
            _native.msgsnd(self._id, number, data, timeout)
        except (OSError, ValueError) as exc:
            if raised_elsewhere(exc):
                raise
            raise self._send_error(exc, data, timeout) from None

    def receive(
        self,
        select: int | type[Any] = 0,
        *,
        exclude: bool = False,
        truncate: bool = False,
        max_size: int | None = None,
        timeout: float | None = None,
    ) -> _native.Message[T]:
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
        if exclude or truncate or max_size is not None or select.__class__ is not int:
            return self._receive_chosen(select, exclude, truncate, max_size, timeout)
        try:
            raw = _native.msgrcv(self._id, select, 0, self._room, timeout)
        except (OSError, ValueError) as exc:
            if raised_elsewhere(exc):
                raise
            raw = self._receive_after(exc, select, 0, timeout)
        return raw if self._raw else self._decode_one(raw)  # type: ignore[return-value] # T is bytes

    def peek(self, index: int = 0) -> _native.Message[T]:
        """A copy of a message that stays in the queue (MSG_COPY).

        Args:
            index: its place in the queue, from 0.

        Raises:
            WouldBlock: the queue has no message at that place (ENOMSG).
            LayoutMismatch: its bytes are no payload of the queue's type.
            InvalidArgument: `index` is negative.
            IpcError: with errno ENOSYS, the kernel lacks CONFIG_CHECKPOINT_RESTORE; else as
                `receive`.
        """
        if index < 0:
            message = f"index is {index}; it takes 0 or more"
            raise InvalidArgument(message, errno=errno.EINVAL, op="msgrcv", target=self._target)
        flags = _native.MSG_COPY | _native.IPC_NOWAIT
        try:
            raw = _native.msgrcv(self._id, index, flags, self._room, 0)
        except (OSError, ValueError) as exc:
            raw = self._receive_after(exc, index, flags, 0)
        return raw if self._raw else self._decode_one(raw)  # type: ignore[return-value] # T is bytes

    def _receive_chosen(
        self,
        select: int | type[Any],
        exclude: bool,  # noqa: FBT001 - `receive` takes it by keyword
        truncate: bool,  # noqa: FBT001
        max_size: int | None,
        timeout: float | None,
    ) -> _native.Message[T]:
        number = self._number_of(select) if isinstance(select, type) else select
        if isinstance(number, bool) or not isinstance(number, int):
            message = f"select is an int or a payload class, not {type(select).__name__}"
            raise TypeError(message)
        flags = _native.MSG_EXCEPT if exclude else 0
        limit = max_size
        if truncate and limit is None:
            limit = None if self._codec is None else self._codec.size
        if limit is None:
            return self._receive_flagged(number, flags, timeout)
        if limit < 0:
            message = f"max_size is {limit}; it takes 0 or more bytes"
            raise InvalidArgument(message, errno=errno.EINVAL, op="msgrcv", target=self._target)
        # One byte more than is wanted shows whether there was more.
        room, flags = (limit + 1, flags | _native.MSG_NOERROR) if truncate else (limit, flags)
        try:
            raw = _native.msgrcv(self._id, number, flags, room, timeout)
        except (OSError, ValueError) as exc:
            if raised_elsewhere(exc):
                raise
            raise self._receive_error(exc, number, timeout, room=room) from None
        if len(raw.value) > limit:
            raw = _native.message(raw.value[:limit], raw.mtype, 0, True)  # noqa: FBT003
        return raw if self._raw else self._decode_one(raw)  # type: ignore[return-value] # T is bytes

    def _receive_flagged(
        self, number: int, flags: int, timeout: float | None
    ) -> _native.Message[T]:
        try:
            raw = _native.msgrcv(self._id, number, flags, self._room, timeout)
        except (OSError, ValueError) as exc:
            if raised_elsewhere(exc):
                raise
            raw = self._receive_after(exc, number, flags, timeout)
        return raw if self._raw else self._decode_one(raw)  # type: ignore[return-value] # T is bytes

    def _receive_after(
        self, exc: OSError | ValueError, select: Any, flags: int, timeout: float | None
    ) -> _native.Message[bytes]:
        """Go on after a failed msgrcv: with a larger buffer after E2BIG, else by raising."""
        while isinstance(exc, OSError) and exc.errno == errno.E2BIG:
            # kernel.msgmax was raised since, or lowered below what is queued.
            self._room = max(self._room * 2, sysctl("kernel.msgmax") or 0)
            try:
                return _native.msgrcv(self._id, select, flags, self._room, timeout)
            except (OSError, ValueError) as again:
                if raised_elsewhere(again):
                    raise
                exc = again
        raise self._receive_error(exc, select, timeout) from None

    def _decode_one(self, raw: _native.Message[bytes]) -> _native.Message[T]:
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

    # -- errors ------------------------------------------------------------------------------

    def _send_error(
        self, exc: OSError | ValueError, data: Any, timeout: float | None
    ) -> IpcError | ValueError:
        if isinstance(exc, ValueError) and not isinstance(exc, OSError):
            checked_timeout(timeout)
            return InvalidArgument(
                str(exc), errno=errno.EINVAL, op="msgsnd", target=self._target
            )
        if self._closed:
            return self._closed_or("msgsnd", exc)
        message = hint = ""
        if exc.errno == errno.EMSGSIZE:
            return self._too_long(memoryview(data).nbytes)
        if exc.errno == errno.EAGAIN:
            message = "the queue is full"
        elif exc.errno == errno.ETIMEDOUT:
            message = f"the queue was full for {timeout} s"
        elif exc.errno == errno.EACCES:
            return _denied("msgsnd", self._id, self._target)
        elif exc.errno in {errno.EIDRM, errno.EINVAL}:
            message = "the queue was removed"
        return from_errno(
            exc.errno or errno.EIO, op="msgsnd", target=self._target, message=message, hint=hint
        )

    def _too_long(self, size: int) -> MessageTooLong:
        msgmax = sysctl("kernel.msgmax")
        if msgmax is not None and size > msgmax:
            message = f"a message of {size:,} bytes exceeds kernel.msgmax ({msgmax})"
            hint = f"as root: sysctl kernel.msgmax={size}; or send it in parts, or shared memory"
        else:
            found = find_queue(self._id)
            limit = "" if found is None else f" ({found.qbytes})"
            message = f"a message of {size:,} bytes exceeds the queue's max_bytes{limit}"
            hint = f"set max_bytes to {size} or more"
        return MessageTooLong(
            message, errno=errno.EMSGSIZE, op="msgsnd", target=self._target, hint=hint
        )

    def _receive_error(
        self, exc: OSError | ValueError, select: Any, timeout: float | None, room: int = 0
    ) -> IpcError | ValueError:
        if isinstance(exc, ValueError) and not isinstance(exc, OSError):
            checked_timeout(timeout)
            return InvalidArgument(
                str(exc), errno=errno.EINVAL, op="msgrcv", target=self._target
            )
        if self._closed:
            return self._closed_or("msgrcv", exc)
        message = hint = ""
        which = f" for select={select}" if select else ""
        if exc.errno == errno.ENOMSG:
            message = f"no message waits{which}"
        elif exc.errno == errno.ETIMEDOUT:
            message = f"no message came{which} within {timeout} s"
        elif exc.errno == errno.E2BIG:
            message = f"the message is longer than max_size ({room} bytes); it is still queued"
            hint = "take it with a larger max_size, or with truncate=True"
        elif exc.errno == errno.EACCES:
            return _denied("msgrcv", self._id, self._target)
        elif exc.errno in {errno.EIDRM, errno.EINVAL}:
            message = "the queue was removed"
        elif exc.errno == errno.ENOSYS:
            hint = "peek needs a kernel with CONFIG_CHECKPOINT_RESTORE"
        return from_errno(
            exc.errno or errno.EIO, op="msgrcv", target=self._target, message=message, hint=hint
        )

    # -- lifecycle ---------------------------------------------------------------------------

    def _release(self) -> None:
        # No kernel object belongs to the handle; an id that never was makes each call fail.
        self._id = -1

    def _remove(self) -> None:
        try:
            sysv_ipc.remove_message_queue(self._ident)
        except PEER_ERRORS as exc:
            error = from_peer(exc, op="msgctl", target=self._target)
            if isinstance(error, AccessDenied):
                raise _denied("msgctl", self._ident, self._target) from None
            if isinstance(error, (Removed, NotFound)):
                raise NotFound(
                    "no such queue", errno=error.errno or 0, op="msgctl", target=self._target
                ) from None
            raise error from None

    @property
    def _target(self) -> str:
        return _describe(self._ident, self._key)

    def _size_text(self) -> str:
        now = self.stat()
        return f"{now.qnum} messages, {now.cbytes} of {now.qbytes} bytes"

    def _reopen_args(self) -> tuple[Any, ...]:
        return (self._ident, self._payload)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        return cls.from_id(*args)  # type: ignore[return-value] # the payload's type is not known here


def checked_payload(payload: AnyPayload) -> None:
    """Raise for what is no payload type, before any object is made."""
    if not isinstance(payload, Mapping):
        codec_for(payload)
        return
    if not payload:
        message = "the mapping of message types is empty"
        raise InvalidArgument(message, errno=errno.EINVAL)
    for number, each in payload.items():
        if isinstance(number, bool) or not isinstance(number, int):
            message = f"a message type is an int, not {type(number).__name__}"
            raise TypeError(message)
        if not 1 <= number < 2**63:
            message = f"message type {number} is out of range; it takes 1 to {2**63 - 1}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        codec_for(each)


def _describe(queue_id: int | None, key: Key | None) -> str:
    parts = ["queue"]
    if key is not None:
        parts.append(f"key {key:#010x}")
    if queue_id is not None:
        parts.append(f"id {queue_id}")
    return " ".join(parts)


def _get(key: Key, mode: int, flags: int) -> int:
    try:
        return int(sysv_ipc.MessageQueue(int(key), flags, mode).id)
    except PEER_ERRORS as exc:
        error = from_peer(exc, op="msgget", target=_describe(None, key), creating=bool(flags))
    if isinstance(error, NotFound):
        error.strerror = "no such queue"
        error.hint = f"make it with SysVMessageQueue.create({key})"
    elif isinstance(error, AlreadyExists):
        error.strerror = "the queue exists already"
        error.hint = f"find it with SysVMessageQueue.open({key}), or use open_or_create"
    elif error.errno == errno.ENOSPC:
        error.strerror = f"the system has all the queues that {described('kernel.msgmni')} allows"
        error.hint = "remove some with ipcrm, or as root raise the sysctl"
    raise error from None


def _permitted(key: Key, right: int) -> bool:
    try:
        _get(key, right, 0)
    except AccessDenied:
        return False
    return True


def _denied(op: str, queue_id: int, target: str, code: int | None = None) -> IpcError:
    found = find_queue(queue_id)
    message = "permission denied"
    if found is not None:
        message += f": the owner is {user_name(found.uid)}, the mode {found.mode & 0o777:04o}"
    hint = "the owner can allow it with chmod"
    return AccessDenied(message, errno=code or errno.EACCES, op=op, target=target, hint=hint)
