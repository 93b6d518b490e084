"""A POSIX queue as an object: made, found, described and unlinked."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, overload

import posix_ipc

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.bindings import BINDING_ERRORS, from_binding
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.descriptors import handed_over
from ipckit._core.handle import Capabilities, checked_mode
from ipckit._core.limits import sysctl
from ipckit._core.making import PATIENCE, find_or_make
from ipckit._core.mqueue_files import WaitedDescriptor, file_of, name_of
from ipckit._core.public import public
from ipckit._core.trust import Trust
from ipckit._msgq.posix_errors import create_error, describe, open_error
from ipckit._msgq.queue import MessageQueue
from ipckit._payload.codecs import codec_for, unpickles
from ipckit._payload.types import BYTES, T, V
from ipckit.errors import (
    AccessDenied,
    InvalidArgument,
    IpcError,
    LayoutMismatch,
    NotFound,
)
from ipckit.keys import Name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ipckit._msgq.notify import Notifier
    from ipckit._msgq.posix import PosixMessageQueue
    from ipckit._payload.codecs import Codec
    from ipckit._payload.types import AnyPayload, PayloadType

_DEFAULT_SIZE: Final = 8192


@public("ipckit.msgq")
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


class PosixQueueObject(MessageQueue[T]):
    """A POSIX queue as an object: made, found, described and unlinked."""

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
                f"{codec.name} takes {codec.size} bytes, "
                f"and the queue's messages hold {self._max_size}"
            )
            raise LayoutMismatch(message, errno=errno.EBADMSG, op="mq_open", target=self._target)

    # -- making and finding ------------------------------------------------------------------------

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
        type: Any = BYTES,
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
        max_messages = int_argument("max_messages", max_messages)
        max_size = int_argument("max_size", max_size)
        for what, value in (("max_messages", max_messages), ("max_size", max_size)):
            if value < 1 or value >= 2**63:
                message = f"{what} is {value}; it takes 1 or more"
                raise InvalidArgument(message, errno=errno.EINVAL)
        wanted = Name.random() if name is None else Name(name)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            made = WaitedDescriptor(
                native.mq_open(str(wanted), flags, mode, max_messages, max_size)
            )
        except OSError as exc:
            raise create_error(exc, wanted, max_messages, max_size) from None
        try:
            os.fchmod(made.number, mode)
            return _public(construct(cls, made, wanted, type, owner=True))
        except BaseException:
            made.close()
            with suppress(*BINDING_ERRORS):  # another process may have unlinked it
                posix_ipc.unlink_message_queue(str(wanted))
            raise

    @overload
    @classmethod
    def open(
        cls,
        name: str,
        type: np.dtype[Any],
        *,
        readonly: bool = ...,
        writeonly: bool = ...,
        owner_uid: int | None = ...,
    ) -> PosixMessageQueue[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open(
        cls,
        name: str,
        type: PayloadType[V] = ...,
        *,
        readonly: bool = ...,
        writeonly: bool = ...,
        owner_uid: int | None = ...,
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
        """Find a queue by its name; never makes one, never owns it.

        Args:
            name: the queue's name.
            type: the payload type.
            readonly: only receive; takes only the right to read.
            writeonly: only send; takes only the right to write.
            owner_uid: with `codec.Pickle`, a user whose queue is accepted beside this user's and
                root's. A queue of other payloads is opened whosoever it is.

        Raises:
            NotFound: there is no queue of that name.
            AccessDenied: the queue's mode forbids it; or with `codec.Pickle`, it belongs to another
                user, whose code would run in this process.
            LayoutMismatch: `type` has a fixed size above the queue's.
            LimitReached: RLIMIT_NOFILE is used up.
            InvalidArgument: `name` can't be one, or both `readonly` and `writeonly`.

        See mq_open(3).
        """
        codec_for(type)
        wanted, trust = Name(name), Trust(owner_uid)
        if readonly and writeonly:
            message = "a queue opens readonly or writeonly, not both"
            raise InvalidArgument(message, errno=errno.EINVAL)
        found = _open(wanted, readonly=readonly, writeonly=writeonly)
        try:
            if unpickles(type):
                trust.check_file(found.number, op="mq_open", target=describe(wanted))
            return _public(construct(cls, found, wanted, type, owner=False, owner_uid=owner_uid))
        except BaseException:
            found.close()
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
        owner_uid: int | None = ...,
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
        owner_uid: int | None = ...,
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
        """Find a queue, or make it; the handle owns it only if it made it.

        Args:
            name: the queue's name.
            type: the payload type.
            max_messages: as in `create`, for a queue that is made.
            max_size: as in `create`, for a queue that is made.
            mode: as in `create`, for a queue that is made; the widest mode of one that is found.
            timeout: seconds to keep trying while others make and unlink it meanwhile.
            owner_uid: a user whose queue is accepted beside this user's and root's.

        Raises:
            AccessDenied: the queue that is there belongs to another user, or lets other users do
                more than `mode`; also as `create` and `open`.
            Timeout: others made and unlinked it until the deadline.
            IpcError: as `create` and `open`.
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
            native.mq_getattr(fd)
        except (OSError, ValueError) as exc:
            message = f"descriptor {fd} is no POSIX message queue"
            raise InvalidArgument(message, errno=getattr(exc, "errno", errno.EBADF)) from None
        name = name_of(fd)
        return handed_over(
            WaitedDescriptor(fd, owned=False),
            lambda queue: _public(construct(cls, queue, name, type, owner=False)),
        )

    # -- facts -------------------------------------------------------------------------------------

    @property
    def name(self) -> Name | None:
        """The name that finds the queue; None for an unlinked one."""
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
        return PosixMessageQueueAttributes(*native.mq_getattr(self._fd))

    def __len__(self) -> int:
        return self.attributes().curmsgs

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            notifier.stop()
        self._fd = -1
        self._descriptor.close()

    def _remove(self) -> None:
        if self._name is None:
            raise NotFound("it was unlinked already", op="mq_unlink", target=self._target)
        try:
            posix_ipc.unlink_message_queue(str(self._name))
        except BINDING_ERRORS as exc:
            error = from_binding(exc, op="mq_unlink", target=self._target)
            if isinstance(error, AccessDenied):
                error.hint = "only the queue's owner can unlink it"
            raise error from None

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
    """The system's own default, which small containers set lower than the usual 8 KiB."""
    values = (sysctl("fs.mqueue.msgsize_default"), sysctl("fs.mqueue.msgsize_max"))
    return min((value for value in values if value), default=_DEFAULT_SIZE)


def _open(name: Name, *, readonly: bool = False, writeonly: bool = False) -> WaitedDescriptor:
    access = os.O_RDONLY if readonly else os.O_WRONLY if writeonly else os.O_RDWR
    try:
        return WaitedDescriptor(native.mq_open(str(name), access, 0, 0, 0))
    except OSError as exc:
        raise open_error(exc, name) from None


def _public(handle: Any) -> PosixMessageQueue[Any]:
    """The handle as type checkers are to see it: the constructors are called on that class."""
    return handle  # type: ignore[no-any-return] # one class below, which this module can't import
