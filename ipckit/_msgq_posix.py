"""POSIX message queues."""

from __future__ import annotations

import builtins
import errno
import fcntl
import os
import resource
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, overload

import posix_ipc

from ipckit import _native
from ipckit._deadline import Deadline, checked_timeout
from ipckit._handle import Capabilities, checked_mode
from ipckit._limits import described, descriptors_exhausted, mqueue_charge, soft_limit, sysctl
from ipckit._limits import user_name
from ipckit._msgq_base import MessageQueue, raised_elsewhere
from ipckit._msgq_notify import Notifier
from ipckit._peers import PEER_ERRORS, from_peer
from ipckit._typing import BYTES, T, V
from ipckit.codec import codec_for
from ipckit.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidArgument,
    IpcError,
    LayoutMismatch,
    LimitReached,
    MessageTooLong,
    NotFound,
    Timeout,
    from_errno,
)
from ipckit.keys import Name

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from ipckit._typing import AnyPayload, PayloadType

_DEFAULT_SIZE: Final = 8192


@dataclass(frozen=True, slots=True)
class PosixMessageQueueAttributes:
    """What mq_getattr(3) tells.

    Attributes:
        flags: O_NONBLOCK or 0; ipckit neither sets it nor minds it.
        maxmsg: the most messages that the queue holds.
        msgsize: the most bytes of one message.
        curmsgs: messages in the queue now.
    """

    flags: int
    maxmsg: int
    msgsize: int
    curmsgs: int


class PosixMessageQueue(MessageQueue[T]):
    """A POSIX message queue: the kernel hands out messages by priority, then by age.

    Make one with `create`, `open`, `open_or_create` or `from_fd`. Each takes the payload type:
    `bytes`, `str`, a `Struct`, a ctypes structure, a numpy dtype, a msgspec struct or a `Codec`.

    The descriptor (`fileno`) works with select, poll, epoll and asyncio. Deadlines are on the
    monotonic clock, so that setting the time of day moves none. A closed handle does not wake a
    call that another thread is waiting in.

    See mq_overview(7).
    """

    caps = Capabilities(
        pollable=True,
        timed=True,
        priorities=True,
        typed_receive=False,
        unlink_destroys_now=False,
    )

    def __init__(self, fd: int, name: Name | None, payload: AnyPayload, *, owner: bool) -> None:
        self._name = name
        super().__init__(payload, owner=owner)
        self._fd = fd
        self._notifier: Notifier | None = None
        self._lock = threading.Lock()
        self._waiting = 0
        _, self._max_messages, self._max_size, _ = _native.mq_getattr(fd)
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        self._access = {os.O_RDONLY: "readonly", os.O_WRONLY: "writeonly"}.get(access, "")
        size = self._codec.size if self._codec is not None else None
        if size is not None and size > self._max_size:
            self._closed = True  # the caller closes the descriptor
            message = (
                f"{self._codec.name} takes {size} bytes, "  # type: ignore[union-attr] # size is its
                f"and the queue's messages hold {self._max_size}"
            )
            raise LayoutMismatch(message, errno=errno.EBADMSG, op="mq_open", target=self._target)

    # -- making and finding ------------------------------------------------------------------

    @overload
    @classmethod
    def create(
        cls,
        name: str | None,
        type: np.dtype[Any],
        *,
        max_messages: int = ...,
        max_size: int | None = ...,
        mode: int = ...,
    ) -> PosixMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def create(
        cls,
        name: str | None = ...,
        type: PayloadType[V] = ...,
        *,
        max_messages: int = ...,
        max_size: int | None = ...,
        mode: int = ...,
    ) -> PosixMessageQueue[V]: ...
    @classmethod
    def create(
        cls,
        name: str | None = None,
        type: AnyPayload = BYTES,
        *,
        max_messages: int = 10,
        max_size: int | None = None,
        mode: int = 0o600,
    ) -> PosixMessageQueue[Any]:
        """Make a new queue, which the handle owns.

        Args:
            name: the name to find it by, such as ``"/frames"``; None picks a free one.
            type: the payload type.
            max_messages: the most messages that it holds, 1 or more.
            max_size: the most bytes of one message, 1 or more; by default the payload type's
                size, or fs.mqueue.msgsize_default for a type without a fixed size.
            mode: permission bits, 0 to 0o777; the umask has no say.

        Raises:
            AlreadyExists: there is a queue of that name.
            LimitReached: `max_messages` is above fs.mqueue.msg_max, `max_size` above
                fs.mqueue.msgsize_max, fs.mqueue.queues_max queues exist, or RLIMIT_MSGQUEUE,
                RLIMIT_NOFILE or memory is used up.
            InvalidArgument: `name`, `mode`, `max_messages` or `max_size` is out of range.
            TypeError: `type` is not a payload type.

        See mq_open(3).
        """
        codec = codec_for(type)
        checked_mode(mode)
        if max_size is None:
            max_size = codec.size or _default_size()
        for what, value in (("max_messages", max_messages), ("max_size", max_size)):
            if isinstance(value, bool) or not isinstance(value, int):
                message = f"{what} is an int, not {builtins.type(value).__name__}"
                raise TypeError(message)
            if value < 1 or value >= 2**63:
                message = f"{what} is {value}; it takes 1 or more"
                raise InvalidArgument(message, errno=errno.EINVAL)
        while True:
            wanted = Name.random() if name is None else Name(name)
            try:
                queue = posix_ipc.MessageQueue(
                    str(wanted), posix_ipc.O_CREX, mode, max_messages, max_size
                )
                break
            except PEER_ERRORS as exc:
                error = _create_error(exc, wanted, max_messages, max_size)
            if name is not None or not isinstance(error, AlreadyExists):
                raise error
        try:
            os.fchmod(queue.mqd, mode)
            return cls(queue.mqd, wanted, type, owner=True)
        except BaseException:
            queue.close()
            posix_ipc.unlink_message_queue(str(wanted))
            raise

    @overload
    @classmethod
    def open(
        cls, name: str, type: np.dtype[Any], *, readonly: bool = ..., writeonly: bool = ...
    ) -> PosixMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open(
        cls, name: str, type: PayloadType[V] = ..., *, readonly: bool = ..., writeonly: bool = ...
    ) -> PosixMessageQueue[V]: ...
    @classmethod
    def open(
        cls,
        name: str,
        type: AnyPayload = BYTES,
        *,
        readonly: bool = False,
        writeonly: bool = False,
    ) -> PosixMessageQueue[Any]:
        """Find a queue by its name; never makes one, never owns it.

        Args:
            name: the queue's name.
            type: the payload type.
            readonly: only receive; takes only the right to read.
            writeonly: only send; takes only the right to write.

        Raises:
            NotFound: there is no queue of that name.
            AccessDenied: the queue's mode forbids it.
            LayoutMismatch: `type` has a fixed size above the queue's.
            LimitReached: RLIMIT_NOFILE is used up.
            InvalidArgument: `name` can't be one, or both `readonly` and `writeonly`.

        See mq_open(3).
        """
        codec_for(type)
        wanted = Name(name)
        if readonly and writeonly:
            message = "a queue opens readonly or writeonly, not both"
            raise InvalidArgument(message, errno=errno.EINVAL)
        fd = _open(wanted, readonly=readonly, writeonly=writeonly)
        try:
            return cls(fd, wanted, type, owner=False)
        except BaseException:
            os.close(fd)
            raise

    @overload
    @classmethod
    def open_or_create(
        cls,
        name: str,
        type: np.dtype[Any],
        *,
        max_messages: int = ...,
        max_size: int | None = ...,
        mode: int = ...,
        timeout: float | None = ...,
    ) -> PosixMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open_or_create(
        cls,
        name: str,
        type: PayloadType[V] = ...,
        *,
        max_messages: int = ...,
        max_size: int | None = ...,
        mode: int = ...,
        timeout: float | None = ...,
    ) -> PosixMessageQueue[V]: ...
    @classmethod
    def open_or_create(
        cls,
        name: str,
        type: AnyPayload = BYTES,
        *,
        max_messages: int = 10,
        max_size: int | None = None,
        mode: int = 0o600,
        timeout: float | None = None,
    ) -> PosixMessageQueue[Any]:
        """Find a queue, or make it; the handle owns it only if it made it.

        Args:
            name: the queue's name.
            type: the payload type.
            max_messages: as in `create`, for a queue that is made.
            max_size: as in `create`, for a queue that is made.
            mode: as in `create`, for a queue that is made.
            timeout: seconds to keep trying while others make and unlink it meanwhile.

        Raises:
            Timeout: others made and unlinked it until the deadline.
            IpcError: as `create` and `open`.
        """
        deadline = Deadline(timeout)
        while True:
            try:
                return cls.create(
                    name, type, max_messages=max_messages, max_size=max_size, mode=mode
                )
            except AlreadyExists:
                try:
                    return cls.open(name, type)
                except NotFound:
                    if deadline.expired:
                        raise Timeout(
                            "it keeps being made and unlinked",
                            errno=errno.ETIMEDOUT,
                            op="mq_open",
                            target=_describe(Name(name)),
                        ) from None

    @overload
    @classmethod
    def from_fd(cls, fd: int, type: np.dtype[Any]) -> PosixMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def from_fd(cls, fd: int, type: PayloadType[V] = ...) -> PosixMessageQueue[V]: ...
    @classmethod
    def from_fd(cls, fd: int, type: AnyPayload = BYTES) -> PosixMessageQueue[Any]:
        """Use a queue's descriptor that came from elsewhere; never owns the queue.

        The handle takes the descriptor over and closes it. Where this fails, the descriptor is
        still the caller's.

        Args:
            fd: a descriptor of a POSIX message queue.
            type: the payload type.

        Raises:
            InvalidArgument: `fd` is no message queue.
            LayoutMismatch: `type` has a fixed size above the queue's.
        """
        codec_for(type)
        try:
            _native.mq_getattr(fd)
        except (OSError, ValueError) as exc:
            message = f"descriptor {fd} is no POSIX message queue"
            raise InvalidArgument(message, errno=getattr(exc, "errno", errno.EBADF)) from None
        shown = os.readlink(f"/proc/self/fd/{fd}")
        name = None if shown.endswith(" (deleted)") else Name(shown)
        return cls(fd, name, type, owner=False)

    # -- facts -------------------------------------------------------------------------------

    @property
    def name(self) -> Name | None:
        """The name that finds the queue; None for a descriptor of an unlinked one."""
        return self._name

    @property
    def max_messages(self) -> int:
        """The most messages that the queue holds."""
        return self._max_messages

    @property
    def max_size(self) -> int:
        """The most bytes of one message."""
        return self._max_size

    def fileno(self) -> int:
        """The descriptor: readable when a message waits, writable when there is room.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("fileno")
        return self._fd

    def attributes(self) -> PosixMessageQueueAttributes:
        """The queue's limits, and how many messages it holds now.

        Raises:
            ClosedHandle: the handle is closed.

        See mq_getattr(3).
        """
        self._check_open("mq_getattr")
        return PosixMessageQueueAttributes(*_native.mq_getattr(self._fd))

    def __len__(self) -> int:
        return self.attributes().curmsgs

    # -- messages ----------------------------------------------------------------------------

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
        data: Any = value if self._raw else self._codec.encode(value)  # type: ignore[union-attr]
        if timeout is not None:
            checked_timeout(timeout)
        try:
            _native.mq_send(self._fd, data, priority, 0)
        except (OSError, ValueError) as exc:
            if timeout == 0 or not isinstance(exc, BlockingIOError):
                raise self._error("mq_send", exc, timeout, data) from None
            self._wait("mq_send", timeout, data, priority)

    def receive(self, *, timeout: float | None = None) -> _native.Message[T]:
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
            raw = _native.mq_receive(self._fd, self._max_size, 0)
        except OSError as exc:
            if timeout == 0 or not isinstance(exc, BlockingIOError):
                raise self._error("mq_receive", exc, timeout) from None
            raw = self._wait("mq_receive", timeout)
        if self._raw:
            return raw  # type: ignore[return-value] # T is bytes
        return self._decode(raw, self._codec)  # type: ignore[arg-type] # only a mapping has none

    def _wait(self, op: str, timeout: float | None, *message: Any) -> Any:
        """Make a call that would block, and keep the descriptor open for as long as it takes.

        Without the count, another thread could close the handle meanwhile, and the number of
        the descriptor could come to mean another queue.
        """
        with self._lock:
            self._check_open(op)
            fd = self._fd
            self._waiting += 1
        try:
            if op == "mq_send":
                return _native.mq_send(fd, *message, timeout)
            return _native.mq_receive(fd, self._max_size, timeout)
        except (OSError, ValueError) as exc:
            if raised_elsewhere(exc):
                raise
            raise self._error(op, exc, timeout, *message[:1]) from None
        finally:
            with self._lock:
                self._waiting -= 1
                if self._closed and self._waiting == 0:
                    os.close(fd)

    def notify(self, callback: Callable[[], object] | int | None, *, repeat: bool = False) -> None:
        """Ask to be told once when a message comes to the empty queue; None asks no more.

        One process at a time can ask. The kernel tells nobody while some process waits in
        `receive`, and the registration ends with the telling. Who also has something else to
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
        if callback is not None and not isinstance(callback, int) and not callable(callback):
            message = f"notify takes a callable, a signal or None, not {type(callback).__name__}"
            raise TypeError(message)
        if repeat and not callable(callback):
            message = "repeat goes with a callable; a signal's handler can call notify again"
            raise InvalidArgument(message, errno=errno.EINVAL)
        previous, self._notifier = self._notifier, None
        if previous is not None:
            previous.stop()
        try:
            if callback is None:
                _native.mq_notify_signal(self._fd, 0)
            elif isinstance(callback, int):
                _native.mq_notify_signal(self._fd, callback)
            else:
                self._notifier = Notifier(self._fd, callback, repeat=repeat)
        except OSError as exc:
            hint = "one process at a time can register" if exc.errno == errno.EBUSY else ""
            raise from_errno(
                exc.errno or errno.EIO, op="mq_notify", target=self._target, hint=hint
            ) from None
        except ValueError as exc:
            raise InvalidArgument(str(exc), errno=errno.EINVAL, op="mq_notify") from None

    # -- errors ------------------------------------------------------------------------------

    def _error(
        self, op: str, exc: OSError | ValueError, timeout: float | None, data: Any = b""
    ) -> IpcError:
        if not isinstance(exc, OSError):
            checked_timeout(timeout)
            return InvalidArgument(str(exc), errno=errno.EINVAL, op=op, target=self._target)
        if self._closed:
            return self._closed_or(op, exc)
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

    # -- lifecycle ---------------------------------------------------------------------------

    def _release(self) -> None:
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            notifier.stop()
        with self._lock:
            fd, self._fd = self._fd, -1
            if self._waiting == 0:
                os.close(fd)

    def _remove(self) -> None:
        if self._name is None:
            raise NotFound("it was unlinked already", op="mq_unlink", target=self._target)
        try:
            posix_ipc.unlink_message_queue(str(self._name))
        except PEER_ERRORS as exc:
            error = from_peer(exc, op="mq_unlink", target=self._target)
            if isinstance(error, AccessDenied):
                error.hint = "only the queue's owner can unlink it"
            raise error from None

    def _still_ours(self) -> bool:
        try:
            fd = _open(self._name or Name("-"), readonly=True)
        except IpcError:
            return True
        try:
            return os.path.sameopenfile(fd, self._fd)
        finally:
            os.close(fd)

    @property
    def _target(self) -> str:
        return _describe(self._name)

    def _size_text(self) -> str:
        return f"{len(self)} of {self._max_messages} messages of up to {self._max_size} bytes"

    def _reopen_args(self) -> tuple[Any, ...]:
        if self._name is None:
            message = "an unlinked queue can't be pickled; pass its descriptor over a UNIX socket"
            raise InvalidArgument(message, errno=errno.EINVAL, op="pickle", target=self._target)
        return (str(self._name), self._payload, self._access)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        name, payload, access = args
        handle: Any = cls.open(
            name, payload, readonly=access == "readonly", writeonly=access == "writeonly"
        )
        return handle  # type: ignore[no-any-return] # the payload's type is not known here


def _describe(name: Name | None) -> str:
    return "an unlinked queue" if name is None else f"queue {name}"


def _default_size() -> int:
    """The system's own default, which small containers set lower than the usual 8 KiB."""
    values = (sysctl("fs.mqueue.msgsize_default"), sysctl("fs.mqueue.msgsize_max"))
    return min((value for value in values if value), default=_DEFAULT_SIZE)


def _open(name: Name, *, readonly: bool = False, writeonly: bool = False) -> int:
    try:
        queue = posix_ipc.MessageQueue(str(name), 0, read=not writeonly, write=not readonly)
    except PEER_ERRORS as exc:
        error = from_peer(exc, op="mq_open", target=_describe(name))
    else:
        return int(queue.mqd)
    if isinstance(error, NotFound):
        error.strerror = "no such queue"
        error.hint = f'make it with PosixMessageQueue.create("{name}")'
    elif isinstance(error, AccessDenied):
        error.hint = "the owner can allow it with a wider mode; readonly or writeonly asks for less"
    raise error from None


def _create_error(
    exc: BaseException, name: Name, max_messages: int, max_size: int
) -> IpcError:
    error = from_peer(exc, op="mq_open", target=_describe(name), creating=True)
    if isinstance(error, AlreadyExists):
        error.strerror = "the queue exists already"
        error.hint = f'find it with PosixMessageQueue.open("{name}"), or use open_or_create'
    elif error.errno == errno.EMFILE and not descriptors_exhausted():
        charge = mqueue_charge(max_messages, max_size)
        limit = soft_limit(resource.RLIMIT_MSGQUEUE)
        error.strerror = (
            f"the queue counts {charge:,} bytes, and the user's queues together would exceed "
            f"RLIMIT_MSGQUEUE ({limit})"
        )
        error.hint = "make it smaller, unlink others, or raise it with ulimit -q"
    elif error.errno == errno.EMFILE:
        error.strerror = (
            f"the process has all the descriptors that RLIMIT_NOFILE "
            f"({soft_limit(resource.RLIMIT_NOFILE)}) allows"
        )
    elif error.errno == errno.ENOSPC:
        error.strerror = f"the system has all the queues that {described('fs.mqueue.queues_max')} allows"
        error.hint = "unlink some, or as root raise the sysctl"
    elif error.errno == errno.EINVAL:
        return _too_large(error, max_messages, max_size)
    return error


def _too_large(error: IpcError, max_messages: int, max_size: int) -> IpcError:
    for what, value, limit in (
        ("max_messages", max_messages, "fs.mqueue.msg_max"),
        ("max_size", max_size, "fs.mqueue.msgsize_max"),
    ):
        most = sysctl(limit)
        if most is not None and value > most:
            return LimitReached(
                f"{what} of {value:,} exceeds {limit} ({most})",
                errno=errno.EINVAL,
                op=error.op,
                target=error.target,
                hint=f"as root: sysctl {limit}={value}",
            )
    return error
