"""POSIX message queues."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict, final, overload

import posix_ipc

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.bindings import BINDING_ERRORS, errno_of
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline, checked_timeout
from ipckit._core.descriptors import handed_over
from ipckit._core.handle import Capabilities, checked_mode
from ipckit._core.limits import sysctl
from ipckit._core.making import PATIENCE, find_or_make
from ipckit._core.mqueue_files import WaitedDescriptor, file_of, name_of
from ipckit._core.public import public
from ipckit._core.trust import Trust
from ipckit._msgq.attributes import PosixMessageQueueAttributes
from ipckit._msgq.notify import Notifier
from ipckit._msgq.posix_errors import call_error, create_error, describe, open_error
from ipckit._msgq.queue import MessageQueue
from ipckit._native import BadArgument, CallFailed, mq_receive, mq_send
from ipckit._payload.codecs import codec_for, unpickles
from ipckit._payload.types import BYTES, T, V
from ipckit.errors import InvalidArgument, IpcError, LayoutMismatch, NotFound, from_errno
from ipckit.keys import Name

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    import numpy as np
    import numpy.typing as npt

    from ipckit._payload.codec import Codec
    from ipckit._payload.types import AnyPayload, PayloadType

_DEFAULT_SIZE: Final = 8192
_LIMIT_END: Final = 2**63
_NO_RIGHT: Final = frozenset({errno.EACCES, errno.EPERM})


class CreateOptions(TypedDict, total=False):
    """The keyword arguments of `PosixMessageQueue.create`."""

    max_messages: int
    max_size: int | None
    mode: int


class OpenOptions(TypedDict, total=False):
    """The keyword arguments of `PosixMessageQueue.open`."""

    readonly: bool
    writeonly: bool
    owner_uid: int | None


class OpenOrCreateOptions(CreateOptions, total=False):
    """The keyword arguments of `PosixMessageQueue.open_or_create`."""

    timeout: float | None
    owner_uid: int | None


@public("ipckit.msgq")
@final
class PosixMessageQueue(MessageQueue[T]):
    """A POSIX message queue: the kernel delivers messages by priority, then by age.

    Use `create`, `open`, `open_or_create` or `from_fd` to get one. Each takes the payload type:
    `bytes`, `str`, a `Struct`, a ctypes structure, a numpy dtype, a msgspec struct or a `Codec`.

    The descriptor (`fileno`) works with select, poll, epoll and asyncio. Deadlines are on the
    monotonic clock, so a change of the time of day does not move them. Closing a handle does not
    wake a call of another thread.

        >>> with PosixMessageQueue.create() as queue:
        ...     queue.send(b"later")
        ...     queue.send(b"now", priority=9)
        ...     queue.receive()
        Message(value=b'now', mtype=0, priority=9, truncated=False)

    See mq_overview(7).
    """

    _factories = "PosixMessageQueue.create, open, open_or_create or from_fd"
    _passed_as = "PosixMessageQueue"
    caps = Capabilities(
        pollable=True,
        timed=True,
        priorities=True,
        typed_receive=False,
        unlink_destroys_now=False,
    )

    _descriptor: WaitedDescriptor

    def __init__(
        self,
        descriptor: WaitedDescriptor,
        name: Name | None,
        payload: AnyPayload,
        *,
        owner: bool,
        owner_uid: int | None = None,
    ) -> None:
        self._name = name
        self._descriptor = descriptor
        self._notifier: Notifier | None = None
        self._calls = descriptor.calls
        self._owner_uid = owner_uid
        fd = self._fd = descriptor.number
        super().__init__(payload, owner=owner)
        _, self._max_messages, self._max_size, _ = native.mq_getattr(fd)
        self._file = file_of(fd)
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        self._access = {os.O_RDONLY: "readonly", os.O_WRONLY: "writeonly"}.get(access, "")
        codec: Codec[Any] = self._codec or codec_for(bytes)  # a POSIX queue takes no mapping
        if codec.size is not None and codec.size > self._max_size:
            message = (
                f"{codec.name} has {codec.size} bytes, but the queue's max_size is {self._max_size}"
            )
            raise LayoutMismatch(message, errno=errno.EBADMSG, op="mq_open", target=self._target)

    # -- creating and opening ----------------------------------------------------------------------

    @overload
    @classmethod
    def create(
        cls, name: str | None, type: np.dtype[Any], **options: Unpack[CreateOptions]
    ) -> PosixMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def create(
        cls,
        name: str | None = ...,
        type: PayloadType[V] = ...,
        **options: Unpack[CreateOptions],
    ) -> PosixMessageQueue[V]: ...
    @classmethod
    def create(
        cls,
        name: str | None = None,
        type: Any = BYTES,
        *,
        max_messages: int = 10,
        max_size: int | None = None,
        mode: int = 0o600,
    ) -> PosixMessageQueue[Any]:
        """Create a queue, which the handle owns.

        Args:
            name: the name to find it by, such as ``"/frames"``; by default a free one.
            type: the payload type.
            max_messages: the most messages that the queue can contain, 1 or more.
            max_size: the most bytes of one message, 1 or more; by default the payload type's
                size, or fs.mqueue.msgsize_default for a type without a fixed size.
            mode: permission bits, 0 to 0o777; the umask has no effect.

        Returns:
            A handle on the new, empty queue.

        Raises:
            AlreadyExists: a queue has that name.
            LimitReached: `max_messages` is above fs.mqueue.msg_max, `max_size` above
                fs.mqueue.msgsize_max, fs.mqueue.queues_max queues exist, or RLIMIT_MSGQUEUE,
                RLIMIT_NOFILE or memory is used up.
            InvalidArgument: `name`, `mode`, `max_messages` or `max_size` is out of range.
            TypeError: `type` is not a payload type.

        Example:
            >>> with PosixMessageQueue.create(type=str, max_messages=4, max_size=100) as queue:
            ...     queue.send("hello")
            ...     len(queue), queue.max_messages
            (1, 4)

        See mq_open(3).
        """
        codec = codec_for(type)
        checked_mode(mode)
        if max_size is None:
            max_size = codec.size or _default_size()
        max_messages = int_argument("max_messages", max_messages)
        max_size = int_argument("max_size", max_size)
        for what, value in (("max_messages", max_messages), ("max_size", max_size)):
            if not 1 <= value < _LIMIT_END:
                message = f"{what} must be 1 to {_LIMIT_END - 1}, not {value}"
                raise InvalidArgument(message, errno=errno.EINVAL)
        wanted = Name.random() if name is None else Name(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        try:
            made = WaitedDescriptor(native.mq_open(wanted, flags, mode, max_messages, max_size))
        except OSError as exc:
            raise create_error(exc, wanted, max_messages, max_size) from None
        try:
            os.fchmod(made.number, mode)  # mq_open applies the umask
            return construct(cls, made, wanted, type, owner=True)
        except BaseException:
            made.close()
            with suppress(*BINDING_ERRORS):  # another process may have unlinked it
                posix_ipc.unlink_message_queue(str(wanted))
            raise

    @overload
    @classmethod
    def open(
        cls, name: str, type: np.dtype[Any], **options: Unpack[OpenOptions]
    ) -> PosixMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open(
        cls, name: str, type: PayloadType[V] = ..., **options: Unpack[OpenOptions]
    ) -> PosixMessageQueue[V]: ...
    @classmethod
    def open(
        cls,
        name: str,
        type: Any = BYTES,
        *,
        readonly: bool = False,
        writeonly: bool = False,
        owner_uid: int | None = None,
    ) -> PosixMessageQueue[Any]:
        """Open an existing queue by its name. Never creates the queue, never owns it.

        Args:
            name: the queue's name.
            type: the payload type.
            readonly: only receive, which needs only the right to read.
            writeonly: only send, which needs only the right to write.
            owner_uid: with `codec.Pickle`, one more user whose queues are accepted, besides the
                caller's effective user and root. Queues of other payload types are accepted from
                any user.

        Raises:
            NotFound: no queue has that name.
            AccessDenied: the queue's mode forbids it; or with `codec.Pickle`, another user owns the
                queue, whose code would run in this process.
            LayoutMismatch: the payload type has a fixed size, which is larger than the queue's
                messages can be.
            LimitReached: RLIMIT_NOFILE is used up.
            InvalidArgument: `name` is invalid, or both `readonly` and `writeonly` are set.

        Example:
            >>> with PosixMessageQueue.create() as queue:
            ...     with PosixMessageQueue.open(queue.name, writeonly=True) as sender:
            ...         sender.send(b"hello")
            ...     queue.receive().value
            b'hello'

        See mq_open(3).
        """
        codec_for(type)
        wanted, trust = Name(name), Trust(owner_uid)
        if readonly and writeonly:
            message = "pass readonly or writeonly, not both"
            raise InvalidArgument(message, errno=errno.EINVAL)
        found = _open(wanted, readonly=readonly, writeonly=writeonly)
        try:
            if unpickles(type):
                trust.check_file(found.number, op="mq_open", target=describe(wanted))
            return construct(cls, found, wanted, type, owner=False, owner_uid=owner_uid)
        except BaseException:
            found.close()
            raise

    @overload
    @classmethod
    def open_or_create(
        cls, name: str, type: np.dtype[Any], **options: Unpack[OpenOrCreateOptions]
    ) -> PosixMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open_or_create(
        cls, name: str, type: PayloadType[V] = ..., **options: Unpack[OpenOrCreateOptions]
    ) -> PosixMessageQueue[V]: ...
    @classmethod
    def open_or_create(
        cls,
        name: str,
        type: Any = BYTES,
        *,
        max_messages: int = 10,
        max_size: int | None = None,
        mode: int = 0o600,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> PosixMessageQueue[Any]:
        """Open a queue, or create it. The handle owns the queue only if this call created it.

        Args:
            name: the queue's name.
            type: the payload type.
            max_messages: as in `create`, for a new queue.
            max_size: as in `create`, for a new queue.
            mode: permission bits of a new queue, and the widest that an existing queue may have.
            timeout: seconds to retry while other processes keep creating and unlinking the queue.
            owner_uid: one more user whose queue is accepted, besides the caller's effective user
                and root.

        Raises:
            AccessDenied: another user owns the existing queue, or its mode allows other users more
                than `mode` does; also as `create` and `open`.
            Timeout: other processes created and unlinked the queue until the deadline.
            IpcError: as `create` and `open`.

        See mq_open(3).
        """
        deadline = Deadline(timeout)
        target, trust = describe(Name(name)), Trust(owner_uid, checked_mode(mode))
        allowed: dict[str, Any] = {} if owner_uid is None else {"owner_uid": owner_uid}

        def make() -> PosixMessageQueue[Any]:
            return cls.create(name, type, max_messages=max_messages, max_size=max_size, mode=mode)

        def find() -> PosixMessageQueue[Any]:
            found: PosixMessageQueue[Any] = cls.open(name, type, **allowed)
            try:
                trust.check_file(found.fileno(), op="mq_open", target=target)
            except BaseException:
                found.close()
                raise
            return found

        return find_or_make(make, find, deadline, op="mq_open", target=target)

    @overload
    @classmethod
    def from_fd(cls, fd: int, type: np.dtype[Any]) -> PosixMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def from_fd(cls, fd: int, type: PayloadType[V] = ...) -> PosixMessageQueue[V]: ...
    @classmethod
    def from_fd(cls, fd: int, type: Any = BYTES) -> PosixMessageQueue[Any]:
        """Create a handle from a queue's descriptor, such as a received one. Never owns the queue.

        The handle takes over the descriptor and closes it. If this call fails, the descriptor
        stays open and is still the caller's.

        Args:
            fd: a descriptor of a POSIX message queue.
            type: the payload type.

        Raises:
            InvalidArgument: `fd` is not a POSIX message queue.
            LayoutMismatch: the payload type has a fixed size, which is larger than the queue's
                messages can be.

        See mq_overview(7).
        """
        codec_for(type)
        try:
            native.mq_getattr(fd)
        except (OSError, ValueError) as exc:
            message = f"descriptor {fd} is not a POSIX message queue"
            raise InvalidArgument(message, errno=getattr(exc, "errno", errno.EBADF)) from None
        name = name_of(fd)

        def make(lent: WaitedDescriptor) -> PosixMessageQueue[Any]:
            return construct(cls, lent, name, type, owner=False)

        return handed_over(WaitedDescriptor(fd, owned=False), make)

    # -- sending and receiving ---------------------------------------------------------------------

    def send(self, value: T, priority: int = 0, *, timeout: float | None = None) -> None:
        """Insert one message into the queue, behind those of the same priority.

        Args:
            value: the payload.
            priority: 0 to 32767; messages of the highest priority are received first.
            timeout: seconds to wait while the queue is full. 0 does not wait, None waits for ever.

        Raises:
            TypeError: the value is not of the payload type; nothing was sent.
            MessageTooLong: the message exceeds the queue's `max_size`.
            WouldBlock: the queue is full, and `timeout` is 0.
            Timeout: the queue was full until the deadline.
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
            raise self._call_error("mq_send", exc, timeout, data) from None

    def receive(self, *, timeout: float | None = None) -> native.Message[T]:
        """Receive the oldest message of the highest priority.

        Args:
            timeout: seconds to wait while the queue is empty. 0 does not wait, None waits for
                ever.

        Returns:
            The message, with ``.value`` and ``.priority``.

        Raises:
            WouldBlock: the queue is empty, and `timeout` is 0.
            Timeout: the queue was empty until the deadline.
            LayoutMismatch: the bytes do not fit the payload type. The message has left the queue;
                ``.raw`` has its bytes.
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
            raise self._call_error("mq_receive", exc, timeout) from None
        if raw.value.__class__ is self._direct:
            return raw
        return self._decode(raw, self._codec.decode)  # type: ignore[union-attr] # only a mapping has none

    def _take(self) -> native.Message[T] | None:
        """Receive without waiting; None after any failure, which `receive` would explain."""
        try:
            raw = mq_receive(self._calls, self._max_size, 0, self._record)
        except CallFailed:
            return None
        if raw.value.__class__ is self._direct:
            return raw
        return self._decode(raw, self._codec.decode)  # type: ignore[union-attr] # only a mapping has none

    def _call_error(
        self, op: str, exc: OSError | ValueError, timeout: float | None, data: Any = b""
    ) -> IpcError:
        return call_error(
            op,
            self._target,
            exc,
            timeout,
            closed=self._closed,
            access=self._access,
            max_size=self._max_size,
            data=data,
        )

    def notify(self, callback: Callable[[], object] | int | None, *, repeat: bool = False) -> None:
        """Ask for one notification when a message arrives in the empty queue.

        Only one process at a time can be registered. The kernel sends no notification while a
        process waits in `receive`. The registration ends with the notification, and also when this
        process closes any of its descriptors of the queue. A program that waits for other things
        too is better served by `fileno` and a selector.

        Args:
            callback: a callable, which a thread of the handle calls without arguments; the number
                of a signal, which the kernel sends to this process; or None to end the
                registration.
            repeat: register again before each call of the callback, so that no message is missed.
                Not for signals.

        Raises:
            AlreadyExists: a process has already registered (EBUSY).
            InvalidArgument: the signal's number is out of range, or `repeat` is used without a
                callable.
            TypeError: `callback` is none of the three.
            ClosedHandle: the handle is closed.

        See mq_notify(3).
        """
        self._check_open("mq_notify")
        number = callback if isinstance(callback, int) else None
        known = callback is None or number is not None or callable(callback)
        if isinstance(callback, bool) or not known:
            message = f"callback must be a callable, a signal or None, not {callback!r}"
            raise TypeError(message)
        if number is not None and not 1 <= number <= signal.SIGRTMAX:
            message = f"a signal must be 1 to {int(signal.SIGRTMAX)}, not {number}"
            raise InvalidArgument(message, errno=errno.EINVAL, op="mq_notify")
        if repeat and not callable(callback):
            message = "repeat needs a callable; a signal's handler can call notify again"
            raise InvalidArgument(message, errno=errno.EINVAL)
        previous, self._notifier = self._notifier, None
        if previous is not None:
            previous.stop()
        try:
            if callable(callback):
                self._notifier = Notifier(self._fd, callback, repeat=repeat)
            else:
                native.mq_notify_signal(self._fd, number or 0)
        except OSError as exc:
            code = exc.errno or errno.EIO
            hint = "one process at a time can register" if code == errno.EBUSY else ""
            raise from_errno(code, op="mq_notify", target=self._target, hint=hint) from None

    # -- the kernel's facts ------------------------------------------------------------------------

    @property
    def name(self) -> Name | None:
        """The name that finds the queue; None for an unlinked queue."""
        return self._name

    @property
    def max_messages(self) -> int:
        """The most messages that the queue can contain."""
        return self._max_messages

    @property
    def max_size(self) -> int:
        """The most bytes of one message."""
        return self._max_size

    def fileno(self) -> int:
        """Return the descriptor: readable while a message waits, writable while there is room.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("fileno")
        return self._fd

    def attributes(self) -> PosixMessageQueueAttributes:
        """Return the queue's limits, and how many messages it contains now.

        Raises:
            ClosedHandle: the handle is closed.

        See mq_getattr(3).
        """
        self._check_open("mq_getattr")
        return PosixMessageQueueAttributes(*native.mq_getattr(self._fd))

    def __len__(self) -> int:
        """Return the number of messages in the queue; raises as `attributes`."""
        return self.attributes().curmsgs

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            notifier.stop()
        self._fd = -1
        self._descriptor.close()

    @classmethod
    def remove(cls, name: str, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Remove the queue that has a name, without opening it.

        Args:
            name: the queue's name.
            missing_ok: do nothing if there is no such queue; False by default.

        Raises:
            NotFound: there is no queue of that name.
            AccessDenied: another user owns it.
            InvalidArgument: `name` is invalid.

        Example:
            >>> PosixMessageQueue.remove("/no-such-queue", missing_ok=True)

        See mq_unlink(3).
        """
        try:
            _unlink(Name(name))
        except NotFound:
            if not missing_ok:
                raise

    def _remove(self) -> None:
        if self._name is None:
            raise NotFound("the queue was already unlinked", op="mq_unlink", target=self._target)
        _unlink(self._name)

    def _still_ours(self) -> bool:
        try:
            found = _open(self._name or Name("-"), readonly=True)
        except IpcError:
            return True
        try:
            return file_of(found.number) == self._file
        finally:
            found.close()

    @property
    def _target(self) -> str:
        return describe(self._name)

    def _size_text(self) -> str:
        return f"{len(self)} of {self._max_messages} messages of up to {self._max_size} bytes"

    def _reopen_args(self) -> tuple[Any, ...]:
        if self._name is None:
            message = "an unlinked queue can't be pickled; pass its descriptor over a UNIX socket"
            raise InvalidArgument(message, errno=errno.EINVAL, op="pickle", target=self._target)
        return (str(self._name), self._payload, self._access, self._owner_uid)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        name, payload, access, owner_uid = args
        handle: Any = cls.open(
            name,
            payload,
            readonly=access == "readonly",
            writeonly=access == "writeonly",
            owner_uid=owner_uid,
        )
        return handle  # type: ignore[no-any-return] # the payload's type is not known here


def _default_size() -> int:
    """Return the system's default message size, which small containers set below 8 KiB."""
    values = (sysctl("fs.mqueue.msgsize_default"), sysctl("fs.mqueue.msgsize_max"))
    return min((value for value in values if value), default=_DEFAULT_SIZE)


def _unlink(name: Name) -> None:
    try:
        posix_ipc.unlink_message_queue(str(name))
    except BINDING_ERRORS as exc:
        code = errno_of(exc)
        message = "no such queue" if code == errno.ENOENT else ""
        hint = "only the queue's owner can unlink it" if code in _NO_RIGHT else ""
        target = describe(name)
        raise from_errno(code, op="mq_unlink", target=target, message=message, hint=hint) from None


def _open(name: Name, *, readonly: bool = False, writeonly: bool = False) -> WaitedDescriptor:
    flags = os.O_RDWR
    if readonly or writeonly:
        flags = os.O_RDONLY if readonly else os.O_WRONLY
    try:
        return WaitedDescriptor(native.mq_open(name, flags, 0, 0, 0))
    except OSError as exc:
        raise open_error(exc, name) from None
