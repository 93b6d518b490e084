"""The exceptions for failed calls on System V queues, with the facts that help the user."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import ipckit._native as native
from ipckit._core.deadline import checked_timeout
from ipckit._core.handle import closed_handle
from ipckit._core.limits import described, sysctl
from ipckit._core.taken import UNKNOWN, Use, exists, last_users
from ipckit._msgq.stat import QUEUES
from ipckit.errors import AccessDenied, InvalidArgument, IpcError, MessageTooLong, from_errno

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.keys import Key


def get_queue(key: Key, flags: int) -> int:
    """Return the id that msgget(2) gives for a key.

    Args:
        key: the queue's key.
        flags: IPC_CREAT, IPC_EXCL and permission bits. Without IPC_CREAT, the permission bits are
            the rights that the caller asks for.

    Raises:
        IpcError: the class that fits the errno, with a hint.
    """
    try:
        return native.msgget(key, flags)
    except OSError as exc:
        code = exc.errno or errno.EIO
    message = hint = ""
    if code == errno.ENOENT:
        message = "no such queue"
        hint = f"create it with SysVMessageQueue.create({key})"
    elif code == errno.EEXIST:
        message, hint = exists("queue", "SysVMessageQueue", f"{int(key):#x}", _use(key))
    elif code == errno.ENOSPC:
        message = f"the system has as many queues as {described('kernel.msgmni')} allows"
        hint = "remove some with ipcrm, or as root raise the sysctl"
    target = QUEUES.named(None, key)
    raise from_errno(code, op="msgget", target=target, message=message, hint=hint)


def _use(key: Key) -> Use:
    """Return whether the processes run that used the queue of a key last."""
    try:
        found = QUEUES.find(native.msgget(key, 0))
    except OSError:
        found = None
    if found is None:
        return UNKNOWN
    records = ((found.lspid, found.stime), (found.lrpid, found.rtime))
    return last_users(pid for pid, when in records if pid or when)


def permitted(key: Key, right: int) -> bool:
    """Return whether the caller has a right on a queue: 0o400 to receive, 0o200 to send."""
    try:
        get_queue(key, right)
    except AccessDenied:
        return False
    return True


def send_error(
    queue_id: int,
    target: str,
    exc: OSError | ValueError,
    size: Callable[[], int],
    timeout: float | None,
    *,
    closed: bool,
) -> IpcError:
    """Return the exception for a failed msgsnd.

    Args:
        queue_id: the queue's id.
        target: the queue, for the message.
        exc: the exception of the native call.
        size: returns the number of bytes of the message's text.
        timeout: the caller's timeout.
        closed: whether the handle is closed, which explains any failure.
    """
    op = "msgsnd"
    if not isinstance(exc, OSError):
        checked_timeout(timeout)
        return InvalidArgument(str(exc), errno=errno.EINVAL, op=op, target=target)
    if closed:
        return closed_handle(op, target)
    code = exc.errno or errno.EIO
    if code == errno.EACCES:
        return QUEUES.denied(queue_id, target, op=op)
    message = hint = ""
    if code == errno.EMSGSIZE:
        message, hint = _too_long(queue_id, size())
    elif code == errno.EAGAIN:
        message = "the queue is full"
    elif code == errno.ETIMEDOUT:
        message = f"the queue was full for {timeout} s"
    elif code in {errno.EIDRM, errno.EINVAL}:
        message = "the queue was removed"
    return from_errno(code, op=op, target=target, message=message, hint=hint)


def _too_long(queue_id: int, size: int) -> tuple[str, str]:
    """Return the limit that a message of `size` bytes exceeds, and how to raise it."""
    msgmax = sysctl("kernel.msgmax")
    if msgmax is not None and size > msgmax:
        message = f"a message of {size:,} bytes exceeds kernel.msgmax ({msgmax})"
        hint = f"as root: sysctl kernel.msgmax={size}; or send it in parts, or in shared memory"
        return message, hint
    found = QUEUES.find(queue_id)
    limit = "" if found is None else f" ({found.qbytes})"
    message = f"a message of {size:,} bytes exceeds the queue's max_bytes{limit}"
    return message, f"set max_bytes to {size} or more"


def peek_too_long(target: str) -> MessageTooLong:
    """Return the exception for a message that MSG_COPY cannot copy."""
    message = f"the message is longer than {described('kernel.msgmax')}, which was lowered since"
    hint = "receive can still take it"
    return MessageTooLong(message, errno=errno.EINVAL, op="msgrcv", target=target, hint=hint)


def receive_error(
    queue_id: int,
    target: str,
    exc: OSError | ValueError,
    select: Any,
    timeout: float | None,
    *,
    closed: bool,
    size: int = 0,
) -> IpcError:
    """Return the exception for a failed msgrcv.

    Args:
        queue_id: the queue's id.
        target: the queue, for the message.
        exc: the exception of the native call.
        select: the message type that the caller asked for, or the index for MSG_COPY.
        timeout: the caller's timeout.
        closed: whether the handle is closed, which explains any failure.
        size: the most bytes that the caller asked for.
    """
    op = "msgrcv"
    if not isinstance(exc, OSError):
        checked_timeout(timeout)
        return InvalidArgument(str(exc), errno=errno.EINVAL, op=op, target=target)
    if closed:
        return closed_handle(op, target)
    code = exc.errno or errno.EIO
    if code == errno.EACCES:
        return QUEUES.denied(queue_id, target, op=op)
    message = hint = ""
    which = f" for select={select}" if select else ""
    if code == errno.ENOMSG:
        message = f"no message waits{which}"
    elif code == errno.ETIMEDOUT:
        message = f"no message came{which} within {timeout} s"
    elif code == errno.E2BIG:
        message = f"the message is longer than max_size ({size} bytes); it is still queued"
        hint = "receive it with a larger max_size, or with truncate=True"
    elif code in {errno.EIDRM, errno.EINVAL}:
        message = "the queue was removed"
    elif code == errno.ENOSYS:
        hint = "peek needs a kernel with CONFIG_CHECKPOINT_RESTORE"
    return from_errno(code, op=op, target=target, message=message, hint=hint)
