"""What a failed call on a System V queue means, said so that a user knows what to do."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import ipckit._native as native
from ipckit._core.deadline import checked_timeout
from ipckit._core.handle import closed_handle
from ipckit._core.limits import described, sysctl
from ipckit._msgq.stat import QUEUES
from ipckit.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidArgument,
    IpcError,
    MessageTooLong,
    NotFound,
    from_errno,
)

if TYPE_CHECKING:
    from ipckit._msgq.sysv import SysVMessageQueue
    from ipckit.keys import Key


def get_queue(key: Key, mode: int, flags: int) -> int:
    """The id that msgget gives for a key, or the error that says what to do."""
    try:
        return native.msgget(int(key), flags | mode)
    except OSError as exc:
        error = from_errno(exc.errno or errno.EIO, op="msgget", target=QUEUES.named(None, key))
    if isinstance(error, NotFound):
        error.strerror = "no such queue"
        error.hint = f"make it with SysVMessageQueue.create({key})"
    elif isinstance(error, AlreadyExists):
        error.strerror = "the queue exists already"
        error.hint = f"find it with SysVMessageQueue.open({key}), or use open_or_create"
    elif error.errno == errno.ENOSPC:
        error.strerror = f"the system has all the queues that {described('kernel.msgmni')} allows"
        error.hint = "remove some with ipcrm, or as root raise the sysctl"
    raise error


def permitted(key: Key, right: int) -> bool:
    """Whether the caller has a right (0o400 to receive, 0o200 to send) on a queue."""
    try:
        get_queue(key, right, 0)
    except AccessDenied:
        return False
    return True


def send_error(
    queue: SysVMessageQueue[Any], exc: OSError | ValueError, data: Any, timeout: float | None
) -> IpcError:
    """What a failed msgsnd means."""
    op, target = "msgsnd", queue._target
    if not isinstance(exc, OSError):
        checked_timeout(timeout)
        return InvalidArgument(str(exc), errno=errno.EINVAL, op=op, target=target)
    if queue.closed:
        return closed_handle(op, target)
    message = ""
    if exc.errno == errno.EMSGSIZE:
        return _too_long(queue, memoryview(data).nbytes)
    if exc.errno == errno.EACCES:
        return QUEUES.denied(queue.id, target, op=op)
    if exc.errno == errno.EAGAIN:
        message = "the queue is full"
    elif exc.errno == errno.ETIMEDOUT:
        message = f"the queue was full for {timeout} s"
    elif exc.errno in {errno.EIDRM, errno.EINVAL}:
        message = "the queue was removed"
    return from_errno(exc.errno or errno.EIO, op=op, target=target, message=message)


def _too_long(queue: SysVMessageQueue[Any], size: int) -> MessageTooLong:
    msgmax = sysctl("kernel.msgmax")
    if msgmax is not None and size > msgmax:
        message = f"a message of {size:,} bytes exceeds kernel.msgmax ({msgmax})"
        hint = f"as root: sysctl kernel.msgmax={size}; or send it in parts, or shared memory"
    else:
        found = QUEUES.find(queue.id)
        limit = "" if found is None else f" ({found.qbytes})"
        message = f"a message of {size:,} bytes exceeds the queue's max_bytes{limit}"
        hint = f"set max_bytes to {size} or more"
    return MessageTooLong(
        message, errno=errno.EMSGSIZE, op="msgsnd", target=queue._target, hint=hint
    )


def peek_too_long(queue: SysVMessageQueue[Any]) -> MessageTooLong:
    """The error for a message that MSG_COPY cannot copy."""
    message = f"the message is longer than {described('kernel.msgmax')}, which was lowered since"
    hint = "receive takes it all the same"
    return MessageTooLong(message, errno=errno.EINVAL, op="msgrcv", target=queue._target, hint=hint)


def receive_error(
    queue: SysVMessageQueue[Any],
    exc: OSError | ValueError,
    select: Any,
    timeout: float | None,
    room: int = 0,
) -> IpcError:
    """What a failed msgrcv means; `room` is the buffer's size in bytes."""
    op, target = "msgrcv", queue._target
    if not isinstance(exc, OSError):
        checked_timeout(timeout)
        return InvalidArgument(str(exc), errno=errno.EINVAL, op=op, target=target)
    if queue.closed:
        return closed_handle(op, target)
    if exc.errno == errno.EACCES:
        return QUEUES.denied(queue.id, target, op=op)
    message = hint = ""
    which = f" for select={select}" if select else ""
    if exc.errno == errno.ENOMSG:
        message = f"no message waits{which}"
    elif exc.errno == errno.ETIMEDOUT:
        message = f"no message came{which} within {timeout} s"
    elif exc.errno == errno.E2BIG:
        message = f"the message is longer than max_size ({room} bytes); it is still queued"
        hint = "take it with a larger max_size, or with truncate=True"
    elif exc.errno in {errno.EIDRM, errno.EINVAL}:
        message = "the queue was removed"
    elif exc.errno == errno.ENOSYS:
        hint = "peek needs a kernel with CONFIG_CHECKPOINT_RESTORE"
    return from_errno(exc.errno or errno.EIO, op=op, target=target, message=message, hint=hint)
