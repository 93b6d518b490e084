"""A System V queue as an object: made, found, described, changed and removed."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, overload

import sysv_ipc

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.bindings import BINDING_ERRORS, errno_of
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.handle import Capabilities, checked_mode
from ipckit._core.limits import described, sysctl
from ipckit._core.making import PATIENCE, find_or_make
from ipckit._core.sysv import SysVObject
from ipckit._core.trust import Trust
from ipckit._msgq.queue import MessageQueue
from ipckit._msgq.stat import QUEUES, SysVMessageQueueStat
from ipckit._msgq.sysv_errors import (
    get_queue,
    permitted,
)
from ipckit._payload.codecs import codec_for, unpickles
from ipckit._payload.types import BYTES, T, V
from ipckit.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidArgument,
    Removed,
    from_errno,
)
from ipckit.keys import Key

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ipckit._msgq.sysv import SysVMessageQueue
    from ipckit._payload.codecs import Codec
    from ipckit._payload.types import AnyPayload, PayloadType, TypeMap

_DEFAULT_MSGMAX: Final = 8192
_EITHER_RIGHT: Final = (0o400, 0o200)


class SysVQueueObject(SysVObject, MessageQueue[T]):
    """A System V queue as an object: made, found, described, changed and removed."""

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
        self._id = queue_id
        self._room = sysctl("kernel.msgmax") or _DEFAULT_MSGMAX
        self._codecs: dict[int, Codec[Any]] = {}
        if isinstance(payload, Mapping):
            self._codecs = {number: codec_for(each) for number, each in payload.items()}

    # -- making and finding ------------------------------------------------------------------------

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
        type: Any = BYTES,
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
        queue, wanted = cls._make(None if key is None else Key(key), mode)
        self: Any = None
        try:
            self = construct(cls, queue, wanted, type, owner=True)
            if max_bytes is not None:
                self.max_bytes = max_bytes
        except BaseException:
            with suppress(*BINDING_ERRORS):  # another process has removed it
                sysv_ipc.remove_message_queue(queue)
            if self is not None:
                self.close()
            raise
        return _public(self)

    @staticmethod
    def _make(key: Key | None, mode: int) -> tuple[int, Key]:
        while True:
            wanted = Key.random() if key is None else key
            try:
                return get_queue(wanted, mode, native.IPC_CREAT | native.IPC_EXCL), wanted
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
        """Find a queue by its key; never makes one, never owns it.

        A queue that the caller may only send to, or only receive from, opens.

        Args:
            key: the queue's key.
            type: the payload type, or a mapping from message type to payload type.
            owner_uid: with `codec.Pickle`, a user whose queue is accepted beside this user's and
                root's. A queue of other payloads is opened whosoever it is.

        Raises:
            NotFound: there is no queue of that key.
            AccessDenied: the caller may neither send to it nor receive from it; or with
                `codec.Pickle`, it belongs to another user or was made by one, whose code would run
                in this process.
            InvalidArgument: `key` or a message type is out of range.

        See msgget(2).
        """
        checked_payload(type)
        wanted, trust = Key(key), Trust(owner_uid)
        while True:
            queue = get_queue(wanted, 0, 0)
            target = QUEUES.named(queue, wanted)
            try:
                if unpickles(type):
                    trust.check_sysv(QUEUES.present(queue, wanted), op="msgget", target=target)
                QUEUES.look(queue, "")
            except Removed:
                continue  # between two calls; the key leads to another one, or to none
            except AccessDenied as exc:
                if exc.op == "msgget":
                    raise
                if not any(permitted(wanted, right) for right in _EITHER_RIGHT):
                    raise QUEUES.denied(queue, target, op="msgget") from None
            return _public(construct(cls, queue, wanted, type, owner=False, owner_uid=owner_uid))

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
        owner_uid: int | None = ...,
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
        owner_uid: int | None = ...,
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
        """Find a queue, or make it; the handle owns it only if it made it.

        Args:
            key: the queue's key.
            type: the payload type, or a mapping from message type to payload type.
            mode: permission bits of a queue that is made, and the widest of one that is found.
            max_bytes: as in `create`, for a queue that is made.
            timeout: seconds to keep trying while others make and remove it meanwhile.
            owner_uid: a user whose queue is accepted beside this user's and root's.

        Raises:
            AccessDenied: the queue that is there belongs to another user or was made by one, or
                lets other users do more than `mode`; also as `create` and `open`.
            Timeout: others made and removed it until the deadline.
            IpcError: as `create` and `open`.
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
        """Use a queue whose identifier came from elsewhere; never owns it.

        Args:
            id: what msgget gave, in this process or another.
            type: the payload type, or a mapping from message type to payload type.
            owner_uid: as in `open`.

        Raises:
            NotFound: there is no queue of that id.
            AccessDenied: with `codec.Pickle`, it belongs to another user or was made by one.
            InvalidArgument: `id` is negative or above 2**31 - 1.
        """
        checked_payload(type)
        trust = Trust(owner_uid)
        found, key = QUEUES.given(id)
        if unpickles(type):
            trust.check_sysv(found, op="msgctl", target=QUEUES.named(id, key))
        return _public(construct(cls, id, key, type, owner=False, owner_uid=owner_uid))

    # -- facts -------------------------------------------------------------------------------------

    def stat(self) -> SysVMessageQueueStat:
        """What the kernel knows of the queue: every field of msqid_ds.

        Raises:
            Removed: the queue was removed.
            AccessDenied: the caller may not read from the queue.
            ClosedHandle: the handle is closed.

        See msgctl(2), IPC_STAT.
        """
        self._check_open("msgctl")
        return QUEUES.look(self._ident, self._target)

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
        # No kernel object belongs to the handle; an id that never was makes each call fail.
        self._id = -1

    def _rmid(self) -> None:
        try:
            sysv_ipc.remove_message_queue(self._ident)
        except BINDING_ERRORS as exc:
            # sysv_ipc does not pass every errno on; of rights IPC_RMID has this one alone.
            code = errno_of(exc)
            raise OSError(errno.EPERM if code == errno.EACCES else code, str(exc)) from None

    def _size_text(self) -> str:
        now = self.stat()
        return f"{now.qnum} messages, {now.cbytes} of {now.qbytes} bytes"

    def _reopen_args(self) -> tuple[Any, ...]:
        return (self._ident, self._payload, self._owner_uid)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        ident, payload, owner_uid = args
        handle: Any = cls.from_id(ident, payload, owner_uid=owner_uid)
        return handle  # type: ignore[no-any-return] # the payload's type is not known here


def checked_payload(payload: AnyPayload) -> None:
    """Raise for what is no payload type, before any object is made."""
    if not isinstance(payload, Mapping):
        codec_for(payload)
        return
    if not payload:
        message = "the mapping of message types is empty"
        raise InvalidArgument(message, errno=errno.EINVAL)
    for number, each in payload.items():
        if not 1 <= int_argument("a message type", number) < 2**63:
            message = f"message type {number} is out of range; it takes 1 to {2**63 - 1}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        codec_for(each)


def _public(handle: Any) -> SysVMessageQueue[Any]:
    """The handle as type checkers are to see it: the constructors are called on that class."""
    return handle  # type: ignore[no-any-return] # one class below, which this module can't import
