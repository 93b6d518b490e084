"""System V message queues."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict, final, overload

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.handle import Capabilities, checked_mode
from ipckit._core.limits import described, sysctl
from ipckit._core.making import PATIENCE, find_or_make
from ipckit._core.public import public
from ipckit._core.sysv import SysVObject
from ipckit._core.trust import Trust
from ipckit._msgq.message_form import check_mtype, form_of, text_size
from ipckit._msgq.message_types import MessageTypes, check_payload
from ipckit._msgq.queue import MessageQueue
from ipckit._msgq.stat import QUEUES, SysVMessageQueueStat
from ipckit._msgq.sysv_errors import (
    get_queue,
    peek_too_long,
    permitted,
    receive_error,
    send_error,
)
from ipckit._native import BadArgument, CallFailed, msgrcv, msgsnd
from ipckit._payload.codecs import unpickles
from ipckit._payload.types import BYTES, T, V
from ipckit.errors import AccessDenied, AlreadyExists, InvalidArgument, Removed, from_errno
from ipckit.keys import Key

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    import numpy as np
    import numpy.typing as npt

    from ipckit._payload.types import AnyPayload, PayloadType, TypeMap
    from ipckit.errors import IpcError

_DEFAULT_MSGMAX: Final = 8192
_SIZE_END: Final = 2**31  # kernel.msgmax is an int
_EITHER_RIGHT: Final = (0o400, 0o200)


class CreateOptions(TypedDict, total=False):
    """The keyword arguments of `SysVMessageQueue.create`."""

    mode: int
    max_bytes: int | None


class OpenOrCreateOptions(CreateOptions, total=False):
    """The keyword arguments of `SysVMessageQueue.open_or_create`."""

    timeout: float | None
    owner_uid: int | None


@public("ipckit.msgq")
@final
class SysVMessageQueue(SysVObject, MessageQueue[T]):
    """A System V message queue: the kernel stores typed messages until a process receives them.

    Use `create`, `open`, `open_or_create` or `from_id` to get one. Each takes the payload type:
    `bytes`, `str`, a `Struct`, a ctypes structure, a numpy dtype, a msgspec struct, a `Codec`,
    or a mapping ``{message type: payload type}`` for a queue that carries several.

    A `Struct` whose first field is ``mtype: Long`` is a *message struct*: that field is the message
    type, and the rest of the struct is the text, as in C's ``struct msgbuf``.

    A call with a timeout polls, because Linux has no timed msgsnd or msgrcv: the pauses grow from
    20 microseconds to 1 millisecond, and to 3 milliseconds after the first 50. A call without a
    timeout sleeps in the kernel. Closing a handle does not wake a call of another thread.

        >>> with SysVMessageQueue.create() as queue:
        ...     queue.send(b"later", 2)
        ...     queue.send(b"now", 1)
        ...     queue.receive(-2)
        Message(value=b'now', mtype=1, priority=0, truncated=False)

    See sysvipc(7), msgget(2), msgop(2) and msgctl(2).
    """

    _factories = "SysVMessageQueue.create, open, open_or_create or from_id"
    _table = QUEUES
    caps = Capabilities(
        pollable=False,
        timed=False,
        priorities=False,
        typed_receive=True,
        unlink_destroys_now=True,
    )

    def __init__(
        self,
        queue_id: int,
        key: Key | None,
        payload: AnyPayload,
        *,
        owner: bool,
        owner_uid: int | None = None,
    ) -> None:
        self._ident = queue_id
        self._key = key
        self._owner_uid = owner_uid
        super().__init__(payload, owner=owner)
        self._id = queue_id  # -1 once the handle is closed
        self._room = sysctl("kernel.msgmax") or _DEFAULT_MSGMAX
        self._types = MessageTypes(payload if isinstance(payload, Mapping) else {})
        self._form = None if self._codec is None else form_of(self._codec)
        # It decodes all messages, unless a form does, which also takes a message's type, or a
        # mapping.
        self._decoder: Callable[[bytes], T] | None = None
        if self._codec is not None and self._form is None:
            self._decoder = self._codec.decode
        elif self._codec is not None:
            self._direct = self._codec.accepts
        # The class whose instances are sent without a codec: a message struct, which begins with
        # the message type, or another class.
        self._typed = self._direct if self._form and self._form.head else None
        self._untyped = None if self._typed else self._direct

    # -- creating and opening ----------------------------------------------------------------------

    @overload
    @classmethod
    def create(
        cls, key: int | None, type: np.dtype[Any], **options: Unpack[CreateOptions]
    ) -> SysVMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def create(
        cls,
        key: int | None = ...,
        type: PayloadType[V] | TypeMap[V] = ...,
        **options: Unpack[CreateOptions],
    ) -> SysVMessageQueue[V]: ...
    @classmethod
    def create(
        cls,
        key: int | None = None,
        type: Any = BYTES,
        *,
        mode: int = 0o600,
        max_bytes: int | None = None,
    ) -> SysVMessageQueue[Any]:
        """Create a queue, which the handle owns.

        Args:
            key: the key to find it by; by default a free one.
            type: the payload type, or a mapping from message type to payload type.
            mode: permission bits, 0 to 0o777; the umask has no effect.
            max_bytes: the most bytes of message text that the queue can contain; by default
                kernel.msgmnb.

        Returns:
            A handle on the new, empty queue.

        Raises:
            AlreadyExists: a queue has that key.
            LimitReached: kernel.msgmni queues exist, memory is short, or `max_bytes` is above
                kernel.msgmnb and the caller lacks CAP_SYS_RESOURCE.
            InvalidArgument: `key`, `mode`, `max_bytes` or a message type is out of range.
            TypeError: `type` is not a payload type.

        Example:
            >>> with SysVMessageQueue.create(type=str) as queue:
            ...     queue.send("hello")
            ...     len(queue)
            1

        See msgget(2).
        """
        check_payload(type)
        checked_mode(mode)
        queue_id, found_key = cls._create_at(None if key is None else Key(key), mode)
        queue: SysVMessageQueue[Any] | None = None
        try:
            queue = construct(cls, queue_id, found_key, type, owner=True)
            if max_bytes is not None:
                queue.max_bytes = max_bytes
        except BaseException:
            with suppress(OSError):  # another process has removed it
                native.msg_remove(queue_id)
            if queue is not None:
                queue.close()
            raise
        return queue

    @staticmethod
    def _create_at(key: Key | None, mode: int) -> tuple[int, Key]:
        """Create a queue at a key, or at a free one: its id and key."""
        flags = native.IPC_CREAT | native.IPC_EXCL | mode
        while True:
            wanted = Key.random() if key is None else key
            try:
                return get_queue(wanted, flags), wanted
            except AlreadyExists:
                if key is not None:
                    raise

    @overload
    @classmethod
    def open(
        cls, key: int, type: np.dtype[Any], *, owner_uid: int | None = ...
    ) -> SysVMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open(
        cls, key: int, type: PayloadType[V] | TypeMap[V] = ..., *, owner_uid: int | None = ...
    ) -> SysVMessageQueue[V]: ...
    @classmethod
    def open(
        cls, key: int, type: Any = BYTES, *, owner_uid: int | None = None
    ) -> SysVMessageQueue[Any]:
        """Open an existing queue by its key. Never creates the queue, never owns it.

        The caller needs only one right: to send or to receive.

        Args:
            key: the queue's key.
            type: the payload type, or a mapping from message type to payload type.
            owner_uid: with `codec.Pickle`, one more user whose queues are accepted, besides the
                caller's effective user and root. Queues of other payload types are accepted from
                any user.

        Raises:
            NotFound: no queue has that key.
            AccessDenied: the caller may neither send nor receive; or with `codec.Pickle`, another
                user owns or created the queue, whose code would run in this process.
            InvalidArgument: `key` or a message type is out of range.

        Example:
            >>> with SysVMessageQueue.create() as queue:
            ...     with SysVMessageQueue.open(queue.key) as same:
            ...         same.id == queue.id, same.owner
            (True, False)

        See msgget(2).
        """
        check_payload(type)
        wanted, trust = Key(key), Trust(owner_uid)
        while True:
            queue_id = get_queue(wanted, 0)
            target = QUEUES.named(queue_id, wanted)
            try:
                if unpickles(type):
                    trust.check_sysv(QUEUES.present(queue_id, wanted), op="msgget", target=target)
                QUEUES.look(queue_id, "")
            except Removed:
                continue  # removed between two calls: ask again what the key leads to
            except AccessDenied as exc:
                if exc.op == "msgget":
                    raise
                if not any(permitted(wanted, right) for right in _EITHER_RIGHT):
                    raise QUEUES.denied(queue_id, target, op="msgget") from None
            return construct(cls, queue_id, wanted, type, owner=False, owner_uid=owner_uid)

    @overload
    @classmethod
    def open_or_create(
        cls, key: int, type: np.dtype[Any], **options: Unpack[OpenOrCreateOptions]
    ) -> SysVMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open_or_create(
        cls,
        key: int,
        type: PayloadType[V] | TypeMap[V] = ...,
        **options: Unpack[OpenOrCreateOptions],
    ) -> SysVMessageQueue[V]: ...
    @classmethod
    def open_or_create(
        cls,
        key: int,
        type: Any = BYTES,
        *,
        mode: int = 0o600,
        max_bytes: int | None = None,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> SysVMessageQueue[Any]:
        """Open a queue, or create it. The handle owns the queue only if this call created it.

        Args:
            key: the queue's key.
            type: the payload type, or a mapping from message type to payload type.
            mode: permission bits of a new queue, and the widest that an existing queue may have.
            max_bytes: as in `create`, for a new queue.
            timeout: seconds to retry while other processes keep creating and removing the queue.
            owner_uid: one more user whose queue is accepted, besides the caller's effective user
                and root.

        Raises:
            AccessDenied: another user owns or created the existing queue, or its mode allows other
                users more than `mode` does; also as `create` and `open`.
            Timeout: other processes created and removed the queue until the deadline.
            IpcError: as `create` and `open`.

        See msgget(2).
        """
        deadline = Deadline(timeout)
        wanted, trust = Key(key), Trust(owner_uid, checked_mode(mode))
        allowed: dict[str, Any] = {} if owner_uid is None else {"owner_uid": owner_uid}

        def make() -> SysVMessageQueue[Any]:
            return cls.create(key, type, mode=mode, max_bytes=max_bytes)

        def find() -> SysVMessageQueue[Any]:
            found: SysVMessageQueue[Any] = cls.open(key, type, **allowed)
            try:
                status = QUEUES.present(found.id, wanted)
                trust.check_sysv(status, op="msgget", target=found._target)
            except BaseException:
                found.close()
                raise
            return found

        target = QUEUES.named(None, wanted)
        return find_or_make(make, find, deadline, op="msgget", target=target, removed="removed")

    @overload
    @classmethod
    def from_id(
        cls, id: int, type: np.dtype[Any], *, owner_uid: int | None = ...
    ) -> SysVMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def from_id(
        cls, id: int, type: PayloadType[V] | TypeMap[V] = ..., *, owner_uid: int | None = ...
    ) -> SysVMessageQueue[V]: ...
    @classmethod
    def from_id(
        cls, id: int, type: Any = BYTES, *, owner_uid: int | None = None
    ) -> SysVMessageQueue[Any]:
        """Open a queue by its identifier, such as one from another process. Never owns the queue.

        Args:
            id: the identifier that msgget(2) returned, 0 to 2**31 - 1.
            type: the payload type, or a mapping from message type to payload type.
            owner_uid: as in `open`.

        Raises:
            NotFound: no queue has that id.
            AccessDenied: with `codec.Pickle`, another user owns or created the queue.
            InvalidArgument: `id` is out of range.

        See msgop(2).
        """
        check_payload(type)
        trust = Trust(owner_uid)
        found, key = QUEUES.given(id)
        if unpickles(type):
            trust.check_sysv(found, op="msgctl", target=QUEUES.named(id, key))
        return construct(cls, id, key, type, owner=False, owner_uid=owner_uid)

    # -- sending and receiving ---------------------------------------------------------------------

    def send(self, value: T, mtype: int | None = None, *, timeout: float | None = None) -> None:
        """Append one message to the queue.

        Args:
            value: the payload.
            mtype: the message type, 1 to 2**63 - 1. By default 1; on a queue that was opened
                with a mapping, the type under which the mapping has the value's class. A message
                struct is sent under its own ``mtype``; an argument must be equal to it.
            timeout: seconds to wait while the queue is full. 0 does not wait, None waits for ever.

        Raises:
            TypeError: the value is not of the payload type; nothing was sent.
            MessageTooLong: the message exceeds kernel.msgmax or the queue's `max_bytes`.
            WouldBlock: the queue is full, and `timeout` is 0 (EAGAIN).
            Timeout: the queue was full until the deadline.
            Removed: the queue was removed, before the call or during it.
            AccessDenied: the caller may not write to the queue.
            InvalidArgument: `mtype` or `timeout` is out of range, or `mtype` is not that of the
                message struct.
            ClosedHandle: the handle is closed.

        See msgop(2).
        """
        data: Any = value
        number: int | None
        cls = value.__class__
        if cls is self._untyped:
            number = 1 if mtype is None else mtype
        elif cls is self._typed and mtype is None:
            number = None
        else:
            data, number = self._encoded(value, mtype)
        try:
            msgsnd(self._id, number, data, timeout)
        except (CallFailed, BadArgument) as exc:
            size = partial(text_size, data, number)
            raise send_error(
                self._ident, self._target, exc, size, timeout, closed=self._closed
            ) from None

    def receive(
        self,
        select: int | type[Any] = 0,
        *,
        exclude: bool = False,
        truncate: bool = False,
        max_size: int | None = None,
        timeout: float | None = None,
    ) -> native.Message[T]:
        """Receive one message.

        Args:
            select: which message: 0 for the first; n > 0 for the first of type n; n < 0 for the
                first of the lowest type that is at most abs(n); a payload class of the queue's
                mapping for the first of its type.
            exclude: with ``select`` n > 0, receive the first of any type except n (MSG_EXCEPT).
            truncate: cut a message that is longer than `max_size`, and set the message's
                ``.truncated`` (MSG_NOERROR).
            max_size: the most bytes to receive. By default no limit; with `truncate`, the size of
                the payload type if that is fixed.
            timeout: seconds to wait while the queue has no such message. 0 does not wait, None
                waits for ever.

        Returns:
            The message, with ``.value``, ``.mtype`` and ``.truncated``. A message struct has the
            message's type in its own ``mtype`` too.

        Raises:
            WouldBlock: the queue has no such message, and `timeout` is 0 (ENOMSG).
            Timeout: no such message came before the deadline.
            MessageTooLong: the message is longer than `max_size`, without `truncate`. It stays in
                the queue.
            LayoutMismatch: the bytes do not fit the payload type. The message has left the queue;
                ``.raw`` has its bytes.
            Removed: the queue was removed, before the call or during it.
            AccessDenied: the caller may not read from the queue.
            InvalidArgument: `select`, `max_size` or `timeout` is out of range.
            ClosedHandle: the handle is closed.

        See msgop(2).
        """
        if exclude or truncate or max_size is not None or type(select) is not int:
            return self._receive_chosen(select, exclude, truncate, max_size, timeout)
        try:
            raw = msgrcv(self._id, select, 0, self._room, timeout, self._form)
        except (CallFailed, BadArgument) as exc:
            raw = self._receive_after(exc, select, 0, timeout)
        return raw if raw.value.__class__ is self._direct else self._decode_one(raw)

    def peek(self, index: int = 0) -> native.Message[T]:
        """Return a copy of a message that stays in the queue (MSG_COPY).

        Args:
            index: the message's position in the queue, from 0.

        Raises:
            WouldBlock: the queue has no message at that position (ENOMSG).
            MessageTooLong: the message is longer than kernel.msgmax, which was lowered after it
                was sent. `receive` can still take it.
            LayoutMismatch: the bytes do not fit the payload type.
            InvalidArgument: `index` is negative.
            IpcError: with errno ENOSYS, if the kernel lacks CONFIG_CHECKPOINT_RESTORE; otherwise
                as `receive`.

        See msgop(2).
        """
        if index < 0:
            message = f"index must be 0 or more, not {index}"
            raise InvalidArgument(message, errno=errno.EINVAL, op="msgrcv", target=self._target)
        flags = native.MSG_COPY | native.IPC_NOWAIT
        try:
            raw = msgrcv(self._id, index, flags, self._room, 0, self._form)
        except (CallFailed, BadArgument) as exc:
            try:
                raw = self._receive_after(exc, index, flags, 0)
            except Removed:
                if QUEUES.find(self._id) is None:
                    raise
                # MSG_COPY fails with EINVAL for this as well as for a removed queue.
                raise peek_too_long(self._target) from None
        return raw if raw.value.__class__ is self._direct else self._decode_one(raw)

    def _receive_chosen(
        self,
        select: int | type[Any],
        exclude: bool,  # noqa: FBT001 - `receive` takes it by keyword
        truncate: bool,  # noqa: FBT001
        max_size: int | None,
        timeout: float | None,
    ) -> native.Message[T]:
        """Receive with any of the options: `receive` itself handles the common case alone."""
        number = self._number_of(select) if isinstance(select, type) else select
        number = int_argument("select", number, "an int or a payload class")
        flags = native.MSG_EXCEPT if exclude else 0
        limit = max_size
        if truncate and limit is None:
            limit = None if self._codec is None else self._codec.size
            if limit is not None and self._form is not None:
                limit = self._form.longest
        if limit is not None:
            raw = self._receive_limited(number, flags, limit, truncate, timeout)
        else:
            try:
                raw = msgrcv(self._id, number, flags, self._room, timeout, self._form)
            except (CallFailed, BadArgument) as exc:
                raw = self._receive_after(exc, number, flags, timeout)
        return raw if raw.value.__class__ is self._direct else self._decode_one(raw)

    def _receive_limited(
        self,
        number: int,
        flags: int,
        limit: int,
        truncate: bool,  # noqa: FBT001 - as `receive` has it
        timeout: float | None,
    ) -> native.Message[Any]:
        """Receive at most `limit` bytes."""
        if not 0 <= limit < _SIZE_END:
            message = f"max_size must be 0 to {_SIZE_END - 1} bytes, not {limit}"
            raise InvalidArgument(message, errno=errno.EINVAL, op="msgrcv", target=self._target)
        raw: native.Message[Any]
        # msgrcv does not tell that it cut a message: one byte more than `limit` shows it.
        # Without a form: the bytes that are cut off must not make a struct of a longer message.
        size, flags = (limit + 1, flags | native.MSG_NOERROR) if truncate else (limit, flags)
        form = None if truncate else self._form
        try:
            raw = msgrcv(self._id, number, flags, size, timeout, form)
        except (CallFailed, BadArgument) as exc:
            raise self._receive_error(exc, number, timeout, size) from None
        if truncate and len(raw.value) > limit:
            raw = native.message(raw.value[:limit], raw.mtype, 0, True)  # noqa: FBT003
        return raw

    def _receive_after(
        self, exc: OSError | ValueError, select: Any, flags: int, timeout: float | None
    ) -> native.Message[Any]:
        """Handle a failed msgrcv: retry with a larger buffer after E2BIG, otherwise raise."""
        while isinstance(exc, OSError) and exc.errno == errno.E2BIG:
            # kernel.msgmax was raised after the handle was opened, or was lowered below the size
            # of a message that is queued.
            self._room = max(self._room * 2, sysctl("kernel.msgmax") or 0)
            try:
                return msgrcv(self._id, select, flags, self._room, timeout, self._form)
            except (CallFailed, BadArgument) as again:
                exc = again
        raise self._receive_error(exc, select, timeout) from None

    def _receive_error(
        self, exc: OSError | ValueError, select: Any, timeout: float | None, size: int = 0
    ) -> IpcError:
        return receive_error(
            self._ident, self._target, exc, select, timeout, closed=self._closed, size=size
        )

    # -- payload types -----------------------------------------------------------------------------

    def _encoded(self, value: Any, mtype: int | None) -> tuple[Any, int | None]:
        """Encode a value: its bytes, and the message type; None if the bytes begin with it."""
        if self._codec is not None:
            data = self._codec.encode(value)
            if self._typed is None:
                return data, 1 if mtype is None else mtype
        else:
            number = self._types.number_for(value, self._target) if mtype is None else mtype
            data = self._types.codec_to_send(number, self._target).encode(value)
            if number not in self._types.typed:
                return data, number
        if mtype is not None:
            check_mtype(data, mtype, self._target)
        return data, None

    def _decode_one(self, raw: native.Message[bytes]) -> native.Message[T]:
        decode = self._decoder or self._types.decoders.get(raw.mtype)
        if decode is None and self._form is not None:
            decode = partial(self._form.decode, raw.mtype)
        if decode is None:
            problem = (
                f"the queue has no payload type for message type {raw.mtype}; it has {self._types}"
            )
            self._mismatch(raw, TypeError(problem))
        return self._decode(raw, decode)

    def _number_of(self, payload: type[Any]) -> int:
        if self._codec is not None:
            message = (
                "select can be a class only on a queue that was opened with a mapping of types"
            )
            raise TypeError(message)
        return self._types.number_of(payload)

    # -- the kernel's facts ------------------------------------------------------------------------

    def stat(self) -> SysVMessageQueueStat:
        """Return what the kernel knows of the queue: every field of struct msqid_ds.

        Raises:
            Removed: the queue was removed.
            AccessDenied: the caller may not read from the queue.
            ClosedHandle: the handle is closed.

        See msgctl(2), IPC_STAT.
        """
        self._check_open("msgctl")
        return QUEUES.look(self._ident, self._target)

    def __len__(self) -> int:
        """Return the number of messages in the queue; raises as `stat`."""
        return self.stat().qnum

    @property
    def max_bytes(self) -> int:
        """The most bytes of message text that the queue can contain (msg_qbytes); settable.

        Raises:
            LimitReached: the new value is above kernel.msgmnb, and the caller lacks
                CAP_SYS_RESOURCE.
            AccessDenied: the caller is neither the owner nor the creator; or to read the value, the
                caller may not read from the queue.
            InvalidArgument: the new value is out of range.
            Removed: the queue was removed.
            ClosedHandle: the handle is closed.
        """
        return self.stat().qbytes

    @max_bytes.setter
    def max_bytes(self, value: int) -> None:
        try:
            self._change(qbytes=value)
        except AccessDenied:
            found = QUEUES.find(self._ident)
            if found is None or not found.may_change():
                raise
            message = f"max_bytes of {value:,} exceeds {described('kernel.msgmnb')}"
            raise from_errno(
                errno.ENOSPC,
                op="msgctl",
                target=self._target,
                message=message,
                hint=f"as root: sysctl kernel.msgmnb={value}, or run with CAP_SYS_RESOURCE",
            ) from None

    def _apply(self, status: SysVMessageQueueStat) -> None:
        native.msg_set(self._ident, status.uid, status.gid, status.mode & 0o777, status.qbytes)

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        # The handle owns no kernel resource. An invalid id makes each later call fail.
        self._id = -1

    @staticmethod
    def _find(key: Key) -> int:
        return native.msgget(key, 0)

    @staticmethod
    def _rmid(ident: int) -> None:
        native.msg_remove(ident)

    def _size_text(self) -> str:
        now = self.stat()
        return f"{now.qnum} messages, {now.cbytes} of {now.qbytes} bytes"

    def _reopen_args(self) -> tuple[Any, ...]:
        return (self._ident, self._payload, self._owner_uid)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        queue_id, payload, owner_uid = args
        handle: Any = cls.from_id(queue_id, payload, owner_uid=owner_uid)
        return handle  # type: ignore[no-any-return] # the payload's type is not known here
